//! A source that does what a script says.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use linkspan_core::{
    Covers, Ended, Error, ErrorKind, Lane, Output, Position, Result, Scope, Selected, Source, State, Stop, Stream, StreamName,
};
use serde_json::json;

use crate::rows::{StandardRow, standard_batch, standard_stream};

/// What a lane does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Standard rows with these ids, in one batch.
    Rows(StreamName, Range<i64>),
    /// Any other rows.
    Batch(StreamName, RecordBatch),
    Schema(StreamName, SchemaRef),
    Truncate(StreamName),
    /// A checkpoint of the lane's scope with the state `{"n": n}`. Numbers rise within a lane.
    Checkpoint(i64),
    /// One row and one checkpoint after the other, numbered from the last checkpoint on, with this pause between, until a stop.
    Endless(StreamName, Duration),
    Sleep(Duration),
    /// Keeps the core busy, as decoding does.
    Burn(Duration),
    Fail(ErrorKind),
    Panic,
    /// Ends `Stopped` when a stop was asked for, else goes on.
    StopHere,
    /// Waits for a stop and ends `Stopped`.
    WaitForStop,
    /// Waits for ever, deaf to stops: only dropping it helps.
    Hang,
}

/// One lane's script. From the state `{"n": n}` it goes on behind the checkpoint `n`; a number it does not have is `PositionLost`.
#[derive(Clone, Debug)]
pub struct ScriptLane {
    pub covers: Covers,
    pub steps: Vec<Step>,
}

impl ScriptLane {
    /// A lane of one stream, in the stream's own scope.
    pub fn of(stream: &StreamName, steps: Vec<Step>) -> Self {
        let covers = Covers { streams: vec![stream.clone()], scope: Scope::Stream(stream.clone()), after: vec![] };
        Self { covers, steps }
    }
    /// A lane of several streams that share one position.
    pub fn shared(streams: &[StreamName], steps: Vec<Step>) -> Self {
        Self { covers: Covers { streams: streams.to_vec(), scope: Scope::Shared, after: vec![] }, steps }
    }
    /// A slice of a stream.
    pub fn part(stream: &StreamName, part: &str, steps: Vec<Step>) -> Self {
        let scope = Scope::Part(stream.clone(), part.into());
        Self { covers: Covers { streams: vec![stream.clone()], scope, after: vec![] }, steps }
    }
    pub fn after(mut self, scopes: Vec<Scope>) -> Self {
        self.covers.after = scopes;
        self
    }
    /// `batches` batches of `per_batch` rows, each followed by a checkpoint.
    pub fn rows(stream: &StreamName, batches: i64, per_batch: i64) -> Self {
        let steps =
            (0..batches).flat_map(|i| [Step::Rows(stream.clone(), i * per_batch..(i + 1) * per_batch), Step::Checkpoint(i + 1)]).collect();
        Self::of(stream, steps)
    }
}

/// Lanes with scripts, and a record of what was acknowledged. Scripts can be replaced between runs.
#[derive(Default)]
pub struct ScriptSource {
    streams: Mutex<Vec<Stream>>,
    lanes: Mutex<Vec<ScriptLane>>,
    acknowledged: Mutex<Vec<Position>>,
    started: AtomicUsize,
    running: Arc<AtomicUsize>,
}

impl ScriptSource {
    /// A source whose streams are those that the lanes cover, all of the standard shape.
    pub fn new(lanes: Vec<ScriptLane>) -> Arc<Self> {
        let source = Arc::new(Self::default());
        source.script(lanes);
        source
    }
    /// Replaces the scripts; streams that are new are added.
    pub fn script(&self, lanes: Vec<ScriptLane>) {
        let mut streams = self.streams.lock().unwrap();
        for name in lanes.iter().flat_map(|l| &l.covers.streams) {
            if !streams.iter().any(|s| s.name == *name) {
                streams.push(standard_stream(name.clone()));
            }
        }
        *self.lanes.lock().unwrap() = lanes;
    }
    /// Declares a stream of another shape.
    pub fn declare(&self, stream: Stream) {
        let mut streams = self.streams.lock().unwrap();
        streams.retain(|s| s.name != stream.name);
        streams.push(stream);
    }
    /// What `acknowledge` was told, call by call.
    pub fn acknowledged(&self) -> Vec<Position> {
        self.acknowledged.lock().unwrap().clone()
    }
    /// How many lanes were ever started.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
    /// How many lanes are being read now: 0 after a run, or something leaked.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Source for ScriptSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(self.streams.lock().unwrap().clone())
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let wanted = |l: &ScriptLane| l.covers.streams.iter().any(|s| selected.iter().any(|sel| sel.stream.name == *s));
        let scripts: Vec<ScriptLane> = self.lanes.lock().unwrap().iter().filter(|l| wanted(l)).cloned().collect();
        let selected: Arc<[StreamName]> = selected.iter().map(|s| s.stream.name.clone()).collect();
        stream::iter(scripts)
            .map(move |script| {
                self.started.fetch_add(1, Ordering::SeqCst);
                let from = from.get(&script.covers.scope).cloned();
                Ok(Box::new(Running { script, from, selected: selected.clone(), count: self.running.clone() }) as Box<dyn Lane>)
            })
            .boxed()
    }
    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.acknowledged.lock().unwrap().push(durable.clone());
        Ok(())
    }
}

