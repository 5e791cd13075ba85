//! Merges by key: which files change, and what becomes of values that a change does not bring.

use std::{ops::Range, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::*;

use crate::world::*;

/// A session of one stream, opened as the engine does.
struct Loading {
    session: Box<dyn Session>,
    stream: LoadStream,
    scope: Scope,
    fence: u64,
    number: u64,
}

impl Loading {
    async fn begin(world: &World, stream: LoadStream) -> Self {
        let (fence, scope) = (world.next_fence(), Scope::Stream(stream.stream.clone()));
        let destination = world.destination_with(&Failpoints::default());
        let recall = destination.recall(world.connection).await.unwrap();
        let at = recall.as_ref().and_then(|r| r.scopes.get(&scope)).filter(|r| r.generation == stream.generation);
        let number = at.map_or(0, |r| r.number);
        let session = destination.open(world.load(fence, scope.clone(), stream.clone())).await.unwrap();
        Self { session, stream, scope, fence, number }
    }
    async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        self.session.schema(&self.stream.stream, &SchemaPlan::as_is(rows.schema())).await?;
        self.session.write(batch(&self.stream.stream, rows)).await
    }
    async fn commit(&mut self, world: &World) -> Result<WriteStats> {
        let commit = world.commit(self.fence, &self.scope, self.stream.generation, self.number);
        let stats = self.session.commit(&commit).await?;
        self.number += 1;
        Ok(stats[&self.stream.stream])
    }
}

fn named(ids: Range<i64>, name: &str) -> RecordBatch {
    let names = StringArray::from_iter_values(ids.clone().map(|_| name));
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)]).unwrap()
}

fn files(world: &World) -> Vec<String> {
    files_below(&world.root()).into_iter().filter(|f| f.ends_with(".parquet")).collect()
}

#[tokio::test]
async fn only_files_with_a_changed_key_are_written_again() {
    let world = World::local();
    let mut loading = Loading::begin(&world, merge("public.t")).await;
    for ids in [0..10, 10..20, 20..30] {
        loading.write(named(ids, "old")).await.unwrap();
        loading.commit(&world).await.unwrap();
    }
    let before = files(&world);
    loading.write(named(12..14, "new")).await.unwrap();
    loading.write(named(13..15, "newer")).await.unwrap();
    let stats = loading.commit(&world).await.unwrap();
    assert_eq!(stats, WriteStats { written: 3, duplicates: 1, rejected: 0 });
    let stay: Vec<_> = files(&world).into_iter().filter(|file| before.contains(file)).collect();
    assert_eq!((before.len(), stay.len()), (3, 2), "the file with the keys 10 to 19 was replaced, and no other");
    let name = |id: i64| {
        if id == 12 {
            "new"
        } else if [13, 14].contains(&id) {
            "newer"
        } else {
            "old"
        }
    };
    let expected: Vec<_> = (0..30).map(|id| (id, name(id).to_owned())).collect();
    assert_eq!(world.names(&loading.stream.stream).await, expected);
    let shape = world.destination_with(&Failpoints::default()).shape(&loading.stream.target).await.unwrap().unwrap();
    assert_eq!(shape.key, ["id"]);
}

/// More than memory may hold, with keys that come again in every batch.
#[tokio::test]
async fn a_commit_that_is_larger_than_memory_keeps_the_last_of_each_key() {
    let world = World::local();
    let mut loading = Loading::begin(&world, merge("public.t")).await;
    let wide = "x".repeat(400);
    for round in 0..12 {
        let rows = named(round * 5_000..round * 5_000 + 15_000, &format!("{round} {wide}"));
        loading.write(rows).await.unwrap();
        if round == 5 {
            loading.commit(&world).await.unwrap();
        }
    }
    let stats = loading.commit(&world).await.unwrap();
    assert_eq!(stats, WriteStats { written: 40_000, duplicates: 50_000, rejected: 0 });
    let names = world.names(&loading.stream.stream).await;
    assert_eq!(names.len(), 70_000);
    for (at, (id, name)) in names.iter().enumerate() {
        assert_eq!(*id, at as i64);
        let round = (id / 5_000).min(11);
        assert_eq!(name.split(' ').next(), Some(round.to_string().as_str()), "{id}");
    }
}

/// (id, name, note, op, seq, unset bits)
type Change<'a> = (i64, Option<&'a str>, Option<&'a str>, &'a str, u128, u8);

fn feed(rows: &[Change<'_>]) -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("note", DataType::Utf8, true),
        Field::new(OP_COLUMN, DataType::Utf8, false),
        Field::new(SEQ_COLUMN, DataType::FixedSizeBinary(16), false),
        Field::new(UNSET_COLUMN, DataType::Binary, true),
    ]));
    let seqs: Vec<[u8; 16]> = rows.iter().map(|row| row.4.to_be_bytes()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3))),
        Arc::new(FixedSizeBinaryArray::try_from_iter(seqs.iter()).unwrap()),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| [row.5]))),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

async fn notes(world: &World, stream: &StreamName) -> Vec<(i64, String, String)> {
    let mut all = Vec::new();
    for rows in world.rows(stream).await {
        let text = |name: &str, at: usize| {
            let column = rows.column_by_name(name).unwrap().clone();
            let column = column.as_any().downcast_ref::<StringArray>().unwrap().clone();
            column.iter().nth(at).unwrap().unwrap_or("-").to_owned()
        };
        let ids = rows.column_by_name("id").unwrap().as_any().downcast_ref::<Int64Array>().unwrap().clone();
        all.extend(ids.values().iter().enumerate().map(|(at, id)| (*id, text("name", at), text("note", at))));
    }
    all.sort();
    all
}

