//! The suites of sqlite, and what is its own: types both ways, widening, replaces, lanes that share one file.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array, types::Int64Type,
};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use linkspan_connectors::sqlite;
use linkspan_core::{
    Alter, Batch, Changes, Commit, ConnectionId, Connector, ConnectorType, Context, Destination, ErrorKind, Failpoints, Fault, Load,
    LoadStream, MemoryLease, OP_COLUMN, Position, Publish, ReadMode, Result, Rows, SchemaPlan, Scope, Session, Source, State, StreamName,
    Swap, Target, UNSET_COLUMN, WriteMode, native,
};
use linkspan_testkit::{
    BadConfig, Case, StandardRow, Table,
    destination::DestinationHarness,
    drive,
    source::{Mutated, Mutation, SourceHarness, select},
};
use rusqlite::params;
use serde_json::{Value, json};

struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("suite.db")
    }
    fn config(&self) -> Value {
        json!({"path": self.path(), "batch_rows": 400})
    }
    fn db(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.path()).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        db
    }
    fn open(&self) -> Arc<dyn Connector> {
        self.open_with(Failpoints::default())
    }
    fn open_with(&self, failpoints: Failpoints) -> Arc<dyn Connector> {
        sqlite::connector_type().open(self.config(), Context::with_failpoints(failpoints)).unwrap()
    }
    fn destination(&self) -> Arc<dyn Destination> {
        self.open().destination().unwrap()
    }
    fn source(&self) -> Arc<dyn Source> {
        self.open().source().unwrap()
    }
    fn count(&self, table: &str) -> i64 {
        self.db().query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |r| r.get(0)).unwrap()
    }
    /// Everything of a stream, through the source.
    async fn read(&self, stream: &str) -> Vec<RecordBatch> {
        let source = self.source();
        let name = StreamName::new(None, stream);
        let stream = source.discover().await.unwrap().into_iter().find(|s| s.name == name).unwrap();
        let read = drive::read(&source, vec![select(&stream, ReadMode::Full, None)], Position::new()).await.unwrap();
        read.batches(&name).cloned().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_a_well_behaved_source() {
    linkspan_testkit::source::suite(File::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_a_well_behaved_destination() {
    linkspan_testkit::destination::suite(File::new()).await;
}

#[async_trait]
impl SourceHarness for File {
    fn connector_type(&self) -> ConnectorType {
        sqlite::connector_type()
    }
    fn config(&self) -> Value {
        self.config()
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(None, stream)
    }
    fn cursor(&self) -> Option<&'static str> {
        Some("updated_at")
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        let db = self.db();
        db.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; DROP TABLE IF EXISTS {stream};
             CREATE TABLE {stream} (id INTEGER PRIMARY KEY, name TEXT, amount TEXT, flag BOOLEAN, updated_at TEXT)"
        ))
        .unwrap();
        self.put(stream, rows);
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        match mutation {
            Mutation::Insert(rows) | Mutation::Update(rows) => self.put(stream, &rows),
            Mutation::Delete(ids) => {
                for id in ids {
                    self.db().execute(&format!("DELETE FROM {stream} WHERE id = ?1"), [id]).unwrap();
                }
            }
        }
        Mutated::Done
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        bad_configs(self)
    }
}

fn bad_configs(file: &File) -> Vec<BadConfig> {
    let text = file.dir.path().join("not.db");
    std::fs::write(&text, "this is a text file, and a long enough one to be no empty database\n".repeat(40)).unwrap();
    vec![
        BadConfig::new(Case::Missing, json!({"path": file.dir.path().join("no/such/folder/x.db")})),
        BadConfig::new(Case::Unreachable, json!({"path": text})).expecting([ErrorKind::DataInvalid]),
    ]
}

impl File {
    fn put(&self, stream: &str, rows: &[StandardRow]) {
        let mut db = self.db();
        let tx = db.transaction().unwrap();
        for r in rows {
            let row = params![r.id, r.name, r.amount(), r.flag, r.updated_at_text()];
            tx.execute(&format!("INSERT OR REPLACE INTO {stream} VALUES (?1, ?2, ?3, ?4, ?5)"), row).unwrap();
        }
        tx.commit().unwrap();
    }
}

