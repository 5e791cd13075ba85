//! Streams that are not in the manifest: a template, filled in from an API's answer, the config, or a list of parameters.

mod mapping;

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::{
    component::Component,
    manifest::{self, Precedence},
    partition::{self, ParentStream, Routing},
    path, retrieve,
    slice::Slice,
    stream::{self, Env},
};
use mapping::Filling;

/// Which definition a stream came from, in the stream's own value.
pub const ORIGIN: &str = "dynamic_stream_name";

/// More streams than any API has kinds of things.
const MOST: usize = 10_000;

/// The streams of a manifest's dynamic definitions, each as a component's value.
pub async fn resolve(root: &Value, env: &Env) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut names = HashSet::new();
    let definitions = root.get("dynamic_streams").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (at, definition) in definitions.iter().enumerate() {
        let definition = Component::new(definition, format!("dynamic_streams[{at}]"))?;
        let origin = definition.text("name")?.map_or_else(|| format!("dynamic_stream_{at}"), str::to_owned);
        for filled in of_definition(&definition, env).await? {
            let stream = finished(filled, &definition, &origin)?;
            let name = stream["name"].as_str().ok_or_else(|| definition.error("a dynamic stream has no name that is a text"))?;
            if !names.insert(name.to_owned()) {
                return Err(twice(&definition, name));
            }
            if names.len() > MOST {
                return Err(definition.error("too many dynamic streams").with("limit", MOST));
            }
            found.push(stream);
        }
    }
    Ok(found)
}

fn twice(definition: &Component<'_>, name: &str) -> Error {
    let from_config = definition.child("components_resolver").ok().flatten().is_some_and(|r| r.kind() == "ConfigComponentsResolver");
    let kind = if from_config { ErrorKind::ConfigInvalid } else { ErrorKind::DataInvalid };
    let fix = if from_config { "give every stream of the config a name of its own" } else { "the manifest must make names that differ" };
    Error::new(kind, "two dynamic streams have the same name").with("stream", name).fix(fix)
}

/// Types and parameters in place, as in the manifest itself.
fn finished(filled: Value, definition: &Component<'_>, origin: &str) -> Result<Value> {
    let uses_parents = definition.flag("use_parent_parameters")?.unwrap_or(true);
    let mut stream = manifest::propagated(filled, if uses_parents { Precedence::Parents } else { Precedence::Own });
    if let Some(fields) = stream.as_object_mut() {
        fields.entry("type").or_insert_with(|| "DeclarativeStream".into());
        fields.insert(ORIGIN.into(), origin.into());
    }
    Ok(stream)
}

async fn of_definition(definition: &Component<'_>, env: &Env) -> Result<Vec<Value>> {
    let resolver = definition.required("components_resolver")?;
    let template = definition.field("stream_template").ok_or_else(|| definition.error("stream_template is missing"))?;
    let filling = Filling::build(&resolver, template, env.build.clone())?;
    match resolver.kind() {
        "HttpComponentsResolver" => from_answers(definition, &resolver, &filling, env).await,
        "ConfigComponentsResolver" => combinations(&resolver, env)?.iter().map(|values| filling.parsed(values)).collect(),
        "ParametrizedComponentsResolver" => {
            let parameters = resolver.required("stream_parameters")?;
            let list = parameters.field("list_of_parameters_for_stream").and_then(Value::as_array);
            list.ok_or_else(|| parameters.error("list_of_parameters_for_stream is missing"))?
                .iter()
                .map(|values| filling.parsed(values))
                .collect()
        }
        _ => Err(resolver.unknown_kind()),
    }
}

