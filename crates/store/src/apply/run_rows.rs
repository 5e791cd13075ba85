//! Rows of runs: how they are read, how they end, and how they come to wait again.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use serde_json::Value;

use super::keys::uuid_of;
use crate::{
    driver::{Param, Row, Sql},
    record::{Attempt, Cause, RunId, RunRecord, RunResult, RunStatus},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select seq, id, connection, kind, spec, status, fence, holder, started_at, ended_at, stats, error, project, cause, attempt, \
             max_attempts, queued_at, not_before, scheduled_for from runs ",
            $rest
        )
    };
}
pub(super) use select;

pub(super) fn record(row: &Row) -> Result<RunRecord> {
    let unknown = || Error::new(ErrorKind::DataInvalid, "the store holds a run that this version does not understand");
    Ok(RunRecord {
        seq: row.int(0)?,
        id: RunId(uuid_of(row.text(1)?)?),
        connection: ConnectionId(uuid_of(row.text(2)?)?),
        kind: row.text(3)?.to_owned(),
        spec: row.json(4)?,
        status: RunStatus::parse(row.text(5)?).ok_or_else(unknown)?,
        fence: row.count(6)?,
        holder: row.json(7)?,
        started_at_ms: Some(row.int(8)?).filter(|at| *at > 0),
        ended_at_ms: row.optional(9, Row::int)?,
        stats: row.optional(10, |r, i| r.json(i))?,
        error: row.optional(11, |r, i| r.json(i))?,
        project: row.text(12)?.to_owned(),
        cause: Cause::parse(row.text(13)?).ok_or_else(unknown)?,
        attempt: u32::try_from(row.int(14)?).map_err(|_| unknown())?,
        max_attempts: u32::try_from(row.int(15)?).map_err(|_| unknown())?,
        queued_at_ms: row.optional(16, Row::int)?,
        not_before_ms: row.int(17)?,
        scheduled_for_ms: row.optional(18, Row::int)?,
    })
}

pub(super) async fn end_run(sql: &mut dyn Sql, run: RunId, result: &RunResult, now: i64) -> Result<u64> {
    const END: &str =
        "update runs set status = $1, ended_at = $2, stats = coalesce($3, stats), error = $4 where id = $5 and status = 'running'";
    let stats = stats_param(&result.stats)?;
    let error = result.error.as_ref().map(Param::json).transpose()?.unwrap_or(Param::Null);
    sql.execute(END, &[result.status.as_str().into(), now.into(), stats, error, run.to_string().into()]).await
}

/// Lets a running run wait for its next attempt; whether it has one. A run that went ahead without waiting has none.
pub(super) async fn wait_again(
    sql: &mut dyn Sql,
    run: RunId,
    not_before: i64,
    stats: &Value,
    error: &Value,
    attempt: Attempt,
) -> Result<bool> {
    const WAIT: &str = "update runs set status = 'queued', attempt = attempt + $1, not_before = $2, stats = coalesce($3, stats), error = $4 \
        where id = $5 and status = 'running' and queued_at is not null and attempt + $1 <= max_attempts";
    let step: i64 = match attempt {
        Attempt::Next => 1,
        Attempt::Same => 0,
    };
    let params = [step.into(), not_before.into(), stats_param(stats)?, Param::json(error)?, run.to_string().into()];
    Ok(sql.execute(WAIT, &params).await? == 1)
}

fn stats_param(stats: &Value) -> Result<Param> {
    if stats.is_null() { Ok(Param::Null) } else { Param::json(stats) }
}
