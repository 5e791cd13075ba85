//! A destination of the house as a Singer target. A tap tells its streams on the way, so that the input is moved in stretches: each has
//! the streams that are known at its start, and ends where another one, or another schema of one, is told.

mod stretch;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use linkspan_core::{
    ConnectionId, Cursor, Destination, Error, ErrorKind, ReadMode, Repeats, Result, Scope, Selected, Stream, StreamName, Target, WriteMode,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    destination::{Moved, Moving, Writer},
    source::open,
    write::{
        Counted, Gathering, Identity, Input, Ledger, Marks, Next, Origin, PATIENCE, Pace, Parked, Say, States, Table, Unfinished, Waiting,
        column_name,
    },
};
use crate::protocol::Lines;
use stretch::{Feed, Stretch};
use versions::{Version, Versions};

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
    version: Option<i64>,
}

/// Takes a tap's messages in. States go out on `out` once they are durable, and nothing else does.
pub async fn target<W: Write + Send + 'static>(
    writer: &Writer,
    config: &Path,
    input: impl Read + Send + 'static,
    out: W,
    say: Say,
) -> Result<()> {
    let (connector, config) = open(&writer.kind, config, |_, _| writer.context.clone())?;
    let destination = connector.destination().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("{} cannot be written to", writer.kind.spec.title))
            .fix("`linkspan catalog list` shows which types can be a destination")
    })?;
    let lines = Arc::new(Mutex::new(Lines::new(out, writer.context.clock.clone())));
    let tell = Box::new(move |state: &Waiting| lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).plain(&state.body));
    let parked = Arc::new(Parked::default());
    let states = Arc::new(States::new(Uuid::new_v4(), Value::Null, parked.clone(), tell));
    let identity = format!("{} {}", writer.kind.spec.name, writer.kind.redact(&config));
    let versions = Arc::default();
    let mut taking = Taking { writer, destination, identity, states, parked, say, known: BTreeMap::new(), connection: None, versions };
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
    /// Which connection the house takes the tap for, once it has told its first stream.
    connection: Option<ConnectionId>,
    versions: Arc<Mutex<Versions>>,
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
                    self.begin(&stream).await?;
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
            let repeats = if merges { Repeats::Folded } else { Repeats::Kept };
            let write = match self.version(name) {
                Version { is_staged: true, .. } => WriteMode::Replace,
                _ if merges => WriteMode::Merge,
                _ => WriteMode::Append,
            };
            let (schema, cursor) = (gathering.schema(), Cursor::None);
            let stream = Stream { name: name.clone(), schema, key: key.clone(), cursor, estimated_rows: None, estimated_bytes: None };
            let selected = Selected { stream, read: ReadMode::Incremental, cursor: None, repeats };
            streams.push(Moved { selected, target: target_of(name), write, key });
            tables.push(Table { stream: name.clone(), gathering });
        }
        let Some(connection) = self.connection else { return nothing_to_move(input, &self.states).await };
        let (rest, unfinished) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Unfinished::default())));
        let staged: BTreeSet<StreamName> =
            streams.iter().filter(|s| s.write == WriteMode::Replace).map(|s| s.selected.stream.name.clone()).collect();
        let stretch = Stretch {
            input,
            tables,
            known: self.known.clone(),
            versions: self.versions.clone(),
            states: self.states.clone(),
            rest: rest.clone(),
            staged: staged.clone(),
            unfinished: unfinished.clone(),
            pace: Pace::new(self.states.clone(), self.writer.context.clock.clone()),
            say: self.say.clone(),
            shown: None,
            told: None,
        };
        let generations: Vec<_> = self.known.keys().map(|stream| (stream.clone(), self.version(stream).generation)).collect();
        let moving = Moving {
            connection,
            fence: u64::try_from(self.writer.context.clock.now().as_microsecond()).unwrap_or_default(),
            source: Arc::new(Feed::new(stretch)),
            destination: self.destination.clone(),
            memory: Arc::new(Ledger::new(generations)),
            streams,
            parked: self.parked.clone(),
            say: self.say.clone(),
            context: self.writer.context.clone(),
            stop: self.writer.stop.clone(),
        };
        let ends = (self.writer.pipe)(moving).await?;
        let unfinished = unfinished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.settle(ends, &staged, &unfinished)?;
        let rest = rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if rest.is_none() {
            unfinished
                .0
                .keys()
                .for_each(|stream| (self.say)(&format!("{stream}: rows of a version that was not activated are kept aside")));
        }
        Ok(rest)
    }

    /// What was staged and came to its end has taken the place of what stood.
    fn settle(&self, ends: BTreeMap<StreamName, Result<()>>, staged: &BTreeSet<StreamName>, unfinished: &Unfinished) -> Result<()> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        for (stream, end) in ends {
            match end {
                Ok(()) if staged.contains(&stream) => versions.shown(&stream),
                Ok(()) => {}
                Err(e) if unfinished.0.contains_key(&stream) && e.kind() == ErrorKind::Unavailable => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn version(&self, stream: &StreamName) -> Version {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(stream)
    }

    /// A tap is known by where its rows go and by the stream that it tells first.
    async fn begin(&mut self, first: &StreamName) -> Result<()> {
        const TARGETS: Uuid = Uuid::from_u128(0x6c69_6e6b_7370_416e_b2c4_8f60_13d9_7a45);
        if self.connection.is_some() {
            return Ok(());
        }
        let connection = ConnectionId(Uuid::new_v5(&TARGETS, format!("{}\n{}", self.identity, Scope::Stream(first.clone())).as_bytes()));
        let versions = Versions::of(self.destination.recall(connection).await?.as_ref());
        self.states.know(versions.kept());
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = versions;
        self.connection = Some(connection);
        Ok(())
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
