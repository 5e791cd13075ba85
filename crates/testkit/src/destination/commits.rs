//! Trials of commits: what is visible when, who may commit, what a crash leaves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{
    Atomic, ConnectionId, Destination, ErrorKind, Failpoints, Fault, Load, MemoryBudget, Result, Retry, Scope, State, WriteMode,
};
use serde_json::json;

use super::{
    DestinationHarness,
    bench::{Bench, Lane, batch, commit, load, open, open_standard, plan, write},
};
use crate::{
    StandardRow,
    rows::{self, assert_same_rows},
};

/// How many commits the crash trials make.
const SLICES: u64 = 4;

impl<H: DestinationHarness> Bench<H> {
    pub(super) async fn refuses_other_modes(&self) {
        let destination = self.destination();
        for mode in [WriteMode::Append, WriteMode::Replace, WriteMode::Merge] {
            if !destination.capability().modes.contains(&mode) {
                let refused = destination.open(self.lane("mode", mode).load()).await.err();
                let e = refused.unwrap_or_else(|| panic!("{mode:?} is not among the modes, and was opened"));
                assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
                assert!(e.suggested_fix().is_some(), "no suggested fix: {e:?}");
            }
        }
    }
    pub(super) async fn knows_no_stranger(&self) {
        let destination = self.destination();
        let recalled = destination.recall(ConnectionId(uuid::Uuid::new_v4())).await.unwrap_or_else(|e| panic!("recall: {e:?}"));
        assert!(recalled.is_none(), "{recalled:?}");
        let lane = self.lane("stranger", destination.capability().modes[0]);
        assert_eq!(destination.shape(&lane.stream.target).await.unwrap_or_else(|e| panic!("shape: {e:?}")), None);
        destination.forget(lane.connection).await.unwrap_or_else(|e| panic!("forgetting a stranger: {e:?}"));
    }

    pub(super) async fn appends(&self) {
        let destination = self.destination();
        let mut lane = self.lane("append", WriteMode::Append);
        let mut session = open_standard(&destination, &lane).await;
        for ids in [0..100, 100..150] {
            write(&mut session, &lane, &StandardRow::range(ids.clone())).await.unwrap_or_else(|e| panic!("{e:?}"));
            let stats = commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!((stats.written, stats.rejected), ((ids.end - ids.start) as u64, 0), "{stats:?}");
        }
        drop(session);
        load(&destination, &mut lane, &StandardRow::range(150..160)).await;
        // Append has no key: a row sent again is a row more.
        load(&destination, &mut lane, &StandardRow::range(150..160)).await;
        let mut expected = StandardRow::range(0..160);
        expected.extend(StandardRow::range(150..160));
        expected.sort();
        assert_same_rows(&self.rows_in(&lane).await, &expected, "the rows");
        self.assert_no_staging("after four commits").await;
    }