#[async_trait]
impl DestinationHarness for File {
    fn connector_type(&self) -> ConnectorType {
        sqlite::connector_type()
    }
    fn config(&self) -> Value {
        self.config()
    }
    fn target(&self, name: &str) -> Target {
        Target { namespace: Some("suite".into()), name: name.into() }
    }
    async fn read_back(&self, target: &Target) -> Table {
        let db = self.db();
        let registered = "SELECT name FROM _linkspan_tables WHERE target = ?1";
        let key = json!([target.namespace, target.name]).to_string();
        let Ok(name) = db.query_row(registered, [key], |r| r.get::<_, String>(0)) else { return Table::default() };
        let Ok(mut statement) = db.prepare(&format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""))) else { return Table::default() };
        let mut table = Table::new(statement.column_names());
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..table.columns.len()).map(|i| text(row.get_ref(i).unwrap()));
            table.rows.push(cells.collect());
        }
        table
    }
    async fn staging_left(&self) -> Vec<String> {
        let db = self.db();
        let mut s = db.prepare("SELECT name FROM sqlite_schema WHERE name LIKE '\\_linkspan\\_stage%' ESCAPE '\\'").unwrap();
        let tables: Vec<String> = s.query_map([], |r| r.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let spills = std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        tables.into_iter().chain(spills.filter(|n| n.contains("spill"))).collect()
    }
    fn declared_losses(&self) -> Vec<(&'static str, &'static str)> {
        vec![("float32", "SQLite stores -0.0 as 0.0")]
    }
    async fn foreign_table(&self, target: &Target) -> bool {
        let sql = format!("CREATE TABLE \"{target}\" (id INTEGER PRIMARY KEY, name TEXT, amount TEXT, flag BOOLEAN, updated_at TEXT)");
        self.db().execute_batch(&sql).unwrap();
        true
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        bad_configs(self)
    }
}

fn text(value: rusqlite::types::ValueRef<'_>) -> Option<String> {
    use rusqlite::types::ValueRef::*;
    match value {
        Null => None,
        Integer(n) => Some(n.to_string()),
        Real(x) => Some(x.to_string()),
        Text(t) => Some(String::from_utf8(t.to_vec()).unwrap()),
        Blob(b) => Some(b.iter().map(|b| format!("{b:02x}")).collect()),
    }
}

/// One stream of one connection, written without an engine.
struct Writer {
    connection: ConnectionId,
    stream: StreamName,
    write: WriteMode,
    key: Vec<String>,
    generation: u64,
    fence: u64,
    number: u64,
}

impl Writer {
    fn new(stream: &str, write: WriteMode, key: &[&str]) -> Self {
        let key = key.iter().map(|k| (*k).to_owned()).collect();
        Self {
            connection: ConnectionId(uuid::Uuid::new_v4()),
            stream: StreamName::new(None, stream),
            write,
            key,
            generation: 1,
            fence: 1,
            number: 0,
        }
    }
    fn load_stream(&self) -> LoadStream {
        LoadStream {
            stream: self.stream.clone(),
            target: Target::from(&self.stream),
            write: self.write,
            generation: self.generation,
            key: self.key.clone(),
            swap: Swap::Rename,
        }
    }
    async fn open(&self, to: &Arc<dyn Destination>) -> Result<Box<dyn Session>> {
        to.open(Load {
            connection: self.connection,
            fence: self.fence,
            scope: Scope::Stream(self.stream.clone()),
            previous: self.number,
            streams: vec![self.load_stream()],
        })
        .await
    }
    fn plan(&self, schema: &SchemaRef) -> SchemaPlan {
        SchemaPlan { ddl: vec![Alter::Create { schema: schema.clone(), key: self.key.clone() }], ..SchemaPlan::as_is(schema.clone()) }
    }
    fn commit(&self, number: u64) -> Commit {
        Commit {
            connection: self.connection,
            scope: Scope::Stream(self.stream.clone()),
            generation: self.generation,
            fence: self.fence,
            previous: number - 1,
            number,
            state: State::new(1, json!({ "at": number })),
        }
    }
    fn batch(&self, rows: RecordBatch) -> Batch {
        Batch { stream: self.stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() }
    }
    /// Opens, writes and commits.
    async fn put(&mut self, to: &Arc<dyn Destination>, rows: &RecordBatch) -> Result<()> {
        let mut session = self.open(to).await?;
        session.schema(&self.stream, &self.plan(&rows.schema())).await?;
        session.write(self.batch(rows.clone())).await?;
        session.commit(&self.commit(self.number + 1)).await?;
        self.number += 1;
        Ok(())
    }
    fn publish(&self) -> Publish {
        Publish { connection: self.connection, fence: self.fence, stream: self.load_stream() }
    }
}

