//! A connector with its connection and schedule, made in one transaction.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, ReadMode, Result};
use linkspan_store::Change;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    connections::{self, Streams},
    connectors::{self, ConnectorShown, NewConnector},
    operation::{Operation, Reply, decoded},
};

/// How often it is decided again while the vault's data key is turned.
const ATTEMPTS: u32 = 3;

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "connectors.bootstrap",
            "/v1/connectors/bootstrap",
            Access::Scoped(Scope::ConnectorsWrite),
            "Makes a connector with a connection into the lake (or another destination) and its schedule, all or nothing.",
        )
        .creates()
        .cli("connectors bootstrap", &["name"])
        .call(bootstrap),
    ]
}

/// What is said of the connection; the other fields are the connector's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Attached {
    /// When it runs by itself: `0 2 * * *`. Without it, it runs when it is asked to.
    schedule_cron: Option<String>,
    /// The zone of `schedule_cron`; UTC when not said.
    schedule_timezone: Option<String>,
    /// `incremental` (only what changed, where a stream has a cursor) or `full`; `incremental` when not said.
    schedule_mode: Option<ReadMode>,
    /// Names and patterns; all streams when empty.
    streams: Streams,
    /// `lake` when not said: `connector`, or `connector:name`.
    dest: Option<String>,
}

const ATTACHED: [&str; 5] = ["schedule_cron", "schedule_timezone", "schedule_mode", "streams", "dest"];

/// Both in one body.
#[derive(Clone, Debug)]
struct Bootstrap {
    connector: Map<String, Value>,
    attached: Attached,
}

/// By hand: flattened structs cannot refuse fields that nobody knows.
impl<'de> Deserialize<'de> for Bootstrap {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = Map::deserialize(d)?;
        let (attached, connector): (Map<_, _>, Map<_, _>) = all.into_iter().partition(|(k, _)| ATTACHED.contains(&k.as_str()));
        let attached = serde_json::from_value(Value::Object(attached)).map_err(serde::de::Error::custom)?;
        Ok(Self { connector, attached })
    }
}

impl JsonSchema for Bootstrap {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bootstrap".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (mut whole, attached) = (NewConnector::json_schema(generator), Attached::json_schema(generator));
        let more = attached.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(Value::Object(properties)) = whole.get_mut("properties") {
            properties.extend(more);
        }
        whole
    }
}

/// The connector as it is shown, with the connection that was made for it.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Made {
    #[serde(flatten)]
    connector: ConnectorShown,
    connection: connections::Shown,
}

async fn bootstrap(app: Arc<App>, context: CallContext, asked: Bootstrap) -> Result<Reply<Made>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_bootstrap(&app, &context, asked.clone()).await {
            // The data key was rotated away since it was looked up.
            Err(e) if e.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => app.vault.forget_current().await,
            done => return done,
        }
    }
}

async fn try_bootstrap(app: &App, context: &CallContext, asked: Bootstrap) -> Result<Reply<Made>> {
    let new: NewConnector = decoded(Value::Object(asked.connector))?;
    let name = new.name.clone();
    let made = connectors::prepare(app, context, new).await?;
    let new = connection(&name, asked.attached)?;
    let (document, kept, shown, edits) = connections::draft(app, context, new, Some(&made.document)).await?;
    let mut change = Change::new(made.document.created_at_ms);
    change.edits = made.edits.into_iter().chain(edits).collect();
    let body = Made { connector: made.shown, connection: shown };
    let reply = Reply::created(format!("/v1/connectors/{}", made.document.id), body).version(1);
    let reply = app.commit(context, change, reply).await?;
    Ok(connections::scheduled(app, &document, &kept, reply, |made: &mut Made| &mut made.connection))
}

fn connection(name: &str, attached: Attached) -> Result<connections::New> {
    let Attached { schedule_cron, schedule_timezone, schedule_mode, streams, dest } = attached;
    if schedule_timezone.is_some() && schedule_cron.is_none() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a time zone needs a schedule").with("field", "schedule_timezone"));
    }
    let schedule = schedule_cron.map(|cron| json!({ "cron": cron, "timezone": schedule_timezone }));
    let new = json!({
        "name": name, "from": name, "dest": dest.unwrap_or_else(|| "lake".to_owned()), "mode": schedule_mode.unwrap_or(ReadMode::Incremental),
    });
    let mut new: connections::New = decoded(new)?;
    new.schedule = schedule
        .map(serde_json::from_value)
        .transpose()
        .map_err(|e| Error::new(ErrorKind::ConfigInvalid, "the schedule is none").with("field", "schedule_cron").because(e))?;
    new.streams = streams;
    Ok(new)
}
