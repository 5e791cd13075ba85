//! Real programs from PyPI as guests, into PostgreSQL. `./test` installs them; in CI they must be there.

use linkspan_testkit::servers::{TestDatabase, required};
use serde_json::{Value, json};

use crate::program::Place;

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
