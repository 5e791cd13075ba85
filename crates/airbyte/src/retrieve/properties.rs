//! Properties that a request names: all at once, or in chunks whose answers are put together.

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use linkspan_core::Result;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::{NoSchema, Retriever, Stream, Unordered};
use crate::{
    component::Component,
    dpath::{self, Step},
    python::text,
    record::Record,
    slice::Slice,
    template::Template,
    transform::Transform,
    truth::is_true,
    wiring::Build,
};

pub struct Properties {
    list: List,
    always: Vec<String>,
    chunking: Option<Chunking>,
    selector: Option<Vec<Transform>>,
    stream: String,
    build: Build,
}

enum List {
    Fixed(Vec<String>),
    Asked { retriever: Arc<dyn Retriever>, path: Vec<Template>, found: OnceCell<Vec<String>> },
}

struct Chunking {
    limit: Option<usize>,
    /// A limit of characters, or of properties.
    by_characters: bool,
    keys: Vec<String>,
}

impl Properties {
    /// The properties that a requester names, wherever it names them.
    pub fn build(requester: &Component<'_>, stream: &str, build: &Build) -> Result<Option<Self>> {
        if let Some(Value::Object(parameters)) = requester.field("request_parameters") {
            let mut named = parameters.iter().filter(|(_, value)| value.get("type").and_then(Value::as_str) == Some("QueryProperties"));
            if let Some((name, value)) = named.next() {
                if named.next().is_some() || requester.field("fetch_properties_from_endpoint").is_some() {
                    return Err(requester.error("a request names its properties once"));
                }
                let component = Component::new(value, format!("{}.request_parameters.{name}", requester.path()))?;
                return Self::of(&component, stream, build).map(Some);
            }
        }
        if let Some(endpoint) = requester.child("fetch_properties_from_endpoint")? {
            let list = List::asked(&endpoint, build)?;
            let stream = stream.to_owned();
            return Ok(Some(Self { list, always: Vec::new(), chunking: None, selector: None, stream, build: build.clone() }));
        }
        requester.child("query_properties")?.map(|c| Self::of(&c, stream, build)).transpose()
    }

    fn of(component: &Component<'_>, stream: &str, build: &Build) -> Result<Self> {
        let list = match component.field("property_list") {
            Some(Value::Array(_)) | None => List::Fixed(owned(component.texts("property_list")?)),
            Some(_) => List::asked(&component.required("property_list")?, build)?,
        };
        let selector = match component.child("property_selector")? {
            Some(selector) => Some(selector.children("transformations")?.iter().map(Transform::build).collect::<Result<_>>()?),
            None => None,
        };
        Ok(Self {
            list,
            always: owned(component.texts("always_include_properties")?),
            chunking: component.child("property_chunking")?.map(|c| Chunking::build(&c)).transpose()?,
            selector,
            stream: stream.to_owned(),
            build: build.clone(),
        })
    }

    /// The slice once for every chunk, with the chunk's properties riding along.
    pub async fn slices(&self, slice: &Slice) -> Result<Vec<Slice>> {
        let chunks = self.chunks(&self.listed().await?, self.selected()?.as_ref());
        let with = |chunk: Vec<String>| {
            let extra: Map<String, Value> = [("query_properties".to_owned(), chunk.into())].into_iter().collect();
            Slice::new(slice.partition().clone(), slice.cursor().clone(), extra)
        };
        chunks.into_iter().map(with).collect()
    }

    async fn listed(&self) -> Result<Vec<String>> {
        match &self.list {
            List::Fixed(names) => Ok(names.clone()),
            List::Asked { retriever, path, found } => {
                let names = found.get_or_try_init(|| async {
                    let mut names = Vec::new();
                    let mut pages = retriever.clone().pages(Arc::new(Slice::empty()));
                    let scope = self.build.scope();
                    let path = path.iter().map(|step| step.value(&scope).map(|v| Step::of(&v))).collect::<Result<Vec<_>>>()?;
                    while let Some(page) = pages.next().await {
                        for record in page? {
                            let value = record.value();
                            names.push(dpath::get(&value, &path)?.map_or_else(|| "[]".to_owned(), text));
                        }
                    }
                    Ok::<_, linkspan_core::Error>(names)
                });
                names.await.cloned()
            }
        }
    }