fn ids(range: std::ops::Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("t", DataType::Utf8, true)]));
    let texts = StringArray::from_iter_values(range.clone().map(|i| format!("text {i}")));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(range)), Arc::new(texts)]).unwrap()
}

fn torture() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None, Some(-3)]), Some(vec![]), None]);
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("bool", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        (Field::new("i32", DataType::Int32, true), Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        (Field::new("i64", DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        (Field::new("u64", DataType::UInt64, true), Arc::new(UInt64Array::from(vec![Some(0), Some(u64::MAX), None]))),
        (Field::new("f32", DataType::Float32, true), Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None]))),
        (
            Field::new("f64", DataType::Float64, true),
            Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(f64::NEG_INFINITY), Some(1e300)])),
        ),
        (
            Field::new("d", DataType::Decimal128(38, 10), true),
            Arc::new(Decimal128Array::from(vec![Some(10i128.pow(38) - 1), Some(-110), None]).with_precision_and_scale(38, 10).unwrap()),
        ),
        (
            Field::new("wide", DataType::Decimal256(76, 2), true),
            Arc::new(
                Decimal256Array::from(vec![Some(i256::MAX / i256::from_i128(10)), Some(i256::from_i128(-5)), None])
                    .with_precision_and_scale(76, 2)
                    .unwrap(),
            ),
        ),
        (Field::new("text", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("a\0b"), Some("😀 'q' \"d\""), Some("")]))),
        (Field::new("large", DataType::LargeUtf8, true), Arc::new(LargeStringArray::from(vec![Some("1.10"), Some("007"), None]))),
        (Field::new("blob", DataType::Binary, true), Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), Some(&b""[..]), None]))),
        (
            Field::new("fixed", DataType::FixedSizeBinary(2), true),
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some(b"ab"), None, Some(b"\0\0")].into_iter(), 2).unwrap()),
        ),
        (Field::new("date", DataType::Date32, true), Arc::new(Date32Array::from(vec![Some(-719_162), Some(2_932_896), Some(2_932_897)]))),
        (
            Field::new("naive", DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, None), true),
            Arc::new(TimestampNanosecondArray::from(vec![Some(i64::MAX), Some(i64::MIN), None])),
        ),
        (
            Field::new("zoned", DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("Europe/Oslo".into())), true),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(253_402_300_800_000_000), None]).with_timezone("Europe/Oslo")),
        ),
        (
            native::with_mark(
                Field::new("ends", DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None), true),
                native::INFINITY,
                "",
            ),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MAX), Some(i64::MIN), Some(0)])),
        ),
        (
            Field::new("time", DataType::Time64(arrow_schema::TimeUnit::Microsecond), true),
            Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), None])),
        ),
        (Field::new("list", list.data_type().clone(), true), Arc::new(list)),
        (Field::new("Case", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("A"), None, None]))),
        (Field::new("case", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("a"), None, None]))),
        (Field::new("select", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("reserved"), None, None]))),
        (Field::new("quo\"te", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("quoted"), None, None]))),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

#[tokio::test]
async fn every_type_reads_back_equal() {
    let file = File::new();
    let rows = torture();
    Writer::new("all", WriteMode::Append, &[]).put(&file.destination(), &rows).await.unwrap();
    let back = file.read("all").await;
    assert_eq!(back.len(), 1);
    for (i, field) in rows.schema().fields().iter().enumerate() {
        let there = back[0].column(i);
        assert_eq!(back[0].schema().field(i), field.as_ref());
        if field.name() == "f64" || field.name() == "f32" {
            assert_eq!(format!("{there:?}"), format!("{:?}", rows.column(i)));
        } else {
            assert_eq!(there, rows.column(i), "{}", field.name());
        }
    }
}

