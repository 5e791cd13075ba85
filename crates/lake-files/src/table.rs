//! One stream of a session since its last commit: its rows on their way into files, or waiting to be merged.

use std::{path::PathBuf, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use linkspan_core::{Alter, ConnectionId, Error, ErrorKind, LoadStream, Result, WriteMode, WriteStats, is_feed_column};

use crate::{
    house::House,
    log::StreamCommit,
    merge::{self, Intake, Pending, Spot},
    part::{PartWriter, Place},
    place, schema,
    storage::{Item, PartFile, Storage},
};

pub(crate) struct Table {
    pub load: LoadStream,
    pub folder: String,
    /// The rows' schema as planned, and as it is stored.
    pub plan: Option<(SchemaRef, SchemaRef)>,
    /// The table's schema, when it becomes another one with the next commit.
    pub news: Option<SchemaRef>,
    pub files: Files,
    /// Changes that wait for their commit; none in other modes.
    pub pending: Option<Pending>,
    pub stats: WriteStats,
    pub truncated: bool,
    /// Whether the table has any file, so that an empty one can be told from one that is not there.
    pub has_file: bool,
}

/// Whose files these are.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub connection: ConnectionId,
    pub fence: u64,
}

impl Run {
    fn place(self, folder: &str) -> Place {
        Place { folder: folder.to_owned(), connection: self.connection, fence: self.fence }
    }
}

impl Table {
    pub fn new(house: &House, run: Run, load: LoadStream) -> Self {
        let folder = place::table_folder(&load.target);
        let pending = (load.write == WriteMode::Merge).then(|| pending(house, run, &load));
        let stats = WriteStats::default();
        Self { load, folder, plan: None, news: None, files: Files::default(), pending, stats, truncated: false, has_file: false }
    }

    /// From now on rows that share a key are one, also while they are staged.
    pub fn fold(&mut self, house: &House, run: Run) {
        self.pending = Some(pending(house, run, &self.load));
    }

    /// The columns of a row that are the table's own.
    pub fn own(&self, rows: &SchemaRef) -> SchemaRef {
        let is_own = |name: &str| self.pending.is_none() || !is_feed_column(name);
        if rows.fields().iter().all(|field| is_own(field.name())) {
            return rows.clone();
        }
        Arc::new(Schema::new(rows.fields().iter().filter(|field| is_own(field.name())).cloned().collect::<Vec<_>>()))
    }

    /// The schema of what stands, or of what is staged, as the log keeps it.
    pub fn stands(&self, house: &House, connection: ConnectionId) -> Option<String> {
        let ledger = house.log.ledger();
        match self.load.write {
            WriteMode::Replace => ledger.staged(connection, &self.load.stream, self.load.generation).schema,
            _ => ledger.tables.get(&self.folder).map(|t| t.schema.clone()),
        }
    }

    pub async fn write(&mut self, house: &House, run: Run, stored: &SchemaRef, rows: RecordBatch) -> Result<()> {
        if let Some(pending) = &mut self.pending {
            return pending.put(rows);
        }
        self.files.write(house, run.place(&self.folder), stored, &rows).await?;
        self.stats.written += rows.num_rows() as u64;
        Ok(())
    }

    /// Bytes that its rows hold in memory.
    pub fn memory(&self) -> usize {
        self.files.writer.as_ref().map_or(0, PartWriter::memory) + self.pending.as_ref().map_or(0, Pending::memory)
    }
    /// Writes down what can be.
    pub async fn let_go(&mut self) -> Result<()> {
        if let Some(pending) = &mut self.pending {
            pending.spill()?;
        }
        match &mut self.files.writer {
            Some(writer) => writer.flush().await,
            None => Ok(()),
        }
    }

