//! A source: a manifest with a config, ready to say what it has and to be read.

mod cached;
mod groups;

use std::{collections::HashMap, sync::Arc};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{
    budget::Budget,
    component::Component,
    dynamic,
    protocol::{ConfiguredCatalog, StateInput},
    read::Width,
    stream::{self, Env, Stream},
    template::Condition,
    truth::is_true,
    wiring::Build,
};

/// One manifest, one config.
pub struct Source {
    root: Arc<Value>,
    build: Build,
}

impl Source {
    /// `root` is the resolved manifest; the config is the build's. What all streams share is made here: the API's budget, and places for jobs.
    pub fn new(root: Arc<Value>, mut build: Build) -> Result<Self> {
        if let Some(budget) = root.get("api_budget").filter(|b| is_true(b)) {
            let budget = Budget::build(&Component::new(budget, "api_budget")?, &build.scope())?;
            build.budget = Some(Arc::new(budget));
        }
        let whole = Component::new(&root, "")?;
        if let Some(most) = whole.template("max_concurrent_async_job_count")? {
            let most = most.value(&build.scope())?;
            let most = most.as_u64().and_then(|most| usize::try_from(most).ok());
            build.shared.jobs.allow(most.ok_or_else(|| whole.error("max_concurrent_async_job_count is not a whole number"))?);
        }
        Ok(Self { root, build })
    }

    /// What a platform asks for, as it wrote it: property selectors look at it.
    pub fn know_catalog(&mut self, catalog: Value) {
        self.build.catalog = Arc::new(catalog);
    }

    pub fn build(&self) -> &Build {
        &self.build
    }
    pub fn root(&self) -> &Value {
        &self.root
    }
    /// The same source with another config.
    pub fn with_config(&self, config: Value) -> Self {
        Self { root: self.root.clone(), build: Build { config: Arc::new(config), ..self.build.clone() } }
    }

    fn env(&self, state: &StateInput, catalog: Option<Arc<ConfiguredCatalog>>) -> Env {
        let states: HashMap<String, Map<String, Value>> = state.unnamespaced();
        Env::new(self.build.clone(), states, catalog)
    }

    /// The components of the streams that are in the manifest; conditional ones where their condition holds.
    pub fn definitions(&self) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        for (at, stream) in self.root.get("streams").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if stream["type"] != "ConditionalStreams" {
                found.push(typed(stream.clone()));
                continue;
            }
            let condition =
                Condition::parse(&stream["condition"], &Map::new()).map_err(|e| e.with("path", format!("streams[{at}].condition")))?;
            if condition.eval(&self.build.scope())? {
                found.extend(stream["streams"].as_array().into_iter().flatten().cloned());
            }
        }
        Ok(found)
    }

    /// The components of dynamic streams; asks APIs where the manifest says so.
    pub async fn dynamic_definitions(&self) -> Result<Vec<Value>> {
        dynamic::resolve(&self.root, &self.env(&StateInput::default(), None)).await
    }

    /// Every stream, static ones first.
    pub async fn streams(&self, state: &StateInput, catalog: Option<Arc<ConfiguredCatalog>>) -> Result<Vec<Arc<Stream>>> {
        let mut all = self.definitions()?;
        all.extend(self.dynamic_definitions().await?);
        self.made(all.clone(), &all, state, catalog)
    }

    /// Streams of chosen definitions. `all` says whose records others need: their answers are kept.
    pub fn made(
        &self,
        mut chosen: Vec<Value>,
        all: &[Value],
        state: &StateInput,
        catalog: Option<Arc<ConfiguredCatalog>>,
    ) -> Result<Vec<Arc<Stream>>> {
        cached::keep_parents(&mut chosen, all);
        let env = self.env(state, catalog);
        let groups = groups::of(&self.root);
        let mut streams = Vec::with_capacity(chosen.len());
        for (at, value) in chosen.iter().enumerate() {
            let component = Component::new(value, format!("streams[{at}]"))?;
            let mut stream = stream::build(&component, &env)?;
            stream.group = groups.get(&stream.name).cloned();
            streams.push(Arc::new(stream));
        }
        groups::check(&streams, &groups)?;
        Ok(streams)
    }

    /// How many partitions are read at once.
    pub fn width(&self) -> Result<Width> {
        let Some(level) = self.root.get("concurrency_level").filter(|l| is_true(l)) else { return Ok(Width { workers: 2 }) };
        let level = Component::new(level, "concurrency_level")?;
        let wrong = || level.error("default_concurrency is not a whole number");
        let most = level.integer("max_concurrency")?.filter(|n| *n != 0);
        let wanted = match level.field("default_concurrency") {
            Some(Value::String(text)) if text.contains("config") && most.is_none() => {
                return Err(level.error("a concurrency that comes from the config needs max_concurrency"));
            }
            Some(Value::String(_)) => {
                let value = level.required_template("default_concurrency")?.value(&self.build.scope())?;
                let value = value.as_i64().ok_or_else(wrong)?;
                most.map_or(value, |most| value.min(most))
            }
            _ => level.integer("default_concurrency")?.ok_or_else(wrong)?,
        };
        Ok(Width { workers: usize::try_from(wanted).unwrap_or(1).clamp(1, MOST_WORKERS) })
    }
}

/// Where nothing is said, a stream is a declarative one.
fn typed(mut stream: Value) -> Value {
    if let Some(fields) = stream.as_object_mut() {
        fields.entry("type").or_insert_with(|| "DeclarativeStream".into());
    }
    stream
}

/// More requests at once than any API takes.
const MOST_WORKERS: usize = 256;

/// The streams that a catalog asks for, in its order, and the names of those that are not there.
pub fn selected(streams: &[Arc<Stream>], catalog: &ConfiguredCatalog) -> (Vec<Arc<Stream>>, Vec<String>) {
    let by_name: HashMap<&str, &Arc<Stream>> = streams.iter().map(|s| (s.name.as_str(), s)).collect();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for asked in &catalog.streams {
        match by_name.get(asked.name()) {
            Some(stream) => found.push((*stream).clone()),
            None => missing.push(asked.name().to_owned()),
        }
    }
    (found, missing)
}

/// For a manifest without streams at all.
pub(crate) fn nothing_to_read() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the manifest has no streams for this config")
}
