//! Reading folders: whole, from the middle, and only what is new.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use linkspan_core::*;
use serde_json::json;

use crate::world::*;

#[tokio::test]
async fn a_full_read_goes_on_from_every_checkpoint() {
    for world in World::all() {
        let world = world.with("row_group_rows", 7);
        run(&world, &append("public.t"), 3, &Failpoints::default()).await.unwrap();
        let stream = discover_one(&world, "public.t").await;
        assert_eq!(stream.estimated_rows, Some(30));
        let all = read(world.source(), selected(stream.clone(), ReadMode::Full, None), Position::new()).await.unwrap();
        assert_eq!(all.ids(), (0..30).collect::<Vec<_>>());
        assert_eq!(all.checkpoints.len(), 7, "two row groups a file, and the end");
        for (scope, state, before) in &all.checkpoints {
            let state: State = serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap();
            let rest = read(world.source(), selected(stream.clone(), ReadMode::Full, None), [(scope.clone(), state)].into()).await.unwrap();
            assert_eq!(rest.ids().len(), 30 - before);
        }
    }
}

#[tokio::test]
async fn a_full_read_whose_files_changed_starts_anew() {
    let world = World::local();
    run(&world, &append("public.t"), 3, &Failpoints::default()).await.unwrap();
    let stream = discover_one(&world, "public.t").await;
    let all = read(world.source(), selected(stream.clone(), ReadMode::Full, None), Position::new()).await.unwrap();
    let (scope, state, _) = all.checkpoints[1].clone();
    let mut files: Vec<_> = std::fs::read_dir(world.root().join("public/t")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    std::fs::remove_file(&files[0]).unwrap();
    let e = read(world.source(), selected(stream, ReadMode::Full, None), [(scope, state)].into()).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::PositionLost, true));
}

#[tokio::test]
async fn a_state_that_is_not_ours_is_refused() {
    let world = World::local();
    run(&world, &append("public.t"), 1, &Failpoints::default()).await.unwrap();
    let stream = discover_one(&world, "public.t").await;
    let scope = Scope::Stream(stream.name.clone());
    for (mode, cursor) in [(ReadMode::Full, None), (ReadMode::Incremental, Some("id"))] {
        for state in [State::new(9, json!({})), State::new(1, json!({"unknown": 1})), State::new(1, json!("x"))] {
            let e = read(world.source(), selected(stream.clone(), mode, cursor), [(scope.clone(), state)].into()).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::PositionLost);
        }
    }
}

/// Files with an id and a cursor.
fn write(world: &World, name: &str, rows: &[(i64, Option<i64>)]) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("updated_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]));
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let at = TimestampMicrosecondArray::from_iter(rows.iter().map(|r| r.1)).with_timezone("UTC");
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(at)]).unwrap();
    let folder = world.root().join("events");
    std::fs::create_dir_all(&folder).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let file = std::fs::File::create(folder.join(name)).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

async fn incremental(world: &World, from: Position) -> Result<Read> {
    let stream = discover_one(world, "events").await;
    read(world.source(), selected(stream, ReadMode::Incremental, Some("updated_at")), from).await
}

#[tokio::test]
async fn an_incremental_read_brings_what_is_new_and_ties_once() {
    let world = World::local();
    write(&world, "a.parquet", &[(1, Some(10)), (2, Some(30)), (3, None), (4, Some(30))]);
    let first = incremental(&world, Position::new()).await.unwrap();
    assert_eq!(first.ids(), [1, 2, 3, 4]);
    let none = incremental(&world, first.position.clone()).await.unwrap();
    assert!(none.ids().is_empty());
    // A new file with a tie, a newer row and an older one; and one whose rows are all old.
    write(&world, "0.parquet", &[(5, Some(30)), (6, Some(31)), (7, Some(5))]);
    write(&world, "z.parquet", &[(8, Some(1))]);
    let second = incremental(&world, none.position).await.unwrap();
    assert_eq!(second.ids(), [5, 6]);
    assert!(incremental(&world, second.position.clone()).await.unwrap().ids().is_empty());
    write(&world, "b.parquet", &[(9, Some(31)), (10, Some(31))]);
    assert_eq!(incremental(&world, second.position).await.unwrap().ids(), [9, 10]);
}

