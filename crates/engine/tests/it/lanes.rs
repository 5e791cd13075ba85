//! Lanes: how many at once, what waits for what, what happens when a source lost its position.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use linkspan_core::{Error, ErrorKind, Lane, Position, ReadMode::*, Result, Scope, Selected, Source, Stream, WriteMode::*};
use linkspan_engine::run::StreamEnd;
use linkspan_testkit::fakes::{
    Did, FakeDestination, ScriptLane, ScriptSource,
    Step::{Checkpoint, Fail, Rows, Sleep},
};

use crate::rig::{Rig, assignment, failure, name};

fn part(stream: &str, part: i64, rows: i64) -> ScriptLane {
    let stream = name(stream);
    let steps = vec![Rows(stream.clone(), part * rows..(part + 1) * rows), Sleep(Duration::from_millis(10)), Checkpoint(1)];
    ScriptLane::part(&stream, &part.to_string(), steps)
}
fn scope(stream: &str, part: i64) -> Scope {
    Scope::Part(name(stream), part.to_string().into())
}
fn range(until: i64) -> Vec<i64> {
    (0..until).collect()
}

#[tokio::test(start_paused = true)]
async fn many_partitions_are_pulled_as_slots_become_free() {
    let lanes = (0..500).map(|i| part("a", i, 2)).collect();
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), vec![assignment("a", Full, Replace)]);
    let running = tokio::spawn(rig.run());
    let mut most = (0, 0);
    while !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let pulled_ahead = rig.script.started() - rig.to.commits().len();
        most = (most.0.max(rig.script.running()), most.1.max(pulled_ahead));
    }
    running.await.unwrap().unwrap();
    assert_eq!(rig.ids("a"), range(1000));
    assert_eq!(most.0, 4, "never more lanes at once than asked for");
    assert!(most.1 <= 9, "and none pulled long before its turn: {most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_for_one_session_at_a_time_gets_one_lane_at_a_time() {
    let mut lanes: Vec<ScriptLane> = (0..10).map(|i| part("a", i, 2)).collect();
    // The lane that waits comes first: it must not hold the only slot.
    lanes.insert(0, ScriptLane::shared(&[name("a")], vec![Rows(name("a"), 20..21), Checkpoint(1)]).after(vec![scope("a", 9)]));
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), vec![assignment("a", Full, Append)]);
    rig.to.set_capability(|c| c.parallel = false);
    let running = tokio::spawn(rig.run());
    while !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(rig.to.open_sessions() <= 1 && rig.script.running() <= 1);
    }
    running.await.unwrap().unwrap();
    assert_eq!(rig.ids("a"), range(21));
}

#[tokio::test(start_paused = true)]
async fn a_log_waits_for_its_snapshot() {
    let log = ScriptLane::shared(&[name("a"), name("b")], vec![Rows(name("a"), 100..101), Rows(name("b"), 100..101), Checkpoint(1)]);
    let mut lanes = vec![log.after(vec![scope("a", 0), scope("a", 1), scope("b", 0), scope("b", 7)])];
    lanes.extend([part("a", 0, 10), part("a", 1, 10), part("b", 0, 10)]);
    let streams = vec![assignment("a", Cdc, Merge), assignment("b", Cdc, Merge)];
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
    let outcome = rig.complete().await;
    let commits = rig.to.commits();
    assert_eq!(commits.last().unwrap().scope, Scope::Shared);
    assert_eq!((rig.ids("a").len(), rig.ids("b").len(), outcome.commits), (21, 11, 4));
}

#[tokio::test(start_paused = true)]
async fn a_log_does_not_start_after_half_a_snapshot() {
    let log = ScriptLane::shared(&[name("a"), name("b")], vec![Rows(name("b"), 100..101), Checkpoint(1)]);
    let lanes = |broken| {
        let a = if broken { ScriptLane::part(&name("a"), "0", vec![Fail(ErrorKind::Unavailable)]) } else { part("a", 0, 10) };
        vec![log.clone().after(vec![scope("a", 0), scope("b", 0)]), a, part("b", 0, 10)]
    };
    let streams = vec![assignment("a", Cdc, Merge), assignment("b", Cdc, Merge)];
    let rig = Rig::new(ScriptSource::new(lanes(true)), FakeDestination::atomic(), streams);
    let outcome = rig.run().await.unwrap();
    assert_eq!((failure(&outcome, "a").kind(), failure(&outcome, "b").kind()), (ErrorKind::Unavailable, ErrorKind::Unavailable));
    assert_eq!(rig.ids("b"), range(10));
    rig.script.script(lanes(false));
    rig.complete().await;
    assert_eq!((rig.ids("a").len(), rig.ids("b").len()), (10, 11));
}

