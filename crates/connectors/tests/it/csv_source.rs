//! Text files as a source: what is inferred, what is refused, and that every checkpoint resumes to the same rows.

use std::{io::Write, path::Path};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use futures::StreamExt;
use linkspan_connectors::csv;
use linkspan_core::{
    ConnectorType, Context, Ended, ErrorKind, MemoryBudget, Message, Output, Position, ReadMode, Rejected, Repeats, Result, Rows, Scope,
    Selected, State, Stop, StreamName,
};
use linkspan_testkit::{
    StandardRow,
    source::{Mutated, Mutation, SourceHarness},
};
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Default, Debug)]
struct Read {
    schemas: Vec<String>,
    rows: Vec<Vec<String>>,
    /// How many rows came before each checkpoint.
    checkpoints: Vec<(usize, State)>,
    rejected: Vec<Rejected>,
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("∅");
    let naive = arrow_schema::DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
    let zoneless = |c: &ArrayRef| {
        if matches!(c.data_type(), arrow_schema::DataType::Timestamp(..)) { arrow_cast::cast(c, &naive).unwrap() } else { c.clone() }
    };
    let plain: Vec<ArrayRef> = batch.columns().iter().map(zoneless).collect();
    let columns: Vec<_> = plain.iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows()).map(|r| columns.iter().map(|c| c.value(r).to_string()).collect()).collect()
}

fn types(schema: &arrow_schema::Schema) -> String {
    schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect::<Vec<_>>().join(" ")
}

async fn read(config: &Value, mode: ReadMode, from: Option<State>) -> Result<Read> {
    let source = csv::connector_type().open(config.clone(), Context::real())?.source().unwrap();
    let stream = source.discover().await?.remove(0);
    let name = stream.name.clone();
    let mut read = Read { schemas: vec![types(&stream.schema)], ..Read::default() };
    let selected = Selected { stream, read: mode, cursor: None, repeats: Repeats::Kept };
    let position: Position = from.map(|s| (Scope::Stream(name), s)).into_iter().collect();
    let lane = source.lanes(vec![selected], position).next().await.unwrap()?;
    let (mut out, mut inbox) = Output::channel(MemoryBudget::new(64 << 20), 4);
    let reader = tokio::spawn(async move { lane.read(&mut out, &Stop::never()).await });
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Schema { schema, .. } => read.schemas.push(types(&schema)),
            Message::Rows(batch) => {
                read.rejected.extend(batch.changes.rejected);
                let Rows::Arrow(rows) = batch.rows else { panic!("text files send Arrow") };
                read.rows.extend(texts(&rows));
            }
            Message::Checkpoint { state, .. } => read.checkpoints.push((read.rows.len(), state)),
            Message::Truncated { .. } | Message::Note { .. } => panic!("no log here"),
        }
    }
    assert_eq!(reader.await.unwrap()?, Ended::Complete);
    Ok(read)
}

fn file(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> Value {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    json!({ "path": path })
}

async fn full(name: &str, bytes: impl AsRef<[u8]>, more: Value) -> Result<Read> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = file(&dir, name, bytes);
    for (k, v) in more.as_object().unwrap() {
        config[k] = v.clone();
    }
    read(&config, ReadMode::Full, None).await
}

#[tokio::test]
async fn types_are_inferred_without_losing_a_digit() {
    let text = "id,zip,amount,big,at,day,flag,note\n1,00501,12.50,12345678901234567890,2024-01-01T00:00:00Z,2024-02-29,true,\"a, \"\"b\"\"\"\n2,10001,-0.5,1,2024-01-01 00:00:01.5+02,2023-01-01,false,\n";
    let read = full("t.csv", text, json!({})).await.unwrap();
    assert_eq!(
        read.schemas,
        ["id:Int64 zip:Utf8 amount:Decimal128(18, 2) big:Decimal128(38, 0) at:Timestamp(µs, \"UTC\") day:Date32 flag:Boolean note:Utf8"]
    );
    assert_eq!(read.rows[0], ["1", "00501", "12.50", "12345678901234567890", "2024-01-01T00:00:00", "2024-02-29", "true", "a, \"b\""]);
    assert_eq!(read.rows[1], ["2", "10001", "-0.50", "1", "2023-12-31T22:00:01.500", "2023-01-01", "false", "∅"]);
}

#[tokio::test]
async fn null_and_the_empty_text_differ() {
    let read = full("t.csv", "a,b\n\"\",x\n,NULL\n", json!({"null_values": ["NULL"]})).await.unwrap();
    assert_eq!(read.rows, [["", "x"], ["∅", "∅"]]);
}

