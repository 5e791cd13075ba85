//! A destination in memory that keeps the whole contract: fences, compare-and-set commits, generations, staging, recall.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow_array::{Array, RecordBatch, cast::AsArray};
use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::future::BoxFuture;
use linkspan_core::{
    Alter, Atomic, Batch, Cadence, Capability, Commit, ConnectionId, Destination, Error, ErrorKind, Failpoints, Load, LoadStream,
    OP_COLUMN, Publish, Recall, Recalled, Result, Rows, SchemaPlan, Scope, Session, StreamName, TableShape, Target, UNSET_COLUMN, Visible,
    WriteMode, WriteStats, fold, is_feed_column,
};
use tokio::time::Instant;

use crate::Table;

/// A table as text values by key. Rows without a key are kept under a running number.
#[derive(Clone, Debug)]
pub struct FakeTable {
    pub schema: SchemaRef,
    pub key: Vec<String>,
    pub ours: bool,
    rows: BTreeMap<Vec<String>, BTreeMap<String, String>>,
    next: u64,
}

/// What happened at the destination, in order, with tokio's time.
#[derive(Clone, Debug)]
pub enum Did {
    Opened(Load),
    Planned(StreamName, SchemaPlan),
    Wrote(StreamName, usize),
    Committed(Commit),
    Published(StreamName, u64),
}

type Hook = Arc<dyn Fn(Commit) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// An in-memory destination. Failpoints: `fake.open`, `fake.write`, `fake.commit.before`, `fake.commit.after`,
/// `fake.publish.before`, `fake.publish.after`.
pub struct FakeDestination {
    shared: Arc<Shared>,
}

struct Shared {
    capability: Mutex<Capability>,
    failpoints: Failpoints,
    now: Arc<Mutex<Stored>>,
    journal: Mutex<Vec<(Instant, Did)>>,
    slow: Mutex<BTreeMap<StreamName, Duration>>,
    burn: Mutex<Duration>,
    buffers: Mutex<bool>,
    before_commit: Mutex<Option<Hook>>,
    sessions: Mutex<usize>,
}

/// Everything that is durable; cloned by `backup` and by each commit, so tables are shared until they change.
#[derive(Clone, Default)]
struct Stored {
    tables: BTreeMap<Target, Arc<FakeTable>>,
    staging: BTreeMap<(ConnectionId, StreamName, u64), Arc<FakeTable>>,
    records: BTreeMap<(ConnectionId, Scope), Recalled>,
    fences: BTreeMap<ConnectionId, u64>,
    published: BTreeMap<(ConnectionId, StreamName), u64>,
}

/// A copy of what was durable, for `restore`.
#[derive(Clone)]
pub struct Backup(Stored);

