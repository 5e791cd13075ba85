//! The two memories of a run, and what happens when one of them is lost, stale or taken over.

use linkspan_core::{ConnectionId, ErrorKind, Memory, ReadMode::*, Scope, WriteMode::*};
use linkspan_engine::run::{Accept, StreamEnd};
use linkspan_testkit::fakes::{FakeDestination, ScriptLane, ScriptSource};

use crate::rig::{CONNECTION, Rig, assignment, failure, name, target};

fn slices(n: i64) -> Vec<ScriptLane> {
    vec![ScriptLane::rows(&name("a"), n, 10)]
}
fn rig(read: linkspan_core::ReadMode, write: linkspan_core::WriteMode) -> Rig {
    Rig::new(ScriptSource::new(slices(3)), FakeDestination::atomic(), vec![assignment("a", read, write)])
}
fn range(until: i64) -> Vec<i64> {
    (0..until).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_goes_on_from_the_destination_when_asked() {
    let mut rig = rig(Incremental, Append);
    rig.complete().await;
    rig.memory.wipe();
    rig.script.script(slices(5));
    let e = rig.run().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert!(e.suggested_fix().unwrap().contains("--adopt"));
    rig.settings.accept = Accept { adopt: true, replaced_target: false };
    rig.complete().await;
    assert_eq!(rig.ids("a"), range(50));
}

#[tokio::test(start_paused = true)]
async fn a_store_set_back_to_a_backup_goes_on_from_the_destination() {
    for (read, write) in [(Incremental, Append), (Full, Replace), (Full, Append)] {
        let rig = rig(read, write);
        let empty = rig.memory.backup();
        rig.complete().await;
        let first = rig.memory.backup();
        rig.script.script(slices(5));
        rig.complete().await;
        for backup in [first, empty] {
            let twice = rig.memory.remembered();
            rig.memory.restore(&backup);
            if rig.memory.remembered().known {
                rig.complete().await;
                assert!(rig.memory.remembered().generations[&name("a")].number >= twice.generations[&name("a")].number);
            }
        }
        if (read, write) != (Full, Append) {
            assert_eq!(rig.ids("a"), range(50), "{write:?}");
        }
    }
}

/// What was read then may not be what is there now, and a run promises the source as it is while it runs.
#[tokio::test(start_paused = true)]
async fn a_full_read_that_was_killed_before_its_publish_is_read_again() {
    let rig = rig(Full, Replace);
    rig.context.failpoints.arm("pipe.publish.before", linkspan_core::Fault::Error, 1);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::Unavailable);
    let outcome = rig.complete().await;
    assert_eq!((outcome.streams[&name("a")].read_rows, outcome.streams[&name("a")].generation), (30, 2), "the staged read was published");
    assert_eq!(rig.ids("a"), range(30));
}

