//! Acme's three endpoints. Its Python connectors come with their issue.

use serde_json::json;

use super::{
    print::{Print, has_the_shape_of},
    stage::{Named, Stage},
};

#[tokio::test(flavor = "multi_thread")]
async fn acme_s_document_runs_as_printed() {
    let Some(print) = Print::of("acme-connector-api") else { return };
    let tables: String = (0..47).map(|i| format!("CREATE TABLE t{i} (id int PRIMARY KEY);")).collect();
    let tables = format!("{tables} GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"user\"");
    let Some(database) = Named::postgres("db", "user", "pass", &tables).await else { return };
    let Some(ca) = linkspan_testkit::servers::postgres_ca() else { return };
    // The example checks the server's certificate against what the machine trusts.
    let stage = Stage::new(&[("SSL_CERT_FILE", &ca)]);
    let routes = print.routes();
    assert_eq!(routes, ["GET /api/v1/connectors", "POST /api/v1/connectors/test", "GET /api/v1/connectors/:name/health"]);
    assert!(routes.iter().all(|route| stage.has(route)));

    let body = print.block_after("POST /api/v1/connectors/test\nRequest:\n");
    let host = format!("{}:{}", database.host, database.port);
    let tested = stage.call("POST", "/api/v1/connectors/test", &body.replace("host:5432", &host));
    assert_eq!(tested.status, 200, "{tested:?}");
    let printed = print.json_after("\"verify-full\"\n}\n}\nResponse:\n");
    has_the_shape_of(&tested.json(), &printed);
    let data = &tested.json()["data"];
    assert_eq!((&data["status"], &data["tables"], &data["database"]), (&json!("connected"), &printed["data"]["tables"], &json!("db")));
    assert!(data["server_version"].as_str().is_some_and(|v| v.starts_with("PostgreSQL 1") && !v.contains('(')), "{data}");
    refusals(&stage, body, &host);

    // Two connectors in three pipelines, as the list shows them.
    let make = |path: &str, body: serde_json::Value| {
        let made = stage.call("POST", path, &body.to_string());
        assert_eq!(made.status, 201, "{made:?}");
    };
    let url = format!("postgresql://user:pass@{host}/db");
    make("/v1/connectors", json!({"name": "users_db", "type": "postgres", "config": {"connection": url, "ssl.mode": "verify-full"}}));
    make("/v1/connectors", json!({"name": "analytics", "type": "parquet", "config": {"path": "analytics"}}));
    make("/v1/connectors", json!({"name": "orders_db", "type": "faker"}));
    for (name, from, dest) in [
        ("user-analytics", "users_db", "analytics:users"),
        ("user-export", "users_db", "lake"),
        ("order-sync", "orders_db", "analytics:orders"),
    ] {
        make("/v1/connections", json!({"name": name, "from": from, "dest": dest}));
    }
    for name in ["users_db", "analytics", "orders_db"] {
        assert_eq!(stage.call("POST", &format!("/v1/connectors/{name}/test"), "").json()["ok"], true, "{name}");
    }
    let printed = print.json_after("GET /api/v1/connectors\nResponse:\n");
    let listed = stage.get("/api/v1/connectors");
    has_the_shape_of(&listed, &printed);
    let one = |name: &str| listed["data"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone();
    for (got, printed) in [(one("users_db"), &printed["data"][0]), (one("analytics"), &printed["data"][1])] {
        for field in ["name", "role", "status", "pipelines"] {
            assert_eq!(got[field], printed[field], "{field}");
        }
    }
    let health = stage.get("/api/v1/connectors/users_db/health");
    assert_eq!((&health["data"]["status"], &health["data"]["connector"]), (&json!("healthy"), &json!("users_db")));
    database.clear().await;
}

/// A system that refuses is an answer, a body that cannot be meant is none.
fn refusals(stage: &Stage, body: &str, host: &str) {
    let wrong = stage.call("POST", "/api/v1/connectors/test", &body.replace("host:5432", host).replace(":pass@", ":canary-4@"));
    assert_eq!((wrong.status, &wrong.json()["data"]["status"]), (200, &json!("failed")), "{wrong:?}");
    assert!(wrong.json()["data"]["error"]["suggested_fix"].is_string() && !wrong.text.contains("canary-4"), "{wrong:?}");
    for (body, field) in [
        (r#"{"type": "postgres", "connection": "postgresql://u:p@h/db", "config": {"host": "h"}}"#, "connection"),
        (r#"{"type": "postgres", "connection": "postgresql://u:p@h/db", "ssl": {"mode": "verify-full", "moed": 1}}"#, "ssl.moed"),
        (r#"{"type": "postgres", "connection": "postgresql://u:p@h/db", "ssl": "on"}"#, "ssl"),
        (r#"{"type": "postgres", "connection": "mysql://u:p@h/db"}"#, "not a PostgreSQL URL"),
        (r#"{"type": "bigquery", "connection": "bigquery://p"}"#, "bigquery"),
    ] {
        let said = stage.call("POST", "/api/v1/connectors/test", body);
        assert!(said.status == 400 && said.text.contains(field) && said.json()["error"]["kind"] == "config_invalid", "{body}: {said:?}");
    }
}
