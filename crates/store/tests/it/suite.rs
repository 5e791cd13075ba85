//! The laws of a store (suite K), told once for every driver and every way to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow_schema::{DataType, Field, Schema};
use futures::future::join_all;
use linkspan_core::{Commit, ErrorKind, Generation, Recalled, Scope, State, Target};
use linkspan_store::{
    LeaseKey, NewConnection, Options, Reply, Request, ResetOf, RunFilter, RunId, RunLogRecord, RunResult, RunStatus, schema_text,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::desk::{Desk, claimed, commit, named, scope, stream, succeeded, sync};

pub async fn connections_are_found_by_name_or_id_and_made_once(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let made = store.connection(named("x")).await.unwrap();
    assert_eq!(store.connection(named("x")).await.unwrap(), made);
    let moved = store.connection(NewConnection { to: "c:".into(), ..named("x") }).await.unwrap();
    assert_eq!((moved.id, moved.to.as_str()), (made.id, "c:"));
    let renamed = store.connection(NewConnection { id: Some(made.id.0), ..named("y") }).await.unwrap();
    assert_eq!((renamed.id, renamed.name.as_str()), (made.id, "y"));
    assert_eq!(store.find("x").await.unwrap(), None);
    assert_eq!(store.find("y").await.unwrap(), Some(renamed));
    let id = Uuid::now_v7();
    let own = store.connection(NewConnection { id: Some(id), ..named("z") }).await.unwrap();
    assert_eq!(own.id.0, id);
    let taken = store.connection(NewConnection { id: Some(Uuid::now_v7()), ..named("z") }).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    let nameless = store.connection(named(" ")).await.unwrap_err();
    assert_eq!(nameless.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(store.connections().await.unwrap().into_iter().map(|c| c.name).collect::<Vec<_>>(), ["y", "z"]);
}

pub async fn fifty_makers_of_one_name_get_one_connection(desk: &Desk) {
    let seat = desk.open().await;
    let made = join_all((0..50).map(|_| seat.store.connection(named("one")))).await;
    let first = made[0].as_ref().unwrap().id;
    assert!(made.iter().all(|m| m.as_ref().unwrap().id == first));
    assert_eq!(seat.store.connections().await.unwrap().len(), 1);
}

pub async fn pages_stay_whole_while_rows_arrive(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let connection = store.connection(named("c05")).await.unwrap();
    let run_one = async || {
        let claim = store.claim(connection.id, sync()).await.unwrap();
        let id = claim.run_id();
        claim.finish(succeeded()).await.unwrap();
        id
    };
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(run_one().await);
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let filter =
            RunFilter { connection: Some(connection.id), before, limit: Some(2), status: Some(RunStatus::Completed), project: None };
        let page = store.runs(filter).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        seen.extend(page.iter().map(|r| r.id));
        run_one().await;
    }
    seen.reverse();
    assert_eq!(seen, made, "newest first, each once, none that came later");
    assert!(store.runs(RunFilter { status: Some(RunStatus::Failed), ..RunFilter::default() }).await.unwrap().is_empty());

    for name in ["c01", "c03", "c07"] {
        store.connection(named(name)).await.unwrap();
    }
    let page = store.connections_after(None, 2).await.unwrap();
    store.connection(named("c00")).await.unwrap();
    let rest = store.connections_after(Some(&page[1].name), 10).await.unwrap();
    let names: Vec<_> = page.iter().chain(&rest).map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["c01", "c03", "c05", "c07"]);
}