/// One stream that can never be read does not hold back the log of the others. It starts anew when it is mended.
#[tokio::test(start_paused = true)]
async fn a_log_goes_on_without_a_stream_that_failed_for_good() {
    let log = ScriptLane::shared(&[name("a"), name("b")], vec![Rows(name("a"), 100..101), Rows(name("b"), 100..101), Checkpoint(1)]);
    let half = vec![Rows(name("a"), 0..5), Checkpoint(1), Fail(ErrorKind::PermissionDenied)];
    let lanes = vec![log.after(vec![scope("a", 0), scope("b", 0)]), ScriptLane::part(&name("a"), "0", half), part("b", 0, 10)];
    let streams = vec![assignment("a", Cdc, Merge), assignment("b", Cdc, Merge)];
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::PermissionDenied);
    assert!(matches!(outcome.streams[&name("b")].ended, StreamEnd::Completed));
    assert_eq!((rig.ids("a").len(), rig.ids("b").len()), (5, 11));
    let kept = rig.memory.remembered();
    assert_eq!((kept.generations[&name("a")].number, kept.generations[&name("b")].number), (2, 1));
    assert!(!kept.scopes.contains_key(&scope("a", 0)), "the log passed it by: it has to be read from its start");
}

#[tokio::test(start_paused = true)]
async fn lanes_that_wait_for_each_other_are_an_error_and_not_a_hang() {
    let lanes = vec![part("a", 0, 1).after(vec![scope("a", 1)]), part("a", 1, 1).after(vec![scope("a", 0)])];
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), vec![assignment("a", Full, Append)]);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::DataInvalid);
}

