//! The destination's own record, beside the rows it speaks of: fences, commits, published generations, and which tables are ours.
//! A commit's record and its rows are one transaction; this is what `recall` answers from.

use std::{collections::BTreeMap, fmt::Write as _};

use linkspan_core::{Commit, ConnectionId, Error, ErrorKind, Recall, Recalled, Result, Retry, State, StreamName};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{connect::Client, errors::PgResult, sql};

/// The schema of the record; where it cannot be made, the tables stand in the login's own schema with this as prefix.
const SCHEMA: &str = "_linkspan";
/// Serialises the first openings of a database: `CREATE ... IF NOT EXISTS` is not safe against itself.
const MAKE_LOCK: i64 = 0x6c69_6e6b_7370_616e;

/// The names of the record's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Book {
    fence: String,
    commits: String,
    generations: String,
    targets: String,
}

impl Book {
    fn at(place: impl Fn(&str) -> String) -> Self {
        Self { fence: place("fence"), commits: place("commits"), generations: place("generations"), targets: place("targets") }
    }
    fn in_schema() -> Self {
        Self::at(|table| sql::qualified(Some(SCHEMA), table))
    }
    fn beside_tables(namespace: &str) -> Self {
        Self::at(|table| sql::qualified(Some(namespace), &format!("{SCHEMA}_{table}")))
    }

    /// The record, if there is one.
    pub(super) async fn find(client: &Client) -> Result<Option<Self>> {
        let find = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE (n.nspname = $1::text AND c.relname = 'commits') OR (n.nspname = current_schema() AND c.relname = $1::text || '_commits') \
            ORDER BY n.nspname <> $1::text";
        let Some(row) = client.query(find, &[&SCHEMA]).await.pg("looking for the record of commits")?.into_iter().next() else {
            return Ok(None);
        };
        let (namespace, table): (String, String) = (row.get(0), row.get(1));
        Ok(Some(if table == "commits" { Self::in_schema() } else { Self::beside_tables(&namespace) }))
    }

    /// The record, made when there is none. Safe against others that do the same at the same time.
    pub(super) async fn make(client: &Client) -> Result<Self> {
        if let Some(book) = Self::find(client).await? {
            return Ok(book);
        }
        let in_schema = Self::in_schema();
        let refused = match in_schema.create(client, Some(SCHEMA)).await {
            Ok(()) => return Ok(in_schema),
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => e,
            Err(e) => return Err(e).pg("making the record of commits"),
        };
        let namespace: Option<String> = client.query_one("SELECT current_schema()::text", &[]).await.pg("asking for the schema")?.get(0);
        let Some(namespace) = namespace else { return Err(no_place(refused)) };
        let beside = Self::beside_tables(&namespace);
        match beside.create(client, None).await {
            Ok(()) => Ok(beside),
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(no_place(e)),
            Err(e) => Err(e).pg("making the record of commits"),
        }
    }

