//! Other hubs' paths, body names and answer shapes, mapped onto the same operations: calls written for them run as they are printed.
//! A row is here only when the operation behind it is; it asks for the same rights.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use linkspan_app::{App, CallContext, Done, Operation, Placeholders, Reply};
use linkspan_core::{Body, Error, ErrorKind, MASK, Result};
use serde_json::{Map, Value, json};

use crate::{
    input::{self, Shape},
    limits::Limits,
};

/// One foreign route.
struct Foreign {
    name: &'static str,
    method: Method,
    path: &'static str,
    /// The operation that answers.
    to: &'static str,
    doc: &'static str,
    done: Done,
    /// What is asked in our words; the path's placeholder is already in it, under our name.
    ask: fn(Fields) -> Result<Fields>,
    /// What is answered in theirs.
    say: fn(Value) -> Value,
    /// Whether that has another shape.
    shaped: bool,
    /// Our names of the body's fields, and theirs.
    fields: &'static [(&'static str, &'static str)],
    /// Fields that only they have, as JSON Schema.
    more: fn() -> Value,
}

/// A body.
type Fields = Map<String, Value>;

const CREATED: Done = Done::Created(String::new());

fn foreign() -> Vec<Foreign> {
    let row = |name, method, path, to, doc| Foreign {
        name,
        method,
        path,
        to,
        doc,
        done: Done::Ok,
        ask: Ok,
        say: same,
        shaped: false,
        fields: &[],
        more: nothing,
    };
    let shaped = |row: Foreign, say| Foreign { say, shaped: true, ..row };
    vec![
        row("api.catalog", Method::GET, "/api/connectors/catalog", "catalog.list", "Connector types with their config schemas."),
        Foreign { say: active, ..row("api.connectors.list", Method::GET, "/api/connectors", "connectors.list", "Active connectors.") },
        row("api.connectors.show", Method::GET, "/api/connectors/{id}", "connectors.show", "One connector, masked."),
        Foreign {
            done: CREATED,
            ..row("api.connectors.create", Method::POST, "/api/connectors", "connectors.create", "Makes a connector.")
        },
        Foreign {
            done: CREATED,
            ..row(
                "api.connectors.bootstrap",
                Method::POST,
                "/api/connectors/bootstrap",
                "connectors.bootstrap",
                "Makes one with a schedule.",
            )
        },
        row("api.connectors.update", Method::PATCH, "/api/connectors/{id}", "connectors.update", "Changes a connector."),
        Foreign {
            done: Done::Empty,
            ..row("api.connectors.delete", Method::DELETE, "/api/connectors/{id}", "connectors.delete", "Deletes one.")
        },
        shaped(
            row("api.connectors.test", Method::POST, "/api/connectors/{id}/test", "connectors.test", "Whether it can be reached."),
            short_test,
        ),
        row("api.connectors.models", Method::GET, "/api/connectors/{id}/models", "connectors.models", "Tables and collections."),
        shaped(row("api.v1.connectors.list", Method::GET, "/api/v1/connectors", "connectors.list", "All connectors."), listed),
        Foreign {
            done: CREATED,
            say: registered,
            shaped: true,
            fields: &[("type", "connector_type"), ("config", "connection_config")],
            ..row("api.v1.connectors.create", Method::POST, "/api/v1/connectors", "connectors.create", "Registers a connector.")
        },
        Foreign {
            ask: unsaved,
            say: tested,
            shaped: true,
            fields: &[("config", "connection_config")],
            more: connection,
            ..row("api.v1.connectors.test", Method::POST, "/api/v1/connectors/test", "connectors.test_unsaved", "Tests a connection.")
        },
        shaped(
            row("api.v1.connectors.health", Method::GET, "/api/v1/connectors/{name}/health", "connectors.health", "A connector's health."),
            in_data,
        ),
        row("api.v1.connectors.pull", Method::POST, "/api/v1/connectors/{id}/pull", "connectors.pull", "Pulls now."),
        Foreign {
            done: Done::Empty,
            ..row("api.v1.connectors.delete", Method::DELETE, "/api/v1/connectors/{id}", "connectors.delete", "Deletes one.")
        },
        row("connect.catalog", Method::GET, "/connect/v1/catalog", "catalog.list", "Connector types."),
        row("connect.catalog.show", Method::GET, "/connect/v1/catalog/{type_id}", "catalog.show", "One type in full."),
        Foreign {
            done: CREATED,
            ..row("connect.instances.create", Method::POST, "/connect/v1/instances", "connectors.create", "Makes an instance.")
        },
        row("connect.instances.discover", Method::POST, "/connect/v1/instances/{name}/discover", "connectors.discover", "Finds streams."),
        Foreign {
            done: CREATED,
            ..row(
                "connect.connections.create",
                Method::POST,
                "/connect/v1/connections",
                "connections.create",
                "Binds streams to a destination.",
            )
        },
    ]
}

