//! Conservation under fire: faults, delays and drops at every call, by seed, on paused time. Whatever happened before, a last calm
//! run leaves every id exactly once at an atomic destination, and at least once at one that keeps no record.

use std::{sync::Arc, time::Duration};

use linkspan_core::{Atomic, Cadence, ReadMode::*, Scope, Stopper, StreamName, WriteMode::*};
use linkspan_engine::run::{Accept, Assignment, StreamEnd};
use linkspan_testkit::{
    chaos::{Chaos, ChaosDestination, ChaosMemory, ChaosSource},
    fakes::{
        FakeDestination, ScriptLane, ScriptSource,
        Step::{Checkpoint, Rows, Sleep},
    },
    scale,
};

use crate::rig::{Rig, assignment, name, target};

/// A scenario's lanes and what its tables hold in the end.
struct Scenario {
    lanes: Vec<ScriptLane>,
    streams: Vec<Assignment>,
    expected: Vec<(StreamName, i64)>,
}

/// Rows `from..` in slices with checkpoints, with pauses so that faults and stops fall everywhere.
fn steps(stream: &StreamName, from: i64, slices: i64) -> Vec<linkspan_testkit::fakes::Step> {
    let slice = |i: i64| {
        let rows = Rows(stream.clone(), from + i * 3..from + (i + 1) * 3);
        [rows, Sleep(Duration::from_millis(7)), Checkpoint(i + 1), Sleep(Duration::from_millis(3))]
    };
    (0..slices).flat_map(slice).collect()
}

fn plain(chaos: &Chaos) -> Scenario {
    let (a, b) = (name("a"), name("b"));
    let (read, write) = match chaos.pick(4) {
        0 => (Full, Replace),
        1 => (Full, Append),
        2 => (Incremental, Append),
        _ => (Incremental, Merge),
    };
    let lanes = vec![ScriptLane::of(&a, steps(&a, 0, 10)), ScriptLane::of(&b, steps(&b, 0, 4))];
    let streams = vec![assignment("a", read, write), assignment("b", Full, Replace)];
    Scenario { lanes, streams, expected: vec![(a, 30), (b, 12)] }
}

fn parts(chaos: &Chaos) -> Scenario {
    let a = name("a");
    let write = if chaos.pick(2) == 0 { Replace } else { Append };
    let lanes = (0..6).map(|i| ScriptLane::part(&a, &i.to_string(), steps(&a, i * 9, 3))).collect();
    Scenario { lanes, streams: vec![assignment("a", Full, write)], expected: vec![(a, 54)] }
}

/// Snapshots in parts, then a log over both streams.
fn log_after_snapshot(chaos: &Chaos) -> Scenario {
    let (a, b) = (name("a"), name("b"));
    let write = if chaos.pick(2) == 0 { Merge } else { Append };
    let part = |stream: &StreamName, i: i64| ScriptLane::part(stream, &i.to_string(), steps(stream, i * 6, 2));
    let mut log = Vec::new();
    for i in 0..6 {
        log.extend([Rows(a.clone(), 12 + i..13 + i), Rows(b.clone(), 12 + i..13 + i), Checkpoint(i + 1), Sleep(Duration::from_millis(4))]);
    }
    let scopes = [&a, &b].into_iter().flat_map(|s| ["0", "1"].map(|p| Scope::Part(s.clone(), p.into()))).collect();
    let lanes = vec![ScriptLane::shared(&[a.clone(), b.clone()], log).after(scopes), part(&a, 0), part(&a, 1), part(&b, 0), part(&b, 1)];
    let streams = vec![assignment("a", Cdc, write), assignment("b", Cdc, write)];
    Scenario { lanes, streams, expected: vec![(a, 18), (b, 18)] }
}

fn scenario(chaos: &Chaos) -> Scenario {
    match chaos.pick(3) {
        0 => plain(chaos),
        1 => parts(chaos),
        _ => log_after_snapshot(chaos),
    }
}

fn rig(chaos: &Chaos, scenario: &Scenario, atomic: Atomic) -> Rig {
    let to = FakeDestination::with_failpoints(atomic, Default::default());
    if chaos.pick(2) == 0 {
        to.buffer_until_commit();
    }
    let advice = match chaos.pick(3) {
        0 => Cadence { rows: u64::MAX, bytes: u64::MAX, age: Duration::ZERO },
        1 => Cadence { rows: 7, bytes: u64::MAX, age: Duration::from_secs(60) },
        _ => Cadence { rows: u64::MAX, bytes: u64::MAX, age: Duration::from_millis(15) },
    };
    let parallel = chaos.pick(4) != 0;
    to.set_capability(|c| (c.advice, c.parallel) = (advice, parallel));
    let mut rig = Rig::new(ScriptSource::new(scenario.lanes.clone()), to, scenario.streams.clone());
    rig.settings.concurrency = 1 + chaos.pick(4) as usize;
    rig.settings.grace = Duration::from_millis(chaos.pick(40));
    rig.source = Arc::new(ChaosSource(rig.source.clone(), chaos.clone()));
    rig.destination = Arc::new(ChaosDestination(rig.destination.clone(), chaos.clone()));
    rig.remembers = Arc::new(ChaosMemory(rig.remembers.clone(), chaos.clone()));
    rig
}