    /// The fields of the configured stream; `None` where nobody chose.
    fn selected(&self) -> Result<Option<HashSet<String>>> {
        let Some(transforms) = &self.selector else { return Ok(None) };
        let streams = self.build.catalog.get("streams").and_then(Value::as_array);
        let configured = streams.into_iter().flatten().map(|s| &s["stream"]).find(|s| s["name"] == self.stream.as_str());
        let Some(configured) = configured else { return Ok(None) };
        let mut properties = configured["json_schema"].get("properties").cloned().unwrap_or_else(|| Map::new().into());
        for transform in transforms {
            transform.apply(&mut properties, &Slice::empty(), &self.build)?;
        }
        Ok(Some(properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()))
    }

    fn chunks(&self, names: &[String], selected: Option<&HashSet<String>>) -> Vec<Vec<String>> {
        let wanted = |name: &&String| selected.is_none_or(|s| s.contains(*name));
        let Some(chunking) = &self.chunking else {
            return vec![self.always.iter().chain(names.iter().filter(wanted)).cloned().collect()];
        };
        let Some(limit) = chunking.limit.filter(|l| *l > 0) else {
            return vec![names.iter().chain(&self.always).cloned().collect()];
        };
        let (mut chunks, mut chunk, mut size) = (Vec::new(), self.always.clone(), 0);
        for name in names.iter().filter(wanted) {
            // A comma beside a name may be written with three characters.
            let cost = if chunking.by_characters { name.chars().count() + 3 } else { 1 };
            if size + cost > limit {
                chunks.push(std::mem::replace(&mut chunk, self.always.clone()));
                size = 0;
            }
            chunk.push(name.clone());
            size += cost;
        }
        chunks.push(chunk);
        chunks
    }

    /// By which key a record's parts are put together; `None` when it stands alone.
    pub fn merge_key(&self, record: &Record) -> Option<String> {
        let chunking = self.chunking.as_ref()?;
        let parts = chunking.keys.iter().map(|key| record.field(key).filter(|v| is_true(v)).map(|v| text(&v)));
        parts.collect::<Option<Vec<_>>>().map(|parts| parts.join(","))
    }
}

impl List {
    fn asked(component: &Component<'_>, build: &Build) -> Result<Self> {
        let mut cached = Value::Object(component.required("retriever")?.fields().clone());
        if let Some(Value::Object(requester)) = cached.get_mut("requester") {
            requester.insert("use_cache".into(), true.into());
        }
        let nothing = Value::Object(Map::new());
        let stream = Stream {
            name: "dynamic_properties",
            component: &Component::new(&nothing, component.path())?,
            order: Arc::new(Unordered),
            schema: Arc::new(NoSchema),
            is_client_side_incremental: false,
            is_data_feed: false,
            has_state: false,
        };
        let retriever = Component::new(&cached, format!("{}.retriever", component.path()))?;
        Ok(Self::Asked {
            retriever: super::build(&retriever, stream, build)?,
            path: component.templates("property_field_path")?,
            found: OnceCell::new(),
        })
    }
}

impl Chunking {
    fn build(component: &Component<'_>) -> Result<Self> {
        let by_characters = match component.text("property_limit_type")?.unwrap_or("property_count") {
            "characters" => true,
            "property_count" => false,
            other => return Err(component.error("not a kind of limit").with("property_limit_type", other)),
        };
        let keys = match component.child("record_merge_strategy")? {
            None => vec!["id".to_owned()],
            Some(strategy) if strategy.kind() == "GroupByKeyMergeStrategy" => match strategy.field("key") {
                Some(Value::String(key)) => vec![key.clone()],
                _ => owned(strategy.texts("key")?),
            },
            Some(strategy) => return Err(strategy.unknown_kind()),
        };
        Ok(Self { limit: component.integer("property_limit")?.and_then(|l| usize::try_from(l).ok()), by_characters, keys })
    }
}

fn owned(texts: Option<Vec<&str>>) -> Vec<String> {
    texts.unwrap_or_default().into_iter().map(Into::into).collect()
}

/// Records that were put together, in the order in which their keys came.
#[derive(Default)]
pub struct Merged(Map<String, Value>);

impl Merged {
    pub fn add(&mut self, key: String, record: Record) {
        let value = record.into_value();
        match self.0.get_mut(&key) {
            Some(known) => merge(known, value),
            None => drop(self.0.insert(key, value)),
        }
    }
    pub fn records(self) -> impl Iterator<Item = Record> {
        self.0.into_iter().map(|(_, value)| value.into())
    }
}

/// Objects grow into each other; of anything else the later one stays.
fn merge(known: &mut Value, value: Value) {
    match (known, value) {
        (Value::Object(known), Value::Object(value)) => {
            for (key, value) in value {
                match known.get_mut(&key) {
                    Some(inner) => merge(inner, value),
                    None => drop(known.insert(key, value)),
                }
            }
        }
        (known, value) => *known = value,
    }
}
