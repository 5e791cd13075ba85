//! What a source promises: streams to discover, lanes to read, and a word of thanks when rows are durable.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::{Batch, Changes, Error, ErrorKind, MemoryBudget, Position, Result, Rows, Scope, State, StreamName, rows};

/// A stream as its source describes it.
#[derive(Clone, Debug)]
pub struct Stream {
    pub name: StreamName,
    pub schema: SchemaRef,
    /// Column names; empty when the source knows none.
    pub key: Vec<String>,
    pub cursor: Cursor,
    /// From statistics, for progress and slicing; never exact.
    pub estimated_rows: Option<u64>,
    pub estimated_bytes: Option<u64>,
}

/// How a stream can be read incrementally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Full reads only.
    None,
    /// One of these columns, chosen by the user; best first.
    Columns(Vec<String>),
    /// The source keeps its own position (a log, a change feed).
    SourceDefined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    Full,
    Incremental,
    Cdc,
}

/// A stream as a connection asks for it.
#[derive(Clone, Debug)]
pub struct Selected {
    pub stream: Stream,
    pub read: ReadMode,
    /// The cursor column of an incremental read; `None` when the source defines its own.
    pub cursor: Option<String>,
    /// Whether rows of the initial load may be sent again after a crash (the write is keyed), so that a source
    /// need not prove that an interrupted snapshot is still exact.
    pub repeats: Repeats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// The destination folds by key: a row sent twice is one row.
    Folded,
    /// Every row sent is a row more (append), or the table must be one consistent read (replace).
    Kept,
}

#[async_trait]
pub trait Source: Send + Sync {
    /// The streams, in a stable order. Called twice it answers the same.
    async fn discover(&self) -> Result<Vec<Stream>>;

    /// Why a stream that a user named is not among those discovered: no right to read it, or something that cannot be read.
    /// `None` when it simply is not there.
    async fn missing(&self, _stream: &StreamName) -> Option<Error> {
        None
    }

    /// Lanes are owned and spawned. Order and atomicity exist inside a lane, never between lanes.
    /// Pulled lazily, `concurrency` at a time. `from` holds the states of the selected streams only; an empty one is a first read.
    /// A source that cannot serve `from` yields `PositionLost`; for a full read that means "start a new generation".
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>>;

    /// What is durable in the destination. Called after every save and once more before the run ends; idempotent.
    /// Only here may a slot, an offset or an acknowledgement upstream move.
    async fn acknowledge(&self, _durable: &Position) -> Result<()> {
        Ok(())
    }
}

/// One ordered, atomic flow of rows.
#[async_trait]
pub trait Lane: Send {
    fn covers(&self) -> Covers;
    /// Sends rows and checkpoints into `out` until caught up or asked to stop. `out` blocks while the session is slow and
    /// fails with `Canceled` once nobody listens. Ends with a checkpoint unless nothing was ever read.
    /// The future may be dropped at any await: sockets close, server-side work is cancelled.
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended>;
}

/// What a lane reads, and what must be complete before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Covers {
    pub streams: Vec<StreamName>,
    /// The scope whose commits this lane counts. No two lanes of a run share it.
    pub scope: Scope,
    /// Scopes that must have ended `Complete` in this run, or before, for this lane to start (a log after its snapshot).
    pub after: Vec<Scope>,
}

/// Caught up, or asked to stop. Only `Complete` may publish a replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Complete,
    Stopped,
}

/// Everything a lane can say.
#[derive(Debug)]
pub enum Message {
    /// Rows after this one have this schema. Sent before the first rows when it differs from the discovered one, and at each change.
    Schema {
        stream: StreamName,
        schema: SchemaRef,
    },
    Rows(Batch),
    /// A log's truncate; a fresh snapshot is a new generation instead.
    Truncated {
        stream: StreamName,
    },
    /// Permission to commit here, not an order. All messages before it belong to the state.
    Checkpoint {
        scope: Scope,
        state: State,
    },
    /// For people only: it has no place among the rows.
    Note {
        stream: StreamName,
        note: Note,
    },
}

/// What whoever watches a stream should know of it, and its rows do not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The other side gives no more for a while, and is asked again then.
    Waits,
    Warning(String),
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waits => f.write_str("the limit of the API is reached: reading goes on as soon as it may"),
            Self::Warning(text) => f.write_str(text),
        }
    }
}

/// A lane's end of the pipe. It is not `Clone`: one lane, one order.
pub struct Output {
    messages: mpsc::Sender<Message>,
    budget: MemoryBudget,
}

impl Output {
    /// A pipe of `depth` messages whose rows share `budget`.
    pub fn channel(budget: MemoryBudget, depth: usize) -> (Self, mpsc::Receiver<Message>) {
        let (messages, inbox) = mpsc::channel(depth);
        (Self { messages, budget }, inbox)
    }
    pub async fn schema(&mut self, stream: &StreamName, schema: SchemaRef) -> Result<()> {
        self.send(Message::Schema { stream: stream.clone(), schema }).await
    }
    pub async fn rows(&mut self, stream: &StreamName, rows: RecordBatch) -> Result<()> {
        self.batch(stream, Rows::Arrow(rows), Changes::default()).await
    }
    /// Rows with the record of what was changed in them to make them fit.
    pub async fn batch(&mut self, stream: &StreamName, rows: Rows, changes: Changes) -> Result<()> {
        if rows.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let lease = self.budget.lease(rows.bytes()).await;
        self.send(Message::Rows(Batch { stream: stream.clone(), rows, changes, lease })).await
    }
    pub async fn truncated(&mut self, stream: &StreamName) -> Result<()> {
        self.send(Message::Truncated { stream: stream.clone() }).await
    }
    pub async fn checkpoint(&mut self, scope: &Scope, state: State) -> Result<()> {
        self.send(Message::Checkpoint { scope: scope.clone(), state }).await
    }
    pub async fn note(&mut self, stream: &StreamName, note: Note) -> Result<()> {
        self.send(Message::Note { stream: stream.clone(), note }).await
    }
    /// The run's budget, so that a source can size its batches.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }
    async fn send(&self, message: Message) -> Result<()> {
        self.messages.send(message).await.map_err(|_| Error::new(ErrorKind::Canceled, "the run stopped"))
    }
}

/// A request to stop at the next good place. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// The other end: whoever may ask for a stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    pub fn new() -> (Self, Stop) {
        let (tx, rx) = watch::channel(false);
        (Self(tx), Stop(rx))
    }
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
    pub fn listener(&self) -> Stop {
        Stop(self.0.subscribe())
    }
}

impl Stop {
    /// A stop that never comes: for calls outside a run.
    pub fn never() -> Self {
        Self(watch::channel(false).1)
    }
    pub fn requested(&self) -> bool {
        *self.0.borrow()
    }
    /// Returns when a stop is asked for; never, when nobody can ask any more.
    pub async fn wait(&self) {
        let mut rx = self.0.clone();
        if rx.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The size of rows as they are counted against a budget: the sum of sliced lengths, not of the buffers behind them.
pub fn rows_bytes(rows: &RecordBatch) -> u64 {
    rows::sliced_bytes(rows)
}
