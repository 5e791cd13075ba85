//! The laws of the queue: runs wait, start once, wait again after a fault, and never get lost with their process.

use std::time::Duration;

use linkspan_core::{ConnectionId, ErrorKind};
use linkspan_store::{Attempt, Cause, Options, Queued, Request, RunFilter, RunId, RunStatus, Store, WaitingRun};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::desk::{Desk, named, succeeded, sync};

fn waiting(connection: ConnectionId) -> WaitingRun {
    WaitingRun {
        run: RunId(Uuid::now_v7()),
        connection,
        kind: "sync".into(),
        spec: json!({"mode": "full"}),
        project: "default".into(),
        cause: Cause::Manual,
        scheduled_for_ms: None,
        max_attempts: 2,
    }
}

async fn queued(store: &Store, run: &WaitingRun) -> Queued {
    store.queue(vec![run.clone()]).await.unwrap().remove(0)
}

pub async fn a_run_waits_once_and_a_connection_has_one_that_waits_or_goes(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let connection = store.connection(named("x")).await.unwrap().id;
    let (first, second) = (waiting(connection), waiting(connection));
    assert_eq!(queued(store, &first).await, Queued::Waiting);
    assert_eq!(queued(store, &first).await, Queued::Waiting, "the same request again");
    assert_eq!(queued(store, &second).await, Queued::Busy(first.run));
    let record = store.waiting(10).await.unwrap().remove(0);
    assert_eq!((record.id, record.status, record.attempt, record.holder.is_none()), (first.run, RunStatus::Queued, 1, true));
    assert!(record.queued_at_ms.is_some() && record.started_at_ms.is_none());
    let claim = store.claim_waiting(&record).await.unwrap();
    assert_eq!(claim.run_id(), first.run);
    assert_eq!(queued(store, &second).await, Queued::Busy(first.run), "while it goes");
    assert!(store.waiting(10).await.unwrap().is_empty());
    claim.finish(succeeded()).await.unwrap();
    assert_eq!(queued(store, &second).await, Queued::Waiting);
    assert_eq!(queued(store, &waiting(ConnectionId(Uuid::now_v7()))).await, Queued::Gone);
}

pub async fn a_tick_has_one_run(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let connection = store.connection(named("x")).await.unwrap().id;
    let tick = |at| WaitingRun { cause: Cause::Schedule, scheduled_for_ms: Some(at), ..waiting(connection) };
    let first = tick(1_000);
    assert_eq!(queued(store, &first).await, Queued::Waiting);
    let record = store.waiting(10).await.unwrap().remove(0);
    store.claim_waiting(&record).await.unwrap().finish(succeeded()).await.unwrap();
    assert_eq!(queued(store, &tick(1_000)).await, Queued::Ticked(first.run));
    assert_eq!(queued(store, &tick(2_000)).await, Queued::Waiting);
    assert_eq!(store.last_ticks().await.unwrap(), [(connection, 2_000)]);
}

