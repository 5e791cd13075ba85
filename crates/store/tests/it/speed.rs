//! How fast it is, printed: figures for the eye, with only a wide floor as a test.

use std::{sync::Arc, time::Instant};

use linkspan_store::Store;

use crate::desk::{Desk, claimed, commit, named, scope, succeeded, sync};

async fn claims(store: &Store, n: u32) -> f64 {
    let connection = store.connection(named("claims")).await.unwrap();
    let start = Instant::now();
    for _ in 0..n {
        store.claim(connection.id, sync()).await.unwrap().finish(succeeded()).await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1000.0 / f64::from(n)
}

async fn saves(store: &Store, savers: u64, each: u64) -> f64 {
    let (_, claim) = claimed(store, &format!("saves{savers}")).await;
    let claim = Arc::new(claim);
    let start = Instant::now();
    let tasks = (0..savers).map(|saver| {
        let claim = claim.clone();
        tokio::spawn(async move {
            let memory = claim.memory();
            for number in 1..=each {
                memory.save(&[commit(&claim, scope(&saver.to_string()), 1, number, number)]).await.unwrap();
            }
        })
    });
    futures::future::join_all(tasks).await.into_iter().for_each(|t| t.unwrap());
    (savers * each) as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures() {
    for (way, desk) in [("owner", Desk::owner()), ("remote", Desk::remote())] {
        let start = Instant::now();
        let seat = desk.open().await;
        let opened = start.elapsed();
        let claim = claims(&seat.store, 50).await;
        let (one, sixteen) = (saves(&seat.store, 1, 200).await, saves(&seat.store, 16, 50).await);
        println!("{way}: open {opened:.1?}, claim + finish {claim:.2} ms, saves/s {one:.0} (1 saver), {sixteen:.0} (16 savers)");
        assert!(one > 5.0);
    }
}
