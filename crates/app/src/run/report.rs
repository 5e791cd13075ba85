//! What a run did, stream by stream, and what that makes of the whole. How it is shown is another room's matter.

use std::time::Duration;

use linkspan_core::{Error, ErrorKind, ReadMode, StreamName, WriteMode};
use linkspan_engine::run::{Assignment, Outcome, StreamEnd, StreamOutcome};
use serde_json::{Value, json};

use linkspan_store::RunStatus;

use super::tally::{Tally, rate};

/// What became of a run as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Completed,
    /// Asked to stop; what was committed stays.
    Stopped,
    /// Some streams went on without the others.
    Partial,
    /// No stream went on; the kind is that of the first one.
    Failed(ErrorKind),
}

impl Verdict {
    /// What the run is told as. A run that only some streams came through failed: somebody has to look at it.
    pub fn status(self) -> RunStatus {
        match self {
            Self::Completed => RunStatus::Completed,
            Self::Stopped => RunStatus::Cancelled,
            Self::Partial | Self::Failed(_) => RunStatus::Failed,
        }
    }
}

/// One stream's line of the summary.
pub struct Line {
    pub stream: StreamName,
    pub mode: &'static str,
    pub write: &'static str,
    pub seconds: Duration,
    pub outcome: StreamOutcome,
}

/// A finished run, ready to be shown.
pub struct Report {
    pub connection: String,
    pub run: String,
    pub lines: Vec<Line>,
    pub elapsed: Duration,
}

impl Report {
    pub fn new(connection: &str, run: String, plan: &[Assignment], outcome: Outcome, tally: &Tally, elapsed: Duration) -> Self {
        let lines = outcome.streams.into_iter().map(|(stream, outcome)| {
            let asked = plan.iter().find(|a| a.selected.stream.name == stream);
            Line {
                mode: asked.map_or("", |a| mode_word(a.selected.read)),
                write: asked.map_or("", |a| write_word(a.write)),
                seconds: tally.stream(&stream).elapsed().unwrap_or(elapsed),
                stream,
                outcome,
            }
        });
        Self { connection: connection.to_owned(), run, lines: lines.collect(), elapsed }
    }

    /// Failed only when every stream did.
    pub fn verdict(&self) -> Verdict {
        let kinds: Vec<ErrorKind> = self.lines.iter().filter_map(Line::failure).map(Error::kind).collect();
        let stopped = self.lines.iter().any(|l| matches!(l.outcome.ended, StreamEnd::Stopped));
        match kinds.first() {
            None if stopped => Verdict::Stopped,
            None => Verdict::Completed,
            Some(first) if kinds.len() == self.lines.len() => Verdict::Failed(*first),
            Some(_) => Verdict::Partial,
        }
    }

    /// What went wrong first.
    pub fn failure(&self) -> Option<&Error> {
        self.lines.iter().find_map(Line::failure)
    }

    pub fn rejected(&self) -> u64 {
        self.lines.iter().map(|l| l.outcome.stats.rejected).sum()
    }

    /// The counts that are kept with the run.
    pub fn to_json(&self) -> Value {
        let streams: Vec<Value> = self.lines.iter().map(Line::to_json).collect();
        json!({
            "event": "summary", "connection": self.connection, "run": self.run, "status": self.verdict().status().as_str(),
            "seconds": seconds(self.elapsed), "streams": streams,
        })
    }
}

impl Line {
    /// What kept the stream from going on.
    pub fn failure(&self) -> Option<&Error> {
        match &self.outcome.ended {
            StreamEnd::Parked(e) | StreamEnd::Failed(e) => Some(e),
            StreamEnd::Completed | StreamEnd::Stopped => None,
        }
    }
    fn to_json(&self) -> Value {
        let o = &self.outcome;
        let settled = o.stats.written + o.stats.duplicates + o.stats.rejected;
        json!({
            "stream": self.stream.to_string(), "mode": self.mode, "write": self.write, "rows_read": settled, "bytes_read": o.read_bytes,
            "written": o.stats.written, "duplicates": o.stats.duplicates, "rejected": o.stats.rejected,
            "uncommitted": o.read_rows.saturating_sub(settled), "generation": o.generation,
            "seconds": seconds(self.seconds), "rows_per_second": rate(o.read_rows, self.seconds), "status": end_word(&o.ended),
            "error": self.failure().map(Error::to_json),
        })
    }
}

/// The word for how a stream ended.
pub fn end_word(end: &StreamEnd) -> &'static str {
    match end {
        StreamEnd::Completed => "completed",
        StreamEnd::Stopped => "stopped",
        StreamEnd::Parked(_) => "parked",
        StreamEnd::Failed(_) => "failed",
    }
}

fn seconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1000.0).round() / 1000.0
}

pub fn mode_word(mode: ReadMode) -> &'static str {
    match mode {
        ReadMode::Full => "full",
        ReadMode::Incremental => "incremental",
        ReadMode::Cdc => "cdc",
    }
}

pub fn write_word(write: WriteMode) -> &'static str {
    match write {
        WriteMode::Append => "append",
        WriteMode::Replace => "replace",
        WriteMode::Merge => "merge",
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::WriteStats;

    use super::*;

    fn verdict(ends: Vec<StreamEnd>) -> Verdict {
        let outcome = |ended| StreamOutcome { read_rows: 10, read_bytes: 100, stats: WriteStats::default(), generation: 1, ended };
        let streams = ends.into_iter().enumerate().map(|(i, end)| (StreamName::new(None, &format!("s{i}")), outcome(end)));
        let outcome = Outcome { streams: streams.collect(), commits: 1 };
        Report::new("c", "r".into(), &[], outcome, &Tally::default(), Duration::from_secs(1)).verdict()
    }

    #[test]
    fn a_run_failed_only_when_every_stream_did() {
        let failed = || StreamEnd::Failed(Error::new(ErrorKind::StorageFull, "full"));
        assert_eq!(verdict(vec![StreamEnd::Completed]), Verdict::Completed);
        assert_eq!(verdict(vec![StreamEnd::Completed, failed()]), Verdict::Partial);
        assert_eq!(verdict(vec![failed(), failed()]), Verdict::Failed(ErrorKind::StorageFull));
        assert_eq!(verdict(vec![StreamEnd::Completed, StreamEnd::Stopped]), Verdict::Stopped);
    }
}