impl FakeDestination {
    /// Commits rows of all streams and the position at once.
    pub fn atomic() -> Arc<Self> {
        Self::with_failpoints(Atomic::Session, Failpoints::default())
    }
    /// Shows rows as they are written and keeps no record: it may repeat rows, never lose them.
    pub fn non_atomic() -> Arc<Self> {
        Self::with_failpoints(Atomic::None, Failpoints::default())
    }
    pub fn with_failpoints(atomic: Atomic, failpoints: Failpoints) -> Arc<Self> {
        Self::over(Arc::default(), atomic, failpoints)
    }
    /// The same store, opened again: what a restarted process sees.
    pub fn reopened(&self, atomic: Atomic, failpoints: Failpoints) -> Arc<Self> {
        Self::over(self.shared.now.clone(), atomic, failpoints)
    }
    fn over(now: Arc<Mutex<Stored>>, atomic: Atomic, failpoints: Failpoints) -> Arc<Self> {
        let capability = Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace, WriteMode::Merge],
            atomic,
            transactional_ddl: true,
            commit_visible: if atomic == Atomic::None { Visible::Rolling } else { Visible::Atomic },
            fences: atomic != Atomic::None,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: false,
            deletes: true,
            parallel: true,
            advice: Cadence { rows: u64::MAX, bytes: u64::MAX, age: Duration::ZERO },
        };
        let shared = Shared {
            capability: Mutex::new(capability),
            failpoints,
            now,
            journal: Mutex::default(),
            slow: Mutex::default(),
            burn: Mutex::default(),
            buffers: Mutex::default(),
            before_commit: Mutex::default(),
            sessions: Mutex::default(),
        };
        Arc::new(Self { shared: Arc::new(shared) })
    }
    /// Changes what the destination says of itself, and does.
    pub fn set_capability(&self, change: impl FnOnce(&mut Capability)) {
        change(&mut self.shared.capability.lock().unwrap());
    }
    /// Each write of this stream takes so long.
    pub fn slow(&self, stream: &StreamName, each: Duration) {
        self.shared.slow.lock().unwrap().insert(stream.clone(), each);
    }
    /// Each write keeps its core busy for so long, as encoding does.
    pub fn burn(&self, each: Duration) {
        *self.shared.burn.lock().unwrap() = each;
    }
    /// A destination without records keeps rows to itself until the commit, as a writer of files does, and does not show them at once.
    pub fn buffer_until_commit(&self) {
        *self.shared.buffers.lock().unwrap() = true;
    }
    /// Runs before each commit takes effect: to fail it, to hold it, to do something in between.
    pub fn before_commit(&self, hook: impl Fn(Commit) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static) {
        *self.shared.before_commit.lock().unwrap() = Some(Arc::new(hook));
    }
    pub fn clear_hook(&self) {
        *self.shared.before_commit.lock().unwrap() = None;
    }
    pub fn backup(&self) -> Backup {
        Backup(self.shared.now.lock().unwrap().clone())
    }
    /// Sets everything durable back, as an operator who restores last night's database does.
    pub fn restore(&self, backup: &Backup) {
        *self.shared.now.lock().unwrap() = backup.0.clone();
    }
    /// An empty destination, as after a replacement of the server.
    pub fn wipe(&self) {
        *self.shared.now.lock().unwrap() = Stored::default();
    }
    /// Puts somebody's table there.
    pub fn put_table(&self, target: &Target, table: FakeTable) {
        self.shared.now.lock().unwrap().tables.insert(target.clone(), Arc::new(table));
    }
    /// Drops a table behind everybody's back; what is remembered of its commits stays.
    pub fn drop_table(&self, target: &Target) {
        self.shared.now.lock().unwrap().tables.remove(target);
    }
    pub fn table(&self, target: &Target) -> Option<FakeTable> {
        self.shared.now.lock().unwrap().tables.get(target).map(|t| t.as_ref().clone())
    }
    /// The ids in a table, sorted, with repeats; empty when there is no table.
    pub fn ids(&self, target: &Target) -> Vec<i64> {
        self.table(target).map(|t| t.to_table().ids()).unwrap_or_default()
    }
    /// Names of staged tables that are there now.
    pub fn staging(&self) -> Vec<String> {
        self.shared.now.lock().unwrap().staging.keys().map(|(_, stream, generation)| format!("{stream}#{generation}")).collect()
    }
    /// How many sessions are open now: 0 after a run, or something leaked.
    pub fn open_sessions(&self) -> usize {
        *self.shared.sessions.lock().unwrap()
    }
    pub fn journal(&self) -> Vec<(Instant, Did)> {
        self.shared.journal.lock().unwrap().clone()
    }
    pub fn commits(&self) -> Vec<Commit> {
        self.journal().into_iter().filter_map(|(_, did)| if let Did::Committed(c) = did { Some(c) } else { None }).collect()
    }
}

impl Shared {
    fn did(&self, did: Did) {
        self.journal.lock().unwrap().push((Instant::now(), did));
    }
    fn atomic(&self) -> Atomic {
        self.capability.lock().unwrap().atomic
    }
}