#[tokio::test]
async fn a_commit_is_compare_and_set_and_its_position_is_recalled() {
    let file = File::new();
    let to = file.destination();
    let mut w = Writer::new("t", WriteMode::Append, &[]);
    assert_eq!(to.recall(w.connection).await.unwrap(), None);
    w.put(&to, &ids(0..10)).await.unwrap();
    w.put(&to, &ids(10..20)).await.unwrap();
    let recall = to.recall(w.connection).await.unwrap().unwrap();
    assert_eq!((recall.fence, recall.scopes[&Scope::Stream(w.stream.clone())].number), (1, 2));
    w.number = 1;
    assert_eq!(w.put(&to, &ids(20..30)).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(file.count("t"), 20);
    to.forget(w.connection).await.unwrap();
    assert!(to.recall(w.connection).await.unwrap().unwrap().scopes.is_empty());
    assert_eq!(file.count("t"), 20, "rows stay");
}

#[tokio::test]
async fn a_stale_fence_cannot_commit() {
    let file = File::new();
    let to = file.destination();
    let old = Writer::new("t", WriteMode::Append, &[]);
    let mut frozen = old.open(&to).await.unwrap();
    frozen.schema(&old.stream, &old.plan(&ids(0..1).schema())).await.unwrap();
    frozen.write(old.batch(ids(0..5))).await.unwrap();
    let mut new = Writer { fence: 2, ..Writer::new("t", WriteMode::Append, &[]) };
    new.connection = old.connection;
    new.put(&to, &ids(0..3)).await.unwrap();
    assert_eq!(frozen.commit(&old.commit(1)).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(file.count("t"), 3);
    let stale = old.open(&to).await.err().unwrap();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_merge_folds_deletes_and_keeps_what_was_not_sent() {
    let file = File::new();
    let to = file.destination();
    let mut w = Writer::new("t", WriteMode::Merge, &["id"]);
    w.put(&to, &ids(0..10)).await.unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("t", DataType::Utf8, true),
        Field::new(OP_COLUMN, DataType::Utf8, false),
        Field::new(UNSET_COLUMN, DataType::Binary, true),
    ]));
    let rows = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 3, 99])),
            Arc::new(StringArray::from(vec![None, Some("not sent"), Some("first"), Some("second"), Some("new")])),
            Arc::new(StringArray::from(vec!["d", "u", "u", "u", "i"])),
            Arc::new(BinaryArray::from(vec![None, Some(&[0b10u8][..]), None, None, None])),
        ],
    )
    .unwrap();
    w.put(&to, &rows).await.unwrap();
    let back = Table::from_batches(&file.read("t").await);
    assert_eq!(back.columns, ["id", "t"]);
    let at = |id: &str| back.rows.iter().find(|r| r[0].as_deref() == Some(id)).map(|r| r[1].clone().unwrap());
    assert_eq!((at("1"), at("2"), at("3"), at("99")), (None, Some("text 2".into()), Some("second".into()), Some("new".into())));
}

#[tokio::test]
async fn a_merge_into_an_appended_table_gets_its_unique_index_or_a_clear_error() {
    let file = File::new();
    let to = file.destination();
    let mut append = Writer::new("t", WriteMode::Append, &[]);
    append.put(&to, &ids(0..10)).await.unwrap();
    let mut merge = Writer { connection: append.connection, number: 1, ..Writer::new("t", WriteMode::Merge, &["id"]) };
    merge.put(&to, &ids(5..15)).await.unwrap();
    assert_eq!(file.count("t"), 15);
    file.db().execute_batch("DROP INDEX \"_linkspan_key_t_id\"").unwrap();
    append.number = 2;
    append.put(&to, &ids(0..1)).await.unwrap();
    merge.number = 3;
    let e = merge.put(&to, &ids(0..1)).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::DataInvalid, true));
}

#[tokio::test]
async fn a_replace_is_invisible_until_its_swap_and_keeps_indexes() {
    for swap in [Swap::Rename, Swap::Rewrite] {
        let file = File::new();
        let to = file.destination();
        let mut old = Writer::new("t", WriteMode::Replace, &["id"]);
        old.put(&to, &ids(0..10)).await.unwrap();
        to.publish(&old.publish()).await.unwrap();
        file.db().execute_batch("CREATE INDEX mine ON t (t); CREATE VIEW v AS SELECT id FROM t").unwrap();
        let mut new = Writer { connection: old.connection, generation: 2, ..Writer::new("t", WriteMode::Replace, &["id"]) };
        new.put(&to, &ids(100..103)).await.unwrap();
        assert_eq!(file.count("t"), 10, "old rows until the swap");
        // A crash here: the next process resumes the same generation.
        let to = file.destination();
        new.put(&to, &ids(103..105)).await.unwrap();
        let publish = Publish { stream: LoadStream { swap, ..new.load_stream() }, ..new.publish() };
        to.publish(&publish).await.unwrap();
        to.publish(&publish).await.unwrap();
        assert_eq!((file.count("t"), file.count("v")), (5, 5));
        let indexes: i64 =
            file.db().query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'mine' AND tbl_name = 't'", [], |r| r.get(0)).unwrap();
        assert_eq!((indexes, file.staging_left().await), (1, vec![]));
        assert_eq!(to.recall(new.connection).await.unwrap().unwrap().published, BTreeMap::from([(new.stream.clone(), 2)]));
    }
}

