//! The pool alone, with sessions that only count themselves.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use linkspan_core::Ends;

use super::*;

/// How many sessions are open, and how many were at most.
#[derive(Default)]
struct Server {
    open: AtomicUsize,
    most: AtomicUsize,
    made: AtomicUsize,
}

struct Fake {
    server: Arc<Server>,
    number: usize,
    kind: char,
}

impl Fake {
    fn open(server: &Arc<Server>, kind: char) -> Self {
        let open = server.open.fetch_add(1, SeqCst) + 1;
        server.most.fetch_max(open, SeqCst);
        Self { server: server.clone(), number: server.made.fetch_add(1, SeqCst), kind }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, SeqCst);
    }
}

impl Pooled for Fake {
    type Kind = char;
    fn kind(&self) -> char {
        self.kind
    }
    async fn end(self) {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

struct Rig {
    server: Arc<Server>,
    pool: Pool<Fake>,
}

impl Rig {
    fn new(keep: i64, over: i64) -> Self {
        Self::with(keep, over, |_, _| {})
    }
    fn with(keep: i64, over: i64, change: impl FnOnce(&mut Limits, &mut Patience)) -> Self {
        let (mut limits, mut patience) = (Limits::of(keep, over, -1).unwrap(), USUAL);
        change(&mut limits, &mut patience);
        Self { server: Arc::default(), pool: Pool::with(limits, patience) }
    }
    async fn fill(&self, mut slot: Slot<Fake>, kind: char) -> (Slot<Fake>, Fake) {
        let session = match slot.reuse(kind).await {
            Some(session) => session,
            None => {
                slot.room().await;
                Fake::open(&self.server, kind)
            }
        };
        (slot, session)
    }
    async fn take(&self, kind: char) -> (Slot<Fake>, Fake) {
        self.fill(self.pool.slot().await.unwrap(), kind).await
    }
    async fn once(&self, kind: char) -> usize {
        let (slot, session) = self.take(kind).await;
        let number = session.number;
        slot.give_back(session).await;
        number
    }
    fn open(&self) -> usize {
        self.server.open.load(SeqCst)
    }
}

const NEED: (Need, Need) = (Need { base: 2, lane: 1 }, Need { base: 1, lane: 1 });

#[tokio::test]
async fn one_after_the_other_use_the_same_session() {
    let rig = Rig::new(2, 2);
    for _ in 0..10 {
        assert_eq!(rig.once('a').await, 0);
    }
    assert_eq!(rig.pool.state(), PoolState { open: 1, idle: 1, max: 4, ..PoolState::default() });
}

#[tokio::test]
async fn only_so_many_are_kept_when_nobody_waits() {
    let rig = Rig::new(2, 2);
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(rig.take('a').await);
    }
    assert_eq!((rig.pool.state().in_use, rig.open()), (4, 4));
    for (slot, session) in taken {
        slot.give_back(session).await;
    }
    assert_eq!((rig.pool.state().idle, rig.pool.state().open, rig.open()), (2, 2, 2));
}

#[tokio::test]
async fn never_more_than_the_limit_are_open_whatever_their_kind() {
    let rig = Arc::new(Rig::new(1, 2));
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let (slot, session) = rig.take(if i % 3 == 0 { 'b' } else { 'a' }).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                match i % 7 {
                    0 => drop((session, slot)),
                    _ => slot.give_back(session).await,
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(rig.server.most.load(SeqCst), 3);
    let state = rig.pool.state();
    assert_eq!((state.in_use, state.waiting, state.timeouts, state.open), (0, 0, 0, rig.open()));
}

#[tokio::test]
async fn who_waits_too_long_is_told_which_fields_to_raise() {
    let rig = Rig::with(1, 0, |_, patience| patience.wait = Duration::from_millis(20));
    let held = rig.take('a').await;
    let e = rig.pool.slot().await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Timeout);
    assert!(e.suggested_fix().is_some_and(|f| f.contains("max_overflow") && f.contains("pool_size")), "{e:?}");
    assert_eq!((rig.pool.state().timeouts, rig.pool.state().waiting), (1, 0));
    drop(held);
    assert_eq!(rig.once('a').await, 1);
}

#[tokio::test]
async fn an_old_session_is_replaced_when_it_would_be_taken() {
    let rig = Rig::with(2, 2, |limits, _| limits.recycle = Some(Duration::from_millis(30)));
    assert_eq!(rig.once('a').await, 0);
    tokio::time::sleep(Duration::from_millis(31)).await;
    assert_eq!(rig.take('a').await.1.number, 1);
    let young = Rig::with(2, 2, |limits, _| limits.recycle = Some(Duration::from_secs(3600)));
    assert_eq!((young.once('a').await, young.once('a').await), (0, 0));
}

#[tokio::test]
async fn what_lies_idle_for_long_is_closed() {
    let rig = Rig::with(2, 2, |_, patience| patience.idle = Duration::from_millis(20));
    for turn in 0..3 {
        assert_eq!(rig.once('a').await, turn);
        while rig.open() > 0 || rig.pool.state().open > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_closed_pool_keeps_nothing_and_still_works() {
    let rig = Rig::new(2, 2);
    rig.once('a').await;
    let (slot, session) = rig.take('a').await;
    rig.pool.close().await;
    slot.give_back(session).await;
    assert_eq!(rig.open(), 0);
    assert_eq!((rig.once('a').await, rig.open()), (1, 0));
}

#[tokio::test]
async fn the_last_of_a_pool_ends_what_lies_idle() {
    let Rig { server, pool } = Rig::new(2, 2);
    let rig = Rig { server: server.clone(), pool };
    rig.once('a').await;
    drop(rig);
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test]
async fn a_run_that_reads_and_writes_the_same_connector_finds_all_it_needs() {
    let rig = Rig::with(2, 3, |_, patience| patience.run = Duration::from_millis(20));
    let shares = rig.pool.share(Ends::Both, NEED.0, NEED.1, 8).await.unwrap();
    // 3 for both ends as such, 2 for one lane.
    assert_eq!(shares.lanes, 1);
    let (source, destination) = (shares.source.unwrap(), shares.destination.unwrap());
    let mut held = Vec::new();
    for (share, n) in [(&source, 3), (&destination, 2)] {
        for _ in 0..n {
            held.push(rig.fill(rig.pool.slot_of(share).await.unwrap(), 'a').await);
        }
    }
    assert_eq!(rig.open(), 5);
    drop((source, destination));
    // It is given back with the last session of the run.
    let e = rig.pool.share(Ends::Source, NEED.0, NEED.1, 1).await.err().unwrap();
    assert_eq!((e.kind(), e.retry_hint()), (ErrorKind::Timeout, linkspan_core::Retry::Backoff));
    drop(held);
    assert_eq!(rig.pool.share(Ends::Source, NEED.0, NEED.1, 8).await.unwrap().lanes, 3);
}

#[tokio::test]
async fn a_run_that_can_never_find_enough_is_refused_at_once() {
    let rig = Rig::new(1, 3);
    let e = rig.pool.share(Ends::Both, NEED.0, NEED.1, 1).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
    assert!(e.suggested_fix().is_some_and(|f| f.contains("5 connections")), "{e:?}");
    assert_eq!(rig.pool.share(Ends::Source, NEED.0, NEED.1, 1).await.unwrap().lanes, 1);
}

#[tokio::test]
async fn runs_leave_a_session_to_tests_and_wait_among_themselves() {
    let rig = Arc::new(Rig::new(5, 5));
    let first = rig.pool.share(Ends::Source, NEED.0, NEED.1, 100).await.unwrap();
    assert_eq!(first.lanes, 7);
    let waiting = tokio::spawn({
        let rig = rig.clone();
        async move { rig.pool.share(Ends::Source, NEED.0, NEED.1, 1).await.map(|s| s.lanes) }
    });
    tokio::task::yield_now().await;
    // The run that waits is not in the way.
    assert_eq!(rig.once('a').await, 0);
    drop(first);
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn runs_that_cross_each_other_all_end() {
    let (one, two) = (Arc::new(Rig::new(2, 1)), Arc::new(Rig::new(2, 1)));
    let run = |a: Arc<Rig>, b: Arc<Rig>, a_first: bool| async move {
        let (mut from, mut to) = (None, None);
        for source in [a_first, !a_first] {
            match source {
                true => from = a.pool.share(Ends::Source, NEED.0, NEED.1, 4).await.unwrap().source,
                false => to = b.pool.share(Ends::Destination, NEED.0, NEED.1, 4).await.unwrap().destination,
            }
        }
        let read = a.fill(a.pool.slot_of(&from.unwrap()).await.unwrap(), 'a').await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let written = b.fill(b.pool.slot_of(&to.unwrap()).await.unwrap(), 'b').await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        read.0.give_back(read.1).await;
        written.0.give_back(written.1).await;
    };
    let runs: Vec<_> = (0..40)
        .map(|i| {
            if i % 2 == 0 { tokio::spawn(run(one.clone(), two.clone(), true)) } else { tokio::spawn(run(two.clone(), one.clone(), false)) }
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    assert!(one.server.most.load(SeqCst) <= 3 && two.server.most.load(SeqCst) <= 3);
}
