//! P1 to P8 of the suites, and what a run promises beside them.

use std::{collections::BTreeMap, time::Duration};

use linkspan_core::{Cadence, Error, ErrorKind, Fault, ReadMode::*, Retry, Scope, State, Stopper, WriteMode::*, WriteStats};
use linkspan_engine::run::StreamEnd;
use linkspan_testkit::fakes::{
    Did, FakeDestination, ScriptLane, ScriptSource,
    Step::{self, *},
};
use serde_json::json;

use crate::rig::{Rig, assignment, failure, name, target};

fn appending(lanes: Vec<ScriptLane>) -> Rig {
    Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), vec![assignment("a", Incremental, Append)])
}
fn ten_slices() -> Vec<ScriptLane> {
    vec![ScriptLane::rows(&name("a"), 10, 10)]
}
fn range(until: i64) -> Vec<i64> {
    (0..until).collect()
}
fn state(n: i64) -> State {
    State::new(1, json!({ "n": n }))
}

#[tokio::test(start_paused = true)]
async fn a_clean_run_moves_every_row_once_and_a_second_run_moves_none() {
    let rig = appending(ten_slices());
    let outcome = rig.complete().await;
    let a = &outcome.streams[&name("a")];
    assert_eq!((a.read_rows, a.stats, a.generation), (100, WriteStats { written: 100, duplicates: 0, rejected: 0 }, 1));
    assert!(a.read_bytes > 0);
    let outcome = rig.complete().await;
    assert_eq!((outcome.streams[&name("a")].read_rows, outcome.commits), (0, 0));
    assert_eq!(rig.ids("a"), range(100));
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_failpoint_loses_and_repeats_nothing() {
    for write in [Append, Replace] {
        let read = if write == Replace { Full } else { Incremental };
        let probe = Rig::new(ScriptSource::new(ten_slices()), FakeDestination::atomic(), vec![assignment("a", read, write)]);
        probe.context.failpoints.record();
        probe.complete().await;
        let points = probe.context.failpoints.seen();
        assert!(points.iter().any(|(p, n)| *p == "pipe.commit.after" && *n == 10), "{points:?}");
        assert!(points.len() >= if write == Replace { 7 } else { 5 }, "{points:?}");
        for (point, times) in points {
            for nth in [1, times.div_ceil(2), times] {
                let rig = Rig::new(ScriptSource::new(ten_slices()), FakeDestination::atomic(), vec![assignment("a", read, write)]);
                rig.context.failpoints.arm(point, Fault::Error, nth);
                match rig.run().await {
                    Ok(outcome) => assert_eq!(failure(&outcome, "a").kind(), ErrorKind::Unavailable, "{point}@{nth}"),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable, "{point}@{nth}"),
                }
                rig.complete().await;
                assert_eq!(rig.ids("a"), range(100), "{point}@{nth} {write:?}");
                assert!(rig.to.staging().is_empty());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_atomic_commits_the_same_crash_repeats_but_never_loses() {
    let rig = Rig::new(ScriptSource::new(ten_slices()), FakeDestination::non_atomic(), vec![assignment("a", Incremental, Append)]);
    rig.context.failpoints.arm("pipe.commit.after", Fault::Error, 3);
    rig.run().await.unwrap();
    rig.complete().await;
    let mut ids = rig.ids("a");
    assert_eq!(ids.len(), 110);
    ids.dedup();
    assert_eq!(ids, range(100));
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_is_the_reported_cause_and_asks_for_another_try() {
    let rig = appending(ten_slices());
    rig.to.before_commit(|commit| {
        Box::pin(async move { if commit.number == 5 { Err(Error::new(ErrorKind::Unavailable, "the line is dead")) } else { Ok(()) } })
    });
    let outcome = rig.run().await.unwrap();
    let e = failure(&outcome, "a");
    assert_eq!((e.kind(), e.message(), e.retry_hint()), (ErrorKind::Unavailable, "the line is dead", Retry::Backoff));
    assert_eq!(rig.ids("a"), range(40));
    rig.to.clear_hook();
    rig.complete().await;
    assert_eq!(rig.ids("a"), range(100));
}

#[tokio::test(start_paused = true)]
async fn a_slow_destination_holds_the_source_back_and_the_source_hears_what_is_durable() {
    let rig = appending(vec![ScriptLane::rows(&name("a"), 50, 1)]);
    rig.to.slow(&name("a"), Duration::from_secs(1));
    let running = tokio::spawn(rig.run());
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert!(!running.is_finished(), "fifty rows at one a second");
    assert_eq!(rig.script.acknowledged().len(), 10);
    running.await.unwrap().unwrap();
    let acknowledged = rig.script.acknowledged();
    assert_eq!(acknowledged.len(), 51, "after every save, and once more at the end");
    assert_eq!(acknowledged.last().unwrap(), &BTreeMap::from([(Scope::Stream(name("a")), state(50))]));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_late_fails_and_keeps_what_was_committed() {
    let a = name("a");
    let rig = appending(vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Checkpoint(1), Fail(ErrorKind::AuthFailed)])]);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::AuthFailed);
    assert_eq!(rig.ids("a"), range(10));
    let rig = appending(vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Fail(ErrorKind::Unavailable)])]);
    rig.run().await.unwrap();
    assert!(rig.ids("a").is_empty(), "rows behind no checkpoint are not committed");
    rig.nothing_leaked();
}