pub async fn a_run_that_waits_can_be_cancelled_and_is_then_not_started(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let connection = store.connection(named("x")).await.unwrap().id;
    let run = waiting(connection);
    queued(store, &run).await;
    let record = store.waiting(10).await.unwrap().remove(0);
    assert_eq!(store.cancel_waiting(run.run).await.unwrap().status, RunStatus::Cancelled);
    assert_eq!(store.cancel_waiting(run.run).await.unwrap().status, RunStatus::Cancelled, "twice is once");
    assert_eq!(store.claim_waiting(&record).await.err().unwrap().kind(), ErrorKind::Conflict);
    assert!(store.claim(connection, sync()).await.is_ok(), "the refused claim left no lease");
    let unknown = store.cancel_waiting(RunId(Uuid::now_v7())).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

pub async fn a_run_waits_again_until_its_attempts_are_used_up(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let connection = store.connection(named("x")).await.unwrap().id;
    let run = waiting(connection);
    queued(store, &run).await;
    let claim = store.claim_waiting(&store.waiting(1).await.unwrap()[0]).await.unwrap();
    let error = json!({"kind": "unavailable"});
    claim.requeue(Attempt::Next, Duration::from_secs(5), json!({"rows": 3}), error.clone()).await.unwrap();
    let again = store.waiting(1).await.unwrap().remove(0);
    assert_eq!((again.id, again.attempt, again.stats.clone(), again.error.clone()), (run.run, 2, Some(json!({"rows": 3})), Some(error)));
    assert!(again.not_before_ms >= again.started_at_ms.unwrap() + 5_000);
    let claim = store.claim_waiting(&again).await.unwrap();
    claim.requeue(Attempt::Same, Duration::ZERO, Value::Null, json!({})).await.unwrap();
    let interrupted = store.waiting(1).await.unwrap().remove(0);
    assert_eq!((interrupted.attempt, interrupted.stats.is_some()), (2, true), "an interruption is no attempt");
    let claim = store.claim_waiting(&interrupted).await.unwrap();
    assert_eq!(
        claim.requeue(Attempt::Next, Duration::ZERO, Value::Null, json!({})).await.unwrap_err().kind(),
        ErrorKind::Internal,
        "two were allowed"
    );
}

pub async fn what_a_dead_process_held_waits_again_or_failed(desk: &Desk) {
    let seat = desk.open_with(Options { lease: Duration::from_secs(3600), ..Options::default() }).await;
    let store = &seat.store;
    let (queue, direct) = (store.connection(named("queue")).await.unwrap().id, store.connection(named("direct")).await.unwrap().id);
    let run = waiting(queue);
    queued(store, &run).await;
    let held = store.claim_waiting(&store.waiting(1).await.unwrap()[0]).await.unwrap();
    let claimed = store.claim(direct, sync()).await.unwrap();
    assert!(store.sweep().await.unwrap().is_empty(), "their process lives");
    seat.clock.forward(Duration::from_secs(3601));
    let mut swept: Vec<_> = store.sweep().await.unwrap().into_iter().map(|r| (r.id, r.status)).collect();
    swept.sort_by_key(|r| r.0);
    let mut expected = vec![(run.run, RunStatus::Queued), (claimed.run_id(), RunStatus::Failed)];
    expected.sort_by_key(|r| r.0);
    assert_eq!(swept, expected);
    assert_eq!(held.finish(succeeded()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let last = store.claim_waiting(&store.waiting(1).await.unwrap()[0]).await.unwrap();
    seat.clock.forward(Duration::from_secs(3601));
    assert_eq!(store.sweep().await.unwrap()[0].status, RunStatus::Failed, "a run that kills its process is not tried for ever");
    drop(last);
    assert!(store.sweep().await.unwrap().is_empty());
}

pub async fn requests_of_the_queue_may_be_asked_twice(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    let connection = store.connection(named("x")).await.unwrap().id;
    let run = waiting(connection);
    queued(store, &run).await;
    let claim = store.claim_waiting(&store.waiting(1).await.unwrap()[0]).await.unwrap();
    let by = linkspan_store::LeaseKey { connection, run: claim.run_id(), fence: claim.fence() };
    for _ in 0..2 {
        store.ask(Request::Requeue { by, after_ms: 0, stats: Value::Null, error: json!({}), attempt: Attempt::Next }).await.unwrap();
    }
    assert_eq!(store.run(run.run).await.unwrap().attempt, 2);
}

pub async fn runs_are_listed_by_project(desk: &Desk) {
    let seat = desk.open().await;
    let store = &seat.store;
    for (name, project) in [("a", "default"), ("b", "other")] {
        let connection = store.connection(named(name)).await.unwrap().id;
        store.queue(vec![WaitingRun { project: project.into(), ..waiting(connection) }]).await.unwrap();
    }
    let of = async |project: &str| store.runs(RunFilter { project: Some(project.into()), ..RunFilter::default() }).await.unwrap().len();
    assert_eq!((of("default").await, of("other").await, of("third").await), (1, 1, 0));
}
