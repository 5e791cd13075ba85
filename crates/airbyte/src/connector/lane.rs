//! One stream's flow: its partitions side by side, a checkpoint behind each.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    future::Either,
    stream::{BoxStream, Peekable},
};
use linkspan_core::{
    Changes, Clock, Covers, Ended, Error, ErrorKind, JsonRows, Lane, Output, Result, Rows, Scope, State, Stop, StreamName,
};
use serde_json::Map;
use tokio::sync::{Mutex, Semaphore};

use super::{
    edge::{self, Edge, Newest},
    heard::Listener,
    shape::Shape,
    written::VERSION,
};
use crate::{cursor::Observed, hand, partition::Slices, record::Record, slice::Slice, stream::Stream};

/// A part of the state about so many partitions is kept as text: as a tree it takes twenty times the room, and several states are on their
/// way at once.
const TEXT_FROM: usize = 200;

/// The language knows three kinds of failure; what is worth another try, or is about access, says so by its cause.
pub(super) fn plainly(error: Error) -> Error {
    if error.kind() != ErrorKind::DataInvalid {
        return error;
    }
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>());
    let Some(cause) = cause.filter(|cause| cause.kind() != ErrorKind::DataInvalid) else { return error };
    let mut plain = Error::new(cause.kind(), cause.message().to_owned()).retry(cause.retry_hint());
    for (key, value) in cause.context().iter().chain(error.context()) {
        plain = plain.with(key, value);
    }
    match cause.suggested_fix().or(error.suggested_fix()) {
        Some(fix) => plain.fix(fix.to_owned()),
        None => plain,
    }
}

pub(super) struct GuestLane {
    pub(super) stream: Arc<Stream>,
    pub(super) name: StreamName,
    pub(super) shape: Shape,
    /// How many partitions the source reads at once, over all of its streams, and the places for them.
    pub(super) places: (usize, Arc<Semaphore>),
    pub(super) pace: Pace,
    /// What the last run saw last; none for a full read.
    pub(super) edge: Option<Edge>,
    /// When the last checkpoint was.
    pub(super) told: Instant,
    /// Whether the cursor asked for one since.
    pub(super) is_due: bool,
    pub(super) pending: Pending,
    pub(super) notes: Listener,
    pub(super) clock: Arc<dyn Clock>,
    /// Held while a stream is read that must not be read beside others.
    pub(super) group: Option<Arc<Mutex<()>>>,
}

/// Rows that wait for others to go with.
#[derive(Default)]
pub(super) struct Pending {
    text: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

/// When a checkpoint may stand behind the rows, while partitions are read side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// At the end only: what is read whole has no place to go on from.
    Once,
    /// Any time: the state counts partitions that were read whole, and rows of the others fold when they come again.
    Flowing,
    /// When no partition is half read, as a row that comes again would be a row too many. So partitions are read in turns: no new one
    /// begins for a moment when it is time for a checkpoint.
    ByTurns,
}

/// So long is read without a checkpoint, where one could be.
const TURN: Duration = Duration::from_secs(10);

/// Small pages that are there at the same time go on together.
const MOST_READY: usize = 64;
const BATCH_BYTES: usize = 1 << 18;

/// More at once brings nothing.
const MOST_AT_ONCE: usize = 64;

type Partitions = Peekable<Slices>;

/// What the partitions of a stream say.
#[allow(clippy::large_enum_variant, reason = "one of the large ones is made for each partition")]
enum Said {
    Rows(Vec<Record>),
    Closed(Arc<Slice>, Box<(Observed, Newest)>),
}

impl GuestLane {
    fn scope(&self) -> Scope {
        Scope::Stream(self.name.clone())
    }

    /// All partitions, made as they are pulled. A stop lets those under way end.
    fn partitions(&self, stop: &Stop) -> Partitions {
        let stop = stop.clone();
        let asked = async move { stop.wait().await };
        self.stream.slices().take_until(Box::pin(asked)).boxed().peekable()
    }

    /// Partitions side by side, until there are no more or the turn is over.
    async fn turn(&mut self, partitions: &mut Partitions, before: &Arc<Option<Edge>>, out: &mut Output) -> Result<()> {
        let (many, places) = self.places.clone();
        let many = many.clamp(1, MOST_AT_ONCE);
        let (stream, edge, clock) = (self.stream.clone(), before.clone(), self.clock.clone());
        let is_over = match self.pace {
            Pace::ByTurns => Either::Left(async move { clock.sleep(TURN).await }),
            Pace::Once | Pace::Flowing => Either::Right(futures::future::pending()),
        };
        // One at a time needs no other turn than its own end.
        let most = if many == 1 && self.pace == Pace::ByTurns { 1 } else { usize::MAX };
        let read = move |slice| partition(stream.clone(), edge.clone(), places.clone(), slice);
        let parts = Pin::new(partitions).take(most).take_until(Box::pin(is_over)).map_ok(read);
        let mut said = match many {
            1 => parts.try_flatten().boxed(),
            many => parts.try_flatten_unordered(many).boxed(),
        }
        .ready_chunks(MOST_READY);
        loop {
            let ready = tokio::select! {
                ready = said.next() => ready,
                () = self.notes.news() => {
                    self.tell(out).await?;
                    continue;
                }
            };
            let Some(ready) = ready else { return Ok(()) };
            for next in ready {
                self.take(next.map_err(|e| plainly(e).with("stream", &self.name))?, out).await?;
            }
            self.flush(out).await?;
        }
    }

