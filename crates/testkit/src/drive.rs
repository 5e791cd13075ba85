//! Reads a source without an engine: lanes one after the other, each message kept, stopping where a trial wants.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt;
use linkspan_core::{
    Changes, Covers, Ended, Error, ErrorKind, Lane, MemoryBudget, Message, Output, Position, Result, Rows, Scope, Selected, Source, State,
    Stopper, StreamName, advance,
};

use crate::Table;

/// What one read brought.
#[derive(Debug, Default)]
pub struct Read {
    pub events: Vec<Event>,
    pub ended: Vec<(Covers, Ended)>,
    /// `from`, with every checkpoint applied.
    pub position: Position,
}

/// A message as a trial looks at it.
#[derive(Debug)]
pub enum Event {
    Schema { stream: StreamName, schema: SchemaRef },
    Rows { stream: StreamName, rows: RecordBatch, changes: Changes },
    Truncated { stream: StreamName },
    Checkpoint { scope: Scope, state: State },
}

/// When to walk away from a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Every lane ended by itself.
    End,
    /// After so many checkpoints, as a crash would: the lane is dropped where it is.
    Checkpoints(usize),
    /// After so many batches: the lane is dropped.
    Batches(usize),
    /// Asks for a stop after so many batches and waits for the lanes to end.
    StopAfter(usize),
}

impl Read {
    /// The rows of a stream, as text.
    pub fn table(&self, stream: &StreamName) -> Table {
        Table::from_batches(self.batches(stream))
    }
    pub fn batches<'a>(&'a self, stream: &'a StreamName) -> impl Iterator<Item = &'a RecordBatch> {
        self.events.iter().filter_map(move |e| match e {
            Event::Rows { stream: s, rows, .. } if s == stream => Some(rows),
            _ => None,
        })
    }
    pub fn ids(&self, stream: &StreamName) -> Vec<i64> {
        self.table(stream).ids()
    }
    pub fn checkpoints(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Checkpoint { .. })).count()
    }
    pub fn row_count(&self) -> usize {
        self.events.iter().map(|e| if let Event::Rows { rows, .. } = e { rows.num_rows() } else { 0 }).sum()
    }
    /// The ids read before the `n`th checkpoint (counted from 1), and the position there.
    pub fn until_checkpoint(&self, n: usize, stream: &StreamName, from: &Position) -> (Vec<i64>, Position) {
        let (mut position, mut seen, mut batches) = (from.clone(), 0, vec![]);
        for event in &self.events {
            match event {
                Event::Rows { stream: s, rows, .. } if s == stream => batches.push(rows),
                Event::Checkpoint { scope, state } => {
                    advance(&mut position, &BTreeMap::from([(scope.clone(), state.clone())]));
                    seen += 1;
                    if seen == n {
                        break;
                    }
                }
                _ => {}
            }
        }
        (Table::from_batches(batches).ids(), position)
    }
}

/// Reads everything that is selected.
pub async fn read(source: &Arc<dyn Source>, selected: Vec<Selected>, from: Position) -> Result<Read> {
    read_until(source, selected, from, Until::End).await
}

/// Reads lane after lane, a lane with `after` when those have ended, until the trial walks away.
pub async fn read_until(source: &Arc<dyn Source>, selected: Vec<Selected>, from: Position, until: Until) -> Result<Read> {
    let schemas: BTreeMap<StreamName, SchemaRef> = selected.iter().map(|s| (s.stream.name.clone(), s.stream.schema.clone())).collect();
    let mut read = Read { position: from.clone(), ..Read::default() };
    let mut lanes = source.clone().lanes(selected, from);
    let mut waiting: Vec<Box<dyn Lane>> = vec![];
    let mut reader = Reader { schemas, until, batches: 0 };
    while let Some(lane) = lanes.next().await {
        waiting.push(lane?);
        while let Some(at) = waiting.iter().position(|l| ready(&l.covers(), &read)) {
            let lane = waiting.remove(at);
            if reader.lane(lane, &mut read).await? == Walk::Away {
                return Ok(read);
            }
        }
    }
    match waiting.first() {
        None => Ok(read),
        // Whoever was asked to stop left something undone: a lane that waits for it does not begin.
        Some(_) if read.ended.iter().any(|(_, e)| *e == Ended::Stopped) => Ok(read),
        Some(lane) => Err(Error::new(ErrorKind::Internal, "a lane waits for scopes that no lane of this read covers")
            .with("lane", format!("{:?}", lane.covers()))),
    }
}

fn ready(covers: &Covers, read: &Read) -> bool {
    covers
        .after
        .iter()
        .all(|scope| read.ended.iter().any(|(c, e)| c.scope == *scope && *e == Ended::Complete) || read.position.contains_key(scope))
}

#[derive(PartialEq, Eq)]
enum Walk {
    On,
    Away,
}

struct Reader {
    schemas: BTreeMap<StreamName, SchemaRef>,
    until: Until,
    batches: usize,
}

impl Reader {
    async fn lane(&mut self, lane: Box<dyn Lane>, read: &mut Read) -> Result<Walk> {
        let covers = lane.covers();
        let (mut output, mut inbox) = Output::channel(MemoryBudget::new(64 << 20), 1);
        let (stopper, stop) = Stopper::new();
        if matches!(self.until, Until::StopAfter(n) if self.batches >= n) {
            stopper.stop();
        }
        let reading = async move { lane.read(&mut output, &stop).await };
        tokio::pin!(reading);
        let ended = loop {
            tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(message) => {
                        if self.take(message, read, &stopper)? == Walk::Away {
                            return Ok(Walk::Away);
                        }
                    }
                    // The lane dropped its output: what is left is its answer.
                    None => break (&mut reading).await?,
                },
                ended = &mut reading => {
                    let ended = ended?;
                    while let Ok(message) = inbox.try_recv() {
                        if self.take(message, read, &stopper)? == Walk::Away {
                            return Ok(Walk::Away);
                        }
                    }
                    break ended;
                }
            }
        };
        read.ended.push((covers, ended));
        Ok(Walk::On)
    }
    fn take(&mut self, message: Message, read: &mut Read, stopper: &Stopper) -> Result<Walk> {
        let event = match message {
            Message::Schema { stream, schema } => {
                self.schemas.insert(stream.clone(), schema.clone());
                Event::Schema { stream, schema }
            }
            Message::Rows(batch) => {
                self.batches += 1;
                let schema = self.schemas.get(&batch.stream).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "rows of a stream that was not selected").with("stream", &batch.stream)
                })?;
                let rows = match batch.rows {
                    Rows::Arrow(rows) => rows,
                    Rows::Json(rows) => rows.to_arrow(schema)?,
                    _ => return Err(Error::new(ErrorKind::Unsupported, "a form of rows that testkit does not know")),
                };
                Event::Rows { stream: batch.stream, rows, changes: batch.changes }
            }
            Message::Truncated { stream } => Event::Truncated { stream },
            Message::Note { .. } => return Ok(Walk::On),
            Message::Checkpoint { scope, state } => {
                advance(&mut read.position, &BTreeMap::from([(scope.clone(), state.clone())]));
                Event::Checkpoint { scope, state }
            }
        };
        read.events.push(event);
        Ok(match self.until {
            Until::Checkpoints(n) if read.checkpoints() >= n => Walk::Away,
            Until::Batches(n) if self.batches >= n => Walk::Away,
            Until::StopAfter(n) if self.batches >= n => {
                stopper.stop();
                Walk::On
            }
            _ => Walk::On,
        })
    }
}
