//! One stretch of the input as a source of the house: a lane that ends where the streams that it knows are no longer enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Position, Result, Scope, Selected, Source, Stop, Stream, StreamName};
use tokio::sync::oneshot;

use super::{
    Told, no_schema, parse, told,
    versions::{Turn, Versions},
    waiting,
};
use crate::program::write::{Fields, Input, Next, Pace, Record, Say, States, Table, Taken, Unfinished, Why, full, lanes_of};

pub(super) struct Feed {
    stretch: Mutex<Option<Stretch>>,
    states: Arc<States>,
    unfinished: Arc<Mutex<Unfinished>>,
}

impl Feed {
    pub fn new(stretch: Stretch) -> Self {
        let (states, unfinished) = (stretch.states.clone(), stretch.unfinished.clone());
        Self { stretch: Mutex::new(Some(stretch)), states, unfinished }
    }
}

#[async_trait]
impl Source for Feed {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }
    fn lanes(self: Arc<Self>, _: Vec<Selected>, _: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let stretch = self.stretch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut stretch) = stretch else {
            let once = Error::new(ErrorKind::Internal, "the input can be read only once").fix("run the tap again");
            return futures::stream::iter([Err(once)]).boxed();
        };
        let (tell, told) = oneshot::channel();
        stretch.told = Some(tell);
        lanes_of(Box::new(stretch), told, self.unfinished.clone())
    }
    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.states.durable(durable)
    }
}

pub(super) struct Stretch {
    pub input: Input,
    pub tables: Vec<Table>,
    pub known: BTreeMap<StreamName, Told>,
    pub versions: Arc<Mutex<Versions>>,
    pub states: Arc<States>,
    /// Where the input is put when more of it may come.
    pub rest: Arc<Mutex<Option<Input>>>,
    /// Streams whose rows are staged in this stretch.
    pub staged: BTreeSet<StreamName>,
    /// Those of them that stay so at its end.
    pub unfinished: Arc<Mutex<Unfinished>>,
    pub pace: Pace,
    pub say: Say,
    /// The stream that takes its place at the end.
    pub shown: Option<StreamName>,
    pub told: Option<oneshot::Sender<()>>,
}

enum Step {
    Go,
    Flush(usize),
    Checkpoint,
    Over,
}

impl Stretch {
    /// Whether more of the input may come behind this stretch.
    async fn follow(&mut self, out: &mut Output) -> Result<bool> {
        loop {
            match self.input.next(self.pace.patience()).await? {
                Next::End => return self.pace.checkpoint(&mut self.tables, out).await.map(|()| false),
                Next::Quiet if self.pace.is_due() => self.pace.checkpoint(&mut self.tables, out).await?,
                Next::Quiet => {}
                Next::Line => match self.hear()? {
                    Step::Go => {}
                    Step::Flush(at) => self.tables[at].flush(out).await?,
                    Step::Checkpoint => self.pace.checkpoint(&mut self.tables, out).await?,
                    Step::Over => {
                        self.input.back();
                        return self.pace.checkpoint(&mut self.tables, out).await.map(|()| true);
                    }
                },
            }
        }
    }

    fn hear(&mut self) -> Result<Step> {
        let number = self.input.number();
        let (text, _) = self.input.take();
        let Some(line) = parse(text, number)? else { return Ok(Step::Go) };
        match line.kind {
            "SCHEMA" => {
                let (stream, told) = told(&line).map_err(|e| e.with("line", number))?;
                Ok(if self.known.get(&stream) == Some(&told) { Step::Go } else { Step::Over })
            }
            "RECORD" => {
                let name = line.stream.as_deref().unwrap_or_default();
                let at =
                    self.tables.iter().position(|table| *table.stream.name == *name).ok_or_else(|| no_schema(name).with("line", number))?;
                let data: Fields<'_> = line.record.and_then(|r| serde_json::from_str(r.get()).ok()).ok_or_else(|| {
                    Error::new(ErrorKind::DataInvalid, "a record is no object")
                        .with("line", number)
                        .fix("see what the tap writes as RECORD")
                })?;
                let stream = self.tables[at].stream.clone();
                let version = line.version;
                let turn = turn(&self.versions, &self.states, &self.say, &stream, |versions| versions.record(&stream, version));
                if turn == Turn::Staged {
                    return Ok(Step::Over);
                }
                let gathering = &mut self.tables[at].gathering;
                let (taken, stranger) = gathering.take(&Record { data, at: 0, meta: None }, || format!("line {number} of the input"));
                if taken == Taken::Rejected {
                    return Err(Error::new(ErrorKind::DataInvalid, "a record lacks a property of its key")
                        .with("stream", &stream)
                        .with("line", number)
                        .fix("see what the tap writes: every record has its key_properties"));
                }
                if let Some(field) = stranger {
                    (self.say)(&format!("{stream}: its schema has no property {field}, which is left out"));
                }
                Ok(full(&self.tables, at).map_or(Step::Go, Step::Flush))
            }
            "STATE" => {
                self.pace.take(waiting(line.value));
                Ok(if self.pace.is_time() { Step::Checkpoint } else { Step::Go })
            }
            "ACTIVATE_VERSION" => {
                let (Some(name), Some(version)) = (line.stream.as_deref(), line.version) else { return Ok(Step::Go) };
                let stream = StreamName::new(None, name);
                let turn = turn(&self.versions, &self.states, &self.say, &stream, |versions| versions.activate(&stream, version));
                let is_here = self.known.contains_key(&stream);
                self.shown = (turn == Turn::Shown && is_here).then_some(stream);
                Ok(if is_here && matches!(turn, Turn::Staged | Turn::Shown) { Step::Over } else { Step::Go })
            }
            "BATCH" => Err(Error::new(ErrorKind::Unsupported, "the tap hands out files of rows (BATCH), which cannot be read")
                .with("line", number)
                .fix("switch its batches off")),
            _ => Ok(Step::Go),
        }
    }

    /// Which streams stay as they are although more of them came.
    fn settle(&self, has_ended: bool) {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |stream: &&StreamName| self.shown.as_ref() != Some(*stream) && !(has_ended && versions.get(stream).is_active);
        let unfinished = self.staged.iter().filter(waits).map(|stream| (stream.clone(), Why::Waits)).collect();
        *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner) = Unfinished(unfinished);
    }
}

/// What a message means for the versions of its stream; what becomes known is remembered with the next commit.
fn turn(versions: &Mutex<Versions>, states: &States, say: &Say, stream: &StreamName, ask: impl FnOnce(&mut Versions) -> Turn) -> Turn {
    let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
    let turn = ask(&mut versions);
    if turn == Turn::Staged {
        say(&format!("{stream}: a new version of its rows comes; what stands stays until that is whole"));
    }
    if matches!(turn, Turn::Known | Turn::Staged) {
        states.know(versions.kept());
    }
    turn
}

#[async_trait]
impl Lane for Stretch {
    fn covers(&self) -> Covers {
        Covers { streams: self.tables.iter().map(|table| table.stream.clone()).collect(), scope: Scope::Shared, after: vec![] }
    }
    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let more = tokio::select! {
            more = self.follow(out) => more?,
            () = stop.wait() => return Ok(Ended::Stopped),
        };
        self.settle(!more);
        let Self { input, rest, told, .. } = *self;
        if more {
            *rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
        }
        if let Some(told) = told {
            let _ = told.send(());
        }
        Ok(Ended::Complete)
    }
}