    /// Whether the next commit has to look at the files that are there.
    pub fn has_changes(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.many() > 0)
    }

    /// A table of no rows is a file of no rows, so that readers find its columns.
    pub async fn show_empty(&mut self, house: &House, run: Run) -> Result<()> {
        let empty = self.files.done.is_empty() && (!self.has_file || self.truncated);
        let schema = self.news.clone().or_else(|| self.plan.as_ref().map(|(_, stored)| self.own(stored)));
        match schema {
            Some(schema) if empty => self.files.empty(house, run.place(&self.folder), &schema).await,
            _ => Ok(()),
        }
    }

    pub fn take_commit(&mut self) -> Result<Option<StreamCommit>> {
        let schema = self.news.take().map(|schema| schema::to_text(&schema)).transpose()?;
        let files = std::mem::take(&mut self.files.done);
        let truncated = std::mem::take(&mut self.truncated);
        if files.is_empty() && schema.is_none() && !truncated {
            return Ok(None);
        }
        self.has_file = true;
        Ok(Some(self.commit_of(files, schema, truncated, Vec::new())))
    }

    fn commit_of(&self, files: Vec<PartFile>, schema: Option<String>, truncated: bool, removes: Vec<String>) -> StreamCommit {
        StreamCommit {
            stream: self.load.stream.clone(),
            folder: self.folder.clone(),
            write: self.load.write,
            generation: self.load.generation,
            files,
            schema,
            truncated,
            removes,
            key: if self.load.write == WriteMode::Merge { self.load.key.clone() } else { Vec::new() },
        }
    }

    /// The files that hold the table's rows: those that everybody sees, or those of the generation that is staged.
    async fn present(&mut self, house: &House, run: Run) -> Result<Vec<Item>> {
        if self.load.write != WriteMode::Replace {
            return house.present(&self.folder).await;
        }
        let staged = house.log.ledger().staged(run.connection, &self.load.stream, self.load.generation);
        let Storage::Local(local) = &*house.storage else { return Err(cannot_fold()) };
        let items = staged.files.iter().map(|part| local.item(part.temp.witness())).collect::<Result<Vec<_>>>()?;
        Ok(items.into_iter().flatten().collect())
    }

    /// What a merge of the changes into the table's files would commit. The changes stay until `merged`: another writer may be faster.
    pub async fn merge(&mut self, house: &House, run: Run) -> Result<(StreamCommit, WriteStats)> {
        let present = self.present(house, run).await?;
        let stands = self.stands(house, run.connection);
        let stands = stands.as_deref().map(schema::of_text).transpose()?;
        let schema = match (stands, &self.news) {
            (Some(stands), None) => stands,
            (Some(stands), Some(news)) => schema::sum(&stands, news)?,
            (None, Some(news)) => news.clone(),
            (None, None) => return Err(Error::new(ErrorKind::Internal, "changes came before their schema")),
        };
        let place = run.place(&self.folder);
        let looked_at = if self.truncated { &[][..] } else { &present[..] };
        let mut stats = self.stats;
        let mut removes = Vec::new();
        if let Some(pending) = &mut self.pending {
            let mut out = Out { house, place: &place, schema: &schema, files: &mut self.files };
            let merged = merge::merge(&house.storage, pending, &schema, looked_at, &mut out).await?;
            stats.written += merged.keys;
            stats.duplicates += pending.many() - merged.keys;
            removes = merged.removes;
        }
        if self.truncated {
            removes = present.iter().map(|item| item.path.clone()).collect();
        }
        self.files.end(house).await?;
        if self.files.done.is_empty() && removes.len() == present.len() {
            self.files.empty(house, place, &schema).await?;
        }
        let news = self.news.as_ref().map(schema::to_text).transpose()?;
        let files = std::mem::take(&mut self.files.done);
        Ok((self.commit_of(files, news, self.truncated, removes), stats))
    }

    /// The log has the merge.
    pub fn merged(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.clear();
        }
        (self.news, self.truncated, self.has_file) = (None, false, true);
        self.stats = WriteStats::default();
    }
}

fn pending(house: &House, run: Run, load: &LoadStream) -> Pending {
    Pending::new(Spot { folder: spill_folder(house, run), fence: run.fence }, load.key.clone())
}

/// Where changes spill that do not fit into memory: beside the unfinished files, or on this machine's disk when those are not on it.
fn spill_folder(house: &House, run: Run) -> PathBuf {
    match &*house.storage {
        Storage::Local(local) => local.at(&place::temp_folder(run.connection)),
        Storage::S3(_) => std::env::temp_dir(),
    }
}

/// A staged file is an upload that nobody can read before it is published.
pub(crate) fn cannot_fold() -> Error {
    Error::new(ErrorKind::Unsupported, "a table in a bucket cannot keep one row per key while it is replaced")
        .fix("replace it without a key, or merge into what stands")
}

/// Files of one stream that no commit counts on yet.
#[derive(Default)]
pub(crate) struct Files {
    pub writer: Option<PartWriter>,
    pub done: Vec<PartFile>,
}

impl Files {
    async fn write(&mut self, house: &House, place: Place, stored: &SchemaRef, rows: &RecordBatch) -> Result<()> {
        if self.writer.as_ref().is_some_and(|w| !w.suits(rows)) {
            self.end(house).await?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(PartWriter::begin(house, place, stored, Some(rows)).await?),
        };
        house.ctx.failpoints.hit("parquet.part.write").await?;
        writer.write(rows).await?;
        let full = writer.size() >= u64::from(house.config.target_file_mb) << 20;
        if full { self.end(house).await } else { Ok(()) }
    }
    /// Ends the file that is being written.
    pub async fn end(&mut self, house: &House) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.done.push(writer.finish(&house.storage, &house.ctx).await?);
        }
        Ok(())
    }
    async fn empty(&mut self, house: &House, place: Place, schema: &SchemaRef) -> Result<()> {
        let writer = PartWriter::begin(house, place, schema, None).await?;
        self.done.push(writer.finish(&house.storage, &house.ctx).await?);
        Ok(())
    }
}

/// What a merge writes.
struct Out<'a> {
    house: &'a House,
    place: &'a Place,
    schema: &'a SchemaRef,
    files: &'a mut Files,
}

#[async_trait]
impl Intake for Out<'_> {
    async fn take(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.files.write(self.house, self.place.clone(), self.schema, rows).await
    }
}

/// The table's schema once the plan is carried out and such rows are in it.
pub(crate) fn becomes(stands: Option<&SchemaRef>, ddl: &[Alter], rows: &SchemaRef) -> Result<SchemaRef> {
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
