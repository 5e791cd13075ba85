//! A claimed run: its fence, its memory, its logs, and the word when its lease is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use linkspan_core::{ConnectionId, Memory, Result, Stop};
use serde_json::Value;

use crate::{
    lease::Keeper,
    link::{Link, unexpected},
    logs::{self, Logs},
    memory::RunMemory,
    record::{Attempt, NewRun, RunId, RunResult},
    request::{LeaseKey, Reply, Request},
    run_log::{Rejects, RunLog},
};

/// The right to run a connection. Dropped without `finish`, it is no longer renewed: its lease runs out (at once, when the process
/// ends) and the next claim marks the run as failed.
pub struct Claim {
    link: Arc<Link>,
    keeper: Arc<Keeper>,
    key: LeaseKey,
    started_at_ms: i64,
    lost: Stop,
    logs: Arc<Logs>,
}

impl Claim {
    pub(crate) async fn take(link: &Arc<Link>, keeper: &Arc<Keeper>, connection: ConnectionId, run: RunId, new: NewRun) -> Result<Self> {
        let ttl_ms = u64::try_from(link.options.lease.as_millis()).unwrap_or(u64::MAX);
        let sent = Instant::now();
        let reply = link.ask(Request::Claim { connection, run, new, ttl_ms }).await?;
        let Reply::Claimed { fence, started_at_ms } = reply else { return Err(unexpected()) };
        let lost = keeper.keep(run, sent);
        let key = LeaseKey { connection, run, fence };
        let claim = Self { link: link.clone(), keeper: keeper.clone(), key, started_at_ms, lost, logs: Arc::default() };
        link.failpoints().hit("store.claim.after").await?;
        Ok(claim)
    }
    pub fn connection(&self) -> ConnectionId {
        self.key.connection
    }
    pub fn run_id(&self) -> RunId {
        self.key.run
    }
    /// Larger than that of any earlier run of the connection.
    pub fn fence(&self) -> u64 {
        self.key.fence
    }
    pub fn started_at_ms(&self) -> i64 {
        self.started_at_ms
    }
    /// The run's memory. It refuses to change anything once the lease is lost or the claim is finished or dropped.
    pub fn memory(&self) -> Arc<dyn Memory> {
        let (link, keeper) = (self.link.clone(), self.keeper.clone());
        Arc::new(RunMemory { link, keeper, key: self.key, logs: self.logs.clone() })
    }
    /// Fires when this run must stop: another one may start.
    pub fn lost(&self) -> Stop {
        self.lost.clone()
    }
    pub(crate) fn log(&self) -> Result<RunLog> {
        self.logs.log(&self.link, self.key)
    }
    pub(crate) fn rejects(&self) -> Result<Rejects> {
        self.logs.rejects(&self.link, self.key)
    }
    /// Lets the run wait, for its next attempt or to go on with this one, after so long. What it did so far is kept.
    pub async fn requeue(self, attempt: Attempt, after: Duration, stats: Value, error: Value) -> Result<()> {
        if let Some(log) = self.logs.close(self.key) {
            self.link.ask(Request::PutRunLog { log }).await?;
        }
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.link.ask(Request::Requeue { by: self.key, after_ms, stats, error, attempt }).await?;
        self.keeper.release(self.key.run);
        Ok(())
    }
    /// Writes down how the run ended, closes its logs and gives the lease back. `Conflict` when the lease was lost before.
    pub async fn finish(self, result: RunResult) -> Result<()> {
        if let Some(log) = self.logs.close(self.key) {
            self.link.ask(Request::PutRunLog { log }).await?;
        }
        let done = self.link.ask(Request::Finish { by: self.key, result }).await?;
        self.keeper.release(self.key.run);
        if done != Reply::Done {
            return Err(unexpected());
        }
        if let Err(e) = logs::prune(&self.link, self.key.connection).await {
            tracing::warn!(error = %e, "old run logs could not be removed");
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.keeper.release(self.key.run);
        self.logs.flush();
    }
}
