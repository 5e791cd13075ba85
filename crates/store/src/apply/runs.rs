//! Runs and their leases: one run of a connection at a time, and each with a larger fence than the one before.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use serde_json::Value;

use super::{lost, no_connection, uuid_of};
use crate::{Holder, LeaseKey, NewRun, Param, Reply, Row, RunFilter, RunId, RunRecord, RunResult, RunStatus, Sql};

struct Lease {
    run: RunId,
    fence: u64,
    holder: Holder,
    started_at_ms: i64,
    expires_at_ms: i64,
}

impl Lease {
    /// Nobody can write under it any more, or nobody is there to.
    fn is_over(&self, now: i64) -> bool {
        self.expires_at_ms <= now || self.holder.is_gone()
    }
}

async fn lease_of(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Option<Lease>> {
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
        Some(lease) if lease.run == run => return Ok(Reply::Claimed { fence: lease.fence, started_at_ms: lease.started_at_ms }),
        Some(lease) if !lease.is_over(now) => return Err(busy(sql, connection, &lease).await),
        Some(lease) => reap(sql, connection, &lease, now).await?,
        None => {}
    }
    let holder = Param::json(&new.holder)?;
    insert_run(sql, connection, run, &new, fence, now).await?;
    let expires = now.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX));
    let lease = [connection.to_string().into(), run.to_string().into(), fence.into(), holder, now.into(), expires.into()];
    sql.execute(LEASE, &lease).await?;
    Ok(Reply::Claimed { fence, started_at_ms: now })
}

async fn insert_run(sql: &mut dyn Sql, connection: ConnectionId, run: RunId, new: &NewRun, fence: u64, now: i64) -> Result<()> {
    const RUN: &str = "insert into runs (id, connection, kind, spec, status, fence, holder, started_at) \
                       values ($1, $2, $3, $4, 'running', $5, $6, $7)";
    let params = [
        run.to_string().into(),
        connection.to_string().into(),
        new.kind.as_str().into(),
        Param::json(&new.spec)?,
        fence.into(),
        Param::json(&new.holder)?,
        now.into(),
    ];
    sql.execute(RUN, &params).await.map(drop)
}

/// Takes the lease from a run that is over, and says so in its row.
async fn reap(sql: &mut dyn Sql, connection: ConnectionId, lease: &Lease, now: i64) -> Result<()> {
    const RELEASE: &str = "delete from leases where connection = $1";
    let error = if lease.holder.is_gone() {
        Error::new(ErrorKind::Unavailable, "the process ended without a word").with("holder", &lease.holder)
    } else {
        Error::new(ErrorKind::Unavailable, "the lease ran out: the process was stopped, cut off or too busy to renew it")
            .with("holder", &lease.holder)
    };
    let result = RunResult { status: RunStatus::Failed, stats: Value::Null, error: Some(error.to_json()) };
    end_run(sql, lease.run, &result, now).await?;
    // It may have left files; with a row they are found when logs are pruned.
    super::logs::put_unknown(sql, connection, lease.run, now).await?;
    sql.execute(RELEASE, &[connection.to_string().into()]).await.map(drop)
}

async fn end_run(sql: &mut dyn Sql, run: RunId, result: &RunResult, now: i64) -> Result<u64> {
    const END: &str = "update runs set status = $1, ended_at = $2, stats = $3, error = $4 where id = $5 and status = 'running'";
    let stats = if result.stats.is_null() { Param::Null } else { Param::json(&result.stats)? };
    let error = result.error.as_ref().map(Param::json).transpose()?.unwrap_or(Param::Null);
    sql.execute(END, &[result.status.as_str().into(), now.into(), stats, error, run.to_string().into()]).await
}

async fn busy(sql: &mut dyn Sql, connection: ConnectionId, lease: &Lease) -> Error {
    let name = match super::connections::by_id(sql, connection).await {
        Ok(Some(record)) => record.name,
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

/// Ends the run and gives the lease back. Asked twice with the same result it is done once.
pub(super) async fn finish(sql: &mut dyn Sql, by: LeaseKey, result: RunResult) -> Result<Reply> {
    const RELEASE: &str = "delete from leases where connection = $1 and run = $2 and fence = $3";
    const STATUS: &str = "select status, fence from runs where id = $1";
    if result.status == RunStatus::Running {
        return Err(Error::new(ErrorKind::Internal, "a run cannot end as running"));
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

macro_rules! select {
    ($rest:literal) => {
        concat!("select seq, id, connection, kind, spec, status, fence, holder, started_at, ended_at, stats, error from runs ", $rest)
    };
}

fn record(row: &Row) -> Result<RunRecord> {
    let status = RunStatus::parse(row.text(5)?)
        .ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the store holds a run status that this version does not know"))?;
    Ok(RunRecord {
        seq: row.int(0)?,
        id: RunId(uuid_of(row.text(1)?)?),
        connection: ConnectionId(uuid_of(row.text(2)?)?),
        kind: row.text(3)?.to_owned(),
        spec: row.json(4)?,
        status,
        fence: row.count(6)?,
        holder: row.json(7)?,
        started_at_ms: row.int(8)?,
        ended_at_ms: row.optional(9, Row::int)?,
        stats: row.optional(10, |r, i| r.json(i))?,
        error: row.optional(11, |r, i| r.json(i))?,
    })
}

pub(super) async fn list(sql: &mut dyn Sql, filter: RunFilter) -> Result<Reply> {
    // An empty text stands for "any": both databases infer the placeholder's type from the comparison.
    const LIST: &str = select!("where seq < $1 and ($2 = '' or connection = $2) and ($3 = '' or status = $3) order by seq desc limit $4");
    let connection = filter.connection.map(|c| c.to_string()).unwrap_or_default();
    let status = filter.status.map(RunStatus::as_str).unwrap_or_default();
    let limit = i64::from(filter.limit.unwrap_or(50).clamp(1, 1000));
    let rows = sql.query(LIST, &[filter.before.unwrap_or(i64::MAX).into(), connection.into(), status.into(), limit.into()]).await?;
    Ok(Reply::Runs(rows.iter().map(record).collect::<Result<_>>()?))
}

pub(super) async fn get(sql: &mut dyn Sql, run: RunId) -> Result<Reply> {
    const BY_ID: &str = select!("where id = $1");
    let rows = sql.query(BY_ID, &[run.to_string().into()]).await?;
    Ok(Reply::Runs(rows.iter().map(record).collect::<Result<_>>()?))
}
