//! What a database remembers of the connections that write to it: fences, commits, published generations.

use std::collections::BTreeMap;

use linkspan_core::{Commit, ConnectionId, Error, ErrorKind, Recall, Recalled, Result, Scope, State, StreamName};
use rusqlite::{Connection, OptionalExtension, params};

use super::file::sql_error;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _linkspan_fence (connection TEXT PRIMARY KEY, fence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _linkspan_commits (
  connection TEXT NOT NULL, scope TEXT NOT NULL, generation INTEGER NOT NULL, number INTEGER NOT NULL, fence INTEGER NOT NULL,
  version INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (connection, scope)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _linkspan_generations (
  connection TEXT NOT NULL, stream TEXT NOT NULL, published INTEGER NOT NULL, PRIMARY KEY (connection, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _linkspan_tables (
  target TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, key TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _linkspan_columns (
  target TEXT NOT NULL, ordinal INTEGER NOT NULL, name TEXT NOT NULL, stored TEXT NOT NULL, declared TEXT NOT NULL, type TEXT NOT NULL,
  nullable INTEGER NOT NULL, metadata TEXT NOT NULL, PRIMARY KEY (target, ordinal)) WITHOUT ROWID;
";

/// Makes the tables that are missing.
pub(super) fn prepare(db: &Connection) -> Result<()> {
    db.execute_batch(TABLES).map_err(sql_error)
}

/// Whether any connection ever wrote here.
pub(super) fn present(db: &Connection) -> Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_linkspan_columns'";
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|n| n > 0).map_err(sql_error)
}

pub(super) fn install_fence(db: &Connection, connection: ConnectionId, fence: u64) -> Result<()> {
    let stands = fence_of(db, connection)?.unwrap_or(0);
    if stands > fence {
        return Err(stale(stands, fence));
    }
    let sql = "INSERT INTO _linkspan_fence VALUES (?1, ?2) ON CONFLICT DO UPDATE SET fence = excluded.fence";
    db.execute(sql, params![connection.to_string(), signed(fence)?]).map(drop).map_err(sql_error)
}

/// The fence must be the one this session installed: a larger one is a newer run, none is a reset.
pub(super) fn check_fence(db: &Connection, connection: ConnectionId, fence: u64) -> Result<()> {
    match fence_of(db, connection)? {
        Some(stands) if stands == fence => Ok(()),
        stands => Err(stale(stands.unwrap_or(0), fence)),
    }
}

fn fence_of(db: &Connection, connection: ConnectionId) -> Result<Option<u64>> {
    let sql = "SELECT fence FROM _linkspan_fence WHERE connection = ?1";
    let fence = db.query_row(sql, [connection.to_string()], |row| row.get::<_, i64>(0)).optional().map_err(sql_error)?;
    Ok(fence.map(i64::cast_unsigned))
}

fn stale(stands: u64, ours: u64) -> Error {
    Error::new(ErrorKind::Conflict, "another run of this connection has taken over the destination")
        .with("fence", ours)
        .with("stands", stands)
        .fix("let the newer run finish; start this one again only if it is gone")
}

/// Forgets the positions of a stream's older generations, whose staged rows are dropped with them.
pub(super) fn drop_older(db: &Connection, connection: ConnectionId, stream: &StreamName, generation: u64) -> Result<()> {
    let connection = connection.to_string();
    let sql = "SELECT scope FROM _linkspan_commits WHERE connection = ?1 AND generation < ?2";
    let mut older = db.prepare_cached(sql).map_err(sql_error)?;
    let scopes = older
        .query_map(params![connection, signed(generation)?], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(sql_error)?;
    for scope in scopes {
        if scope.parse::<Scope>()?.stream() == Some(stream) {
            db.execute("DELETE FROM _linkspan_commits WHERE connection = ?1 AND scope = ?2", [&connection, &scope]).map_err(sql_error)?;
        }
    }
    Ok(())
}

/// Compare-and-set: the scope must stand where the commit says it stood.
pub(super) fn advance(db: &Connection, commit: &Commit) -> Result<()> {
    let (connection, scope) = (commit.connection.to_string(), commit.scope.to_string());
    let sql = "SELECT generation, number FROM _linkspan_commits WHERE connection = ?1 AND scope = ?2";
    let stands = db
        .query_row(sql, [&connection, &scope], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned())))
        .optional()
        .map_err(sql_error)?;
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
    let state = serde_json::to_string(&commit.state.value)
        .map_err(|e| Error::new(ErrorKind::Internal, "the state cannot be written").because(e))?;
    let sql = "INSERT OR REPLACE INTO _linkspan_commits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row =
        params![connection, scope, signed(commit.generation)?, signed(commit.number)?, signed(commit.fence)?, commit.state.version, state];
    db.execute(sql, row).map(drop).map_err(sql_error)
}

pub(super) fn published(db: &Connection, connection: ConnectionId, stream: &StreamName) -> Result<u64> {
    let sql = "SELECT published FROM _linkspan_generations WHERE connection = ?1 AND stream = ?2";
    let key = [connection.to_string(), Scope::Stream(stream.clone()).to_string()];
    let found = db.query_row(sql, key, |row| row.get::<_, i64>(0)).optional().map_err(sql_error)?;
    Ok(found.map_or(0, i64::cast_unsigned))
}

pub(super) fn set_published(db: &Connection, connection: ConnectionId, stream: &StreamName, generation: u64) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO _linkspan_generations VALUES (?1, ?2, ?3)";
    let row = params![connection.to_string(), Scope::Stream(stream.clone()).to_string(), signed(generation)?];
    db.execute(sql, row).map(drop).map_err(sql_error)
}

/// All that is known of the connection; `None` when it never opened here.
pub(super) fn recall(db: &Connection, connection: ConnectionId) -> Result<Option<Recall>> {
    if !present(db)? {
        return Ok(None);
    }
    let Some(fence) = fence_of(db, connection)? else { return Ok(None) };
    let mut scopes = BTreeMap::new();
    let sql = "SELECT scope, generation, number, version, state FROM _linkspan_commits WHERE connection = ?1";
    let mut statement = db.prepare(sql).map_err(sql_error)?;
    let mut rows = statement.query([connection.to_string()]).map_err(sql_error)?;
    while let Some(row) = rows.next().map_err(sql_error)? {
        let (scope, recalled) = recalled(row)?;
        scopes.insert(scope, recalled);
    }
    let mut published = BTreeMap::new();
    let mut statement = db.prepare("SELECT stream, published FROM _linkspan_generations WHERE connection = ?1").map_err(sql_error)?;
    let mut rows = statement.query([connection.to_string()]).map_err(sql_error)?;
    while let Some(row) = rows.next().map_err(sql_error)? {
        if let Scope::Stream(stream) = row.get::<_, String>(0).map_err(sql_error)?.parse()? {
            published.insert(stream, row.get::<_, i64>(1).map_err(sql_error)?.cast_unsigned());
        }
    }
    Ok(Some(Recall { fence, scopes, published }))
}

fn recalled(row: &rusqlite::Row<'_>) -> Result<(Scope, Recalled)> {
    let scope: Scope = row.get::<_, String>(0).map_err(sql_error)?.parse()?;
    let state: String = row.get(4).map_err(sql_error)?;
    let value = serde_json::from_str(&state).map_err(|e| {
        Error::new(ErrorKind::DataInvalid, "the destination's record of the position is damaged")
            .with("scope", &scope)
            .fix("reset the connection")
            .because(e)
    })?;
    let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned).map_err(sql_error);
    let state = State::new(row.get(3).map_err(sql_error)?, value);
    Ok((scope, Recalled { generation: number(1)?, number: number(2)?, state }))
}

/// Forgets positions. The fence stays, so that a run from before cannot commit afterwards.
pub(super) fn forget(db: &Connection, connection: ConnectionId) -> Result<()> {
    for table in ["_linkspan_commits", "_linkspan_generations"] {
        db.execute(&format!("DELETE FROM {table} WHERE connection = ?1"), [connection.to_string()]).map_err(sql_error)?;
    }
    Ok(())
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|e| Error::new(ErrorKind::Internal, "a counter is beyond SQLite's integers").because(e))
}
