//! A run as it is shown, with what it has done so far while it goes.

use std::sync::atomic::Ordering::Relaxed;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{RunId, RunRecord, RunStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stats::streams_of;
use crate::{app::App, moment::moment, run::Tally};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    pub id: String,
    /// The connection's name.
    pub connection: String,
    pub connection_id: String,
    pub kind: String,
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// `manual`, `schedule` or `retry`.
    pub cause: String,
    /// 1 is the first.
    pub attempt: u32,
    pub max_attempts: u32,
    /// The tick that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<String>,
    /// While it waits: when it may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Over all streams and attempts: always written + duplicates + rejected.
    pub rows_read: u64,
    pub rows_written: u64,
    pub rows_duplicate: u64,
    pub rows_rejected: u64,
    pub streams: Vec<StreamShown>,
    /// What went wrong, in the latest attempt.
    pub error: Option<Value>,
}

/// What a run did with one stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamShown {
    pub stream: String,
    /// `running`, `completed`, `stopped`, `parked` or `failed`.
    pub status: String,
    pub mode: String,
    pub write: String,
    /// Rows whose fate is durable: always written + duplicates + rejected.
    pub rows_read: u64,
    pub written: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Read, but not committed when the stream ended: they are read again.
    pub uncommitted: u64,
    pub bytes_read: u64,
    pub seconds: f64,
    pub error: Option<Value>,
}

pub(super) async fn shown(app: &App, record: &RunRecord) -> Result<Shown> {
    let name = match app.store.get(record.connection).await {
        Ok(row) => row.name.strip_prefix(&format!("{}/", record.project)).map_or(row.name.clone(), str::to_owned),
        Err(e) if e.kind() == ErrorKind::NotFound => record.connection.to_string(),
        Err(e) => return Err(e),
    };
    let mut streams: Vec<StreamShown> =
        record.stats.as_ref().map(streams_of).unwrap_or_default().into_iter().filter_map(|s| serde_json::from_value(s).ok()).collect();
    if let Some(going) = app.desk.going(record.id).filter(|_| record.status == RunStatus::Running) {
        add_live(&mut streams, &going.tally());
    }
    let total = |of: fn(&StreamShown) -> u64| streams.iter().map(of).sum();
    let ms = |at: Option<i64>| at.map(moment);
    Ok(Shown {
        id: record.id.to_string(),
        connection: name,
        connection_id: record.connection.to_string(),
        kind: record.kind.clone(),
        status: record.status.as_str().to_owned(),
        cause: record.cause.as_str().to_owned(),
        attempt: record.attempt,
        max_attempts: record.max_attempts,
        scheduled_for: ms(record.scheduled_for_ms),
        queued_at: ms(record.queued_at_ms),
        next_attempt_at: ms(Some(record.not_before_ms).filter(|_| record.status == RunStatus::Queued)),
        started_at: ms(record.started_at_ms),
        ended_at: ms(record.ended_at_ms),
        duration_seconds: record.ended_at_ms.zip(record.started_at_ms).map(|(to, from)| (to - from).max(0) as f64 / 1000.0),
        rows_read: total(|s| s.rows_read),
        rows_written: total(|s| s.written),
        rows_duplicate: total(|s| s.duplicates),
        rows_rejected: total(|s| s.rejected),
        streams,
        error: record.error.clone().filter(|e| !e.is_null()),
    })
}

/// What the attempt that goes now has committed so far.
fn add_live(streams: &mut Vec<StreamShown>, tally: &Tally) {
    for (name, counter) in tally.streams() {
        let name = name.to_string();
        let at = streams.iter().position(|s| s.stream == name).unwrap_or_else(|| {
            streams.push(StreamShown { stream: name, ..StreamShown::default() });
            streams.len() - 1
        });
        let stream = &mut streams[at];
        stream.status = "running".into();
        stream.written += counter.written.load(Relaxed);
        stream.duplicates += counter.duplicates.load(Relaxed);
        stream.rejected += counter.rejected.load(Relaxed);
        stream.rows_read += counter.settled();
        stream.bytes_read += counter.bytes.load(Relaxed);
        stream.seconds += counter.elapsed().map_or(0.0, |d| d.as_secs_f64());
    }
}

/// A run of the caller's project. `run_` before the id is taken too.
pub(super) async fn of_project(app: &App, project: &str, id: &str) -> Result<RunRecord> {
    let unknown = || {
        Error::new(ErrorKind::NotFound, "there is no such run in this project")
            .with("run", id)
            .fix("`linkspan connections runs list` shows those that are there")
    };
    let parsed = id.strip_prefix("run_").unwrap_or(id).parse().map_err(|_| unknown())?;
    match app.store.run(RunId(parsed)).await {
        Ok(record) if record.project == project => Ok(record),
        Ok(_) => Err(unknown()),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(unknown()),
        Err(e) => Err(e),
    }
}
