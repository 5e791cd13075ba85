//! Real programs from PyPI: guests of the house in both directions, and a tap that writes to a target of the house. `./test` installs
//! them; in CI they must be there.

use linkspan_testkit::servers::{TestDatabase, required};
use serde_json::{Value, json};

use crate::{airbyte_destination::Running, program::Place};

/// A program that `./test` installed.
fn program(name: &str) -> Option<String> {
    required("LINKSPAN_TEST_GUESTS").map(|folder| format!("{folder}/{name}"))
}

fn project(place: &Place, guest: &Value, db: &str, connection: &Value) -> String {
    let mut connection = connection.clone();
    (connection["from"], connection["to"]) = ("guest".into(), "out".into());
    let project = json!({"connectors": {"guest": {"type": "exec", "config": guest}, "out": {"url": db}}, "connections": {"c": connection}});
    place.write("project.yaml", project.to_string()).display().to_string()
}

async fn count(db: &TestDatabase, sql: &str) -> i64 {
    db.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn airbyte_source_faker_of_pypi_is_read_into_postgresql_and_goes_on() {
    let (Some(program), Some(db)) = (program("airbyte/bin/source-faker"), TestDatabase::create().await) else { return };
    let place = Place::new();
    let guest = json!({"command": [program], "config": {"count": 300, "seed": 7, "parallelism": 1}});
    let project = project(&place, &guest, &db.url, &json!({"streams": ["users", "products"], "mode": "incremental"}));
    place.run(&["connectors", "check", "guest", "-f", &project]).succeeds();
    place.run(&["sync", "-f", &project]).succeeds();
    assert_eq!(count(&db, "SELECT count(DISTINCT id) FROM users").await, 300);
    assert_eq!(count(&db, "SELECT count(*) FROM users WHERE (address->>'city') IS NOT NULL").await, 300);
    let products = count(&db, "SELECT count(*) FROM products").await;
    assert!(products > 0);
    // The second run goes on from the program's own state, and merges by its key.
    place.run(&["sync", "-f", &project]).succeeds();
    assert_eq!((count(&db, "SELECT count(*) FROM users").await, count(&db, "SELECT count(*) FROM products").await), (300, products));
}

#[tokio::test]
async fn a_singer_tap_of_pypi_is_read_into_postgresql() {
    let (Some(program), Some(db)) = (program("singer/bin/tap-jsonl"), TestDatabase::create().await) else { return };
    let place = Place::new();
    let rows: String = (1..=250).map(|id| format!("{}\n", json!({"id": id, "name": format!("n{id}"), "tags": ["a", id]}))).collect();
    let file = place.write("orders.jsonl", rows);
    let guest =
        json!({"command": [program], "speaks": "singer", "config": {"path": file, "stream_name": "orders", "primary_keys": ["id"]}});
    let project = project(&place, &guest, &db.url, &json!({"streams": ["orders"], "mode": "full"}));
    place.run(&["connectors", "check", "guest", "-f", &project]).succeeds();
    place.run(&["sync", "-f", &project]).succeeds();
    place.run(&["sync", "-f", &project]).succeeds();
    assert_eq!(count(&db, "SELECT count(DISTINCT id) FROM orders").await, 250);
    assert_eq!(count(&db, "SELECT count(*) FROM orders").await, 250);
}

/// Rows in a SQLite file, to be written to a guest.
fn rows(place: &Place, many: i64) {
    let db = rusqlite::Connection::open(place.path("in.db")).unwrap();
    db.execute_batch("DROP TABLE IF EXISTS users; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").unwrap();
    for id in 1..=many {
        db.execute("INSERT INTO users VALUES (?1, ?2)", (id, format!("n{id}"))).unwrap();
    }
}

fn written(place: &Place, guest: &Value, write: &str) -> String {
    let project = json!({
        "connectors": {"guest": {"type": "exec", "config": guest}, "in": {"url": "sqlite:./in.db"}},
        "connections": {"c": {"from": "in", "to": "guest", "mode": "full", "write": write}},
    });
    place.write("project.yaml", project.to_string()).display().to_string()
}

#[tokio::test]
async fn a_singer_target_of_pypi_writes_rows_and_replaces_them() {
    let (Some(program), Some(db)) = (program("target/bin/target-postgres"), TestDatabase::create().await) else { return };
    let place = Place::new();
    let config = json!({"sqlalchemy_url": db.url, "default_target_schema": "public", "hard_delete": true, "add_record_metadata": true});
    let guest = json!({
        "command": [program], "speaks": "singer", "is": "destination", "writes": ["append", "merge", "replace"], "config": config,
    });
    for many in [300, 250] {
        rows(&place, many);
        place.run(&["sync", "-f", &written(&place, &guest, "replace")]).succeeds();
        assert_eq!(count(&db, "SELECT count(*) FROM users").await, many, "rows of the version before are gone");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM users WHERE name = 'n' || id").await, 250);
}

/// It makes a vector of each row's text; how is up to a command.
const EMBED: &str = r#"
import json, sys
print(json.dumps([[float(len(text)), 1.0] for text in json.load(sys.stdin)]))
"#;

#[test]
fn an_airbyte_destination_of_pypi_writes_rows() {
    let Some(program) = program("airbyte/bin/airbyte-destination-ailake") else { return };
    let place = Place::new();
    rows(&place, 120);
    let python = program.replace("airbyte-destination-ailake", "python");
    let embed = format!("{python} {}", place.write("embed.py", EMBED).display());
    let config = json!({
        "table_base_path": place.path("lake"), "embed_mode": "cmd", "embed_cmd": embed, "embedding_dim": 2, "text_field": "name",
    });
    let guest = json!({"command": [program], "is": "destination", "config": config});
    let project = written(&place, &guest, "append");
    place.run(&["connectors", "check", "guest", "-f", &project]).succeeds();
    place.run(&["sync", "-f", &project]).succeeds();
    let folder = format!("parquet:{}", place.path("lake/users").display());
    place.run(&["sync", &folder, "sqlite:./read.db", "--stream", "data", "--mode", "full"]).succeeds();
    assert_eq!(place.sqlite("read.db", "SELECT count(*) FROM data"), "120");
}

/// The version that a tap's messages make the present one.
fn activated(messages: &[u8]) -> Option<i64> {
    let messages = messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages.filter(|message| message["type"] == "ACTIVATE_VERSION").filter_map(|message| message["version"].as_i64()).next_back()
}

/// Its second version of a stream is shorter than the first one.
#[tokio::test]
async fn a_singer_tap_of_pypi_writes_to_a_target_of_the_house() {
    let (Some(tap), Some(db)) = (program("singer/bin/tap-jsonl"), TestDatabase::create().await) else { return };
    let place = Place::new();
    let tap_config = json!({"path": place.path("orders.jsonl"), "stream_name": "orders", "primary_keys": ["id"], "emit_activate_version_messages": true});
    let (tap_config, catalog) = (place.write("tap.json", tap_config.to_string()), place.path("catalog.json"));
    let target = place.write("target.json", json!({"url": db.url}).to_string());
    let orders = |many: i64| (1..=many).map(|id| format!("{}\n", json!({"id": id, "name": format!("n{id}")}))).collect::<String>();
    place.write("orders.jsonl", orders(50));
    let found = std::process::Command::new(&tap).arg("--config").arg(&tap_config).arg("--discover").output().unwrap();
    let mut found: Value = serde_json::from_slice(&found.stdout).unwrap();
    for stream in found["streams"].as_array_mut().unwrap() {
        // Read anew each time, which is what gives its rows a version.
        stream["replication_method"] = "FULL_TABLE".into();
        for entry in stream["metadata"].as_array_mut().unwrap().iter_mut().filter(|entry| entry["breadcrumb"] == json!([])) {
            entry["metadata"]["forced-replication-method"] = "FULL_TABLE".into();
        }
    }
    std::fs::write(&catalog, found.to_string()).unwrap();
    let mut version = None;
    for many in [50, 30] {
        place.write("orders.jsonl", orders(many));
        // A version is a second's number: the tap is asked until its own has gone on.
        let read = loop {
            let read = std::process::Command::new(&tap).arg("--config").arg(&tap_config).arg("--catalog").arg(&catalog).output().unwrap();
            let of_this = activated(&read.stdout);
            assert!(of_this.is_some(), "{}", String::from_utf8_lossy(&read.stderr));
            if of_this > version {
                version = of_this;
                break read;
            }
        };
        let mut running = Running::start(&mut place.command(&["singer-target", "postgresql", "--config", &target.display().to_string()]));
        running.say(std::str::from_utf8(&read.stdout).unwrap());
        let said = running.end().succeeds();
        assert!(said.out.contains("bookmarks"), "{said:#?}");
        assert_eq!(count(&db, "SELECT count(*) FROM orders").await, many);
    }
}