#[tokio::test]
async fn older_staging_goes_when_a_newer_generation_opens_and_an_empty_replace_empties() {
    let file = File::new();
    let to = file.destination();
    let mut w = Writer::new("t", WriteMode::Replace, &[]);
    w.put(&to, &ids(0..10)).await.unwrap();
    to.publish(&w.publish()).await.unwrap();
    (w.generation, w.number) = (2, 0);
    w.put(&to, &ids(0..5)).await.unwrap();
    (w.generation, w.number) = (3, 0);
    drop(w.open(&to).await.unwrap());
    assert!(file.staging_left().await.is_empty());
    to.publish(&w.publish()).await.unwrap();
    assert_eq!(file.count("t"), 0);
}

#[tokio::test]
async fn a_foreign_table_is_never_touched() {
    let file = File::new();
    file.db().execute_batch("CREATE TABLE t (id INTEGER, t TEXT); INSERT INTO t VALUES (1, 'mine')").unwrap();
    let to = file.destination();
    assert!(!to.shape(&Target { namespace: None, name: "t".into() }).await.unwrap().unwrap().ours);
    for mode in [WriteMode::Append, WriteMode::Replace, WriteMode::Merge] {
        let e = Writer::new("t", mode, &["id"]).put(&to, &ids(0..3)).await.unwrap_err();
        assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::AlreadyExists, true), "{mode:?}");
    }
    assert_eq!(file.count("t"), 1);
}

