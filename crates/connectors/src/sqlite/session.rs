//! A session gathers a commit's steps, on disk beyond a few megabytes, and applies them in one short transaction. So the file's one
//! write lock is held only while a commit runs: lanes never wait for each other's sources, and a frozen process blocks nobody.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use linkspan_core::{
    Batch, Commit, Error, ErrorKind, Load, LoadStream, Result, Rows, SchemaPlan, Session, StreamName, WriteMode, WriteStats, fold,
};
use rusqlite::{Connection, TransactionBehavior};

use super::{
    Sqlite, books, ddl,
    insert::Inserter,
    tables::{self, Table},
};
use crate::{
    blocking::blocking,
    spill::{Spill, Spilled},
};

/// Rows kept in memory before they go to the spill file.
const IN_MEMORY: u64 = 8 << 20;

enum Step {
    Plan(usize, SchemaPlan),
    Truncate(usize),
    Rows(usize, RecordBatch),
    Spilled(usize, Spilled),
}

pub(super) struct SqliteSession {
    sqlite: Sqlite,
    load: Arc<Load>,
    /// Taken while a commit runs; gone after an error.
    work: Option<Work>,
    steps: Vec<Step>,
    plans: HashMap<usize, SchemaPlan>,
    /// Replaces that keep one row per key.
    folding: BTreeSet<usize>,
    buffered: u64,
    stats: BTreeMap<StreamName, WriteStats>,
    /// Tells a running commit that nobody waits for it any more.
    gone: Arc<AtomicBool>,
}

/// What a commit's thread works with.
struct Work {
    db: Connection,
    spill: Option<Spill>,
    tables: HashMap<usize, Table>,
}