    pub(super) async fn invisible_before_commit(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("visible", mode);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        let mut session = open_standard(&destination, &lane).await;
        for ids in [10..5_000, 5_000..9_000] {
            write(&mut session, &lane, &StandardRow::range(ids)).await.unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!(self.rows_in(&lane).await.len(), 10, "rows are visible before their commit");
        }
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..9_000), "the rows");
    }

    pub(super) async fn dropped_session(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("dropped", mode);
        let mut session = open_standard(&destination, &lane).await;
        write(&mut session, &lane, &StandardRow::range(0..500)).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        if self.atomic() == Atomic::None {
            return;
        }
        assert_eq!(self.rows_in(&lane).await.len(), 0, "rows of a session that never committed");
        lane.fence += 1;
        load(&destination, &mut lane, &StandardRow::range(0..20)).await;
        self.publish_if_replace(&destination, &lane).await;
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..20), "the rows");
        self.assert_no_staging("after the next load").await;
    }
    pub(super) async fn publish_if_replace(&self, destination: &Arc<dyn Destination>, lane: &Lane) {
        if lane.stream.write == WriteMode::Replace {
            destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("publish: {e:?}"));
        }
    }

    pub(super) async fn empty_commit(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("empty", mode);
        let mut session = open_standard(&destination, &lane).await;
        let stats = commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("a commit without rows: {e:?}"));
        assert_eq!(stats.written, 0);
        write(&mut session, &lane, &[]).await.unwrap_or_else(|e| panic!("an empty batch: {e:?}"));
        write(&mut session, &lane, &StandardRow::range(0..3)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("a second commit without rows: {e:?}"));
        drop(session);
        // A session that never hears of rows may still move the position.
        let mut session = destination.open(lane.load()).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("a commit without a schema: {e:?}"));
        drop(session);
        if self.atomic() != Atomic::None {
            let recall = destination.recall(lane.connection).await.unwrap().expect("four commits");
            assert_eq!(recall.scopes[&lane.scope].number, 4);
        }
        self.publish_if_replace(&destination, &lane).await;
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..3), "the rows");
        self.assert_no_staging("at the end").await;
    }

    pub(super) async fn gives_leases_back(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("leases", mode);
        let mut session = open_standard(&destination, &lane).await;
        let budget = MemoryBudget::new(256 << 10);
        for i in 0..40 {
            let rows = rows::standard_batch(&StandardRow::range(i * 1_000..(i + 1) * 1_000));
            let lease = tokio::time::timeout(Duration::from_secs(10), budget.lease(64 << 10)).await;
            let lease = lease.unwrap_or_else(|_| panic!("after {i} batches the session holds the whole budget"));
            let mut batch = batch(&lane.stream.stream, rows);
            batch.lease = lease;
            session.write(batch).await.unwrap_or_else(|e| panic!("{e:?}"));
        }
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        assert_eq!(budget.available(), budget.bytes(), "a lease outlived the session");
        self.publish_if_replace(&destination, &lane).await;
        assert_eq!(self.table_of(&lane).await.len(), 40_000);
    }

    pub(super) async fn tiny_batches(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("tiny", mode);
        let mut session = open_standard(&destination, &lane).await;
        for id in 0..5_000 {
            write(&mut session, &lane, &[StandardRow::new(id)]).await.unwrap_or_else(|e| panic!("{e:?}"));
        }
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        self.publish_if_replace(&destination, &lane).await;
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..5_000), "the rows");
    }

    pub(super) async fn big_row(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("big", mode);
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]));
        let text = "0123456789abcdeé".repeat(10 << 16);
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec![text.as_str()]))];
        let mut session = open(&destination, &lane, &schema).await.unwrap_or_else(|e| panic!("{e:?}"));
        session.write(batch(&lane.stream.stream, RecordBatch::try_new(schema, columns).unwrap())).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        self.publish_if_replace(&destination, &lane).await;
        let table = self.table_of(&lane).await;
        let read = table.column("text").expect("the column");
        assert!(
            read == [Some(text.as_str())],
            "the text came back with {:?} bytes of {}",
            read.first().map(|t| t.map(str::len)),
            text.len()
        );
    }

    pub(super) async fn cut(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("cut", mode);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        let mut session = open_standard(&destination, &lane).await;
        write(&mut session, &lane, &StandardRow::range(10..500)).await.unwrap_or_else(|e| panic!("{e:?}"));
        if !self.harness.break_connections().await {
            return;
        }
        let e = match write(&mut session, &lane, &StandardRow::range(500..9_000)).await {
            Ok(()) => session.commit(&lane.next()).await.expect_err("a commit over a cut connection passed"),
            Err(e) => e,
        };
        assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{e:?}");
        assert_ne!(e.retry_hint(), Retry::Never, "a cut connection is worth another try: {e:?}");
        drop(session);
        // The same connector goes on after the cut; recall says from where.
        lane.fence += 1;
        if let Some(recall) = destination.recall(lane.connection).await.unwrap_or_else(|e| panic!("recall after the cut: {e:?}")) {
            lane.number = recall.scopes[&lane.scope].number;
            assert_eq!(lane.number, 1);
        }
        load(&destination, &mut lane, &StandardRow::range(10..9_000)).await;
        self.publish_if_replace(&destination, &lane).await;
        let ids: BTreeSet<i64> = self.table_of(&lane).await.ids().into_iter().collect();
        assert_eq!(ids.len(), 9_000);
        self.assert_no_staging("at the end").await;
    }

    pub(super) async fn compare_and_set(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("cas", mode);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        for (what, previous) in [("the same commit again", 0), ("a commit from the future", 7)] {
            lane.fence += 1;
            lane.number = previous;
            let result = match open(&destination, &lane, &rows::standard_schema()).await {
                Ok(mut session) => {
                    write(&mut session, &lane, &StandardRow::range(50..60)).await.unwrap_or_else(|e| panic!("{e:?}"));
                    session.commit(&lane.next()).await.map(|_| ())
                }
                Err(e) => Err(e),
            };
            let e = result.err().unwrap_or_else(|| panic!("{what} was accepted"));
            assert_eq!(e.kind(), ErrorKind::Conflict, "{what}: {e:?}");
        }
        lane.number = 1;
        lane.fence += 1;
        load(&destination, &mut lane, &StandardRow::range(10..20)).await;
        self.publish_if_replace(&destination, &lane).await;
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..20), "refused commits left rows");
    }

    pub(super) async fn recalls(&self, mode: WriteMode) {
        let mut lane = self.lane("recall", mode);
        lane.fence = 7;
        load(&self.destination(), &mut lane, &StandardRow::range(0..10)).await;
        lane.fence = 8;
        let mut session = open_standard(&self.destination(), &lane).await;
        write(&mut session, &lane, &StandardRow::range(10..20)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        let recall = self.destination().recall(lane.connection).await.unwrap_or_else(|e| panic!("{e:?}")).expect("two commits");
        assert_eq!(recall.fence, 8);
        assert_eq!(recall.scopes.len(), 1, "{:?}", recall.scopes);
        let at = &recall.scopes[&lane.scope];
        assert_eq!((at.generation, at.number, &at.state), (1, 2, &State::new(1, json!({ "n": 2 }))));
        let other = self.destination().recall(ConnectionId(uuid::Uuid::new_v4())).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert!(other.is_none(), "another connection recalls {other:?}");
    }

    pub(super) async fn new_generation(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("generation", mode);
        for i in 0..3 {
            load(&destination, &mut lane, &StandardRow::range(i * 10..(i + 1) * 10)).await;
        }
        lane.next_generation();
        lane.fence += 1;
        load(&destination, &mut lane, &StandardRow::range(30..40)).await;
        let recall = destination.recall(lane.connection).await.unwrap().expect("commits");
        assert_eq!((recall.scopes[&lane.scope].generation, recall.scopes[&lane.scope].number), (2, 1));
        // A run of the older generation has lost.
        lane.stream.generation = 1;
        lane.number = 3;
        let result = match open(&destination, &lane, &rows::standard_schema()).await {
            Ok(mut session) => session.commit(&lane.next()).await.map(|_| ()),
            Err(e) => Err(e),
        };
        assert_eq!(result.expect_err("a commit of an older generation passed").kind(), ErrorKind::Conflict);
    }

    pub(super) async fn stale_fence(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut old = self.lane("fence", mode);
        old.fence = 5;
        load(&destination, &mut old, &StandardRow::range(0..10)).await;
        let mut frozen = open_standard(&destination, &old).await;
        write(&mut frozen, &old, &StandardRow::range(100..110)).await.unwrap_or_else(|e| panic!("{e:?}"));
        // Meanwhile another run takes over.
        let mut new = Lane { fence: 6, scope: old.scope.clone(), stream: old.stream.clone(), ..old };
        let mut session = open_standard(&self.destination(), &new).await;
        let e = frozen.commit(&old.next()).await.expect_err("a frozen run committed after another one took over");
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}");
        drop(frozen);
        write(&mut session, &new, &StandardRow::range(10..20)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut new).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        old.number = 2;
        let e = destination.open(old.load()).await.err().expect("an older fence was installed over a newer one");
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}");
        self.publish_if_replace(&destination, &new).await;
        assert_same_rows(&self.rows_in(&new).await, &StandardRow::range(0..20), "the rows");
    }

    pub(super) async fn parallel_lanes(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut a = self.lane("parallel", mode);
        let mut b = self.lane_to(&a.stream.stream, a.stream.target.clone(), mode);
        b.connection = a.connection;
        (a.scope, b.scope) = (Scope::Part(a.stream.stream.clone(), "1/2".into()), Scope::Part(a.stream.stream.clone(), "2/2".into()));
        let mut first = open_standard(&destination, &a).await;
        write(&mut first, &a, &StandardRow::range(0..100)).await.unwrap_or_else(|e| panic!("{e:?}"));
        let other = async {
            let mut second = open_standard(&destination, &b).await;
            write(&mut second, &b, &StandardRow::range(100..200)).await.unwrap_or_else(|e| panic!("{e:?}"));
            commit(&mut second, &mut b).await.unwrap_or_else(|e| panic!("{e:?}"));
        };
        // A table that the first lane made and did not commit may hold the second one up, but only until then.
        let own = async {
            commit(&mut first, &mut a).await.unwrap_or_else(|e| panic!("{e:?}"));
            write(&mut first, &a, &StandardRow::range(200..300)).await.unwrap_or_else(|e| panic!("{e:?}"));
            commit(&mut first, &mut a).await.unwrap_or_else(|e| panic!("{e:?}"));
        };
        futures::join!(other, own);
        drop(first);
        self.publish_if_replace(&destination, &a).await;
        assert_same_rows(&self.rows_in(&a).await, &StandardRow::range(0..300), "the rows");
        let recall = destination.recall(a.connection).await.unwrap().expect("commits");
        assert_eq!((recall.scopes[&a.scope].number, recall.scopes[&b.scope].number), (2, 1));
    }

    pub(super) async fn all_streams_or_none(&self, mode: WriteMode) {
        let destination = self.destination();
        let (a, b) = (self.lane("session_a", mode), self.lane("session_b", mode));
        let mut shared = Load { scope: Scope::Shared, streams: vec![a.stream.clone(), b.stream.clone()], ..a.load() };
        let commit_at = |previous: u64, fence: u64| linkspan_core::Commit { scope: Scope::Shared, fence, ..a.commit(previous) };
        for (previous, passes) in [(9, false), (0, true)] {
            shared.fence += 1;
            shared.previous = previous;
            let result = async {
                let mut session = destination.open(shared.clone()).await?;
                for lane in [&a, &b] {
                    session.schema(&lane.stream.stream, &plan(&destination, &lane.stream, &rows::standard_schema()).await).await?;
                    write(&mut session, lane, &StandardRow::range(0..30)).await?;
                }
                session.commit(&commit_at(previous, shared.fence)).await
            };
            let result = result.await;
            assert_eq!(result.is_ok(), passes, "{result:?}");
            if passes {
                for lane in [&a, &b] {
                    let publish = linkspan_core::Publish { fence: shared.fence, connection: a.connection, ..lane.publish() };
                    if mode == WriteMode::Replace {
                        destination.publish(&publish).await.unwrap_or_else(|e| panic!("{e:?}"));
                    }
                }
            }
            let expected = if passes { 30 } else { 0 };
            assert_eq!((self.table_of(&a).await.len(), self.table_of(&b).await.len()), (expected, expected));
        }
        let recall = destination.recall(a.connection).await.unwrap().expect("a commit");
        assert_eq!(recall.scopes[&Scope::Shared].number, 1);
    }

    pub(super) async fn forgets(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("forget", mode);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        self.publish_if_replace(&destination, &lane).await;
        if mode == WriteMode::Replace {
            lane.next_generation();
            load(&destination, &mut lane, &StandardRow::range(10..20)).await;
        }
        destination.forget(lane.connection).await.unwrap_or_else(|e| panic!("{e:?}"));
        let recall = destination.recall(lane.connection).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert!(recall.is_none_or(|r| r.scopes.is_empty() && r.published.is_empty()), "positions are left");
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..10), "the rows stay");
        self.assert_no_staging("after forgetting").await;
        // And a new start is possible.
        lane.next_generation();
        lane.fence += 1;
        load(&destination, &mut lane, &StandardRow::range(20..30)).await;
    }

    /// D5: learns the failpoints that a whole load passes, then crashes at each of them, goes on as the engine would, and
    /// compares the rows.
    pub(super) async fn crashes(&self, mode: WriteMode) {
        let failpoints = Failpoints::default();
        failpoints.record();
        let learning = self.lane("learn", mode);
        let mut acknowledged = 0;
        self.drive(&self.destination_with(failpoints.clone()), &learning, &mut acknowledged).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&self.rows_in(&learning).await, &expected(mode), "the run without a crash");
        let points = failpoints.seen();
        assert!(!points.is_empty(), "the destination passes no failpoint: mark the steps that cross durability");
        for (point, times) in points {
            for nth in BTreeSet::from([1, times / 2 + 1, times]) {
                self.crash_at(point, nth, mode).await;
            }
        }
    }
    async fn crash_at(&self, point: &'static str, nth: u64, mode: WriteMode) {
        let failpoints = Failpoints::default();
        failpoints.arm(point, Fault::Error, nth);
        let mut lane = self.lane("crash", mode);
        let mut acknowledged = 0;
        let crashed = self.drive(&self.destination_with(failpoints), &lane, &mut acknowledged).await;
        let place = format!("{point}@{nth} ({crashed:?})");
        lane.fence += 1;
        let again = self.drive(&self.destination(), &lane, &mut acknowledged).await;
        again.unwrap_or_else(|e| panic!("{place}: the next run failed: {e:?}"));
        let (mut rows, expected) = (self.rows_in(&lane).await, expected(mode));
        if self.atomic() == Atomic::None {
            // It may repeat rows, never lose them.
            rows.dedup();
        }
        assert_same_rows(&rows, &expected, &place);
        self.assert_no_staging(&place).await;
    }
    /// What the engine does, in small: recalls, opens, writes what is missing, publishes.
    async fn drive(&self, destination: &Arc<dyn Destination>, lane: &Lane, acknowledged: &mut u64) -> Result<()> {
        let recall = destination.recall(lane.connection).await?;
        let published = recall.as_ref().and_then(|r| r.published.get(&lane.stream.stream)).is_some_and(|g| *g >= lane.stream.generation);
        if published {
            return Ok(());
        }
        let at = recall.as_ref().and_then(|r| r.scopes.get(&lane.scope));
        if let Some(at) = at {
            assert!(at.number >= *acknowledged, "the destination recalls {} after it acknowledged {acknowledged}", at.number);
            assert_eq!(at.state, State::new(1, json!({ "n": at.number })));
        }
        let done = at.map_or(if self.atomic() == Atomic::None { *acknowledged } else { 0 }, |at| at.number);
        let lane = Lane { number: done, stream: lane.stream.clone(), scope: lane.scope.clone(), ..*lane };
        if done < SLICES {
            let mut session = destination.open(lane.load()).await?;
            session.schema(&lane.stream.stream, &plan(destination, &lane.stream, &rows::standard_schema()).await).await?;
            for n in done..SLICES {
                for part in slice(lane.stream.write, n) {
                    write(&mut session, &lane, &part).await?;
                }
                session.commit(&lane.commit(n)).await?;
                *acknowledged = n + 1;
            }
        }
        if lane.stream.write == WriteMode::Replace {
            destination.publish(&lane.publish()).await?;
        }
        Ok(())
    }
}

/// The batches of a slice. A merge also changes rows of earlier slices.
fn slice(mode: WriteMode, n: u64) -> Vec<Vec<StandardRow>> {
    let n = n as i64;
    let new = StandardRow::range(n * 40..(n + 1) * 40);
    let (left, right) = new.split_at(25);
    let mut parts = vec![left.to_vec(), right.to_vec()];
    if mode == WriteMode::Merge && n > 0 {
        parts.push(StandardRow::range_version(0..10, n));
    }
    parts
}

fn expected(mode: WriteMode) -> Vec<StandardRow> {
    let mut rows = StandardRow::range(0..40 * SLICES as i64);
    if mode == WriteMode::Merge {
        for row in rows.iter_mut().take(10) {
            *row = StandardRow::version(row.id, SLICES as i64 - 1);
        }
    }
    rows
}
