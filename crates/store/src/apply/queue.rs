//! Runs that wait for their turn, and runs whose process is gone.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use serde_json::Value;

use super::{
    keys::{no_connection, uuid_of},
    leases::{check_lease, lease_of, reap},
    run_rows::{record, select, wait_again},
};
use crate::{
    driver::{Param, Sql},
    record::{Attempt, Queued, RunCounts, RunId, RunRecord, WaitingRun},
    request::{LeaseKey, Reply},
};

pub(super) async fn put(sql: &mut dyn Sql, runs: Vec<WaitingRun>) -> Result<Reply> {
    let now = sql.now_ms().await?;
    let mut answers = Vec::with_capacity(runs.len());
    for run in runs {
        answers.push(put_one(sql, &run, now).await?);
    }
    Ok(Reply::Queued(answers))
}

/// The same for one that somebody asked for: there must be nothing in its way.
pub(super) async fn put_alone(sql: &mut dyn Sql, run: &WaitingRun) -> Result<()> {
    let now = sql.now_ms().await?;
    match put_one(sql, run, now).await? {
        Queued::Waiting => Ok(()),
        Queued::Busy(other) | Queued::Ticked(other) => {
            Err(Error::new(ErrorKind::Conflict, "a run of this connection waits or is going already")
                .with("run", other)
                .fix("wait for it to end, or cancel it"))
        }
        Queued::Gone => Err(no_connection(run.connection)),
    }
}

async fn put_one(sql: &mut dyn Sql, run: &WaitingRun, now: i64) -> Result<Queued> {
    const KNOWN: &str = "select 1 from runs where id = $1";
    const CONNECTION: &str = "select 1 from connections where id = $1";
    const TICKED: &str = "select id from runs where connection = $1 and scheduled_for = $2";
    const PUT: &str = "insert into runs (id, connection, kind, spec, status, fence, holder, started_at, project, cause, attempt, \
        max_attempts, queued_at, not_before, scheduled_for) values ($1, $2, $3, $4, 'queued', 0, 'null', 0, $5, $6, 1, $7, $8, $8, $9)";
    let (id, connection): (Param, Param) = (run.run.to_string().into(), run.connection.to_string().into());
    if !sql.query(KNOWN, std::slice::from_ref(&id)).await?.is_empty() {
        return Ok(Queued::Waiting);
    }
    if sql.query(CONNECTION, std::slice::from_ref(&connection)).await?.is_empty() {
        return Ok(Queued::Gone);
    }
    if let Some(tick) = run.scheduled_for_ms
        && let Some(row) = sql.query(TICKED, &[connection.clone(), tick.into()]).await?.first()
    {
        return Ok(Queued::Ticked(RunId(uuid_of(row.text(0)?)?)));
    }
    if let Some(busy) = active(sql, run.connection, now).await? {
        return Ok(Queued::Busy(busy));
    }
    let params = [
        id,
        connection,
        run.kind.as_str().into(),
        Param::json(&run.spec)?,
        run.project.as_str().into(),
        run.cause.as_str().into(),
        i64::from(run.max_attempts.max(1)).into(),
        now.into(),
        run.scheduled_for_ms.into(),
    ];
    sql.execute(PUT, &params).await?;
    Ok(Queued::Waiting)
}

/// The run of the connection that waits or goes. One whose process is gone is no obstacle, unless it waits again.
async fn active(sql: &mut dyn Sql, connection: ConnectionId, now: i64) -> Result<Option<RunId>> {
    const WAITS: &str = "select id from runs where connection = $1 and status = 'queued'";
    match lease_of(sql, connection).await? {
        Some(lease) if !lease.is_over(now) => return Ok(Some(lease.run)),
        Some(lease) => reap(sql, connection, &lease, now).await?,
        None => {}
    }
    let rows = sql.query(WAITS, &[connection.to_string().into()]).await?;
    rows.first().map(|row| Ok(RunId(uuid_of(row.text(0)?)?))).transpose()
}