#[tokio::test(start_paused = true)]
async fn two_lanes_of_one_scope_are_refused() {
    let lanes = vec![part("a", 0, 10), part("a", 0, 10)];
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), vec![assignment("a", Full, Replace)]);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::DataInvalid);
    assert!(rig.ids("a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_starts_a_replace_or_a_merge_anew() {
    for (read, write) in [(Full, Replace), (Incremental, Merge)] {
        let lanes = |parts: i64, state: i64| -> Vec<ScriptLane> {
            let lane = |i: i64| {
                let rows = Rows(name("a"), i * 10..(i + 1) * 10);
                ScriptLane::part(&name("a"), &i.to_string(), vec![rows, Checkpoint(state), Sleep(Duration::from_secs(i as u64))])
            };
            (0..parts).map(lane).chain([ScriptLane::rows(&name("b"), 2, 10)]).collect()
        };
        let mut script = lanes(3, 1);
        script.push(ScriptLane::part(&name("a"), "broken", vec![Sleep(Duration::from_secs(9)), Fail(ErrorKind::Unavailable)]));
        let streams = vec![assignment("a", read, write), assignment("b", read, write)];
        let rig = Rig::new(ScriptSource::new(script), FakeDestination::atomic(), streams);
        rig.run().await.unwrap();
        assert_eq!(rig.memory.remembered().generations[&name("a")].number, 1);
        // The script has no checkpoint 1 any more: every part of `a` is lost, some while others run.
        rig.script.script(lanes(3, 5));
        let outcome = rig.complete().await;
        assert_eq!(outcome.streams[&name("a")].generation, 2, "{write:?}");
        assert_eq!(rig.ids("a"), range(30), "{write:?}");
        assert!(rig.to.staging().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_stops_an_append_and_says_what_to_do() {
    let a = name("a");
    let rig = Rig::new(
        ScriptSource::new(vec![ScriptLane::rows(&a, 1, 10)]),
        FakeDestination::atomic(),
        vec![assignment("a", Incremental, Append)],
    );
    rig.complete().await;
    rig.script.script(vec![ScriptLane::of(&a, vec![Rows(a.clone(), 0..10), Checkpoint(7)])]);
    let outcome = rig.run().await.unwrap();
    let e = failure(&outcome, "a");
    assert_eq!(e.kind(), ErrorKind::PositionLost);
    assert!(e.suggested_fix().unwrap().contains("reset"));
    assert_eq!(rig.ids("a"), range(10), "nothing was appended twice");
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_shared_lane_opens_once_for_all_its_streams() {
    let streams = vec![assignment("a", Cdc, Append), assignment("b", Cdc, Append)];
    let steps = vec![Rows(name("a"), 0..10), Checkpoint(1), Rows(name("b"), 0..10), Checkpoint(2)];
    let rig = Rig::new(ScriptSource::new(vec![ScriptLane::shared(&[name("a"), name("b")], steps)]), FakeDestination::atomic(), streams);
    rig.complete().await;
    let opened: Vec<usize> = rig
        .to
        .journal()
        .into_iter()
        .filter_map(|(_, did)| if let Did::Opened(load) = did { Some(load.streams.len()) } else { None })
        .collect();
    assert_eq!(opened, [2]);
}

/// A source whose log is gone: it cannot serve a shared position. Without any it starts anew.
struct LostLog(Arc<ScriptSource>);

#[async_trait]
impl Source for LostLog {
    async fn discover(&self) -> Result<Vec<Stream>> {
        self.0.discover().await
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        if from.contains_key(&Scope::Shared) {
            let lost = Error::new(ErrorKind::PositionLost, "the slot is gone");
            return stream::once(async { Err(lost) }).boxed();
        }
        self.0.clone().lanes(selected, from)
    }
}

fn snapshot_and_log() -> Vec<ScriptLane> {
    let steps = vec![Rows(name("a"), 10..11), Rows(name("b"), 10..11), Checkpoint(1)];
    let log = ScriptLane::shared(&[name("a"), name("b")], steps).after(vec![scope("a", 0), scope("b", 0)]);
    vec![part("a", 0, 10), part("b", 0, 10), log]
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_is_read_anew_where_rows_fold_and_stops_where_they_would_double() {
    for write in [Merge, Append] {
        let streams = vec![assignment("a", Cdc, write), assignment("b", Cdc, write)];
        let mut rig = Rig::new(ScriptSource::new(snapshot_and_log()), FakeDestination::atomic(), streams);
        rig.complete().await;
        rig.source = Arc::new(LostLog(rig.script.clone()));
        if write == Merge {
            let outcome = rig.complete().await;
            assert_eq!(outcome.streams[&name("a")].generation, 2);
            assert_eq!(rig.to.commits().last().map(|c| (c.scope.clone(), c.generation, c.previous)), Some((Scope::Shared, 2, 0)));
        } else {
            let outcome = rig.run().await.unwrap();
            let e = failure(&outcome, "a");
            assert_eq!(e.kind(), ErrorKind::PositionLost);
            assert!(e.suggested_fix().unwrap().contains("reset"));
        }
        assert_eq!((rig.ids("a"), rig.ids("b")), (range(11), range(11)), "{write:?}");
    }
}

/// Panics before it yields anything, or fails in the middle of its list of lanes.
struct Broken(Option<Arc<ScriptSource>>);

#[async_trait]
impl Source for Broken {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(vec![])
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let Some(script) = self.0.clone() else { panic!("boom") };
        let broken = Error::new(ErrorKind::Unavailable, "the catalog cannot be read");
        script.lanes(selected, from).chain(stream::once(async { Err(broken) })).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_while_it_lists_its_lanes_publishes_nothing_and_keeps_what_is_read() {
    let script = ScriptSource::new(vec![part("a", 0, 10), ScriptLane::rows(&name("b"), 1, 10)]);
    let streams = vec![assignment("a", Full, Replace), assignment("b", Full, Append)];
    let mut rig = Rig::new(script.clone(), FakeDestination::atomic(), streams);
    rig.source = Arc::new(Broken(None));
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").message(), "the source panicked");
    rig.source = Arc::new(Broken(Some(script.clone())));
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::Unavailable);
    assert!(rig.ids("a").is_empty(), "nobody knows whether that was all");
    rig.source = script;
    let outcome = rig.complete().await;
    assert_eq!((rig.ids("a"), rig.ids("b")), (range(10), range(10)));
    assert_eq!(outcome.streams[&name("a")].read_rows, 10, "what an earlier run staged is not shown as what is there now");
}

#[tokio::test(start_paused = true)]
async fn many_streams_are_published_a_few_at_a_time() {
    let names: Vec<String> = (0..100).map(|i| format!("t{i}")).collect();
    let lanes = names.iter().map(|n| ScriptLane::rows(&name(n), 1, 3)).collect();
    let streams = names.iter().map(|n| assignment(n, Full, Replace)).collect();
    let rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
    rig.complete().await;
    rig.complete().await;
    assert!(names.iter().all(|n| rig.ids(n) == range(3)));
}
