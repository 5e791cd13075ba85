//! Several processes on one data dir: killed, frozen, and short of room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use linkspan_core::{Context, ErrorKind};
use linkspan_store::{Options, Role, RunFilter, RunStatus, Store};
use rusqlite::Connection;

use crate::{
    child::{How, Other},
    desk::{Desk, claimed, commit, named, scope, sync},
};

fn number(word: &str) -> Option<u64> {
    word.strip_prefix("saved ")?.parse().ok()
}

async fn position(store: &Store, connection: &str) -> u64 {
    let connection = store.find(connection).await.unwrap().unwrap();
    store.positions(connection.id).await.unwrap().iter().find(|p| p.scope == scope("t")).map_or(0, |p| p.recalled.number)
}

fn is_whole(desk: &Desk) {
    let db = Connection::open(desk.path().join("linkspan.db")).unwrap();
    assert_eq!(db.query_row("pragma integrity_check", [], |r| r.get::<_, String>(0)).unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_saves_loses_none_that_was_answered() {
    let desk = Desk::owner();
    let mut next = 1;
    for round in 0..6u64 {
        let mut other = Other::start(desk.path(), How::default());
        assert_eq!(other.hear().unwrap(), "Owner");
        assert!(other.ask("claim x").starts_with("claimed"), "a dead process's claim is taken at once");
        other.say(&format!("save {next}"));
        let wanted = next + 3 + round * 7;
        while number(&other.hear().unwrap()).unwrap() < wanted {}
        let answered = other.kill().iter().filter_map(|w| number(w)).next_back().unwrap_or(wanted);
        let store = Store::open(desk.path(), &Context::real()).await.unwrap();
        let stands = position(&store, "x").await;
        assert!(stands == answered || stands == answered + 1, "answered {answered}, kept {stands}");
        store.close().await;
        is_whole(&desk);
        next = stands + 1;
    }
    let store = Store::open(desk.path(), &Context::real()).await.unwrap();
    let connection = store.find("x").await.unwrap().unwrap();
    store.claim(connection.id, sync()).await.unwrap();
    let runs = store.runs(RunFilter::default()).await.unwrap();
    assert_eq!(runs.iter().filter(|r| r.status == RunStatus::Failed).count(), 6);
    assert_eq!(runs[1].error.as_ref().unwrap()["message"], "the process ended without a word");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_every_failpoint_leaves_a_store_that_goes_on() {
    // (where it dies, the last save that was answered, what is kept)
    for (point, kept) in [
        ("store.claim.after", 0..=0),
        ("store.generation.after", 0..=0),
        ("store.save.before=abort@3", 2..=2),
        ("store.save.after=abort@3", 3..=3),
        // Connection, claim, generation, then saves: the third save is the sixth commit.
        ("store.commit=abort@6", 2..=2),
    ] {
        let points = if point.contains('=') { point.to_owned() } else { format!("{point}=abort") };
        let desk = Desk::owner();
        let mut other = Other::start(desk.path(), How { points: &points, ..How::default() });
        assert_eq!(other.hear().unwrap(), "Owner");
        other.say("claim x");
        other.say("draw");
        other.say("save 1");
        let (status, said) = other.ended();
        assert!(!status.success(), "{points}: {said:?}");
        let mut again = Other::start(desk.path(), How::default());
        assert_eq!(again.hear().unwrap(), "Owner");
        assert!(again.ask("claim x").starts_with("claimed"), "{points}");
        let stands = position(&Store::open(desk.path(), &Context::real()).await.unwrap(), "x").await;
        assert!(kept.contains(&stands), "{points}: {stands} of {said:?}");
        assert_eq!(again.ask(&format!("once {}", stands + 1)), format!("saved {}", stands + 1));
        assert_eq!(again.ask("finish"), "Ok(())");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_owner_is_killed_a_remote_takes_over_in_the_middle_of_saves() {
    let desk = Desk::owner();
    let owner = Other::start(desk.path(), How::default());
    assert_eq!(owner.hear().unwrap(), "Owner");
    let store = Store::open(desk.path(), &Context::real()).await.unwrap();
    let bystander = Store::open(desk.path(), &Context::real()).await.unwrap();
    assert_eq!((store.role(), bystander.role()), (Some(Role::Remote), Some(Role::Remote)));
    let (connection, claim) = claimed(&store, "x").await;
    let (claim, stop, saved) = (Arc::new(claim), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let savers: Vec<_> = (0..8)
        .map(|saver| {
            let (claim, stop, saved) = (claim.clone(), stop.clone(), saved.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    claim.memory().save(&[commit(&claim, scope(&format!("s{saver}")), 1, number, number)]).await.unwrap();
                    saved.fetch_add(1, Ordering::SeqCst);
                }
                number
            })
        })
        .collect();
    let reach = async |n| {
        while saved.load(Ordering::SeqCst) < n {
            tokio::task::yield_now().await;
        }
    };
    reach(100).await;
    owner.kill();
    let at_death = saved.load(Ordering::SeqCst);
    reach(at_death + 100).await;
    stop.store(true, Ordering::SeqCst);
    let remembered = claim.memory().load().await.unwrap();
    for (saver, task) in savers.into_iter().enumerate() {
        let last = task.await.unwrap();
        let kept = claim.memory().load().await.unwrap().scopes[&scope(&format!("s{saver}"))].number;
        assert_eq!(kept, last);
    }
    assert_eq!(remembered.scopes.len(), 8);
    assert!(bystander.find("x").await.unwrap().is_some());
    let roles = [store.role(), bystander.role()];
    assert!(roles.contains(&Some(Role::Owner)) && roles.contains(&Some(Role::Remote)), "{roles:?}");
    assert!(bystander.claim(connection.id, sync()).await.is_err(), "the run still holds its lease");
    Arc::into_inner(claim).unwrap().finish(crate::desk::succeeded()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_processes_that_start_at_once_one_owns_and_one_claims() {
    let desk = Desk::owner();
    let mut others: Vec<_> = (0..8).map(|_| Other::start(desk.path(), How::default())).collect();
    let roles: Vec<_> = others.iter().map(|o| o.hear().unwrap()).collect();
    assert_eq!(roles.iter().filter(|r| *r == "Owner").count(), 1, "{roles:?}");
    others.iter_mut().for_each(|o| o.say("claim x"));
    let said: Vec<_> = others.iter().map(|o| o.hear().unwrap()).collect();
    assert_eq!(said.iter().filter(|s| s.starts_with("claimed")).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|s| *s == "error Conflict").count(), 7, "{said:?}");
}

/// Four processes take turns at one connection while one after the other is killed, owner or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_under_kills_counts_without_a_gap_or_a_double() {
    const KILLS: usize = 20;
    let desk = Desk::owner();
    let start = || {
        let mut other = Other::start(desk.path(), How::default());
        other.say("work x");
        other
    };
    let mut crowd: Vec<_> = (0..4).map(|_| start()).collect();
    let mut said: Vec<String> = Vec::new();
    for kill in 0..KILLS {
        let enough = said.len() + 6 + kill % 5;
        let deadline = Instant::now() + Duration::from_secs(30);
        while said.len() < enough {
            assert!(Instant::now() < deadline, "the crowd stands still after {said:?}");
            said.extend(crowd.iter().flat_map(Other::overhear));
            tokio::task::yield_now().await;
        }
        let killed = std::mem::replace(&mut crowd[kill * 7 % 4], start());
        said.extend(killed.kill());
    }
    crowd.into_iter().for_each(|other| said.extend(other.kill()));
    let mut saves: Vec<(u64, u64)> = Vec::new();
    for word in &said {
        match word.split(' ').collect::<Vec<_>>().as_slice() {
            ["saved", number, fence] => saves.push((number.parse().unwrap(), fence.parse().unwrap())),
            [role] => assert!(["Owner", "Remote"].contains(role), "{word}"),
            _ => panic!("{word}"),
        }
    }
    saves.sort_unstable();
    assert!(saves.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "a number twice, or a fence that falls: {saves:?}");
    let store = Store::open(desk.path(), &Context::real()).await.unwrap();
    let stands = position(&store, "x").await;
    let (told, last) = (saves.len() as u64, saves.last().unwrap().0);
    assert!(last <= stands && stands - told <= (KILLS + 4) as u64, "told {told} up to {last}, kept {stands}");
    store.close().await;
    is_whole(&desk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_remote_frees_its_claim_at_once() {
    let desk = Desk::owner();
    let seat = desk.open().await;
    let mut other = Other::start(desk.path(), How::default());
    assert_eq!(other.hear().unwrap(), "Remote");
    assert!(other.ask("claim x").starts_with("claimed"));
    let connection = seat.store.find("x").await.unwrap().unwrap();
    let e = seat.store.claim(connection.id, sync()).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    other.kill();
    seat.store.claim(connection.id, sync()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_holder_is_overtaken_and_saves_nothing_when_it_thaws() {
    let desk = Desk::owner();
    let seat = desk.open().await;
    let mut other = Other::start(desk.path(), How { lease: Duration::from_secs(3), ..How::default() });
    assert_eq!(other.hear().unwrap(), "Remote");
    assert!(other.ask("claim x").starts_with("claimed"));
    assert_eq!(other.ask("once 1"), "saved 1");
    other.signal("STOP");
    let connection = seat.store.find("x").await.unwrap().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let next = loop {
        match seat.store.claim(connection.id, sync()).await {
            Ok(claim) => break claim,
            Err(e) => assert!(e.kind() == ErrorKind::Conflict && Instant::now() < deadline, "{e:?}"),
        }
    };
    next.memory().save(&[commit(&next, scope("t"), 1, 2, "the next run's")]).await.unwrap();
    other.signal("CONT");
    assert_eq!(other.ask("once 3"), "error Conflict");
    assert_eq!(position(&seat.store, "x").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_cannot_reach_the_store_stops_by_its_own_clock() {
    let desk = Desk::owner();
    let owner = Other::start(desk.path(), How::default());
    assert_eq!(owner.hear().unwrap(), "Owner");
    let lease = Duration::from_secs(6);
    let store = Store::open_with(desk.path(), &Context::real(), Options { lease, ..Options::default() }).await.unwrap();
    let (_, claim) = claimed(&store, "x").await;
    let claimed_at = Instant::now();
    owner.signal("STOP");
    tokio::time::timeout(Duration::from_secs(20), claim.lost().wait()).await.unwrap();
    assert!(claimed_at.elapsed() < lease, "stopped before the lease itself ends: {:?}", claimed_at.elapsed());
    assert_eq!(claim.memory().save(&[commit(&claim, scope("t"), 1, 1, 1)]).await.unwrap_err().kind(), ErrorKind::Conflict);
    owner.signal("CONT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_more_is_said_to_be_full_and_nothing_answered_is_lost() {
    let desk = Desk::owner();
    // Files of at most 2 MiB: a write beyond fails as on a full disk instead of killing the process.
    let mut other = Other::start(desk.path(), How { shell: Some("trap '' XFSZ; ulimit -f 2048"), ..How::default() });
    assert_eq!(other.hear().unwrap(), "Owner");
    assert!(other.ask("claim x").starts_with("claimed"));
    // Keeps the log of changes from being cut while it grows to the limit.
    let reader = Connection::open(desk.path().join("linkspan.db")).unwrap();
    reader.execute_batch("begin; select * from connections").unwrap();
    other.say("save 1");
    let mut answered = 0;
    let last = loop {
        let word = other.hear().unwrap();
        match number(&word) {
            Some(n) => answered = n,
            None => break word,
        }
    };
    assert_eq!(last, "error StorageFull");
    assert!(answered > 10);
    reader.execute_batch("rollback").unwrap();
    drop(reader);
    other.kill();
    let store = Store::open(desk.path(), &Context::real()).await.unwrap();
    assert_eq!(position(&store, "x").await, answered);
    let connection = store.connection(named("x")).await.unwrap();
    let claim = store.claim(connection.id, sync()).await.unwrap();
    claim.memory().save(&[commit(&claim, scope("t"), 1, answered + 1, 1)]).await.unwrap();
    store.close().await;
    is_whole(&desk);
}
