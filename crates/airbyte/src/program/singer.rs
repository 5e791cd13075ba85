//! A destination of the house as a Singer target. A tap tells its streams on the way, so that the input is moved in stretches: each has
//! the streams that are known at its start, and ends where another one, or another schema of one, is told.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    ConnectionId, Covers, Cursor, Destination, Ended, Error, ErrorKind, Lane, Output, Position, ReadMode, Repeats, Result, Rows, Scope,
    Selected, Source, Stop, Stream, StreamName, Target, WriteMode,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    destination::{Moved, Moving, Writer},
    source::open,
    write::{
        Counted, Fields, Gathering, Identity, Input, Ledger, Marks, Next, Origin, Parked, Record, Say, States, Taken, Waiting, column_name,
    },
};
use crate::protocol::Lines;

/// Rows of one batch, and bytes: whichever is reached first.
const ROWS: usize = 5_000;
const BYTES: usize = 1 << 20;
/// A state is worth a checkpoint this often.
const BETWEEN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What a tap told of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    schema: Value,
    key: Vec<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    stream: Option<String>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(default)]
    key_properties: Vec<String>,
}

/// Takes a tap's messages in. States go out on `out` once they are durable, and nothing else does.
pub async fn target<W: Write + Send + 'static>(
    writer: &Writer,
    config: &Path,
    input: impl Read + Send + 'static,
    out: W,
    say: Say,
) -> Result<()> {
    let (connector, config) = open(&writer.kind, &writer.context, config, |_| ())?;
    let destination = connector.destination().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("{} cannot be written to", writer.kind.spec.title))
            .fix("`linkspan catalog list` shows which types can be a destination")
    })?;
    let lines = Arc::new(Mutex::new(Lines::new(out, writer.context.clock.clone())));
    let tell = Box::new(move |state: &Waiting| lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).plain(&state.body));
    let parked = Arc::new(Parked::default());
    let states = Arc::new(States::new(Uuid::new_v4(), Value::Null, parked.clone(), tell));
    let identity = format!("{} {}", writer.kind.spec.name, writer.kind.redact(&config));
    let mut taking = Taking { writer, destination, identity, states, parked, say, known: BTreeMap::new() };
    let mut input = Input::start(input);
    loop {
        taking.listen(&mut input).await?;
        match taking.stretch(input).await? {
            Some(rest) => input = rest,
            None => return Ok(()),
        }
    }
}

struct Taking<'a> {
    writer: &'a Writer,
    destination: Arc<dyn Destination>,
    identity: String,
    states: Arc<States>,
    parked: Arc<Parked>,
    say: Say,
    known: BTreeMap<StreamName, Told>,
}

impl Taking<'_> {
    /// Takes the schemas that stand before the next record.
    async fn listen(&mut self, input: &mut Input) -> Result<()> {
        loop {
            match input.next(PATIENCE).await? {
                Next::Quiet => continue,
                Next::End => return Ok(()),
                Next::Line => {}
            }
            let number = input.number();
            let (text, _) = input.take();
            match parse(text, number)? {
                Some(line) if line.kind == "SCHEMA" => {
                    let (stream, told) = told(&line).map_err(|e| e.with("line", number))?;
                    self.known.insert(stream, told);
                }
                Some(_) => {
                    input.back();
                    return Ok(());
                }
                None => {}
            }
        }
    }

    /// Moves what comes until another schema does. The rest of the input, if there is one.
    async fn stretch(&mut self, input: Input) -> Result<Option<Input>> {
        let modes = self.destination.capability().modes;
        let (mut streams, mut tables) = (Vec::new(), Vec::new());
        for (name, told) in &self.known {
            let merges = !told.key.is_empty() && modes.contains(&WriteMode::Merge);
            if !told.key.is_empty() && !merges {
                (self.say)(&format!("{name}: this destination cannot merge, its records are appended"));
            }
            let key = if merges { told.key.clone() } else { Vec::new() };
            let identity = Identity { key: key.clone(), ..Identity::default() };
            let gathering = Gathering::new(&told.schema, &identity, Marks::None, Origin::default()).map_err(|e| e.with("stream", name))?;
            let key: Vec<String> = key.iter().map(|column| column_name(column).into_owned()).collect();
            let (write, repeats) = if merges { (WriteMode::Merge, Repeats::Folded) } else { (WriteMode::Append, Repeats::Kept) };
            let (schema, cursor) = (gathering.schema(), Cursor::None);
            let stream = Stream { name: name.clone(), schema, key: key.clone(), cursor, estimated_rows: None, estimated_bytes: None };
            let selected = Selected { stream, read: ReadMode::Incremental, cursor: None, repeats };
            streams.push(Moved { selected, target: target_of(name), write, key });
            tables.push((name.clone(), gathering));
        }
        if streams.is_empty() {
            return nothing_to_move(input, &self.states).await;
        }
        let rest = Arc::new(Mutex::new(None));
        let (states, known, clock) = (self.states.clone(), self.known.clone(), self.writer.context.clock.clone());
        let stretch = Stretch {
            input,
            tables,
            known,
            states,
            rest: rest.clone(),
            is_due: false,
            round: 0,
            last: clock.now(),
            clock,
            say: self.say.clone(),
        };
        let feed = Arc::new(Feed { stretch: Mutex::new(Some(stretch)), states: self.states.clone() });
        let moving = Moving {
            connection: self.connection(),
            fence: u64::try_from(self.writer.context.clock.now().as_microsecond()).unwrap_or_default(),
            source: feed,
            destination: self.destination.clone(),
            memory: Arc::new(Ledger::new(self.known.keys().map(|stream| (stream.clone(), 1)))),
            streams,
            parked: self.parked.clone(),
            say: self.say.clone(),
            context: self.writer.context.clone(),
            stop: self.writer.stop.clone(),
        };
        let ends = (self.writer.pipe)(moving).await?;
        ends.into_values().collect::<Result<()>>()?;
        Ok(rest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take())
    }

    fn connection(&self) -> ConnectionId {
        const TARGETS: Uuid = Uuid::from_u128(0x6c69_6e6b_7370_416e_b2c4_8f60_13d9_7a45);
        let streams: Vec<String> = self.known.keys().map(|stream| Scope::Stream(stream.clone()).to_string()).collect();
        ConnectionId(Uuid::new_v5(&TARGETS, format!("{}\n{}", self.identity, streams.join("\n")).as_bytes()))
    }
}

