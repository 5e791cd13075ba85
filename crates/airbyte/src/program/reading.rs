//! Lanes beside each other, each with a task that reads and one that writes its rows down as lines.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex, MutexGuard},
};

use arrow_array::RecordBatch;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Changes, Clock, Covers, Ended, Error, ErrorKind, Lane, MemoryBudget, Message, Note, Output, Result, Rows, Scope, Stop, StreamName,
};
use memchr::memchr;
use tokio::task::JoinSet;

use super::{feed, voice::Voice};
use crate::protocol::Level;

/// Bytes of rows on their way, over all lanes.
const BUDGET: u64 = 64 << 20;
/// Messages between a lane and its lines.
const DEPTH: usize = 8;

/// Writes rows as JSON objects, one a line. The binary brings it: how values look as JSON is settled in one place.
pub type Encode = fn(&RecordBatch, &mut Vec<u8>) -> Result<()>;

pub(super) struct Reading<W> {
    pub voice: Arc<Mutex<Voice<W>>>,
    pub encode: Encode,
    pub clock: Arc<dyn Clock>,
    /// Lanes at once.
    pub width: usize,
}

impl<W> Clone for Reading<W> {
    fn clone(&self) -> Self {
        Self { voice: self.voice.clone(), encode: self.encode, clock: self.clock.clone(), width: self.width }
    }
}

type Lanes = BoxStream<'static, Result<Box<dyn Lane>>>;
type Done = (Covers, Result<Ended>);

impl<W: Write + Send + 'static> Reading<W> {
    pub(super) fn voice(&self) -> MutexGuard<'_, Voice<W>> {
        self.voice.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads every lane. A lane that fails ends its streams and no others; `Err` only when nobody listens any more.
    pub(super) async fn all(&self, mut lanes: Lanes) -> Result<()> {
        let budget = MemoryBudget::new(BUDGET);
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut waiting: Vec<Box<dyn Lane>> = Vec::new();
        let mut open: BTreeSet<Scope> = BTreeSet::new();
        let mut exhausted = false;
        loop {
            // What follows another lane starts when that one is over; with nothing left to wait for, it starts.
            let is_free = |covers: &Covers| covers.after.iter().all(|scope| !open.contains(scope));
            let ready = waiting.iter().position(|lane| exhausted && is_free(&lane.covers()));
            let ready = ready.or((exhausted && tasks.is_empty() && !waiting.is_empty()).then_some(0));
            if let Some(at) = ready.filter(|_| tasks.len() < self.width) {
                self.start(waiting.remove(at), &budget, &mut tasks, &mut open)?;
                continue;
            }
            tokio::select! {
                biased;
                Some(done) = tasks.join_next(), if !tasks.is_empty() => self.ended(done, &mut open)?,
                lane = lanes.next(), if !exhausted && tasks.len() < self.width => match lane {
                    Some(Ok(lane)) if lane.covers().after.is_empty() => self.start(lane, &budget, &mut tasks, &mut open)?,
                    Some(Ok(lane)) => waiting.push(lane),
                    Some(Err(e)) => {
                        self.voice().fail_rest(&e)?;
                        exhausted = true;
                    }
                    None => exhausted = true,
                },
                else => return Ok(()),
            }
        }
    }

    fn start(&self, lane: Box<dyn Lane>, budget: &MemoryBudget, tasks: &mut JoinSet<Done>, open: &mut BTreeSet<Scope>) -> Result<()> {
        let covers = lane.covers();
        for stream in &covers.streams {
            self.voice().start(stream)?;
        }
        open.insert(covers.scope.clone());
        let (reading, budget) = (self.clone(), budget.clone());
        tasks.spawn(async move {
            let ended = reading.lane(lane, budget).await;
            (covers, ended)
        });
        Ok(())
    }

    fn ended(&self, done: std::result::Result<Done, tokio::task::JoinError>, open: &mut BTreeSet<Scope>) -> Result<()> {
        let Ok((covers, ended)) = done else {
            return self.voice().fail_rest(&panicked());
        };
        open.remove(&covers.scope);
        match ended {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Canceled => Err(e),
            Err(e) => covers.streams.iter().try_for_each(|stream| self.voice().fail(stream, &e)),
        }
    }

    async fn lane(&self, lane: Box<dyn Lane>, budget: MemoryBudget) -> Result<Ended> {
        let (mut out, mut inbox) = Output::channel(budget, DEPTH);
        // A set of one: dropped with this future, the reader is aborted.
        let mut reader = JoinSet::new();
        reader.spawn(async move { lane.read(&mut out, &Stop::never()).await });
        let mut text = Vec::new();
        while let Some(message) = inbox.recv().await {
            self.say(message, &mut text)?;
        }
        match reader.join_next().await {
            Some(Ok(ended)) => ended,
            _ => Err(panicked()),
        }
    }

    fn say(&self, message: Message, text: &mut Vec<u8>) -> Result<()> {
        match message {
            Message::Rows(batch) => {
                self.rows(&batch.stream, &batch.rows, text)?;
                self.warn_of(&batch.stream, &batch.changes)
            }
            Message::Checkpoint { scope, state } => self.voice().checkpoint(&scope, state),
            Message::Truncated { stream } => {
                self.voice().log(Level::Warn, &format!("{stream} was emptied; its records stay where they are"))
            }
            Message::Note { stream, note: Note::Waits } => self.voice().waits(&stream),
            Message::Note { stream, note: Note::Warning(text) } => self.voice().log(Level::Warn, &format!("{stream}: {text}")),
            // A record says by itself what it is.
            Message::Schema { .. } => Ok(()),
        }
    }

    fn rows(&self, stream: &StreamName, rows: &Rows, text: &mut Vec<u8>) -> Result<()> {
        match rows {
            Rows::Json(rows) => self.voice().records(stream, (0..rows.len()).map(|i| rows.row(i))),
            Rows::Arrow(rows) => {
                text.clear();
                match feed::is_feed(rows.schema_ref()) {
                    true => (self.encode)(&feed::records(rows, &self.clock.now().to_string())?, text)?,
                    false => (self.encode)(rows, text)?,
                }
                self.voice().records(stream, lines_of(text))
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "rows of this kind cannot be told as records")),
        }
    }

    fn warn_of(&self, stream: &StreamName, changes: &Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let (changed, rejected) = (changes.changed.len(), changes.rejected.len());
        self.voice().log(Level::Warn, &format!("{stream}: {changed} values could not be kept as they were, {rejected} rows were left out"))
    }
}

/// The lines of a text, without their ends.
fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(line)
    })
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the connector panicked").fix("report it with the lines before")
}