struct Running {
    script: ScriptLane,
    from: Option<State>,
    selected: Arc<[StreamName]>,
    count: Arc<AtomicUsize>,
}

/// Counts a lane while it is read, even when it is dropped in the middle.
struct Counted(Arc<AtomicUsize>);
impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Running {
    fn start(&self) -> Result<(usize, i64)> {
        let Some(state) = self.from.as_ref().filter(|s| !s.is_gone()) else { return Ok((0, 0)) };
        let lost = || Error::new(ErrorKind::PositionLost, "the script has no such checkpoint").with("state", &state.value);
        let n = state.value["n"].as_i64().ok_or_else(lost)?;
        let at = self.script.steps.iter().position(|s| matches!(s, Step::Checkpoint(c) if *c == n));
        match at {
            Some(at) => Ok((at + 1, n)),
            // An endless tail makes any number from its first one on.
            None => {
                let endless = self.script.steps.iter().position(|s| matches!(s, Step::Endless(..)));
                let last = self.script.steps.iter().filter_map(|s| if let Step::Checkpoint(c) = s { Some(*c) } else { None }).max();
                endless.filter(|_| n > last.unwrap_or(0)).map(|at| (at, n)).ok_or_else(lost)
            }
        }
    }
    fn wants(&self, stream: &StreamName) -> bool {
        self.selected.contains(stream)
    }
    async fn checkpoint(&self, out: &mut Output, n: i64) -> Result<()> {
        out.checkpoint(&self.script.covers.scope, State::new(1, json!({ "n": n }))).await
    }
    async fn endless(&self, stream: &StreamName, pause: Duration, mut n: i64, out: &mut Output, stop: &Stop) -> Result<Ended> {
        while !stop.requested() {
            n += 1;
            out.rows(stream, standard_batch(&[StandardRow::new(n)])).await?;
            self.checkpoint(out, n).await?;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.wait() => {}
            }
        }
        Ok(Ended::Stopped)
    }
}

#[async_trait]
impl Lane for Running {
    fn covers(&self) -> Covers {
        self.script.covers.clone()
    }
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let _counted = Counted::new(self.count.clone());
        let (start, mut at) = self.start()?;
        for step in &self.script.steps[start..] {
            match step {
                Step::Rows(stream, ids) if self.wants(stream) => {
                    out.rows(stream, standard_batch(&StandardRow::range(ids.clone()))).await?;
                }
                Step::Batch(stream, rows) if self.wants(stream) => out.rows(stream, rows.clone()).await?,
                Step::Schema(stream, schema) if self.wants(stream) => out.schema(stream, schema.clone()).await?,
                Step::Truncate(stream) if self.wants(stream) => out.truncated(stream).await?,
                Step::Rows(..) | Step::Batch(..) | Step::Schema(..) | Step::Truncate(_) => {}
                Step::Checkpoint(n) => {
                    at = *n;
                    self.checkpoint(out, at).await?;
                }
                Step::Endless(stream, pause) => return self.endless(stream, *pause, at, out, stop).await,
                Step::Sleep(time) => tokio::time::sleep(*time).await,
                Step::Burn(time) => {
                    burn(*time);
                    tokio::task::yield_now().await;
                }
                Step::Fail(kind) => return Err(Error::new(*kind, "the script fails here")),
                Step::Panic => panic!("the script panics here"),
                Step::StopHere if stop.requested() => return Ok(Ended::Stopped),
                Step::StopHere => {}
                Step::WaitForStop => {
                    stop.wait().await;
                    return Ok(Ended::Stopped);
                }
                Step::Hang => std::future::pending().await,
            }
        }
        Ok(Ended::Complete)
    }
}

/// Keeps this worker thread from all other tasks for so long, as decoding does. It sleeps, so that a busy machine does not stretch it.
pub(crate) fn burn(time: Duration) {
    std::thread::sleep(time);
}