#[tokio::test(start_paused = true)]
async fn rows_behind_the_last_checkpoint_of_a_complete_lane_are_a_mistake_of_the_source() {
    let a = name("a");
    let rig = appending(vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Checkpoint(1), Rows(a.clone(), 10..20)])]);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::DataInvalid);
    assert_eq!(rig.ids("a"), range(10));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_failure_of_its_own_streams() {
    let (a, b) = (name("a"), name("b"));
    let lanes = vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Panic]), ScriptLane::rows(&b, 3, 10)];
    let streams = vec![assignment("a", Full, Append), assignment("b", Full, Append)];
    let rig = Rig::new(ScriptSource::new(lanes.clone()), FakeDestination::atomic(), streams.clone());
    let outcome = rig.run().await.unwrap();
    let e = failure(&outcome, "a");
    assert_eq!((e.kind(), e.message()), (ErrorKind::Internal, "the source panicked"));
    assert_eq!(rig.ids("b"), range(30));
    let rig = Rig::new(ScriptSource::new(vec![ScriptLane::rows(&a, 1, 1), lanes[1].clone()]), FakeDestination::atomic(), streams);
    rig.to.before_commit(|c| Box::pin(async move { if c.scope.stream() == Some(&name("a")) { panic!("boom") } else { Ok(()) } }));
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").message(), "the destination panicked");
    assert!(matches!(outcome.streams[&b].ended, StreamEnd::Completed));
    rig.nothing_leaked();
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_has_an_empty_table() {
    let a = name("a");
    for (read, write) in [(Full, Replace), (Full, Append), (Incremental, Append), (Incremental, Merge)] {
        for steps in [vec![], vec![Checkpoint(1)]] {
            let lane = ScriptLane::of(&a, steps);
            let rig = Rig::new(ScriptSource::new(vec![lane]), FakeDestination::atomic(), vec![assignment("a", read, write)]);
            rig.complete().await;
            let table = rig.to.table(&target("a")).unwrap_or_else(|| panic!("{read:?} {write:?}"));
            assert_eq!((table.schema.fields().len(), rig.ids("a").len()), (5, 0));
            rig.complete().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replace_by_nothing_empties_the_table() {
    let a = name("a");
    let rig = Rig::new(ScriptSource::new(ten_slices()), FakeDestination::atomic(), vec![assignment("a", Full, Replace)]);
    rig.complete().await;
    rig.script.script(vec![ScriptLane::of(&a, vec![Checkpoint(1)])]);
    rig.complete().await;
    assert!(rig.ids("a").is_empty() && rig.to.staging().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_checkpoint_moves_the_position() {
    let a = name("a");
    let rig = appending(vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Checkpoint(1), Checkpoint(2), Checkpoint(3)])]);
    rig.complete().await;
    assert_eq!(rig.memory.remembered().scopes[&Scope::Stream(a)].state, state(3));
    assert_eq!(rig.complete().await.commits, 0, "a position that has not moved is not committed again");
}

#[tokio::test(start_paused = true)]
async fn a_timer_commits_what_waits_behind_a_checkpoint() {
    let a = name("a");
    let mut rig = appending(vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Checkpoint(1), Sleep(Duration::from_secs(3600))])]);
    rig.to.set_capability(|c| c.advice = Cadence { rows: 1_000, bytes: 1 << 20, age: Duration::from_secs(60) });
    rig.settings.latency = Some(Duration::from_secs(5));
    let started = tokio::time::Instant::now();
    rig.complete().await;
    let committed = rig.to.journal().into_iter().find(|(_, did)| matches!(did, Did::Committed(_))).unwrap().0;
    assert_eq!((committed - started).as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_stop_keeps_what_is_committed_and_the_next_run_goes_on_there() {
    let a = name("a");
    let endless = |pause| vec![ScriptLane::of(&a, vec![Endless(a.clone(), Duration::from_millis(pause))])];
    for (pause, advice) in [(1, Duration::ZERO), (10, Duration::ZERO), (10, Duration::from_secs(60))] {
        let rig = appending(endless(pause));
        rig.to.set_capability(|c| c.advice.age = advice);
        let (stopper, stop) = Stopper::new();
        let running = tokio::spawn(rig.run_until(stop));
        while rig.script.running() == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(777)).await;
        stopper.stop();
        let outcome = running.await.unwrap().unwrap();
        assert!(matches!(outcome.streams[&a].ended, StreamEnd::Stopped));
        rig.nothing_leaked();
        let ids = rig.ids("a");
        assert!(!ids.is_empty());
        let State { value, .. } = rig.memory.remembered().scopes[&Scope::Stream(a.clone())].state.clone();
        assert_eq!(value["n"].as_i64(), ids.last().copied(), "rows and position agree");
        assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_does_not_hear_the_stop_is_dropped_after_the_grace() {
    let (a, b) = (name("a"), name("b"));
    let lanes = vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Checkpoint(1), Hang]), ScriptLane::rows(&b, 1, 10)];
    let streams = vec![assignment("a", Full, Replace), assignment("b", Full, Replace)];
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
    let (stopper, stop) = Stopper::new();
    let running = tokio::spawn(rig.run_until(stop));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.ids("b"), range(10), "the other one is published meanwhile");
    let asked = tokio::time::Instant::now();
    stopper.stop();
    let outcome = running.await.unwrap().unwrap();
    assert_eq!(asked.elapsed().as_secs(), 5, "the grace, and not longer");
    assert!(matches!(outcome.streams[&a].ended, StreamEnd::Stopped));
    assert!(matches!(outcome.streams[&b].ended, StreamEnd::Completed));
    rig.nothing_leaked();
}