#[tokio::test]
async fn what_a_change_does_not_bring_stays_as_it_is() {
    let world = World::local();
    let mut loading = Loading::begin(&world, merge("public.t")).await;
    let start = [(1, Some("a"), Some("x"), "i", 1, 0), (2, Some("b"), Some("y"), "i", 2, 0), (3, Some("c"), Some("z"), "i", 3, 0)];
    loading.write(feed(&start)).await.unwrap();
    loading.commit(&world).await.unwrap();
    // Bit 2 is `name`, bit 4 is `note`.
    let changes =
        [(1, None, Some("x+"), "u", 4, 2), (2, Some("b+"), None, "u", 5, 4), (3, None, None, "d", 6, 0), (2, None, None, "u", 7, 6)];
    loading.write(feed(&changes)).await.unwrap();
    assert_eq!(loading.commit(&world).await.unwrap(), WriteStats { written: 3, duplicates: 1, rejected: 0 });
    let row = |id, name: &str, note: &str| (id, name.to_owned(), note.to_owned());
    assert_eq!(notes(&world, &loading.stream.stream).await, [row(1, "a", "x+"), row(2, "b+", "y")]);
    // Rows that lack a column of the table.
    loading.write(named(1..2, "a++")).await.unwrap();
    loading.write(named(9..10, "i")).await.unwrap();
    loading.commit(&world).await.unwrap();
    assert_eq!(notes(&world, &loading.stream.stream).await, [row(1, "a++", "x+"), row(2, "b+", "y"), row(9, "i", "-")]);
}

#[tokio::test]
async fn a_table_whose_rows_were_all_deleted_is_an_empty_table() {
    let world = World::local();
    let mut loading = Loading::begin(&world, merge("public.t")).await;
    loading.write(feed(&[(1, Some("a"), Some("x"), "i", 1, 0)])).await.unwrap();
    loading.commit(&world).await.unwrap();
    loading.write(feed(&[(1, None, None, "d", 2, 0)])).await.unwrap();
    loading.commit(&world).await.unwrap();
    assert_eq!(files(&world).len(), 1);
    assert_eq!(notes(&world, &loading.stream.stream).await, []);
    assert_eq!(discover_one(&world, "public.t").await.schema.fields().len(), 3);
}

#[tokio::test]
async fn two_connections_that_merge_into_one_table_at_once_lose_nothing_of_each_other() {
    let one = World::local();
    let other = World::other(one.config.clone(), ConnectionId(uuid::Uuid::new_v4()), 1);
    let load = async |world: &World, name: &'static str, first: i64| {
        let mut loading = Loading::begin(world, merge("public.t")).await;
        for n in 0..20 {
            // Each has keys of its own, and all share the keys 0 to 4.
            loading.write(named(0..5, name)).await.unwrap();
            loading.write(named(first + n * 3..first + n * 3 + 3, name)).await.unwrap();
            loading.commit(world).await.unwrap();
        }
    };
    tokio::join!(load(&one, "one", 100), load(&other, "other", 500));
    let names = one.names(&StreamName::parse("public.t")).await;
    let ids: Vec<i64> = names.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (0..5).chain(100..160).chain(500..560).collect::<Vec<_>>());
    assert!(names.iter().all(|(id, name)| *id < 5 || (*id < 500) == (name == "one")), "{names:?}");
}

#[tokio::test]
async fn a_history_of_changes_is_no_table_to_merge_into() {
    let world = World::local();
    let mut history = Loading::begin(&world, append("public.t")).await;
    history.write(feed(&[(1, Some("a"), Some("x"), "i", 1, 0)])).await.unwrap();
    history.commit(&world).await.unwrap();
    drop(history);
    let mut merging = Loading::begin(&world, merge("public.t")).await;
    let e = merging.write(feed(&[(1, Some("b"), Some("x"), "u", 2, 0)])).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.suggested_fix().is_some());
}

#[tokio::test]
async fn a_replace_whose_rows_come_again_has_each_key_once_when_it_is_shown() {
    let world = World::local();
    run(&world, &append("public.t"), 1, &Failpoints::default()).await.unwrap();
    let before = world.names(&StreamName::parse("public.t")).await;
    let stream = LoadStream { key: vec!["id".into()], ..replace("public.t", 2) };
    for (ids, name) in [(100..110, "a"), (105..115, "b"), (100..102, "c")] {
        // Each by another run, as after a crash.
        let mut loading = Loading::begin(&world, stream.clone()).await;
        loading.session.fold(&stream.stream).await.unwrap();
        loading.write(named(ids.clone(), "first")).await.unwrap();
        loading.write(named(ids, name)).await.unwrap();
        loading.commit(&world).await.unwrap();
        assert_eq!(world.names(&stream.stream).await, before, "nothing of it is seen");
    }
    let destination = world.destination_with(&Failpoints::default());
    destination.publish(&world.publish(world.next_fence(), &stream)).await.unwrap();
    let name = |id| {
        if id < 102 {
            "c"
        } else if id < 105 {
            "a"
        } else {
            "b"
        }
    };
    let expected: Vec<_> = (100..115).map(|id| (id, name(id).to_owned())).collect();
    assert_eq!(world.names(&stream.stream).await, expected);
    assert!(!files_below(&world.root()).iter().any(|file| file.contains("_linkspan/tmp")), "a file that was written again is left");
}

#[tokio::test]
async fn a_bucket_says_that_it_cannot_fold_a_replace() {
    let Some(world) = World::s3() else { return };
    let stream = LoadStream { key: vec!["id".into()], ..replace("public.t", 1) };
    let mut loading = Loading::begin(&world, stream.clone()).await;
    let e = loading.session.fold(&stream.stream).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.suggested_fix().is_some());
}
