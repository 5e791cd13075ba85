//! Rows and position are one step, whatever happens in between.

use linkspan_core::*;

use crate::world::*;

/// Every step of a run that crosses durability.
async fn points(world: &World, stream: &LoadStream) -> Vec<(&'static str, u64)> {
    let failpoints = Failpoints::default();
    failpoints.record();
    run(world, stream, 3, &failpoints).await.unwrap();
    failpoints.seen()
}

async fn every_crash_loses_and_repeats_nothing(make: fn() -> Option<World>, stream: LoadStream) {
    let Some(first) = make() else { return };
    let points = points(&first, &stream).await;
    assert!(points.iter().any(|(name, _)| *name == "parquet.log.after"), "{points:?}");
    for (point, times) in points {
        for nth in 1..=times {
            let Some(world) = make() else { return };
            let failpoints = Failpoints::default();
            failpoints.arm(point, Fault::Error, nth);
            run(&world, &stream, 3, &failpoints).await.unwrap_err();
            run(&world, &stream, 3, &Failpoints::default()).await.unwrap_or_else(|e| panic!("after {point}@{nth}: {e:?}"));
            assert_eq!(world.ids(&stream.stream).await, (0..30).collect::<Vec<_>>(), "after {point}@{nth}");
            if world.folder.is_some() {
                let left: Vec<_> = files_below(&world.root()).into_iter().filter(|f| f.contains("_linkspan/tmp")).collect();
                assert!(left.is_empty(), "after {point}@{nth}: {left:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_an_append_loses_and_repeats_nothing() {
    every_crash_loses_and_repeats_nothing(|| Some(World::local()), append("public.t")).await;
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_replace_loses_and_repeats_nothing() {
    every_crash_loses_and_repeats_nothing(|| Some(World::local()), replace("public.t", 1)).await;
}

#[tokio::test]
async fn a_crash_at_any_step_of_an_append_on_s3_loses_and_repeats_nothing() {
    every_crash_loses_and_repeats_nothing(World::s3, append("public.t")).await;
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_replace_on_s3_loses_and_repeats_nothing() {
    every_crash_loses_and_repeats_nothing(World::s3, replace("public.t", 1)).await;
}

#[tokio::test]
async fn nothing_is_visible_before_its_commit() {
    for world in World::all() {
        let stream = append("public.t");
        let destination = world.destination();
        let scope = Scope::Stream(stream.stream.clone());
        let mut session = destination.open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
        session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
        session.write(batch(&stream.stream, rows(0..1000))).await.unwrap();
        assert!(world.ids(&stream.stream).await.is_empty());
        session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
        assert_eq!(world.ids(&stream.stream).await.len(), 1000);
        // A session that is dropped leaves nothing.
        session.write(batch(&stream.stream, rows(1000..2000))).await.unwrap();
        drop(session);
        assert_eq!(world.ids(&stream.stream).await.len(), 1000);
    }
}

#[tokio::test]
async fn what_was_committed_is_recalled_by_another_process() {
    for world in World::all() {
        let stream = append("public.t");
        assert_eq!(world.destination().recall(world.connection).await.unwrap(), None);
        run(&world, &stream, 4, &Failpoints::default()).await.unwrap();
        let recall = world.destination().recall(world.connection).await.unwrap().unwrap();
        let stands = &recall.scopes[&Scope::Stream(stream.stream.clone())];
        assert_eq!((recall.fence, stands.generation, stands.number), (1, 1, 4));
        assert_eq!(stands.state, State::new(1, serde_json::json!({"n": 4})));
    }
}

#[tokio::test]
async fn a_commit_on_another_number_is_refused_and_changes_nothing() {
    for world in World::all() {
        let stream = append("public.t");
        let scope = Scope::Stream(stream.stream.clone());
        run(&world, &stream, 2, &Failpoints::default()).await.unwrap();
        for previous in [0, 1, 3] {
            let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
            session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
            session.write(batch(&stream.stream, rows(500..510))).await.unwrap();
            let e = session.commit(&world.commit(1, &scope, 1, previous)).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Conflict);
            assert!(session.commit(&world.commit(1, &scope, 1, 2)).await.is_err(), "a session that failed commits nothing");
        }
        assert_eq!(world.ids(&stream.stream).await.len(), 20);
    }
}

#[tokio::test]
async fn a_run_that_was_overtaken_cannot_commit() {
    for world in World::all() {
        let stream = append("public.t");
        let scope = Scope::Stream(stream.stream.clone());
        let mut old = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
        old.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
        old.write(batch(&stream.stream, rows(0..10))).await.unwrap();
        let _new = world.destination().open(world.load(2, scope.clone(), stream.clone())).await.unwrap();
        assert_eq!(old.commit(&world.commit(1, &scope, 1, 0)).await.unwrap_err().kind(), ErrorKind::Conflict);
        let e = world.destination().open(world.load(1, scope, stream.clone())).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(world.ids(&stream.stream).await.is_empty());
    }
}

#[tokio::test]
async fn lanes_that_commit_at_once_all_count() {
    for world in World::all() {
        let stream = append("public.t");
        // Two destinations are two processes: they know of each other by the log alone. The S3 server of the tests looks whether a
        // name is free and then writes, in two steps, so there one process must do.
        let first = world.destination();
        let processes = [first.clone(), if world.folder.is_some() { world.destination() } else { first }];
        let lanes = (0..6).map(|lane| {
            let (destination, stream, world) = (processes[lane % 2].clone(), stream.clone(), &world);
            async move {
                let scope = Scope::Part(stream.stream.clone(), format!("{lane}/6").into());
                let mut session = destination.open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
                session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
                for n in 0..5 {
                    let first = lane as i64 * 1000 + n as i64 * 10;
                    session.write(batch(&stream.stream, rows(first..first + 10))).await.unwrap();
                    session.commit(&world.commit(1, &scope, 1, n)).await.unwrap();
                }
            }
        });
        futures::future::join_all(lanes).await;
        assert_eq!(world.ids(&stream.stream).await.len(), 300);
        let recall = world.destination().recall(world.connection).await.unwrap().unwrap();
        assert_eq!(recall.scopes.values().map(|r| r.number).collect::<Vec<_>>(), [5; 6]);
    }
}

#[tokio::test]
async fn of_two_runs_that_commit_the_same_number_one_is_refused() {
    for world in World::all() {
        let stream = append("public.t");
        let scope = Scope::Stream(stream.stream.clone());
        let one = world.destination();
        let racers = (0..4).map(|i| {
            let (stream, scope, world) = (stream.clone(), scope.clone(), &world);
            let destination = if world.folder.is_some() { world.destination() } else { one.clone() };
            async move {
                let mut session = destination.open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
                session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
                session.write(batch(&stream.stream, rows(i * 10..i * 10 + 10))).await.unwrap();
                session.commit(&world.commit(1, &scope, 1, 0)).await
            }
        });
        let results = futures::future::join_all(racers).await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 3));
        assert!(lost.into_iter().all(|e| e.unwrap_err().kind() == ErrorKind::Conflict));
        assert_eq!(world.ids(&stream.stream).await.len(), 10);
    }
}

#[tokio::test]
async fn a_replace_shows_the_old_rows_until_it_is_complete() {
    for world in World::all() {
        run(&world, &replace("public.t", 1), 2, &Failpoints::default()).await.unwrap();
        let next = replace("public.t", 2);
        let scope = Scope::Stream(next.stream.clone());
        let fence = world.next_fence();
        let destination = world.destination();
        let mut session = destination.open(world.load(fence, scope.clone(), next.clone())).await.unwrap();
        session.schema(&next.stream, &SchemaPlan::as_is(schema())).await.unwrap();
        session.write(batch(&next.stream, rows(100..105))).await.unwrap();
        session.commit(&world.commit(fence, &scope, 2, 0)).await.unwrap();
        assert_eq!(world.ids(&next.stream).await, (0..20).collect::<Vec<_>>());
        // The run dies; the next one goes on in the same generation, in another process.
        drop((session, destination));
        let fence = world.next_fence();
        let destination = world.destination();
        assert_eq!(destination.recall(world.connection).await.unwrap().unwrap().scopes[&scope].number, 1);
        let mut session = destination.open(world.load(fence, scope.clone(), next.clone())).await.unwrap();
        session.schema(&next.stream, &SchemaPlan::as_is(schema())).await.unwrap();
        session.write(batch(&next.stream, rows(105..110))).await.unwrap();
        session.commit(&world.commit(fence, &scope, 2, 1)).await.unwrap();
        destination.publish(&world.publish(fence, &next)).await.unwrap();
        assert_eq!(world.ids(&next.stream).await, (100..110).collect::<Vec<_>>());
        destination.publish(&world.publish(fence, &next)).await.unwrap();
        assert_eq!(world.ids(&next.stream).await.len(), 10, "publishing twice is publishing once");
        assert_eq!(destination.recall(world.connection).await.unwrap().unwrap().published[&next.stream], 2);
    }
}

#[tokio::test]
async fn staging_of_an_older_generation_is_dropped() {
    let world = World::local();
    let old = replace("public.t", 1);
    let scope = Scope::Stream(old.stream.clone());
    let mut session = world.destination().open(world.load(1, scope.clone(), old.clone())).await.unwrap();
    session.schema(&old.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    session.write(batch(&old.stream, rows(0..10))).await.unwrap();
    session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
    drop(session);
    let staged = |w: &World| files_below(&w.root()).into_iter().filter(|f| f.ends_with(".part")).count();
    assert_eq!(staged(&world), 1);
    let new = replace("public.t", 2);
    let _session = world.destination().open(world.load(2, scope, new)).await.unwrap();
    assert_eq!(staged(&world), 0);
}

#[tokio::test]
async fn a_truncate_takes_effect_with_its_commit() {
    for world in World::all() {
        let stream = append("public.t");
        let scope = Scope::Stream(stream.stream.clone());
        run(&world, &stream, 2, &Failpoints::default()).await.unwrap();
        let mut session = world.destination().open(world.load(2, scope.clone(), stream.clone())).await.unwrap();
        session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
        session.write(batch(&stream.stream, rows(50..60))).await.unwrap();
        session.truncate(&stream.stream).await.unwrap();
        session.write(batch(&stream.stream, rows(60..70))).await.unwrap();
        assert_eq!(world.ids(&stream.stream).await.len(), 20);
        session.commit(&world.commit(2, &scope, 1, 2)).await.unwrap();
        assert_eq!(world.ids(&stream.stream).await, (60..70).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn hundreds_of_commits_leave_a_short_log_that_replays_right() {
    let world = World::local();
    let stream = append("public.t");
    let scope = Scope::Stream(stream.stream.clone());
    let sleeper = world.destination();
    let mut asleep = sleeper.open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    asleep.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    asleep.write(batch(&stream.stream, rows(0..1))).await.unwrap();
    let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    for n in 0..320 {
        if n % 40 == 0 {
            session.write(batch(&stream.stream, rows(n..n + 1))).await.unwrap();
        }
        let n = u64::try_from(n).unwrap();
        session.commit(&world.commit(1, &scope, 1, n)).await.unwrap();
    }
    let log = files_below(&world.root().join("_linkspan/log"));
    assert!(log.len() < 250, "{} files", log.len());
    let recall = world.destination().recall(world.connection).await.unwrap().unwrap();
    assert_eq!(recall.scopes[&scope].number, 320);
    // One that slept all the while finds its number free again, since it was pruned, and must not commit.
    assert_eq!(asleep.commit(&world.commit(1, &scope, 1, 0)).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.ids(&stream.stream).await.len(), 8);
    assert_eq!(world.destination().recall(world.connection).await.unwrap().unwrap().scopes[&scope].number, 320);
}

#[tokio::test]
async fn what_is_forgotten_starts_anew_and_the_rows_stay() {
    for world in World::all() {
        let stream = append("public.t");
        run(&world, &stream, 2, &Failpoints::default()).await.unwrap();
        world.destination().forget(world.connection).await.unwrap();
        let recall = world.destination().recall(world.connection).await.unwrap().unwrap();
        assert!(recall.scopes.is_empty());
        run(&world, &LoadStream { generation: 2, ..stream.clone() }, 1, &Failpoints::default()).await.unwrap();
        assert_eq!(world.ids(&stream.stream).await.len(), 30);
    }
}

#[tokio::test]
async fn one_commit_carries_all_streams_of_a_lane() {
    for world in World::all() {
        let streams = ["public.a", "public.b", "other.c"].map(append);
        let load = Load { connection: world.connection, fence: 1, scope: Scope::Shared, previous: 0, streams: streams.to_vec() };
        let failpoints = Failpoints::default();
        // The first file has its name, the others not yet.
        failpoints.arm("parquet.rename.mid", Fault::Error, 1);
        let mut session = world.destination_with(&failpoints).open(load).await.unwrap();
        for stream in &streams {
            session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
            session.write(batch(&stream.stream, rows(0..10))).await.unwrap();
        }
        session.commit(&world.commit(1, &Scope::Shared, 1, 0)).await.unwrap_err();
        let recall = world.destination().recall(world.connection).await.unwrap().unwrap();
        assert_eq!(recall.scopes[&Scope::Shared].number, 1);
        for stream in &streams {
            assert_eq!(world.ids(&stream.stream).await.len(), 10);
        }
    }
}
