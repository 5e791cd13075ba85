//! What cannot be done is refused early, with what to do instead.

use linkspan_core::*;
use serde_json::json;

use crate::world::*;

#[tokio::test]
async fn a_merge_without_a_key_is_refused_with_what_to_do() {
    let world = World::local();
    let stream = LoadStream { write: WriteMode::Merge, ..append("public.t") };
    let e = world.destination().open(world.load(1, Scope::Shared, stream)).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
    assert!(e.suggested_fix().unwrap().contains("--key"));
    assert!(!world.root().exists(), "nothing was made");
}

#[tokio::test]
async fn a_truncated_file_is_named_and_nothing_is_changed() {
    let world = World::local();
    run(&world, &append("public.t"), 2, &Failpoints::default()).await.unwrap();
    let file = std::fs::read_dir(world.root().join("public/t")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&file).unwrap();
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let e = world.source().discover().await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::DataInvalid, "{cut}: {e:?}");
        assert!(e.to_string().contains(file.file_name().unwrap().to_str().unwrap()), "{e}");
        assert!(e.suggested_fix().is_some());
    }
}

#[tokio::test]
async fn a_page_that_was_damaged_is_found_when_it_is_read() {
    let world = World::local();
    run(&world, &append("public.t"), 1, &Failpoints::default()).await.unwrap();
    let stream = discover_one(&world, "public.t").await;
    let file = std::fs::read_dir(world.root().join("public/t")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4..40].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let e = read(world.source(), selected(stream, ReadMode::Full, None), Position::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::DataInvalid, "{e:?}");
}

#[tokio::test]
async fn a_place_that_is_not_there_is_said() {
    let source = connector_type().open(json!({"path": "/no/such/folder"}), Context::real()).unwrap().source().unwrap();
    let e = source.discover().await.err().unwrap();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::NotFound, true));
}

#[tokio::test]
async fn a_destination_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.parquet");
    std::fs::write(&file, b"x").unwrap();
    let connector = connector_type().open(json!({"path": file}), Context::real()).unwrap();
    let world = World::local();
    let e = connector.destination().unwrap().open(world.load(1, Scope::Shared, append("public.t"))).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
}

#[tokio::test]
async fn a_damaged_or_incomplete_log_stops_everything_before_any_row() {
    let world = World::local();
    run(&world, &append("public.t"), 3, &Failpoints::default()).await.unwrap();
    let log = world.root().join("_linkspan/log");
    let third = log.join(format!("{:020}.json", 3));
    let text = std::fs::read(&third).unwrap();
    std::fs::write(&third, b"{").unwrap();
    let e = world.destination().recall(world.connection).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::DataInvalid, true));
    std::fs::remove_file(&third).unwrap();
    assert_eq!(world.destination().recall(world.connection).await.unwrap_err().kind(), ErrorKind::DataInvalid);
    std::fs::write(&third, text).unwrap();
    run(&world, &append("public.t"), 4, &Failpoints::default()).await.unwrap();
}

#[test]
fn every_config_mistake_has_a_fix() {
    for config in [
        json!({"path": ""}),
        json!({"path": "gs://bucket"}),
        json!({"path": "s3://"}),
        json!({"path": "s3://b", "endpoint": "not a url"}),
        json!({"path": "s3://b", "endpoint": "http://10.1.2.3:9000"}),
        json!({"path": "./out", "row_group_rows": 0}),
        json!({"path": "./out", "pathh": 0}),
        json!({}),
    ] {
        let e = connector_type().open(config.clone(), Context::real()).err().unwrap();
        assert!(matches!(e.kind(), ErrorKind::ConfigInvalid | ErrorKind::Unsupported) && e.suggested_fix().is_some(), "{config}: {e:?}");
    }
}

#[test]
fn the_type_is_described_whole() {
    let parquet = connector_type();
    let schema = parquet.config_schema();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let described = field["description"].is_string() || schema["$defs"].is_object() && field["$ref"].is_string();
        assert!(described, "{name} has no description");
    }
    for secret in ["secret_access_key", "session_token"] {
        assert!(schema["properties"][secret].to_string().contains("x-secret"), "{secret}");
    }
    assert!(parquet.spec.docs.contains("## Setup") && parquet.spec.docs.contains("## Limits"));
    assert!(parquet.open(parquet.spec.example.clone(), Context::real()).is_ok());
    let shown = parquet.redact(&json!({"path": "s3://b", "secret_access_key": "canary"}));
    assert!(!shown.to_string().contains("canary"));
}
