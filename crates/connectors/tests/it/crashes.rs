//! Processes that die at every failpoint of sqlite, csv and jsonl: the next one goes on, and every row is there once.

use std::{path::Path, process::Command, sync::Arc};

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use linkspan_connectors::{csv, jsonl, sqlite};
use linkspan_core::{
    Alter, Batch, Changes, Commit, ConnectionId, Context, Failpoints, Load, LoadStream, MemoryLease, Publish, Rows, SchemaPlan, Scope,
    State, StreamName, Swap, Target, WriteMode,
};
use serde_json::json;

const COMMITS: u64 = 4;
const ROWS: u64 = 10;

/// The child: goes on from what the destination recalls until all commits are done, then publishes a replace.
#[tokio::test]
#[ignore = "run as a child process"]
async fn child_writes_until_it_dies() {
    let env = |name: &str| std::env::var(name).unwrap();
    let points = Failpoints::parse(&env("POINTS")).unwrap();
    let (kind, path) = match env("KIND").as_str() {
        "sqlite" => (sqlite::connector_type(), format!("{}/t.db", env("DIR"))),
        "csv" => (csv::connector_type(), env("DIR")),
        _ => (jsonl::connector_type(), env("DIR")),
    };
    let to = kind.open(json!({ "path": path }), Context::with_failpoints(points)).unwrap().destination().unwrap();
    let connection = ConnectionId(uuid::Uuid::nil());
    let stream = StreamName::new(None, "t");
    let scope = Scope::Stream(stream.clone());
    let write = if env("MODE") == "replace" { WriteMode::Replace } else { WriteMode::Append };
    let recall = to.recall(connection).await.unwrap().unwrap_or_default();
    let done = recall.scopes.get(&scope).map_or(0, |r| r.number);
    let one = LoadStream { stream: stream.clone(), target: Target::from(&stream), write, generation: 1, key: vec![], swap: Swap::Rename };
    let load = Load { connection, fence: recall.fence + 1, scope: scope.clone(), previous: done, streams: vec![one.clone()] };
    let mut session = to.open(load).await.unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("t", DataType::Utf8, true)]));
    let plan = SchemaPlan { ddl: vec![Alter::Create { schema: schema.clone(), key: vec![] }], ..SchemaPlan::as_is(schema.clone()) };
    session.schema(&stream, &plan).await.unwrap();
    for number in done + 1..=COMMITS {
        let ids = ((number - 1) * ROWS) as i64..(number * ROWS) as i64;
        let texts = StringArray::from_iter_values(ids.clone().map(|i| format!("row \"{i}\"")));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(texts)]).unwrap();
        session
            .write(Batch { stream: stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() })
            .await
            .unwrap();
        let state = State::new(1, json!({ "at": number }));
        let (fence, scope) = (recall.fence + 1, scope.clone());
        session.commit(&Commit { connection, scope, generation: 1, fence, previous: number - 1, number, state }).await.unwrap();
    }
    drop(session);
    if write == WriteMode::Replace {
        to.publish(&Publish { connection, fence: recall.fence + 1, stream: one }).await.unwrap();
    }
}

fn child(kind: &str, mode: &str, dir: &Path, points: &str) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["crashes::child_writes_until_it_dies", "--ignored", "--exact", "--test-threads=1"]);
    child.env("KIND", kind).env("MODE", mode).env("DIR", dir).env("POINTS", points);
    child.output().unwrap().status.success()
}

/// The ids in the table, sorted, and what else lies about.
fn look(kind: &str, dir: &Path) -> (Vec<i64>, Vec<String>) {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let parts = names.filter(|n| n.starts_with(".linkspan") && n != ".linkspan-lock").collect();
    let mut ids: Vec<i64> = match kind {
        "sqlite" => {
            let db = rusqlite::Connection::open(dir.join("t.db")).unwrap();
            let staged: i64 = db.query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%stage%'", [], |r| r.get(0)).unwrap();
            assert_eq!(staged, 0, "a staging table is left");
            let mut all = db.prepare("SELECT id FROM t").unwrap();
            all.query_map([], |r| r.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
        }
        "csv" => {
            let text = std::fs::read_to_string(dir.join("t.csv")).unwrap();
            text.lines().skip(1).map(|l| l.split(',').next().unwrap().parse().unwrap()).collect()
        }
        _ => {
            let text = std::fs::read_to_string(dir.join("t.jsonl")).unwrap();
            text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_i64().unwrap()).collect()
        }
    };
    ids.sort_unstable();
    (ids, parts)
}

fn dies_and_goes_on(kind: &str, points: &[&str]) {
    let all: Vec<i64> = (0..(COMMITS * ROWS) as i64).collect();
    let mut died = 0;
    for mode in ["append", "replace"] {
        for point in points {
            for nth in [1, 3] {
                let dir = tempfile::tempdir().unwrap();
                let what = format!("{kind} {mode} {point}@{nth}");
                let whole = child(kind, mode, dir.path(), &format!("{point}=abort@{nth}"));
                died += u32::from(!whole);
                assert!(child(kind, mode, dir.path(), ""), "{what}: the next run failed");
                assert_eq!(look(kind, dir.path()), (all.clone(), vec![]), "{what}");
            }
        }
    }
    assert!(died as usize > points.len(), "only {died} runs died");
}

#[test]
fn sqlite_goes_on_after_a_death_at_any_point() {
    dies_and_goes_on(
        "sqlite",
        &["sqlite.commit.before", "sqlite.commit.sql", "sqlite.commit.after", "sqlite.publish.before", "sqlite.publish.after"],
    );
}

const TEXT: [&str; 9] = [
    "text.commit.before",
    "text.synced",
    "text.position",
    "text.commit.after",
    "text.publish.before",
    "text.publish.after",
    "files.sync",
    "files.rename",
    "files.sync_dir",
];

#[test]
fn csv_goes_on_after_a_death_at_any_point() {
    dies_and_goes_on("csv", &TEXT);
}

#[test]
fn jsonl_goes_on_after_a_death_at_any_point() {
    dies_and_goes_on("jsonl", &TEXT);
}
