//! One lane's rows on their way into files, and the commit that makes them count.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{
    Alter, Batch, Commit, ConnectionId, Error, ErrorKind, Load, LoadStream, Result, Rows, SchemaPlan, Session, StreamName, WriteMode,
    WriteStats,
};
use uuid::Uuid;

use crate::{
    house::House,
    log::{Entry, Event, StreamCommit},
    part::{PartWriter, Place, as_stored},
    place, schema,
    storage::{PartFile, Storage},
};

/// What the open files of one session may hold in memory together; above it the largest one ends its row group.
const OPEN_BYTES: usize = 48 << 20;

pub(crate) struct ParquetSession {
    house: Arc<House>,
    load: Load,
    streams: BTreeMap<StreamName, Table>,
    /// An error leaves nothing that may be committed.
    dead: bool,
}

/// One stream of the session since its last commit.
struct Table {
    load: LoadStream,
    folder: String,
    /// The rows' schema as planned, and as the files hold it.
    plan: Option<(SchemaRef, SchemaRef)>,
    /// The table's schema, when it becomes another one with the next commit.
    news: Option<SchemaRef>,
    writer: Option<PartWriter>,
    done: Vec<PartFile>,
    stats: WriteStats,
    truncated: bool,
    /// Whether the table has any file, so that an empty one can be told from one that is not there.
    has_file: bool,
}

impl ParquetSession {
    pub fn new(house: Arc<House>, load: Load) -> Self {
        let streams = load.streams.iter().map(|s| (s.stream.clone(), Table::new(s.clone()))).collect();
        Self { house, load, streams, dead: false }
    }

    fn alive(&mut self, stream: &StreamName) -> Result<&mut Table> {
        if self.dead {
            return Err(Error::new(ErrorKind::Internal, "the session failed before; it takes no more rows"));
        }
        self.streams
            .get_mut(stream)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the session was not opened for this stream").with("stream", stream))
    }

    async fn take_schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let house = self.house.clone();
        let connection = self.load.connection;
        let table = self.alive(stream)?;
        let planned = schema::plain(&plan.schema);
        if table.plan.as_ref().is_some_and(|(stands, _)| *stands == planned) {
            return Ok(());
        }
        let stored = schema::stored(&planned);
        schema::check_writable(&stored).map_err(|e| e.with("stream", stream))?;
        table.end_file(&house).await?;
        let stands = {
            let ledger = house.log.ledger();
            match table.load.write {
                WriteMode::Replace => ledger.staged(connection, stream, table.load.generation).schema,
                _ => ledger.tables.get(&table.folder).map(|t| t.schema.clone()),
            }
        };
        table.has_file |= stands.is_some();
        let stands = stands.as_deref().map(schema::of_text).transpose()?;
        let becomes = becomes(stands.as_ref(), &plan.ddl, &stored).map_err(|e| e.with("stream", stream))?;
        table.news = if stands.as_ref() == Some(&becomes) { None } else { Some(becomes) };
        table.plan = Some((planned, stored));
        Ok(())
    }

    async fn take_rows(&mut self, batch: Batch) -> Result<()> {
        let house = self.house.clone();
        let Load { connection, fence, .. } = self.load;
        let Batch { stream, rows, changes, lease } = batch;
        let table = self.alive(&stream)?;
        let (planned, stored) =
            table.plan.clone().ok_or_else(|| Error::new(ErrorKind::Internal, "rows came before their schema").with("stream", &stream))?;
        let rows = match rows {
            Rows::Arrow(rows) => rows,
            Rows::Json(json) => json.to_arrow(&planned)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows of this form cannot be written").with("stream", &stream)),
        };
        table.stats.rejected += changes.rejected.len() as u64;
        if rows.num_rows() > 0 {
            let rows = as_stored(rows, &stored).map_err(|e| e.with("stream", &stream))?;
            let place = Place { folder: table.folder.clone(), connection, fence };
            table.write(&house, place, &stored, &rows).await?;
        }
        // The rows are encoded: their memory may be lent to the next batch.
        drop(lease);
        self.keep_within_memory().await
    }

    async fn keep_within_memory(&mut self) -> Result<()> {
        let held: usize = self.streams.values().filter_map(|t| t.writer.as_ref()).map(PartWriter::memory).sum();
        if held <= OPEN_BYTES {
            return Ok(());
        }
        match self.streams.values_mut().filter_map(|t| t.writer.as_mut()).max_by_key(|w| w.memory()) {
            Some(largest) => largest.flush().await,
            None => Ok(()),
        }
    }

    async fn take_truncate(&mut self, stream: &StreamName) -> Result<()> {
        let house = self.house.clone();
        let table = self.alive(stream)?;
        table.end_file(&house).await?;
        for part in std::mem::take(&mut table.done) {
            house.storage.discard(&part).await?;
        }
        // Rows that came before the truncate in this commit were taken in, and are gone with the rest.
        table.truncated = true;
        Ok(())
    }

    async fn make_durable(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let house = self.house.clone();
        self.check_ours(commit)?;
        let place = (self.load.connection, self.load.fence);
        let mut streams = Vec::new();
        let mut stats = BTreeMap::new();
        for (name, table) in &mut self.streams {
            table.end_file(&house).await?;
            table.show_empty(&house, place).await?;
            stats.insert(name.clone(), std::mem::take(&mut table.stats));
            // From here on the log may know these files: no clean-up touches them.
            streams.extend(table.take_commit()?);
        }
        if streams.iter().any(|s: &StreamCommit| !s.files.is_empty()) {
            house.storage.sync_folders(vec![place::temp_folder(place.0)]).await?;
        }
        house.ctx.failpoints.hit("parquet.log.before").await?;
        let number = append(&house, commit, streams).await?;
        house.settle(number).await?;
        Ok(stats)
    }

    /// A newer run sweeps away what this one was writing: then that is why a step failed, and not what the step says.
    async fn overtaken(&mut self) -> Option<Error> {
        let log = &self.house.log;
        log.refresh().await.ok()?;
        log.ledger().check_fence(self.load.connection, self.load.fence).err()
    }

    fn check_ours(&mut self, commit: &Commit) -> Result<()> {
        if self.dead {
            return Err(Error::new(ErrorKind::Internal, "the session failed before; it commits nothing"));
        }
        let Load { connection, fence, scope, .. } = &self.load;
        if (commit.connection, commit.fence, &commit.scope) != (*connection, *fence, scope) || commit.number <= commit.previous {
            return Err(Error::new(ErrorKind::Internal, "the commit is not of this session").with("scope", &commit.scope));
        }
        Ok(())
    }

    /// Remembers that something failed: what was taken in since the last commit is lost to this session.
    fn judge<T>(&mut self, result: Result<T>) -> Result<T> {
        self.dead |= result.is_err();
        result
    }
}