    async fn create(&self, client: &Client, schema: Option<&str>) -> std::result::Result<(), tokio_postgres::Error> {
        let mut text = format!("BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({MAKE_LOCK});");
        if let Some(schema) = schema {
            // `IF NOT EXISTS` asks for the right to create even when nothing is to be made.
            write!(
                text,
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {name}) THEN CREATE SCHEMA {ident}; END IF; END $$;",
                name = sql::literal(schema),
                ident = sql::ident(schema)
            )
            .ok();
        }
        let Self { fence, commits, generations, targets } = self;
        write!(
            text,
            "CREATE TABLE IF NOT EXISTS {fence} (connection uuid PRIMARY KEY, fence bigint NOT NULL);\
             CREATE TABLE IF NOT EXISTS {commits} (connection uuid, scope text, generation bigint NOT NULL, number bigint NOT NULL, \
               fence bigint NOT NULL, state json NOT NULL, committed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (connection, scope));\
             CREATE TABLE IF NOT EXISTS {generations} (connection uuid, stream text, generation bigint NOT NULL, \
               published_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (connection, stream));\
             CREATE TABLE IF NOT EXISTS {targets} (relation oid PRIMARY KEY, connection uuid NOT NULL, stream text NOT NULL); COMMIT"
        )
        .ok();
        let made = client.batch_execute(&text).await;
        if made.is_err() {
            client.batch_execute("ROLLBACK").await.ok();
        }
        made
    }

    /// Everything there for the connection; nothing when it was never heard of.
    pub(super) async fn recall(&self, client: &Client, connection: ConnectionId) -> Result<Option<Recall>> {
        let id = connection.to_string();
        let fence = format!("SELECT fence FROM {} WHERE connection = $1::text::uuid", self.fence);
        let fence: Option<i64> = client.query_opt(&fence, &[&id]).await.pg("reading the fence")?.map(|row| row.get(0));
        let Some(fence) = fence else { return Ok(None) };
        let commits = format!("SELECT scope, generation, number, state::text FROM {} WHERE connection = $1::text::uuid", self.commits);
        let mut scopes = BTreeMap::new();
        for row in client.query(&commits, &[&id]).await.pg("reading the positions")? {
            let (scope, generation, number, state): (String, i64, i64, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
            let state: State = serde_json::from_str(&state).map_err(|e| unreadable().because(e))?;
            scopes.insert(scope.parse()?, Recalled { generation: unsigned(generation), number: unsigned(number), state });
        }
        let generations = format!("SELECT stream, generation FROM {} WHERE connection = $1::text::uuid", self.generations);
        let mut published = BTreeMap::new();
        for row in client.query(&generations, &[&id]).await.pg("reading the published generations")? {
            let (stream, generation): (String, i64) = (row.get(0), row.get(1));
            published.insert(stream_of(&stream)?, unsigned(generation));
        }
        Ok(Some(Recall { fence: unsigned(fence), scopes, published }))
    }

    /// Installs the fence. A larger one there means that a newer run has taken over.
    pub(super) async fn install_fence(&self, client: &Client, connection: ConnectionId, fence: u64) -> Result<()> {
        let ours = signed(fence)?;
        let id = connection.to_string();
        let read = format!("SELECT fence FROM {} WHERE connection = $1::text::uuid", self.fence);
        let install = format!(
            "INSERT INTO {0} AS f (connection, fence) VALUES ($1::text::uuid, $2) ON CONFLICT (connection) DO UPDATE SET fence = excluded.fence \
             WHERE f.fence < excluded.fence",
            self.fence
        );
        // Read first: another lane of this run has usually installed the same fence, and an upsert would wait for its commits.
        let there = client.query_opt(&read, &[&id]).await.pg("reading the fence")?.map(|row| row.get::<_, i64>(0));
        if there == Some(ours) {
            return Ok(());
        }
        client.execute(&install, &[&id, &ours]).await.pg("installing the fence")?;
        let there: i64 = client.query_one(&read, &[&id]).await.pg("reading the fence")?.get(0);
        if there > ours { Err(overtaken(fence).with("newer", there)) } else { Ok(()) }
    }

    /// In the transaction of the rows: nobody newer took over, and the record stands at `previous`. Then it is moved.
    pub(super) async fn commit(&self, client: &Client, commit: &Commit) -> Result<()> {
        self.hold_fence(client, commit.connection, commit.fence).await?;
        let (id, scope) = (commit.connection.to_string(), commit.scope.to_string());
        let (generation, number) = (signed(commit.generation)?, signed(commit.number)?);
        let (previous, fence) = (signed(commit.previous)?, signed(commit.fence)?);
        let state = serde_json::to_string(&commit.state).map_err(|e| unreadable().because(e))?;
        // An older generation's record gives way to the first commit of a newer one.
        let moved = format!(
            "UPDATE {} SET generation = $3, number = $4, fence = $5, state = $6::text::json, committed_at = now() \
             WHERE connection = $1::text::uuid AND scope = $2 AND ((generation = $3 AND number = $7) OR (generation < $3 AND $7 = 0))",
            self.commits
        );
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [&id, &scope, &generation, &number, &fence, &state, &previous];
        if client.execute(&moved, &params).await.pg("moving the position")? == 1 {
            return Ok(());
        }
        let first = format!(
            "INSERT INTO {} (connection, scope, generation, number, fence, state) SELECT $1::text::uuid, $2::text, $3::bigint, $4::bigint, $5::bigint, $6::text::json WHERE $7::bigint = 0 \
             ON CONFLICT DO NOTHING",
            self.commits
        );
        if client.execute(&first, &params).await.pg("recording the first position")? == 1 {
            return Ok(());
        }
        Err(self.stands_elsewhere(client, commit).await)
    }

    async fn stands_elsewhere(&self, client: &Client, commit: &Commit) -> Error {
        let read = format!("SELECT generation, number FROM {} WHERE connection = $1::text::uuid AND scope = $2", self.commits);
        let there = client.query_opt(&read, &[&commit.connection.to_string(), &commit.scope.to_string()]).await.ok().flatten();
        let there = there
            .map_or_else(|| "nothing".to_owned(), |row| format!("generation {} number {}", row.get::<_, i64>(0), row.get::<_, i64>(1)));
        Error::new(ErrorKind::Conflict, "the destination stands at another commit than this run knows")
            .with("scope", &commit.scope)
            .with("there", there)
            .with("expected", format!("generation {} number {}", commit.generation, commit.previous))
            .fix("run the same command again: it goes on from the destination's own record")
    }

    /// Reads the fence `FOR SHARE`, so that no newer run can install its own until this transaction ends.
    pub(super) async fn hold_fence(&self, client: &Client, connection: ConnectionId, fence: u64) -> Result<()> {
        let read = format!("SELECT fence FROM {} WHERE connection = $1::text::uuid FOR SHARE", self.fence);
        let there: Option<i64> = client.query_opt(&read, &[&connection.to_string()]).await.pg("reading the fence")?.map(|row| row.get(0));
        match there {
            Some(there) if there > signed(fence)? => Err(overtaken(fence).with("newer", there)),
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::Conflict, "the destination forgot this connection while the run was under way")
                .with("connection", connection)
                .fix("run the same command again; it was reset meanwhile")),
        }
    }

    pub(super) async fn published(&self, client: &Client, connection: ConnectionId, stream: &StreamName) -> Result<Option<u64>> {
        let read = format!("SELECT generation FROM {} WHERE connection = $1::text::uuid AND stream = $2 FOR UPDATE", self.generations);
        let row = client.query_opt(&read, &[&connection.to_string(), &stream_text(stream)]).await.pg("reading the published generation")?;
        Ok(row.map(|row| unsigned(row.get(0))))
    }

    pub(super) async fn set_published(
        &self,
        client: &Client,
        connection: ConnectionId,
        stream: &StreamName,
        generation: u64,
    ) -> Result<()> {
        let record = format!(
            "INSERT INTO {} (connection, stream, generation) VALUES ($1::text::uuid, $2, $3) \
             ON CONFLICT (connection, stream) DO UPDATE SET generation = excluded.generation, published_at = now()",
            self.generations
        );
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&connection.to_string(), &stream_text(stream), &signed(generation)?];
        client.execute(&record, &params).await.pg("recording the published generation")?;
        Ok(())
    }

    /// Whether a table was made by us. The record is by object id: a table that somebody dropped and made again is not ours.
    pub(super) async fn owns(&self, client: &Client, relation: u32) -> Result<bool> {
        let read = format!("SELECT FROM {} WHERE relation = $1", self.targets);
        Ok(client.query_opt(&read, &[&relation]).await.pg("reading the record of tables")?.is_some())
    }

    pub(super) async fn own(&self, client: &Client, relation: u32, connection: ConnectionId, stream: &StreamName) -> Result<()> {
        let record = format!(
            "INSERT INTO {} (relation, connection, stream) VALUES ($1, $2::text::uuid, $3) \
             ON CONFLICT (relation) DO UPDATE SET connection = excluded.connection, stream = excluded.stream",
            self.targets
        );
        client.execute(&record, &[&relation, &connection.to_string(), &stream_text(stream)]).await.pg("recording the table")?;
        Ok(())
    }

    /// Forgets the positions of a stream's older generations: nobody will go on from them.
    pub(super) async fn drop_older(&self, client: &Client, connection: ConnectionId, stream: &StreamName, generation: u64) -> Result<()> {
        let forget = format!(
            "DELETE FROM {} WHERE connection = $1::text::uuid AND generation < $2 AND scope::json ->> 1 = $3 \
             AND scope::json ->> 0 IS NOT DISTINCT FROM $4",
            self.commits
        );
        let (name, namespace) = (&*stream.name, stream.namespace.as_deref());
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&connection.to_string(), &signed(generation)?, &name, &namespace];
        client.execute(&forget, &params).await.pg("forgetting older generations")?;
        Ok(())
    }

    /// Forgets tables that are gone.
    pub(super) async fn forget_dropped(&self, client: &Client) -> Result<()> {
        let forget =
            format!("DELETE FROM {} t WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.relation)", self.targets);
        client.execute(&forget, &[]).await.pg("cleaning the record of tables")?;
        Ok(())
    }

    /// Forgets a connection: positions, fence and published generations. What it made stays known as ours.
    pub(super) async fn forget(&self, client: &Client, connection: ConnectionId) -> Result<()> {
        for table in [&self.commits, &self.generations, &self.fence] {
            let forget = format!("DELETE FROM {table} WHERE connection = $1::text::uuid");
            client.execute(&forget, &[&connection.to_string()]).await.pg("forgetting the connection")?;
        }
        Ok(())
    }
}