#[async_trait]
impl Destination for FakeDestination {
    fn capability(&self) -> Capability {
        self.shared.capability.lock().unwrap().clone()
    }
    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        let shape = |t: FakeTable| TableShape { schema: t.schema, key: t.key, ours: t.ours };
        Ok(self.table(target).map(shape))
    }
    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        if self.shared.atomic() == Atomic::None {
            return Ok(None);
        }
        let now = self.shared.now.lock().unwrap();
        let Some(fence) = now.fences.get(&connection).copied() else { return Ok(None) };
        let scopes = now.records.iter().filter(|((c, _), _)| *c == connection).map(|((_, s), r)| (s.clone(), r.clone())).collect();
        let published = now.published.iter().filter(|((c, _), _)| *c == connection).map(|((_, s), g)| (s.clone(), *g)).collect();
        Ok(Some(Recall { fence, scopes, published }))
    }
    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        let capability = self.capability();
        if let Some(s) = load.streams.iter().find(|s| !capability.modes.contains(&s.write)) {
            return Err(Error::new(ErrorKind::Unsupported, "this write mode is not supported here")
                .with("stream", &s.stream)
                .fix("choose another"));
        }
        if capability.atomic == Atomic::Stream && load.streams.len() > 1 {
            return Err(Error::new(ErrorKind::Unsupported, "a commit here holds one stream").fix("split the lane"));
        }
        self.shared.failpoints.hit("fake.open").await?;
        {
            let mut now = self.shared.now.lock().unwrap();
            if capability.fences {
                let fence = now.fences.entry(load.connection).or_default();
                if *fence > load.fence {
                    return Err(stale(load.fence, *fence));
                }
                *fence = load.fence;
            }
            let is_old = |c: &ConnectionId, stream: &StreamName, generation: u64| {
                *c == load.connection && load.streams.iter().any(|s| s.stream == *stream && generation < s.generation)
            };
            now.staging.retain(|(c, stream, generation), _| !is_old(c, stream, *generation));
            // What was recorded of rows that are gone would let somebody go on behind them.
            let replaces = |s: &StreamName| load.streams.iter().any(|l| l.stream == *s && l.write == WriteMode::Replace);
            now.records.retain(|(c, scope), r| !scope.stream().is_some_and(|s| replaces(s) && is_old(c, s, r.generation)));
        }
        self.shared.did(Did::Opened(load.clone()));
        *self.shared.sessions.lock().unwrap() += 1;
        Ok(Box::new(FakeSession {
            shared: self.shared.clone(),
            load,
            pending: vec![],
            planned: BTreeMap::new(),
            rejected: BTreeMap::new(),
        }))
    }
    async fn publish(&self, publish: &Publish) -> Result<()> {
        self.shared.failpoints.hit("fake.publish.before").await?;
        let stream = &publish.stream;
        {
            let mut now = self.shared.now.lock().unwrap();
            let fence = now.fences.get(&publish.connection).copied().unwrap_or_default();
            if fence > publish.fence {
                return Err(stale(publish.fence, fence));
            }
            let key = (publish.connection, stream.stream.clone());
            if now.published.get(&key).is_none_or(|g| *g < stream.generation) {
                now.show(publish.connection, stream);
                now.published.insert(key, stream.generation);
            }
        }
        self.shared.did(Did::Published(stream.stream.clone(), stream.generation));
        self.shared.failpoints.hit("fake.publish.after").await
    }
    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        let mut now = self.shared.now.lock().unwrap();
        now.records.retain(|(c, _), _| *c != connection);
        now.published.retain(|(c, _), _| *c != connection);
        now.staging.retain(|(c, _, _), _| *c != connection);
        now.fences.remove(&connection);
        Ok(())
    }
}

fn stale(ours: u64, theirs: u64) -> Error {
    Error::new(ErrorKind::Conflict, "a later run has taken over").with("fence", ours).with("installed", theirs)
}

