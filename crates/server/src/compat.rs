//! Other hubs' paths, body names and answer shapes, mapped onto the same operations: calls written for them run as they are printed.
//! A row is here only when the operation behind it is; it asks for the same rights.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use linkspan_app::{App, CallContext, Done, Draft, Operation, Placeholders, Reply};
use linkspan_core::{Body, Error, ErrorKind, MASK, Result};
use schemars::JsonSchema;
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
    ask: fn(Map<String, Value>) -> Map<String, Value>,
    /// What is answered in theirs.
    say: fn(Value) -> Value,
}

const CREATED: Done = Done::Created(String::new());

fn foreign() -> Vec<Foreign> {
    let row = |name, method, path, to, doc| Foreign { name, method, path, to, doc, done: Done::Ok, ask: same, say: same };
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
        Foreign {
            say: short_test,
            ..row("api.connectors.test", Method::POST, "/api/connectors/{id}/test", "connectors.test", "Whether it can be reached.")
        },
        row("api.connectors.models", Method::GET, "/api/connectors/{id}/models", "connectors.models", "Tables and collections."),
        Foreign { say: listed, ..row("api.v1.connectors.list", Method::GET, "/api/v1/connectors", "connectors.list", "All connectors.") },
        Foreign {
            done: CREATED,
            say: registered,
            ..row("api.v1.connectors.create", Method::POST, "/api/v1/connectors", "connectors.create", "Registers a connector.")
        },
        Foreign {
            ask: unsaved,
            say: tested,
            ..row("api.v1.connectors.test", Method::POST, "/api/v1/connectors/test", "connectors.test_unsaved", "Tests a connection.")
        },
        Foreign {
            say: in_data,
            ..row("api.v1.connectors.health", Method::GET, "/api/v1/connectors/{name}/health", "connectors.health", "A connector's health.")
        },
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

/// Any object.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Anything(#[allow(dead_code, reason = "only its schema is read")] Map<String, Value>);

macro_rules! placed {
    ($($name:ident $field:ident),*) => { $(
        #[derive(JsonSchema)]
        struct $name {
            #[allow(dead_code, reason = "only its schema is read")]
            $field: String,
            #[serde(flatten)]
            #[allow(dead_code, reason = "only its schema is read")]
            rest: Map<String, Value>,
        }
    )* };
}
placed!(ById id, ByName name, ByType type_id);

/// A body of any fields.
#[derive(JsonSchema)]
struct Fields {
    #[serde(flatten)]
    #[allow(dead_code, reason = "only its schema is read")]
    rest: Map<String, Value>,
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
    let placed = foreign
        .path
        .contains("{id}")
        .then_some(0)
        .or(foreign.path.contains("{name}").then_some(1))
        .or(foreign.path.contains("{type_id}").then_some(2));
    let foreign = Arc::new(foreign);
    let run = move |app: Arc<App>, context: CallContext, request: Request<Body>| {
        let (foreign, own) = (foreign.clone(), own.clone());
        async move { answered(&foreign, &own[foreign.to], app, context, request).await }
    };
    raw(draft, placed, run)
}

fn raw<F>(
    draft: Draft,
    placed: Option<u8>,
    run: impl Fn(Arc<App>, CallContext, Request<Body>) -> F + Send + Sync + Clone + 'static,
) -> Operation
where
    F: Future<Output = Result<Response<Body>>> + Send + 'static,
{
    match placed {
        Some(0) => draft.raw::<ById, Anything, _>(run),
        Some(1) => draft.raw::<ByName, Anything, _>(run),
        Some(_) => draft.raw::<ByType, Anything, _>(run),
        None => draft.raw::<Fields, Anything, _>(run),
    }
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
        Some(Value::Object(fields)) => (foreign.ask)(fields),
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

/// `{type, connection, ssl: {mode}}`, or a registration that is not made.
fn unsaved(mut fields: Map<String, Value>) -> Map<String, Value> {
    let Some(url) = fields.remove("connection") else { return fields };
    let mut config = Map::from_iter([("url".to_owned(), url)]);
    if let Some(mode) = fields.remove("ssl").and_then(|mut ssl| ssl.get_mut("mode").map(Value::take)) {
        config.insert("sslmode".into(), mode);
    }
    fields.insert("config".into(), Value::Object(config));
    fields
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
