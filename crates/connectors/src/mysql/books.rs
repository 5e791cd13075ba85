//! What the server remembers of the connections that write to it: fences, commits, published generations, and the tables that are ours.
//! A commit's record and its rows are one transaction; this is what `recall` answers from.

use std::collections::BTreeMap;

use linkspan_core::{Commit, ConnectionId, Error, ErrorKind, Recall, Recalled, Result, Retry, Scope, State, StreamName};

use super::{
    sql::{literal, qualified},
    wire::{TextRow, Wire},
};

/// What names of tables that hold the record start with.
pub(super) const RESERVED: &str = "_linkspan_";

/// The record, in one database.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub database: String,
}

impl Books {
    pub fn table(&self, name: &str) -> String {
        qualified(Some(&self.database), &format!("{RESERVED}{name}"))
    }

    /// Makes the tables that are missing. Names of connections, scopes and targets are of any length: their key is a hash.
    pub async fn make(&self, wire: &mut Wire) -> Result<()> {
        if self.present(wire).await? {
            return Ok(());
        }
        let tables = [
            ("fence", "connection char(36) PRIMARY KEY, fence bigint unsigned NOT NULL"),
            (
                "commits",
                "connection char(36), scope_id char(36), scope longtext NOT NULL, generation bigint unsigned NOT NULL, \
                 number bigint unsigned NOT NULL, fence bigint unsigned NOT NULL, state longtext NOT NULL, \
                 committed_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, PRIMARY KEY (connection, scope_id)",
            ),
            (
                "generations",
                "connection char(36), stream_id char(36), stream longtext NOT NULL, published bigint unsigned NOT NULL, \
                 PRIMARY KEY (connection, stream_id)",
            ),
            ("tables", "id char(36) PRIMARY KEY, record longtext NOT NULL"),
        ];
        for (name, columns) in tables {
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {} ({columns}) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
                self.table(name)
            );
            wire.query(&sql, "making the record of commits").await.map_err(|e| match e.kind() {
                ErrorKind::PermissionDenied => {
                    Error::new(ErrorKind::PermissionDenied, "the login may not make the tables that positions are kept in")
                        .with("database", &self.database)
                        .fix("GRANT CREATE, ALTER, DROP, INDEX, SELECT, INSERT, UPDATE, DELETE ON the database to the login")
                        .because(e)
                }
                _ => e,
            })?;
        }
        Ok(())
    }

    /// Whether any connection ever wrote here.
    pub async fn present(&self, wire: &mut Wire) -> Result<bool> {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = '{RESERVED}tables'",
            literal(&self.database)
        );
        Ok(number(wire.query(&sql, "looking for the record of commits").await?.first(), 0) > 0)
    }

    /// Installs the fence. A larger one there means that a newer run has taken over.
    pub async fn install_fence(&self, wire: &mut Wire, connection: ConnectionId, fence: u64) -> Result<()> {
        // Read first: another lane of this run has usually installed the same fence, and an insert would wait for its commits.
        if self.fence(wire, connection, "").await? == Some(fence) {
            return Ok(());
        }
        let install = format!(
            "INSERT INTO {} (connection, fence) VALUES ('{connection}', {fence}) ON DUPLICATE KEY UPDATE fence = GREATEST(fence, {fence})",
            self.table("fence")
        );
        wire.query(&install, "installing the fence").await?;
        match self.fence(wire, connection, "").await? {
            Some(there) if there > fence => Err(overtaken(there, fence)),
            _ => Ok(()),
        }
    }

    /// In a transaction: reads the fence so that no newer run can install its own until the transaction ends.
    pub async fn hold_fence(&self, wire: &mut Wire, connection: ConnectionId, fence: u64) -> Result<()> {
        match self.fence(wire, connection, " LOCK IN SHARE MODE").await? {
            Some(there) if there == fence => Ok(()),
            Some(there) => Err(overtaken(there, fence)),
            None => Err(Error::new(ErrorKind::Conflict, "the destination forgot this connection while the run was under way")
                .with("connection", connection)
                .fix("run the same command again; it was reset meanwhile")),
        }
    }

    async fn fence(&self, wire: &mut Wire, connection: ConnectionId, lock: &str) -> Result<Option<u64>> {
        let sql = format!("SELECT fence FROM {} WHERE connection = '{connection}'{lock}", self.table("fence"));
        let rows = wire.query(&sql, "reading the fence").await?;
        Ok(rows.first().map(|row| number(Some(row), 0)))
    }

    /// In the transaction of the rows. Compare-and-set: the scope must stand where the commit says it stood.
    pub async fn advance(&self, wire: &mut Wire, commit: &Commit) -> Result<()> {
        self.hold_fence(wire, commit.connection, commit.fence).await?;
        let (commits, id) = (self.table("commits"), id(commit.connection, &commit.scope.to_string()));
        let place = format!("connection = '{}' AND scope_id = '{id}'", commit.connection);
        let sql = format!("SELECT generation, number FROM {commits} WHERE {place} FOR UPDATE");
        let rows = wire.query(&sql, "reading the position").await?;
        let stands = rows.first().map(|row| (number(Some(row), 0), number(Some(row), 1)));
        let fits = match stands {
            Some((generation, number)) if generation == commit.generation => number == commit.previous,
            Some((generation, _)) if generation > commit.generation => false,
            _ => commit.previous == 0,
        };
        if !fits {
            let (generation, number) = stands.unwrap_or_default();
            return Err(Error::new(ErrorKind::Conflict, "the destination stands at another commit than this run expects")
                .with("scope", &commit.scope)
                .with("stands", format!("generation {generation}, commit {number}"))
                .with("expected", format!("generation {}, commit {}", commit.generation, commit.previous))
                .fix("run it again: it goes on from the destination's own record"));
        }
        let state =
            serde_json::to_string(&commit.state).map_err(|e| Error::new(ErrorKind::Internal, "the state cannot be written").because(e))?;
        let Commit { connection, scope, generation, number, fence, .. } = commit;
        let sql = format!(
            "REPLACE INTO {commits} (connection, scope_id, scope, generation, number, fence, state) \
             VALUES ('{connection}', '{id}', {}, {generation}, {number}, {fence}, {})",
            literal(&scope.to_string()),
            literal(&state)
        );
        wire.query(&sql, "moving the position").await.map(drop)
    }

    /// All that is known of the connection; `None` when it never opened here.
    pub async fn recall(&self, wire: &mut Wire, connection: ConnectionId) -> Result<Option<Recall>> {
        const DOING: &str = "reading the positions";
        let Some(fence) = self.fence(wire, connection, "").await? else { return Ok(None) };
        let sql = format!("SELECT generation, number, scope, state FROM {} WHERE connection = '{connection}'", self.table("commits"));
        let mut scopes = BTreeMap::new();
        for row in wire.query(&sql, DOING).await? {
            let scope: Scope = text(&row, 2).parse()?;
            let state: State = serde_json::from_str(text(&row, 3)).map_err(|e| damaged().because(e))?;
            scopes.insert(scope, Recalled { generation: number(Some(&row), 0), number: number(Some(&row), 1), state });
        }
        let sql = format!("SELECT published, stream FROM {} WHERE connection = '{connection}'", self.table("generations"));
        let mut published = BTreeMap::new();
        for row in wire.query(&sql, DOING).await? {
            if let Scope::Stream(stream) = text(&row, 1).parse()? {
                published.insert(stream, number(Some(&row), 0));
            }
        }
        Ok(Some(Recall { fence, scopes, published }))
    }

    /// Forgets the positions of a stream's older generations, whose staged rows are dropped with them.
    pub async fn drop_older(&self, wire: &mut Wire, connection: ConnectionId, stream: &StreamName, generation: u64) -> Result<()> {
        const DOING: &str = "forgetting older generations";
        let commits = self.table("commits");
        let sql = format!("SELECT scope_id, scope FROM {commits} WHERE connection = '{connection}' AND generation < {generation}");
        for row in wire.query(&sql, DOING).await? {
            if text(&row, 1).parse::<Scope>()?.stream() == Some(stream) {
                let sql = format!("DELETE FROM {commits} WHERE connection = '{connection}' AND scope_id = {}", literal(text(&row, 0)));
                wire.query(&sql, DOING).await?;
            }
        }
        Ok(())
    }

    pub async fn published(&self, wire: &mut Wire, connection: ConnectionId, stream: &StreamName) -> Result<u64> {
        let id = id(connection, &Scope::Stream(stream.clone()).to_string());
        let sql = format!("SELECT published FROM {} WHERE connection = '{connection}' AND stream_id = '{id}'", self.table("generations"));
        Ok(number(wire.query(&sql, "reading the published generation").await?.first(), 0))
    }

    pub async fn set_published(&self, wire: &mut Wire, connection: ConnectionId, stream: &StreamName, generation: u64) -> Result<()> {
        let scope = Scope::Stream(stream.clone()).to_string();
        let sql = format!(
            "REPLACE INTO {} (connection, stream_id, stream, published) VALUES ('{connection}', '{}', {}, {generation})",
            self.table("generations"),
            id(connection, &scope),
            literal(&scope)
        );
        wire.query(&sql, "recording the published generation").await.map(drop)
    }

    /// Forgets positions. The fence stays, so that a run from before cannot commit afterwards.
    pub async fn forget(&self, wire: &mut Wire, connection: ConnectionId) -> Result<()> {
        for table in ["commits", "generations"] {
            let sql = format!("DELETE FROM {} WHERE connection = '{connection}'", self.table(table));
            wire.query(&sql, "forgetting the connection").await?;
        }
        Ok(())
    }
}

/// A name of any length as a key.
fn id(connection: ConnectionId, name: &str) -> uuid::Uuid {
    uuid::Uuid::new_v5(&connection.0, name.as_bytes())
}

pub(super) fn text(row: &TextRow, at: usize) -> &str {
    row.get(at).and_then(|v| v.as_deref()).unwrap_or_default()
}

fn number(row: Option<&TextRow>, at: usize) -> u64 {
    row.map_or(0, |row| text(row, at).parse().unwrap_or(0))
}

fn damaged() -> Error {
    Error::new(ErrorKind::DataInvalid, "the destination's record of the position is damaged").fix("reset the connection")
}

fn overtaken(there: u64, ours: u64) -> Error {
    Error::new(ErrorKind::Conflict, "another run of this connection has taken over the destination")
        .with("fence", ours)
        .with("stands", there)
        .retry(Retry::Never)
        .fix("let the newer run finish; start this one again only if it is gone")
}