/// The staging table of one generation of a stream: within 63 bytes whatever the names are.
pub(super) fn stage_name(connection: ConnectionId, stream: &StreamName, generation: u64) -> String {
    let (head, tail) = stage_ends(connection, stream);
    format!("{head}{generation}{tail}")
}

fn stage_ends(connection: ConnectionId, stream: &StreamName) -> (String, String) {
    let of_stream = Uuid::new_v5(&connection.0, stream_text(stream).as_bytes()).simple().to_string();
    (stage_head(connection), format!("_{}", &of_stream[..16]))
}

/// How every staging table of a connection begins.
pub(super) fn stage_head(connection: ConnectionId) -> String {
    format!("_ls_{}_", &connection.0.simple().to_string()[..8])
}

/// The generation of a staging table's name, if it is one of this stream.
pub(super) fn staged_generation(name: &str, connection: ConnectionId, stream: &StreamName) -> Option<u64> {
    let (head, tail) = stage_ends(connection, stream);
    name.strip_prefix(&head)?.strip_suffix(&tail)?.parse().ok()
}

/// A stream's name as a JSON array, so that any name survives.
fn stream_text(stream: &StreamName) -> String {
    serde_json::json!([stream.namespace.as_deref(), &*stream.name]).to_string()
}

fn stream_of(text: &str) -> Result<StreamName> {
    let (namespace, name): (Option<String>, String) = serde_json::from_str(text).map_err(|e| unreadable().because(e))?;
    Ok(StreamName::new(namespace.as_deref(), &name))
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::new(ErrorKind::Internal, "a number of a commit is too large to record"))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn unreadable() -> Error {
    Error::new(ErrorKind::DataInvalid, "the record of commits holds what this version cannot read")
        .fix("upgrade Linkspan, or reset the connection to start over")
}