#[tokio::test]
async fn a_column_is_added_and_widened_in_the_middle_of_a_run() {
    let file = File::new();
    let to = file.destination();
    let w = Writer::new("t", WriteMode::Append, &[]);
    let mut session = w.open(&to).await.unwrap();
    let first = ids(0..3);
    session.schema(&w.stream, &w.plan(&first.schema())).await.unwrap();
    session.write(w.batch(first)).await.unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("t", DataType::Utf8, true),
        Field::new("more", DataType::Float64, true),
    ]));
    let (from, to_field) = (Arc::new(Field::new("id", DataType::Int64, false)), Arc::new(Field::new("id", DataType::Utf8, true)));
    let ddl = vec![Alter::Widen { from, to: to_field }, Alter::Add(Arc::new(Field::new("more", DataType::Float64, true)))];
    session.schema(&w.stream, &SchemaPlan { ddl, ..SchemaPlan::as_is(schema.clone()) }).await.unwrap();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["007"])), Arc::new(StringArray::from(vec!["x"])), Arc::new(Float64Array::from(vec![0.5]))];
    session.write(w.batch(RecordBatch::try_new(schema, columns).unwrap())).await.unwrap();
    session.commit(&w.commit(1)).await.unwrap();
    let back = Table::from_batches(&file.read("t").await);
    assert_eq!(back.column("id").unwrap(), [Some("0"), Some("1"), Some("2"), Some("007")]);
    assert_eq!(back.column("more").unwrap(), [None, None, None, Some("0.5")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lanes_with_open_work_never_wait_for_each_other() {
    let file = File::new();
    let connector = file.open();
    let to = connector.destination().unwrap();
    let writers: Vec<Writer> = (0..8).map(|i| Writer::new(&format!("t{i}"), WriteMode::Append, &[])).collect();
    let mut sessions = Vec::new();
    for w in &writers {
        let mut session = w.open(&to).await.unwrap();
        session.schema(&w.stream, &w.plan(&ids(0..1).schema())).await.unwrap();
        // Far beyond what is kept in memory: this spills.
        for i in 0..3 {
            session.write(w.batch(ids(i * 200_000..(i + 1) * 200_000))).await.unwrap();
        }
        sessions.push(session);
    }
    let commits = writers.iter().zip(sessions).map(|(w, mut session)| {
        let commit = w.commit(1);
        tokio::spawn(async move { session.commit(&commit).await })
    });
    for (commit, w) in commits.collect::<Vec<_>>().into_iter().zip(&writers) {
        let stats = commit.await.unwrap().unwrap();
        assert_eq!(stats[&w.stream].written, 600_000);
    }
    assert_eq!(file.count("t7"), 600_000);
    assert!(file.staging_left().await.is_empty());
}

#[tokio::test]
async fn a_fault_at_any_step_of_a_commit_leaves_all_or_nothing() {
    for (point, rows) in [("sqlite.commit.before", 0), ("sqlite.commit.sql", 0), ("sqlite.commit.after", 10)] {
        let file = File::new();
        let failpoints = Failpoints::default();
        let to = file.open_with(failpoints.clone()).destination().unwrap();
        failpoints.arm(point, Fault::Error, 1);
        let mut w = Writer::new("t", WriteMode::Append, &[]);
        w.put(&to, &ids(0..10)).await.unwrap_err();
        let recalled = to.recall(w.connection).await.unwrap().unwrap();
        let standing = recalled.scopes.values().next().map_or(0, |r| r.number);
        assert_eq!(standing, u64::from(rows > 0), "{point}");
        w.number = standing;
        w.put(&to, &ids(10..20)).await.unwrap();
        assert_eq!(file.count("t"), rows + 10, "{point}");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_declared_type_widens_the_column_and_nothing_is_lost() {
    let file = File::new();
    let db = file.db();
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, b TEXT)").unwrap();
    db.execute_batch(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 2000) INSERT INTO t SELECT i, i, 'x' FROM c",
    )
    .unwrap();
    db.execute_batch("INSERT INTO t VALUES (3000, 'many', x'ff00'), (3001, 1.5, CAST(x'c328' AS TEXT))").unwrap();
    let source = file.source();
    let stream = source.discover().await.unwrap().remove(0);
    assert_eq!(stream.schema.field(1).data_type(), &DataType::Int64);
    let read = drive::read(&source, vec![select(&stream, ReadMode::Full, None)], Position::new()).await.unwrap();
    let table = read.table(&stream.name);
    let n = table.column("n").unwrap();
    assert_eq!((n.len(), n[1999], n[2000], n[2001]), (2002, Some("2000"), Some("many"), Some("1.5")));
    assert_eq!(table.column("b").unwrap()[2000..], [Some("\\xff00"), Some("\\xc328")]);
    let changes: usize =
        read.events.iter().map(|e| if let drive::Event::Rows { changes, .. } = e { changes.changed.len() } else { 0 }).sum();
    assert_eq!(changes, 2, "the blob and the broken text are recorded");
}

#[tokio::test]
async fn foreign_tables_have_the_types_that_hold_their_values() {
    let file = File::new();
    file.db()
        .execute_batch(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, price DECIMAL(10,2), day DATE, at DATETIME, epoch DATETIME, ok BOOLEAN, anything, name VARCHAR(20));
             INSERT INTO t VALUES (1, 1.10, '2024-01-02', '2024-01-02 03:04:05.5', 1700000000, 1, 'x', 'n'), (2, 12345678901234567, NULL, NULL, NULL, 0, 7, NULL);
             CREATE TABLE w (a TEXT, b INTEGER, v REAL, PRIMARY KEY (a, b)) WITHOUT ROWID; INSERT INTO w VALUES ('k', 1, 0.5), ('k', 2, 1);
             CREATE VIEW v AS SELECT id * 2 AS twice, name FROM t",
        )
        .unwrap();
    let all = file.source().discover().await.unwrap();
    let types = |s: usize| all[s].schema.fields().iter().map(|f| f.data_type().to_string()).collect::<Vec<_>>();
    assert_eq!(all.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(), ["t", "v", "w"]);
    assert_eq!(types(0), ["Int64", "Utf8", "Date32", "Timestamp(µs)", "Int64", "Boolean", "Utf8", "Utf8"]);
    assert!(native::has_mark(all[0].schema.field(1), native::DECIMAL_TEXT));
    assert_eq!((all[0].key.as_slice(), all[2].key.as_slice()), (&["id".to_owned()][..], &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(types(1), ["Int64", "Utf8"]);
    let t = Table::from_batches(&file.read("t").await);
    assert_eq!(t.column("price").unwrap(), [Some("1.1"), Some("12345678901234567")]);
    assert_eq!(t.column("anything").unwrap(), [Some("x"), Some("7")]);
    assert_eq!(Table::from_batches(&file.read("w").await).column("v").unwrap(), [Some("0.5"), Some("1.0")]);
    assert_eq!(Table::from_batches(&file.read("v").await).len(), 2);
}

#[tokio::test]
async fn a_cursor_that_is_not_there_is_named_with_the_nearest_one() {
    let file = File::new();
    SourceHarness::seed(&file, "t", &StandardRow::range(0..3)).await;
    let source = file.source();
    let stream = source.discover().await.unwrap().remove(0);
    let e = drive::read(&source, vec![select(&stream, ReadMode::Incremental, Some("update_at"))], Position::new()).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some("did you mean \"updated_at\"?")));
}

#[tokio::test]
async fn a_journal_that_a_crash_left_is_played_back() {
    let (crashed, file) = (File::new(), File::new());
    let db = crashed.db();
    db.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA cache_size=1; CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO t VALUES (1, 'kept')")
        .unwrap();
    let fill =
        "WITH RECURSIVE c(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < 5000) INSERT INTO t SELECT i, hex(randomblob(50)) FROM c";
    db.execute_batch("BEGIN").unwrap();
    db.execute_batch(fill).unwrap();
    // What a kill leaves behind: pages of an open transaction in the file, and the journal that takes them back.
    for end in ["", "-journal"] {
        let of = |f: &File| format!("{}{end}", f.path().display());
        std::fs::copy(of(&crashed), of(&file)).unwrap();
    }
    assert_eq!(file.destination().recall(ConnectionId(uuid::Uuid::new_v4())).await.unwrap(), None);
    assert_eq!(Table::from_batches(&file.read("t").await).ids(), [1]);
}

#[tokio::test]
async fn a_locked_database_is_worth_another_try() {
    let file = File::new();
    let other = file.db();
    other.execute_batch("CREATE TABLE x (a); BEGIN IMMEDIATE; INSERT INTO x VALUES (1)").unwrap();
    let config = json!({"path": file.path(), "lock_wait_seconds": 0});
    let to = sqlite::connector_type().open(config, Context::real()).unwrap().destination().unwrap();
    let e = Writer::new("t", WriteMode::Append, &[]).open(&to).await.err().unwrap();
    assert_eq!((e.kind(), e.retry_hint()), (ErrorKind::Unavailable, linkspan_core::Retry::Backoff));
}

/// Not a gate: prints the speed, for a release build (`--ignored --nocapture`).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    let source = linkspan_connectors::faker::connector_type().open(json!({}), Context::real()).unwrap().source().unwrap();
    let streams = source.discover().await.unwrap();
    let read = drive::read(&source, streams.iter().map(|s| select(s, ReadMode::Full, None)).collect(), Position::new()).await.unwrap();
    for mode in [WriteMode::Append, WriteMode::Merge] {
        let file = File::new();
        let to = file.destination();
        for stream in &streams {
            let key: &[&str] = if mode == WriteMode::Merge { &["id"] } else { &[] };
            let w = Writer::new(&stream.name.name, mode, key);
            let start = Instant::now();
            let mut session = w.open(&to).await.unwrap();
            session.schema(&w.stream, &w.plan(&stream.schema)).await.unwrap();
            let (mut number, mut rows) = (0, 0);
            for (i, batch) in read.batches(&stream.name).enumerate() {
                rows += batch.num_rows();
                session.write(w.batch(batch.clone())).await.unwrap();
                if i % 24 == 23 {
                    number += 1;
                    session.commit(&w.commit(number)).await.unwrap();
                }
            }
            session.commit(&w.commit(number + 1)).await.unwrap();
            println!("{mode:?} {}: {:.0} k rows/s", stream.name, rows as f64 / start.elapsed().as_secs_f64() / 1e3);
        }
        let start = Instant::now();
        let rows: usize = file.read("orders").await.iter().map(RecordBatch::num_rows).sum();
        println!("read orders: {:.0} k rows/s", rows as f64 / start.elapsed().as_secs_f64() / 1e3);
    }
}
