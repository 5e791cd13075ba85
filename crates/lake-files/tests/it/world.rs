//! What every test needs: a place of its own, a connection with its runs, and a way to read back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow_array::{Int64Array, RecordBatch, StringArray, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use linkspan_core::*;
use serde_json::{Value, json};
use uuid::Uuid;

/// A folder or a bucket prefix that only this test uses.
pub struct World {
    pub config: Value,
    pub folder: Option<tempfile::TempDir>,
    pub connection: ConnectionId,
    pub fence: AtomicU64,
}

/// What the binary lends for a person's own command.
pub fn lent(failpoints: Failpoints) -> Context {
    let context = Context::with_failpoints(failpoints);
    let http = linkspan_http::client(linkspan_http::Policy::Open, context.clock.clone());
    Context { http, ..context }
}

impl World {
    pub fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(json!({"path": folder.path().join("out").to_str().unwrap()}), Some(folder))
    }
    /// Nothing when there is no S3 server and none is required.
    pub fn s3() -> Option<Self> {
        let names = ["URL", "ACCESS_KEY", "SECRET_KEY", "BUCKET"].map(|n| format!("LINKSPAN_TEST_S3_{n}"));
        let [url, access, secret, bucket] = names.map(|n| std::env::var(n).ok());
        let (Some(url), Some(access), Some(secret), Some(bucket)) = (url, access, secret, bucket) else {
            skip("LINKSPAN_TEST_S3_URL, _ACCESS_KEY, _SECRET_KEY and _BUCKET");
            return None;
        };
        let path = format!("s3://{bucket}/lake-{}", Uuid::new_v4());
        let config = json!({"path": path, "endpoint": url, "access_key_id": access, "secret_access_key": secret, "region": "us-east-1"});
        Some(Self::at(config, None))
    }
    /// Every kind of root that there is here.
    pub fn all() -> Vec<Self> {
        [Some(Self::local()), Self::s3()].into_iter().flatten().collect()
    }
    fn at(config: Value, folder: Option<tempfile::TempDir>) -> Self {
        Self { config, folder, connection: ConnectionId(Uuid::new_v4()), fence: AtomicU64::new(0) }
    }
    /// The same place and connection as another process sees them.
    pub fn other(config: Value, connection: ConnectionId, fence: u64) -> Self {
        Self { config, folder: None, connection, fence: AtomicU64::new(fence) }
    }
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config[field] = value.into();
        self
    }
    pub fn root(&self) -> std::path::PathBuf {
        self.config["path"].as_str().unwrap().into()
    }
    pub fn connector(&self, failpoints: &Failpoints) -> Arc<dyn Connector> {
        connector_type().open(self.config.clone(), lent(failpoints.clone())).unwrap()
    }
    pub fn destination(&self) -> Arc<dyn Destination> {
        self.destination_with(&Failpoints::default())
    }
    pub fn destination_with(&self, failpoints: &Failpoints) -> Arc<dyn Destination> {
        self.connector(failpoints).destination().unwrap()
    }
    pub fn source(&self) -> Arc<dyn Source> {
        self.connector(&Failpoints::default()).source().unwrap()
    }
    pub fn next_fence(&self) -> u64 {
        self.fence.fetch_add(1, Ordering::Relaxed) + 1
    }
    pub fn load(&self, fence: u64, scope: Scope, stream: LoadStream) -> Load {
        Load { connection: self.connection, fence, scope, previous: 0, streams: vec![stream] }
    }
    pub fn commit(&self, fence: u64, scope: &Scope, generation: u64, previous: u64) -> Commit {
        Commit {
            connection: self.connection,
            scope: scope.clone(),
            generation,
            fence,
            previous,
            number: previous + 1,
            state: State::new(1, json!({ "n": previous + 1 })),
        }
    }
    pub fn publish(&self, fence: u64, stream: &LoadStream) -> Publish {
        Publish { connection: self.connection, fence, stream: stream.clone() }
    }

    /// All ids of a stream, sorted; none when there is no such stream.
    pub async fn ids(&self, stream: &StreamName) -> Vec<i64> {
        let mut ids: Vec<i64> = Vec::new();
        for batch in self.rows(stream).await {
            ids.extend(batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
        }
        ids.sort_unstable();
        ids
    }
    /// Each id with its name, sorted.
    pub async fn names(&self, stream: &StreamName) -> Vec<(i64, String)> {
        let mut all = Vec::new();
        for batch in self.rows(stream).await {
            let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
            let names = batch.column_by_name("name").unwrap().as_string::<i32>().iter().map(|name| name.unwrap_or("-").to_owned());
            all.extend(ids.into_iter().zip(names));
        }
        all.sort_unstable();
        all
    }
    pub async fn rows(&self, stream: &StreamName) -> Vec<RecordBatch> {
        let source = self.source();
        let streams = match source.discover().await {
            Ok(streams) => streams,
            Err(e) if e.kind() == ErrorKind::NotFound => return vec![],
            Err(e) => panic!("{e:?}"),
        };
        let Some(found) = streams.into_iter().find(|s| s.name == *stream) else { return vec![] };
        read(source, selected(found, ReadMode::Full, None), Position::new()).await.unwrap().batches
    }
}

