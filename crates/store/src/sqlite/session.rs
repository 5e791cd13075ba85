//! SQL on one connection, and SQLite's errors by remedy.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use linkspan_core::{Clock, Error, ErrorKind, Result};
use rusqlite::{Connection, types::ValueRef};

use crate::{
    apply::apply,
    driver::{Dialect, Param, Row, Sql},
    request::{Reply, Request},
};

static DIALECT: Dialect = Dialect {
    put_scopes: "insert into scopes (connection, scope, stream, generation, number, state, saved_at) \
        select $1, value ->> 'scope', value ->> 'stream', value ->> 'generation', value ->> 'number', value ->> 'state', $2 \
        from json_each($3) where true \
        on conflict (connection, scope) do update set stream = excluded.stream, generation = excluded.generation, \
        number = excluded.number, state = excluded.state, saved_at = excluded.saved_at",
    renew: "update leases set expires_at = $1 where run in (select value from json_each($2)) returning run",
};

/// A connection with the shared SQL on it. SQLite answers at once, so no future here ever waits.
pub(super) struct Session {
    pub db: Connection,
    pub clock: Arc<dyn Clock>,
}

impl Session {
    /// Runs a request to its end, in whatever transaction is open.
    pub(super) fn answer(&mut self, request: Request) -> Result<Reply> {
        if !self.db.is_autocommit() {
            return self.apply(request);
        }
        // Several selects of one answer must see one state.
        self.db.execute_batch("begin").map_err(failed)?;
        let reply = self.apply(request);
        self.db.execute_batch("rollback").map_err(failed)?;
        reply
    }
    fn apply(&mut self, request: Request) -> Result<Reply> {
        apply(self, request).now_or_never().ok_or_else(|| Error::new(ErrorKind::Internal, "a request waited inside of SQLite"))?
    }
}

#[async_trait]
impl Sql for Session {
    async fn query(&mut self, sql: &'static str, params: &[Param]) -> Result<Vec<Row>> {
        rows(&self.db, sql, params).map_err(failed)
    }
    async fn execute(&mut self, sql: &'static str, params: &[Param]) -> Result<u64> {
        execute(&self.db, sql, params).map_err(failed)
    }
    /// One process owns the file, so its clock is the database's.
    async fn now_ms(&mut self) -> Result<i64> {
        Ok(self.clock.now().as_millisecond())
    }
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, sql: &str, params: &[Param]) -> rusqlite::Result<()> {
    debug_assert_eq!(statement.parameter_count(), params.len(), "{sql}");
    debug_assert!(
        (1..=params.len()).all(|i| statement.parameter_name(i) == Some(format!("${i}").as_str())),
        "placeholders ascend by first use: {sql}"
    );
    for (i, param) in params.iter().enumerate() {
        match param {
            Param::Null => statement.raw_bind_parameter(i + 1, rusqlite::types::Null)?,
            Param::Int(n) => statement.raw_bind_parameter(i + 1, n)?,
            Param::Text(t) => statement.raw_bind_parameter(i + 1, t)?,
        }
    }
    Ok(())
}

fn rows(db: &Connection, sql: &'static str, params: &[Param]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = db.prepare_cached(sql)?;
    bind(&mut statement, sql, params)?;
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|i| {
            Ok(match row.get_ref(i)? {
                ValueRef::Integer(n) => Param::Int(n),
                ValueRef::Text(t) => Param::Text(String::from_utf8_lossy(t).into_owned()),
                _ => Param::Null,
            })
        });
        out.push(Row(values.collect::<rusqlite::Result<_>>()?));
    }
    Ok(out)
}

fn execute(db: &Connection, sql: &'static str, params: &[Param]) -> rusqlite::Result<u64> {
    let mut statement = db.prepare_cached(sql)?;
    bind(&mut statement, sql, params)?;
    statement.raw_execute().map(|n| n as u64)
}

/// SQLite's errors by remedy.
pub(super) fn failed(e: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::*;
    let (code, extended) = match &e {
        rusqlite::Error::SqliteFailure(f, _) => (Some(f.code), f.extended_code),
        _ => (None, 0),
    };
    const REFUSED_WRITE: i32 = 10 | (3 << 8);
    let error = match code {
        Some(DiskFull) => Error::new(ErrorKind::StorageFull, "the disk of the data dir is full")
            .fix("free space and run the same command again: it goes on from what is committed"),
        Some(SystemIoFailure) if extended == REFUSED_WRITE => {
            Error::new(ErrorKind::StorageFull, "the disk of the data dir took no more bytes: full, over its quota or failing")
                .fix("free space or raise the limit, and run the same command again: it goes on from what is committed")
        }
        Some(DatabaseCorrupt | NotADatabase) => Error::new(ErrorKind::DataInvalid, "the store's database is damaged").fix(
            "put back a copy of the data dir, or move linkspan.db and its -wal and -shm files away and run with --adopt: \
             positions are then taken from the destinations",
        ),
        Some(DatabaseBusy | DatabaseLocked) => Error::new(ErrorKind::Unavailable, "another program holds the store's database")
            .fix("close the program that has linkspan.db open (a database browser, a backup) and try again"),
        Some(ReadOnly | PermissionDenied | AuthorizationForStatementDenied) => {
            Error::new(ErrorKind::PermissionDenied, "the store's database cannot be written")
                .fix("give this user the right to write the data dir")
        }
        Some(CannotOpen) => Error::new(ErrorKind::PermissionDenied, "the store's database cannot be opened")
            .fix("check that the data dir exists and that this user may write in it"),
        Some(SystemIoFailure) => {
            Error::new(ErrorKind::Unavailable, "the disk of the data dir failed").fix("look at the disk and run again")
        }
        _ => Error::new(ErrorKind::Internal, "the store's database refused a statement"),
    };
    error.because(e)
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Canceled, "the store is closed")
}