pub async fn a_request_that_fails_leaves_nothing_of_itself(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    memory.save(&[commit(&claim, scope("b"), 1, 5, 5)]).await.unwrap();
    let half = [commit(&claim, scope("a"), 1, 1, 1), commit(&claim, scope("b"), 1, 4, 4)];
    assert_eq!(memory.save(&half).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(memory.load().await.unwrap().scopes.keys().cloned().collect::<Vec<_>>(), [scope("b")]);
    assert!(seat.store.claim(connection.id, sync()).await.is_err());
    assert_eq!(seat.store.runs(RunFilter::default()).await.unwrap().len(), 1, "a refused claim makes no run");
}

pub async fn one_of_fifty_claims_wins_and_the_next_has_a_larger_fence(desk: &Desk) {
    let seat = desk.open().await;
    let connection = seat.store.connection(named("x")).await.unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let workers = (0..50).map(|_| {
            let store = seat.store.clone();
            tokio::spawn(async move { store.claim(connection.id, sync()).await })
        });
        let claims: Vec<_> = join_all(workers).await.into_iter().map(|c| c.unwrap()).collect();
        assert!(claims.iter().filter_map(|c| c.as_ref().err()).all(|e| e.kind() == ErrorKind::Conflict));
        let mut won: Vec<_> = claims.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1);
        let claim = won.remove(0);
        assert!(claim.fence() > last);
        last = claim.fence();
        claim.finish(succeeded()).await.unwrap();
    }
}

pub async fn a_refused_claim_says_who_holds_it(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "orders").await;
    let e = seat.store.claim(connection.id, sync()).await.err().unwrap();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Conflict, "a run of this connection is already going"));
    let said = |key: &str| e.context().iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()).unwrap();
    assert_eq!((said("connection"), said("run")), ("orders".into(), claim.run_id().to_string()));
    assert!(said("holder").contains(&std::process::id().to_string()));
    assert!(said("started").starts_with("20"));
    assert!(e.suggested_fix().unwrap().contains("wait"));
    let unknown = linkspan_core::ConnectionId(Uuid::now_v7());
    assert_eq!(seat.store.claim(unknown, sync()).await.err().unwrap().kind(), ErrorKind::NotFound);
}

pub async fn a_lease_runs_out_by_the_stores_clock_and_the_stale_run_saves_nothing(desk: &Desk) {
    // The first renewal would come after ten minutes: as if the holder were frozen.
    let seat = desk.open_with(Options { lease: Duration::from_secs(3600), ..Options::default() }).await;
    let (connection, stale) = claimed(&seat.store, "x").await;
    seat.clock.forward(Duration::from_secs(3000));
    assert!(seat.store.claim(connection.id, sync()).await.is_err());
    seat.clock.forward(Duration::from_secs(601));
    let next = seat.store.claim(connection.id, sync()).await.unwrap();
    assert!(next.fence() > stale.fence());
    for refused in [
        stale.memory().save(&[commit(&stale, scope("a"), 1, 1, 1)]).await.err(),
        stale.memory().draw_generation(&stream("a")).await.err(),
        stale.memory().adopt(&BTreeMap::new(), &BTreeMap::new()).await.err(),
    ] {
        assert_eq!(refused.unwrap().kind(), ErrorKind::Conflict);
    }
    stale.lost().wait().await;
    let dead = seat.store.run(stale.run_id()).await.unwrap();
    assert_eq!((dead.status, dead.error.unwrap()["kind"].clone()), (RunStatus::Failed, json!("unavailable")));
    assert_eq!(stale.finish(succeeded()).await.unwrap_err().kind(), ErrorKind::Conflict);
    next.memory().save(&[commit(&next, scope("a"), 1, 1, 1)]).await.unwrap();
    next.finish(succeeded()).await.unwrap();
}

pub async fn a_lease_that_is_renewed_does_not_run_out(desk: &Desk) {
    let seat = desk.open_with(Options { lease: Duration::from_secs(3), ..Options::default() }).await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    // Longer than the lease, by the machine's own clock: time itself is what is tested.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!claim.lost().requested());
    assert!(seat.store.claim(connection.id, sync()).await.is_err());
    claim.memory().save(&[commit(&claim, scope("a"), 1, 1, 1)]).await.unwrap();
    claim.finish(succeeded()).await.unwrap();
}