pub(super) fn overtaken(ours: u64) -> Error {
    Error::new(ErrorKind::Conflict, "a newer run took over")
        .with("fence", ours)
        .retry(Retry::Never)
        .fix("let the newer run finish; nothing of this one was committed after it took over")
}

fn no_place(e: tokio_postgres::Error) -> Error {
    let error = super::errors::of_driver(e, "making the record of commits");
    Error::new(ErrorKind::PermissionDenied, "the login may not make the tables that positions are kept in")
        .fix("GRANT CREATE ON DATABASE ... TO the login, or: CREATE SCHEMA _linkspan AUTHORIZATION the login")
        .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_table_names_its_connection_stream_and_generation() {
        let connection = ConnectionId(Uuid::from_u128(0xfeed_0000_1111_2222_3333_4444_5555_6666));
        let stream = StreamName::new(Some("a \"schema\""), &"long".repeat(40));
        let name = stage_name(connection, &stream, u64::MAX);
        assert!(name.len() <= 63, "{name}");
        assert_eq!(staged_generation(&name, connection, &stream), Some(u64::MAX));
        assert_eq!(staged_generation(&name, connection, &StreamName::new(None, "other")), None);
        assert_eq!(staged_generation("_ls_x", connection, &stream), None);
    }

    #[test]
    fn stream_names_survive_the_record() {
        for stream in [StreamName::new(None, "a.b"), StreamName::new(Some(""), "[\"x\"]"), StreamName::new(Some("s"), "t")] {
            assert_eq!(stream_of(&stream_text(&stream)).unwrap(), stream);
        }
    }
}
