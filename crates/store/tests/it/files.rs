//! Run logs and rejects: capped, indexed, pruned, and never in the way of a run.

use std::fs;

use linkspan_core::{Change, ChangeKind, Changes, Reason, rows::Rejected};
use linkspan_store::{Level, Options, RunId};
use serde_json::{Value, json};

use crate::desk::{Desk, claimed, commit, scope, stream, succeeded, sync};

fn lines(path: &std::path::Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[tokio::test]
async fn a_log_is_on_disk_with_each_save_and_has_one_row_in_the_index() {
    let desk = Desk::owner();
    let seat = desk.open().await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let log = seat.store.run_log(&claim).unwrap();
    log.write(Level::Info, Some(&stream("t")), "read a page", &[("rows", json!(500))]);
    claim.memory().save(&[commit(&claim, scope("t"), 1, 1, 1)]).await.unwrap();
    let line = &lines(&log.path())[0];
    assert_eq!(
        (&line["level"], &line["stream"], &line["message"], &line["rows"]),
        (&json!("info"), &json!("public.t"), &json!("read a page"), &json!(500))
    );
    assert!(line["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    seat.store.run_log(&claim).unwrap().write(Level::Error, None, "the last word", &[]);
    let run = claim.run_id();
    assert_eq!(seat.store.run_log_record(run).await.unwrap(), None);
    claim.finish(succeeded()).await.unwrap();
    let record = seat.store.run_log_record(run).await.unwrap().unwrap();
    assert_eq!((record.lines, record.dropped, record.bytes), (2, 0, fs::metadata(log.path()).unwrap().len()));
    assert_eq!(lines(&log.path())[1]["message"], "the last word");
}

#[tokio::test]
async fn a_full_log_stops_counts_and_keeps_room_for_errors() {
    let desk = Desk::owner();
    let seat = desk.open_with(Options { log_bytes: 10_000, ..Options::default() }).await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let log = seat.store.run_log(&claim).unwrap();
    for i in 0..1000 {
        log.write(Level::Info, None, "a line of the usual size", &[("i", json!(i))]);
    }
    log.write(Level::Error, None, "why it failed", &[]);
    let (run, dropped) = (claim.run_id(), log.dropped());
    claim.finish(succeeded()).await.unwrap();
    let all = lines(&log.path());
    let [.., error, last] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((error["message"].as_str(), last["dropped"].as_u64()), (Some("why it failed"), Some(dropped)));
    assert_eq!(all.len() as u64 - 2 + dropped, 1000);
    assert!(all[..all.len() - 2].iter().enumerate().all(|(i, l)| l["i"] == i), "the head is whole");
    assert!(fs::metadata(log.path()).unwrap().len() <= 10_000);
    assert_eq!(seat.store.run_log_record(run).await.unwrap().unwrap().dropped, dropped);
}

#[tokio::test]
async fn rejects_are_written_without_values_and_counted_beyond_the_cap() {
    let desk = Desk::owner();
    let seat = desk.open_with(Options { log_bytes: 4_000, ..Options::default() }).await;
    let (_, claim) = claimed(&seat.store, "x").await;
    let rejects = seat.store.rejects(&claim).unwrap();
    let change = Change { row: 7, field: "price".into(), kind: ChangeKind::Nulled, reason: Reason::OutOfRange };
    let rejected = Rejected { place: "a.csv:12".into(), reason: "three fields instead of four".into() };
    for _ in 0..100 {
        rejects.write(&stream("t"), &Changes { changed: vec![change.clone()], rejected: vec![rejected.clone()] });
    }
    assert_eq!(rejects.count(), 200);
    let run = claim.run_id();
    claim.finish(succeeded()).await.unwrap();
    let all = lines(&seat.store.rejects_path(run));
    assert_eq!(all[0], json!({"stream": "public.t", "row": 7, "field": "price", "kind": "nulled", "reason": "out_of_range"}));
    assert_eq!(all[1], json!({"stream": "public.t", "place": "a.csv:12", "reason": "three fields instead of four"}));
    let record = seat.store.run_log_record(run).await.unwrap().unwrap();
    assert_eq!((record.rejects + record.rejects_dropped, all.len() as u64), (200, record.rejects + 1));
}

#[tokio::test]
async fn old_logs_go_and_the_newest_stay() {
    let desk = Desk::owner();
    let seat = desk.open_with(Options { keep_logs: 3, ..Options::default() }).await;
    let connection = seat.store.connection(crate::desk::named("x")).await.unwrap();
    let mut runs: Vec<RunId> = Vec::new();
    for _ in 0..5 {
        let claim = seat.store.claim(connection.id, sync()).await.unwrap();
        seat.store.run_log(&claim).unwrap().write(Level::Info, None, "hello", &[]);
        seat.store.rejects(&claim).unwrap();
        runs.push(claim.run_id());
        claim.finish(succeeded()).await.unwrap();
    }
    for (i, run) in runs.iter().enumerate() {
        let stays = i >= 2;
        assert_eq!(seat.store.run_log_path(connection.id, *run).exists(), stays, "{i}");
        assert_eq!(seat.store.rejects_path(*run).exists(), stays, "{i}");
        assert_eq!(seat.store.run_log_record(*run).await.unwrap().is_some(), stays);
        assert!(seat.store.run(*run).await.is_ok(), "the run itself stays listed");
    }
}

#[tokio::test]
async fn the_log_of_a_run_that_died_is_pruned_like_any_other() {
    let desk = Desk::owner();
    let seat = desk.open_with(Options { keep_logs: 1, ..Options::default() }).await;
    let (connection, dead) = claimed(&seat.store, "x").await;
    let log = seat.store.run_log(&dead).unwrap();
    log.write(Level::Info, None, "hello", &[]);
    drop(dead);
    assert!(log.path().exists());
    seat.clock.forward(std::time::Duration::from_secs(31));
    let next = seat.store.claim(connection.id, sync()).await.unwrap();
    seat.store.run_log(&next).unwrap().write(Level::Info, None, "hello", &[]);
    next.finish(succeeded()).await.unwrap();
    assert!(!log.path().exists());
}
