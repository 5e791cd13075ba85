//! Streams from their components: routers, cursor, retriever and schema put together.

use std::{collections::HashMap, sync::Arc};

use linkspan_core::Result;
use serde_json::{Map, Value};

use super::{
    Stream, migrate,
    order::{Ordered, Stretch},
};
use crate::{
    component::Component,
    cursor::{self, duration},
    partition::{self, ParentStream, Routing},
    protocol::ConfiguredCatalog,
    retrieve,
    schema::Loader,
    wiring::Build,
};

/// What streams are built in: the source's parts, the states at hand, and the catalog.
#[derive(Clone)]
pub struct Env {
    pub build: Build,
    pub states: Arc<HashMap<String, Map<String, Value>>>,
    pub catalog: Option<Arc<ConfiguredCatalog>>,
    /// Streams below this one in a chain of parents.
    depth: usize,
}

/// A chain of parents longer than this is a manifest gone wrong.
const DEEPEST: usize = 32;

impl Env {
    pub fn new(build: Build, states: HashMap<String, Map<String, Value>>, catalog: Option<Arc<ConfiguredCatalog>>) -> Self {
        Self { build, states: Arc::new(states), catalog, depth: 0 }
    }
    fn state(&self, name: &str) -> Map<String, Value> {
        self.states.get(name).cloned().unwrap_or_default()
    }
    fn with_state(&self, name: String, state: Map<String, Value>) -> Self {
        Self { states: Arc::new([(name, state)].into_iter().collect()), ..self.clone() }
    }
    /// Parents know no catalog: nobody chose them.
    fn below(&self, state: Option<(String, Map<String, Value>)>) -> Self {
        Self { states: Arc::new(state.into_iter().collect()), catalog: None, depth: self.depth + 1, build: self.build.clone() }
    }
    fn is_selected(&self, name: &str) -> bool {
        self.catalog.as_ref().is_none_or(|c| c.streams.is_empty() || c.streams.iter().any(|s| s.name() == name))
    }
}

/// A `DeclarativeStream`, or the one of a `StateDelegatingStream` that its state asks for.
pub fn build(component: &Component<'_>, env: &Env) -> Result<Stream> {
    if env.depth > DEEPEST {
        return Err(component.error("the chain of parent streams is too long").with("limit", DEEPEST));
    }
    match component.kind() {
        "DeclarativeStream" => declarative(component, env),
        "StateDelegatingStream" => delegating(component, env),
        _ => Err(component.unknown_kind()),
    }
    .map_err(|e| e.with("stream", component.text("name").ok().flatten().unwrap_or_default()))
}

fn declarative(component: &Component<'_>, env: &Env) -> Result<Stream> {
    let build = &env.build;
    let name = component.text("name")?.unwrap_or_default().to_owned();
    let state = migrate::migrated(component, env.state(&name), &build.scope())?;
    let retriever = component.required("retriever")?;
    let parent = |config: &Component<'_>| parent(config, &state, env);
    let router = Arc::new(partition::build(&retriever, &Routing { build, parent: &parent })?);
    let incremental = component.child("incremental_sync")?;
    let asked = cursor::Asked {
        stream: &name,
        config: build.config.clone(),
        clock: build.clock.clone(),
        catalog: env.catalog.as_deref(),
        state: state.clone(),
        is_partitioned: !router.is_single(),
        is_grouped: router.is_grouping(),
    };
    let cursor = Arc::new(cursor::build(incremental.as_ref(), asked)?);
    let stretch = incremental.as_ref().map(|i| Stretch::build(i, &cursor)).transpose()?;
    let flag = |name: &str| incremental.as_ref().map_or(Ok(None), |i| i.flag(name)).map(|f| f.unwrap_or(false));
    let order = Arc::new(Ordered { cursor: cursor.clone(), router: router.clone(), stretch, build: build.clone() });
    let schema = Arc::new(Loader::build(component, build)?);
    let asked = retrieve::Stream {
        name: &name,
        component,
        order,
        schema: schema.clone(),
        is_client_side_incremental: flag("is_client_side_incremental")?,
        is_data_feed: flag("is_data_feed")?,
        has_state: !state.is_empty(),
    };
    let built = Stream {
        retriever: retrieve::build(&retriever, asked, build)?,
        schema,
        key: key(component)?,
        is_cursor_choosable: flag("allow_catalog_defined_cursor_field")?,
        is_file_based: component.field("file_uploader").is_some(),
        group: None,
        forgot: false,
        name,
        router,
        cursor,
    };
    Ok(built)
}

fn parent(config: &Component<'_>, child: &Map<String, Value>, env: &Env) -> Result<Arc<dyn ParentStream>> {
    let state = migrate::of_parent(config, child, &env.build.scope())?;
    Ok(Arc::new(build(&config.required("stream")?, &env.below(state))?))
}

/// The primary key's fields: one, several, or several lists of one.
fn key(component: &Component<'_>) -> Result<Vec<String>> {
    let nested = || component.error("a primary key is made of top-level fields");
    let one = |value: &Value| match value {
        Value::String(field) => Ok(field.clone()),
        Value::Array(path) if path.len() == 1 => path[0].as_str().map(str::to_owned).ok_or_else(nested),
        _ => Err(nested()),
    };
    match component.field("primary_key") {
        None => Ok(vec![]),
        Some(Value::String(field)) if field.is_empty() => Ok(vec![]),
        Some(Value::String(field)) => Ok(vec![field.clone()]),
        Some(Value::Array(fields)) => fields.iter().map(one).collect(),
        Some(_) => Err(nested()),
    }
}

/// Without a state the full stream is read, with one the incremental one, unless the API no longer keeps what lies between.
fn delegating(component: &Component<'_>, env: &Env) -> Result<Stream> {
    let name = component.required_text("name")?;
    let (full, incremental) = (component.required("full_refresh_stream")?, component.required("incremental_stream")?);
    if full.text("name")? != Some(name) || incremental.text("name")? != Some(name) {
        return Err(component.error("both streams of a state-delegating stream must have its name"));
    }
    let retention = match component.template("api_retention_period")? {
        Some(template) => Some(env.build.text(&template)?).filter(|text| !text.is_empty()),
        None => None,
    };
    let counts = |stream: &Component<'_>| -> Result<bool> {
        Ok(stream.child("incremental_sync")?.is_some_and(|i| i.kind() == "IncrementingCountCursor"))
    };
    if retention.is_some() && (counts(&full)? || counts(&incremental)?) {
        return Err(component.error("a counting cursor says nothing of time: it cannot be used with api_retention_period"));
    }
    let state = env.state(name);
    if state.is_empty() {
        return build(&full, env);
    }
    let resumed = build(&incremental, env)?;
    let Some(retention) = retention.filter(|_| env.is_selected(name)) else { return Ok(resumed) };
    let oldest = oldest_kept(&retention, env)?;
    let whole = build(&full, env)?;
    let age = whole.cursor.age(&state).or_else(|| resumed.cursor.age(&state));
    if age.is_some_and(|age| age >= oldest) {
        return Ok(resumed);
    }
    let fresh = build(&full, &env.with_state(name.to_owned(), Map::new()))?;
    Ok(Stream { forgot: true, ..fresh })
}

fn oldest_kept(retention: &str, env: &Env) -> Result<cursor::At> {
    let now = jiff::tz::TimeZone::UTC.to_datetime(env.build.clock.now());
    Ok(cursor::At::utc(now).earlier(duration(retention)?))
}