async fn from_answers(definition: &Component<'_>, resolver: &Component<'_>, filling: &Filling, env: &Env) -> Result<Vec<Value>> {
    let mut value = Value::Object(resolver.fields().clone());
    if let Some(requester) = value["retriever"].get_mut("requester").and_then(Value::as_object_mut) {
        requester.insert("use_cache".into(), true.into());
    }
    let resolver = Component::new(&value, resolver.path())?;
    let retriever = resolver.required("retriever")?;
    let parent =
        |config: &Component<'_>| -> Result<Arc<dyn ParentStream>> { Ok(Arc::new(stream::build(&config.required("stream")?, env)?)) };
    let router = Arc::new(partition::build(&retriever, &Routing { build: &env.build, parent: &parent })?);
    let name = definition.text("name")?.unwrap_or("__http_components_resolver");
    let bare = json!({"type": "DeclarativeStream", "name": name});
    let bare = Component::new(&bare, resolver.path())?;
    let asked = retrieve::Stream {
        name,
        component: &bare,
        order: stream::of_router(router.clone(), &env.build),
        schema: Arc::new(retrieve::NoSchema),
        is_client_side_incremental: false,
        is_data_feed: false,
        has_state: false,
    };
    let retriever = retrieve::build(&retriever, asked, &env.build)?;
    let mut slices = retriever.clone().partitions(router.slices());
    let mut found = Vec::new();
    while let Some(slice) = slices.next().await {
        let slice = slice?;
        let mut pages = retriever.clone().pages(slice.clone());
        while let Some(page) = pages.next().await {
            for record in page? {
                found.push(filling.plain(&record.into_value(), &slice)?);
            }
            if found.len() > MOST {
                return Err(definition.error("too many dynamic streams").with("limit", MOST));
            }
        }
    }
    Ok(found)
}

/// Every combination of what the config holds at each pointer.
fn combinations(resolver: &Component<'_>, env: &Env) -> Result<Vec<Value>> {
    let mut all: Vec<Map<String, Value>> = vec![Map::new()];
    for (at, pointed) in resolver.children("stream_config")?.iter().enumerate() {
        let items = pointed_items(pointed, env)?;
        if all.len().saturating_mul(items.len()) > MOST {
            return Err(resolver.error("too many dynamic streams").with("limit", MOST));
        }
        all = all.iter().flat_map(|so_far| items.iter().enumerate().map(move |(index, item)| with_item(so_far, at, index, item))).collect();
    }
    Ok(all.into_iter().map(Value::Object).collect())
}

fn pointed_items(pointed: &Component<'_>, env: &Env) -> Result<Vec<Value>> {
    let scope = env.build.scope();
    let way = pointed.templates("configs_pointer")?.iter().map(|t| t.text(&scope)).collect::<Result<Vec<_>>>()?;
    let mut items = match path::get(&env.build.config, &way)? {
        Some(Value::Array(items)) => items.clone(),
        Some(other) => vec![other.clone()],
        None => vec![],
    };
    if let Some(Value::Array(defaults)) = pointed.field("default_values") {
        items.extend(defaults.iter().cloned());
    }
    Ok(items)
}

/// Fields of an object join the others'; anything else goes under a name of its own, with its index.
fn with_item(so_far: &Map<String, Value>, at: usize, index: usize, item: &Value) -> Map<String, Value> {
    let mut joined = so_far.clone();
    match item {
        Value::Object(fields) => joined.extend(fields.clone()),
        other => {
            joined.entry(format!("source_config_{at}")).or_insert_with(|| json!([index, other]));
        }
    }
    joined
}

impl Filling {
    /// A template filled with what an API answered: only places that are there already.
    fn plain(&self, values: &Value, slice: &Slice) -> Result<Value> {
        self.fill(values, Some(slice), |filled, _, way, value| {
            path::set(filled, way, &value);
            Ok(())
        })
    }

    /// A template filled with values that may be YAML, at places that may be new.
    fn parsed(&self, values: &Value) -> Result<Value> {
        self.fill(values, None, |filled, mapping, way, value| {
            let value = mapping.parsed(value);
            if path::set(filled, way, &value) == 0 && mapping.creates && crate::truth::is_true(&value) {
                path::create(filled, way, value)?;
            }
            Ok(())
        })
    }
}
