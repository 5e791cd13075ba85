//! The session side of a lane: takes what the reader sends, asks the gate, writes, and commits when it pays off.
//! Rows durable, then the position, then word to the source: the order lives here and nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow_schema::SchemaRef;
use linkspan_core::{
    Batch, Changes, Commit, Covers, Ended, Error, ErrorKind, Load, Message, Result, Retry, Scope, Session, State, Stop, StreamName, TRACES,
    WriteMode, WriteStats,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::{Instrument, Span, field::Empty};

use super::{
    books::Pipe,
    cadence::Cadence,
    table::{Gated, Table},
};
use crate::run::Assignment;

/// How a lane ended, and which of its streams the gate stopped on the way.
pub(super) struct LaneEnd {
    pub result: Result<Ended>,
    pub parked: BTreeMap<StreamName, Error>,
}

pub(super) struct LaneSession {
    pipe: Arc<Pipe>,
    scope: Scope,
    stop: Stop,
    stopping: bool,
    session: Option<Box<dyn Session>>,
    tables: BTreeMap<StreamName, Table>,
    parked: BTreeMap<StreamName, Error>,
    /// Streams that this lane passes over although its position moves on: before it does, they need a new generation.
    left_behind: BTreeSet<StreamName>,
    cadence: Cadence,
    /// What was handed to the session since the last commit, to be compared with what it says.
    handed: BTreeMap<StreamName, Handed>,
}

#[derive(Default)]
struct Handed {
    rows: u64,
    rejected: u64,
}

impl LaneSession {
    /// `without`: streams of the lane that already stopped in this run.
    pub fn new(pipe: Arc<Pipe>, covers: &Covers, without: BTreeSet<StreamName>, stop: Stop) -> Self {
        let wanted = covers.streams.iter().filter(|s| !without.contains(*s));
        let tables = wanted.filter_map(|s| Some((s.clone(), Table::new(pipe.assignments.get(s)?)))).collect();
        let cadence = Cadence::new(pipe.capability.advice, pipe.run.settings.latency);
        Self {
            scope: covers.scope.clone(),
            stop,
            stopping: false,
            session: None,
            tables,
            parked: BTreeMap::new(),
            left_behind: without,
            cadence,
            handed: BTreeMap::new(),
            pipe,
        }
    }

    /// Runs until the reader has ended and all it sent is dealt with.
    pub async fn run(mut self, inbox: mpsc::Receiver<Message>, told: oneshot::Receiver<Result<Ended>>) -> LaneEnd {
        let result = self.flow(inbox, told).await;
        if let Err(e) = &result {
            Span::current().record("error.type", tracing::field::debug(e.kind()));
        }
        LaneEnd { result, parked: self.parked }
    }

    /// Makes the table of a stream that had no rows, so that an empty one stands there.
    pub async fn make_table(mut self) -> LaneEnd {
        let state = self.pipe.durable_state(&self.scope).unwrap_or_else(State::gone);
        self.cadence.reached(state, Instant::now());
        let result = self.commit().await.map(|()| Ended::Complete);
        LaneEnd { result, parked: self.parked }
    }

    async fn flow(&mut self, mut inbox: mpsc::Receiver<Message>, told: oneshot::Receiver<Result<Ended>>) -> Result<Ended> {
        self.pipe.run.context.failpoints.hit("pipe.lane.started").await?;
        let stop = self.stop.clone();
        while !self.tables.is_empty() {
            let due = self.cadence.due();
            tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(message) => self.take(message).await?,
                    None => return self.end(told).await,
                },
                () = stop.wait(), if !self.stopping => self.hurry().await?,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.commit().await?,
            }
        }
        // Every stream of the lane is parked: nothing of it may move on.
        Ok(Ended::Stopped)
    }

    async fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Schema { stream, schema } => self.schema(&stream, schema).await,
            Message::Rows(batch) => self.rows(batch).await,
            Message::Truncated { stream } => self.truncated(&stream).await,
            Message::Checkpoint { scope, state } => self.checkpoint(scope, state).await,
            Message::Note { stream, note } => {
                self.pipe.run.observer.note(Some(&stream), &note.to_string());
                Ok(())
            }
        }
    }

    /// Whether the stream is loaded here; a stream that the lane does not cover is a mistake of the source.
    fn loads(&self, stream: &StreamName) -> Result<bool> {
        if self.tables.contains_key(stream) {
            return Ok(true);
        }
        if self.parked.contains_key(stream) || self.left_behind.contains(stream) {
            return Ok(false);
        }
        Err(Error::new(ErrorKind::DataInvalid, "the source sent a stream that its lane does not cover").with("stream", stream))
    }

    async fn schema(&mut self, stream: &StreamName, schema: SchemaRef) -> Result<()> {
        if !self.loads(stream)? {
            return Ok(());
        }
        if let Some(table) = self.tables.get_mut(stream) {
            table.announce(schema);
        }
        self.admit(stream).await.map(drop)
    }

    async fn rows(&mut self, batch: Batch) -> Result<()> {
        if !self.loads(&batch.stream)? {
            return Ok(());
        }
        let Batch { stream, rows, mut changes, lease } = batch;
        let (count, bytes) = (rows.len() as u64, lease.bytes());
        self.pipe.read(&stream, count + changes.rejected.len() as u64, bytes);
        if let Some(table) = self.tables.get_mut(&stream) {
            table.announce_of(&rows);
        }
        if !self.admit(&stream).await? {
            return Ok(());
        }
        let Some(table) = self.tables.get_mut(&stream) else { return Ok(()) };
        let rows = table.fit(rows, &mut changes).map_err(|e| e.with("stream", &stream))?;
        self.hand_over(stream, rows, changes, lease, bytes).await
    }

    async fn hand_over(
        &mut self,
        stream: StreamName,
        rows: linkspan_core::Rows,
        changes: Changes,
        lease: linkspan_core::MemoryLease,
        bytes: u64,
    ) -> Result<()> {
        if !changes.is_empty() {
            self.pipe.run.observer.changes(&stream, &changes);
        }
        let handed = self.handed.entry(stream.clone()).or_default();
        handed.rows += rows.len() as u64;
        handed.rejected += changes.rejected.len() as u64;
        self.cadence.wrote(rows.len() as u64, bytes, Instant::now());
        let Some(session) = self.session.as_mut() else {
            return Err(Error::new(ErrorKind::Internal, "rows were admitted without a session"));
        };
        session.write(Batch { stream: stream.clone(), rows, changes, lease }).await?;
        let made_there = session.take_changes();
        if !made_there.is_empty() {
            self.pipe.run.observer.changes(&stream, &made_there);
        }
        Ok(())
    }

    async fn truncated(&mut self, stream: &StreamName) -> Result<()> {
        if !self.loads(stream)? || !self.admit(stream).await? {
            return Ok(());
        }
        let appends = self.pipe.assignments.get(stream).is_some_and(|a| a.write == WriteMode::Append);
        if appends {
            self.pipe.note_once(stream, "the source emptied this stream; its appended rows stay as the history they are".to_owned());
            return Ok(());
        }
        self.cadence.wrote(0, 0, Instant::now());
        match self.session.as_mut() {
            Some(session) => session.truncate(stream).await,
            None => Ok(()),
        }
    }

    async fn checkpoint(&mut self, scope: Scope, state: State) -> Result<()> {
        if scope != self.scope {
            return Err(Error::new(ErrorKind::DataInvalid, "the source sent a checkpoint of another lane's scope").with("scope", scope));
        }
        if self.cadence.is_idle() && self.pipe.durable_state(&scope).as_ref() == Some(&state) {
            return Ok(());
        }
        if self.cadence.reached(state, Instant::now()) || self.stop.requested() {
            return self.commit().await;
        }
        Ok(())
    }

    /// A stop was asked for: what is complete is committed now, the rest at the next checkpoint, if one comes.
    async fn hurry(&mut self) -> Result<()> {
        self.stopping = true;
        if self.cadence.may_commit() { self.commit().await } else { Ok(()) }
    }

    async fn end(&mut self, told: oneshot::Receiver<Result<Ended>>) -> Result<Ended> {
        let silent = |_| Err(Error::new(ErrorKind::Internal, "the source's task ended without an answer"));
        match told.await.unwrap_or_else(silent) {
            Ok(Ended::Complete) if self.cadence.is_dirty() => {
                Err(Error::new(ErrorKind::DataInvalid, "the source ended with rows behind its last checkpoint").with("scope", &self.scope))
            }
            Ok(ended) => {
                if self.cadence.may_commit() {
                    self.commit().await?;
                }
                Ok(ended)
            }
            Err(e) => {
                // What the source had finished before it failed stays; its failure is the news, whatever becomes of this.
                if self.cadence.may_commit() && e.kind() != ErrorKind::PositionLost {
                    self.commit().await.ok();
                }
                Err(e)
            }
        }
    }

    /// Asks the gate where the stream's schema is new here; `false` when the stream is parked.
    async fn admit(&mut self, stream: &StreamName) -> Result<bool> {
        let Some(table) = self.tables.get_mut(stream) else { return Ok(false) };
        if table.is_admitted() {
            return Ok(true);
        }
        match table.ask(&self.pipe, stream).await? {
            Gated::Park(e) => {
                self.park(stream, e);
                Ok(false)
            }
            Gated::Load(plan) => {
                self.pipe.saw_schema(stream, table.announced()).await?;
                for column in table.left_out() {
                    self.pipe.note_once(stream, format!("column {column} is not loaded: the drift policy leaves it out"));
                }
                let folds = self.pipe.assignments.get(stream).is_some_and(Assignment::folds);
                let session = self.open().await?;
                if folds {
                    session.fold(stream).await?;
                }
                session.schema(stream, &plan).await?;
                Ok(true)
            }
        }
    }

    fn park(&mut self, stream: &StreamName, e: Error) {
        self.pipe.run.observer.note(Some(stream), &format!("parked: {e}"));
        self.tables.remove(stream);
        self.left_behind.insert(stream.clone());
        self.parked.insert(stream.clone(), e);
    }

    async fn open(&mut self) -> Result<&mut Box<dyn Session>> {
        if self.session.is_none() {
            let load = Load {
                connection: self.pipe.run.connection,
                fence: self.pipe.run.fence,
                scope: self.scope.clone(),
                previous: self.pipe.stands(&self.scope).1,
                streams: self.tables.keys().filter_map(|s| self.pipe.load_stream(s)).collect(),
            };
            self.session = Some(self.pipe.run.destination.open(load).await?);
        }
        self.session.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "a session was opened and is not there"))
    }

    /// Commits at the last checkpoint.
    async fn commit(&mut self) -> Result<()> {
        let missing: Vec<StreamName> = self.tables.keys().filter(|s| !self.pipe.has_table(s)).cloned().collect();
        for stream in &missing {
            self.admit(stream).await?;
        }
        if self.tables.is_empty() {
            return Ok(());
        }
        let Some(state) = self.cadence.commit() else { return Ok(()) };
        for stream in std::mem::take(&mut self.left_behind) {
            self.pipe.draw(&stream).await?;
        }
        let (generation, previous) = self.pipe.stands(&self.scope);
        let commit = Commit {
            connection: self.pipe.run.connection,
            scope: self.scope.clone(),
            generation,
            fence: self.pipe.run.fence,
            previous,
            number: previous + 1,
            state,
        };
        let span = tracing::info_span!(
            target: TRACES, "commit", "linkspan.commit.number" = commit.number, "linkspan.generation" = generation,
            "linkspan.rows.written" = Empty, "linkspan.rows.rejected" = Empty, "error.type" = Empty
        );
        let done = self.carry_out(&commit).instrument(span.clone()).await;
        if let Err(e) = &done {
            span.record("error.type", tracing::field::debug(e.kind()));
        }
        done
    }

    async fn carry_out(&mut self, commit: &Commit) -> Result<()> {
        let pipe = self.pipe.clone();
        let failpoints = &pipe.run.context.failpoints;
        failpoints.hit("pipe.commit.before").await?;
        let mut stats = self.open().await?.commit(commit).await.map_err(unknown)?;
        // Rows and position are durable where the destination keeps both; only now the store's copy, then word to the source.
        failpoints.hit("pipe.commit.after").await?;
        pipe.run.memory.save(std::slice::from_ref(commit)).await?;
        failpoints.hit("pipe.save.after").await?;
        self.settle(&mut stats);
        let (written, rejected) = stats.values().fold((0, 0), |(w, r), s| (w + s.written, r + s.rejected));
        Span::current().record("linkspan.rows.written", written).record("linkspan.rows.rejected", rejected);
        self.tables.iter().filter(|(_, t)| t.is_admitted()).for_each(|(s, t)| pipe.made_table(s, t.shape()));
        let durable = pipe.committed(commit, &stats);
        pipe.run.source.acknowledge(&durable).await
    }

    /// Rows read = written + duplicates + rejected: where the destination does not count the rows left out before it, they are added.
    fn settle(&mut self, stats: &mut BTreeMap<StreamName, WriteStats>) {
        for (stream, handed) in std::mem::take(&mut self.handed) {
            let stats = stats.entry(stream).or_default();
            if stats.written + stats.duplicates + stats.rejected == handed.rows {
                stats.rejected += handed.rejected;
            }
        }
    }
}

/// Nobody knows whether such a commit took effect; the next run asks the destination.
fn unknown(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout if e.retry_hint() == Retry::Never => e.retry(Retry::Backoff),
        _ => e,
    }
}