/// The table's schema once the plan is carried out and such rows are in it.
fn becomes(stands: Option<&SchemaRef>, ddl: &[Alter], rows: &SchemaRef) -> Result<SchemaRef> {
    let created = ddl.iter().find_map(|alter| match alter {
        Alter::Create { schema, .. } => Some(schema::stored(&schema::plain(schema))),
        _ => None,
    });
    // A table that was planned and already stands (a staging one, a lane that was faster) only grows.
    let mut becomes = match (stands, created) {
        (Some(stands), Some(created)) => schema::sum(stands, &created)?,
        (Some(stands), None) => stands.clone(),
        (None, Some(created)) => created,
        (None, None) => return Ok(rows.clone()),
    };
    for alter in ddl {
        let field = match alter {
            Alter::Add(field) | Alter::DropNotNull(field) | Alter::Widen { to: field, .. } => field,
            Alter::Create { .. } => continue,
        };
        becomes = schema::grown(&becomes, field)?;
    }
    schema::sum_of_columns(&becomes, rows)
}

/// Adds the commit to the log: the one moment at which rows and position count.
async fn append(house: &House, commit: &Commit, streams: Vec<StreamCommit>) -> Result<u64> {
    let entry = |streams: Vec<StreamCommit>| Entry {
        id: Uuid::new_v4(),
        connection: commit.connection,
        fence: commit.fence,
        event: Event::Commit {
            scope: commit.scope.clone(),
            generation: commit.generation,
            previous: commit.previous,
            number: commit.number,
            state: commit.state.clone(),
            streams,
        },
    };
    let emptied = |s: &StreamCommit| s.truncated && s.write != WriteMode::Replace;
    if !streams.iter().any(emptied) {
        return house.log.append(&entry(streams), |ledger| ledger.check_commit(commit)).await;
    }
    let folders: Vec<String> = streams.iter().filter(|s| emptied(s)).map(|s| s.folder.clone()).collect();
    let make = |_: &_, present: Vec<Vec<String>>| {
        let mut streams = streams.clone();
        for (stream, removes) in streams.iter_mut().filter(|s| emptied(s)).zip(present) {
            stream.removes = removes;
        }
        entry(streams)
    };
    house.append_over(&folders, make, |ledger| ledger.check_commit(commit)).await
}

