//! Leases: who may write for a connection now, and what becomes of a run that no longer may.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use serde_json::Value;

use super::{
    keys::uuid_of,
    logs,
    run_rows::{end_run, wait_again},
};
use crate::{
    driver::{Param, Sql},
    holder::Holder,
    record::{Attempt, RunId, RunResult, RunStatus},
    request::{LeaseKey, Reply},
};

pub(super) struct Lease {
    pub run: RunId,
    pub fence: u64,
    pub holder: Holder,
    pub started_at_ms: i64,
    expires_at_ms: i64,
}

impl Lease {
    /// Nobody can write under it any more, or nobody is there to.
    pub(super) fn is_over(&self, now: i64) -> bool {
        self.expires_at_ms <= now || self.holder.is_gone()
    }
}

pub(super) async fn lease_of(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Option<Lease>> {
    const LEASE: &str = "select run, fence, holder, started_at, expires_at from leases where connection = $1";
    let rows = sql.query(LEASE, &[connection.to_string().into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Lease {
        run: RunId(uuid_of(row.text(0)?)?),
        fence: row.count(1)?,
        holder: row.json(2)?,
        started_at_ms: row.int(3)?,
        expires_at_ms: row.int(4)?,
    }))
}

/// Takes the lease from a run that is over, and says so in its row: it failed, or waits for another attempt where it has one.
pub(super) async fn reap(sql: &mut dyn Sql, connection: ConnectionId, lease: &Lease, now: i64) -> Result<()> {
    const RELEASE: &str = "delete from leases where connection = $1";
    let error = if lease.holder.is_gone() {
        Error::new(ErrorKind::Unavailable, "the process ended without a word").with("holder", &lease.holder)
    } else {
        Error::new(ErrorKind::Unavailable, "the lease ran out: the process was stopped, cut off or too busy to renew it")
            .with("holder", &lease.holder)
    };
    if !wait_again(sql, lease.run, now, &Value::Null, &error.to_json(), Attempt::Next).await? {
        let result = RunResult { status: RunStatus::Failed, stats: Value::Null, error: Some(error.to_json()) };
        end_run(sql, lease.run, &result, now).await?;
    }
    // It may have left files; with a row they are found when logs are pruned.
    logs::put_unknown(sql, connection, lease.run, now).await?;
    sql.execute(RELEASE, &[connection.to_string().into()]).await.map(drop)
}

pub(super) async fn busy(sql: &mut dyn Sql, connection: ConnectionId, lease: &Lease) -> Error {
    const NAME: &str = "select name from connections where id = $1";
    let name = match sql.query(NAME, &[connection.to_string().into()]).await.as_deref() {
        Ok([row]) => row.text(0).unwrap_or_default().to_owned(),
        _ => connection.to_string(),
    };
    let started =
        jiff::Timestamp::from_millisecond(lease.started_at_ms).map_or_else(|_| lease.started_at_ms.to_string(), |t| t.to_string());
    Error::new(ErrorKind::Conflict, "a run of this connection is already going")
        .with("connection", name)
        .with("run", lease.run)
        .with("holder", &lease.holder)
        .with("started", started)
        .fix(format!("wait for it to end, or stop {} and run the same command again", lease.holder))
}

/// For changes from outside of a run: `Conflict` while one is going; a run that is over is reaped.
pub(super) async fn refuse_while_running(sql: &mut dyn Sql, connection: ConnectionId) -> Result<()> {
    let now = sql.now_ms().await?;
    match lease_of(sql, connection).await? {
        Some(lease) if !lease.is_over(now) => Err(busy(sql, connection, &lease).await),
        Some(lease) => reap(sql, connection, &lease, now).await,
        None => Ok(()),
    }
}

pub(super) async fn renew(sql: &mut dyn Sql, runs: Vec<RunId>, ttl_ms: u64) -> Result<Reply> {
    let now = sql.now_ms().await?;
    let expires = now.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX));
    let statement = sql.dialect().renew;
    let rows = sql.query(statement, &[expires.into(), Param::json(&runs)?]).await?;
    Ok(Reply::Held(rows.iter().map(|r| uuid_of(r.text(0)?).map(RunId)).collect::<Result<_>>()?))
}

/// Every change made by a run passes here: only the fence that holds the connection now may write.
pub(super) async fn check_lease(sql: &mut dyn Sql, by: LeaseKey) -> Result<()> {
    const HELD: &str = "select run, fence from leases where connection = $1";
    let rows = sql.query(HELD, &[by.connection.to_string().into()]).await?;
    let held = match rows.first() {
        Some(row) => row.text(0)? == by.run.to_string() && row.count(1)? == by.fence,
        None => false,
    };
    if held { Ok(()) } else { Err(lost(by.run)) }
}

/// The answer to a run that was overtaken.
pub(crate) fn lost(run: RunId) -> Error {
    Error::new(ErrorKind::Conflict, "this run lost its lease: another run of the connection may have started")
        .with("run", run)
        .fix("run the same command again: it goes on from what is committed")
}
