//! A claimed run: its fence, its memory, its logs, and the word when its lease is lost.

use std::sync::{Arc, OnceLock};

use linkspan_core::{ConnectionId, Memory, Result, Stop};

use crate::{LeaseKey, Rejects, Reply, Request, RunId, RunLog, RunLogRecord, RunResult, Store, memory::RunMemory, store::unexpected};

/// The right to run a connection. Dropped without `finish`, it is no longer renewed: its lease runs out (at once, when the process
/// ends) and the next claim marks the run as failed.
pub struct Claim {
    store: Store,
    key: LeaseKey,
    started_at_ms: i64,
    lost: Stop,
    logs: Arc<Logs>,
}

/// The files of a run, made when first asked for.
#[derive(Default)]
pub(crate) struct Logs {
    pub log: OnceLock<RunLog>,
    pub rejects: OnceLock<Rejects>,
}

impl Logs {
    pub(crate) fn flush(&self) {
        self.log.get().into_iter().for_each(RunLog::flush);
        self.rejects.get().into_iter().for_each(Rejects::flush);
    }
    fn close(&self, key: LeaseKey) -> Option<RunLogRecord> {
        let (log, rejects) = (self.log.get().map(RunLog::close), self.rejects.get().map(Rejects::close));
        if log.is_none() && rejects.is_none() {
            return None;
        }
        let (log, rejects) = (log.unwrap_or_default(), rejects.unwrap_or_default());
        Some(RunLogRecord {
            run: key.run,
            connection: key.connection,
            lines: log.lines,
            bytes: log.bytes,
            dropped: log.dropped,
            rejects: rejects.lines,
            rejects_dropped: rejects.dropped,
            closed_at_ms: 0,
        })
    }
}

impl Claim {
    pub(crate) fn new(store: Store, key: LeaseKey, started_at_ms: i64, lost: Stop) -> Self {
        Self { store, key, started_at_ms, lost, logs: Arc::default() }
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
        Arc::new(RunMemory { store: self.store.clone(), key: self.key, logs: self.logs.clone() })
    }
    /// Fires when this run must stop: another one may start.
    pub fn lost(&self) -> Stop {
        self.lost.clone()
    }
    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }
    /// Writes down how the run ended, closes its logs and gives the lease back. `Conflict` when the lease was lost before.
    pub async fn finish(self, result: RunResult) -> Result<()> {
        if let Some(log) = self.logs.close(self.key) {
            self.store.ask(Request::PutRunLog { log }).await?;
        }
        let done = self.store.ask(Request::Finish { by: self.key, result }).await?;
        self.store.keeper().release(self.key.run);
        if done != Reply::Done {
            return Err(unexpected());
        }
        if let Err(e) = self.store.prune_logs(self.key.connection).await {
            tracing::warn!(error = %e, "old run logs could not be removed");
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.keeper().release(self.key.run);
        self.logs.flush();
    }
}
