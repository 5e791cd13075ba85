//! A complete generation becomes visible: staged rows take the target's place in one transaction, with the record of it.
//! Until that moment the old rows stand; a second call finds it done.

use std::time::Duration;

use linkspan_core::{Context, Error, ErrorKind, Publish, Result, Retry, StreamName, Swap, WriteMode};

use super::{
    connect::Client,
    destination_book::{self as book, Book},
    destination_shape::{self as shape, Table},
    errors::PgResult,
    session_table::{Making, Place},
    sql,
};

/// How long one attempt waits for the readers of the old table. While it waits, new readers queue behind it: so it is short.
const LOCK_TIMEOUT: &str = "2s";
/// Pauses between attempts: together about a minute.
const PAUSES: [u64; 8] = [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000];

struct Publishing<'a> {
    client: &'a Client,
    ctx: &'a Context,
    book: Book,
    request: &'a Publish,
    stage: Place,
    target: &'a Place,
}

pub(super) async fn publish(client: &Client, ctx: &Context, request: &Publish, target: &Place) -> Result<()> {
    ctx.failpoints.hit("postgresql.publish.before").await?;
    let name = book::stage_name(request.connection, &request.stream.stream, request.stream.generation);
    let stage = Place { namespace: target.namespace.clone(), name };
    let publishing = Publishing { client, ctx, book: Book::make(client).await?, request, stage, target };
    publishing.build_key().await?;
    publishing.swap_patiently().await?;
    ctx.failpoints.hit("postgresql.publish.after").await
}

