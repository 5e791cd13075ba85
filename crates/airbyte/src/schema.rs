//! Schema loaders: what a stream's records look like, from the manifest, from files beside it, or from the API.

mod dynamic;
mod file;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::{component::Component, retrieve::Schema, template::Template, wiring::Build};

use dynamic::Dynamic;

/// A stream's schema, loaded once.
pub struct Loader {
    sources: Vec<Source>,
    /// Whether the manifest lists several loaders: their properties are put together.
    is_composite: bool,
    loaded: OnceCell<Arc<Value>>,
    build: Build,
}

enum Source {
    Inline(Value),
    File(Template),
    /// A file named after the stream; no file is an empty schema.
    Default(String),
    Dynamic(Box<Dynamic>),
}

impl Loader {
    /// The loader of a stream's component.
    pub fn build(stream: &Component<'_>, build: &Build) -> Result<Self> {
        let components = stream.children("schema_loader")?;
        let is_composite = matches!(stream.field("schema_loader"), Some(Value::Array(_)));
        let mut sources = components.iter().map(|c| Source::build(c, build)).collect::<Result<Vec<_>>>()?;
        if components.is_empty() && !is_composite {
            let named = stream.parameters().get("name").and_then(Value::as_str);
            sources.push(Source::Default(named.map_or_else(|| stream.text("name"), |n| Ok(Some(n)))?.unwrap_or_default().to_owned()));
        }
        Ok(Self { sources, is_composite, loaded: OnceCell::new(), build: build.clone() })
    }

    /// The schema; asked for at most once, however many ask.
    pub async fn schema(&self) -> Result<Arc<Value>> {
        self.loaded.get_or_try_init(|| async { self.load().await.map(Arc::new) }).await.cloned()
    }

    async fn load(&self) -> Result<Value> {
        let [source] = self.sources.as_slice() else { return self.composed().await };
        if self.is_composite { self.composed().await } else { source.load(&self.build).await }
    }

    /// Earlier loaders win over later ones.
    async fn composed(&self) -> Result<Value> {
        let mut properties = Map::new();
        for source in &self.sources {
            let schema = source.load(&self.build).await?;
            let Some(Value::Object(found)) = schema.get("properties") else {
                return Err(Error::new(ErrorKind::ConfigInvalid, "one of several schemas has no properties"));
            };
            for (name, property) in found {
                properties.entry(name.clone()).or_insert_with(|| property.clone());
            }
        }
        Ok(json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": ["null", "object"], "properties": properties}))
    }
}

#[async_trait]
impl Schema for Loader {
    async fn schema(&self) -> Result<Arc<Value>> {
        Self::schema(self).await
    }
}

impl Source {
    fn build(component: &Component<'_>, build: &Build) -> Result<Self> {
        match component.kind() {
            "InlineSchemaLoader" => Ok(Self::Inline(component.field("schema").cloned().unwrap_or_else(|| json!({})))),
            "JsonFileSchemaLoader" => match component.template("file_path")?.filter(|t| !t.source().is_empty()) {
                Some(path) => Ok(Self::File(path)),
                None => Template::parse("./{{ parameters['name'] }}.json", component.parameters()).map(Self::File),
            },
            "DynamicSchemaLoader" => Dynamic::build(component, build).map(Box::new).map(Self::Dynamic),
            _ => Err(component.unknown_kind()),
        }
    }

    async fn load(&self, build: &Build) -> Result<Value> {
        match self {
            Self::Inline(schema) => Ok(schema.clone()),
            Self::File(path) => file::load(&build.text(path)?, build.folder.as_deref()).await,
            Self::Default(stream) => match file::load(&format!("{stream}.json"), build.folder.as_deref()).await {
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConfigInvalid) => Ok(json!({})),
                loaded => loaded,
            },
            Self::Dynamic(dynamic) => dynamic.load().await,
        }
    }
}