pub async fn a_dropped_claim_writes_nothing_more(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let (memory, late) = (claim.memory(), commit(&claim, scope("a"), 1, 1, 1));
    drop(claim);
    assert_eq!(memory.save(&[late]).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(seat.store.claim(connection.id, sync()).await.is_err(), "its lease has not run out yet");
    seat.clock.forward(Duration::from_secs(31));
    seat.store.claim(connection.id, sync()).await.unwrap();
}

pub async fn a_run_is_finished_once(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let (run, memory, late) = (claim.run_id(), claim.memory(), commit(&claim, scope("a"), 1, 1, 1));
    let error = linkspan_core::Error::new(ErrorKind::Timeout, "slow").to_json();
    let result = RunResult { status: RunStatus::Failed, stats: json!({"rows": 7}), error: Some(error.clone()) };
    claim.finish(result).await.unwrap();
    let record = seat.store.run(run).await.unwrap();
    assert_eq!((record.status, record.stats, record.error), (RunStatus::Failed, Some(json!({"rows": 7})), Some(error)));
    assert_eq!((record.kind.as_str(), record.connection), ("sync", connection.id));
    assert!(record.ended_at_ms.unwrap() >= record.started_at_ms.unwrap());
    assert_eq!(memory.save(&[late]).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(seat.store.run(linkspan_store::RunId(Uuid::now_v7())).await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub async fn a_saved_position_comes_back_as_it_was(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    assert!(!memory.load().await.unwrap().known);
    let scopes = [
        Scope::Shared,
        scope("plain"),
        Scope::Stream(linkspan_core::StreamName::new(None, "a.b\"c'; drop table scopes; --")),
        Scope::Stream(linkspan_core::StreamName::new(Some(""), "\u{1F980} \u{0} \n")),
        Scope::Part(stream("t"), "1/4".into()),
    ];
    let value = json!({"lsn": u64::MAX, "min": i64::MIN, "text": "\u{0}\u{FFFF}", "deep": [[{"a": null}]], "order": {"b": 1, "a": 2},
        "floats": [0.1 + 0.2, 5e-324, f64::MAX, 1.0 / 3.0, -8.900_295_434_028_806e-308, 9_007_199_254_740_993.0_f64]});
    let commits: Vec<_> = scopes.iter().map(|s| commit(&claim, s.clone(), 3, 9, value.clone())).collect();
    memory.save(&commits).await.unwrap();
    let remembered = memory.load().await.unwrap();
    assert!(remembered.known);
    let expected = Recalled { generation: 3, number: 9, state: State::new(1, value.clone()) };
    assert_eq!(remembered.scopes, scopes.iter().map(|s| (s.clone(), expected.clone())).collect());
    assert_eq!(remembered.scopes[&Scope::Shared].state.value.to_string(), value.to_string());
    claim.finish(succeeded()).await.unwrap();
    let positions = seat.store.positions(connection.id).await.unwrap();
    assert_eq!(positions.len(), 5);
    assert!(positions.iter().all(|p| p.recalled == expected && p.saved_at_ms > 0));
}

pub async fn saves_repeat_but_never_go_back(desk: &Desk) {
    let seat = desk.open().await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    let save = async |generation, number, value: i64| memory.save(&[commit(&claim, scope("a"), generation, number, value)]).await;
    save(1, 1, 10).await.unwrap();
    save(1, 2, 20).await.unwrap();
    save(1, 2, 20).await.unwrap();
    for (generation, number, value) in [(1, 2, 21), (1, 1, 10)] {
        assert_eq!(save(generation, number, value).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    memory.save(&[commit(&claim, scope("a"), 1, 3, 30), commit(&claim, scope("a"), 1, 4, 40)]).await.unwrap();
    save(2, 1, 100).await.unwrap();
    assert_eq!(save(1, 5, 50).await.unwrap_err().kind(), ErrorKind::Conflict);
    let at = &memory.load().await.unwrap().scopes[&scope("a")];
    assert_eq!((at.generation, at.number, &*at.state.value), (2, 1, &Value::from(100)));
    let mut foreign = commit(&claim, scope("a"), 2, 2, 0);
    foreign.fence += 1;
    assert_eq!(memory.save(&[foreign]).await.unwrap_err().kind(), ErrorKind::Conflict);
    memory.save(&[]).await.unwrap();
}

pub async fn a_drawn_generation_forgets_its_stream_and_only_that(desk: &Desk) {
    let seat = desk.open().await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    let part = |s: &str, p: &str| Scope::Part(stream(s), p.into());
    assert_eq!(memory.draw_generation(&stream("a")).await.unwrap(), 1);
    assert_eq!(memory.draw_generation(&stream("b")).await.unwrap(), 1);
    let all = [part("a", "1"), part("a", "2"), scope("a"), scope("b"), part("ab", "1"), Scope::Shared];
    let commits: Vec<_> = all.iter().map(|s| commit(&claim, s.clone(), 1, 1, 1)).collect();
    memory.save(&commits).await.unwrap();
    memory.complete(&stream("a"), 1).await.unwrap();
    memory.complete(&stream("a"), 1).await.unwrap();
    assert_eq!(memory.load().await.unwrap().generations[&stream("a")], Generation { number: 1, complete: true });

    assert_eq!(memory.draw_generation(&stream("a")).await.unwrap(), 2);
    let remembered = memory.load().await.unwrap();
    assert_eq!(remembered.scopes.len(), 3, "{:?}", remembered.scopes);
    assert_eq!(remembered.generations[&stream("a")], Generation { number: 2, complete: false });
    assert_eq!(memory.complete(&stream("a"), 1).await.unwrap_err().kind(), ErrorKind::Conflict);
    let late = memory.save(&[commit(&claim, part("a", "1"), 1, 2, 2)]).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "a commit of the generation before");
    memory.save(&[commit(&claim, part("a", "1"), 2, 1, 1)]).await.unwrap();
}

pub async fn a_generation_keeps_its_target_and_a_new_one_has_none_yet(desk: &Desk) {
    let seat = desk.open().await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    let targets = async || claim.memory().load().await.unwrap().targets;
    memory.draw_generation(&stream("a")).await.unwrap();
    memory.draw_generation(&stream("b")).await.unwrap();
    let aimed = BTreeMap::from([(stream("a"), Target { namespace: Some("shop".into()), name: "orders".into() })]);
    memory.aim(&aimed).await.unwrap();
    memory.complete(&stream("a"), 1).await.unwrap();
    assert_eq!(targets().await, aimed);
    let same = BTreeMap::from([(stream("a"), Generation { number: 1, complete: false })]);
    memory.adopt(&BTreeMap::new(), &same).await.unwrap();
    assert_eq!(targets().await, aimed, "the same generation goes where it went");
    memory.draw_generation(&stream("a")).await.unwrap();
    assert_eq!(targets().await, BTreeMap::new());
}

pub async fn adoption_goes_either_way(desk: &Desk) {
    let seat = desk.open().await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    memory.draw_generation(&stream("a")).await.unwrap();
    memory.save(&[commit(&claim, scope("a"), 1, 9, 9)]).await.unwrap();
    for (generation, number) in [(1, 4), (5, 40), (2, 7)] {
        let there = Recalled { generation, number, state: State::new(2, json!(number)) };
        let scopes = BTreeMap::from([(scope("a"), there.clone()), (scope("new"), there)]);
        let generations = BTreeMap::from([(stream("a"), Generation { number: generation, complete: generation == 5 })]);
        memory.adopt(&scopes, &generations).await.unwrap();
        let remembered = memory.load().await.unwrap();
        assert_eq!((remembered.scopes, remembered.generations), (scopes, generations));
    }
    memory.save(&[commit(&claim, scope("a"), 2, 8, 8)]).await.unwrap();
    assert_eq!(memory.draw_generation(&stream("a")).await.unwrap(), 3);
}

pub async fn a_reset_outranks_what_destinations_recall(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    memory.draw_generation(&stream("a")).await.unwrap();
    let commits = [scope("a"), scope("b"), Scope::Shared].map(|s| commit(&claim, s, 1, 1, 1));
    memory.save(&commits).await.unwrap();
    let refused = seat.store.reset(connection.id, ResetOf::All).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "not under a run that is going");
    claim.finish(succeeded()).await.unwrap();

    seat.store.reset(connection.id, ResetOf::Streams(vec![stream("a")])).await.unwrap();
    let scopes = async || seat.store.positions(connection.id).await.unwrap().into_iter().map(|p| p.scope).collect::<Vec<_>>();
    let mut left = scopes().await;
    left.sort();
    assert_eq!(left, [Scope::Shared, scope("b")]);
    seat.store.reset(connection.id, ResetOf::All).await.unwrap();
    assert!(scopes().await.is_empty());
    let claim = seat.store.claim(connection.id, sync()).await.unwrap();
    let remembered = claim.memory().load().await.unwrap();
    assert_eq!(remembered.generations[&stream("a")], Generation { number: 3, complete: false });
    assert_eq!(remembered.generations[&stream("b")].number, 1, "a stream that was only saved is outranked too");
    assert!(remembered.known);
}

pub async fn schemas_are_kept_when_they_differ(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let memory = claim.memory();
    let field = |t, mark: &str| Field::new("id", t, true).with_metadata([("ls.native".to_owned(), mark.to_owned())].into());
    let schema = |t, mark| Arc::new(Schema::new(vec![field(t, mark)]));
    let seen = [schema(DataType::Int32, "a"), schema(DataType::Int64, "a"), schema(DataType::Int64, "b"), schema(DataType::Int32, "a")];
    for s in &seen {
        memory.saw_schema(&stream("t"), s).await.unwrap();
        memory.saw_schema(&stream("t"), s).await.unwrap();
    }
    memory.saw_schema(&stream("other"), &seen[0]).await.unwrap();
    let history = seat.store.schema_history(connection.id, &stream("t")).await.unwrap();
    assert_eq!(history.iter().map(|h| h.version).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (kept, s) in history.iter().zip(&seen) {
        assert_eq!((&schema_text::from_json(&kept.schema).unwrap(), kept.run), (s.as_ref(), claim.run_id()));
    }
}

pub async fn many_savers_share_commits(desk: &Desk) {
    let seat = desk.open().await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let claim = Arc::new(claim);
    let before = seat.owner.counts();
    let savers = (0..32).map(|saver| {
        let claim = claim.clone();
        tokio::spawn(async move {
            for number in 1..=20 {
                claim.memory().save(&[commit(&claim, scope(&format!("s{saver}")), 1, number, number)]).await.unwrap();
            }
        })
    });
    join_all(savers).await.into_iter().for_each(|s| s.unwrap());
    let after = seat.owner.counts();
    let (requests, commits) = (after.requests - before.requests, after.commits - before.commits);
    assert!(requests >= 640);
    assert!(commits * 3 < requests, "{requests} requests took {commits} commits");
    let remembered = claim.memory().load().await.unwrap();
    assert!(remembered.scopes.len() == 32 && remembered.scopes.values().all(|r| r.number == 20));
}

/// A socket can break after the owner did what was asked and before it said so: then the same request comes again.
pub async fn every_change_may_be_asked_twice(desk: &Desk) {
    let seat = desk.open().await;
    let twice = async |request: Request| {
        let first = seat.store.ask(request.clone()).await.unwrap();
        assert_eq!(seat.store.ask(request.clone()).await.unwrap(), first, "{request:?}");
        first
    };
    let new = named("x");
    let Reply::Connection(made) = twice(Request::PutConnection { new, drawn: Uuid::now_v7() }).await else { panic!() };
    let (connection, run) = (made.id, RunId(Uuid::now_v7()));
    let claim = Request::Claim { connection, run, new: sync(), ttl_ms: 30_000 };
    let Reply::Claimed { fence, .. } = twice(claim).await else { panic!() };
    let by = LeaseKey { connection, run, fence };
    assert_eq!(twice(Request::Renew { runs: vec![run], ttl_ms: 30_000 }).await, Reply::Held(vec![run]));
    let draw = async |id| twice(Request::DrawGeneration { by, stream: stream("t"), id }).await;
    assert_eq!(draw(Uuid::now_v7()).await, Reply::Generation(1));
    assert_eq!(draw(Uuid::now_v7()).await, Reply::Generation(2));
    let state = State::new(1, json!({"at": 0.1 + 0.2}));
    let commit = Commit { connection, scope: scope("t"), generation: 2, fence, previous: 0, number: 1, state: state.clone() };
    twice(Request::Aim { by, targets: vec![(stream("t"), Target::from(&stream("elsewhere")))] }).await;
    twice(Request::Save { by, commits: vec![commit] }).await;
    twice(Request::Complete { by, stream: stream("t"), generation: 2 }).await;
    let scopes = BTreeMap::from([(scope("u"), Recalled { generation: 4, number: 2, state })]);
    twice(Request::Adopt { by, scopes, generations: vec![(stream("u"), Generation { number: 4, complete: false })] }).await;
    twice(Request::SawSchema { by, stream: stream("t"), schema: json!({"fields": []}) }).await;
    let log = RunLogRecord { run, connection, lines: 1, bytes: 2, dropped: 3, rejects: 4, rejects_dropped: 5, closed_at_ms: 0 };
    twice(Request::PutRunLog { log }).await;
    let error = Some(json!({"kind": "timeout"}));
    twice(Request::Finish { by, result: RunResult { status: RunStatus::Failed, stats: Value::Null, error } }).await;
    assert_eq!(seat.store.schema_history(connection, &stream("t")).await.unwrap().len(), 1);

    let reset = Request::Reset { connection, of: ResetOf::Streams(vec![stream("t"), stream("new")]), id: Uuid::now_v7() };
    twice(reset).await;
    let Reply::Memory { generations, .. } = seat.store.ask(Request::Load { connection }).await.unwrap() else { panic!() };
    let numbers: BTreeMap<_, _> = generations.into_iter().map(|(s, g)| (s.name.to_string(), g.number)).collect();
    assert_eq!(numbers, BTreeMap::from([("new".into(), 1), ("t".into(), 3), ("u".into(), 4)]));
    twice(Request::ForgetRunLogs { runs: vec![run] }).await;
    twice(Request::DeleteConnection { connection }).await;
}

pub async fn deleting_a_connection_leaves_nothing(desk: &Desk) {
    let seat = desk.open().await;
    let (connection, claim) = claimed(&seat.store, "x").await;
    let run = claim.run_id();
    claim.memory().save(&[commit(&claim, scope("a"), 1, 1, 1)]).await.unwrap();
    let log = seat.store.run_log(&claim).unwrap();
    log.write(linkspan_store::Level::Info, None, "hello", &[]);
    assert_eq!(seat.store.delete_connection(connection.id).await.unwrap_err().kind(), ErrorKind::Conflict);
    claim.finish(succeeded()).await.unwrap();
    assert!(log.path().exists());
    seat.store.delete_connection(connection.id).await.unwrap();
    seat.store.delete_connection(connection.id).await.unwrap();
    assert_eq!(seat.store.get(connection.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(seat.store.run(run).await.is_err());
    assert!(seat.store.positions(connection.id).await.unwrap().is_empty());
    assert!(!log.path().exists());
    let again = seat.store.connection(NewConnection { id: Some(connection.id.0), ..named("x") }).await.unwrap();
    assert!(!again.known);
}
