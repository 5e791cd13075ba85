//! Types of the house as targets that a Singer tap writes to.

use linkspan_testkit::servers::TestDatabase;
use serde_json::{Value, json};

use crate::{
    airbyte_destination::Running,
    program::{Place, Said},
};

/// A program that a tap writes to.
fn started(place: &Place, kind: &str, config: &Value) -> Running {
    let config = place.write("target.json", config.to_string()).display().to_string();
    Running::start(&mut place.command(&["singer-target", kind, "--config", &config]))
}
fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
fn target(place: &Place, lines: &[Value]) -> Said {
    let mut running = started(place, "sqlite", &json!({"path": "out.db"}));
    running.say(&text(lines));
    running.end()
}

fn schema(stream: &str, properties: Value, key: Value) -> Value {
    json!({"type": "SCHEMA", "stream": stream, "schema": {"properties": properties}, "key_properties": key})
}
fn record(stream: &str, record: Value) -> Value {
    json!({"type": "RECORD", "stream": stream, "record": record})
}
fn state(at: i64) -> Value {
    json!({"type": "STATE", "value": {"at": at}})
}
fn users() -> Value {
    schema("users", json!({"id": {"type": "integer"}}), json!(["id"]))
}
/// Rows of a version.
fn rows(version: i64, ids: &[i64]) -> Vec<Value> {
    ids.iter().map(|id| json!({"type": "RECORD", "stream": "users", "record": {"id": id}, "version": version})).collect()
}
fn activate(version: i64) -> Value {
    json!({"type": "ACTIVATE_VERSION", "stream": "users", "version": version})
}

#[test]
fn a_singer_target_learns_its_streams_on_the_way_and_says_states_behind_their_rows() {
    let place = Place::new();
    let lines = [
        schema("users", json!({"id": {"type": "integer"}}), json!(["id"])),
        record("users", json!({"id": 1})),
        record("users", json!({"id": 1})),
        state(1),
        schema("logs", json!({"text": {"type": "string"}}), json!([])),
        record("logs", json!({"text": "a"})),
        record("users", json!({"id": 2})),
        state(2),
        schema("users", json!({"id": {"type": "integer"}, "name": {"type": "string"}}), json!(["id"])),
        record("users", json!({"id": 1, "name": "one"})),
        state(3),
    ];
    let said = target(&place, &lines).succeeds();
    assert_eq!(said.out, "{\"at\":1}\n{\"at\":2}\n{\"at\":3}\n");
    assert_eq!(place.sqlite("out.db", "SELECT id, name FROM users ORDER BY id"), "1|one\n2|null");
    assert_eq!(place.sqlite("out.db", "SELECT text FROM logs"), "a");
    for (bad, words) in [
        (vec![record("new", json!({"id": 1}))], "before the schema"),
        (vec![schema("new", json!({}), json!([]))], "no properties"),
        (vec![schema("new", json!({"id": {}}), json!(["id"])), record("new", json!({"x": 1})), state(9)], "lacks a property of its key"),
    ] {
        let said = target(&place, &bad);
        assert!(said.code != 0 && said.err.contains(words) && said.out.is_empty(), "{said:#?}");
    }
}

const IDS: &str = "SELECT id FROM users ORDER BY id";

#[test]
fn a_version_takes_the_place_of_the_one_before_it_once_it_is_activated() {
    let place = Place::new();
    let run = |parts: &[&[Value]]| target(&place, &parts.concat()).succeeds();
    let ids = || place.sqlite("out.db", IDS);
    run(&[&[users(), activate(1)], &rows(1, &[1, 2, 3]), &[state(1), activate(1)]]);
    assert_eq!(ids(), "1\n2\n3");
    // The tap is stopped in the middle: what stands stays, and what came is kept.
    let said = run(&[&[users()], &rows(2, &[2, 4]), &[state(2)]]);
    assert_eq!((said.out.as_str(), ids()), ("{\"at\":2}\n", "1\n2\n3".into()));
    assert!(said.err.contains("not activated"), "{said:#?}");
    // It goes on with its version; a row comes again, and rows come behind the activation.
    run(&[&[users()], &rows(2, &[4, 5]), &[activate(2)], &rows(2, &[6]), &[state(3)]]);
    assert_eq!(ids(), "2\n4\n5\n6");
    // A row of an older version is a row; the same version again removes nothing.
    run(&[&[users()], &rows(1, &[9]), &[activate(2)]]);
    assert_eq!(ids(), "2\n4\n5\n6\n9");
    // A version without a row.
    run(&[&[users(), activate(3), state(4)]]);
    assert_eq!(ids(), "");
}

#[test]
fn a_version_that_is_activated_before_its_rows_is_shown_whole_at_the_end() {
    let place = Place::new();
    let logs = schema("logs", json!({"text": {"type": "string"}}), json!([]));
    target(&place, &[&[users(), activate(1)], &rows(1, &[1, 2])[..], &[state(1)]].concat()).succeeds();
    let begin = [&[users(), activate(2)], &rows(2, &[3])[..], &[logs, record("logs", json!({"text": "a"})), state(2)]].concat();
    let mut running = started(&place, "sqlite", &json!({"path": "out.db"}));
    running.say(&text(&begin));
    assert_eq!(running.line(), r#"{"at":2}"#);
    assert_eq!(place.sqlite("out.db", IDS), "1\n2", "the other stream's schema ended a stretch, and showed nothing");
    running.kill();
    assert_eq!(place.sqlite("out.db", IDS), "1\n2");
    let mut running = started(&place, "sqlite", &json!({"path": "out.db"}));
    running.say(&text(&begin));
    running.end().succeeds();
    assert_eq!(place.sqlite("out.db", IDS), "3");
}

#[test]
fn rows_without_a_version_are_never_taken_away() {
    let place = Place::new();
    target(&place, &[users(), record("users", json!({"id": 1})), state(1)]).succeeds();
    target(&place, &[&[users(), activate(5)], &rows(5, &[2])[..], &[record("users", json!({"id": 3})), state(2)]].concat()).succeeds();
    target(&place, &[&[users(), activate(6)], &rows(6, &[4])[..], &[activate(6)]].concat()).succeeds();
    assert_eq!(place.sqlite("out.db", IDS), "1\n2\n3\n4");
}

#[tokio::test]
async fn versions_are_the_same_in_postgresql_and_in_a_folder_of_parquet() {
    let Some(db) = TestDatabase::create().await else { return };
    for (kind, config) in [("postgresql", json!({"url": db.url})), ("parquet", json!({"path": "lake"}))] {
        let place = Place::new();
        for lines in [
            [&[users(), activate(1)], &rows(1, &[1, 2, 3])[..], &[state(1), activate(1)]].concat(),
            [&[users()], &rows(2, &[2, 4])[..], &[state(2)]].concat(),
            [&[users()], &rows(2, &[4, 5])[..], &[state(3), activate(2)]].concat(),
        ] {
            let mut running = started(&place, kind, &config);
            running.say(&text(&lines));
            running.end().succeeds();
        }
        if kind == "postgresql" {
            let ids: Vec<i64> = db.client().await.query(IDS, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
            assert_eq!(ids, [2, 4, 5]);
        } else {
            let read = place.run(&["sync", "parquet:lake", "sqlite:./read.db", "--stream", "users"]);
            read.succeeds();
            assert_eq!(place.sqlite("read.db", IDS), "2\n4\n5");
        }
    }
}
