//! The suites of csv and jsonl as destinations, and what is their own: committed lengths, standard output, files in the way.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use async_trait::async_trait;
use base64::Engine as _;
use linkspan_connectors::{csv, jsonl};
use linkspan_core::{
    Alter, Batch, Changes, Commit, ConnectionId, ConnectorType, Context, Destination, ErrorKind, Failpoints, Fault, Load, LoadStream,
    MemoryLease, Result, Rows, SchemaPlan, Scope, State, StreamName, Swap, Target, WriteMode,
};
use linkspan_testkit::{BadConfig, Case, Table, destination::DestinationHarness};
use serde_json::{Value, json, value::RawValue};

struct Folder {
    dir: tempfile::TempDir,
    kind: fn() -> ConnectorType,
    ending: &'static str,
}

impl Folder {
    fn csv() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), kind: csv::connector_type, ending: "csv" }
    }
    fn jsonl() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), kind: jsonl::connector_type, ending: "jsonl" }
    }
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
    fn record(&self) -> Value {
        std::fs::read(self.dir.path().join("_linkspan.json")).map_or(Value::Null, |b| serde_json::from_slice(&b).unwrap())
    }
    /// The file that the record says holds the target, and its columns' types.
    fn file(&self, target: &Target) -> Option<(PathBuf, BTreeMap<String, String>)> {
        let record = self.record();
        let (name, entry) = record["files"].as_object()?.iter().find(|(n, e)| !n.starts_with('.') && e["target"] == target.to_string())?;
        let columns = entry["columns"].as_array().unwrap().iter();
        let types = columns.map(|c| (c["name"].as_str().unwrap().to_owned(), c["type"].as_str().unwrap().to_owned())).collect();
        Some((self.dir.path().join(name), types))
    }
    fn destination(&self, failpoints: Failpoints) -> Arc<dyn Destination> {
        let connector = (self.kind)().open(json!({"path": self.dir.path()}), Context::with_failpoints(failpoints)).unwrap();
        connector.destination().unwrap()
    }
}

#[async_trait]
impl DestinationHarness for Folder {
    fn connector_type(&self) -> ConnectorType {
        (self.kind)()
    }
    fn config(&self) -> Value {
        json!({"path": self.dir.path()})
    }
    fn target(&self, name: &str) -> Target {
        Target { namespace: Some("suite".into()), name: name.into() }
    }
    async fn read_back(&self, target: &Target) -> Table {
        let Some((path, types)) = self.file(target) else { return Table::default() };
        let bytes = std::fs::read(path).unwrap();
        if self.ending == "csv" { csv_table(&bytes) } else { json_table(&bytes, &types) }
    }
    async fn staging_left(&self) -> Vec<String> {
        self.files().into_iter().filter(|n| n.starts_with('.') && n != ".linkspan-lock").collect()
    }
    fn declared_losses(&self) -> Vec<(&'static str, &'static str)> {
        if self.ending == "jsonl" { vec![("json", "a JSON document `null` and a missing value are both null")] } else { vec![] }
    }
    async fn foreign_table(&self, target: &Target) -> bool {
        std::fs::write(self.dir.path().join(format!("{target}.{}", self.ending)), "id,name,amount,flag,updated_at\n").unwrap();
        true
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        let missing = self.dir.path().join(format!("no/such/folder/x.{}", self.ending));
        vec![BadConfig::new(Case::Missing, json!({"path": missing}))]
    }
}

/// A reader of its own: quoted and unquoted empty fields are told apart.
fn csv_table(bytes: &[u8]) -> Table {
    let mut records = vec![vec![]];
    let (mut field, mut quoted, mut inside) = (vec![], false, false);
    let mut rest = bytes.iter().copied().peekable();
    let end = |field: &mut Vec<u8>, quoted: &mut bool, records: &mut Vec<Vec<Option<String>>>| {
        let text = String::from_utf8(std::mem::take(field)).unwrap();
        records.last_mut().unwrap().push((*quoted || !text.is_empty()).then_some(text));
        *quoted = false;
    };
    while let Some(b) = rest.next() {
        match b {
            b'"' if inside && rest.peek() == Some(&b'"') => field.push(rest.next().unwrap()),
            b'"' => (inside, quoted) = (!inside, true),
            b',' if !inside => end(&mut field, &mut quoted, &mut records),
            b'\n' if !inside => {
                end(&mut field, &mut quoted, &mut records);
                records.push(vec![]);
            }
            other => field.push(other),
        }
    }
    assert!(records.pop().unwrap().is_empty(), "the file does not end with a line break");
    let mut records = records.into_iter();
    let Some(header) = records.next() else { return Table::default() };
    let mut table = Table::new(header.into_iter().map(Option::unwrap_or_default));
    table.rows.extend(records);
    assert!(table.rows.iter().all(|r| r.len() == table.columns.len()));
    table
}

