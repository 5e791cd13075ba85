//! The calls that the reference documents print, sent as they are printed (host and token aside).

use http::Method;
use serde_json::{Value, json};

use crate::desk::{ADMIN, Desk, Said};

const MASK: &str = "***REDACTED***";

async fn send(desk: &Desk, method: Method, path: &str, body: &str) -> Said {
    desk.by(ADMIN, method, path, body).await
}

const HONEYFRAME: &str = r#"{
"name": "Production Postgres",
"type": "postgresql",
"config": {
"host": "db.example.com",
"port": 5432,
"database": "analytics",
"username": "honeyframe_ro",
"password": "<redacted>",
"sslmode": "require"
},
"output_schemas": ["public", "marts"]
}"#;

#[tokio::test]
async fn honeyframe_s_calls_run_as_printed() {
    let desk = Desk::new().await;
    let catalog = send(&desk, Method::GET, "/api/connectors/catalog", "").await.json();
    assert!(catalog["types"].as_array().unwrap().iter().any(|t| t["type"] == "postgresql" && t["config_schema"].is_object()));
    let made = send(&desk, Method::POST, "/api/connectors", HONEYFRAME).await;
    assert_eq!(made.status, 201, "{made:?}");
    let one = made.json();
    let id = one["id"].as_str().unwrap();
    assert_eq!((&one["config"]["password"], &one["output_schemas"]), (&json!(MASK), &json!(["public", "marts"])));
    let shown = send(&desk, Method::GET, &format!("/api/connectors/{id}"), "").await;
    assert_eq!(shown.json()["config"]["host"], "db.example.com");
    let listed = send(&desk, Method::GET, "/api/connectors", "").await.json();
    assert_eq!(listed["connectors"][0]["id"], id);
    let changed = send(&desk, Method::PATCH, &format!("/api/connectors/{id}"), r#"{"description": "read only", "enabled": false}"#).await;
    assert_eq!((changed.status.as_u16(), changed.json()["description"].as_str()), (200, Some("read only")), "{changed:?}");
    assert_eq!(send(&desk, Method::GET, "/api/connectors", "").await.json()["connectors"], json!([]), "active ones only");
    let gone = send(&desk, Method::DELETE, &format!("/api/connectors/{id}"), "").await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    assert_eq!(send(&desk, Method::GET, &format!("/api/connectors/{id}"), "").await.status, 404);
}

#[tokio::test]
async fn a_saved_connector_s_test_is_short_and_a_refusal_is_an_answer() {
    let desk = Desk::new().await;
    let body = r#"{"name": "dead", "type": "postgresql", "config": {"host": "127.0.0.1", "port": 1, "database": "d", "username": "u", "password": "canary-9", "sslmode": "disable"}}"#;
    let made = send(&desk, Method::POST, "/api/connectors", body).await.json();
    let tested = send(&desk, Method::POST, &format!("/api/connectors/{}/test", made["id"].as_str().unwrap()), "").await;
    let answer = tested.json();
    assert_eq!((tested.status.as_u16(), &answer["ok"]), (200, &json!(false)), "{tested:?}");
    assert!(answer["latency_ms"].is_u64() && answer["error"]["message"].is_string());
    assert_eq!(answer.as_object().unwrap().len(), 3);
    assert!(!tested.text.contains("canary-9"), "{tested:?}");
}

const QANATIX: &str = r#"{
    "name": "Production Postgres",
    "connector_type": "postgresql",
    "vertical": "manufacturing",
    "entity_type": "product",
    "connection_config": {
      "dsn": "postgresql://user:pass@db.internal:5432/products"
    },
    "query": "SELECT id, name, sku, price FROM products WHERE updated_at > :last_pull",
    "name_column": "name",
    "batch_size": 5000
  }"#;

#[tokio::test]
async fn qanatix_s_calls_run_as_printed() {
    let desk = Desk::new().await;
    let made = send(&desk, Method::POST, "/api/v1/connectors", QANATIX).await;
    assert_eq!(made.status, 201, "{made:?}");
    let one = made.json();
    let fields: Vec<&str> = one.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["id", "name", "connector_type", "vertical", "entity_type", "connection_config", "created_at"]);
    assert_eq!((&one["connector_type"], &one["connection_config"]), (&json!("postgresql"), &json!(MASK)));
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'));
    assert!(!made.text.contains("db.internal"), "nothing of the config is shown: {made:?}");
    let listed = send(&desk, Method::GET, "/api/v1/connectors", "").await;
    assert_eq!(listed.json()["data"][0]["connection_config"], MASK);
    assert!(!listed.text.contains("db.internal"));
    let id = one["id"].as_str().unwrap();
    assert_eq!(send(&desk, Method::DELETE, &format!("/api/v1/connectors/{id}"), "").await.status, 204);
}

