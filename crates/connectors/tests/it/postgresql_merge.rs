//! Merging by key into PostgreSQL: the last change wins, whatever way the rows take in.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{ErrorKind, OP_COLUMN, SEQ_COLUMN, SchemaPlan, UNSET_COLUMN, WriteMode, WriteStats};

use crate::postgresql_destination::{World, batch, create, people, world};

fn stats(written: u64, duplicates: u64) -> WriteStats {
    WriteStats { written, duplicates, rejected: 0 }
}

/// (id, a, b, op); `None` in a or b leaves the column as it is.
type Row = (i64, Option<&'static str>, Option<&'static str>, &'static str);

fn feed(first: u64, rows: &[Row]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Utf8, true),
        Field::new(OP_COLUMN, DataType::Utf8, false),
        Field::new(SEQ_COLUMN, DataType::FixedSizeBinary(16), false),
        Field::new(UNSET_COLUMN, DataType::Binary, true),
    ]);
    let unset =
        rows.iter().map(|r| (r.1.is_none() || r.2.is_none()).then(|| vec![u8::from(r.1.is_none()) << 1 | u8::from(r.2.is_none()) << 2]));
    let seqs: Vec<[u8; 16]> = (0..rows.len() as u128).map(|n| (u128::from(first) + n).to_be_bytes()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.3))),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(seqs.iter().map(Some), 16).unwrap()),
        Arc::new(BinaryArray::from_iter(unset)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

async fn merged(w: &World) -> String {
    w.text("select * from t order by id").await
}

#[tokio::test]
async fn the_last_row_of_a_key_wins_inside_and_across_batches() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Merge);
    let first = w.load(&mut job, people(&[(2, Some("b")), (1, Some("a")), (2, Some("c"))])).await.unwrap();
    assert_eq!(first, stats(2, 1));
    assert_eq!(merged(&w).await, "1,a 2,c");
    let mut session = w.session(&job).await.unwrap();
    session.schema(&job.stream.stream, &SchemaPlan::as_is(people(&[]).schema())).await.unwrap();
    for rows in [&[(1, Some("x"))][..], &[(3, None), (1, Some("y"))], &[(2, Some("c"))]] {
        session.write(batch(&job, people(rows))).await.unwrap();
    }
    let commit = w.commit(&mut job);
    let done = session.commit(&commit).await.unwrap();
    assert_eq!(done[&job.stream.stream], stats(2, 2), "a folded row and one that is there already are duplicates");
    assert_eq!(merged(&w).await, "1,y 2,c 3,-");
    assert_eq!(w.text("select count(*) from pg_index where indrelid = 't'::regclass and indisprimary").await, "1");
}

#[tokio::test]
async fn a_first_load_in_key_order_and_one_in_any_order_end_equal() {
    let Some(w) = world().await else { return };
    for (table, ids) in [("rising", [1, 2, 3, 4, 5, 6]), ("mixed", [4, 2, 6, 2, 1, 4])] {
        let mut job = w.job(table, WriteMode::Merge);
        let mut session = w.session(&job).await.unwrap();
        session.schema(&job.stream.stream, &create(&people(&[]).schema(), &job)).await.unwrap();
        for (step, pair) in ids.chunks(2).enumerate() {
            let name = step.to_string();
            let rows: Vec<_> = pair.iter().map(|id| (*id, Some(name.as_str()))).collect();
            session.write(batch(&job, people(&rows))).await.unwrap();
            if step == 1 {
                let commit = w.commit(&mut job);
                session.commit(&commit).await.unwrap();
            }
        }
        let commit = w.commit(&mut job);
        session.commit(&commit).await.unwrap();
    }
    assert_eq!(w.text("select * from rising order by id").await, "1,0 2,0 3,1 4,1 5,2 6,2");
    assert_eq!(w.text("select * from mixed order by id").await, "1,2 2,1 4,2 6,1");
}

#[tokio::test]
async fn a_feed_inserts_updates_deletes_and_leaves_unset_columns() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Merge);
    let start = feed(0, &[(1, Some("a1"), Some("b1"), "i"), (2, Some("a2"), Some("b2"), "i"), (3, Some("a3"), Some("b3"), "i")]);
    assert_eq!(w.load(&mut job, start).await.unwrap(), stats(3, 0));
    let mut session = w.session(&job).await.unwrap();
    session.schema(&job.stream.stream, &SchemaPlan::as_is(feed(0, &[]).schema())).await.unwrap();
    let batches = [
        feed(10, &[(1, None, Some("B1"), "u"), (2, Some(""), Some(""), "d")]),
        // Built on the batch before it: the unset column keeps what that one set.
        feed(20, &[(1, Some("A1"), None, "u"), (3, None, Some("B3"), "u")]),
        feed(30, &[(2, Some("new"), Some("new"), "i"), (9, Some(""), Some(""), "d"), (3, Some("x"), Some("y"), "d")]),
    ];
    for rows in batches {
        session.write(batch(&job, rows)).await.unwrap();
    }
    let commit = w.commit(&mut job);
    let done = session.commit(&commit).await.unwrap()[&job.stream.stream];
    assert_eq!(done.written + done.duplicates, 7);
    assert_eq!(merged(&w).await, "1,A1,B1 2,new,new");
    assert_eq!(
        w.text("select count(*) from information_schema.columns where table_name = 't'").await,
        "3",
        "a feed's own columns are no columns"
    );
}

