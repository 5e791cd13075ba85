//! A schema that the API itself describes: the first record of a request, read as a list of properties.

use std::sync::Arc;

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::{
    component::Component,
    dpath::{self, Step},
    retrieve::{self, NoSchema, Retriever, Stream, Unordered},
    slice::Slice,
    template::{Condition, Template},
    transform::Transform,
    wiring::Build,
};

pub struct Dynamic {
    retriever: Arc<dyn Retriever>,
    schema_pointer: Vec<Template>,
    key_pointer: Vec<Template>,
    type_pointer: Vec<Template>,
    types: Vec<TypeRule>,
    transforms: Vec<Transform>,
    filter: Option<Condition>,
    build: Build,
}

/// Which type of the API becomes which type of ours.
struct TypeRule {
    current: Value,
    target: Value,
    condition: Option<Condition>,
}

impl Dynamic {
    pub fn build(component: &Component<'_>, build: &Build) -> Result<Self> {
        let identifier = component.required("schema_type_identifier")?;
        let retriever = component.required("retriever")?;
        // Several streams ask for the same description: it is kept for the sync.
        let mut cached = Value::Object(retriever.fields().clone());
        if let Some(Value::Object(requester)) = cached.get_mut("requester") {
            requester.insert("use_cache".into(), true.into());
        }
        let retriever = Component::new(&cached, retriever.path())?;
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
        Ok(Self {
            retriever: retrieve::build(&retriever, stream, build)?,
            schema_pointer: identifier.templates("schema_pointer")?,
            key_pointer: identifier.templates("key_pointer")?,
            type_pointer: identifier.templates("type_pointer")?,
            types: identifier.children("types_mapping")?.iter().map(TypeRule::build).collect::<Result<_>>()?,
            transforms: component.children("schema_transformations")?.iter().map(Transform::build).collect::<Result<_>>()?,
            filter: component.child("schema_filter")?.map(|f| f.condition("condition")).transpose()?.flatten(),
            build: build.clone(),
        })
    }

    pub async fn load(&self) -> Result<Value> {
        let described = self.described().await?;
        let mut properties = Map::new();
        for property in described.as_array().into_iter().flatten() {
            let key = self.at(property, &self.key_pointer)?;
            let Some(Value::String(key)) = key else { return Err(odd("a property of the described schema has no name")) };
            let kind = if self.type_pointer.is_empty() { None } else { self.at(property, &self.type_pointer)? };
            properties.insert(key, self.schema_of(kind.unwrap_or_else(|| "string".into()), property)?);
        }
        let mut properties = Value::Object(self.filtered(properties)?);
        for transform in &self.transforms {
            transform.apply(&mut properties, &Slice::empty(), &self.build)?;
        }
        Ok(json!({
            "$schema": "https://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": true, "properties": properties,
        }))
    }

    async fn described(&self) -> Result<Value> {
        let mut pages = self.retriever.clone().pages(Arc::new(Slice::empty()));
        while let Some(page) = pages.next().await {
            if let Some(record) = page?.into_iter().next() {
                let found = self.at(&record.value(), &self.schema_pointer)?;
                // An object described by its members is a list of its names.
                return Ok(match found {
                    Some(Value::Object(map)) => map.into_iter().map(|(key, _)| Value::from(key)).collect(),
                    found => found.unwrap_or(Value::Null),
                });
            }
        }
        Ok(Value::Null)
    }

    fn at(&self, body: &Value, pointer: &[Template]) -> Result<Option<Value>> {
        let scope = self.build.scope();
        let path = pointer.iter().map(|step| step.value(&scope).map(|v| Step::of(&v))).collect::<Result<Vec<_>>>()?;
        Ok(dpath::get(body, &path)?.cloned())
    }

    fn filtered(&self, properties: Map<String, Value>) -> Result<Map<String, Value>> {
        let Some(filter) = &self.filter else { return Ok(properties) };
        let mut kept = Map::new();
        for (name, property) in properties {
            let one = json!({ name.as_str(): property });
            let slice = Slice::empty();
            if filter.eval(&self.build.scope().record(&one).slice(&slice).next_page_token(&Value::Null))? {
                kept.insert(name, property);
            }
        }
        Ok(kept)
    }

    fn schema_of(&self, kind: Value, property: &Value) -> Result<Value> {
        let mut kind = kind;
        for rule in &self.types {
            let holds = || rule.condition.as_ref().map_or(Ok(true), |c| c.eval(&self.build.scope().with("raw_schema", property)));
            if kind == rule.current && holds()? {
                kind = rule.target.clone();
                break;
            }
        }
        match &kind {
            Value::String(name) => schema_named(name),
            Value::Array(two) if two.len() == 2 && two.iter().all(Value::is_string) => {
                let named = |at: usize| schema_named(two[at].as_str().unwrap_or_default());
                Ok(json!({"oneOf": [named(0)?, named(1)?]}))
            }
            Value::Object(_) => complex(&kind),
            _ => Err(odd("a property of the described schema has a type that is none")),
        }
    }
}

impl TypeRule {
    fn build(component: &Component<'_>) -> Result<Self> {
        let field = |name: &str| {
            component.field(name).cloned().ok_or_else(|| component.error("a rule for types needs current_type and target_type"))
        };
        Ok(Self { current: field("current_type")?, target: field("target_type")?, condition: component.condition("condition")? })
    }
}

fn complex(kind: &Value) -> Result<Value> {
    let mut schema = schema_named(kind.get("field_type").and_then(Value::as_str).unwrap_or_default())?;
    let items = match kind.get("items") {
        None | Some(Value::Null) => return Ok(schema),
        Some(Value::String(name)) => schema_named(name)?,
        Some(inner) => complex(inner)?,
    };
    schema["items"] = items;
    Ok(schema)
}

fn schema_named(name: &str) -> Result<Value> {
    let nullable = |kind: &str| json!({"type": ["null", kind]});
    let formatted = |format: &str, zoneless: Option<&str>| {
        let mut schema = json!({"type": ["null", "string"], "format": format});
        if let Some(name) = zoneless {
            schema["airbyte_type"] = name.into();
        }
        schema
    };
    Ok(match name {
        "string" | "boolean" | "integer" | "number" | "array" | "object" => nullable(name),
        "date" => formatted("date", None),
        "timestamp_with_timezone" => formatted("date-time", None),
        "timestamp_without_timezone" => formatted("date-time", Some(name)),
        "time_without_timezone" | "time_with_timezone" => formatted("time", Some(name)),
        _ => return Err(odd("a property of the described schema has an unknown type").with("type", name)),
    })
}

fn odd(message: &'static str) -> Error {
    Error::new(ErrorKind::DataInvalid, message).fix("map the API's types with types_mapping")
}
