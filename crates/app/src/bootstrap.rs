//! A connector with its connection and schedule, made and changed in one transaction.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, ReadMode, Result};
use linkspan_store::Change;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    connections::{self, Reschedule, Streams},
    connectors::{self, ConnectorPatch, ConnectorShown, NewConnector},
    operation::{Operation, Patch, Reply, decoded},
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
        Operation::patch(
            "connectors.update",
            "/v1/connectors/{connector}",
            Access::Scoped(Scope::ConnectorsWrite),
            "Changes a connector, its config field by field, and the schedule of the connection that was made with it.",
        )
        .cli("connectors update", &["connector"])
        .call(update),
    ]
}

/// What is changed of the connector, and of the connection that was made with it.
#[derive(Clone, Debug)]
struct Update {
    connector: ConnectorPatch,
    schedule: SchedulePatch,
}

/// What is changed of the connection; fields that are left out stay.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct SchedulePatch {
    /// When the connection that was made with the connector runs by itself; null: when it is asked to.
    schedule_cron: Patch<String>,
    /// The zone of `schedule_cron`.
    schedule_timezone: Patch<String>,
    /// `incremental` or `full`.
    schedule_mode: Patch<ReadMode>,
}

const SCHEDULED: [&str; 3] = ["schedule_cron", "schedule_timezone", "schedule_mode"];

impl<'de> Deserialize<'de> for Update {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = Map::deserialize(d)?;
        let (schedule, connector): (Map<_, _>, Map<_, _>) = all.into_iter().partition(|(k, _)| SCHEDULED.contains(&k.as_str()));
        let schedule = serde_json::from_value(Value::Object(schedule)).map_err(serde::de::Error::custom)?;
        let connector = serde_json::from_value(Value::Object(connector)).map_err(serde::de::Error::custom)?;
        Ok(Self { connector, schedule })
    }
}

impl JsonSchema for Update {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConnectorPatch".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        joined(ConnectorPatch::json_schema(generator), SchedulePatch::json_schema(generator))
    }
}

/// One object of the fields of both.
fn joined(mut whole: Schema, more: Schema) -> Schema {
    let more = more.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Object(properties)) = whole.get_mut("properties") {
        properties.extend(more);
    }
    whole
}

async fn update(app: Arc<App>, context: CallContext, asked: Update) -> Result<Reply<ConnectorShown>> {
    let Update { connector: patch, schedule: SchedulePatch { schedule_cron, schedule_timezone, schedule_mode } } = asked;
    let schedule = Reschedule { cron: schedule_cron, timezone: schedule_timezone, mode: schedule_mode };
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (connector, _) = connectors::find(&app, &context, &patch.connector).await?;
        let moved = connections::reschedule(&app, &connector, &schedule).await?;
        let edits = moved.as_ref().map(|m| m.edits.clone()).unwrap_or_default();
        if let Some(done) = connectors::try_update(&app, &context, &patch, edits, attempt).await {
            if let (Ok(_), Some(moved)) = (&done, &moved) {
                moved.tell(&app);
            }
            return done;
        }
    }
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
    /// The project's default destination when not said: `connector`, or `connector:name`.
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
        joined(NewConnector::json_schema(generator), Attached::json_schema(generator))
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
    // The connection uses it from the first moment on.
    let connector = ConnectorShown { pipelines: vec![shown.name.clone()], role: "source".into(), ..made.shown };
    let body = Made { connector, connection: shown };
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
        "name": name, "from": name, "dest": dest.unwrap_or_else(|| "data".to_owned()), "mode": schedule_mode.unwrap_or(ReadMode::Incremental),
    });
    let mut new: connections::New = decoded(new)?;
    new.schedule = schedule
        .map(serde_json::from_value)
        .transpose()
        .map_err(|e| Error::new(ErrorKind::ConfigInvalid, "the schedule is none").with("field", "schedule_cron").because(e))?;
    new.streams = streams;
    Ok(new)
}
