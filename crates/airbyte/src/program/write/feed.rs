//! The input as a source of the house: one lane for all streams, because the input is one order, and a state stands for everything
//! before it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Clock, Covers, Ended, Error, ErrorKind, Lane, Output, Position, Result, Scope, Selected, Source, Stop, Stream, StreamName,
};
use tokio::sync::oneshot;

use super::{
    input::{Input, Next},
    messages::{Heard, Of, Status, cut, parse},
    pace::{Pace, Table, full},
    rows::Taken,
    states::{Counts, States, Waiting},
};
use crate::protocol::Descriptor;

/// Told what a user should know.
pub(in crate::program) type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// How the streams ended, as far as the input said. Streams that are not in it ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::program) struct Unfinished(pub BTreeMap<StreamName, Why>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::program) enum Why {
    /// Their source says that it did not read them to their end.
    Incomplete,
    /// The input ended without a word about them.
    NoWord,
    /// Nobody has said yet that what came of them counts.
    Waits,
}

pub(in crate::program) struct Feed {
    intake: Mutex<Option<Intake>>,
    states: Arc<States>,
    unfinished: Arc<Mutex<Unfinished>>,
}

impl Feed {
    pub(in crate::program) fn new(input: Input, tables: Vec<Table>, states: Arc<States>, clock: Arc<dyn Clock>, say: Say) -> Self {
        let unfinished = Arc::new(Mutex::new(Unfinished::default()));
        let places = tables.iter().enumerate().map(|(at, t)| (descriptor(&t.stream), at)).collect();
        let intake = Intake {
            input,
            tables,
            places,
            statuses: HashMap::new(),
            counts: Counts::default(),
            pace: Pace::new(states.clone(), clock),
            unfinished: unfinished.clone(),
            is_cut: false,
            say,
            told: None,
        };
        Self { intake: Mutex::new(Some(intake)), states, unfinished }
    }

    pub(in crate::program) fn unfinished(&self) -> Unfinished {
        self.unfinished.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn descriptor(stream: &StreamName) -> Descriptor {
    Descriptor { name: stream.name.to_string(), namespace: stream.namespace.as_deref().map(Into::into) }
}

pub(in crate::program) fn not_to_its_end(why: Why) -> Error {
    let text = match why {
        Why::Incomplete => "the source did not read the stream to its end: what came of it is kept, nothing is replaced",
        Why::NoWord => "the input ended without a word about this stream: what came of it is kept, nothing is replaced",
        Why::Waits => "what came of this stream is kept aside until its version is activated",
    };
    Error::new(ErrorKind::Unavailable, text).fix("run the sync again: it goes on from the last state")
}

#[async_trait]
impl Source for Feed {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, _: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let intake = self.intake.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut intake) = intake else {
            // The input cannot be read twice; a stream that would have to be fails rather than being shown empty.
            let once = || Error::new(ErrorKind::Internal, "the input can be read only once").fix("run the sync again");
            let failed: Vec<_> = selected.iter().map(|s| Err(once().with("stream", &s.stream.name))).collect();
            return futures::stream::iter(failed).boxed();
        };
        let (tell, told) = oneshot::channel();
        intake.told = Some(tell);
        lanes_of(Box::new(intake), told, self.unfinished.clone())
    }

    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.states.durable(durable)
    }
}

/// The lane of an input, and behind it a failure for each stream that it did not bring to its end, as the lane tells by then.
pub(in crate::program) fn lanes_of(
    lane: Box<dyn Lane>,
    told: oneshot::Receiver<()>,
    unfinished: Arc<Mutex<Unfinished>>,
) -> BoxStream<'static, Result<Box<dyn Lane>>> {
    let rest = async move {
        let _ = told.await;
        let unfinished = unfinished.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let failed: Vec<Result<Box<dyn Lane>>> =
            unfinished.0.iter().map(|(stream, why)| Err(not_to_its_end(*why).with("stream", stream))).collect();
        futures::stream::iter(failed)
    };
    futures::stream::once(async move { Ok(lane) }).chain(futures::stream::once(rest).flatten()).boxed()
}

struct Intake {
    input: Input,
    tables: Vec<Table>,
    places: HashMap<Descriptor, usize>,
    statuses: HashMap<usize, Status>,
    counts: Counts,
    pace: Pace,
    unfinished: Arc<Mutex<Unfinished>>,
    /// The input ended in the middle of a message.
    is_cut: bool,
    say: Say,
    told: Option<oneshot::Sender<()>>,
}

/// What a line asks for.
enum Step {
    Go,
    Flush(usize),
    Checkpoint,
}

