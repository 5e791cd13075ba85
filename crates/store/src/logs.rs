//! The files of a run: made when first asked for, listed when it ends, pruned after the newest ones.

use std::{sync::OnceLock, time::Duration};

use linkspan_core::{ConnectionId, Result};

use crate::{
    link::{Link, unexpected},
    record::RunLogRecord,
    request::{LeaseKey, Reply, Request},
    run_log::{self, Rejects, RunLog},
};

#[derive(Default)]
pub(crate) struct Logs {
    log: OnceLock<RunLog>,
    rejects: OnceLock<Rejects>,
}

impl Logs {
    pub(crate) fn log(&self, link: &Link, key: LeaseKey) -> Result<RunLog> {
        if let Some(log) = self.log.get() {
            return Ok(log.clone());
        }
        let log = RunLog::create(link.dir.log(key.connection, key.run), link.options.log_bytes, link.ctx.clock.clone())?;
        Ok(self.log.get_or_init(|| log).clone())
    }
    pub(crate) fn rejects(&self, link: &Link, key: LeaseKey) -> Result<Rejects> {
        if let Some(rejects) = self.rejects.get() {
            return Ok(rejects.clone());
        }
        let rejects = Rejects::create(link.dir.rejects(key.run), link.options.log_bytes)?;
        Ok(self.rejects.get_or_init(|| rejects).clone())
    }
    pub(crate) fn flush(&self) {
        self.log.get().into_iter().for_each(RunLog::flush);
        self.rejects.get().into_iter().for_each(Rejects::flush);
    }
    /// What they hold, for the index; nothing when the run wrote none.
    pub(crate) fn close(&self, key: LeaseKey) -> Option<RunLogRecord> {
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

/// Removes the files of runs beyond the newest ones that are kept, then their rows.
pub(crate) async fn prune(link: &Link, connection: ConnectionId) -> Result<()> {
    let old = old(link, connection, link.options.keep_logs, link.options.keep_logs_for).await?;
    if old.is_empty() {
        return Ok(());
    }
    remove(link, &old)?;
    link.ask(Request::ForgetRunLogs { runs: old.iter().map(|log| log.run).collect() }).await.map(drop)
}

pub(crate) async fn old(link: &Link, connection: ConnectionId, keep: u32, max_age: Duration) -> Result<Vec<RunLogRecord>> {
    let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
    match link.ask(Request::OldRunLogs { connection, keep, max_age_ms }).await? {
        Reply::RunLogs(old) => Ok(old),
        _ => Err(unexpected()),
    }
}

pub(crate) fn remove(link: &Link, logs: &[RunLogRecord]) -> Result<()> {
    for log in logs {
        run_log::remove(&link.dir.log(log.connection, log.run))?;
        run_log::remove(&link.dir.rejects(log.run))?;
    }
    Ok(())
}
