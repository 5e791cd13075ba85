//! An open guest: check, discover, lanes.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_schema::Schema;
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Checked, Connector, Context, Cursor, Error, ErrorKind, Lane, Position, ReadMode, Repeats, Result, Scope, Selected,
    Source as HouseSource, State, Stream as HouseStream, StreamName,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use super::{
    edge::Edge,
    heard::Heard,
    lane::{GuestLane, Pace, Pending, plainly},
    shape::Shape,
    written::{foreign, written},
};
use crate::{
    check,
    kept::Kept,
    manifest,
    protocol::StateInput,
    source::Source,
    stream::Stream,
    wiring::{Build, Note},
};

#[derive(Clone, Debug)]
pub(super) enum Origin {
    File(PathBuf),
    Resolved(Arc<Value>),
}

/// A manifest with its config. Nothing is read before somebody asks.
#[derive(Clone)]
pub(crate) struct Guest {
    origin: Origin,
    config: Arc<Value>,
    namespace: Option<String>,
    /// Where the config lies in the connector's own.
    within: &'static [&'static str],
    context: Context,
}

impl Guest {
    pub(super) fn new(origin: Origin, config: Value, context: Context) -> Self {
        Self { origin, config: Arc::new(config), namespace: None, within: &[], context }
    }
    pub(super) fn named(self, namespace: Option<String>) -> Self {
        Self { namespace, ..self }
    }
    pub(super) fn within(self, within: &'static [&'static str]) -> Self {
        Self { within, ..self }
    }

    fn source(&self) -> Result<Source> {
        self.source_that_tells(Arc::new(|_| {}))
    }

    fn source_that_tells(&self, notes: Arc<dyn Fn(Note) + Send + Sync>) -> Result<Source> {
        let (root, folder) = match &self.origin {
            Origin::Resolved(root) => (root.clone(), None),
            Origin::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::ConfigInvalid };
                    Error::new(kind, "the manifest cannot be read")
                        .with("path", path.display())
                        .fix("give the path of the manifest's YAML file")
                        .because(e)
                })?;
                (Arc::new(manifest::opened(&text)?), path.parent().map(PathBuf::from))
            }
        };
        manifest::refuse_python(&root)?;
        let config = prepared(&root, Value::clone(&self.config))?;
        let mut build = Build::new(Arc::new(config), self.context.http.clone(), self.context.clock.clone());
        (build.folder, build.notes) = (folder, notes);
        let within = self.within.iter().map(|name| (*name).to_owned()).collect();
        build.kept = Some(Arc::new(Kept::new(self.context.keeper.clone(), within, root.clone())));
        Source::new(root, build)
    }

    fn name(&self, stream: &str) -> StreamName {
        StreamName::new(self.namespace.as_deref(), stream)
    }

    async fn described(&self, stream: &Stream) -> Result<HouseStream> {
        let mut shape = Shape::of(&*stream.schema().await?);
        if shape.is_empty() {
            sample(stream, &mut shape).await?;
        }
        for key in &stream.key {
            shape.know(key);
        }
        let cursor = match stream.cursor.field() {
            Some(field) => {
                shape.know(field);
                // The manifest says which column it is, whatever it is called: nobody has to choose.
                Cursor::SourceDefined
            }
            None => Cursor::None,
        };
        let schema: Arc<Schema> = shape.schema();
        let key = stream.key.clone();
        Ok(HouseStream { name: self.name(&stream.name), schema, key, cursor, estimated_rows: None, estimated_bytes: None })
    }

    async fn made(&self, selected: &[Selected], from: &Position) -> Result<Vec<GuestLane>> {
        let heard = Heard::new();
        let tell = heard.clone();
        let source = self.source_that_tells(Arc::new(move |note| tell.note(note)))?;
        let streams = source.streams(&states(selected, from)?, None).await.map_err(plainly)?;
        let workers = source.width()?.workers;
        let places = Arc::new(Semaphore::new(workers));
        let mut groups: HashMap<String, Arc<Mutex<()>>> = HashMap::new();
        let mut lanes = Vec::new();
        for wanted in selected {
            let Some(stream) = streams.iter().find(|stream| self.name(&stream.name) == wanted.stream.name) else {
                return Err(Error::new(ErrorKind::NotFound, "the manifest has no such stream").with("stream", &wanted.stream.name));
            };
            let shape = Shape::of_columns(&wanted.stream.schema);
            let group = stream.group.as_ref().map(|group| groups.entry(group.clone()).or_default().clone());
            let edge = match wanted.read {
                ReadMode::Full => None,
                _ => {
                    let edge = from.get(&Scope::Stream(wanted.stream.name.clone())).map(|state| written(state, "edge")).transpose()?;
                    Some(Edge::read(edge.as_deref(), &stream.cursor)?)
                }
            };
            let pace = match (wanted.read, wanted.repeats) {
                (ReadMode::Full, _) => Pace::Once,
                (_, Repeats::Folded) => Pace::Flowing,
                (_, Repeats::Kept) => Pace::ByTurns,
            };
            let places = (workers, places.clone());
            lanes.push(GuestLane {
                stream: stream.clone(),
                name: wanted.stream.name.clone(),
                shape,
                places,
                pace,
                edge,
                told: Instant::now(),
                is_due: false,
                pending: Pending::default(),
                notes: heard.of(&stream.name),
                clock: self.context.clock.clone(),
                group,
            });
        }
        Ok(lanes)
    }
}