impl Intake {
    async fn follow(&mut self, out: &mut Output) -> Result<()> {
        loop {
            match self.input.next(self.pace.patience()).await? {
                Next::End => break,
                Next::Quiet if self.pace.is_due() => self.pace.checkpoint(&mut self.tables, out).await?,
                Next::Quiet => {}
                Next::Line => match self.hear()? {
                    Step::Go => {}
                    Step::Flush(at) => self.tables[at].flush(out).await?,
                    Step::Checkpoint => self.pace.checkpoint(&mut self.tables, out).await?,
                },
            }
        }
        self.settle();
        self.pace.checkpoint(&mut self.tables, out).await
    }

    fn hear(&mut self) -> Result<Step> {
        let Self { input, tables, places, counts, .. } = self;
        let number = input.number();
        let (line, is_cut) = input.take();
        match parse(line) {
            Heard::Record { stream, record } => {
                let at = place_of(places, &stream)?;
                let table = &mut tables[at];
                let (taken, stranger) = table.gathering.take(&record, || format!("line {number} of the input"));
                match taken {
                    Taken::Kept | Taken::Outdated => counts.written(&table.stream),
                    Taken::Rejected => counts.rejected(&table.stream),
                }
                if let Some(field) = stranger {
                    (self.say)(&format!("{}: its schema has no field {field}, which is left out", table.stream));
                }
                if self.pace.is_time() {
                    return Ok(Step::Checkpoint);
                }
                Ok(full(tables, at).map_or(Step::Go, Step::Flush))
            }
            Heard::State { body, of } => {
                let of = match of {
                    Of::Stream(stream) => Some(tables[place_of(places, &stream)?].stream.clone()),
                    Of::All => None,
                };
                let counted = counts.take(of.as_ref());
                self.pace.take(Waiting { of, body: without_stats(body), counted });
                Ok(if self.pace.is_time() { Step::Checkpoint } else { Step::Go })
            }
            Heard::Status { stream, status } => {
                if let Some(at) = places.get(&stream).copied() {
                    self.statuses.insert(at, status);
                }
                Ok(Step::Go)
            }
            Heard::Nothing => Ok(Step::Go),
            Heard::Broken { stream } if !is_cut => {
                let at = stream.and_then(|stream| places.get(&stream).copied()).unwrap_or(0);
                if let Some(table) = tables.get_mut(at) {
                    table.gathering.reject(format!("line {number} of the input"), "it is no record that can be read");
                    counts.rejected(&table.stream);
                }
                (self.say)(&format!("line {number} of the input is no record that can be read: it is left out"));
                Ok(Step::Go)
            }
            Heard::Broken { .. } => {
                self.is_cut = true;
                Ok(Step::Go)
            }
        }
    }

    /// Which streams the input did not bring to their end. Who says nothing of any stream says that all of them did.
    fn settle(&mut self) {
        let is_told = self.is_cut || !self.statuses.is_empty();
        let why = |at: usize| match self.statuses.get(&at) {
            Some(Status::Complete) => None,
            Some(Status::Incomplete) => Some(Why::Incomplete),
            _ => Some(Why::NoWord),
        };
        let all = self.tables.iter().enumerate().filter(|_| is_told);
        let unfinished = all.filter_map(|(at, t)| Some((t.stream.clone(), why(at)?))).collect();
        *self.unfinished.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Unfinished(unfinished);
        if self.is_cut {
            (self.say)(cut().message());
        }
    }
}

/// The state as it came, but for what an earlier destination counted.
fn without_stats(body: &str) -> String {
    const STATS: &str = "destinationStats";
    if !body.contains(STATS) {
        return body.to_owned();
    }
    let Ok(mut members) = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(body) else { return body.to_owned() };
    members.remove(STATS);
    serde_json::Value::Object(members).to_string()
}

fn place_of(places: &HashMap<Descriptor, usize>, stream: &Descriptor) -> Result<usize> {
    places.get(stream).copied().ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "a message is of a stream that the catalog does not have")
            .with("stream", &stream.name)
            .with("namespace", stream.namespace.as_deref().unwrap_or("(none)"))
            .fix("give the catalog that the source was asked with; no namespace and an empty one differ")
    })
}

#[async_trait]
impl Lane for Intake {
    fn covers(&self) -> Covers {
        Covers { streams: self.tables.iter().map(|t| t.stream.clone()).collect(), scope: Scope::Shared, after: vec![] }
    }

    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        tokio::select! {
            followed = self.follow(out) => followed?,
            // What is behind the last checkpoint comes again.
            () = stop.wait() => return Ok(Ended::Stopped),
        }
        if let Some(told) = self.told.take() {
            let _ = told.send(());
        }
        Ok(Ended::Complete)
    }
}
