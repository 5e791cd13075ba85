//! What a manifest says a request is made of: parameters, headers, a body.

use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{
    component::Component,
    inject::{Inject, Part},
    template::{Mapping, NestedMapping, Scope, Template, Types},
};

/// A part of a request as the manifest writes it.
enum Source {
    Nothing,
    Text(Template),
    Fields(Mapping),
    Tree(NestedMapping),
}

/// The four parts.
pub struct Input {
    parameters: Source,
    headers: Source,
    data: Source,
    json: Source,
    /// The parameter that a chunk of properties goes into.
    properties: Option<String>,
}

/// Texts and lists are read as such in parameters and forms; numbers stay their text.
const SENT: Types = Types::TEXT.or(Types::LIST);

impl Input {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let (data, json) = bodies(component)?;
        if !matches!(data, Source::Nothing) && !matches!(json, Source::Nothing) {
            return Err(component.error("a request has one body").fix("keep either request_body_data or request_body_json"));
        }
        let (parameters, properties) = parameters(component)?;
        Ok(Self { parameters, headers: flat(component, "request_headers")?, data, json, properties })
    }

    pub fn part(&self, into: Inject, scope: &Scope<'_>, extra: &Map<String, Value>) -> Result<Part> {
        match into {
            Inject::Parameter => {
                let part = self.parameters.eval(scope, SENT)?;
                let Part::Fields(mut fields) = part else { return Ok(Part::default()) };
                if let (Some(name), Some(Value::Array(chunk))) = (&self.properties, extra.get("query_properties")) {
                    let names: Vec<_> = chunk.iter().map(crate::python::text).collect();
                    fields.insert(name.clone(), names.join(",").into());
                }
                Ok(Part::Fields(fields))
            }
            Inject::Header => self.headers.eval(scope, Types::ANY),
            // An empty text is no body; among headers and in a JSON body it is a text in the wrong place.
            Inject::BodyData => match self.data.eval(scope, SENT)? {
                Part::Text(text) if text.is_empty() => Ok(Part::default()),
                part => Ok(part),
            },
            Inject::BodyJson => self.json.eval(scope, Types::ANY),
        }
    }
}

impl Source {
    fn eval(&self, scope: &Scope<'_>, types: Types) -> Result<Part> {
        Ok(match self {
            Self::Nothing => Part::default(),
            Self::Text(template) => read(template.value(scope)?),
            Self::Fields(mapping) => {
                let mut fields = mapping.eval_typed(scope, types)?;
                fields.retain(|_, value| !value.is_null());
                Part::Fields(fields)
            }
            Self::Tree(tree) => read(tree.eval(scope)?),
        })
    }
}

/// An object is fields, a text is itself, also an empty one; anything else says nothing.
fn read(value: Value) -> Part {
    match value {
        Value::Object(fields) => Part::Fields(fields),
        Value::String(text) => Part::Text(text),
        _ => Part::default(),
    }
}

fn flat(component: &Component<'_>, field: &str) -> Result<Source> {
    match component.field(field) {
        None => Ok(Source::Nothing),
        Some(Value::Object(fields)) if fields.is_empty() => Ok(Source::Nothing),
        Some(Value::Object(_)) => Ok(component.mapping(field)?.map_or(Source::Nothing, Source::Fields)),
        Some(Value::String(text)) if text.is_empty() => Ok(Source::Nothing),
        Some(_) => component.required_template(field).map(Source::Text),
    }
}

fn tree(component: &Component<'_>, field: &str) -> Result<Source> {
    match component.field(field) {
        None => Ok(Source::Nothing),
        Some(Value::Object(fields)) if fields.is_empty() => Ok(Source::Nothing),
        Some(Value::String(text)) if text.is_empty() => Ok(Source::Nothing),
        Some(Value::String(_)) => component.required_template(field).map(Source::Text),
        Some(_) => Ok(component.nested_mapping(field)?.map_or(Source::Nothing, Source::Tree)),
    }
}

fn bodies(component: &Component<'_>) -> Result<(Source, Source)> {
    let Some(body) = component.child("request_body")? else {
        return Ok((flat(component, "request_body_data")?, tree(component, "request_body_json")?));
    };
    match body.kind() {
        "RequestBodyUrlEncodedForm" | "RequestBodyPlainText" => Ok((flat(&body, "value")?, tree(component, "request_body_json")?)),
        "RequestBodyJsonObject" | "RequestBodyGraphQL" => Ok((flat(component, "request_body_data")?, tree(&body, "value")?)),
        _ => Err(body.unknown_kind()),
    }
}

/// The parameters, without the one that is a list of properties to be asked for in chunks.
fn parameters(component: &Component<'_>) -> Result<(Source, Option<String>)> {
    let Some(Value::Object(fields)) = component.field("request_parameters") else {
        return Ok((flat(component, "request_parameters")?, None));
    };
    let is_properties = |value: &Value| value.get("type").and_then(Value::as_str) == Some("QueryProperties");
    let chunked = fields.iter().find(|(_, value)| is_properties(value)).map(|(name, _)| name.clone());
    let plain: Map<String, Value> = fields.iter().filter(|(_, v)| !is_properties(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let source = if plain.is_empty() { Source::Nothing } else { Source::Fields(Mapping::parse(&plain, component.parameters())?) };
    Ok((source, chunked))
}