#[tokio::test]
async fn a_later_value_that_does_not_fit_widens_its_column() {
    let mut text = String::from("id,code\n");
    for i in 0..10 {
        text += &format!("{i},{i}\n");
    }
    text += "10,007\n";
    let read = full("t.csv", text, json!({"sample_rows": 5})).await.unwrap();
    assert_eq!(read.schemas, ["id:Int64 code:Int64", "id:Int64 code:Utf8"]);
    assert_eq!(read.rows.last().unwrap(), &["10", "007"]);
}

#[tokio::test]
async fn encodings_marks_and_compression_are_recognised() {
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("a;b\r\né;1\r\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(full("t.csv", utf16, json!({})).await.unwrap().rows, [["é", "1"]]);
    assert_eq!(full("t.csv", b"\xef\xbb\xbfa,b\nx,1\n", json!({})).await.unwrap().schemas, ["a:Utf8 b:Int64"]);
    assert_eq!(full("t.csv", b"a,b\ncaf\xe9,1\n", json!({"encoding": "windows-1252"})).await.unwrap().rows, [["café", "1"]]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(b"a\tb\nx\t1\n").unwrap();
    assert_eq!(full("t.tsv.gz", gz.finish().unwrap(), json!({})).await.unwrap().rows, [["x", "1"]]);
    let zst = zstd::encode_all(&b"a,b\nx,1\n"[..], 1).unwrap();
    assert_eq!(full("t.csv.zst", zst, json!({})).await.unwrap().rows, [["x", "1"]]);
}

#[tokio::test]
async fn a_bad_row_is_named_and_the_policy_decides() {
    let text = "id,name\n1,a\n2\n3,c,d\n4,e\n";
    let e = full("t.csv", text, json!({})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::DataInvalid);
    assert!(e.to_string().contains("t.csv:3") && e.suggested_fix().is_some(), "{e:?}");
    let skipped = full("t.csv", text, json!({"bad_rows": "skip"})).await.unwrap();
    assert_eq!(skipped.rows, [["1", "a"], ["4", "e"]]);
    assert_eq!(skipped.rejected.len(), 2);
    assert!(skipped.rejected[1].place.ends_with("t.csv:4"));
    let nulled = full("t.csv", text, json!({"bad_rows": "null"})).await.unwrap();
    assert_eq!(nulled.rows, [["1", "a"], ["2", "∅"], ["3", "c"], ["4", "e"]]);
    let e = full("t.csv", b"id,name\n1,ok\n2,\xff\xfe\n", json!({})).await.unwrap_err();
    assert!(e.to_string().contains("t.csv:3"), "{e:?}");
    let e = full("t.csv", "id,name\n1,\"never closed\n2,b\n", json!({})).await.unwrap_err();
    assert!(e.to_string().contains("t.csv:2"), "{e:?}");
}

#[tokio::test]
async fn a_cut_gzip_is_an_error_and_not_a_short_table() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&b"a,b\n1,2\n".repeat(10_000)).unwrap();
    let mut bytes = gz.finish().unwrap();
    bytes.truncate(bytes.len() / 2);
    let e = full("t.csv.gz", bytes, json!({})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::DataInvalid, "{e:?}");
}

fn long(rows: usize) -> String {
    let mut text = String::from("id,note\n");
    for i in 0..rows {
        text += &format!("{i},\"{}\n{i}\"\n", "x".repeat(100));
    }
    text
}

#[tokio::test]
async fn every_checkpoint_resumes_to_the_suffix() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(&dir, "t.csv", long(150_000));
    let whole = read(&config, ReadMode::Full, None).await.unwrap();
    assert!(whole.checkpoints.len() > 3, "{}", whole.checkpoints.len());
    for (rows, state) in &whole.checkpoints {
        let rest = read(&config, ReadMode::Full, Some(state.clone())).await.unwrap();
        assert_eq!(rest.rows.len(), whole.rows.len() - rows);
        assert_eq!(rest.rows.first(), whole.rows.get(*rows));
    }
    std::fs::write(dir.path().join("t.csv"), "id,note\n9,z\n").unwrap();
    let e = read(&config, ReadMode::Full, Some(whole.checkpoints[0].1.clone())).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost);
}

#[tokio::test]
async fn a_full_read_does_not_go_on_behind_a_file_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.csv", "b.csv"] {
        file(&dir, name, "id,n\n1,a\n");
    }
    let config = json!({"path": dir.path().join("*.csv"), "stream": "all"});
    let whole = read(&config, ReadMode::Full, None).await.unwrap();
    let state = whole.checkpoints.last().unwrap().1.clone();
    assert!(read(&config, ReadMode::Full, Some(state.clone())).await.unwrap().rows.is_empty());
    std::fs::remove_file(dir.path().join("a.csv")).unwrap();
    let e = read(&config, ReadMode::Full, Some(state)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost, "its rows are in what was read");
}