impl Stored {
    fn show(&mut self, connection: ConnectionId, stream: &LoadStream) {
        let staged = self.staging.remove(&(connection, stream.stream.clone(), stream.generation));
        match (staged, self.tables.get_mut(&stream.target)) {
            (Some(staged), _) => {
                self.tables.insert(stream.target.clone(), staged);
            }
            // A complete read of nothing: the table is empty now.
            (None, Some(table)) => Arc::make_mut(table).rows.clear(),
            (None, None) => {}
        }
    }
    /// The table that a stream's rows go into now.
    fn standing(&mut self, load: &Load, stream: &LoadStream) -> Option<&mut FakeTable> {
        let table = match stream.write {
            WriteMode::Replace => self.staging.get_mut(&(load.connection, stream.stream.clone(), stream.generation)),
            _ => self.tables.get_mut(&stream.target),
        };
        table.map(Arc::make_mut)
    }
    fn put(&mut self, load: &Load, stream: &LoadStream, table: FakeTable) {
        let table = Arc::new(table);
        match stream.write {
            WriteMode::Replace => self.staging.insert((load.connection, stream.stream.clone(), stream.generation), table),
            _ => self.tables.insert(stream.target.clone(), table),
        };
    }
    fn apply(&mut self, load: &Load, pending: &Pending) -> Result<(StreamName, WriteStats)> {
        let name = pending.stream();
        let stream = load.streams.iter().find(|s| s.stream == *name);
        let stream = stream.ok_or_else(|| Error::new(ErrorKind::Internal, "a stream that the load does not name").with("stream", name))?;
        let mut stats = WriteStats::default();
        match pending {
            Pending::Plan(_, plan) => self.alter(load, stream, plan)?,
            Pending::Truncate(_) => {
                if let Some(table) = self.standing(load, stream) {
                    table.rows.clear();
                }
            }
            Pending::Rows(_, rows, rejected) => {
                let table = self.standing(load, stream).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "rows before the session's schema call made a table").with("stream", name)
                })?;
                stats = table.take(rows, stream)?;
                stats.rejected = *rejected;
            }
        }
        Ok((name.clone(), stats))
    }
    fn alter(&mut self, load: &Load, stream: &LoadStream, plan: &SchemaPlan) -> Result<()> {
        let visible = |schema: &SchemaRef| -> SchemaRef {
            Arc::new(Schema::new(schema.fields().iter().filter(|f| !is_feed_column(f.name())).cloned().collect::<Vec<_>>()))
        };
        for step in &plan.ddl {
            match (step, self.standing(load, stream)) {
                (Alter::Create { .. }, Some(_)) => {}
                (Alter::Create { schema, key }, None) => self.put(load, stream, FakeTable::empty(visible(schema), key.clone())),
                (Alter::Add(field), Some(table)) => {
                    let mut fields: Vec<_> = table.schema.fields().iter().cloned().collect();
                    if !fields.iter().any(|f| f.name() == field.name()) {
                        fields.push(field.clone());
                    }
                    table.schema = Arc::new(Schema::new(fields));
                }
                (Alter::Widen { to, .. }, Some(table)) => table.change_field(to.name(), |_| to.as_ref().clone()),
                (Alter::DropNotNull(field), Some(table)) => table.change_field(field.name(), |f| f.clone().with_nullable(true)),
                (_, None) => return Err(Error::new(ErrorKind::NotFound, "no table to alter").with("stream", &stream.stream)),
            }
        }
        if self.standing(load, stream).is_none() {
            self.put(load, stream, FakeTable::empty(visible(&plan.schema), stream.key.clone()));
        }
        Ok(())
    }
}

