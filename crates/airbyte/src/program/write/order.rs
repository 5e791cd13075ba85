//! What the configured catalog asks of a destination, in the words of the house: how each stream is written, into which generation,
//! and what a later program must be able to find out about it.

use std::collections::BTreeMap;

use linkspan_core::{
    Capability, Cursor, Destination, Error, ErrorKind, ReadMode, Recall, Repeats, Result, Scope, Selected, Stream, StreamName, Target,
    WriteMode,
};
use serde::{Deserialize, Serialize};

use super::{
    names,
    rows::{Gathering, Identity, Marks, Origin},
};
use crate::protocol::{Configured, ConfiguredCatalog, DestinationSyncMode};

/// One stream, ready to be written.
pub(in crate::program) struct Order {
    pub selected: Selected,
    pub target: Target,
    pub write: WriteMode,
    pub key: Vec<String>,
    /// The house's generation.
    pub generation: u64,
    pub asked: Option<i64>,
    pub gathering: Gathering,
}

/// Which generation of the platform's count a stream's rows are of, as it is recorded with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::program) struct Kept {
    pub stream: StreamName,
    pub asked: Option<i64>,
    pub ours: u64,
}

impl Kept {
    /// All that a committed state says of generations.
    pub(in crate::program) fn all(state: &serde_json::Value) -> Vec<Self> {
        Deserialize::deserialize(&state["generations"]).unwrap_or_default()
    }
}

/// What the destination remembers of earlier programs.
#[derive(Default)]
struct Before {
    kept: BTreeMap<StreamName, Kept>,
    published: BTreeMap<StreamName, u64>,
    /// The last program came to its end, and had told so much.
    ended: bool,
    highest: u64,
}

impl Before {
    fn of(recall: Option<&Recall>) -> Self {
        let Some(recall) = recall else { return Self::default() };
        let highest = recall.published.values().copied().chain(recall.scopes.values().map(|r| r.generation)).max().unwrap_or(0);
        let shared = recall.scopes.get(&Scope::Shared).map(|r| &*r.state.value);
        let kept = shared.map(Kept::all).unwrap_or_default();
        let highest = kept.iter().map(|k| k.ours).chain([highest]).max().unwrap_or(0);
        Self {
            kept: kept.into_iter().map(|k| (k.stream.clone(), k)).collect(),
            published: recall.published.clone(),
            ended: shared.is_some_and(|v| v["ended"] == true),
            highest,
        }
    }
    fn is_published(&self, kept: &Kept) -> bool {
        self.published.get(&kept.stream) == Some(&kept.ours)
    }
}

/// How a stream is written, and into which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Into the table that stands.
    Onto { generation: u64 },
    /// Instead of it, once all is there.
    Instead { generation: u64 },
}

/// The orders of a catalog. What the destination cannot do is refused before anything is written.
pub(in crate::program) async fn orders(
    catalog: &ConfiguredCatalog,
    destination: &dyn Destination,
    recall: Option<&Recall>,
) -> Result<Vec<Order>> {
    let (before, capability) = (Before::of(recall), destination.capability());
    let mut orders = Vec::with_capacity(catalog.streams.len());
    for asked in &catalog.streams {
        let order = order(asked, destination, &capability, &before).await;
        orders.push(order.map_err(|e| e.with("stream", asked.name()))?);
    }
    one_stream_per_target(&orders)?;
    Ok(orders)
}

/// What is recorded with the rows.
pub(in crate::program) fn kept(orders: &[Order]) -> serde_json::Value {
    let kept = |o: &Order| Kept { stream: o.selected.stream.name.clone(), asked: o.asked, ours: o.generation };
    serde_json::to_value(orders.iter().map(kept).collect::<Vec<_>>()).unwrap_or_default()
}

async fn order(asked: &Configured, destination: &dyn Destination, capability: &Capability, before: &Before) -> Result<Order> {
    let mode = mode(asked)?;
    let name = StreamName::new(asked.descriptor().namespace.as_deref(), asked.name());
    let target = Target { namespace: name.namespace.clone().filter(|n| !n.is_empty()), name: names::table(&name.name).into() };
    let merges = mode == DestinationSyncMode::AppendDedup;
    let key = if merges { key(asked)? } else { Vec::new() };
    let way = way(asked, mode, destination, &target, before, &name).await?;
    let (write, generation) = match way {
        Way::Onto { generation } if merges => (WriteMode::Merge, generation),
        Way::Onto { generation } => (WriteMode::Append, generation),
        Way::Instead { generation } => (WriteMode::Replace, generation),
    };
    for needed in [Some(write), merges.then_some(WriteMode::Merge)].into_iter().flatten() {
        supports(capability, needed)?;
    }
    let cursor = asked.cursor_field.as_ref().and_then(|path| path.first()).filter(|c| merges && !c.is_empty()).cloned();
    let identity = Identity { key: key.clone(), cursor, deletes: merges && write == WriteMode::Merge && capability.deletes };
    let origin = Origin { generation_id: asked.generation_id, sync_id: asked.sync_id };
    let gathering = Gathering::new(asked.json_schema(), &identity, Marks::Airbyte, origin)?;
    let key: Vec<String> = key.iter().map(|column| names::column(column).into_owned()).collect();
    let stream =
        Stream { name, schema: gathering.schema(), key: key.clone(), cursor: Cursor::None, estimated_rows: None, estimated_bytes: None };
    let repeats = if merges { Repeats::Folded } else { Repeats::Kept };
    // Changes, as the house sees it: nothing is read from its start because an earlier program had come to its end.
    let selected = Selected { stream, read: ReadMode::Incremental, cursor: None, repeats };
    Ok(Order { selected, target, write, key, generation, asked: asked.generation_id, gathering })
}