/// The states of earlier runs, as a manifest's streams read them. A full read begins anew.
fn states(selected: &[Selected], from: &Position) -> Result<StateInput> {
    let mut messages = Vec::new();
    for wanted in selected {
        let Some(state) = from.get(&Scope::Stream(wanted.stream.name.clone())) else { continue };
        if wanted.read == ReadMode::Full {
            return Err(Error::new(ErrorKind::PositionLost, "a full read of an API begins anew").with("stream", &wanted.stream.name));
        }
        messages.push(json!({
            "type": "STREAM",
            "stream": {"stream_descriptor": {"name": wanted.stream.name.name}, "stream_state": told(state)?},
        }));
    }
    StateInput::parse(&Value::from(messages).to_string())
}

fn told(state: &State) -> Result<Cow<'_, Value>> {
    let stream = written(state, "stream")?;
    if stream.is_object() { Ok(stream) } else { Err(foreign()) }
}

/// A schema that says nothing is found in the first page.
async fn sample(stream: &Stream, shape: &mut Shape) -> Result<()> {
    let mut slices = stream.slices();
    let Some(slice) = slices.next().await else { return Ok(()) };
    let mut pages = stream.pages(slice?);
    while let Some(page) = pages.next().await {
        let page = page?;
        if page.is_empty() {
            continue;
        }
        for record in &page {
            shape.learn(&record.value());
        }
        break;
    }
    Ok(())
}

/// A config as a manifest's source wants it: what a spec makes of it, checked against the spec.
pub(super) fn prepared(root: &Value, given: Value) -> Result<Value> {
    let Some(spec) = crate::config::Spec::of(root)? else { return Ok(given) };
    let prepared = spec.prepare(given)?.config;
    spec.check(&prepared)?;
    spec.validate(&prepared)?;
    Ok(prepared)
}

#[async_trait]
impl Connector for Guest {
    async fn check(&self) -> Result<Checked> {
        let source = self.source()?;
        let began = Instant::now();
        check::check(&source).await?.map_err(plainly)?;
        Ok(Checked {
            streams: Some(source.definitions()?.len()),
            latency: began.elapsed().max(Duration::from_micros(1)),
            ..Checked::default()
        })
    }
    fn source(&self) -> Option<Arc<dyn HouseSource>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl HouseSource for Guest {
    async fn discover(&self) -> Result<Vec<HouseStream>> {
        let mut found = Vec::new();
        for stream in Guest::source(self)?.streams(&StateInput::default(), None).await.map_err(plainly)? {
            found.push(self.described(&stream).await.map_err(|e| plainly(e).with("stream", &stream.name))?);
        }
        Ok(found)
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let made = async move {
            match self.made(&selected, &from).await {
                Ok(lanes) => lanes.into_iter().map(|lane| Ok(Box::new(lane) as Box<dyn Lane>)).collect(),
                Err(e) => vec![Err(e)],
            }
        };
        futures::stream::once(made).flat_map(futures::stream::iter).boxed()
    }
}
