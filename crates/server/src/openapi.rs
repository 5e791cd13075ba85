//! The description of every route for programs: OpenAPI 3.1, read from the table.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use linkspan_app::{Access, Done, Face, Nothing, Operation, Run};
use linkspan_core::{Body, Effect, Result};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::limits::KEY_LENGTH;

const FORM: &str = "multipart/form-data";

/// The document as it is sent.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Document(#[allow(dead_code, reason = "only its schema is read")] Map<String, Value>);

/// The document of the router that answers; lies in the request's extensions.
#[derive(Clone, Debug)]
pub struct Described(pub Bytes);

pub fn operation() -> Operation {
    Operation::get("openapi", "/v1/openapi.json", Access::Anonymous, "This API as an OpenAPI 3.1 document.").raw::<Nothing, Document, _>(
        |_, _, request| async move {
            let text = request.extensions().get::<Described>().map(|d| d.0.clone()).unwrap_or_default();
            let mut response = Response::new(Body::Full(text));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Result::Ok(response)
        },
    )
}

/// The document of these operations.
pub fn document(operations: &[Operation], version: &str) -> Value {
    let mut components = Components::default();
    let (mut paths, mut tags) = (Map::new(), vec![]);
    for operation in operations.iter().filter(|o| o.has(Face::Http)) {
        let item = described(operation, &mut components);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = item;
        if !tags.contains(&tag(operation)) {
            tags.push(tag(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": { "title": "Linkspan", "version": version, "summary": "Connectors, connections, schedules and runs behind one API.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" } },
        "servers": [{ "url": "/" }],
        "tags": tags.iter().map(|t| json!({ "name": t })).collect::<Vec<_>>(),
        "paths": paths,
        "components": { "schemas": components.schemas, "responses": responses(), "parameters": parameters(),
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer",
                "description": "A session's token (`POST /v1/auth/login`) or an API key." } } },
    })
}

/// The noun that an operation is about: `connectors` of `connectors.list`.
fn tag(operation: &Operation) -> &'static str {
    match operation.name.split_once('.') {
        // The paths of other hubs.
        Some(("api" | "connect", _)) => "other hubs",
        Some((noun, _)) => noun,
        None => "service",
    }
}

fn described(operation: &Operation, components: &mut Components) -> Value {
    let input = components.hoisted(operation.name, operation.input());
    let body = body_of(operation, &input);
    let mut item = json!({
        "operationId": operation.name,
        "summary": operation.doc,
        "tags": [tag(operation)],
        "parameters": parameters_of(operation, &input),
        "responses": { success(operation).to_string(): answer(operation, components),
            "4XX": { "$ref": "#/components/responses/Refused" }, "5XX": { "$ref": "#/components/responses/Failed" } },
        "security": match operation.access { Access::Anonymous => json!([]), _ => json!([{ "bearer": [] }]) },
    });
    if let Some(body) = body {
        item["requestBody"] = body;
    }
    if let Access::Scoped(scope) | Access::Installation(scope) = operation.access {
        item["x-scope"] = json!(scope.as_str());
        item["x-least-role"] = json!(linkspan_app::word(scope.least_role()));
    }
    if let Some(cli) = operation.cli {
        item["x-command"] = json!(command(cli.words, cli.positional));
    }
    item
}

fn command(words: &str, positional: &[&str]) -> String {
    let places: String = positional.iter().map(|p| format!(" {}", p.to_uppercase())).collect();
    format!("linkspan {words}{places}")
}

fn success(operation: &Operation) -> u16 {
    match operation.done {
        Done::Ok => 200,
        Done::Created(_) => 201,
        Done::Accepted(_) => 202,
        Done::Empty => 204,
    }
}