impl Drop for SqliteSession {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl SqliteSession {
    pub fn new(sqlite: Sqlite, load: Load, db: Connection) -> Self {
        Self {
            sqlite,
            load: Arc::new(load),
            work: Some(Work { db, spill: None, tables: HashMap::new() }),
            steps: Vec::new(),
            plans: HashMap::new(),
            folding: BTreeSet::new(),
            buffered: 0,
            stats: BTreeMap::new(),
            gone: Arc::default(),
        }
    }
    fn position(&self, stream: &StreamName) -> Result<usize> {
        self.load
            .streams
            .iter()
            .position(|s| s.stream == *stream)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the session was not opened for this stream").with("stream", stream))
    }
    fn take_work(&mut self) -> Result<Work> {
        self.work.take().ok_or_else(|| Error::new(ErrorKind::Internal, "the session is dead after an error"))
    }
    async fn spill(&mut self) -> Result<()> {
        let (mut work, steps, path) = (self.take_work()?, std::mem::take(&mut self.steps), self.sqlite.file.path.clone());
        let (work, steps) = blocking(move || {
            let mut spill = match work.spill.take() {
                Some(spill) => spill,
                None => Spill::beside(&path)?,
            };
            let steps: Result<Vec<Step>> = steps
                .into_iter()
                .map(|step| match step {
                    Step::Rows(at, rows) => Ok(Step::Spilled(at, spill.put(&rows)?)),
                    other => Ok(other),
                })
                .collect();
            work.spill = Some(spill);
            Ok((work, steps?))
        })
        .await?;
        (self.work, self.steps, self.buffered) = (Some(work), steps, 0);
        Ok(())
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn fold(&mut self, stream: &StreamName) -> Result<()> {
        let at = self.position(stream)?;
        self.folding.insert(at);
        Ok(())
    }
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let at = self.position(stream)?;
        self.steps.push(Step::Plan(at, plan.clone()));
        self.plans.insert(at, plan.clone());
        Ok(())
    }
    async fn write(&mut self, rows: Batch) -> Result<()> {
        let at = self.position(&rows.stream)?;
        self.stats.entry(rows.stream.clone()).or_default().rejected += rows.changes.rejected.len() as u64;
        let arrow = match rows.rows {
            Rows::Arrow(arrow) => arrow,
            Rows::Json(json) => {
                let plan = self.plans.get(&at).ok_or_else(|| Error::new(ErrorKind::Internal, "rows came before their schema"))?;
                json.to_arrow(&plan.schema)?
            }
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows of this form cannot be written here").fix("update Linkspan")),
        };
        if arrow.num_rows() > 0 {
            self.buffered += linkspan_core::rows_bytes(&arrow);
            self.steps.push(Step::Rows(at, arrow));
        }
        // A session never keeps the leases of rows that wait for a commit: its own few megabytes are its share.
        if self.buffered > IN_MEMORY {
            self.spill().await?;
        }
        drop(rows.lease);
        Ok(())
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        let at = self.position(stream)?;
        self.steps.push(Step::Truncate(at));
        Ok(())
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        self.sqlite.ctx.failpoints.hit("sqlite.commit.before").await?;
        let mut job = Job {
            sqlite: self.sqlite.clone(),
            load: self.load.clone(),
            commit: commit.clone(),
            steps: std::mem::take(&mut self.steps),
            folding: self.folding.clone(),
            stats: std::mem::take(&mut self.stats),
            gone: self.gone.clone(),
        };
        let mut work = self.take_work()?;
        let (work, stats) = blocking(move || {
            job.run(&mut work)?;
            Ok((work, job.stats))
        })
        .await?;
        self.work = Some(work);
        self.buffered = 0;
        self.sqlite.ctx.failpoints.hit("sqlite.commit.after").await?;
        Ok(stats)
    }
}

/// One commit, on a thread that may block.
struct Job {
    sqlite: Sqlite,
    load: Arc<Load>,
    commit: Commit,
    steps: Vec<Step>,
    folding: BTreeSet<usize>,
    stats: BTreeMap<StreamName, WriteStats>,
    gone: Arc<AtomicBool>,
}

impl Job {
    fn run(&mut self, work: &mut Work) -> Result<()> {
        let sqlite = self.sqlite.clone();
        let place = |e: Error| e.with("path", sqlite.file.path.display());
        // Our own lanes queue here, in order, instead of polling SQLite's lock. A poisoned lock guards nothing: the file is transactional.
        let _turn = sqlite.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Work { db, spill, tables } = work;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| sqlite.file.error(e))?;
        books::check_fence(&tx, self.load.connection, self.load.fence).map_err(place)?;
        books::advance(&tx, &self.commit).map_err(place)?;
        for step in std::mem::take(&mut self.steps) {
            if self.gone.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Canceled, "the session was dropped"));
            }
            self.apply(&tx, step, spill, tables).map_err(place)?;
        }
        sqlite.ctx.failpoints.hit_sync("sqlite.commit.sql")?;
        tx.commit().map_err(|e| sqlite.file.error(e))?;
        match spill {
            Some(spill) => spill.clear(),
            None => Ok(()),
        }
    }
    fn apply(&mut self, db: &Connection, step: Step, spill: &mut Option<Spill>, known: &mut HashMap<usize, Table>) -> Result<()> {
        let load = self.load.clone();
        match step {
            Step::Plan(at, plan) => {
                let stream = &load.streams[at];
                let staged_as =
                    (stream.write == WriteMode::Replace).then(|| tables::staging_name(load.connection, &stream.target, stream.generation));
                let table = ddl::apply(db, stream, &self.key(stream), staged_as.as_deref(), &plan)?;
                known.insert(at, table);
                Ok(())
            }
            Step::Truncate(at) => ddl::truncate(db, &self.key(&load.streams[at])),
            Step::Rows(at, rows) => self.write(db, at, &rows, known),
            Step::Spilled(at, place) => {
                let spill = spill.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "the spill file is gone"))?;
                let rows = spill.get(place)?;
                self.write(db, at, &rows, known)
            }
        }
    }
    /// How the registry keys the table that the stream's rows go to.
    fn key(&self, stream: &LoadStream) -> String {
        match stream.write {
            WriteMode::Replace => tables::staging_key(self.load.connection, stream),
            _ => tables::target_key(&stream.target),
        }
    }
    fn write(&mut self, db: &Connection, at: usize, rows: &RecordBatch, known: &mut HashMap<usize, Table>) -> Result<()> {
        let stream = &self.load.streams[at];
        let missing = || Error::new(ErrorKind::Internal, "rows came before their schema").with("stream", &stream.stream);
        let table = known.get(&at).ok_or_else(missing)?;
        let stats = self.stats.entry(stream.stream.clone()).or_default();
        if stream.write == WriteMode::Merge || self.folding.contains(&at) {
            let (folded, gone) = fold::fold(rows, &stream.key).map_err(|e| e.with("stream", &stream.stream))?;
            stats.duplicates += gone;
            stats.written += Inserter::merge(table, &folded, &stream.key)?.run(db, &folded)?;
        } else {
            stats.written += Inserter::append(table, rows)?.run(db, rows)?;
        }
        Ok(())
    }
}