fn json_table(bytes: &[u8], types: &BTreeMap<String, String>) -> Table {
    let mut table = Table::default();
    for line in std::str::from_utf8(bytes).unwrap().lines() {
        let row: BTreeMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
        for name in row.keys().filter(|n| !table.columns.contains(n)).cloned().collect::<Vec<_>>() {
            table.columns.push(name);
            table.rows.iter_mut().for_each(|r| r.push(None));
        }
        table.rows.push(table.columns.iter().map(|c| row.get(c).and_then(|v| json_text(v.get(), &types[c]))).collect());
    }
    // A document's fields have an order, a map's have not: the suite knows the columns by the record's order.
    table
}

fn json_text(raw: &str, data_type: &str) -> Option<String> {
    if raw == "null" {
        return None;
    }
    let Ok(text) = serde_json::from_str::<String>(raw) else { return Some(raw.to_owned()) };
    if data_type.contains("Binary") {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        return Some(bytes.iter().map(|b| format!("{b:02x}")).collect());
    }
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_is_a_well_behaved_destination() {
    linkspan_testkit::destination::suite(Folder::csv()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jsonl_is_a_well_behaved_destination() {
    linkspan_testkit::destination::suite(Folder::jsonl()).await;
}

fn load(connection: ConnectionId, stream: &str, write: WriteMode) -> Load {
    let stream = StreamName::new(None, stream);
    let one = LoadStream { target: Target::from(&stream), stream: stream.clone(), write, generation: 1, key: vec![], swap: Swap::Rename };
    Load { connection, fence: 1, scope: Scope::Stream(stream), previous: 0, streams: vec![one] }
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("t", DataType::Utf8, true)]));
    let texts = StringArray::from_iter_values(ids.clone().map(|i| format!("text, {i}")));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(texts)]).unwrap()
}

async fn put(to: &Arc<dyn Destination>, load: &Load, number: u64, rows: RecordBatch) -> Result<()> {
    let stream = &load.streams[0].stream;
    let mut session = to.open(load.clone()).await?;
    let plan = SchemaPlan { ddl: vec![Alter::Create { schema: rows.schema(), key: vec![] }], ..SchemaPlan::as_is(rows.schema()) };
    session.schema(stream, &plan).await?;
    session
        .write(Batch { stream: stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() })
        .await?;
    let commit = Commit {
        connection: load.connection,
        scope: load.scope.clone(),
        generation: 1,
        fence: 1,
        previous: number - 1,
        number,
        state: State::new(1, json!({"at": number})),
    };
    session.commit(&commit).await.map(drop)
}

fn connection() -> ConnectionId {
    ConnectionId(uuid::Uuid::new_v4())
}

#[tokio::test]
async fn what_lies_behind_the_committed_length_is_cut_off() {
    for folder in [Folder::csv(), Folder::jsonl()] {
        let failpoints = Failpoints::default();
        let to = folder.destination(failpoints.clone());
        let load = load(connection(), "t", WriteMode::Append);
        put(&to, &load, 1, rows(0..3)).await.unwrap();
        let path = folder.dir.path().join(format!("t.{}", folder.ending));
        let before = std::fs::read(&path).unwrap();
        failpoints.arm("text.synced", Fault::Error, 1);
        put(&to, &load, 2, rows(3..6)).await.unwrap_err();
        assert!(std::fs::read(&path).unwrap().len() > before.len(), "the rows were on disk when the step failed");
        let to = folder.destination(Failpoints::default());
        to.recall(load.connection).await.unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
        put(&to, &load, 2, rows(3..6)).await.unwrap();
        assert!(folder.files().iter().all(|n| !n.starts_with('.') || n == ".linkspan-lock"), "{:?}", folder.files());
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_is_refused_and_left_alone() {
    let folder = Folder::jsonl();
    let to = folder.destination(Failpoints::default());
    let load = load(connection(), "t", WriteMode::Append);
    put(&to, &load, 1, rows(0..3)).await.unwrap();
    let path = folder.dir.path().join("t.jsonl");
    std::fs::write(&path, "{\"mine\":1}\n").unwrap();
    let e = put(&to, &load, 2, rows(3..6)).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::Conflict, true));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"mine\":1}\n");
}

