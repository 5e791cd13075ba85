//! A destination of the house as a program: spec, check and write.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::future::BoxFuture;
use linkspan_core::{
    Commit, ConnectionId, ConnectorType, Context, Destination, Error, ErrorKind, Load, MASK, Memory, Result, Role, Scope, Selected, Source,
    Stop, StreamName, Target, WriteMode,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    form,
    source::{open, problem, text},
    write::{Feed, Input, Ledger, Parked, Say, States, Table, Unfinished, Waiting, Why, kept, orders, word},
};
use crate::protocol::{ConfiguredCatalog, Descriptor, Failure, Level, Lines};

/// What a destination program is asked, as its arguments say it.
#[derive(Clone, Debug)]
pub enum WriteVerb {
    Spec,
    Check { config: PathBuf },
    Write { config: PathBuf, catalog: PathBuf },
}

/// A connector type as a destination, and what it runs with.
pub struct Writer {
    pub kind: ConnectorType,
    pub context: Context,
    pub pipe: Pipe,
    pub stop: Stop,
}

/// The house's pipe: it moves what is asked and says how each stream ended. The binary brings it.
pub type Pipe = Box<dyn Fn(Moving) -> BoxFuture<'static, Result<BTreeMap<StreamName, Result<()>>>> + Send + Sync>;

/// What the pipe is asked to move.
pub struct Moving {
    pub connection: ConnectionId,
    pub fence: u64,
    pub source: Arc<dyn Source>,
    pub destination: Arc<dyn Destination>,
    pub streams: Vec<Moved>,
    pub memory: Arc<dyn Memory>,
    /// To be told of streams that the gate stops.
    pub parked: Arc<Parked>,
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
    pub context: Context,
    pub stop: Stop,
}

/// One stream of it, and where and how its rows go.
pub struct Moved {
    pub selected: Selected,
    pub target: Target,
    pub write: WriteMode,
    pub key: Vec<String>,
}

/// Runs one verb: messages come from `input`, everything is said on `out`; the number is the process's exit code.
pub async fn write<W: Write + Send + 'static>(writer: &Writer, verb: WriteVerb, input: impl Read + Send + 'static, out: W) -> u8 {
    let mouth = Mouth(Arc::new(Mutex::new(Lines::new(out, writer.context.clock.clone()))));
    match writer.answer(verb, input, &mouth).await {
        Ok(()) => 0,
        Err(error) if error.kind() == ErrorKind::Canceled => 1,
        Err(error) => {
            let _ = mouth.lines().error(&Failure::of(&error, None));
            1
        }
    }
}

struct Mouth<W>(Arc<Mutex<Lines<W>>>);

impl<W> Clone for Mouth<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: Write + Send + 'static> Mouth<W> {
    fn lines(&self) -> MutexGuard<'_, Lines<W>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    fn warns(&self) -> Say {
        let mouth = self.clone();
        Arc::new(move |text| {
            // Whoever does not listen to warnings finds out at the next state.
            let mut lines = mouth.lines();
            let _ = lines.log(Level::Warn, text).and_then(|()| lines.flush());
        })
    }
}

