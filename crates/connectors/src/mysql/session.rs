//! A session gathers a commit's rows, on disk beyond a few megabytes, and brings them in by one short transaction. Tables are made and
//! changed before it, since the server would commit with every such statement; rows and position are whole or not there. A
//! transaction that lost against another one is simply done again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use linkspan_core::{
    Batch, Changes, Commit, Error, ErrorKind, Load, LoadStream, Misfit, Result, Retry, Rows, SchemaPlan, Session, StreamName, WriteMode,
    WriteStats, fold,
};

use super::{
    books::Books,
    ddl::Making,
    encode,
    insert::{self, Path},
    record::{Column, Place, Table},
    server::{Flavor, Server},
    tables,
    wire::Wire,
};
use crate::{
    blocking::blocking,
    spill::{Spill, Spilled},
};

/// Rows kept in memory before they go to the spill file.
const IN_MEMORY: u64 = 16 << 20;
/// So many rows are merged by one pair of statements.
const MERGED: usize = 100_000;
/// How often a transaction that lost is done again.
const TRIES: u32 = 6;

enum Step {
    Truncate(usize),
    Rows(usize, Arc<Planned>, Kept),
}

enum Kept {
    Here(RecordBatch),
    Spilled(Spilled),
}

/// A stream's table as the rows that follow see it.
struct Planned {
    table: Table,
    schema: arrow_schema::SchemaRef,
    misfit: Misfit,
}

pub(super) struct MysqlSession {
    server: Arc<Server>,
    books: Books,
    load: Load,
    /// Gone after an error.
    wire: Option<Wire>,
    path: Path,
    flavor: Flavor,
    spill: Option<Spill>,
    steps: Vec<Step>,
    planned: HashMap<usize, Arc<Planned>>,
    /// Replaces that keep one row per key.
    folding: HashSet<usize>,
    buffered: u64,
    rejected: BTreeMap<StreamName, u64>,
    changes: Changes,
}