/// One run under fire that ends by itself, by a stop, or by being dropped where it is (as a kill does).
async fn one_run(rig: &Rig, chaos: &Chaos) {
    let at = Duration::from_millis(chaos.pick(150));
    match chaos.pick(3) {
        0 => drop(rig.run().await),
        1 => {
            let (stopper, stop) = Stopper::new();
            let running = rig.run_until(stop);
            let stopping = async {
                tokio::time::sleep(at).await;
                stopper.stop();
            };
            drop(tokio::join!(running, stopping));
        }
        _ => drop(tokio::time::timeout(at, rig.run()).await),
    }
    // Tasks of a run that was dropped are aborted; they are gone when everything else had its turn.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn calm_run(rig: &Rig, chaos: &Chaos) {
    chaos.calm();
    let outcome = rig.run().await.unwrap_or_else(|e| panic!("seed {}: {e:?}", chaos.seed()));
    for (stream, o) in &outcome.streams {
        assert!(matches!(o.ended, StreamEnd::Completed), "seed {}: {stream} ended {:?}", chaos.seed(), o.ended);
    }
    rig.nothing_leaked();
}

fn check(rig: &Rig, scenario: &Scenario, chaos: &Chaos, exactly: bool) {
    for (stream, until) in &scenario.expected {
        let mut ids = rig.ids(&stream.to_string());
        if !exactly {
            ids.dedup();
        }
        assert_eq!(ids, (0..*until).collect::<Vec<_>>(), "seed {}: {stream}", chaos.seed());
    }
    assert!(rig.to.staging().is_empty(), "seed {}: staging {:?}", chaos.seed(), rig.to.staging());
}

/// A full append is repeated by every run that follows a complete one: these scenarios stop at the first complete run.
fn is_complete(rig: &Rig) -> bool {
    let kept = rig.memory.remembered();
    rig.streams.iter().all(|a| kept.generations.get(&a.selected.stream.name).is_some_and(|g| g.complete))
}

async fn conserves(seed: u64, atomic: Atomic) {
    let chaos = Chaos::new(seed, [0.01, 0.03, 0.1][(seed % 3) as usize]);
    let scenario = scenario(&chaos);
    let rig = rig(&chaos, &scenario, atomic);
    for _ in 0..=chaos.pick(4) {
        if completed_an_append(&rig) {
            break;
        }
        one_run(&rig, &chaos).await;
    }
    if completed_an_append(&rig) {
        // Another run would append it again, as asked. When the other stream is not done there is nothing to compare.
        if !is_complete(&rig) {
            return;
        }
    } else {
        calm_run(&rig, &chaos).await;
    }
    check(&rig, &scenario, &chaos, atomic != Atomic::None);
}

fn completed_an_append(rig: &Rig) -> bool {
    let kept = rig.memory.remembered();
    let appended = rig.streams.iter().filter(|a| (a.selected.read, a.write) == (Full, Append));
    appended.into_iter().any(|a| kept.generations.get(&a.selected.stream.name).is_some_and(|g| g.complete))
}

fn on_paused_time(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let limit = Duration::from_secs(24 * 3600);
        tokio::time::timeout(limit, work).await.expect("a run hangs");
    });
}

#[test]
fn faults_everywhere_double_and_lose_nothing_at_an_atomic_destination() {
    (0..scale().seeds).for_each(|seed| on_paused_time(conserves(seed, Atomic::Session)));
}

#[test]
fn faults_everywhere_lose_nothing_at_a_destination_without_records() {
    (0..scale().seeds).for_each(|seed| on_paused_time(conserves(seed, Atomic::None)));
}

/// Runs under fire; in between the store is lost, or either memory is set back to an earlier backup.
async fn conserves_over_losses(seed: u64) {
    let chaos = Chaos::new(seed, 0.02);
    let mut scenario = scenario(&chaos);
    for a in scenario.streams.iter_mut().filter(|a| (a.selected.read, a.write) == (Full, Append)) {
        // A full append repeats after every complete run, which a lost store cannot tell from an incomplete one.
        *a = assignment("a", Full, Replace);
    }
    let mut rig = rig(&chaos, &scenario, Atomic::Session);
    rig.settings.accept = Accept { adopt: true, replaced_target: true };
    // A scripted log does not come back in a new snapshot, as a real one's rows do.
    let logged = rig.streams.iter().any(|a| a.selected.read == Cdc);
    let (mut store, mut destination) = (rig.memory.backup(), rig.to.backup());
    for _ in 0..=chaos.pick(6) {
        one_run(&rig, &chaos).await;
        match chaos.pick(9) {
            0 => rig.memory.wipe(),
            1 => rig.memory.restore(&store),
            2 => rig.to.restore(&destination),
            3 => {
                // Backups from before a replacement are gone with it: to read everything again was accepted.
                rig.to.wipe();
                destination = rig.to.backup();
            }
            4 => store = rig.memory.backup(),
            5 => destination = rig.to.backup(),
            6 if !logged => {
                rig.to.drop_table(&target("a"));
                destination = rig.to.backup();
            }
            _ => {}
        }
    }
    calm_run(&rig, &chaos).await;
    check(&rig, &scenario, &chaos, true);
}

#[test]
fn lost_and_restored_memories_double_and_lose_nothing() {
    (0..scale().seeds).for_each(|seed| on_paused_time(conserves_over_losses(seed)));
}