impl FakeTable {
    pub fn empty(schema: SchemaRef, key: Vec<String>) -> Self {
        Self { schema, key, ours: true, rows: BTreeMap::new(), next: 0 }
    }
    /// Somebody else's table of this shape.
    pub fn foreign(schema: SchemaRef) -> Self {
        Self { ours: false, ..Self::empty(schema, vec![]) }
    }
    pub fn to_table(&self) -> Table {
        let mut table = Table::new(self.schema.fields().iter().map(|f| f.name().clone()));
        table.rows = self.rows.values().map(|row| table.columns.iter().map(|c| row.get(c).cloned()).collect()).collect();
        table
    }
    fn change_field(&mut self, name: &str, change: impl Fn(&arrow_schema::Field) -> arrow_schema::Field) {
        let fields = self.schema.fields().iter().map(|f| if f.name() == name { Arc::new(change(f)) } else { f.clone() });
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    }
    fn take(&mut self, rows: &RecordBatch, stream: &LoadStream) -> Result<WriteStats> {
        if let Some(stranger) =
            rows.schema_ref().fields().iter().find(|f| !is_feed_column(f.name()) && self.schema.field_with_name(f.name()).is_err())
        {
            return Err(Error::new(ErrorKind::SchemaDrift, "the table lacks a column of the rows").with("column", stranger.name()));
        }
        let merge = stream.write == WriteMode::Merge;
        let (rows, duplicates) = if merge { fold::fold(rows, &stream.key)? } else { (rows.clone(), 0) };
        let texts = Table::from_batches([&rows]);
        let ops = rows.column_by_name(OP_COLUMN).map(|c| c.as_string::<i32>());
        let unset = rows.column_by_name(UNSET_COLUMN).map(|c| c.as_binary::<i32>());
        for (i, values) in texts.rows.iter().enumerate() {
            let named = || texts.columns.iter().zip(values).filter(|(c, _)| !is_feed_column(c));
            let row: BTreeMap<String, String> = named().filter_map(|(c, v)| Some((c.clone(), v.clone()?))).collect();
            if !merge {
                self.next += 1;
                self.rows.insert(vec![format!("{:020}", self.next)], row);
                continue;
            }
            let key: Vec<String> = stream.key.iter().map(|k| row.get(k).cloned().unwrap_or_default()).collect();
            if ops.is_some_and(|o| o.value(i) == "d") {
                self.rows.remove(&key);
                continue;
            }
            let bits = unset.filter(|u| !u.is_null(i)).map(|u| u.value(i)).unwrap_or_default();
            let is_unset = |at: usize| bits.get(at / 8).is_some_and(|b| b & (1 << (at % 8)) != 0);
            let stands = self.rows.entry(key).or_default();
            for (_, (column, value)) in named().enumerate().filter(|(at, _)| !is_unset(*at)) {
                match value {
                    Some(value) => stands.insert(column.clone(), value.clone()),
                    None => stands.remove(column),
                };
            }
        }
        Ok(WriteStats { written: rows.num_rows() as u64, duplicates, rejected: 0 })
    }
}

enum Pending {
    Plan(StreamName, SchemaPlan),
    Rows(StreamName, RecordBatch, u64),
    Truncate(StreamName),
}

impl Pending {
    fn stream(&self) -> &StreamName {
        match self {
            Self::Plan(s, _) | Self::Rows(s, ..) | Self::Truncate(s) => s,
        }
    }
}

struct FakeSession {
    shared: Arc<Shared>,
    load: Load,
    pending: Vec<Pending>,
    planned: BTreeMap<StreamName, SchemaRef>,
    rejected: BTreeMap<StreamName, WriteStats>,
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        *self.shared.sessions.lock().unwrap() -= 1;
    }
}

impl FakeSession {
    /// Non-atomic destinations show at once; atomic ones keep it for the commit.
    fn later(&mut self, pending: Pending) -> Result<()> {
        if self.shared.atomic() != Atomic::None || *self.shared.buffers.lock().unwrap() {
            self.pending.push(pending);
            return Ok(());
        }
        let (stream, stats) = self.shared.now.lock().unwrap().apply(&self.load, &pending)?;
        *self.rejected.entry(stream).or_default() += stats;
        Ok(())
    }
    fn stand_at(&self, now: &Stored, commit: &Commit) -> Result<()> {
        let fence = now.fences.get(&self.load.connection).copied().unwrap_or_default();
        if fence > self.load.fence {
            return Err(stale(self.load.fence, fence));
        }
        let recorded = now.records.get(&(commit.connection, commit.scope.clone()));
        let number = match recorded {
            Some(r) if r.generation == commit.generation => r.number,
            Some(r) if r.generation > commit.generation => return Err(elsewhere(commit, r.number)),
            _ => 0,
        };
        if number == commit.previous { Ok(()) } else { Err(elsewhere(commit, number)) }
    }
}

