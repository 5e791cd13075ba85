//! What becomes of a run after an attempt: it is over, or it waits for the next one. Pure.

use std::time::Duration;

use linkspan_core::{Error, ErrorKind, Result, Retry};
use linkspan_store::{Attempt, RunResult, RunStatus};
use serde_json::{Value, json};

use super::stats::together;
use crate::{
    connections::RetryPolicy,
    desk::Why,
    run::{Report, Verdict},
};

#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Over(RunResult),
    Again { attempt: Attempt, after: Duration, stats: Value, error: Value },
}

impl Next {
    /// How the attempt ended and the kind of what it failed with, for those who count.
    pub(super) fn counted(&self) -> (&'static str, Option<&str>) {
        let (how, error) = match self {
            Self::Over(result) => (result.status.as_str(), result.error.as_ref()),
            Self::Again { error, .. } => ("requeued", Some(error)),
        };
        (how, error.and_then(|e| e["kind"].as_str()))
    }
}

/// Which attempt it was, and what the earlier ones did.
pub(super) struct SoFar<'a> {
    pub attempt: u32,
    pub max_attempts: u32,
    pub stats: Option<&'a Value>,
    pub policy: RetryPolicy,
    /// Spreads the waits of different runs.
    pub seed: u64,
}

pub(super) fn next(result: Result<Report>, why: Option<Why>, so_far: &SoFar<'_>) -> Next {
    let (now, error, verdict) = match &result {
        Ok(report) => (report.to_json(), report.failure(), Some(report.verdict())),
        Err(e) => (json!({}), Some(e), None),
    };
    let stats = together(so_far.stats, &now);
    // What was done when the word came is done.
    if verdict == Some(Verdict::Completed) {
        return Next::Over(RunResult { status: RunStatus::Completed, stats, error: None });
    }
    match why {
        Some(Why::Cancelled) => return Next::Over(RunResult { status: RunStatus::Cancelled, stats, error: None }),
        Some(Why::TimedOut(limit)) => return failed(stats, Some(&timed_out(limit))),
        Some(Why::Closing) => return Next::Again { attempt: Attempt::Same, after: Duration::ZERO, stats, error: interrupted().to_json() },
        None => {}
    }
    match error.and_then(|e| Some((e, wait(e, so_far)?))) {
        Some((error, after)) => Next::Again { attempt: Attempt::Next, after, stats, error: error.to_json() },
        None => failed(stats, error),
    }
}

fn failed(stats: Value, error: Option<&Error>) -> Next {
    Next::Over(RunResult { status: RunStatus::Failed, stats, error: error.map(Error::to_json) })
}

/// How long to wait before the next attempt, when one can help and is left.
fn wait(error: &Error, so_far: &SoFar<'_>) -> Option<Duration> {
    if so_far.attempt >= so_far.max_attempts {
        return None;
    }
    // The destination moved under the run, which still has its lease: a commit of a process that was cut off arrived late.
    let hint = if error.kind() == ErrorKind::Conflict { Retry::Backoff } else { error.retry_hint() };
    match hint {
        Retry::Never | Retry::Exhausted => None,
        Retry::After(at_least) => Some(at_least.max(so_far.policy.first)),
        Retry::Backoff => Some(backoff(so_far)),
    }
}

/// Doubled with each attempt up to the longest, and shortened by up to a quarter so that runs do not come back all at once.
fn backoff(so_far: &SoFar<'_>) -> Duration {
    let doubled = so_far.policy.first.saturating_mul(1 << (so_far.attempt - 1).min(20)).min(so_far.policy.longest);
    let quarter = u64::try_from(doubled.as_millis() / 4).unwrap_or(u64::MAX).saturating_add(1);
    doubled - Duration::from_millis(so_far.seed.wrapping_mul(u64::from(so_far.attempt) | 1) % quarter)
}

fn timed_out(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the run took longer than its connection allows and was stopped; what is committed stays")
        .with("timeout_seconds", limit.as_secs())
        .fix("run it again: it goes on from there; or raise `timeout` of the connection")
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Unavailable, "the process that ran it was stopped; the run goes on when there is one again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn so_far(attempt: u32) -> SoFar<'static> {
        SoFar { attempt, max_attempts: 5, stats: None, policy: RetryPolicy::default(), seed: 12_345 }
    }
    fn again(kind: ErrorKind, attempt: u32) -> Option<Duration> {
        match next(Err(Error::new(kind, "x")), None, &so_far(attempt)) {
            Next::Again { after, attempt: Attempt::Next, .. } => Some(after),
            Next::Over(RunResult { status: RunStatus::Failed, .. }) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_ever_later() {
        let waits: Vec<f64> = (1..5).map(|n| again(ErrorKind::Unavailable, n).unwrap().as_secs_f64()).collect();
        for (wait, doubled) in waits.iter().zip([10.0, 20.0, 40.0, 80.0]) {
            assert!(*wait <= doubled && *wait >= doubled * 0.74, "{waits:?}");
        }
        assert_eq!(again(ErrorKind::Unavailable, 5), None, "the attempts are used up");
        assert!(again(ErrorKind::Conflict, 1).is_some(), "the next attempt goes on from the destination's own record");
        for kind in [ErrorKind::AuthFailed, ErrorKind::ConfigInvalid, ErrorKind::SchemaDrift, ErrorKind::PositionLost] {
            assert_eq!(again(kind, 1), None, "{kind:?}");
        }
    }

    #[test]
    fn a_server_that_says_when_is_obeyed() {
        let e = Error::new(ErrorKind::RateLimited, "x").retry(Retry::After(Duration::from_secs(90)));
        let Next::Again { after, .. } = next(Err(e), None, &so_far(1)) else { panic!("it is tried again") };
        assert_eq!(after, Duration::from_secs(90));
    }

    #[test]
    fn the_reason_of_a_stop_decides() {
        let stopped = || Err(Error::new(ErrorKind::Canceled, "stopped"));
        let of = |why| next(stopped(), Some(why), &so_far(1));
        assert!(matches!(of(Why::Cancelled), Next::Over(RunResult { status: RunStatus::Cancelled, error: None, .. })));
        let Next::Over(late) = of(Why::TimedOut(Duration::from_secs(5))) else { panic!("a run that is too long is over") };
        assert_eq!((late.status, late.error.unwrap()["kind"].clone()), (RunStatus::Failed, json!("timeout")));
        assert!(matches!(of(Why::Closing), Next::Again { attempt: Attempt::Same, after: Duration::ZERO, .. }));
    }
}
