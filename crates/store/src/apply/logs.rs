//! The index of run logs: one row per run; the lines are in files.

use linkspan_core::{ConnectionId, Result};

use super::keys::uuid_of;
use crate::{
    driver::{Param, Row, Sql},
    record::{RunId, RunLogRecord},
    request::Reply,
};

macro_rules! select {
    ($rest:literal) => {
        concat!("select run, connection, lines, bytes, dropped, rejects, rejects_dropped, closed_at from run_logs ", $rest)
    };
}

fn record(row: &Row) -> Result<RunLogRecord> {
    Ok(RunLogRecord {
        run: RunId(uuid_of(row.text(0)?)?),
        connection: ConnectionId(uuid_of(row.text(1)?)?),
        lines: row.count(2)?,
        bytes: row.count(3)?,
        dropped: row.count(4)?,
        rejects: row.count(5)?,
        rejects_dropped: row.count(6)?,
        closed_at_ms: row.int(7)?,
    })
}

pub(super) async fn put(sql: &mut dyn Sql, log: RunLogRecord) -> Result<Reply> {
    const PUT: &str = "insert into run_logs (run, connection, lines, bytes, dropped, rejects, rejects_dropped, closed_at) \
        values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (run) do update set lines = excluded.lines, bytes = excluded.bytes, \
        dropped = excluded.dropped, rejects = excluded.rejects, rejects_dropped = excluded.rejects_dropped, closed_at = excluded.closed_at";
    let now = sql.now_ms().await?;
    let params: [Param; 8] = [
        log.run.to_string().into(),
        log.connection.to_string().into(),
        log.lines.into(),
        log.bytes.into(),
        log.dropped.into(),
        log.rejects.into(),
        log.rejects_dropped.into(),
        now.into(),
    ];
    sql.execute(PUT, &params).await?;
    Ok(Reply::Done)
}

/// A row for the files of a run that did not close them.
pub(super) async fn put_unknown(sql: &mut dyn Sql, connection: ConnectionId, run: RunId, now: i64) -> Result<()> {
    const PUT: &str = "insert into run_logs (run, connection, lines, bytes, dropped, rejects, rejects_dropped, closed_at) \
        values ($1, $2, 0, 0, 0, 0, 0, $3) on conflict (run) do nothing";
    sql.execute(PUT, &[run.to_string().into(), connection.to_string().into(), now.into()]).await.map(drop)
}

pub(super) async fn forget(sql: &mut dyn Sql, runs: Vec<RunId>) -> Result<Reply> {
    const FORGET: &str = "delete from run_logs where run = $1";
    for run in runs {
        sql.execute(FORGET, &[run.to_string().into()]).await?;
    }
    Ok(Reply::Done)
}

pub(super) async fn get(sql: &mut dyn Sql, run: RunId) -> Result<Reply> {
    const BY_RUN: &str = select!("where run = $1");
    let rows = sql.query(BY_RUN, &[run.to_string().into()]).await?;
    Ok(Reply::RunLogs(rows.iter().map(record).collect::<Result<_>>()?))
}

pub(super) async fn old(sql: &mut dyn Sql, connection: ConnectionId, keep: u32, max_age_ms: i64) -> Result<Reply> {
    const NEWEST_FIRST: &str = select!("where connection = $1 order by closed_at desc, run desc");
    let oldest = sql.now_ms().await?.saturating_sub(max_age_ms);
    let rows = sql.query(NEWEST_FIRST, &[connection.to_string().into()]).await?;
    let logs: Vec<RunLogRecord> = rows.iter().map(record).collect::<Result<_>>()?;
    let old = logs.into_iter().enumerate().filter(|(i, log)| *i >= keep as usize || log.closed_at_ms < oldest);
    Ok(Reply::RunLogs(old.map(|(_, log)| log).collect()))
}