fn mode(asked: &Configured) -> Result<DestinationSyncMode> {
    let refused = |word: &str| {
        Err(Error::new(ErrorKind::ConfigInvalid, format!("the catalog asks for the destination sync mode {word}, which is not supported"))
            .fix("ask for append, overwrite or append_dedup"))
    };
    match asked.destination_sync_mode {
        Some(DestinationSyncMode::Update) => refused("update"),
        Some(DestinationSyncMode::SoftDelete) => refused("soft_delete"),
        Some(mode) => Ok(mode),
        None => Err(Error::new(ErrorKind::ConfigInvalid, "the catalog does not say how a stream is written")
            .fix("add `destination_sync_mode`: append, overwrite or append_dedup")),
    }
}

/// The catalog's key, else the source's own.
fn key(asked: &Configured) -> Result<Vec<String>> {
    let given = asked.primary_key.as_ref().filter(|key| !key.is_empty());
    let paths = given.or(asked.source_key()).filter(|key| !key.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "append_dedup needs a key, and the stream has none")
            .fix("name its columns in the catalog's `primary_key`, or ask for append")
    })?;
    let one = |path: &Vec<String>| match path.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "a key inside of a field cannot be the key of a table")
            .with("key", path.join("."))
            .fix("choose a top-level column, or ask for append")),
    };
    paths.iter().map(one).collect()
}

fn supports(capability: &Capability, write: WriteMode) -> Result<()> {
    if capability.modes.contains(&write) {
        return Ok(());
    }
    let known: Vec<&str> = capability.modes.iter().map(|m| word(*m)).collect();
    Err(Error::new(ErrorKind::ConfigInvalid, format!("this destination does not support {}", word(write)))
        .fix(format!("destination sync modes that it supports: {}", known.join(", "))))
}

/// The protocol's word for a mode.
pub(crate) fn word(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Append => "append",
        WriteMode::Replace => "overwrite",
        WriteMode::Merge => "append_dedup",
    }
}

/// Whether what stands goes, and when two programs write the same generation.
async fn way(
    asked: &Configured,
    mode: DestinationSyncMode,
    destination: &dyn Destination,
    target: &Target,
    before: &Before,
    name: &StreamName,
) -> Result<Way> {
    let onto = Way::Onto { generation: before.published.get(name).copied().unwrap_or(1) };
    let anew = Way::Instead { generation: before.highest.max(1) + 1 };
    let (generation, minimum) = (asked.generation_id, asked.minimum_generation_id.unwrap_or(0));
    if let Some(generation) = generation
        && minimum > 0
        && minimum != generation
    {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the catalog asks to keep some generations of a stream and to remove others")
            .with("generation_id", generation)
            .with("minimum_generation_id", minimum)
            .fix("minimum_generation_id is 0 (nothing is removed) or the generation_id (all that is older is)"));
    }
    let known = before.kept.get(name);
    // The generation that an earlier program wrote, and neither finished nor told that it had.
    let goes_on = known.filter(|k| generation.is_some() && k.asked == generation);
    if mode == DestinationSyncMode::Overwrite {
        return Ok(match goes_on {
            Some(kept) if !before.is_published(kept) => Way::Instead { generation: kept.ours },
            Some(_) if !before.ended => onto,
            _ => anew,
        });
    }
    let Some(wanted) = generation.filter(|_| minimum > 0) else { return Ok(onto) };
    if let Some(kept) = goes_on {
        let is_staged = kept.ours > before.published.get(name).copied().unwrap_or(1);
        return Ok(if is_staged { Way::Instead { generation: kept.ours } } else { onto });
    }
    match known {
        Some(kept) if kept.asked.is_some_and(|had| had > wanted) => Ok(onto),
        Some(_) => Ok(anew),
        // Nobody knows what stands there. A platform that does not count says 1 every time, and does not mean that anything goes.
        None if wanted <= 1 || destination.shape(target).await?.is_none() => Ok(onto),
        None => Ok(anew),
    }
}

fn one_stream_per_target(orders: &[Order]) -> Result<()> {
    let mut taken: BTreeMap<&Target, &StreamName> = BTreeMap::new();
    for order in orders {
        let name = &order.selected.stream.name;
        if let Some(other) = taken.insert(&order.target, name) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "two streams of the catalog would be written to one table")
                .with("table", &order.target)
                .with("streams", format!("{other}, {name}"))
                .fix("give them different namespaces or a prefix"));
        }
    }
    Ok(())
}
