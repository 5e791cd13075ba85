//! How a finished run looks: the summary table, the errors of streams, and the exit code that follows.

use std::fmt::Write as _;

use linkspan_app::run::{Line, Report, Verdict, end_word, rate};
use linkspan_engine::run::{StreamEnd, StreamOutcome};
use serde_json::Value;

use crate::{
    errors::{self, Exit},
    terminal::{Paint, grouped, megabytes, table},
};

/// 0 when all is done, the kind's code when all failed alike, 9 when some went on without the others.
pub fn exit(report: &Report) -> Exit {
    match report.verdict() {
        Verdict::Completed => Exit::OK,
        Verdict::Stopped => Exit::INTERRUPTED,
        Verdict::Partial => Exit::PARTIAL,
        Verdict::Failed(kind) => Exit::of(kind),
    }
}

/// The line of a program's output that ends a run.
pub fn event(report: &Report) -> Value {
    let mut event = report.to_json();
    event["exit_code"] = exit(report).0.into();
    event
}

pub fn summary(report: &Report, paint: Paint) -> String {
    let headers = ["stream", "mode", "write", "rows read", "written", "duplicates", "rejected", "MB", "seconds", "rows/s", ""];
    let right = ["rows read", "written", "duplicates", "rejected", "MB", "seconds", "rows/s"];
    let mut rows: Vec<Vec<String>> = report.lines.iter().map(cells).collect();
    if report.lines.len() > 1 {
        rows.push(total(report));
    }
    table(&headers, &right, rows, paint)
}

fn total(report: &Report) -> Vec<String> {
    let sum = |of: fn(&StreamOutcome) -> u64| report.lines.iter().map(|l| of(&l.outcome)).sum::<u64>();
    let read = sum(|o| o.read_rows);
    let mut cells = vec!["all".to_owned(), String::new(), String::new()];
    cells.extend([read, sum(|o| o.stats.written), sum(|o| o.stats.duplicates), sum(|o| o.stats.rejected)].map(grouped));
    cells.extend([
        megabytes(sum(|o| o.read_bytes)),
        format!("{:.1}", report.elapsed.as_secs_f64()),
        grouped(rate(read, report.elapsed)),
        String::new(),
    ]);
    cells
}

/// What went wrong, stream by stream.
pub fn failures(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    for line in &report.lines {
        if let Some(error) = line.failure() {
            let word = if matches!(line.outcome.ended, StreamEnd::Parked(_)) { paint.warn("parked:") } else { paint.bad("error:") };
            let _ = writeln!(text, "{word} {}: {}", line.stream, error.message());
            errors::details(&mut text, error, paint, "  ");
        }
    }
    text
}

fn cells(line: &Line) -> Vec<String> {
    let o = &line.outcome;
    let mut cells = vec![line.stream.to_string(), line.mode.to_owned(), line.write.to_owned()];
    cells.extend([o.read_rows, o.stats.written, o.stats.duplicates, o.stats.rejected].map(grouped));
    cells.extend([megabytes(o.read_bytes), format!("{:.1}", line.seconds.as_secs_f64()), grouped(rate(o.read_rows, line.seconds))]);
    cells.push(if matches!(o.ended, StreamEnd::Completed) { String::new() } else { end_word(&o.ended).to_owned() });
    cells
}
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linkspan_app::run::Tally;
    use linkspan_core::{Error, ErrorKind, StreamName, WriteStats};
    use linkspan_engine::run::Outcome;

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
        assert_eq!(exit(&report(vec![StreamEnd::Completed])), Exit::OK);
        assert_eq!(exit(&report(vec![StreamEnd::Completed, failed()])), Exit::PARTIAL);
        assert_eq!(exit(&report(vec![failed(), failed()])), Exit::STORAGE_FULL);
        assert_eq!(exit(&report(vec![StreamEnd::Completed, StreamEnd::Stopped])), Exit::INTERRUPTED);
    }

    #[test]
    fn a_failed_stream_says_its_fix() {
        let text = failures(&report(vec![StreamEnd::Completed, failed()]), Paint::PLAIN);
        assert_eq!(text, "error: s1: full\n  fix: free space\n");
    }
}