    async fn tell(&mut self, out: &mut Output) -> Result<()> {
        for note in self.notes.take() {
            out.note(&self.name, note).await?;
        }
        Ok(())
    }

    async fn take(&mut self, said: Said, out: &mut Output) -> Result<()> {
        let (slice, told) = match said {
            Said::Rows(records) => return self.rows(&records, out).await,
            Said::Closed(slice, told) => (slice, *told),
        };
        let (observed, newest) = told;
        if let Some(edge) = &mut self.edge {
            edge.close(&edge::key(&slice), newest);
        }
        self.is_due |= self.stream.cursor.close(&slice, observed)?.is_some();
        if self.pace == Pace::Flowing { self.told_when_due(out).await } else { Ok(()) }
    }

    /// A state of many partitions is large: it is told when the cursor says so, and after a while.
    async fn told_when_due(&mut self, out: &mut Output) -> Result<()> {
        if self.is_due || self.told.elapsed() >= TURN {
            self.checkpoint(out).await?;
        }
        Ok(())
    }

    /// No partition is half read.
    async fn rest(&mut self, out: &mut Output) -> Result<()> {
        if self.pace == Pace::ByTurns && self.stream.cursor.counts_slices() { self.told_when_due(out).await } else { Ok(()) }
    }

    async fn rows(&mut self, records: &[Record], out: &mut Output) -> Result<()> {
        for record in records {
            let value = record.value();
            if self.shape.learn(&value) {
                self.flush(out).await?;
                out.schema(&self.name, self.shape.schema()).await?;
            }
            let Pending { text, ranges } = &mut self.pending;
            let start = text.len() as u32;
            self.shape.write(&value, text);
            ranges.push((start, text.len() as u32));
        }
        if self.pending.text.len() >= BATCH_BYTES { self.flush(out).await } else { Ok(()) }
    }

    async fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.pending.ranges.is_empty() {
            return Ok(());
        }
        let Pending { text, ranges } = std::mem::take(&mut self.pending);
        out.batch(&self.name, Rows::Json(JsonRows::new(Bytes::from(text), ranges)), Changes::default()).await
    }

    async fn checkpoint(&mut self, out: &mut Output) -> Result<()> {
        self.flush(out).await?;
        let mut value = Map::from_iter([("stream".to_owned(), self.stream.cursor.kept(TEXT_FROM))]);
        if let Some(edge) = &self.edge {
            value.insert("edge".into(), edge.write(&self.stream.cursor, TEXT_FROM));
        }
        (self.told, self.is_due) = (Instant::now(), false);
        out.checkpoint(&self.scope(), State::new(VERSION, value.into())).await
    }
}

fn partition(stream: Arc<Stream>, edge: Arc<Option<Edge>>, places: Arc<Semaphore>, slice: Arc<Slice>) -> BoxStream<'static, Result<Said>> {
    hand::stream(move |mut hand| async move {
        let _place = places.acquire().await.map_err(|e| Error::new(ErrorKind::Internal, "a source's places are gone").because(e))?;
        let mut observed = Observed::default();
        let mut newest = Newest::default();
        let key = edge::key(&slice);
        let mut pages = stream.pages(slice.clone());
        while let Some(page) = pages.next().await {
            let page = page?;
            if page.is_empty() {
                continue;
            }
            if let Some(field) = stream.cursor.field() {
                for record in &page {
                    stream.cursor.observe(&mut observed, record.field(field).as_deref())?;
                }
                stream.cursor.settle(&mut observed);
            }
            let page = match &*edge {
                Some(edge) => edge.fresh(&key, page, &stream.cursor, &mut newest),
                None => page,
            };
            hand.out(Said::Rows(page)).await;
        }
        hand.out(Said::Closed(slice, Box::new((observed, newest)))).await;
        Ok(())
    })
}

#[async_trait]
impl Lane for GuestLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.name.clone()], scope: self.scope(), after: vec![] }
    }

    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let group = self.group.clone();
        let _alone = match &group {
            Some(group) => Some(group.lock().await),
            None => None,
        };
        let mut partitions = self.partitions(stop);
        // What this run sees itself is no reason to leave a record out.
        let before = Arc::new(self.edge.clone());
        loop {
            let turned = self.turn(&mut partitions, &before, out).await;
            // What was heard before a failure often says why.
            self.tell(out).await?;
            turned?;
            if Pin::new(&mut partitions).peek().await.is_none() {
                break;
            }
            self.rest(out).await?;
        }
        if stop.requested() {
            // A full read that was stopped has no place to go on from; positions that all partitions share have not moved.
            if self.pace == Pace::Flowing || (self.pace == Pace::ByTurns && self.stream.cursor.counts_slices()) {
                self.checkpoint(out).await?;
            }
            return Ok(Ended::Stopped);
        }
        self.stream.finish();
        self.checkpoint(out).await?;
        Ok(Ended::Complete)
    }
}
