//! Honeyframe's nine endpoints.

use serde_json::{Value, json};

use super::{
    print::Print,
    stage::{Named, Stage, in_the_lake},
};

const TABLES: &str = "
    CREATE SCHEMA marts;
    CREATE SCHEMA payroll;
    CREATE TABLE orders (id bigint PRIMARY KEY, sku text, updated_at timestamptz NOT NULL);
    CREATE TABLE notes (id bigint PRIMARY KEY, text text);
    CREATE TABLE marts.daily (day date PRIMARY KEY, total numeric(12, 2));
    CREATE TABLE payroll.salaries (id bigint PRIMARY KEY, amount numeric(12, 2));
    INSERT INTO orders SELECT i, 'sku-' || i, timestamptz '2026-01-01' + i * interval '1 hour' FROM generate_series(1, 40) i;
    INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 7) i;
    GRANT USAGE ON SCHEMA public, marts, payroll TO honeyframe_ro;
    GRANT SELECT ON ALL TABLES IN SCHEMA public, marts, payroll TO honeyframe_ro;";

const ROUTES: [&str; 9] = [
    "GET /api/connectors/catalog",
    "GET /api/connectors",
    "GET /api/connectors/{id}",
    "POST /api/connectors",
    "POST /api/connectors/bootstrap",
    "PATCH /api/connectors/{id}",
    "DELETE /api/connectors/{id}",
    "POST /api/connectors/{id}/test",
    "GET /api/connectors/{id}/models",
];

/// What is put in: the hub's address, and that of the database.
struct Put {
    hub: String,
    port: String,
}

