//! What lies in the folder afterwards.

use std::sync::Arc;

use arrow_array::{Int32Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use linkspan_core::*;

use crate::world::*;

#[tokio::test]
async fn a_table_is_a_folder_of_parquet_files_and_nothing_else() {
    let world = World::local();
    run(&world, &append("public.orders"), 2, &Failpoints::default()).await.unwrap();
    let files = files_below(&world.root());
    assert_eq!(files.iter().filter(|f| f.starts_with("public/orders/part-") && f.ends_with(".parquet")).count(), 2);
    assert!(files.iter().all(|f| f.starts_with("public/orders/") || f.starts_with("_linkspan/log/")), "{files:?}");
}

#[tokio::test]
async fn a_table_without_rows_is_there_with_its_columns() {
    for world in World::all() {
        for stream in [append("public.empty"), replace("public.void", 1)] {
            run(&world, &stream, 0, &Failpoints::default()).await.unwrap();
            let scope = Scope::Stream(stream.stream.clone());
            let destination = world.destination();
            let fence = world.next_fence();
            let mut session = destination.open(world.load(fence, scope.clone(), stream.clone())).await.unwrap();
            session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
            session.commit(&world.commit(fence, &scope, 1, 0)).await.unwrap();
            if stream.write == WriteMode::Replace {
                let again = LoadStream { generation: 2, ..stream.clone() };
                let mut session = destination.open(world.load(fence, scope.clone(), again.clone())).await.unwrap();
                session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
                session.commit(&world.commit(fence, &scope, 2, 0)).await.unwrap();
                destination.publish(&world.publish(fence, &again)).await.unwrap();
            }
            let shape = destination.shape(&stream.target).await.unwrap().unwrap();
            assert_eq!((shape.schema, shape.ours), (schema(), true));
            assert_eq!(discover_one(&world, &stream.stream.to_string()).await.schema, schema());
        }
    }
}

#[tokio::test]
async fn a_file_that_grew_to_its_size_is_followed_by_another() {
    let world = World::local().with("target_file_mb", 1).with("compression", "none");
    let stream = append("public.t");
    let scope = Scope::Stream(stream.stream.clone());
    let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    for n in 0..10 {
        session.write(batch(&stream.stream, rows(n * 20_000..(n + 1) * 20_000))).await.unwrap();
    }
    session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
    let sizes: Vec<u64> = std::fs::read_dir(world.root().join("public/t")).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|s| *s < 3 << 20), "{sizes:?}");
    assert_eq!(world.ids(&stream.stream).await.len(), 200_000);
}

#[tokio::test]
async fn a_new_schema_is_a_new_file_and_the_table_has_the_sum_of_both() {
    for world in World::all() {
        let stream = append("public.t");
        let scope = Scope::Stream(stream.stream.clone());
        let narrow = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false)]));
        let destination = world.destination();
        let mut session = destination.open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
        session.schema(&stream.stream, &SchemaPlan::as_is(narrow.clone())).await.unwrap();
        let old = RecordBatch::try_new(narrow, vec![Arc::new(Int32Array::from(vec![-1]))]).unwrap();
        session.write(batch(&stream.stream, old)).await.unwrap();
        session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
        session.write(batch(&stream.stream, rows(0..3))).await.unwrap();
        session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
        let wide = schema();
        assert_eq!(destination.shape(&stream.target).await.unwrap().unwrap().schema, wide);
        assert_eq!(discover_one(&world, "public.t").await.schema, wide);
        assert_eq!(world.ids(&stream.stream).await, [-1, 0, 1, 2]);
    }
}

#[tokio::test]
async fn any_name_is_a_folder_and_reads_back_under_its_name() {
    for world in World::all() {
        for (ns, name) in [(Some("Mixed Case"), "a.b"), (Some(""), "x"), (None, "plain"), (Some("s"), "_under"), (Some("日本"), "a/b%c=d")]
        {
            let name = StreamName::new(ns, name);
            let stream = LoadStream { target: Target::from(&name), stream: name.clone(), ..append("x.y") };
            run(&world, &stream, 1, &Failpoints::default()).await.unwrap();
            assert_eq!(world.ids(&name).await.len(), 10, "{name:?}");
        }
    }
}

#[tokio::test]
async fn somebody_elses_folder_is_not_ours() {
    let world = World::local();
    run(&world, &append("public.t"), 1, &Failpoints::default()).await.unwrap();
    let theirs = world.root().join("public/theirs");
    std::fs::create_dir_all(&theirs).unwrap();
    let file = std::fs::read_dir(world.root().join("public/t")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(file, theirs.join("data.parquet")).unwrap();
    let destination = world.destination();
    let shape = |name: &str| {
        let (destination, target) = (destination.clone(), append(name).target);
        async move { destination.shape(&target).await.unwrap().map(|s| s.ours) }
    };
    assert_eq!(shape("public.theirs").await, Some(false));
    assert_eq!(shape("public.t").await, Some(true));
    assert_eq!(shape("public.nothing").await, None);
    std::fs::remove_dir_all(world.root().join("public/t")).unwrap();
    assert_eq!(shape("public.t").await, None, "a table whose files are gone is gone");
}

#[tokio::test]
async fn a_full_disk_says_so_and_loses_nothing() {
    let world = World::local();
    let stream = append("public.t");
    for point in ["parquet.part.write", "files.sync", "files.put"] {
        let failpoints = Failpoints::default();
        failpoints.arm(point, Fault::Full, 1);
        let e = run(&world, &stream, 2, &failpoints).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::StorageFull, "{point}");
        assert!(e.suggested_fix().is_some());
    }
    run(&world, &stream, 3, &Failpoints::default()).await.unwrap();
    assert_eq!(world.ids(&stream.stream).await, (0..30).collect::<Vec<_>>());
}