#[tokio::test]
async fn a_feed_out_of_order_within_a_batch_is_put_in_order() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Merge);
    let late = feed(9, &[(1, Some("late"), Some("late"), "u")]);
    let early = feed(1, &[(1, Some("early"), Some("early"), "i")]);
    let rows = arrow_select::concat::concat_batches(&late.schema(), [&late, &early]).unwrap();
    assert_eq!(w.load(&mut job, rows).await.unwrap(), stats(1, 1));
    assert_eq!(merged(&w).await, "1,late,late");
}

#[tokio::test]
async fn a_null_key_is_refused_before_anything_is_visible() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Merge);
    job.stream.key = vec!["name".into()];
    let error = w.load(&mut job, people(&[(1, Some("a")), (2, None)])).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::DataInvalid, "a key column holds NULL"));
    assert!(!w.exists("t").await);
}

#[tokio::test]
async fn a_table_of_somebody_else_gets_a_key_or_a_reason() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint, name text, other int default 5); insert into t values (1, 'old'), (2, 'old')").await;
    let mut job = w.job("t", WriteMode::Merge);
    assert_eq!(w.load(&mut job, people(&[(2, Some("new")), (3, Some("new"))])).await.unwrap(), stats(2, 0));
    assert_eq!(merged(&w).await, "1,old,5 2,new,5 3,new,5");
    w.db.execute("create table twice (id bigint, name text); insert into twice values (1, 'a'), (1, 'b')").await;
    let mut job = w.job("twice", WriteMode::Merge);
    let error = w.load(&mut job, people(&[(2, None)])).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::DataInvalid, "rows that stand in the table share a key"));
    assert_eq!(w.text("select count(*) from twice").await, "2");
}

#[tokio::test]
async fn keys_that_only_the_server_finds_equal_are_one_row() {
    let Some(w) = world().await else { return };
    w.db.execute("create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); create table t (id bigint, name text collate ci primary key)").await;
    let mut job = w.job("t", WriteMode::Merge);
    job.stream.key = vec!["name".into()];
    w.load(&mut job, people(&[(1, Some("key")), (2, Some("KEY"))])).await.unwrap();
    assert_eq!(w.text("select id from t").await, "2");
}

#[tokio::test]
async fn rows_above_the_largest_key_and_changes_below_it_meet_in_one_commit() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Merge);
    w.load(&mut job, people(&[(1, Some("a")), (5, Some("e"))])).await.unwrap();
    let mut session = w.session(&job).await.unwrap();
    session.schema(&job.stream.stream, &SchemaPlan::as_is(people(&[]).schema())).await.unwrap();
    for rows in [&[(6, Some("f")), (7, Some("g"))][..], &[(6, Some("F")), (1, Some("A"))], &[(8, Some("h"))], &[(7, Some("G"))]] {
        session.write(batch(&job, people(rows))).await.unwrap();
    }
    let commit = w.commit(&mut job);
    let done = session.commit(&commit).await.unwrap()[&job.stream.stream];
    assert_eq!(done.written + done.duplicates, 6);
    assert_eq!(merged(&w).await, "1,A 5,e 6,F 7,G 8,h");
}

#[tokio::test]
async fn a_key_that_another_writer_took_meanwhile_ends_in_a_conflict_that_can_be_tried_again() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Merge);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    let mut session = w.session(&job).await.unwrap();
    session.schema(&job.stream.stream, &SchemaPlan::as_is(people(&[]).schema())).await.unwrap();
    w.db.execute("insert into t values (2, 'theirs')").await;
    session.write(batch(&job, people(&[(2, Some("ours"))]))).await.unwrap();
    let mut again = job.clone();
    let commit = w.commit(&mut job);
    let error = session.commit(&commit).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_hint()), (ErrorKind::Conflict, linkspan_core::Retry::Backoff), "{error:?}");
    w.load(&mut again, people(&[(2, Some("ours"))])).await.unwrap();
    assert_eq!(merged(&w).await, "1,- 2,ours");
}

#[tokio::test]
async fn a_table_of_many_types_is_merged_without_touching_equal_rows() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint primary key, name text, j json, p point, n numeric)").await;
    w.db.execute("insert into t values (1, 'a', '{\"x\": 1}', '(1,2)', 1.0)").await;
    let before = w.text("select ctid, xmin from t").await;
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("j", DataType::Utf8, true),
        Field::new("p", DataType::Utf8, true),
        Field::new("n", DataType::Utf8, true),
    ]);
    let rows = |n: &str| {
        let text = |v: &str| Arc::new(StringArray::from(vec![v])) as ArrayRef;
        let columns = vec![Arc::new(Int64Array::from(vec![1])) as ArrayRef, text("a"), text("{\"x\": 1}"), text("(1,2)"), text(n)];
        RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap()
    };
    let mut job = w.job("t", WriteMode::Merge);
    assert_eq!(w.load(&mut job, rows("1.0")).await.unwrap(), stats(0, 1));
    assert_eq!(w.text("select ctid, xmin from t").await, before);
    assert_eq!(w.load(&mut job, rows("1.00")).await.unwrap(), stats(1, 0));
    assert_eq!(w.text("select n from t").await, "1.00");
}