/// The foreign rows whose operations are built.
pub fn operations() -> Vec<Operation> {
    let own: Arc<BTreeMap<&'static str, Operation>> = Arc::new(linkspan_app::operations().into_iter().map(|o| (o.name, o)).collect());
    foreign().into_iter().filter(|f| own.contains_key(f.to)).map(|f| routed(f, own.clone())).collect()
}

fn routed(foreign: Foreign, own: Arc<BTreeMap<&'static str, Operation>>) -> Operation {
    let target = &own[foreign.to];
    let make = match foreign.method.as_str() {
        "GET" => Operation::get,
        "PATCH" => Operation::patch,
        "DELETE" => Operation::delete,
        _ => Operation::post,
    };
    let draft = make(foreign.name, foreign.path, target.access, foreign.doc);
    let draft = match foreign.done {
        Done::Created(_) => draft.creates(),
        Done::Empty => draft.empties(),
        _ => draft,
    };
    let foreign = Arc::new(foreign);
    let (taken, said) = ((foreign.clone(), own.clone()), (foreign.clone(), own.clone()));
    let run = move |app: Arc<App>, context: CallContext, request: Request<Body>| {
        let (foreign, own) = (foreign.clone(), own.clone());
        async move { answered(&foreign, &own[foreign.to], app, context, request).await }
    };
    draft.raw_as(move || taken.0.input(&taken.1[taken.0.to]), move || said.0.output(&said.1[said.0.to]), run)
}

impl Foreign {
    /// The operation's own input, with the path's placeholders and the body's fields under their names.
    fn input(&self, target: &Operation) -> Value {
        let theirs = self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let placed = target.placeholders().into_iter().zip(theirs);
        let mut schema = placed.chain(self.fields.iter().copied()).fold(target.input(), |schema, (own, name)| renamed(schema, own, name));
        if let (Some(properties), Value::Object(more)) = (schema["properties"].as_object_mut(), (self.more)()) {
            properties.extend(more);
        }
        schema
    }
    /// The operation's own output; of an answer that is shaped otherwise only that it is an object.
    fn output(&self, target: &Operation) -> Value {
        if self.shaped { json!({ "type": "object" }) } else { target.output() }
    }
}

/// The schema with one field under another name.
fn renamed(mut schema: Value, own: &str, name: &str) -> Value {
    if let Some(properties) = schema["properties"].as_object_mut() {
        *properties = std::mem::take(properties).into_iter().map(|(k, v)| (if k == own { name.to_owned() } else { k }, v)).collect();
    }
    for field in schema["required"].as_array_mut().into_iter().flatten().filter(|f| **f == own) {
        *field = name.into();
    }
    schema
}

