//! Trials of merge, replace and truncate.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::{Alter, ErrorKind, Misfit, OP_COLUMN, SEQ_COLUMN, SchemaPlan, Swap, UNSET_COLUMN, WriteMode};

use super::{
    DestinationHarness,
    bench::{Bench, batch, commit, load, open, open_standard, write},
};
use crate::{
    StandardRow,
    rows::{self, assert_same_rows},
};

impl<H: DestinationHarness> Bench<H> {
    pub(super) async fn merges(&self) {
        let destination = self.destination();
        let mut lane = self.lane("merge", WriteMode::Merge);
        let mut session = open_standard(&destination, &lane).await;
        // The last one wins inside a batch, over batches of a commit, and over commits.
        let twice = [StandardRow::range(0..100), StandardRow::range_version(0..10, 1)].concat();
        write(&mut session, &lane, &twice).await.unwrap_or_else(|e| panic!("{e:?}"));
        write(&mut session, &lane, &StandardRow::range_version(5..20, 2)).await.unwrap_or_else(|e| panic!("{e:?}"));
        let stats = commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(stats.written + stats.duplicates + stats.rejected, 125, "every row read is accounted for: {stats:?}");
        write(&mut session, &lane, &StandardRow::range_version(15..30, 3)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        load(&destination, &mut lane, &StandardRow::range_version(95..105, 4)).await;
        let version = |id: i64| match id {
            0..5 => 1,
            5..15 => 2,
            15..30 => 3,
            95.. => 4,
            _ => 0,
        };
        let expected: Vec<StandardRow> = (0..105).map(|id| StandardRow::version(id, version(id))).collect();
        assert_same_rows(&self.rows_in(&lane).await, &expected, "the rows");
        self.assert_no_staging("after the merges").await;
    }

    pub(super) async fn null_key(&self) {
        let destination = self.destination();
        let mut lane = self.lane("null_key", WriteMode::Merge);
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]));
        let rows = |ids: Vec<Option<i64>>| {
            let v = StringArray::from_iter_values(ids.iter().map(|_| "x"));
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(ids)), Arc::new(v)]).unwrap()
        };
        let mut session = open(&destination, &lane, &schema).await.unwrap_or_else(|e| panic!("{e:?}"));
        session.write(batch(&lane.stream.stream, rows(vec![Some(1), Some(2)]))).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        let result = match session.write(batch(&lane.stream.stream, rows(vec![Some(3), None]))).await {
            Ok(()) => session.commit(&lane.next()).await.map(|_| ()),
            Err(e) => Err(e),
        };
        let e = result.expect_err("a row without a key was merged");
        assert_eq!(e.kind(), ErrorKind::DataInvalid, "{e:?}");
        assert!(e.suggested_fix().is_some(), "no suggested fix: {e:?}");
        drop(session);
        assert_eq!(self.table_of(&lane).await.ids(), [1, 2], "something of the refused slice is there");
    }

    pub(super) async fn deletes(&self) {
        let destination = self.destination();
        let mut lane = self.lane("deletes", WriteMode::Merge);
        load(&destination, &mut lane, &StandardRow::range(0..20)).await;
        let schema = with_ops();
        let mut session = open(&destination, &lane, &schema).await.unwrap_or_else(|e| panic!("{e:?}"));
        // 0..5 go; 5..8 go and come back changed; 100 never was; 200 comes and goes.
        let changes =
            [(0..5, "d", 0), (5..8, "d", 0), (5..8, "i", 1), (100..101, "d", 0), (200..201, "i", 0), (200..201, "d", 0), (8..10, "u", 2)];
        for (ids, op, version) in changes {
            session
                .write(batch(&lane.stream.stream, op_batch(&schema, &StandardRow::range_version(ids, version), op)))
                .await
                .unwrap_or_else(|e| panic!("{e:?}"));
        }
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        let expected = [StandardRow::range_version(5..8, 1), StandardRow::range_version(8..10, 2), StandardRow::range(10..20)].concat();
        let table = self.table_of(&lane).await;
        assert_same_rows(&table.standard_rows(&self.harness.lacks()), &expected, "the rows");
        assert!(!table.columns.iter().any(|c| c == OP_COLUMN), "the feed's own column is in the table");
    }

    /// Changes with unset columns, out of order inside a batch: the result is that of one change after the other in `_ls_seq` order.
    pub(super) async fn folds_a_feed(&self) {
        let destination = self.destination();
        let mut lane = self.lane("feed", WriteMode::Merge);
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Utf8, true),
            Field::new(OP_COLUMN, DataType::Utf8, false),
            Field::new(SEQ_COLUMN, DataType::FixedSizeBinary(16), false),
            Field::new(UNSET_COLUMN, DataType::Binary, true),
        ]));
        // (id, a, b, op, seq, unset bits: 2 = a, 4 = b)
        type Change = (i64, Option<&'static str>, Option<&'static str>, &'static str, u128, u8);
        let rows = |changes: &[Change]| {
            let seqs: Vec<[u8; 16]> = changes.iter().map(|c| c.4.to_be_bytes()).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.0))),
                Arc::new(StringArray::from_iter(changes.iter().map(|c| c.1))),
                Arc::new(StringArray::from_iter(changes.iter().map(|c| c.2))),
                Arc::new(StringArray::from_iter_values(changes.iter().map(|c| c.3))),
                Arc::new(FixedSizeBinaryArray::try_from_iter(seqs.iter()).unwrap()),
                Arc::new(BinaryArray::from_iter_values(changes.iter().map(|c| [c.5]))),
            ];
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        };
        let visible = Arc::new(Schema::new(schema.fields().iter().take(3).cloned().collect::<Vec<_>>()));
        let create = Alter::Create { schema: visible, key: vec!["id".into()] };
        let mut session = destination.open(lane.load()).await.unwrap_or_else(|e| panic!("{e:?}"));
        let plan = SchemaPlan { ddl: vec![create], schema: schema.clone(), misfit: Misfit::Fail };
        session.schema(&lane.stream.stream, &plan).await.unwrap_or_else(|e| panic!("{e:?}"));
        let start = [(1, Some("a1"), Some("b1"), "i", 1, 0), (2, Some("a2"), Some("b2"), "i", 2, 0), (3, Some("a3"), None, "i", 3, 0)];
        session.write(batch(&lane.stream.stream, rows(&start))).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        let changes = [
            // Later first: order is `_ls_seq`, not the order of arrival.
            (1, None, Some("b1+"), "u", 12, 2),
            (1, Some("a1+"), None, "u", 11, 4),
            // Set to null is not unset.
            (2, None, None, "u", 13, 4),
            (3, None, Some("gone"), "d", 14, 0),
            (4, Some("a4"), Some("b4"), "i", 15, 0),
            (4, None, Some("b4+"), "u", 16, 2),
        ];
        session.write(batch(&lane.stream.stream, rows(&changes))).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        let table = self.table_of(&lane).await;
        let mut found: Vec<_> =
            (0..table.len()).map(|i| ["id", "a", "b"].map(|c| table.column(c).expect("a column")[i].map(str::to_owned))).collect();
        found.sort();
        let row = |id: &str, a: Option<&str>, b: Option<&str>| [Some(id.to_owned()), a.map(str::to_owned), b.map(str::to_owned)];
        assert_eq!(found, [row("1", Some("a1+"), Some("b1+")), row("2", None, Some("b2")), row("4", Some("a4"), Some("b4+"))]);
    }

    pub(super) async fn truncates(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("truncate", mode);
        load(&destination, &mut lane, &StandardRow::range(0..20)).await;
        let mut session = open_standard(&destination, &lane).await;
        write(&mut session, &lane, &StandardRow::range(20..30)).await.unwrap_or_else(|e| panic!("{e:?}"));
        match session.truncate(&lane.stream.stream).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                assert!(e.suggested_fix().is_some(), "no suggested fix: {e:?}");
                return;
            }
            Err(e) => panic!("{e:?}"),
        }
        write(&mut session, &lane, &StandardRow::range(30..40)).await.unwrap_or_else(|e| panic!("{e:?}"));
        if self.destination().capability().commit_visible == linkspan_core::Visible::Atomic {
            assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..20), "the truncate is visible before its commit");
        }
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(30..40), "the rows");
        self.assert_no_staging("after the truncate").await;
    }

    pub(super) async fn interrupted_replace(&self) {
        let destination = self.destination();
        let mut lane = self.lane("replace", WriteMode::Replace);
        load(&destination, &mut lane, &StandardRow::range(0..50)).await;
        assert_eq!(self.table_of(&lane).await.len(), 0, "a replace is visible before it is published");
        destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..50), "the rows");
        // The next generation stops half way.
        lane.next_generation();
        lane.fence += 1;
        load(&destination, &mut lane, &StandardRow::range(100..130)).await;
        let mut session = open_standard(&destination, &lane).await;
        write(&mut session, &lane, &StandardRow::range(130..140)).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..50), "an interrupted replace shows");
        // Another process goes on in the same staging.
        let destination = self.destination();
        lane.fence += 1;
        load(&destination, &mut lane, &StandardRow::range(130..150)).await;
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..50), "the rows");
        destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        let mut rows = self.rows_in(&lane).await;
        if self.atomic() == linkspan_core::Atomic::None {
            // It may repeat the rows of the session that was dropped.
            rows.dedup();
        }
        assert_same_rows(&rows, &StandardRow::range(100..150), "the rows");
        self.assert_no_staging("after publishing").await;
    }

    pub(super) async fn abandoned_generation(&self) {
        let destination = self.destination();
        let mut lane = self.lane("abandoned", WriteMode::Replace);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        lane.next_generation();
        load(&destination, &mut lane, &StandardRow::range(10..20)).await;
        lane.next_generation();
        lane.fence += 1;
        drop(open_standard(&destination, &lane).await);
        // The rows are gone, so must be what says that they are there: a store set back to that generation would go on behind them.
        let recall = destination.recall(lane.connection).await.unwrap_or_else(|e| panic!("{e:?}"));
        let stale = recall.into_iter().flat_map(|r| r.scopes).filter(|(_, r)| r.generation < lane.stream.generation).count();
        assert_eq!(stale, 0, "positions of a generation whose rows were dropped");
        load(&destination, &mut lane, &StandardRow::range(20..30)).await;
        destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(20..30), "the rows");
        self.assert_no_staging("after the third generation").await;
    }

    pub(super) async fn empty_replace(&self) {
        let destination = self.destination();
        let mut lane = self.lane("replace_empty", WriteMode::Replace);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        lane.next_generation();
        load(&destination, &mut lane, &[]).await;
        destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(self.table_of(&lane).await.len(), 0);
        self.assert_no_staging("after publishing").await;
    }

    pub(super) async fn rewrite(&self) {
        let destination = self.destination();
        let mut lane = self.lane("rewrite", WriteMode::Replace);
        lane.stream.swap = Swap::Rewrite;
        for ids in [0..10, 10..30] {
            let mut session = match open(&destination, &lane, &rows::standard_schema()).await {
                Ok(session) => session,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
                    return;
                }
            };
            write(&mut session, &lane, &StandardRow::range(ids.clone())).await.unwrap_or_else(|e| panic!("{e:?}"));
            commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
            drop(session);
            destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
            assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(ids), "the rows");
            lane.next_generation();
        }
        self.assert_no_staging("after two rewrites").await;
    }

    pub(super) async fn publishes_twice(&self) {
        let destination = self.destination();
        let mut lane = self.lane("publish", WriteMode::Replace);
        load(&destination, &mut lane, &StandardRow::range(0..10)).await;
        for _ in 0..3 {
            destination.publish(&lane.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        }
        self.destination().publish(&lane.publish()).await.unwrap_or_else(|e| panic!("by another process: {e:?}"));
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..10), "the rows");
        if let Some(recall) = destination.recall(lane.connection).await.unwrap() {
            assert_eq!(recall.published.get(&lane.stream.stream), Some(&1), "{recall:?}");
        }
    }

    pub(super) async fn stale_publish(&self) {
        let destination = self.destination();
        let mut old = self.lane("stale_publish", WriteMode::Replace);
        load(&destination, &mut old, &StandardRow::range(0..10)).await;
        let mut new = self.lane_to(&old.stream.stream, old.stream.target.clone(), WriteMode::Replace);
        (new.connection, new.fence, new.stream.generation) = (old.connection, 2, 2);
        load(&self.destination(), &mut new, &StandardRow::range(10..20)).await;
        let e = destination.publish(&old.publish()).await.expect_err("a run that lost its fence published");
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}");
        destination.publish(&new.publish()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&self.rows_in(&new).await, &StandardRow::range(10..20), "the rows");
    }
}

fn with_ops() -> SchemaRef {
    let mut fields: Vec<_> = rows::standard_schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(OP_COLUMN, DataType::Utf8, false)));
    Arc::new(Schema::new(fields))
}

fn op_batch(schema: &SchemaRef, standard: &[StandardRow], op: &str) -> RecordBatch {
    let mut columns = rows::standard_batch(standard).columns().to_vec();
    columns.push(Arc::new(StringArray::from_iter_values(standard.iter().map(|_| op))));
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}