impl Writer {
    async fn answer<W: Write + Send + 'static>(&self, verb: WriteVerb, input: impl Read + Send + 'static, mouth: &Mouth<W>) -> Result<()> {
        match verb {
            WriteVerb::Spec => mouth.lines().spec(self.spec()?),
            WriteVerb::Check { config } => {
                let opened = self.open(&config, mouth).and_then(|(connector, _)| {
                    let lacks = connector.destination().is_none();
                    if lacks { Err(self.is_none()) } else { Ok(connector) }
                });
                let problem = problem(opened).await?;
                mouth.lines().connection_status(problem.as_deref())
            }
            WriteVerb::Write { config, catalog } => {
                let (connector, identity) = self.open(&config, mouth)?;
                let destination = connector.destination().ok_or_else(|| self.is_none())?;
                let catalog = ConfiguredCatalog::parse(&text(&catalog, "the catalog")?)?;
                self.load(destination, &identity, &catalog, input, mouth).await
            }
        }
    }

    fn spec(&self) -> Result<Value> {
        // Opening does no I/O; what a type can do is the same for every config.
        let example = self.kind.open(self.kind.spec.example.clone(), self.context.clone())?;
        let destination = example.destination().filter(|_| self.kind.has_role(Role::Destination)).ok_or_else(|| self.is_none())?;
        let modes: Vec<&str> = destination.capability().modes.iter().map(|mode| word(*mode)).collect();
        Ok(json!({
            "connectionSpecification": form::specification(&self.kind),
            "supportsIncremental": true,
            "supportsRefreshes": true,
            "supported_destination_sync_modes": modes,
            "protocol_version": "0.2.0",
        }))
    }

    fn is_none(&self) -> Error {
        Error::new(ErrorKind::Unsupported, format!("{} cannot be written to", self.kind.spec.title))
            .fix("`linkspan catalog list` shows which types can be a destination")
    }

    /// The connector, and what makes it this one and no other: its config without secrets.
    fn open<W: Write + Send + 'static>(&self, config: &Path, mouth: &Mouth<W>) -> Result<(Arc<dyn linkspan_core::Connector>, String)> {
        let (connector, config) = open(&self.kind, config, |_, secrets| {
            mouth.lines().hide(secrets);
            self.context.clone()
        })?;
        let shown = self.kind.redact(&config);
        let fields: BTreeMap<&String, String> =
            shown.as_object().into_iter().flatten().filter(|(_, v)| **v != MASK).map(|(k, v)| (k, v.to_string())).collect();
        Ok((connector, format!("{} {fields:?}", self.kind.spec.name)))
    }

    async fn load<W: Write + Send + 'static>(
        &self,
        destination: Arc<dyn Destination>,
        identity: &str,
        catalog: &ConfiguredCatalog,
        input: impl Read + Send + 'static,
        mouth: &Mouth<W>,
    ) -> Result<()> {
        if catalog.streams.is_empty() {
            return Ok(());
        }
        let connection = connection_id(identity, catalog);
        let recall = destination.recall(connection).await?;
        let orders = orders(catalog, destination.as_ref(), recall.as_ref()).await?;
        let (generations, parked) = (kept(&orders), Arc::new(Parked::default()));
        let ledger = Ledger::new(orders.iter().map(|o| (o.selected.stream.name.clone(), o.generation)));
        let says = mouth.clone();
        let tell = Box::new(move |s: &Waiting| says.lines().echo(&s.body, s.counted.written, s.counted.rejected));
        let states = Arc::new(States::new(Uuid::new_v4(), generations.clone(), parked.clone(), tell));
        let replaces = orders.iter().any(|o| o.write == WriteMode::Replace);
        let (mut streams, mut tables) = (Vec::with_capacity(orders.len()), Vec::with_capacity(orders.len()));
        for order in orders {
            tables.push(Table { stream: order.selected.stream.name.clone(), gathering: order.gathering });
            streams.push(Moved { selected: order.selected, target: order.target, write: order.write, key: order.key });
        }
        let feed = Arc::new(Feed::new(Input::start(input), tables, states.clone(), self.context.clock.clone(), mouth.warns()));
        // Of two programs that write the same streams the younger one wins.
        let fence = u64::try_from(self.context.clock.now().as_microsecond()).unwrap_or_default();
        let moving = Moving {
            connection,
            fence,
            source: feed.clone(),
            destination: destination.clone(),
            streams,
            memory: Arc::new(ledger),
            parked,
            say: mouth.warns(),
            context: self.context.clone(),
            stop: self.stop.clone(),
        };
        let ends = (self.pipe)(moving).await?;
        tell_ends(ends, &feed.unfinished(), mouth)?;
        if replaces { close(destination.as_ref(), connection, fence, &states, &generations).await } else { Ok(()) }
    }
}

/// Which connection the house takes these streams for: the same for every program that writes them to the same place.
fn connection_id(identity: &str, catalog: &ConfiguredCatalog) -> ConnectionId {
    const PROGRAMS: Uuid = Uuid::from_u128(0x6c69_6e6b_7370_416e_9d31_4c70_aa62_0e57);
    let mut streams: Vec<Descriptor> = catalog.streams.iter().map(crate::protocol::Configured::descriptor).collect();
    streams.sort();
    let streams = serde_json::to_string(&streams).unwrap_or_default();
    ConnectionId(Uuid::new_v5(&PROGRAMS, format!("{identity}\n{streams}").as_bytes()))
}

/// Says how the streams ended; `Err` where one was not written as it should.
fn tell_ends<W: Write + Send + 'static>(ends: BTreeMap<StreamName, Result<()>>, unfinished: &Unfinished, mouth: &Mouth<W>) -> Result<()> {
    let mut failed = Vec::new();
    let mut lines = mouth.lines();
    for (stream, end) in ends {
        let Err(error) = end else { continue };
        let descriptor = Descriptor { name: stream.name.to_string(), namespace: stream.namespace.as_deref().map(Into::into) };
        if unfinished.0.get(&stream) == Some(&Why::Incomplete) && error.kind() == ErrorKind::Unavailable {
            // Its source has said so before; nothing went wrong here.
            lines.log(Level::Warn, &format!("{stream}: {}", error.message()))?;
            continue;
        }
        lines.error(&Failure::of(&error, Some(descriptor)))?;
        failed.push(stream.to_string());
    }
    lines.flush()?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unavailable, "some streams were not written to their end").with("streams", failed.join(", ")))
}

/// Records that this program had told everything: the same generation asked for once more is then another read of the stream, and
/// not the rest of this one.
async fn close(destination: &dyn Destination, connection: ConnectionId, fence: u64, states: &States, generations: &Value) -> Result<()> {
    let recall = destination.recall(connection).await?;
    let Some(stands) = recall.as_ref().and_then(|r| r.scopes.get(&Scope::Shared)) else { return Ok(()) };
    let load = Load { connection, fence, scope: Scope::Shared, previous: stands.number, streams: Vec::new() };
    let commit = Commit {
        connection,
        scope: Scope::Shared,
        generation: stands.generation,
        fence,
        previous: stands.number,
        number: stands.number + 1,
        state: states.ended(generations),
    };
    destination.open(load).await?.commit(&commit).await.map(drop)
}