async fn answered(
    foreign: &Foreign,
    target: &Operation,
    app: Arc<App>,
    context: CallContext,
    request: Request<Body>,
) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let theirs = parts.extensions.get::<Placeholders>().cloned().unwrap_or_default().0.into_values();
    let path: Vec<(String, String)> = target.placeholders().into_iter().map(str::to_owned).zip(theirs).collect();
    let body = input::body(&parts.headers, &whole(body).await?).map_err(|r| r.error)?;
    let fields = match body {
        Some(Value::Object(fields)) => (foreign.ask)(fields)?,
        Some(_) => return Err(Error::new(ErrorKind::ConfigInvalid, "the body is not a JSON object")),
        None => Map::new(),
    };
    let shape = Shape::new(target.input(), target.placeholders());
    let input = shape.input(&path, parts.uri.query(), Some(Value::Object(fields))).map_err(|r| r.error)?;
    let Reply { done, etag, body } = target.call(app, context, input).await?;
    let (status, at) = match (&foreign.done, done) {
        (Done::Empty, _) => (StatusCode::NO_CONTENT, None),
        (Done::Created(_), Done::Created(at)) => (StatusCode::CREATED, Some(at)),
        _ => (StatusCode::OK, None),
    };
    let text = if status == StatusCode::NO_CONTENT { Bytes::new() } else { Bytes::from((foreign.say)(body).to_string()) };
    let mut response = Response::new(Body::Full(text));
    *response.status_mut() = status;
    let mut put = |name: HeaderName, value: Option<String>| {
        if let Some(value) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, (status != StatusCode::NO_CONTENT).then(|| "application/json".into()));
    put(header::ETAG, etag);
    put(header::LOCATION, at);
    Ok(response)
}

async fn whole(body: Body) -> Result<Bytes> {
    let (mut pieces, mut so_far) = (body.into_stream(), Limits::default().body());
    while let Some(piece) = pieces.next().await {
        so_far.push(&piece?).map_err(|r| r.error)?;
    }
    Ok(so_far.done())
}

fn same<T>(value: T) -> T {
    value
}

fn nothing() -> Value {
    Value::Null
}

fn connection() -> Value {
    json!({
        "connection": { "type": "string", "description": "The system's URL, instead of `connection_config`." },
        "ssl": { "type": "object", "description": "How TLS is used, beside `connection`.", "additionalProperties": false,
            "properties": { "mode": { "type": "string", "description": "`verify-full`, `require`, ..." }, "rootcert": { "type": "string" } } },
    })
}

/// `{type, connection, ssl: {mode}}`, or a registration that is not made. What stands in `ssl` is a setting of the config.
fn unsaved(mut fields: Fields) -> Result<Fields> {
    let Some(url) = fields.remove("connection") else { return Ok(fields) };
    if fields.contains_key("config") || fields.contains_key("connection_config") {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a connection is given twice")
            .with("field", "connection")
            .fix("send `connection`, or `connection_config` with all of it"));
    }
    let mut config = Map::from_iter([("connection".to_owned(), url)]);
    match fields.remove("ssl") {
        None | Some(Value::Null) => {}
        Some(Value::Object(ssl)) => config.extend(ssl.into_iter().map(|(name, value)| (format!("ssl.{name}"), value))),
        Some(_) => {
            return Err(Error::new(ErrorKind::ConfigInvalid, "`ssl` is not an object")
                .with("field", "ssl")
                .fix("write `\"ssl\": {\"mode\": \"verify-full\"}`"));
        }
    }
    fields.insert("config".into(), Value::Object(config));
    Ok(fields)
}

fn active(mut answer: Value) -> Value {
    if let Some(all) = answer["connectors"].as_array_mut() {
        all.retain(|c| c["enabled"] == true);
    }
    answer
}

fn short_test(tested: Value) -> Value {
    let mut short = json!({ "ok": tested["ok"], "latency_ms": tested["latency_ms"] });
    if let Some(error) = tested.get("error").filter(|e| !e.is_null()) {
        short["error"] = error.clone();
    }
    short
}

fn in_data(answer: Value) -> Value {
    json!({ "data": answer })
}

fn tested(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("ok");
    }
    in_data(answer)
}

fn listed(answer: Value) -> Value {
    let one = |c: &Value| {
        let mut shown = registered(c.clone());
        for field in ["type", "role", "status", "last_check", "pipelines"] {
            shown[field] = c[field].clone();
        }
        shown
    };
    let mut list = json!({ "data": answer["connectors"].as_array().into_iter().flatten().map(one).collect::<Vec<_>>() });
    if let Some(cursor) = answer.get("next_cursor").filter(|c| !c.is_null()) {
        list["next_cursor"] = cursor.clone();
    }
    list
}

/// No part of the config is shown there.
fn registered(c: Value) -> Value {
    json!({
        "id": c["id"], "name": c["name"], "connector_type": c["type"], "vertical": c["vertical"], "entity_type": c["entity_type"],
        "connection_config": MASK, "created_at": c["created_at"],
    })
}