fn elsewhere(commit: &Commit, number: u64) -> Error {
    Error::new(ErrorKind::Conflict, "the destination stands at another commit").with("stands", number).with("expected", commit.previous)
}

#[async_trait]
impl Session for FakeSession {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        self.shared.did(Did::Planned(stream.clone(), plan.clone()));
        self.planned.insert(stream.clone(), plan.schema.clone());
        self.later(Pending::Plan(stream.clone(), plan.clone()))
    }
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.shared.failpoints.hit("fake.write").await?;
        let slow = self.shared.slow.lock().unwrap().get(&batch.stream).copied();
        if let Some(time) = slow {
            tokio::time::sleep(time).await;
        }
        let burn = *self.shared.burn.lock().unwrap();
        if !burn.is_zero() {
            super::source::burn(burn);
            tokio::task::yield_now().await;
        }
        let planned = self
            .planned
            .get(&batch.stream)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "rows before the session's schema call").with("stream", &batch.stream))?;
        let rows = match batch.rows {
            Rows::Arrow(rows) => rows,
            Rows::Json(rows) => rows.to_arrow(planned)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "a form of rows that this fake does not know")),
        };
        let (sent, plan): (Vec<_>, Vec<_>) = (
            rows.schema().fields().iter().map(|f| f.name().clone()).collect(),
            planned.fields().iter().map(|f| f.name().clone()).collect(),
        );
        if sent != plan {
            return Err(Error::new(ErrorKind::Internal, "rows in another schema than the planned one")
                .with("sent", sent.join(","))
                .with("planned", plan.join(",")));
        }
        self.shared.did(Did::Wrote(batch.stream.clone(), rows.num_rows()));
        self.later(Pending::Rows(batch.stream, rows, batch.changes.rejected.len() as u64))
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        self.later(Pending::Truncate(stream.clone()))
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        self.shared.failpoints.hit("fake.commit.before").await?;
        let hook = self.shared.before_commit.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(commit.clone()).await?;
        }
        let mut stats = std::mem::take(&mut self.rejected);
        let records = self.shared.atomic() != Atomic::None;
        if records || !self.pending.is_empty() {
            let mut now = self.shared.now.lock().unwrap();
            if records {
                self.stand_at(&now, commit)?;
            }
            // On a copy, so that a failure in the middle shows nothing.
            let mut next = now.clone();
            for pending in self.pending.drain(..) {
                let (stream, more) = next.apply(&self.load, &pending)?;
                *stats.entry(stream).or_default() += more;
            }
            if records {
                let record = Recalled { generation: commit.generation, number: commit.number, state: commit.state.clone() };
                next.records.insert((commit.connection, commit.scope.clone()), record);
            }
            *now = next;
        }
        self.shared.did(Did::Committed(commit.clone()));
        self.shared.failpoints.hit("fake.commit.after").await?;
        Ok(stats)
    }
}

impl FakeDestination {
    /// Loses every staged table, as no destination should.
    pub fn drop_staging(&self) {
        self.shared.now.lock().unwrap().staging.clear();
    }
    /// Makes the record stand where `commit` expects it, as no destination should.
    pub fn stand_at(&self, commit: &Commit) {
        let key = (commit.connection, commit.scope.clone());
        let mut now = self.shared.now.lock().unwrap();
        let record = Recalled { generation: commit.generation, number: commit.previous, state: commit.state.clone() };
        now.records.insert(key, record);
    }
    /// Installs a fence whatever stands, as no destination should.
    pub fn set_fence(&self, connection: ConnectionId, fence: u64) {
        self.shared.now.lock().unwrap().fences.insert(connection, fence);
    }
}