#[tokio::test(start_paused = true)]
async fn one_failing_stream_fails_no_other() {
    let broken: Vec<(Step, ErrorKind)> =
        vec![(Fail(ErrorKind::PermissionDenied), ErrorKind::PermissionDenied), (Panic, ErrorKind::Internal)];
    for (step, kind) in broken {
        let (a, b) = (name("a"), name("b"));
        let lanes = vec![ScriptLane::of(&a, vec![step]), ScriptLane::rows(&b, 5, 10)];
        let streams = vec![assignment("a", Full, Replace), assignment("b", Full, Replace)];
        let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
        let outcome = rig.run().await.unwrap();
        assert_eq!(failure(&outcome, "a").kind(), kind);
        assert_eq!((rig.ids("b"), rig.to.table(&target("a")).is_none()), (range(50), true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_sends_what_its_lane_does_not_cover_is_stopped() {
    let (a, b) = (name("a"), name("b"));
    let streams = vec![assignment("a", Full, Append), assignment("b", Full, Append)];
    let lanes = vec![ScriptLane::of(&a, vec![Rows(b.clone(), 0..10), Checkpoint(1)]), ScriptLane::rows(&b, 1, 10)];
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::DataInvalid);
    assert_eq!(rig.ids("b"), range(10));
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_moves_nothing() {
    let mut rig = appending(ten_slices());
    let (stopper, stop) = Stopper::new();
    stopper.stop();
    rig.destination = std::sync::Arc::new(Deaf(rig.to.clone()));
    let e = rig.run_until(stop).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Canceled);
    assert!(rig.ids("a").is_empty());
}

/// A destination that never answers.
struct Deaf(std::sync::Arc<FakeDestination>);

#[async_trait::async_trait]
impl linkspan_core::Destination for Deaf {
    fn capability(&self) -> linkspan_core::Capability {
        linkspan_core::Destination::capability(&*self.0)
    }
    async fn shape(&self, _: &linkspan_core::Target) -> linkspan_core::Result<Option<linkspan_core::TableShape>> {
        std::future::pending().await
    }
    async fn recall(&self, _: linkspan_core::ConnectionId) -> linkspan_core::Result<Option<linkspan_core::Recall>> {
        std::future::pending().await
    }
    async fn open(&self, _: linkspan_core::Load) -> linkspan_core::Result<Box<dyn linkspan_core::Session>> {
        std::future::pending().await
    }
    async fn publish(&self, _: &linkspan_core::Publish) -> linkspan_core::Result<()> {
        std::future::pending().await
    }
    async fn forget(&self, _: linkspan_core::ConnectionId) -> linkspan_core::Result<()> {
        std::future::pending().await
    }
}