fn answer(operation: &Operation, components: &mut Components) -> Value {
    let description = match operation.done {
        Done::Ok => "Done.",
        Done::Created(_) => "Made; `Location` says where it is.",
        Done::Accepted(_) => "Taken on; `Location` says where its progress is.",
        Done::Empty => return json!({ "description": "Done; nothing to say." }),
    };
    let schema = components.named(operation.name, operation.output());
    let content = match &operation.run {
        Run::Watch(_) => {
            // Events without a name carry the items; the last one is `end`, or `error` with the error.
            let last = json!({ "type": "object", "maxProperties": 0 });
            let error = json!({ "$ref": "#/components/schemas/Error" });
            let data = json!({ "type": "string", "contentMediaType": "application/json",
                "contentSchema": { "anyOf": [schema.clone(), last, error] } });
            let event = json!({ "type": "object", "properties": { "event": { "type": "string" }, "data": data } });
            json!({ "text/event-stream": { "schema": event }, "application/x-ndjson": { "schema": schema } })
        }
        _ => json!({ media_type(&operation.output()): { "schema": schema } }),
    };
    json!({ "description": description, "content": content })
}

/// What a schema says of its own wire form; JSON when it says nothing.
fn media_type(schema: &Value) -> String {
    schema["contentMediaType"].as_str().unwrap_or("application/json").to_owned()
}

fn in_body(method: &Method) -> bool {
    *method != Method::GET && *method != Method::DELETE
}

fn fields(input: &Value) -> impl Iterator<Item = (&String, &Value)> {
    input["properties"].as_object().into_iter().flatten()
}

fn required(input: &Value, field: &str) -> bool {
    input["required"].as_array().is_some_and(|all| all.iter().any(|r| r == field))
}

fn parameters_of(operation: &Operation, input: &Value) -> Vec<Value> {
    let placeholders = operation.placeholders();
    let mut all: Vec<Value> = vec![];
    for (name, schema) in fields(input) {
        let place = match placeholders.contains(&name.as_str()) {
            true => "path",
            false if in_body(&operation.method) => continue,
            false => "query",
        };
        let mut parameter = json!({ "name": name, "in": place, "required": place == "path" || required(input, name), "schema": schema });
        if let Some(text) = schema["description"].as_str() {
            parameter["description"] = json!(text);
        }
        all.push(parameter);
    }
    let shared = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
    if operation.access != Access::Anonymous {
        all.push(shared("Project"));
    }
    // Of the rows that read their request themselves, those that take a form remember it.
    let remembers = !matches!(operation.run, Run::Raw(_)) || media_type(input) == FORM;
    if operation.effect == Effect::Changes && in_body(&operation.method) && remembers {
        all.push(shared("IdempotencyKey"));
    }
    if [Method::PATCH, Method::PUT, Method::DELETE].contains(&operation.method) {
        all.push(shared("IfMatch"));
    }
    all
}

fn body_of(operation: &Operation, input: &Value) -> Option<Value> {
    let placeholders = operation.placeholders();
    if !in_body(&operation.method) {
        return None;
    }
    let (media, open) = (media_type(input), input["additionalProperties"] == true);
    let mut schema = input.clone();
    if schema.get("properties").is_none() {
        schema["properties"] = json!({});
    }
    let properties = schema["properties"].as_object_mut()?;
    properties.retain(|name, _| !placeholders.contains(&name.as_str()));
    if properties.is_empty() && !open {
        return None;
    }
    let mut must = schema["required"].as_array().cloned().unwrap_or_default();
    must.retain(|name| !placeholders.iter().any(|p| name == p));
    let object = schema.as_object_mut()?;
    object.remove("title");
    object.remove("contentMediaType");
    match must.is_empty() {
        true => object.remove("required"),
        false => object.insert("required".into(), json!(must)),
    };
    Some(json!({ "required": !must.is_empty(), "content": { media: { "schema": schema } } }))
}

fn responses() -> Value {
    let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
    json!({
        "Refused": { "description": "The request cannot be served as it is; `suggested_fix` says what to change.", "content": content },
        "Failed": { "description": "It failed here or behind; the same request may succeed later.", "content": content },
    })
}

