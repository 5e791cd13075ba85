//! A source that leaves out rows whose content was ingested before.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_row::{RowConverter, SortField};
use async_trait::async_trait;
use futures::{StreamExt, future::join, stream::BoxStream};
use linkspan_core::{
    Batch, Changes, Covers, Ended, Error, ErrorKind, Lane, Message, Output, Position, Result, Rows, Selected, Source, Stop, Stream,
    StreamName,
};

use super::seen::{Hash, Seen};

/// Messages between the lane and the sieve.
const DEPTH: usize = 2;

pub(super) struct Sieve {
    pub inner: Arc<dyn Source>,
    pub shared: Arc<Shared>,
}

/// What the pull knows after the rows went through.
pub(super) struct Shared {
    seen: Mutex<Seen>,
    /// Rows of one batch, at most.
    batch: usize,
    pub pulled: AtomicU64,
    pub skipped: AtomicU64,
}

impl Shared {
    pub(super) fn new(seen: Seen, batch: usize) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::new(seen), batch, pulled: AtomicU64::new(0), skipped: AtomicU64::new(0) })
    }
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The rows that are new, and which of them those are.
    fn sift(&self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<bool>)> {
        let hashes = hashes(rows)?;
        let keep: Vec<bool> = {
            let mut seen = self.seen();
            hashes.into_iter().map(|hash| seen.is_new(hash)).collect()
        };
        self.pulled.fetch_add(keep.len() as u64, Relaxed);
        self.skipped.fetch_add(keep.iter().filter(|k| !**k).count() as u64, Relaxed);
        let kept = arrow_select::filter::filter_record_batch(rows, &BooleanArray::from(keep.clone())).map_err(broken)?;
        Ok((kept, keep))
    }
}

#[async_trait]
impl Source for Sieve {
    async fn discover(&self) -> Result<Vec<Stream>> {
        self.inner.discover().await
    }
    async fn missing(&self, stream: &StreamName) -> Option<Error> {
        self.inner.missing(stream).await
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let shared = self.shared.clone();
        let sifted =
            move |lane: Result<Box<dyn Lane>>| lane.map(|inner| Box::new(Sifted { inner, shared: shared.clone() }) as Box<dyn Lane>);
        self.inner.clone().lanes(selected, from).map(sifted).boxed()
    }
    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.inner.acknowledge(durable).await
    }
}

struct Sifted {
    inner: Box<dyn Lane>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Lane for Sifted {
    fn covers(&self) -> Covers {
        self.inner.covers()
    }
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let Self { inner, shared } = *self;
        let (mut near, mut far) = Output::channel(out.budget().clone(), DEPTH);
        let reading = async move { inner.read(&mut near, stop).await };
        let passing = async move {
            while let Some(message) = far.recv().await {
                pass(&shared, message, out).await?;
            }
            Ok(())
        };
        let (ended, passed) = join(reading, passing).await;
        passed.and(ended)
    }
}

async fn pass(shared: &Shared, message: Message, out: &mut Output) -> Result<()> {
    match message {
        Message::Schema { stream, schema } => out.schema(&stream, schema).await,
        Message::Truncated { stream } => out.truncated(&stream).await,
        Message::Note { stream, note } => out.note(&stream, note).await,
        Message::Checkpoint { scope, state } => {
            shared.seen().commits(&scope, &state)?;
            out.checkpoint(&scope, state).await
        }
        Message::Rows(Batch { stream, rows, changes, lease }) => {
            let Rows::Arrow(rows) = rows else {
                return Err(Error::new(ErrorKind::Unsupported, "only the rows of SQL queries can be pulled so far").with("stream", stream));
            };
            let (kept, keep) = shared.sift(&rows)?;
            let changes = moved(changes, &keep);
            // The next lease may need the room of this one.
            drop((rows, lease));
            let mut changes = Some(changes);
            for at in (0..kept.num_rows().max(1)).step_by(shared.batch) {
                let part = kept.slice(at, shared.batch.min(kept.num_rows() - at));
                out.batch(&stream, Rows::Arrow(part), changes.take().unwrap_or_default()).await?;
            }
            Ok(())
        }
    }
}

/// Changes count rows within their batch: those of rows that are left out go with them.
fn moved(changes: Changes, keep: &[bool]) -> Changes {
    let place = |row: u32| {
        let row = row as usize;
        keep.get(row).filter(|k| **k).map(|_| keep[..row].iter().filter(|k| **k).count() as u32)
    };
    let Changes { changed, rejected } = changes;
    let changed = changed.into_iter().filter_map(|c| Some(linkspan_core::Change { row: place(c.row)?, ..c })).collect();
    Changes { changed, rejected }
}

/// Of each row: names and values of all columns.
fn hashes(rows: &RecordBatch) -> Result<Vec<Hash>> {
    let schema = rows.schema();
    let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(broken)?;
    let encoded = converter.convert_columns(rows.columns()).map_err(broken)?;
    let mut names = blake3::Hasher::new();
    for field in schema.fields() {
        names.update(&(field.name().len() as u64).to_be_bytes()).update(field.name().as_bytes());
    }
    let hash = |row: arrow_row::Row<'_>| {
        let whole = names.clone().update(row.as_ref()).finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&whole.as_bytes()[..16]);
        half
    };
    Ok(encoded.iter().map(hash).collect())
}

fn broken(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::Unsupported, "the content of these rows cannot be compared").because(e)
}
