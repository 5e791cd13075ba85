//! Runs: one of a connection at a time, each with a larger fence than the one before.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};

use super::{
    keys::no_connection,
    leases::{busy, lease_of, lost, reap},
    run_rows::{end_run, record, select},
};
use crate::{
    driver::{Param, Sql},
    record::{NewRun, RunFilter, RunId, RunResult, RunStatus},
    request::{LeaseKey, Reply},
};

/// One request: check, fence, run and lease. Asked twice for the same run it gives the same answer.
pub(super) async fn claim(sql: &mut dyn Sql, connection: ConnectionId, run: RunId, new: NewRun, ttl_ms: u64) -> Result<Reply> {
    // A fence is at least the time: a store that was lost and made anew still draws larger fences than the destinations remember.
    // As the first statement it also locks the connection's row where several writers share a database.
    const FENCE: &str = "update connections set fence = case when fence < $1 then $1 else fence + 1 end where id = $2 returning fence";
    const LEASE: &str = "insert into leases (connection, run, fence, holder, started_at, expires_at) values ($1, $2, $3, $4, $5, $6)";
    let now = sql.now_ms().await?;
    let rows = sql.query(FENCE, &[now.into(), connection.to_string().into()]).await?;
    let fence = rows.first().ok_or_else(|| no_connection(connection))?.count(0)?;
    match lease_of(sql, connection).await? {
        // Only an answer was lost. The fence drawn above goes unused; it may have gaps.
        Some(lease) if lease.run == run && lease.holder == new.holder => {
            return Ok(Reply::Claimed { fence: lease.fence, started_at_ms: lease.started_at_ms });
        }
        Some(lease) if !lease.is_over(now) => return Err(busy(sql, connection, &lease).await),
        Some(lease) => reap(sql, connection, &lease, now).await?,
        None => {}
    }
    let holder = Param::json(&new.holder)?;
    if !start_waiting(sql, run, &new, fence, now).await? {
        insert_run(sql, connection, run, &new, fence, now).await?;
    }
    let expires = now.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX));
    let lease = [connection.to_string().into(), run.to_string().into(), fence.into(), holder, now.into(), expires.into()];
    sql.execute(LEASE, &lease).await?;
    Ok(Reply::Claimed { fence, started_at_ms: now })
}

/// Whether the run waited; then it goes from now on. `Conflict` when it ended while it waited.
async fn start_waiting(sql: &mut dyn Sql, run: RunId, new: &NewRun, fence: u64, now: i64) -> Result<bool> {
    const START: &str = "update runs set status = 'running', fence = $1, holder = $2, started_at = $3 where id = $4 and status = 'queued'";
    const STATUS: &str = "select status from runs where id = $1";
    let holder = Param::json(&new.holder)?;
    if sql.execute(START, &[fence.into(), holder, now.into(), run.to_string().into()]).await? == 1 {
        return Ok(true);
    }
    match sql.query(STATUS, &[run.to_string().into()]).await?.first() {
        Some(row) => Err(Error::new(ErrorKind::Conflict, "the run does not wait any more").with("run", run).with("status", row.text(0)?)),
        None => Ok(false),
    }
}

async fn insert_run(sql: &mut dyn Sql, connection: ConnectionId, run: RunId, new: &NewRun, fence: u64, now: i64) -> Result<()> {
    const RUN: &str = "insert into runs (id, connection, kind, spec, status, fence, holder, started_at, project) \
                       values ($1, $2, $3, $4, 'running', $5, $6, $7, $8)";
    let params = [
        run.to_string().into(),
        connection.to_string().into(),
        new.kind.as_str().into(),
        Param::json(&new.spec)?,
        fence.into(),
        Param::json(&new.holder)?,
        now.into(),
        new.project.as_str().into(),
    ];
    sql.execute(RUN, &params).await.map(drop)
}

/// Ends the run and gives the lease back. Asked twice with the same result it is done once.
pub(super) async fn finish(sql: &mut dyn Sql, by: LeaseKey, result: RunResult) -> Result<Reply> {
    const RELEASE: &str = "delete from leases where connection = $1 and run = $2 and fence = $3";
    const STATUS: &str = "select status, fence from runs where id = $1";
    if !result.status.is_over() {
        return Err(Error::new(ErrorKind::Internal, "a run cannot end as running or waiting"));
    }
    let key = [by.connection.to_string().into(), by.run.to_string().into(), by.fence.into()];
    if sql.execute(RELEASE, &key).await? == 1 {
        let now = sql.now_ms().await?;
        end_run(sql, by.run, &result, now).await?;
        return Ok(Reply::Done);
    }
    let rows = sql.query(STATUS, &[by.run.to_string().into()]).await?;
    match rows.first() {
        Some(row) if row.text(0)? == result.status.as_str() && row.count(1)? == by.fence => Ok(Reply::Done),
        _ => Err(lost(by.run)),
    }
}

pub(super) async fn list(sql: &mut dyn Sql, filter: RunFilter) -> Result<Reply> {
    // An empty text stands for "any": both databases infer the placeholder's type from the comparison.
    const LIST: &str = select!(
        "where seq < $1 and ($2 = '' or connection = $2) and ($3 = '' or status = $3) and ($4 = '' or project = $4) \
         order by seq desc limit $5"
    );
    let connection = filter.connection.map(|c| c.to_string()).unwrap_or_default();
    let status = filter.status.map(RunStatus::as_str).unwrap_or_default();
    let limit = i64::from(filter.limit.unwrap_or(50).clamp(1, 1000));
    let before = filter.before.unwrap_or(i64::MAX);
    let params = [before.into(), connection.into(), status.into(), filter.project.unwrap_or_default().into(), limit.into()];
    let rows = sql.query(LIST, &params).await?;
    Ok(Reply::Runs(rows.iter().map(record).collect::<Result<_>>()?))
}

pub(super) async fn get(sql: &mut dyn Sql, run: RunId) -> Result<Reply> {
    const BY_ID: &str = select!("where id = $1");
    let rows = sql.query(BY_ID, &[run.to_string().into()]).await?;
    Ok(Reply::Runs(rows.iter().map(record).collect::<Result<_>>()?))
}
