//! A read: streams in the catalog's order, their partitions side by side, records and states to whoever listens.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    cursor::{Cursor, Observed},
    protocol::{Level, StreamStatus},
    record::Record,
    slice::Slice,
    stream::Stream,
};

/// Who listens to a read. Calls come from several tasks, one after another for one stream where order matters.
pub trait Listener: Send + Sync + 'static {
    fn records(&self, stream: &str, records: &[Record]) -> Result<()>;
    fn state(&self, stream: &str, state: &Map<String, Value>) -> Result<()>;
    fn status(&self, stream: &str, status: StreamStatus) -> Result<()>;
    fn failed(&self, stream: &str, error: &Error) -> Result<()>;
    fn log(&self, level: Level, text: &str) -> Result<()>;
}

/// How much is read at once.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    /// Partitions and partition makers together.
    pub workers: usize,
}

impl Width {
    /// Streams whose partitions are made at once; the rest of the workers read.
    fn makers(self) -> usize {
        (self.workers / 2).max(1)
    }
}

/// Reads all streams. The names of those that failed; an error only when nobody listens any more.
pub async fn read(streams: Vec<Arc<Stream>>, width: Width, listener: Arc<dyn Listener>) -> Result<Vec<String>> {
    let run = Arc::new(Run {
        workers: Arc::new(Semaphore::new(width.workers.max(2))),
        makers: Arc::new(Semaphore::new(width.makers())),
        groups: Groups::of(&streams),
        listener,
    });
    let mut reads = JoinSet::new();
    for stream in streams {
        // Streams start in order: the next one when partitions of this one are being made, and a maker is free.
        let maker = permit(&run.makers).await;
        let groups = run.groups.clone();
        let run = run.clone();
        reads.spawn(async move {
            let held = groups.hold(&stream).await;
            run.stream(stream, maker, held).await
        });
    }
    let mut failed = Vec::new();
    while let Some(end) = reads.join_next().await {
        match end {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(name))) => failed.push(name),
            Ok(Err(closed)) => return Err(closed),
            Err(_) => return Err(Error::new(ErrorKind::Internal, "reading a stream ended in a panic")),
        }
    }
    failed.sort();
    Ok(failed)
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("the semaphore is never closed")
}

struct Run {
    workers: Arc<Semaphore>,
    makers: Arc<Semaphore>,
    groups: Groups,
    listener: Arc<dyn Listener>,
}

/// One stream on its way.
struct Going {
    stream: Arc<Stream>,
    listener: Arc<dyn Listener>,
    /// Closing a slice and telling the state is one step: a later state is told later.
    telling: Mutex<()>,
    has_records: AtomicBool,
    records: AtomicU64,
    has_failed: AtomicBool,
}

impl Run {
    async fn stream(self: Arc<Self>, stream: Arc<Stream>, maker: OwnedSemaphorePermit, held: Held) -> Result<Option<String>> {
        let going = Arc::new(Going {
            stream: stream.clone(),
            listener: self.listener.clone(),
            telling: Mutex::new(()),
            has_records: AtomicBool::new(false),
            records: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        });
        let name = stream.name.as_str();
        self.listener.log(Level::Info, &format!("Syncing stream: {name}"))?;
        self.listener.status(name, StreamStatus::Started)?;
        if stream.forgot {
            self.listener.state(name, &Map::new())?;
        }
        let mut parts = JoinSet::new();
        let made = self.partitions(&going, &mut parts).await;
        if let Err(error) = made {
            going.fail(&error)?;
        }
        drop(maker);
        let held = held.own();
        while let Some(part) = parts.join_next().await {
            going.ended(part)?;
        }
        drop(held);
        going.end()
    }

    /// Partitions are pulled one ahead of those that are read.
    async fn partitions(&self, going: &Arc<Going>, parts: &mut JoinSet<Result<()>>) -> Result<()> {
        going.stream.schema().await?;
        // Whoever makes partitions reads parents, and counts as a worker.
        let making = permit(&self.workers).await;
        let mut slices = going.stream.slices();
        while let Some(slice) = slices.next().await {
            let slice = slice?;
            let worker = permit(&self.workers).await;
            let part = going.clone();
            parts.spawn(async move {
                let _worker = worker;
                part.slice(slice).await
            });
            while let Some(part) = parts.try_join_next() {
                going.ended(part)?;
            }
        }
        drop(making);
        Ok(())
    }
}

impl Going {
    /// Reads one slice. A failure is told here, so that the others go on; the error is that nobody listens.
    async fn slice(&self, slice: Arc<Slice>) -> Result<()> {
        match self.read(slice).await {
            Ok(()) => Ok(()),
            Err(error) => self.fail(&error),
        }
    }

