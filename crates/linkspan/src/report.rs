//! What a run did: the summary table, the errors of streams, and the exit code that follows.

use std::{fmt::Write as _, time::Duration};

use linkspan_core::{ErrorKind, StreamName};
use linkspan_engine::run::{Assignment, Outcome, StreamEnd, StreamOutcome};
use serde_json::{Value, json};

use crate::{
    errors::{self, Exit},
    progress::rate,
    tally::Tally,
    terminal::{Paint, grouped, megabytes, table},
};

/// One stream's line of the summary.
pub struct Line {
    pub stream: StreamName,
    mode: &'static str,
    write: &'static str,
    seconds: Duration,
    outcome: StreamOutcome,
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

    /// 0 when all is done, the kind's code when all failed alike, 9 when some went on without the others.
    pub fn exit(&self) -> Exit {
        let kinds: Vec<ErrorKind> = self.lines.iter().filter_map(|l| failure(&l.outcome.ended)).map(|e| e.kind()).collect();
        let stopped = self.lines.iter().any(|l| matches!(l.outcome.ended, StreamEnd::Stopped));
        match kinds.first() {
            None if stopped => Exit::INTERRUPTED,
            None => Exit::OK,
            Some(first) if kinds.len() == self.lines.len() => Exit::of(*first),
            Some(_) => Exit::PARTIAL,
        }
    }

    /// One word for the run.
    pub fn status(&self) -> &'static str {
        match self.exit() {
            Exit::OK => "completed",
            Exit::INTERRUPTED => "stopped",
            Exit::PARTIAL => "partial",
            _ => "failed",
        }
    }

    pub fn rejected(&self) -> u64 {
        self.lines.iter().map(|l| l.outcome.stats.rejected).sum()
    }

    /// The counts that are kept with the run.
    pub fn to_json(&self) -> Value {
        let streams: Vec<Value> = self.lines.iter().map(Line::to_json).collect();
        json!({
            "event": "summary", "connection": self.connection, "run": self.run, "status": self.status(),
            "seconds": seconds(self.elapsed), "streams": streams, "exit_code": self.exit().0,
        })
    }

    pub fn table(&self, paint: Paint) -> String {
        let headers = ["stream", "mode", "write", "rows read", "written", "duplicates", "rejected", "MB", "seconds", "rows/s", ""];
        let right = ["rows read", "written", "duplicates", "rejected", "MB", "seconds", "rows/s"];
        let mut rows: Vec<Vec<String>> = self.lines.iter().map(Line::cells).collect();
        if self.lines.len() > 1 {
            rows.push(self.total());
        }
        table(&headers, &right, rows, paint)
    }

    fn total(&self) -> Vec<String> {
        let sum = |of: fn(&StreamOutcome) -> u64| self.lines.iter().map(|l| of(&l.outcome)).sum::<u64>();
        let read = sum(|o| o.read_rows);
        let mut cells = vec!["all".to_owned(), String::new(), String::new()];
        cells.extend([read, sum(|o| o.stats.written), sum(|o| o.stats.duplicates), sum(|o| o.stats.rejected)].map(grouped));
        cells.extend([
            megabytes(sum(|o| o.read_bytes)),
            format!("{:.1}", self.elapsed.as_secs_f64()),
            grouped(rate(read, self.elapsed)),
            String::new(),
        ]);
        cells
    }

    /// What went wrong, stream by stream.
    pub fn failures(&self, paint: Paint) -> String {
        let mut text = String::new();
        for line in &self.lines {
            if let Some(error) = failure(&line.outcome.ended) {
                let word = if matches!(line.outcome.ended, StreamEnd::Parked(_)) { paint.warn("parked:") } else { paint.bad("error:") };
                let _ = writeln!(text, "{word} {}: {}", line.stream, error.message());
                errors::details(&mut text, error, paint, "  ");
            }
        }
        text
    }
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let o = &self.outcome;
        let mut cells = vec![self.stream.to_string(), self.mode.to_owned(), self.write.to_owned()];
        cells.extend([o.read_rows, o.stats.written, o.stats.duplicates, o.stats.rejected].map(grouped));
        cells.extend([megabytes(o.read_bytes), format!("{:.1}", self.seconds.as_secs_f64()), grouped(rate(o.read_rows, self.seconds))]);
        cells.push(if matches!(o.ended, StreamEnd::Completed) { String::new() } else { end_word(&o.ended).to_owned() });
        cells
    }
    fn to_json(&self) -> Value {
        let o = &self.outcome;
        json!({
            "stream": self.stream.to_string(), "mode": self.mode, "write": self.write, "rows_read": o.read_rows, "bytes_read": o.read_bytes,
            "written": o.stats.written, "duplicates": o.stats.duplicates, "rejected": o.stats.rejected, "generation": o.generation,
            "seconds": seconds(self.seconds), "rows_per_second": rate(o.read_rows, self.seconds), "status": end_word(&o.ended),
            "error": failure(&o.ended).map(linkspan_core::Error::to_json),
        })
    }
}

fn failure(end: &StreamEnd) -> Option<&linkspan_core::Error> {
    match end {
        StreamEnd::Parked(e) | StreamEnd::Failed(e) => Some(e),
        StreamEnd::Completed | StreamEnd::Stopped => None,
    }
}

fn end_word(end: &StreamEnd) -> &'static str {
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

pub fn mode_word(mode: linkspan_core::ReadMode) -> &'static str {
    match mode {
        linkspan_core::ReadMode::Full => "full",
        linkspan_core::ReadMode::Incremental => "incremental",
        linkspan_core::ReadMode::Cdc => "cdc",
    }
}

pub fn write_word(write: linkspan_core::WriteMode) -> &'static str {
    match write {
        linkspan_core::WriteMode::Append => "append",
        linkspan_core::WriteMode::Replace => "replace",
        linkspan_core::WriteMode::Merge => "merge",
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::{Error, WriteStats};

    use super::*;

    fn report(ends: Vec<StreamEnd>) -> Report {
        let outcome = |ended| StreamOutcome { read_rows: 10, read_bytes: 100, stats: WriteStats::default(), generation: 1, ended };
        let streams = ends.into_iter().enumerate().map(|(i, end)| (StreamName::new(None, &format!("s{i}")), outcome(end)));
        let outcome = Outcome { streams: streams.collect(), commits: 1 };
        Report::new("c", "r".into(), &[], outcome, &Tally::default(), Duration::from_secs(1))
    }
    fn failed() -> StreamEnd {
        StreamEnd::Failed(Error::new(ErrorKind::StorageFull, "full").fix("free space"))
    }

    #[test]
    fn exit_codes_tell_all_some_and_none_apart() {
        assert_eq!(report(vec![StreamEnd::Completed]).exit(), Exit::OK);
        assert_eq!(report(vec![StreamEnd::Completed, failed()]).exit(), Exit::PARTIAL);
        assert_eq!(report(vec![failed(), failed()]).exit(), Exit::STORAGE_FULL);
        assert_eq!(report(vec![StreamEnd::Completed, StreamEnd::Stopped]).exit(), Exit::INTERRUPTED);
    }

    #[test]
    fn a_failed_stream_says_its_fix() {
        let text = report(vec![StreamEnd::Completed, failed()]).failures(Paint::PLAIN);
        assert_eq!(text, "error: s1: full\n  fix: free space\n");
    }
}