impl Put {
    fn with<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut all = more.to_vec();
        all.extend([("https://platform.your-domain.com", self.hub.as_str()), ("db.example.com", "127.0.0.1"), ("5432", &self.port)]);
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn honeyframe_s_document_runs_as_printed() {
    let Some(print) = Print::of("honeyframe-connectors") else { return };
    let Some(database) = Named::postgres("analytics", "honeyframe_ro", "<redacted>", TABLES).await else { return };
    let stage = Stage::new(&[]);
    assert_eq!(print.routes(), ROUTES);
    assert!(ROUTES.iter().all(|route| stage.has(route)));
    let commands = print.commands("curl ");
    let [create, bootstrap] = commands.as_slice() else { panic!("two commands are printed: {commands:?}") };
    let put = Put { hub: format!("http://{}", stage.hub.address), port: database.port.clone() };

    catalog(&print, &stage);
    let made = stage.curl(create, &put.with(&[]));
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let one = format!("/api/connectors/{id}");
    assert!(!made.text.contains("<redacted>"));
    assert_eq!(stage.get(&one)["config"]["password"], "***REDACTED***");
    assert_eq!(stage.get("/api/connectors")["connectors"][0]["name"], "Production Postgres");

    let tested = stage.call("POST", &format!("{one}/test"), "");
    assert_eq!((tested.status, keys(&tested.json())), (200, vec!["ok", "latency_ms"]), "{tested:?}");
    assert_eq!(tested.json()["ok"], true);
    // The two schemas of `output_schemas`, and not the third that the login may read as well.
    let models = stage.get(&format!("{one}/models"));
    assert_eq!(streams(&models), ["marts.daily", "public.notes", "public.orders"]);

    let changed = stage.call("PATCH", &one, r#"{"name": "Warehouse", "description": "read only", "config": {"password": "wrong"}}"#);
    assert_eq!((changed.status, &changed.json()["description"]), (200, &json!("read only")), "{changed:?}");
    let tested = stage.call("POST", &format!("{one}/test"), "").json();
    assert_eq!((&tested["ok"], &tested["error"]["kind"]), (&json!(false), &json!("auth_failed")), "{tested}");
    let back = stage.call("PATCH", &one, r#"{"name": "Production Postgres", "config": {"password": "<redacted>"}}"#);
    assert_eq!(back.status, 200, "{back:?}");

    // Both examples use one name: the second waits until the first is gone.
    let config = put.with(&[("{...}", print.block_after("\"config\": "))]);
    let twice = stage.curl(bootstrap, &config);
    assert_eq!((twice.status, &twice.json()["error"]["kind"]), (409, &json!("already_exists")), "{twice:?}");
    let gone = stage.call("DELETE", &one, "");
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    assert_eq!(stage.call("GET", &one, "").status, 404);
    let made = stage.curl(bootstrap, &config);
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    bootstrapped(&stage, &database, &id).await;
    deleted(&stage, &id);
    database.clear().await;
}

fn catalog(print: &Print, stage: &Stage) {
    let catalog = stage.get("/api/connectors/catalog");
    let types = catalog["types"].as_array().unwrap();
    for built in ["postgresql", "mysql", "mariadb", "api_rest", "csv"] {
        assert!(print.text.contains(built));
        let t = types.iter().find(|t| t["type"] == built).unwrap_or_else(|| panic!("{built} is not in the catalog"));
        assert!(t["is_queryable"] == true && t["config_schema"]["properties"].is_object(), "{t}");
    }
    assert_eq!(stage.get("/v1/catalog/rds")["type"], "postgresql");
}

/// Three things were made at once: a connector, its connection, and the schedule. They do what they are for.
async fn bootstrapped(stage: &Stage, database: &Named, id: &str) {
    assert_eq!(stage.get("/api/connectors")["connectors"].as_array().unwrap().len(), 1);
    let connections = stage.get("/v1/connections");
    let [connection] = connections["connections"].as_array().unwrap().as_slice() else { panic!("{connections}") };
    assert_eq!((&connection["schedule"]["cron"], &connection["mode"]), (&json!("0 2 * * *"), &json!("incremental")), "{connection}");
    assert!(connection["next_run_at"].as_str().is_some_and(|at| at.contains("T02:00:00")), "{connection}");
    // `PATCH ... Update name, description, config, or schedule`: of the connection that was made with it, and back.
    let patch = |body: Value| {
        let said = stage.call("PATCH", &format!("/api/connectors/{id}"), &body.to_string());
        assert_eq!(said.status, 200, "{said:?}");
        stage.get("/v1/connections/Production%20Postgres")
    };
    let later = patch(json!({"schedule_cron": "30 4 * * 1-5", "schedule_mode": "full"}));
    assert_eq!((&later["schedule"]["cron"], &later["mode"]), (&json!("30 4 * * 1-5"), &json!("full")), "{later}");
    assert!(later["next_run_at"].as_str().is_some_and(|at| at.contains("T04:30:00")), "{later}");
    let refused = stage.call("PATCH", &format!("/api/connectors/{id}"), r#"{"schedule_cron": "0 25 * * *"}"#);
    assert_eq!((refused.status, &refused.json()["error"]["kind"]), (400, &json!("config_invalid")), "{refused:?}");
    let unscheduled = patch(json!({"schedule_cron": null}));
    assert_eq!((&unscheduled["schedule"], unscheduled.get("next_run_at")), (&Value::Null, None), "{unscheduled}");
    let back = patch(json!({"schedule_cron": "0 2 * * *", "schedule_mode": "incremental"}));
    assert_eq!((&back["schedule"], &back["mode"]), (&connection["schedule"], &json!("incremental")), "{back}");

    let first = stage.run("Production%20Postgres");
    assert_eq!((&first["status"], &first["rows_written"]), (&json!("completed"), &json!(47)), "{first}");
    assert_eq!(in_the_lake(stage, "public.orders").len(), 40);
    database.run("INSERT INTO orders VALUES (41, 'sku-41', now()); UPDATE notes SET text = 'new' WHERE id = 1").await;
    // What has a watermark column is read from there on, what has none in full.
    let second = stage.run("Production%20Postgres");
    let read = |stream: &str| second["streams"].as_array().unwrap().iter().find(|s| s["stream"] == stream).unwrap()["rows_read"].clone();
    assert_eq!((read("public.orders"), read("public.notes")), (json!(1), json!(7)), "{second}");
    assert_eq!(in_the_lake(stage, "public.orders").len(), 41);
}

/// A connection whose connector is gone keeps what it is, and can no longer run.
fn deleted(stage: &Stage, id: &str) {
    assert_eq!(stage.call("DELETE", &format!("/api/connectors/{id}"), "").status, 204);
    let run = stage.call("POST", "/v1/connections/Production%20Postgres/run", "");
    let refused = if run.status == 202 {
        let id = run.json()["id"].as_str().unwrap().to_owned();
        stage.call("GET", &format!("/v1/runs/{id}/logs?follow=true"), "");
        stage.get(&format!("/v1/runs/{id}"))["error"].clone()
    } else {
        run.json()["error"].clone()
    };
    assert!(refused["message"].as_str().is_some_and(|m| m.contains("was deleted")), "{refused}");
    assert!(refused["suggested_fix"].is_string(), "{refused}");
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn streams(models: &Value) -> Vec<&str> {
    let mut all: Vec<&str> = models["models"].as_array().unwrap().iter().map(|m| m["stream"].as_str().unwrap()).collect();
    all.sort_unstable();
    all
}
