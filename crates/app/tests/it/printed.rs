//! The bodies that the reference documents print about connectors, sent as they are printed. Paths and answers that are spelled
//! otherwise there are the face's matter; the data are these.

use linkspan_app::CallContext;
use linkspan_core::ErrorKind;
use serde_json::{Value, json};

use crate::rig::{Rig, kind};

const MASK: &str = "***REDACTED***";

async fn made(rig: &Rig, body: Value) -> Value {
    rig.local("connectors.create", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn honeyframes_connector_is_made_shown_listed_and_deleted() {
    let rig = Rig::real().await;
    let body = json!({
        "name": "Production Postgres",
        "type": "postgresql",
        "config": {
            "host": "db.example.com", "port": 5432, "database": "analytics", "username": "honeyframe_ro",
            "password": "<redacted>", "sslmode": "require"
        },
        "output_schemas": ["public", "marts"]
    });
    let one = made(&rig, body).await;
    assert_eq!(
        (&one["type"], &one["kind"], &one["enabled"], &one["status"]),
        (&json!("postgresql"), &json!("postgresql"), &json!(true), &json!("unknown"))
    );
    assert_eq!(one["config"]["password"], MASK);
    assert_eq!((&one["config"]["host"], &one["output_schemas"]), (&json!("db.example.com"), &json!(["public", "marts"])));
    assert_eq!(rig.local("connectors.show", json!({"connector": one["id"]})).await, one);
    assert_eq!(rig.local("connectors.show", json!({"connector": "Production Postgres"})).await, one);
    let all = rig.local("connectors.list", json!({})).await;
    assert_eq!((&all["connectors"][0], &all["inbound_count"], &all["outbound_count"]), (&one, &json!(0), &json!(0)));
    let gone = rig.local("connectors.delete", json!({"connector": one["id"]})).await;
    assert_eq!(gone, json!({"deleted": true, "id": one["id"]}));
    assert_eq!(kind(&rig.refused(&CallContext::local(), "connectors.show", json!({"connector": one["id"]})).await), ErrorKind::NotFound);
    let types = rig.local("catalog.list", json!({})).await;
    let postgres = types["types"].as_array().unwrap().iter().find(|t| t["type"] == "postgresql").unwrap();
    assert_eq!((&postgres["is_queryable"], &postgres["config_schema"]["properties"]["password"]["x-secret"]), (&json!(true), &json!(true)));
    assert_eq!(rig.local("catalog.show", json!({"type": "rds"})).await["type"], "postgresql");
}

#[tokio::test(flavor = "multi_thread")]
async fn qanatixs_connector_keeps_its_query_and_hides_its_dsn() {
    let rig = Rig::real().await;
    let query = "SELECT id, name, sku, price FROM products WHERE updated_at > :last_pull";
    let one = made(
        &rig,
        json!({
            "name": "Production Postgres",
            "connector_type": "postgresql",
            "vertical": "manufacturing",
            "entity_type": "product",
            "connection_config": {"dsn": "postgresql://user:pass@db.internal:5432/products"},
            "query": query,
            "name_column": "name",
            "batch_size": 5000
        }),
    )
    .await;
    assert_eq!(one["config"]["url"], format!("postgresql://user:{MASK}@db.internal:5432/products"));
    assert_eq!((&one["query"], &one["vertical"], &one["entity_type"]), (&json!(query), &json!("manufacturing"), &json!("product")));
    assert_eq!((&one["name_column"], &one["batch_size"]), (&json!("name"), &json!(5000)));
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'));
    for wrong in [
        json!({"name": "a", "type": "postgresql", "config": {"host": "h", "username": "u"}, "vertical": "x"}),
        json!({"name": "a", "type": "postgresql", "config": {"host": "h", "username": "u"}, "query": "select 1", "batch_size": 0}),
        json!({"name": "a", "type": "postgresql", "config": {"host": "h", "username": "u"}, "query": "select 1", "entity_type": "../x"}),
    ] {
        assert_eq!(kind(&rig.refused(&CallContext::local(), "connectors.create", wrong).await), ErrorKind::ConfigInvalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reactors_instance_waits_for_its_credentials() {
    let rig = Rig::real().await;
    let one = made(&rig, json!({"name": "my-vendor", "type": "vendor"})).await;
    assert_eq!(one["status"], "needs_credentials");
    let e = rig.refused(&CallContext::local(), "connectors.test", json!({"connector": "my-vendor"})).await;
    assert_eq!(kind(&e), ErrorKind::Conflict);
    assert_eq!(e.suggested_fix().unwrap(), r#"linkspan connectors credentials 'my-vendor' --input '{"api_key": "..."}'"#);
    let set = rig.local("connectors.credentials", json!({"connector": "my-vendor", "api_key": "good-key-0123456789"})).await;
    assert_eq!((&set["status"], &set["config"]["api_key"]), (&json!("unknown"), &json!(MASK)));
    let tested = rig.local("connectors.test", json!({"connector": "my-vendor"})).await;
    assert_eq!((&tested["ok"], &tested["server_version"], &tested["tables"]), (&json!(true), &json!("vendor 1"), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sapixs_words_are_taken_and_what_is_not_built_is_not_faked() {
    let rig = Rig::real().await;
    let one = made(&rig, json!({"name": "Ops alerts", "kind": "vendor", "config": {"api_key": "good-key-0123456789", "host": "a"}})).await;
    assert_eq!((&one["event_count"], &one["last_event_ms"], &one["direction"]), (&json!(0), &Value::Null, &json!("inbound")));
    assert!(one["created_at_ms"].as_i64().unwrap() > 1_700_000_000_000);
    let off = rig.local("connectors.update", json!({"connector": one["id"], "enabled": false})).await;
    assert_eq!(off["enabled"], false);
    let both =
        json!({"connector": one["id"], "name": "Renamed", "enabled": true, "config": {"host": "b", "api_key": "other-key-0123456789"}});
    let both = rig.local("connectors.update", both).await;
    assert_eq!((&both["name"], &both["enabled"], &both["config"]["host"]), (&json!("Renamed"), &json!(true), &json!("b")));
    assert_eq!(rig.local("connectors.list", json!({})).await["inbound_count"], 1);
    for body in [
        json!({"name": "IoT Bridge", "kind": "rest_bridge", "config": {"flags": 0}}),
        json!({"name": "Events stream", "kind": "kafka", "config": {"brokers": ["broker1:9092"], "topic": "t", "group_id": "g"}}),
    ] {
        let e = rig.refused(&CallContext::local(), "connectors.create", body).await;
        assert_eq!(kind(&e), ErrorKind::ConfigInvalid);
        assert!(e.message().starts_with("there is no connector type"), "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acmes_test_says_what_the_server_is_or_that_it_failed() {
    let rig = Rig::real().await;
    let dead = json!({"type": "postgres", "config": {"connection": "postgresql://user:pass@127.0.0.1:1/db", "sslmode": "disable"}});
    let failed = rig.local("connectors.test_unsaved", dead).await;
    assert_eq!((&failed["ok"], &failed["status"]), (&json!(false), &json!("failed")));
    assert!(failed["error"]["message"].is_string() && failed["error"]["suggested_fix"].is_string(), "{failed}");
    let malformed = json!({"type": "postgres", "config": {"connection": "mysql://user:pass@host/db"}});
    assert_eq!(kind(&rig.refused(&CallContext::local(), "connectors.test_unsaved", malformed).await), ErrorKind::ConfigInvalid);
    assert!(rig.local("connectors.list", json!({})).await["connectors"].as_array().unwrap().is_empty());
    let Some(url) = crate::rig::postgres("acmes_test_says_what_the_server_is_or_that_it_failed") else { return };
    let tested = rig.local("connectors.test_unsaved", json!({"type": "postgres", "config": {"connection": url}})).await;
    assert_eq!(
        (&tested["ok"], &tested["status"], &tested["database"]),
        (&json!(true), &json!("connected"), &json!("postgres")),
        "{tested}"
    );
    assert!(tested["server_version"].is_string() && tested["tables"].is_u64() && tested["latency_ms"].is_u64());
}