#[tokio::test]
async fn a_file_of_somebody_else_is_never_written() {
    for mode in [WriteMode::Append, WriteMode::Replace] {
        let folder = Folder::csv();
        let path = folder.dir.path().join("t.csv");
        std::fs::write(&path, "mine\n").unwrap();
        let to = folder.destination(Failpoints::default());
        let load = load(connection(), "t", mode);
        let written = put(&to, &load, 1, rows(0..3)).await;
        let publish = linkspan_core::Publish { connection: load.connection, fence: 1, stream: load.streams[0].clone() };
        let e = if mode == WriteMode::Append { written.unwrap_err() } else { to.publish(&publish).await.unwrap_err() };
        assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::AlreadyExists, true));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n");
    }
}

#[tokio::test]
async fn one_file_holds_one_stream() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, ending) in [(csv::connector_type as fn() -> ConnectorType, "tsv"), (jsonl::connector_type, "jsonl")] {
        let path = dir.path().join(format!("one.{ending}"));
        let to = kind().open(json!({"path": path}), Context::real()).unwrap().destination().unwrap();
        put(&to, &load(connection(), "a", WriteMode::Append), 1, rows(0..2)).await.unwrap();
        let e = put(&to, &load(connection(), "b", WriteMode::Append), 1, rows(0..2)).await.unwrap_err();
        assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::ConfigInvalid, true));
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("one.tsv")).unwrap(), "id\tt\n0\ttext, 0\n1\ttext, 1\n");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("one.jsonl")).unwrap(),
        "{\"id\":0,\"t\":\"text, 0\"}\n{\"id\":1,\"t\":\"text, 1\"}\n"
    );
}

#[tokio::test]
async fn more_rows_than_memory_keeps_are_one_commit() {
    let folder = Folder::csv();
    let to = folder.destination(Failpoints::default());
    put(&to, &load(connection(), "big", WriteMode::Append), 1, rows(0..1_000_000)).await.unwrap();
    let text = std::fs::read_to_string(folder.dir.path().join("big.csv")).unwrap();
    assert_eq!(text.lines().count(), 1_000_001);
    assert!(text.ends_with("\n999999,\"text, 999999\"\n"));
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_before_any_row() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for config in [
        json!({"path": at("x.csv.gz")}),
        json!({"path": at("x.xlsx")}),
        json!({"path": at("x.csv"), "encoding": "windows-1252"}),
        json!({"path": at("x.csv"), "quote": ""}),
    ] {
        let to = csv::connector_type().open(config.clone(), Context::real()).unwrap().destination().unwrap();
        let e = to.open(load(connection(), "t", WriteMode::Append)).await.err().unwrap();
        assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::Unsupported, true), "{config}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// The child of the next test: prints rows of two streams on its standard output.
#[tokio::test]
#[ignore = "run as a child process"]
async fn child_prints_rows() {
    let config = json!({"path": "-", "stream_field": std::env::var("STREAM_FIELD").ok()});
    let to = jsonl::connector_type().open(config, Context::real()).unwrap().destination().unwrap();
    put(&to, &load(connection(), "a", WriteMode::Append), 1, rows(0..2)).await.unwrap();
    if let Err(e) = put(&to, &load(connection(), "b", WriteMode::Append), 1, rows(2..3)).await {
        println!("refused {:?} {}", e.kind(), e.suggested_fix().unwrap());
    }
}

#[test]
fn standard_output_gets_whole_lines_and_several_streams_only_with_a_field() {
    let run = |field: Option<&str>| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["text_files::child_prints_rows", "--ignored", "--exact", "--nocapture", "--test-threads=1"]).stderr(Stdio::null());
        if let Some(field) = field {
            child.env("STREAM_FIELD", field);
        }
        String::from_utf8(child.output().unwrap().stdout).unwrap()
    };
    let one = run(None);
    assert!(one.contains("{\"id\":0,\"t\":\"text, 0\"}\n{\"id\":1,\"t\":\"text, 1\"}\n"), "{one}");
    assert!(one.contains("refused ConfigInvalid") && one.contains("stream_field"), "{one}");
    let both = run(Some("_stream"));
    assert!(both.contains("{\"_stream\":\"b\",\"id\":2,\"t\":\"text, 2\"}\n"), "{both}");
}

#[test]
fn the_shorthand_of_standard_output_is_known() {
    let form = jsonl::connector_type().spec.url.unwrap();
    assert_eq!((form.config)("stdout:").unwrap()["path"], "-");
    assert_eq!((form.config)("stdout:?stream_field=_stream").unwrap()["stream_field"], "_stream");
    assert_eq!((form.config)("jsonl:-").unwrap()["path"], "-");
    assert_eq!((form.config)("./a.jsonl").unwrap()["path"], "./a.jsonl");
}