/// What is new of a stream would be all that another target ever gets.
#[tokio::test(start_paused = true)]
async fn another_target_is_filled_from_the_start() {
    for (read, write) in [(Incremental, Append), (Incremental, Merge), (Full, Append), (Full, Replace)] {
        let mut rig = rig(read, write);
        rig.complete().await;
        rig.script.script(slices(5));
        rig.streams[0].target = target("b");
        rig.complete().await;
        assert_eq!(rig.ids("b"), range(50), "{read:?} {write:?}");
        assert_eq!(rig.ids("a"), range(30), "{read:?} {write:?}: what stands there stays");
        let outcome = rig.complete().await;
        assert_eq!(outcome.streams[&name("a")].read_rows, if read == Full { 50 } else { 0 }, "{read:?} {write:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_target_is_filled_again_only_when_accepted() {
    for (read, write) in [(Incremental, Append), (Full, Replace), (Incremental, Merge)] {
        let mut rig = rig(read, write);
        rig.complete().await;
        rig.to.wipe();
        let e = rig.run().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.suggested_fix().unwrap().contains("--accept"));
        rig.settings.accept = Accept { replaced_target: true, adopt: false };
        rig.complete().await;
        assert_eq!(rig.ids("a"), range(30));
        rig.settings.accept = Accept::default();
        rig.complete().await;
        assert_eq!(rig.ids("a"), range(30));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_stolen_between_commit_and_save_doubles_nothing() {
    let rig = rig(Incremental, Append);
    let memory = rig.memory.clone();
    rig.to.before_commit(move |commit| {
        let memory = memory.clone();
        Box::pin(async move {
            if commit.number == 2 {
                memory.steal();
            }
            Ok(())
        })
    });
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::Conflict);
    rig.to.clear_hook();
    rig.memory.give_back();
    rig.complete().await;
    assert_eq!(rig.ids("a"), range(30));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_reached_at_the_save_costs_one_try() {
    let rig = rig(Incremental, Append);
    let memory = rig.memory.clone();
    rig.to.before_commit(move |commit| {
        let memory = memory.clone();
        Box::pin(async move {
            if commit.number == 3 {
                memory.unavailable(1);
            }
            Ok(())
        })
    });
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::Unavailable);
    rig.complete().await;
    assert_eq!(rig.ids("a"), range(30));
}

/// An older run that was frozen and wakes up cannot commit; nor can one even begin.
#[tokio::test(start_paused = true)]
async fn a_stale_run_is_refused() {
    let rig = rig(Incremental, Append);
    rig.to.before_commit(|commit| {
        Box::pin(async move {
            if (commit.fence, commit.number) == (1, 2) {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    });
    let frozen = tokio::spawn(rig.run());
    while rig.to.commits().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.complete_beside().await;
    rig.to.clear_hook();
    frozen.abort();
    rig.fence.store(1, std::sync::atomic::Ordering::SeqCst);
    let e = rig.run().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert_eq!(rig.ids("a"), range(30));
}

#[tokio::test(start_paused = true)]
async fn two_runs_at_once_never_double_a_row() {
    let rig = rig(Incremental, Append);
    let (first, second) = tokio::join!(rig.run(), rig.run());
    let ended = |o: &linkspan_engine::run::Outcome| matches!(o.streams[&name("a")].ended, StreamEnd::Completed);
    assert!(ended(&first.unwrap()) || ended(&second.unwrap()) || rig.ids("a").len() < 30);
    rig.complete().await;
    assert_eq!(rig.ids("a"), range(30));
}

#[tokio::test(start_paused = true)]
async fn a_reset_after_the_destination_forgot_starts_from_nothing() {
    let rig = rig(Incremental, Merge);
    rig.complete().await;
    linkspan_core::Destination::forget(&*rig.to, CONNECTION).await.unwrap();
    rig.memory.wipe();
    rig.complete().await;
    assert_eq!(rig.ids("a"), range(30));
}

#[tokio::test(start_paused = true)]
async fn connections_do_not_see_each_others_positions() {
    let rig = rig(Incremental, Append);
    rig.complete().await;
    let other = linkspan_core::Destination::recall(&*rig.to, ConnectionId(uuid::Uuid::from_u128(8))).await.unwrap();
    assert_eq!(other, None);
    assert_eq!(rig.memory.load().await.unwrap().scopes.keys().collect::<Vec<_>>(), [&Scope::Stream(name("a"))]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_table_is_filled_from_the_start_and_not_with_the_news_only() {
    for (read, write) in [(Incremental, Append), (Incremental, Merge), (Full, Replace)] {
        let rig = rig(read, write);
        rig.complete().await;
        rig.to.drop_table(&crate::rig::target("a"));
        rig.complete().await;
        assert_eq!(rig.ids("a"), range(30), "{write:?}");
        assert_eq!(rig.memory.remembered().generations[&name("a")].number, 2);
        rig.script.script(slices(5));
        rig.complete().await;
        assert_eq!(rig.ids("a"), range(50), "{write:?}");
    }
}