/// Without a stream there can be states alone: all that they stand for is there.
async fn nothing_to_move(mut input: Input, states: &States) -> Result<Option<Input>> {
    loop {
        match input.next(PATIENCE).await? {
            Next::Quiet => continue,
            Next::End => return Ok(None),
            Next::Line => {}
        }
        let number = input.number();
        let (text, _) = input.take();
        let Some(line) = parse(text, number)? else { continue };
        match line.kind {
            "STATE" => {
                states.take(waiting(line.value));
                states.durable(&[(Scope::Shared, states.here(number))].into())?;
            }
            "SCHEMA" => {
                input.back();
                return Ok(Some(input));
            }
            "RECORD" => return Err(no_schema(line.stream.as_deref().unwrap_or_default())),
            _ => {}
        }
    }
}

/// By the convention of Singer's targets, what stands before a first dash is a schema.
fn target_of(stream: &StreamName) -> Target {
    match stream.name.split_once('-') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Target { namespace: Some(namespace.into()), name: name.into() }
        }
        _ => Target::from(stream),
    }
}

/// A line's message; `None` for what is none.
fn parse(text: &[u8], number: u64) -> Result<Option<Line<'_>>> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let bad = || {
        Error::new(ErrorKind::DataInvalid, "a line of the input is no message that can be read")
            .with("line", number)
            .fix("see what the tap writes to its output: one JSON message a line")
    };
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    serde_json::from_str(text).map(Some).map_err(|_| bad())
}

fn told(line: &Line<'_>) -> Result<(StreamName, Told)> {
    let bad = |what: &'static str| Error::new(ErrorKind::DataInvalid, what).fix("see what the tap writes as SCHEMA");
    let stream = line.stream.as_deref().ok_or_else(|| bad("a SCHEMA does not say of which stream it is"))?;
    let schema: Value = line.schema.and_then(|s| serde_json::from_str(s.get()).ok()).unwrap_or_default();
    if schema["properties"].as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(bad("a SCHEMA has no properties").with("stream", stream));
    }
    let key = line.key_properties.clone();
    if let Some(missing) = key.iter().find(|column| schema["properties"].get(column.as_str()).is_none()) {
        return Err(bad("a key property of a SCHEMA is not among its properties").with("stream", stream).with("column", missing));
    }
    Ok((StreamName::new(None, stream), Told { schema, key }))
}

fn no_schema(stream: &str) -> Error {
    Error::new(ErrorKind::DataInvalid, "a record came before the schema of its stream")
        .with("stream", stream)
        .fix("see what the tap writes: SCHEMA stands before the first RECORD of a stream")
}

fn waiting(value: Option<&RawValue>) -> Waiting {
    Waiting { of: None, body: value.map_or("{}", RawValue::get).to_owned(), counted: Counted::default() }
}