    async fn read(&self, slice: Arc<Slice>) -> Result<()> {
        let cursor = &self.stream.cursor;
        let mut observed = Observed::default();
        let mut pages = self.stream.pages(slice.clone());
        while let Some(page) = pages.next().await {
            let page = page?;
            if page.is_empty() {
                continue;
            }
            match observe(cursor, &mut observed, &page) {
                Ok(()) => self.page(&page)?,
                // Records are told one by one: the one that the cursor cannot take is the last.
                Err((at, error)) => {
                    self.page(&page[..=at])?;
                    return Err(error);
                }
            }
        }
        let _one_at_a_time = self.telling.lock().await;
        match cursor.close(&slice, observed)? {
            Some(state) => self.listener.state(&self.stream.name, &state),
            None => Ok(()),
        }
    }

    fn page(&self, page: &[Record]) -> Result<()> {
        let name = &self.stream.name;
        if !self.has_records.swap(true, Ordering::Relaxed) {
            self.listener.status(name, StreamStatus::Running)?;
        }
        self.records.fetch_add(page.len() as u64, Ordering::Relaxed);
        self.listener.records(name, page)
    }

    fn fail(&self, error: &Error) -> Result<()> {
        if error.kind() == ErrorKind::Canceled {
            return Err(Error::new(ErrorKind::Canceled, "nobody reads the messages any more"));
        }
        self.has_failed.store(true, Ordering::Relaxed);
        self.listener.failed(&self.stream.name, error)
    }

    fn ended(&self, part: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
        match part {
            Ok(end) => end,
            Err(_) => self.fail(&Error::new(ErrorKind::Internal, "reading a partition ended in a panic")),
        }
    }

    fn end(&self) -> Result<Option<String>> {
        let name = &self.stream.name;
        self.listener.log(Level::Info, &format!("Read {} records from {name} stream", self.records.load(Ordering::Relaxed)))?;
        self.stream.finish();
        self.listener.state(name, &self.stream.cursor.state())?;
        let has_failed = self.has_failed.load(Ordering::Relaxed);
        let status = if has_failed { StreamStatus::Incomplete } else { StreamStatus::Complete };
        self.listener.status(name, status)?;
        Ok(has_failed.then(|| name.clone()))
    }
}

/// The error comes with the place of the record that it is about.
fn observe(cursor: &Cursor, observed: &mut Observed, page: &[Record]) -> Result<(), (usize, Error)> {
    let Some(field) = cursor.field() else { return Ok(()) };
    for (at, record) in page.iter().enumerate() {
        cursor.observe(observed, record.field(field).as_deref()).map_err(|error| (at, error))?;
    }
    cursor.settle(observed);
    Ok(())
}

/// Streams that must not be read at the same time share a group; who reads a stream's records to make partitions counts as its reader.
#[derive(Clone, Default)]
struct Groups(Arc<BTreeMap<String, Arc<Mutex<()>>>>, Arc<BTreeMap<String, String>>);

/// Locks of groups: those of parents are given back when the partitions are made.
struct Held {
    own: Option<OwnedMutexGuard<()>>,
    _parents: Vec<OwnedMutexGuard<()>>,
}

impl Held {
    fn own(self) -> Option<OwnedMutexGuard<()>> {
        self.own
    }
}

impl Groups {
    fn of(streams: &[Arc<Stream>]) -> Self {
        let by_stream: BTreeMap<String, String> = streams.iter().filter_map(|s| Some((s.name.clone(), s.group.clone()?))).collect();
        let locks = by_stream.values().map(|group| (group.clone(), Arc::default())).collect();
        Self(Arc::new(locks), Arc::new(by_stream))
    }

    /// Waits until nobody reads a stream of the groups concerned. Locks are taken in the groups' order, so that no two wait for each other.
    async fn hold(&self, stream: &Stream) -> Held {
        let own = stream.group.clone();
        let mut wanted: Vec<String> = stream.router.ancestors().iter().filter_map(|name| self.1.get(name).cloned()).collect();
        wanted.extend(own.clone());
        wanted.sort();
        wanted.dedup();
        let mut held = Held { own: None, _parents: Vec::new() };
        for group in wanted {
            let Some(lock) = self.0.get(&group) else { continue };
            let guard = lock.clone().lock_owned().await;
            if own.as_ref() == Some(&group) { held.own = Some(guard) } else { held._parents.push(guard) }
        }
        held
    }
}