impl Publishing<'_> {
    fn stream(&self) -> &StreamName {
        &self.request.stream.stream
    }

    async fn table(&self, place: &Place) -> Result<Option<Table>> {
        shape::table(self.client, &place.namespace, &place.name).await
    }

    async fn run(&self, statement: &str, doing: &'static str) -> Result<()> {
        self.client.batch_execute(statement).await.pg(doing).map_err(|e| e.with("table", self.target.sql()))
    }

    /// Builds the key on the staged rows, before anything of the old table is locked. Kept when a later step fails.
    async fn build_key(&self) -> Result<()> {
        let key = &self.request.stream.key;
        let Some(table) = self.table(&self.stage).await? else { return Ok(()) };
        if key.is_empty() || table.has_key(key) {
            return Ok(());
        }
        let columns = sql::list(key.iter().map(String::as_str));
        let built = self.run(&format!("ALTER TABLE {} ADD PRIMARY KEY ({columns})", self.stage.sql()), "building the key").await;
        built.map_err(|e| match e.kind() {
            ErrorKind::DataInvalid => Error::new(ErrorKind::DataInvalid, "rows of the stream share a key, or a key is null")
                .with("stream", self.stream())
                .with("key", &columns)
                .fix("choose a key that is unique, with --key; the table is as it was before")
                .because(e),
            _ => e,
        })
    }

    /// Tries until the readers of the old table let go, for about a minute.
    async fn swap_patiently(&self) -> Result<()> {
        for pause in PAUSES {
            match self.transaction().await {
                Err(e) if is_lock_timeout(&e) => self.ctx.clock.sleep(Duration::from_millis(pause)).await,
                done => return done,
            }
        }
        self.transaction().await.map_err(|e| {
            if !is_lock_timeout(&e) {
                return e;
            }
            Error::new(ErrorKind::Timeout, "somebody reads the old table without a pause, so the new one cannot take its place")
                .with("table", self.target.sql())
                .retry(Retry::Backoff)
                .fix("end long transactions on the table (see pg_stat_activity) and run the same command again: the new rows are kept")
                .because(e)
        })
    }

    async fn transaction(&self) -> Result<()> {
        self.run(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"), "beginning a transaction").await?;
        let done = self.swap_and_record().await;
        match done {
            Ok(()) => self.run("COMMIT", "publishing").await,
            Err(e) => {
                self.client.batch_execute("ROLLBACK").await.ok();
                Err(e)
            }
        }
    }

    async fn swap_and_record(&self) -> Result<()> {
        let Publish { connection, fence, stream } = self.request;
        self.book.hold_fence(self.client, *connection, *fence).await?;
        let published = self.book.published(self.client, *connection, self.stream()).await?;
        if published.is_some_and(|published| published >= stream.generation) {
            return drop_table(self.client, &self.stage).await;
        }
        match (self.table(&self.stage).await?, self.table(self.target).await?) {
            (None, None) => {}
            // The stream had no rows, and never a schema: the table that stands becomes empty.
            (None, Some(old)) => {
                old.check_kind(&self.target.sql())?;
                self.run(&format!("TRUNCATE {}", self.target.sql()), "emptying the table").await?;
            }
            (Some(new), None) => self.rename(&new).await?,
            (Some(new), Some(old)) => {
                old.check_kind(&self.target.sql())?;
                match stream.swap {
                    Swap::Rename => self.replace(&new, &old).await?,
                    Swap::Rewrite => self.rewrite(&new, &old).await?,
                }
            }
        }
        self.book.set_published(self.client, *connection, self.stream(), stream.generation).await?;
        self.book.drop_older(self.client, *connection, self.stream(), stream.generation).await?;
        self.book.forget_dropped(self.client).await?;
        self.ctx.failpoints.hit("postgresql.publish.mid").await
    }

    /// The staged table takes a name that is free.
    async fn rename(&self, new: &Table) -> Result<()> {
        let rename = format!("ALTER TABLE {} RENAME TO {}", self.stage.sql(), sql::ident(&self.target.name));
        self.run(&rename, "naming the new table").await?;
        let key_name = format!("{}_pkey", self.target.name);
        // The key's index is called after the table where that name fits and is free, as one made by hand would be.
        let rename_key = "SELECT format('ALTER INDEX %I.%I RENAME TO %I', n.nspname, i.relname, $2::text) FROM pg_catalog.pg_index x \
            JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace \
            WHERE x.indrelid = $1 AND x.indisprimary AND octet_length($2) < 64 \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class o WHERE o.relname = $2 AND o.relnamespace = i.relnamespace)";
        if let Some(row) = self.client.query_opt(rename_key, &[&new.oid, &key_name]).await.pg("naming the key")? {
            self.run(row.get(0), "naming the key").await?;
        }
        self.book.own(self.client, new.oid, self.request.connection, self.stream()).await
    }

    /// The staged table takes the old one's name, owner and grants.
    async fn replace(&self, new: &Table, old: &Table) -> Result<()> {
        self.run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.target.sql()), "locking the old table").await?;
        self.check_replaceable(old).await?;
        let rights = self.rights(old, new).await?;
        self.run(&format!("DROP TABLE {}", self.target.sql()), "dropping the old table").await.map_err(has_dependents)?;
        self.rename(new).await?;
        for statement in rights {
            self.run(&statement, "carrying the grants over").await?;
        }
        Ok(())
    }

    /// What would silently stop to work is refused: row security and triggers belong to the old table alone.
    async fn check_replaceable(&self, old: &Table) -> Result<()> {
        let bound = "SELECT CASE WHEN c.relrowsecurity THEN 'row level security' ELSE 'triggers' END FROM pg_catalog.pg_class c \
            WHERE c.oid = $1 AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))";
        match self.client.query_opt(bound, &[&old.oid]).await.pg("looking at the old table")? {
            None => Ok(()),
            Some(row) => Err(Error::new(ErrorKind::Unsupported, "the old table has what a new one would lack")
                .with("table", self.target.sql())
                .with("has", row.get::<_, String>(0))
                .fix("set `swap: rewrite`: the rows are exchanged and the table stays")),
        }
    }

    /// The statements that give the new table the owner and the grants of the old one, and take away what defaults gave it.
    async fn rights(&self, old: &Table, new: &Table) -> Result<Vec<String>> {
        let read = "WITH who AS (SELECT c.oid, a.grantee, a.privilege_type, a.is_grantable, NULL::text AS attname FROM pg_catalog.pg_class c \
              CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a WHERE c.oid IN ($1, $2) AND a.grantee <> c.relowner \
            UNION ALL SELECT t.attrelid, a.grantee, a.privilege_type, a.is_grantable, t.attname::text FROM pg_catalog.pg_attribute t \
              CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a WHERE t.attrelid = $1 AND NOT t.attisdropped), \
            named AS (SELECT who.*, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_catalog.pg_get_userbyid(grantee)) END AS name FROM who) \
            SELECT 1, format('REVOKE ALL ON TABLE %s FROM %s', $3::text, name) FROM named WHERE oid = $2 GROUP BY name \
            UNION ALL SELECT 2, format('GRANT %s %s ON TABLE %s TO %s%s', privilege_type, '(' || quote_ident(attname) || ')', $3::text, name, \
              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM named WHERE oid = $1 AND (attname IS NULL OR attname = ANY ($4)) \
            UNION ALL SELECT 3, format('ALTER TABLE %s OWNER TO %I', $3::text, pg_catalog.pg_get_userbyid(o.relowner)) \
              FROM pg_catalog.pg_class o, pg_catalog.pg_class n WHERE o.oid = $1 AND n.oid = $2 AND o.relowner <> n.relowner ORDER BY 1";
        let columns: Vec<&str> = new.columns.iter().map(|c| c.name.as_str()).collect();
        let rows = self.client.query(read, &[&old.oid, &new.oid, &self.target.sql(), &columns]).await.pg("reading the grants")?;
        Ok(rows.iter().map(|row| row.get(1)).collect())
    }

    /// The old table is emptied and filled: whatever refers to it stays.
    async fn rewrite(&self, new: &Table, old: &Table) -> Result<()> {
        self.run(&format!("TRUNCATE {}", self.target.sql()), "emptying the table").await.map_err(has_dependents)?;
        for statement in self.reshape(new, old) {
            self.run(&statement, "bringing the table to the new shape").await.map_err(has_dependents)?;
        }
        let kept = |name: &str| !old.column(name).is_some_and(|c| c.generated);
        let columns = sql::list(new.columns.iter().map(|c| c.name.as_str()).filter(|name| kept(name)));
        let (target, stage) = (self.target.sql(), self.stage.sql());
        if columns.is_empty() {
            self.run(&format!("INSERT INTO {target} SELECT FROM {stage}"), "filling the table").await?;
        } else {
            let fill = format!("INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {stage}");
            self.run(&fill, "filling the table").await?;
        }
        let key = &self.request.stream.key;
        if !key.is_empty() && !old.has_key(key) {
            let making = Making { client: self.client, place: self.target, mode: WriteMode::Merge, key };
            let table = making.table().await?.ok_or_else(|| making.gone())?;
            making.ensure_key(&table).await?;
        }
        drop_table(self.client, &self.stage).await
    }

    /// The columns of the emptied table become those of the staged one; columns that only the old table has stay and are null.
    fn reshape(&self, new: &Table, old: &Table) -> Vec<String> {
        let table = self.target.sql();
        let mut all = Vec::new();
        for column in &new.columns {
            let name = sql::ident(&column.name);
            match old.column(&column.name) {
                None => all.push(format!("ALTER TABLE {table} ADD COLUMN {name} {}", column.sql_type)),
                Some(there) => {
                    if there.sql_type != column.sql_type && there.sql_type != "text" && !there.generated {
                        let to = &column.sql_type;
                        all.push(format!("ALTER TABLE {table} ALTER COLUMN {name} TYPE {to} USING NULL::{to}"));
                    }
                    if there.not_null && !column.not_null && !there.generated && !old.keys.iter().flatten().any(|k| *k == column.name) {
                        all.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"));
                    }
                }
            }
        }
        let left = old.columns.iter().filter(|c| new.column(&c.name).is_none() && c.not_null && !c.has_default && !c.generated);
        all.extend(left.map(|c| format!("ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL", sql::ident(&c.name))));
        all
    }
}

fn sqlstate(e: &Error) -> Option<&str> {
    e.context().iter().find(|(key, _)| *key == "sqlstate").map(|(_, value)| value.as_str())
}

fn is_lock_timeout(e: &Error) -> bool {
    sqlstate(e) == Some("55P03")
}

fn has_dependents(e: Error) -> Error {
    let fix = match sqlstate(&e) {
        Some("2BP01") => "set `swap: rewrite` for this stream: the rows are exchanged and the table stays; or drop what depends on it",
        Some("0A000" | "23503") => "a view or a foreign key of another table holds on to this one: drop it, or write to another table",
        _ => return e,
    };
    Error::new(ErrorKind::Unsupported, "something depends on the old table (a view, a foreign key)").fix(fix).because(e)
}

pub(super) async fn drop_table(client: &Client, place: &Place) -> Result<()> {
    client.batch_execute(&format!("DROP TABLE IF EXISTS {}", place.sql())).await.pg("dropping a staging table")
}