pub(super) async fn cancel(sql: &mut dyn Sql, run: RunId) -> Result<Reply> {
    const CANCEL: &str = "update runs set status = 'cancelled', ended_at = $1 where id = $2 and status = 'queued'";
    const BY_ID: &str = select!("where id = $1");
    let now = sql.now_ms().await?;
    sql.execute(CANCEL, &[now.into(), run.to_string().into()]).await?;
    records(sql, BY_ID, &[run.to_string().into()]).await
}

/// Asked twice it is done once: the second time the lease is gone, and the run waits.
pub(super) async fn requeue(sql: &mut dyn Sql, by: LeaseKey, after_ms: u64, stats: Value, error: Value, attempt: Attempt) -> Result<Reply> {
    const RELEASE: &str = "delete from leases where connection = $1";
    const WAITS: &str = "select 1 from runs where id = $1 and fence = $2 and status = 'queued'";
    if !sql.query(WAITS, &[by.run.to_string().into(), by.fence.into()]).await?.is_empty() {
        return Ok(Reply::Done);
    }
    check_lease(sql, by).await?;
    let now = sql.now_ms().await?;
    let start = now.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX));
    if !wait_again(sql, by.run, start, &stats, &error, attempt).await? {
        return Err(Error::new(ErrorKind::Internal, "a run without another attempt was to wait for one"));
    }
    sql.execute(RELEASE, &[by.connection.to_string().into()]).await?;
    Ok(Reply::Done)
}

pub(super) async fn sweep(sql: &mut dyn Sql) -> Result<Reply> {
    const LEASES: &str = "select connection from leases";
    const BY_ID: &str = select!("where id = $1");
    let now = sql.now_ms().await?;
    let mut swept = Vec::new();
    for row in sql.query(LEASES, &[]).await? {
        let connection = ConnectionId(uuid_of(row.text(0)?)?);
        let Some(lease) = lease_of(sql, connection).await?.filter(|l| l.is_over(now)) else { continue };
        reap(sql, connection, &lease, now).await?;
        if let Reply::Runs(mut found) = records(sql, BY_ID, &[lease.run.to_string().into()]).await? {
            swept.append(&mut found);
        }
    }
    Ok(Reply::Runs(swept))
}

pub(super) async fn waiting(sql: &mut dyn Sql, limit: u32) -> Result<Reply> {
    const WAITING: &str = select!("where status = 'queued' order by not_before, seq limit $1");
    records(sql, WAITING, &[i64::from(limit).into()]).await
}

pub(super) async fn count(sql: &mut dyn Sql) -> Result<Reply> {
    const COUNT: &str = "select status, count(*), min(not_before) from runs where status in ('queued', 'running') group by status";
    let mut counts = RunCounts::default();
    for row in sql.query(COUNT, &[]).await? {
        match row.text(0)? {
            "queued" => (counts.queued, counts.first_due_ms) = (row.count(1)?, Some(row.int(2)?)),
            _ => counts.running = row.count(1)?,
        }
    }
    Ok(Reply::RunCounts(counts))
}

pub(super) async fn last_ticks(sql: &mut dyn Sql) -> Result<Reply> {
    const TICKS: &str = "select connection, max(scheduled_for) from runs where scheduled_for is not null group by connection";
    let rows = sql.query(TICKS, &[]).await?;
    let tick = |row: &crate::driver::Row| Ok((ConnectionId(uuid_of(row.text(0)?)?), row.int(1)?));
    Ok(Reply::Ticks(rows.iter().map(tick).collect::<Result<_>>()?))
}

async fn records(sql: &mut dyn Sql, statement: &'static str, params: &[Param]) -> Result<Reply> {
    let rows = sql.query(statement, params).await?;
    Ok(Reply::Runs(rows.iter().map(record).collect::<Result<Vec<RunRecord>>>()?))
}
