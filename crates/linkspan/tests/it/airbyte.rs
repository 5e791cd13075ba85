//! Types of the house as programs that speak the Airbyte protocol.

use linkspan_testkit::servers::TestDatabase;
use serde_json::{Value, json};

use crate::{
    api,
    program::{Place, Said},
};

fn json_file(place: &Place, name: &str, value: &Value) -> String {
    place.write(name, value.to_string()).display().to_string()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["type"] == kind).collect()
}

fn statuses(lines: &[Value], stream: &str) -> Vec<String> {
    let of = |l: &&&Value| l["trace"]["stream_status"]["stream_descriptor"]["name"] == stream;
    of_type(lines, "TRACE").iter().filter(of).map(|l| l["trace"]["stream_status"]["status"].as_str().unwrap().to_owned()).collect()
}

fn configured(catalog: &Value, name: &str, mode: &str, more: &Value) -> Value {
    let stream = catalog["catalog"]["streams"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap();
    let mut one = json!({"stream": stream, "sync_mode": mode, "destination_sync_mode": "append"});
    more.as_object().unwrap().iter().for_each(|(k, v)| one[k] = v.clone());
    one
}

fn read(place: &Place, kind: &str, config: &str, streams: Value, state: Option<Value>) -> Said {
    let catalog = json_file(place, "catalog.json", &json!({"streams": streams}));
    let mut args = vec!["airbyte", "source", kind, "read", "--config", config, "--catalog", &catalog];
    let state = state.map(|s| json_file(place, "state.json", &s));
    if let Some(state) = &state {
        args.extend(["--state", state]);
    }
    place.run(&args)
}

#[test]
fn a_file_is_a_source_program_from_spec_to_records() {
    let place = Place::new();
    let path = place.write("orders.csv", "id,note,paid\n1,a,true\n2,,false\n");
    let config = json_file(&place, "config.json", &json!({"path": path, "__platforms_own": 1}));
    let spec = &place.run(&["airbyte", "source", "csv", "spec"]).succeeds().lines()[0];
    assert_eq!(spec["spec"]["connectionSpecification"]["required"], json!(["path"]));
    let status = &place.run(&["airbyte", "source", "csv", "check", "--config", &config]).succeeds().lines()[0];
    assert_eq!(status["connectionStatus"]["status"], "SUCCEEDED");
    let catalog = &place.run(&["airbyte", "source", "csv", "discover", "--config", &config]).succeeds().lines()[0];
    let streams = json!([configured(catalog, "orders", "full_refresh", &json!({}))]);
    let lines = read(&place, "csv", &config, streams, None).succeeds().lines();
    let records: Vec<&Value> = of_type(&lines, "RECORD").iter().map(|l| &l["record"]["data"]).collect();
    assert_eq!(records, [&json!({"id": 1, "note": "a", "paid": true}), &json!({"id": 2, "paid": false})]);
    assert_eq!(statuses(&lines, "orders"), ["STARTED", "RUNNING", "COMPLETE"]);
    let states = of_type(&lines, "STATE");
    assert_eq!(states.len(), 1, "{lines:#?}");
    assert_eq!(states[0]["state"]["sourceStats"]["recordCount"], 2.0);
    assert_eq!(states[0]["state"]["stream"]["stream_state"], json!({"__ab_no_cursor_state_message": true}));
}

#[test]
fn what_does_not_work_is_a_failed_status_and_a_trace_and_shows_no_secret() {
    let place = Place::new();
    let config = json_file(&place, "c.json", &json!({"url": "postgres://me:canary-1@127.0.0.1:1/db"}));
    let said = place.run(&["airbyte", "source", "postgresql", "check", "--config", &config]).succeeds();
    assert_eq!(said.lines()[0]["connectionStatus"]["status"], "FAILED");
    let misspelt = json_file(&place, "m.json", &json!({"urll": "canary-1"}));
    let refused = place.run(&["airbyte", "source", "postgresql", "check", "--config", &misspelt]).succeeds();
    assert!(refused.lines()[0]["connectionStatus"]["message"].as_str().unwrap().contains("did you mean"), "{refused:#?}");
    let failed = place.run(&["airbyte", "source", "postgresql", "discover", "--config", &config]);
    assert_eq!((failed.code, &failed.lines()[0]["trace"]["error"]["failure_type"]), (1, &json!("transient_error")));
    let bad = place.write("bad.json", "{}").display().to_string();
    let no_catalog = place.run(&["airbyte", "source", "faker", "read", "--config", &bad, "--catalog", &bad]);
    assert_eq!((no_catalog.code, &no_catalog.lines()[0]["trace"]["type"]), (1, &json!("ERROR")));
    assert!(!format!("{said:?}{refused:?}{failed:?}{no_catalog:?}").contains("canary-1"));
}

#[tokio::test]
async fn a_table_is_read_on_where_an_earlier_read_stopped() {
    let Some(db) = TestDatabase::create().await else { return };
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric(38, 2), doc jsonb, updated_at timestamptz NOT NULL);
         INSERT INTO t SELECT i, i * 1.5, '{\"a\": null}', '2024-01-01Z'::timestamptz + i * interval '1 s' FROM generate_series(1, 5000) i;
         CREATE TABLE empty (id int PRIMARY KEY, updated_at timestamptz)",
    )
    .await;
    let place = Place::new();
    let config = json_file(&place, "config.json", &json!({"url": db.url}));
    let catalog = place.run(&["airbyte", "source", "postgres", "discover", "--config", &config]).succeeds().lines()[0].clone();
    let by = json!({"cursor_field": ["updated_at"]});
    let streams = json!([configured(&catalog, "t", "incremental", &by), configured(&catalog, "empty", "incremental", &by)]);
    let first = read(&place, "postgres", &config, streams.clone(), None).succeeds().lines();
    let records = of_type(&first, "RECORD");
    assert_eq!(records.len(), 5000);
    assert_eq!(records[0]["record"]["namespace"], "public");
    assert_eq!(records[0]["record"]["data"]["doc"], json!({"a": null}));
    assert_eq!(statuses(&first, "empty"), ["STARTED", "COMPLETE"]);
    let states: Vec<Value> = of_type(&first, "STATE").iter().map(|l| l["state"].clone()).collect();
    let counted: f64 = states.iter().map(|s| s["sourceStats"]["recordCount"].as_f64().unwrap()).sum();
    assert_eq!(counted as i64, 5000);
    assert!(states.iter().any(|s| s["stream"]["stream_descriptor"]["name"] == "empty"));
    db.execute("INSERT INTO t VALUES (6000, 1, NULL, now()); UPDATE t SET updated_at = now() WHERE id = 7").await;
    let second = read(&place, "postgres", &config, streams.clone(), Some(json!(states))).succeeds().lines();
    let mut ids: Vec<i64> = of_type(&second, "RECORD").iter().map(|l| l["record"]["data"]["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [7, 6000]);
    let foreign =
        json!([{"type": "STREAM", "stream": {"stream_descriptor": {"name": "t", "namespace": "public"}, "stream_state": {"x": 1}}}]);
    let refused = read(&place, "postgres", &config, streams, Some(foreign));
    assert_eq!((refused.code, &refused.lines()[0]["trace"]["error"]["failure_type"]), (1, &json!("config_error")));
}

/// The platform keeps what it is told, and starts the next program with it: each token is used once.
#[test]
fn a_token_that_is_good_for_one_use_is_told_to_the_platform_before_it_is_used() {
    let at = std::sync::atomic::AtomicU64::new(0);
    let url = api::serve(move |asked| {
        use std::sync::atomic::Ordering::SeqCst;
        if asked.target.starts_with("/token") {
            let now = at.load(SeqCst);
            if asked.form("refresh_token") != Some(format!("refresh-{now}")) {
                return (400, json!({"error": "invalid_grant"}).to_string());
            }
            at.store(now + 1, SeqCst);
            let answer =
                json!({"access_token": format!("access-{}", now + 1), "refresh_token": format!("refresh-{}", now + 1), "expires_in": 1});
            return (200, answer.to_string());
        }
        let wanted = format!("Bearer access-{}", at.load(SeqCst));
        if asked.authorization.as_deref() == Some(&wanted) { (200, json!({"data": [{"id": 1}]}).to_string()) } else { (401, "{}".into()) }
    });
    let place = Place::new();
    let manifest = place.write("rotating.yaml", crate::tokens::MANIFEST);
    let inner = json!({"url": url, "refresh_token": "refresh-0", "until": "2000-01-01T00:00:00Z"});
    let mut given = json!({"path": manifest, "config": inner, "__platforms_own": 1});
    for round in 1..=2 {
        let config = json_file(&place, "config.json", &given);
        let stream = json!({"name": "items", "json_schema": {}, "supported_sync_modes": ["full_refresh"]});
        let streams = json!([{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]);
        let said = read(&place, "manifest", &config, streams, None).succeeds();
        let lines = said.lines();
        let control = lines.iter().rposition(|l| l["type"] == "CONTROL").unwrap();
        let record = lines.iter().position(|l| l["type"] == "RECORD").unwrap();
        assert!(control < record, "{lines:#?}");
        given = lines[control]["control"]["connectorConfig"]["config"].clone();
        assert_eq!(given["config"]["refresh_token"], format!("refresh-{round}"));
        assert_eq!((&given["__platforms_own"], &given["config"]["url"]), (&json!(1), &json!(url)));
        // It has expired by the next round.
        given["config"]["until"] = "2000-01-01T00:00:00Z".into();
    }
}

#[test]
fn a_source_that_waits_for_a_quota_says_so() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let url = api::serve(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        // The first page is looked at to learn the columns.
        1 => api::Reply { status: 429, headers: "retry-after: 1\r\n".into(), body: "{}".into() },
        _ => (200, json!([{"id": 1}]).to_string()).into(),
    });
    let place = Place::new();
    let config = json_file(&place, "config.json", &json!({"base_url": url, "path": "/orders", "name": "orders"}));
    let streams = json!([{"stream": {"name": "orders", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
        "sync_mode": "full_refresh", "destination_sync_mode": "append"}]);
    let lines = read(&place, "api_rest", &config, streams, None).succeeds().lines();
    assert_eq!(statuses(&lines, "orders"), ["STARTED", "RUNNING", "COMPLETE"], "{lines:#?}");
    let waits: Vec<_> = of_type(&lines, "TRACE").into_iter().filter(|l| !l["trace"]["stream_status"]["reasons"].is_null()).collect();
    assert_eq!(waits.len(), 1, "{lines:#?}");
    assert_eq!(waits[0]["trace"]["stream_status"]["reasons"], json!([{"type": "RATE_LIMITED"}]));
    assert_eq!(of_type(&lines, "RECORD").len(), 1);
}