impl MysqlSession {
    pub fn new(server: Arc<Server>, books: Books, load: Load, wire: Wire, path: Path) -> Self {
        Self {
            server,
            books,
            load,
            flavor: wire.flavor(),
            wire: Some(wire),
            path,
            spill: None,
            steps: Vec::new(),
            planned: HashMap::new(),
            folding: HashSet::new(),
            buffered: 0,
            rejected: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    fn position(&self, stream: &StreamName) -> Result<usize> {
        let found = self.load.streams.iter().position(|s| s.stream == *stream);
        found.ok_or_else(|| Error::new(ErrorKind::Internal, "the session was not opened for this stream").with("stream", stream))
    }

    fn take_wire(&mut self) -> Result<Wire> {
        self.wire.take().ok_or_else(|| Error::new(ErrorKind::Internal, "the session is dead after an error"))
    }

    fn target(&self, stream: &LoadStream) -> Place {
        place(&self.books, &stream.target)
    }

    /// Where the rows of a stream go: the target, or the generation's staging table beside it.
    fn place(&self, stream: &LoadStream) -> Place {
        match stream.write {
            WriteMode::Replace => tables::staging(self.load.connection, &self.target(stream), stream.generation),
            WriteMode::Append | WriteMode::Merge => self.target(stream),
        }
    }

    async fn spill(&mut self) -> Result<()> {
        let (spill, steps) = (self.spill.take(), std::mem::take(&mut self.steps));
        let (spill, steps) = blocking(move || {
            let mut spill = match spill {
                Some(spill) => spill,
                None => Spill::within(&std::env::temp_dir())?,
            };
            let steps: Result<Vec<Step>> = steps
                .into_iter()
                .map(|step| match step {
                    Step::Rows(at, planned, Kept::Here(rows)) => Ok(Step::Rows(at, planned, Kept::Spilled(spill.put(&rows)?))),
                    other => Ok(other),
                })
                .collect();
            Ok((spill, steps?))
        })
        .await?;
        (self.spill, self.steps, self.buffered) = (Some(spill), steps, 0);
        Ok(())
    }

    async fn rows(&mut self, kept: &Kept) -> Result<RecordBatch> {
        match kept {
            Kept::Here(rows) => Ok(rows.clone()),
            Kept::Spilled(place) => {
                let missing = || Error::new(ErrorKind::Internal, "the spill file is gone");
                let (mut spill, place) = (self.spill.take().ok_or_else(missing)?, *place);
                let (spill, rows) = blocking(move || {
                    let rows = spill.get(place)?;
                    Ok((spill, rows))
                })
                .await?;
                self.spill = Some(spill);
                Ok(rows)
            }
        }
    }

    /// Everything since the last commit, in one transaction.
    async fn transaction(&mut self, wire: &mut Wire, commit: &Commit, steps: &[Step]) -> Result<BTreeMap<StreamName, WriteStats>> {
        const DOING: &str = "committing";
        wire.query("START TRANSACTION", DOING).await?;
        self.books.advance(wire, commit).await?;
        let mut stats: BTreeMap<StreamName, WriteStats> = BTreeMap::new();
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            at += 1;
            match step {
                Step::Truncate(stream) => self.truncated(wire, *stream).await?,
                Step::Rows(stream, planned, kept) => {
                    let mut together = vec![self.rows(kept).await?];
                    let mut count = together[0].num_rows();
                    // What follows for the same table goes the same way, as long as it is not too much at once.
                    while let Some(Step::Rows(next, same, kept)) = steps.get(at) {
                        if next != stream || !Arc::ptr_eq(same, planned) || count >= MERGED {
                            break;
                        }
                        let rows = self.rows(kept).await?;
                        count += rows.num_rows();
                        together.push(rows);
                        at += 1;
                    }
                    let name = self.load.streams[*stream].stream.clone();
                    let written = self.write_all(wire, *stream, planned, &together).await.map_err(|e| e.with("stream", &name))?;
                    *stats.entry(name).or_default() += written;
                }
            }
        }
        self.server.ctx.failpoints.hit("mysql.commit.sql").await?;
        wire.query("COMMIT", DOING).await?;
        Ok(stats)
    }

    async fn write_all(&mut self, wire: &mut Wire, at: usize, planned: &Planned, batches: &[RecordBatch]) -> Result<WriteStats> {
        let stream = &self.load.streams[at];
        if stream.write != WriteMode::Merge && !self.folding.contains(&at) {
            let written = insert::append(wire, self.path, &planned.table, batches).await?;
            return Ok(WriteStats { written, ..WriteStats::default() });
        }
        let rows = arrow_select::concat::concat_batches(&planned.schema, batches)
            .map_err(|e| Error::new(ErrorKind::Internal, "the batches of a commit do not fit together").because(e))?;
        let (folded, duplicates) = fold::fold(&rows, &stream.key)?;
        insert::merge(wire, self.path, &planned.table, &folded, &stream.key).await?;
        Ok(WriteStats { written: folded.num_rows() as u64, duplicates, ..WriteStats::default() })
    }

    async fn truncated(&mut self, wire: &mut Wire, at: usize) -> Result<()> {
        let place = self.place(&self.load.streams[at]);
        // A log may truncate a table before it ever sent a row of it: a table that is not there is empty.
        if tables::find(wire, &self.books, &place).await?.is_some() {
            wire.query(&format!("DELETE FROM {}", place.sql()), "emptying the table").await?;
        }
        Ok(())
    }

    async fn planned(&mut self, wire: &mut Wire, at: usize, plan: &SchemaPlan) -> Result<Planned> {
        let stream = self.load.streams[at].clone();
        let (target, place) = (self.target(&stream), self.place(&stream));
        lock(wire, &self.books).await?;
        // A run that was overtaken changes no table.
        self.books.hold_fence(wire, self.load.connection, self.load.fence).await?;
        let table = Making { wire, books: &self.books, load: &stream, target: &target, place: &place }.apply(plan).await?;
        unlock(wire, &self.books).await?;
        Ok(Planned { table, schema: plan.schema.clone(), misfit: plan.misfit })
    }
}

/// Where a target is: its namespace is a database.
pub(super) fn place(books: &Books, target: &linkspan_core::Target) -> Place {
    let database = target.namespace.as_deref().unwrap_or(&books.database).to_owned();
    Place { database, name: target.name.to_string() }
}

fn lock_name(books: &Books) -> String {
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, books.database.as_bytes()).simple().to_string();
    super::sql::literal(&format!("linkspan_{id}"))
}

