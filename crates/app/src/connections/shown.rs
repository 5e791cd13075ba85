//! A connection as it is shown.

use linkspan_core::{Error, ErrorKind, ReadMode, Result, Swap, WriteMode};
use linkspan_engine::{gate::Policies, plan::Choice};
use linkspan_store::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Retries,
    kept::{Kept, To},
};
use crate::{
    app::App,
    moment::moment,
    schedule::{self, Form},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub enabled: bool,
    /// The source connector's name; its id when it is gone.
    pub from: String,
    /// `connector` or `connector:name`.
    pub dest: String,
    pub streams: Vec<Choice>,
    pub mode: ReadMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Null: by stream, as its key and mode say.
    pub write: Option<WriteMode>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub key: Vec<String>,
    pub swap: Swap,
    pub schedule: Option<Form>,
    /// When it starts next by itself, as far as this process runs schedules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<String>,
    /// The last time that ticks of its schedule had no run: `{at, missed, reason}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Value>,
    pub policies: Policies,
    pub retry: Retries,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Lanes at once, where it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Memory for rows in flight in MB, where it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    pub created_at: String,
    pub updated_at: String,
}

impl Shown {
    /// `names` are those of the source and of the destination connector.
    pub(super) fn new(app: &App, document: &Document, kept: &Kept, (from, to): (String, String)) -> Self {
        let request = &kept.request;
        Self {
            id: document.id.to_string(),
            name: document.name.clone().unwrap_or_default(),
            description: kept.description.clone(),
            enabled: kept.enabled,
            from,
            dest: request.target.as_ref().map_or(to.clone(), |target| format!("{to}:{target}")),
            streams: request.streams.clone(),
            mode: request.mode.unwrap_or(ReadMode::Full),
            cursor: request.cursor.clone(),
            write: request.write,
            key: request.key.clone(),
            swap: request.swap,
            schedule: kept.schedule.clone().map(Form::from),
            next_run_at: app.desk.next_start(document.id).map(|at| moment(at.as_millisecond())),
            last_missed: document.observed.get("last_missed").cloned().filter(|v| !v.is_null()),
            policies: kept.policies.clone(),
            retry: Retries::of(&kept.retry),
            timeout: kept.timeout.map(schedule::spelled),
            concurrency: kept.concurrency,
            memory: kept.memory,
            created_at: moment(document.created_at_ms),
            updated_at: moment(document.updated_at_ms),
        }
    }
}

/// The names of both ends; an id where the connector is gone.
pub(super) async fn end_names(app: &App, kept: &Kept) -> Result<(String, String)> {
    let name = async |id| -> Result<String> {
        let found = app.store.document_by_id(id).await?;
        Ok(found.and_then(|d| d.name).unwrap_or_else(|| id.to_string()))
    };
    let to = match kept.to {
        To::Connector(id) => name(id).await?,
        To::Lake => "lake".to_owned(),
    };
    Ok((name(kept.from).await?, to))
}

pub(super) fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such connection in this project")
        .with("connection", name)
        .fix("`linkspan connections list` shows those that are there")
}