#[tokio::test]
async fn an_incremental_read_brings_new_files_and_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "a.csv", "id,n\n1,a\n2,b");
    let config = json!({"path": dir.path().join("*.csv"), "stream": "all"});
    let first = read(&config, ReadMode::Incremental, None).await.unwrap();
    assert_eq!(first.rows.len(), 2);
    let state = first.checkpoints.last().unwrap().1.clone();
    assert!(read(&config, ReadMode::Incremental, Some(state.clone())).await.unwrap().rows.is_empty());
    let mut a = std::fs::OpenOptions::new().append(true).open(dir.path().join("a.csv")).unwrap();
    a.write_all(b"\n3,c\n").unwrap();
    file(&dir, "b.csv", "n,id,extra\nd,4,x\n");
    let second = read(&config, ReadMode::Incremental, Some(state.clone())).await.unwrap();
    assert_eq!(second.rows[0], ["3", "c"]);
    assert_eq!(second.rows[1], ["4", "d", "x"]);
    // A last line that was read half is not glued together silently.
    std::fs::write(dir.path().join("a.csv"), "id,n\n1,a\n2,bb\n").unwrap();
    let e = read(&config, ReadMode::Incremental, Some(state)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost, "{e:?}");
}

#[tokio::test]
async fn json_lines_keep_nested_values_and_every_digit() {
    let text = "{\"id\":1,\"big\":12345678901234567890,\"tags\":[1, 2],\"s\":\"007\"}\n\n{\"s\":\"a\\n\\u00e9\",\"id\":2,\"late\":true}\n{\"id\":null}\n";
    let read = full("t.jsonl", text, json!({})).await.unwrap();
    assert_eq!(read.schemas, ["id:Int64 big:Decimal128(38, 0) tags:Utf8 s:Utf8 late:Boolean"]);
    assert_eq!(
        read.rows,
        [["1", "12345678901234567890", "[1, 2]", "007", "∅"], ["2", "∅", "∅", "a\né", "true"], ["∅", "∅", "∅", "∅", "∅"]]
    );
    let e = full("t.jsonl", "{\"id\":1}\n{\"id\":\n", json!({})).await.unwrap_err();
    assert!(e.to_string().contains("t.jsonl:2"), "{e:?}");
}

#[tokio::test]
async fn wrong_configs_and_missing_files_say_what_to_do() {
    for (config, kind) in [
        (json!({"path": "/nowhere/x.csv"}), ErrorKind::NotFound),
        (json!({"path": "/nowhere/*.csv"}), ErrorKind::NotFound),
        (json!({"path": "x", "delimiter": "ab"}), ErrorKind::ConfigInvalid),
        (json!({"path": "x", "encoding": "klingon"}), ErrorKind::ConfigInvalid),
        (json!({"path": "x", "delimitter": ","}), ErrorKind::ConfigInvalid),
    ] {
        let e = read(&config, ReadMode::Full, None).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e:?}");
        assert!(e.suggested_fix().is_some(), "{e:?}");
    }
}

struct Harness(TempDir);

impl Harness {
    fn path(&self, stream: &str) -> std::path::PathBuf {
        self.0.path().join(format!("{stream}.csv"))
    }
    fn write(&self, path: &Path, rows: &[StandardRow], append: bool) {
        let mut text = if append { std::fs::read_to_string(path).unwrap() } else { "id,name,amount,flag,updated_at\n".to_owned() };
        for r in rows {
            let name = r.name.as_ref().map_or(String::new(), |n| format!("\"{}\"", n.replace('"', "\"\"")));
            let at = jiff::Timestamp::from_microsecond(r.updated_at).unwrap();
            text += &format!("{},{name},{}.{:02},{},{at:.6}\n", r.id, r.cents / 100, r.cents.abs() % 100, r.flag);
        }
        std::fs::write(path, text).unwrap();
    }
}

#[async_trait]
impl SourceHarness for Harness {
    fn connector_type(&self) -> ConnectorType {
        csv::connector_type()
    }
    fn config(&self) -> Value {
        json!({ "path": self.0.path() })
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(None, stream)
    }
    fn has_key(&self) -> bool {
        false
    }
    fn cursor(&self) -> Option<&'static str> {
        None
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        self.write(&self.path(stream), rows, false);
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        match mutation {
            Mutation::Insert(rows) => {
                self.write(&self.path(stream), &rows, true);
                Mutated::Done
            }
            _ => Mutated::Unsupported,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_is_a_well_behaved_source() {
    let harness = Harness(tempfile::tempdir().unwrap());
    harness.seed("first", &[]).await;
    linkspan_testkit::source::suite(harness).await;
}
