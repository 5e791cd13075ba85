//! What is left of a connector that others need, and what a connector's schemas let through.

use linkspan_core::ErrorKind;
use serde_json::json;

use crate::plant::Plant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_connector_leaves_its_schemas_to_those_who_need_it_and_stops_their_syncs() {
    let plant = Plant::new().await;
    plant.shop(3).await;
    plant.local("connections.create", json!({"name": "c", "from": "shop", "streams": "orders", "dest": "copy"})).await;
    assert_eq!(plant.refused("connections.streams", json!({"connection": "c"})).await.kind(), ErrorKind::NotFound);
    let found = plant.local("connectors.discover", json!({"connector": "shop"})).await;
    assert_eq!(plant.run("c").await["status"], "completed");
    plant.local("connectors.delete", json!({"connector": "shop"})).await;
    let kept = plant.local("connections.streams", json!({"connection": "c"})).await;
    assert_eq!(kept["streams"], found["streams"], "{kept}");
    let refused = plant.refused("connections.run", json!({"connection": "c"})).await;
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("source of this connection was deleted"), "{refused:?}");
    assert!(refused.suggested_fix().unwrap().contains("connections update"), "{refused:?}");
    let shown = plant.local("connections.show", json!({"connection": "c"})).await;
    assert!(uuid::Uuid::try_parse(shown["from"].as_str().unwrap()).is_ok(), "{shown}");
    // Another source makes it whole again, and begins from the start.
    plant.connector("again", "sqlite", json!({"path": plant.path("shop.db")})).await;
    plant.local("connections.update", json!({"connection": "c", "from": "again"})).await;
    plant.local("connectors.delete", json!({"connector": "copy"})).await;
    let refused = plant.refused("connections.run", json!({"connection": "c"})).await;
    assert!(refused.message().contains("destination of this connection was deleted"), "{refused:?}");
}

/// A folder of workbooks stands for a type without a field of its own for schemas: their sheets lie in schemas called after them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_schemas_limit_what_is_found_and_what_is_read() {
    let plant = Plant::new().await;
    plant.connector("gen", "faker", json!({"customers": 5})).await;
    for schema in ["open", "closed"] {
        plant.connector(&format!("to-{schema}"), "parquet", json!({"path": plant.path("tables")})).await;
        let connection =
            json!({"name": schema, "from": "gen", "streams": ["customers"], "dest": format!("to-{schema}:{schema}.customers")});
        plant.local("connections.create", connection).await;
        assert_eq!(plant.run(schema).await["status"], "completed");
    }
    let body = json!({"name": "tables", "type": "parquet", "config": {"path": plant.path("tables")}, "output_schemas": ["open"]});
    plant.local("connectors.create", body).await;
    let found = plant.local("connectors.discover", json!({"connector": "tables"})).await;
    let names: Vec<_> = found["streams"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["open.customers"]);
    plant.connector("copy", "sqlite", json!({"path": plant.path("copy.db")})).await;
    for (name, stream, status) in [("a", "open.customers", "completed"), ("b", "closed.customers", "failed")] {
        plant.local("connections.create", json!({"name": name, "from": "tables", "streams": stream, "dest": format!("copy:{name}")})).await;
        let run = plant.run(name).await;
        assert_eq!(run["status"], status, "{run}");
        if status == "failed" {
            assert!(run["error"].to_string().contains("output_schemas"), "{run}");
        }
    }
    plant.local("connectors.update", json!({"connector": "tables", "output_schemas": ["closed"]})).await;
    let found = plant.local("connectors.discover", json!({"connector": "tables"})).await;
    assert_eq!((found["streams"][0]["name"].as_str(), found["cached"].as_bool()), (Some("closed.customers"), Some(false)), "{found}");
    assert_eq!(plant.run("b").await["status"], "completed");
}