pub fn skip(what: &str) {
    if std::env::var_os("CI").is_some() || std::env::var_os("LINKSPAN_TEST_REQUIRE_SERVERS").is_some() {
        panic!("this test needs {what}");
    }
    eprintln!("skipped: needs {what}");
}

pub fn connector_type() -> ConnectorType {
    linkspan_lake_files::all().remove(0)
}

pub fn append(name: &str) -> LoadStream {
    let stream = StreamName::parse(name);
    LoadStream { target: Target::from(&stream), stream, write: WriteMode::Append, generation: 1, key: vec![], swap: Swap::Rename }
}
pub fn merge(name: &str) -> LoadStream {
    LoadStream { write: WriteMode::Merge, key: vec!["id".into()], ..append(name) }
}
pub fn replace(name: &str, generation: u64) -> LoadStream {
    LoadStream { write: WriteMode::Replace, generation, ..append(name) }
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]))
}
pub fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names = StringArray::from_iter(ids.clone().map(|i| (i % 3 != 0).then(|| format!("name {i}"))));
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)]).unwrap()
}
/// What a run writes before its commit `n`. A merge writes half of the slice before again.
pub fn slice(write: WriteMode, n: u64) -> RecordBatch {
    let first = i64::try_from(n).unwrap() * 10;
    if write != WriteMode::Merge {
        return rows(first..first + 10);
    }
    let ids = (first - 5).max(0)..first + 10;
    let names = StringArray::from_iter_values(ids.clone().map(|_| format!("v{n}")));
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)]).unwrap()
}
pub fn batch(stream: &StreamName, rows: RecordBatch) -> Batch {
    Batch { stream: stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() }
}

/// A run of one lane as the engine does it: recall, open, write slices of ten rows from where the destination stands, commit each,
/// publish a replace. `slices` is how many there are in all.
pub async fn run(world: &World, stream: &LoadStream, slices: u64, failpoints: &Failpoints) -> Result<()> {
    let fence = world.next_fence();
    let destination = world.destination_with(failpoints);
    let scope = Scope::Stream(stream.stream.clone());
    let recall = destination.recall(world.connection).await?;
    let stands = recall.as_ref().and_then(|r| r.scopes.get(&scope)).filter(|r| r.generation == stream.generation).map_or(0, |r| r.number);
    let mut session = destination.open(world.load(fence, scope.clone(), stream.clone())).await?;
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await?;
    for n in stands..slices {
        let slice = slice(stream.write, n);
        let written = slice.num_rows() as u64;
        session.write(batch(&stream.stream, slice)).await?;
        let stats = session.commit(&world.commit(fence, &scope, stream.generation, n)).await?;
        assert_eq!(stats[&stream.stream], WriteStats { written, duplicates: 0, rejected: 0 });
    }
    if stream.write == WriteMode::Replace {
        destination.publish(&world.publish(fence, stream)).await?;
    }
    Ok(())
}

/// What a read brought.
#[derive(Debug, Default)]
pub struct Read {
    pub batches: Vec<RecordBatch>,
    pub position: Position,
    /// For each checkpoint: its state, and how many rows came before it in its lane.
    pub checkpoints: Vec<(Scope, State, usize)>,
    pub schemas: Vec<SchemaRef>,
}

impl Read {
    pub fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> =
            self.batches.iter().flat_map(|b| b.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()).collect();
        ids.sort_unstable();
        ids
    }
}

pub fn selected(stream: Stream, read: ReadMode, cursor: Option<&str>) -> Selected {
    Selected { stream, read, cursor: cursor.map(str::to_owned), repeats: Repeats::Kept }
}

/// Runs all lanes to their ends.
pub async fn read(source: Arc<dyn Source>, selected: Selected, from: Position) -> Result<Read> {
    let mut done = Read { position: from.clone(), ..Read::default() };
    let mut lanes = source.lanes(vec![selected], from);
    while let Some(lane) = lanes.next().await {
        let lane = lane?;
        let (mut out, mut inbox) = Output::channel(MemoryBudget::new(64 << 20), 4);
        let reader = async move { lane.read(&mut out, &Stop::never()).await };
        let writer = async {
            let mut seen = 0;
            while let Some(message) = inbox.recv().await {
                match message {
                    Message::Rows(Batch { rows: Rows::Arrow(rows), .. }) => {
                        seen += rows.num_rows();
                        done.batches.push(rows);
                    }
                    Message::Checkpoint { scope, state } => {
                        done.checkpoints.push((scope.clone(), state.clone(), seen));
                        done.position.insert(scope, state);
                    }
                    Message::Schema { schema, .. } => done.schemas.push(schema),
                    other => panic!("unexpected {other:?}"),
                }
            }
        };
        let (ended, ()) = tokio::join!(reader, writer);
        assert_eq!(ended?, Ended::Complete);
    }
    Ok(done)
}

pub async fn discover_one(world: &World, name: &str) -> Stream {
    let streams = world.source().discover().await.unwrap();
    let known: BTreeMap<String, Stream> = streams.into_iter().map(|s| (s.name.to_string(), s)).collect();
    known.get(name).unwrap_or_else(|| panic!("{name} is not among {:?}", known.keys())).clone()
}

/// The files below a local root, as relative paths, sorted.
pub fn files_below(root: &std::path::Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    all.sort();
    all
}