/// One lane at a time changes tables.
pub(super) async fn lock(wire: &mut Wire, books: &Books) -> Result<()> {
    let rows = wire.query(&format!("SELECT GET_LOCK({}, 60)", lock_name(books)), "waiting for another lane").await?;
    if rows.first().is_some_and(|row| super::books::text(row, 0) == "1") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "another lane or run has been changing tables for a minute")
        .retry(Retry::Backoff)
        .fix("look at the server's process list, and run the same command again"))
}

/// The lock goes with the session as well, where an error ends it.
pub(super) async fn unlock(wire: &mut Wire, books: &Books) -> Result<()> {
    wire.query(&format!("SELECT RELEASE_LOCK({})", lock_name(books)), "letting another lane go on").await.map(drop)
}

impl Drop for MysqlSession {
    fn drop(&mut self) {
        // It is here between transactions only.
        if let Some(wire) = self.wire.take() {
            wire.leave();
        }
    }
}

#[async_trait]
impl Session for MysqlSession {
    async fn fold(&mut self, stream: &StreamName) -> Result<()> {
        let at = self.position(stream)?;
        self.folding.insert(at);
        Ok(())
    }

    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let at = self.position(stream)?;
        let mut wire = self.take_wire()?;
        let planned = self.planned(&mut wire, at, plan).await.map_err(|e| e.with("stream", stream))?;
        self.wire = Some(wire);
        self.planned.insert(at, Arc::new(planned));
        Ok(())
    }

    async fn write(&mut self, rows: Batch) -> Result<()> {
        let at = self.position(&rows.stream)?;
        let planned = self.planned.get(&at).cloned().ok_or_else(|| Error::new(ErrorKind::Internal, "rows came before their schema"))?;
        let mut rejected = rows.changes.rejected.len() as u64;
        let arrow = match rows.rows {
            Rows::Arrow(arrow) => arrow,
            Rows::Json(json) => json.to_arrow(&planned.schema)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows of this form cannot be written here").fix("update Linkspan")),
        };
        let fields = arrow.schema();
        let columns: Vec<Option<&Column>> = fields.fields().iter().map(|f| planned.table.column(f.name())).collect();
        let key = &self.load.streams[at].key;
        let (arrow, changes) =
            encode::settle(arrow, &columns, key, planned.misfit, self.flavor).map_err(|e| e.with("stream", &rows.stream))?;
        rejected += changes.rejected.len() as u64;
        self.changes = changes;
        *self.rejected.entry(rows.stream.clone()).or_default() += rejected;
        if arrow.num_rows() > 0 {
            self.buffered += linkspan_core::rows_bytes(&arrow);
            self.steps.push(Step::Rows(at, planned, Kept::Here(arrow)));
        }
        // A session never keeps the leases of rows that wait for a commit: its own few megabytes are its share.
        if self.buffered > IN_MEMORY {
            self.spill().await?;
        }
        drop(rows.lease);
        Ok(())
    }

    fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        let at = self.position(stream)?;
        self.steps.push(Step::Truncate(at));
        Ok(())
    }

    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let ctx = self.server.ctx.clone();
        ctx.failpoints.hit("mysql.commit.before").await?;
        let mut wire = self.take_wire()?;
        let steps = std::mem::take(&mut self.steps);
        let mut tried = 0;
        let mut stats = loop {
            tried += 1;
            match self.transaction(&mut wire, commit, &steps).await {
                Err(e) if e.retry_hint() == Retry::Backoff && e.kind() == ErrorKind::Conflict && tried < TRIES => {
                    wire.query("ROLLBACK", "beginning again").await?;
                    ctx.clock.sleep(Duration::from_millis(20 << tried)).await;
                }
                done => break done?,
            }
        };
        self.wire = Some(wire);
        self.buffered = 0;
        if let Some(mut spill) = self.spill.take() {
            self.spill = Some(blocking(move || spill.clear().map(|()| spill)).await?);
        }
        for (stream, rejected) in std::mem::take(&mut self.rejected) {
            stats.entry(stream).or_default().rejected += rejected;
        }
        ctx.failpoints.hit("mysql.commit.after").await?;
        Ok(stats)
    }
}