/// One stretch of the input as a source of the house.
struct Feed {
    stretch: Mutex<Option<Stretch>>,
    states: Arc<States>,
}

#[async_trait]
impl Source for Feed {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }
    fn lanes(self: Arc<Self>, _: Vec<Selected>, _: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let stretch = self.stretch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let lane: Result<Box<dyn Lane>> = match stretch {
            Some(stretch) => Ok(Box::new(stretch)),
            None => Err(Error::new(ErrorKind::Internal, "the input can be read only once").fix("run the tap again")),
        };
        futures::stream::once(async move { lane }).boxed()
    }
    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.states.durable(durable)
    }
}

struct Stretch {
    input: Input,
    tables: Vec<(StreamName, Gathering)>,
    known: BTreeMap<StreamName, Told>,
    states: Arc<States>,
    rest: Arc<Mutex<Option<Input>>>,
    is_due: bool,
    round: u64,
    last: jiff::Timestamp,
    clock: Arc<dyn linkspan_core::Clock>,
    say: Say,
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
            let patience = if self.is_due { BETWEEN } else { PATIENCE };
            match self.input.next(patience).await? {
                Next::End => return self.checkpoint(out).await.map(|()| false),
                Next::Quiet if self.is_due => self.checkpoint(out).await?,
                Next::Quiet => {}
                Next::Line => match self.hear()? {
                    Step::Go => {}
                    Step::Flush(at) => self.flush(at, out).await?,
                    Step::Checkpoint => self.checkpoint(out).await?,
                    Step::Over => {
                        self.input.back();
                        return self.checkpoint(out).await.map(|()| true);
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
                    self.tables.iter().position(|(stream, _)| *stream.name == *name).ok_or_else(|| no_schema(name).with("line", number))?;
                let data: Fields<'_> = line.record.and_then(|r| serde_json::from_str(r.get()).ok()).ok_or_else(|| {
                    Error::new(ErrorKind::DataInvalid, "a record is no object")
                        .with("line", number)
                        .fix("see what the tap writes as RECORD")
                })?;
                let (stream, gathering) = &mut self.tables[at];
                let (taken, stranger) = gathering.take(&Record { data, at: 0, meta: None }, || format!("line {number} of the input"));
                if taken == Taken::Rejected {
                    return Err(Error::new(ErrorKind::DataInvalid, "a record lacks a property of its key")
                        .with("stream", &*stream)
                        .with("line", number)
                        .fix("see what the tap writes: every record has its key_properties"));
                }
                if let Some(field) = stranger {
                    (self.say)(&format!("{stream}: its schema has no property {field}, which is left out"));
                }
                let is_full = gathering.rows() >= ROWS || gathering.bytes() >= BYTES;
                Ok(if is_full { Step::Flush(at) } else { Step::Go })
            }
            "STATE" => {
                self.states.take(waiting(line.value));
                self.is_due = true;
                let is_time = self.last.duration_until(self.clock.now()).unsigned_abs() >= BETWEEN;
                Ok(if is_time { Step::Checkpoint } else { Step::Go })
            }
            "ACTIVATE_VERSION" => {
                (self.say)("ACTIVATE_VERSION is not acted on: rows of an earlier version stay");
                Ok(Step::Go)
            }
            "BATCH" => Err(Error::new(ErrorKind::Unsupported, "the tap hands out files of rows (BATCH), which cannot be read")
                .with("line", number)
                .fix("switch its batches off")),
            _ => Ok(Step::Go),
        }
    }

    async fn flush(&mut self, at: usize, out: &mut Output) -> Result<()> {
        let (stream, gathering) = &mut self.tables[at];
        if !gathering.has_something() {
            return Ok(());
        }
        let (rows, changes) = gathering.finish()?;
        out.batch(stream, Rows::Arrow(rows), changes).await
    }

    async fn checkpoint(&mut self, out: &mut Output) -> Result<()> {
        for at in 0..self.tables.len() {
            self.flush(at, out).await?;
        }
        (self.is_due, self.last) = (false, self.clock.now());
        self.round += 1;
        out.checkpoint(&Scope::Shared, self.states.here(self.round)).await
    }
}

#[async_trait]
impl Lane for Stretch {
    fn covers(&self) -> Covers {
        Covers { streams: self.tables.iter().map(|(stream, _)| stream.clone()).collect(), scope: Scope::Shared, after: vec![] }
    }
    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let more = tokio::select! {
            more = self.follow(out) => more?,
            () = stop.wait() => return Ok(Ended::Stopped),
        };
        if more {
            let Self { input, rest, .. } = *self;
            *rest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(input);
        }
        Ok(Ended::Complete)
    }
}