#[tokio::test]
async fn an_incremental_read_goes_on_from_every_checkpoint() {
    let world = World::local();
    write(&world, "a.parquet", &[(1, Some(10)), (2, Some(50)), (3, Some(20)), (4, Some(50)), (5, Some(50))]);
    write(&world, "b.parquet", &[(6, Some(50)), (7, Some(40)), (8, Some(60))]);
    let all = incremental(&world, Position::new()).await.unwrap();
    for (scope, state, before) in &all.checkpoints {
        let rest = incremental(&world, [(scope.clone(), state.clone())].into()).await.unwrap();
        assert_eq!(rest.ids().len(), 8 - before, "{state:?}");
        assert_eq!(rest.position, all.position);
    }
}

#[tokio::test]
async fn a_file_rewritten_in_the_middle_of_a_read_is_not_sent_twice_unseen() {
    let world = World::local();
    write(&world, "a.parquet", &[(1, Some(10)), (2, Some(20)), (3, Some(30))]);
    let all = incremental(&world, Position::new()).await.unwrap();
    let (scope, middle, _) = all.checkpoints[0].clone();
    write(&world, "a.parquet", &[(1, Some(10)), (2, Some(20)), (3, Some(30)), (4, Some(40))]);
    let e = incremental(&world, [(scope, middle)].into()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost);
    assert_eq!(incremental(&world, all.position).await.unwrap().ids(), [3, 4], "a rewritten file is a new one, ties included");
}

#[tokio::test]
async fn a_cursor_that_cannot_be_one_is_refused() {
    let world = World::local();
    write(&world, "a.parquet", &[(1, Some(10))]);
    let stream = discover_one(&world, "events").await;
    assert_eq!(stream.cursor, Cursor::Columns(vec!["updated_at".into(), "id".into()]));
    let e = read(world.source(), selected(stream.clone(), ReadMode::Incremental, Some("updated")), Position::new()).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some("did you mean \"updated_at\"?")));
    let e = read(world.source(), selected(stream.clone(), ReadMode::Incremental, None), Position::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
    let e = read(world.source(), selected(stream, ReadMode::Cdc, None), Position::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn one_file_is_a_stream() {
    let world = World::local();
    write(&world, "a.parquet", &[(1, Some(10))]);
    let file = world.root().join("events/a.parquet");
    let url = file.to_str().unwrap().to_owned();
    let config = (connector_type().spec.url.unwrap().config)(&url).unwrap();
    let source = connector_type().open(config, Context::real()).unwrap().source().unwrap();
    let streams = source.discover().await.unwrap();
    assert_eq!(streams[0].name, StreamName::new(None, "a"));
    let rows = read(source, selected(streams[0].clone(), ReadMode::Full, None), Position::new()).await.unwrap();
    assert_eq!(rows.ids(), [1]);
}

#[tokio::test]
async fn a_column_that_appears_after_discovery_is_announced_before_its_rows() {
    let world = World::local();
    write(&world, "a.parquet", &[(1, Some(10))]);
    let stream = discover_one(&world, "events").await;
    let wide = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("extra", DataType::Int64, true)]));
    let batch = RecordBatch::try_new(wide.clone(), vec![Arc::new(Int64Array::from(vec![2])), Arc::new(Int64Array::from(vec![7]))]).unwrap();
    let file = std::fs::File::create(world.root().join("events/b.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, wide, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let all = read(world.source(), selected(stream, ReadMode::Full, None), Position::new()).await.unwrap();
    assert_eq!(all.ids(), [1, 2]);
    assert_eq!(all.schemas.len(), 1);
    assert!(all.schemas[0].field_with_name("extra").unwrap().is_nullable());
    assert_eq!(all.batches[1].num_columns(), 3);
}