fn parameters() -> Value {
    json!({
        "Project": { "name": "Linkspan-Project", "in": "header", "schema": { "type": "string" },
            "description": "The project of the call; left out: the key's own, else `default`." },
        "IdempotencyKey": { "name": "Idempotency-Key", "in": "header",
            "schema": { "type": "string", "minLength": 1, "maxLength": KEY_LENGTH, "pattern": "^[!-~]+$" },
            "description": "The same key with the same body is answered as the first time; with another body it is refused." },
        "IfMatch": { "name": "If-Match", "in": "header", "schema": { "type": "string" },
            "description": "The `ETag` that the change was made from; refused when somebody else was faster." },
    })
}

/// Schemas that several operations share, by name.
struct Components {
    schemas: Map<String, Value>,
}

impl Default for Components {
    fn default() -> Self {
        let error = json!({
            "type": "object", "required": ["error"],
            "properties": { "error": {
                "type": "object", "required": ["kind", "message"],
                "properties": {
                    "kind": { "type": "string", "description": "What kind of remedy it takes." },
                    "message": { "type": "string" },
                    "suggested_fix": { "type": "string" },
                    "docs_url": { "type": "string" },
                    "context": { "type": "object", "additionalProperties": { "type": "string" } },
                } } },
        });
        Self { schemas: Map::from_iter([("Error".to_owned(), error)]) }
    }
}

impl Components {
    /// The schema with its definitions moved into the shared ones.
    fn hoisted(&mut self, operation: &str, mut schema: Value) -> Value {
        let Some(object) = schema.as_object_mut() else { return schema };
        object.remove("$schema");
        let Some(Value::Object(definitions)) = object.remove("$defs") else { return schema };
        let names: Vec<(String, String)> =
            definitions.iter().map(|(name, definition)| (name.clone(), self.free_name(operation, name, definition))).collect();
        for (definition, (_, name)) in definitions.into_iter().map(|(_, d)| d).zip(&names) {
            self.schemas.insert(name.clone(), renamed(definition, &names));
        }
        renamed(schema, &names)
    }
    /// The schema as a shared one of its own title, so that clients get one type for it.
    fn named(&mut self, operation: &str, schema: Value) -> Value {
        let schema = self.hoisted(operation, schema);
        let (Some(title), Some("object")) = (schema["title"].as_str(), schema["type"].as_str()) else { return schema };
        let name = self.free_name(operation, title, &schema);
        self.schemas.insert(name.clone(), schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
    /// The name itself, unless another schema has it already.
    fn free_name(&self, operation: &str, name: &str, schema: &Value) -> String {
        let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let same = |taken: &Value| bare(taken) == bare(&renamed(schema.clone(), &[]));
        match self.schemas.get(&clean) {
            Some(taken) if !same(taken) => format!("{}_{clean}", operation.replace('.', "_")),
            _ => clean,
        }
    }
}

/// A schema without its title: a root carries one, a definition does not.
fn bare(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
    }
    schema
}

/// References point at the shared schemas, under their names there.
fn renamed(mut schema: Value, names: &[(String, String)]) -> Value {
    match &mut schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                let target = value.as_str().and_then(|v| v.strip_prefix("#/$defs/")).filter(|_| key == "$ref").map(str::to_owned);
                *value = match target {
                    Some(old) => {
                        let new = names.iter().find(|(o, _)| *o == old).map_or(old.as_str(), |(_, n)| n);
                        json!(format!("#/components/schemas/{new}"))
                    }
                    None => renamed(value.take(), names),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = renamed(item.take(), names)),
        _ => {}
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_definitions_are_shared_and_others_keep_apart() {
        let mut components = Components::default();
        let with =
            |kind: &str| json!({ "type": "object", "properties": { "s": { "$ref": "#/$defs/S" } }, "$defs": { "S": { "type": kind } } });
        assert_eq!(components.hoisted("a.one", with("string"))["properties"]["s"]["$ref"], "#/components/schemas/S");
        assert_eq!(components.hoisted("a.two", with("string"))["properties"]["s"]["$ref"], "#/components/schemas/S");
        assert_eq!(components.hoisted("a.three", with("integer"))["properties"]["s"]["$ref"], "#/components/schemas/a_three_S");
        assert_eq!(components.schemas.len(), 3);
    }
}