#[tokio::test]
async fn acme_s_calls_run_as_printed() {
    let desk = Desk::new().await;
    let made = send(&desk, Method::POST, "/api/v1/connectors", QANATIX).await;
    assert_eq!(made.status, 201);
    let listed = send(&desk, Method::GET, "/api/v1/connectors", "").await.json();
    let one = &listed["data"][0];
    assert_eq!((&one["name"], &one["role"], &one["status"]), (&json!("Production Postgres"), &json!("source"), &json!("unknown")));
    assert!(one["pipelines"].is_array() && one.as_object().unwrap().contains_key("last_check"));
    // As printed, but to a port that nobody listens on: a name such as `host` is somebody's on some network.
    let body = r#"{
"type": "postgres",
"connection": "postgresql://user:pass@127.0.0.1:1/db",
"ssl": {
"mode": "verify-full"
}
}"#;
    let tested = send(&desk, Method::POST, "/api/v1/connectors/test", body).await;
    assert_eq!((tested.status.as_u16(), &tested.json()["data"]["status"]), (200, &json!("failed")), "{tested:?}");
    let health = send(&desk, Method::GET, "/api/v1/connectors/Production%20Postgres/health", "").await;
    assert_eq!((health.status.as_u16(), &health.json()["data"]["status"]), (200, &json!("unknown")), "{health:?}");
}

#[tokio::test]
async fn reactor_s_calls_run_as_printed() {
    let desk = Desk::new().await;
    assert!(send(&desk, Method::GET, "/connect/v1/catalog", "").await.json()["types"].is_array());
    assert_eq!(send(&desk, Method::GET, "/connect/v1/catalog/postgres", "").await.json()["type"], "postgresql");
    assert_eq!(send(&desk, Method::GET, "/connect/v1/catalog/stripe", "").await.status, 404, "what is not built is absent");
    let made = send(&desk, Method::POST, "/connect/v1/instances", r#"{"name": "gen", "type": "faker", "config": {"customers": 5}}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    let found = send(&desk, Method::POST, "/connect/v1/instances/gen/discover", "").await;
    assert_eq!(found.status, 200, "{found:?}");
    assert!(found.json()["streams"].as_array().unwrap().iter().any(|s| s["name"] == "customers"), "{found:?}");
}

#[tokio::test]
async fn sapix_s_management_runs_as_printed() {
    let desk = Desk::new().await;
    let made = send(&desk, Method::POST, "/v1/connectors", r#"{ "name": "Orders", "kind": "faker", "config": { "customers": 1 } }"#).await;
    let one = made.json();
    assert_eq!((made.status.as_u16(), &one["kind"], &one["enabled"], &one["event_count"]), (201, &json!("faker"), &json!(true), &json!(0)));
    let id = one["id"].as_str().unwrap();
    let path = format!("/v1/connectors/{id}");
    assert_eq!(send(&desk, Method::PATCH, &path, r#"{ "enabled": false }"#).await.json()["enabled"], false);
    let both = send(&desk, Method::PATCH, &path, r#"{ "name": "Renamed", "enabled": true, "config": { "customers": 2 } }"#).await.json();
    assert_eq!((&both["name"], &both["enabled"], &both["config"]["customers"]), (&json!("Renamed"), &json!(true), &json!(2)));
    let listed = send(&desk, Method::GET, "/v1/connectors", "").await.json();
    let first = &listed["connectors"][0];
    for field in ["id", "name", "kind", "direction", "enabled", "created_at_ms", "config", "last_event_ms", "event_count"] {
        assert!(first.as_object().unwrap().contains_key(field), "{field}: {first}");
    }
    assert!(listed["inbound_count"].is_u64() && listed["outbound_count"].is_u64());
    assert_eq!(send(&desk, Method::DELETE, &path, "").await.json(), json!({"deleted": true, "id": id}));
    assert_eq!(send(&desk, Method::PATCH, &path, r#"{ "enabled": false }"#).await.status, 404);
}

/// Wrong bodies in every dialect are refused in one shape.
#[tokio::test]
async fn a_foreign_mistake_is_refused_in_our_shape() {
    let desk = Desk::new().await;
    for (path, body) in [
        ("/api/connectors", "[]"),
        ("/api/connectors", r#"{"name": "x"}"#),
        ("/api/v1/connectors", r#"{"name": "x", "connector_type": "nothing"}"#),
        ("/api/v1/connectors/test", r#"{"type": "postgres", "connection": 5}"#),
        ("/connect/v1/instances", "{"),
    ] {
        let said = send(&desk, Method::POST, path, body).await;
        let error: Value = said.json();
        assert!(said.status.is_client_error() && error["error"]["kind"].is_string(), "{path} {body}: {said:?}");
    }
}