impl Table {
    fn new(load: LoadStream) -> Self {
        let folder = place::table_folder(&load.target);
        Self {
            load,
            folder,
            plan: None,
            news: None,
            writer: None,
            done: Vec::new(),
            stats: WriteStats::default(),
            truncated: false,
            has_file: false,
        }
    }

    async fn write(&mut self, house: &House, place: Place, stored: &SchemaRef, rows: &RecordBatch) -> Result<()> {
        if self.writer.as_ref().is_some_and(|w| !w.suits(rows)) {
            self.end_file(house).await?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(PartWriter::begin(house, place, stored, Some(rows)).await?),
        };
        house.ctx.failpoints.hit("parquet.part.write").await?;
        writer.write(rows).await?;
        let full = writer.size() >= u64::from(house.config.target_file_mb) << 20;
        self.stats.written += rows.num_rows() as u64;
        if full { self.end_file(house).await } else { Ok(()) }
    }

    async fn end_file(&mut self, house: &House) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.done.push(writer.finish(&house.storage, &house.ctx).await?);
        }
        Ok(())
    }

    /// A table of no rows is a file of no rows, so that readers find its columns.
    async fn show_empty(&mut self, house: &House, (connection, fence): (ConnectionId, u64)) -> Result<()> {
        let empty = self.done.is_empty() && (!self.has_file || self.truncated);
        let schema = self.news.as_ref().or(self.plan.as_ref().map(|(_, stored)| stored));
        if let (true, Some(stored)) = (empty, schema) {
            let place = Place { folder: self.folder.clone(), connection, fence };
            let writer = PartWriter::begin(house, place, stored, None).await?;
            self.done.push(writer.finish(&house.storage, &house.ctx).await?);
        }
        Ok(())
    }

    fn take_commit(&mut self) -> Result<Option<StreamCommit>> {
        let schema = self.news.take().map(|schema| schema::to_text(&schema)).transpose()?;
        let files = std::mem::take(&mut self.done);
        let truncated = std::mem::take(&mut self.truncated);
        if files.is_empty() && schema.is_none() && !truncated {
            return Ok(None);
        }
        self.has_file = true;
        Ok(Some(StreamCommit {
            stream: self.load.stream.clone(),
            folder: self.folder.clone(),
            write: self.load.write,
            generation: self.load.generation,
            files,
            schema,
            truncated,
            removes: Vec::new(),
        }))
    }
}

#[async_trait]
impl Session for ParquetSession {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let result = self.take_schema(stream, plan).await;
        self.judge(result)
    }
    async fn write(&mut self, rows: Batch) -> Result<()> {
        let result = self.take_rows(rows).await;
        self.judge(result)
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        let result = self.take_truncate(stream).await;
        self.judge(result)
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let result = match self.make_durable(commit).await {
            Err(e) if e.kind() != ErrorKind::Conflict => Err(self.overtaken().await.unwrap_or(e)),
            result => result,
        };
        self.judge(result)
    }
}

impl Drop for ParquetSession {
    /// Gives back what no commit will ever use. What this cannot reach, or a crash leaves, the next run's `open` sweeps away.
    fn drop(&mut self) {
        let tables = self.streams.values_mut();
        let witnesses: Vec<String> = tables
            .flat_map(|table| {
                let open = table.writer.take().map(PartWriter::give_up);
                table.done.drain(..).map(|part| part.temp.witness().to_owned()).chain(open).collect::<Vec<_>>()
            })
            .collect();
        if witnesses.is_empty() {
            return;
        }
        match &*self.house.storage {
            Storage::Local(local) => witnesses.iter().for_each(|temp| drop(local.delete(temp))),
            Storage::S3(_) => {
                let (Ok(runtime), storage) = (tokio::runtime::Handle::try_current(), self.house.storage.clone()) else { return };
                // Nobody can wait for it, and nobody needs to: it only makes the sweep's work less.
                runtime.spawn(async move {
                    for note in witnesses {
                        storage.discard_orphan(&note).await.ok();
                    }
                });
            }
        }
    }
}
