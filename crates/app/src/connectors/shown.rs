//! A connector as it is shown: everything but its secrets, with its health, its counts and who uses it.

use std::collections::HashMap;

use linkspan_core::{ErrorKind, Result, Role};
use linkspan_store::{Document, Json, Linked};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Connector;
use crate::{app::App, moment::moment};

/// A connector as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectorShown {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// The same as `type`.
    pub kind: String,
    /// `inbound`, `outbound` or null.
    pub direction: Option<String>,
    /// `source`, `destination` or `both`: by use, else the type's first role.
    pub role: String,
    pub is_queryable: bool,
    pub enabled: bool,
    /// `healthy`, `degraded`, `unhealthy`, `unknown`, `needs_credentials` or `credential_unreadable`.
    pub status: String,
    pub description: Option<String>,
    /// Secrets are masked.
    #[schemars(with = "Map<String, Value>")]
    pub config: Json,
    pub output_schemas: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertical: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_column: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    pub created_at: String,
    pub created_at_ms: i64,
    pub updated_at: String,
    pub last_event_ms: Option<i64>,
    pub event_count: u64,
    /// When it was last tested.
    pub last_check: Option<String>,
    /// The connections that use it.
    pub pipelines: Vec<String>,
}

/// A page of documents with what others know of them.
pub fn all_shown(app: &App, documents: &[Document], linked: Vec<Linked>) -> Result<Vec<ConnectorShown>> {
    let mut users: HashMap<Uuid, Vec<Linked>> = HashMap::new();
    for linked in linked {
        users.entry(linked.to).or_default().push(linked);
    }
    documents.iter().map(|d| Ok(shown(app, d, d.read::<Connector<Json>>()?, users.get(&d.id).map_or(&[], Vec::as_slice)))).collect()
}

pub async fn shown_one(app: &App, document: &Document, connector: &Connector) -> Result<ConnectorShown> {
    let users = app.store.linked(vec![document.id]).await?;
    shown_to(app, document, connector, &users)
}

/// One that nobody can use yet.
pub(super) fn shown_new(app: &App, document: &Document, connector: &Connector) -> Result<ConnectorShown> {
    shown_to(app, document, connector, &[])
}

fn shown_to(app: &App, document: &Document, connector: &Connector, users: &[Linked]) -> Result<ConnectorShown> {
    let Connector { kind, description, enabled, config, missing, output_schemas, pull } = connector.clone();
    let config = Json::of(&config)?;
    Ok(shown(app, document, Connector { kind, description, enabled, config, missing, output_schemas, pull }, users))
}

fn shown(app: &App, document: &Document, connector: Connector<Json>, users: &[Linked]) -> ConnectorShown {
    let spec = app.registry.named(&connector.kind, ErrorKind::NotFound).ok().map(|t| &t.spec);
    let seen = &document.observed;
    let mut pipelines: Vec<String> = users.iter().filter(|u| u.by_kind == "connection").filter_map(|u| u.by_name.clone()).collect();
    pipelines.dedup();
    let status = status(document, &connector);
    let role = role(users, spec.map_or(&[], |s| s.roles.as_slice()));
    let (mut query, mut vertical, mut entity_type, mut name_column, mut batch_size) = Default::default();
    if let Some(pull) = connector.pull {
        (query, vertical, entity_type) = (Some(pull.query), pull.vertical, pull.entity_type);
        (name_column, batch_size) = (pull.name_column, Some(pull.batch_size));
    }
    ConnectorShown {
        id: document.id.to_string(),
        name: document.name.clone().unwrap_or_default(),
        type_name: connector.kind.clone(),
        kind: connector.kind,
        direction: Some(document.facet.clone()).filter(|d| !d.is_empty()),
        role,
        is_queryable: spec.is_some_and(|s| s.is_queryable),
        enabled: connector.enabled,
        status,
        description: connector.description,
        config: connector.config,
        output_schemas: connector.output_schemas,
        query,
        vertical,
        entity_type,
        name_column,
        batch_size,
        created_at: moment(document.created_at_ms),
        created_at_ms: document.created_at_ms,
        updated_at: moment(document.updated_at_ms),
        last_event_ms: seen["last_event_ms"].as_i64(),
        event_count: seen["event_count"].as_u64().unwrap_or(0),
        last_check: seen["last_check_ms"].as_i64().map(moment),
        pipelines,
    }
}

pub(super) fn status<C>(document: &Document, connector: &Connector<C>) -> String {
    let seen = &document.observed;
    let known = seen["status"].as_str().unwrap_or("unknown");
    let word = match known {
        _ if !connector.missing.is_empty() => "needs_credentials",
        known => known,
    };
    word.to_owned()
}

fn role(users: &[Linked], roles: &[Role]) -> String {
    let used = |as_role: &str| users.iter().any(|u| u.by_kind == "connection" && u.role == as_role);
    let word = match (used("from"), used("to")) {
        (true, true) => "both",
        (true, false) => "source",
        (false, true) => "destination",
        (false, false) if roles.first() == Some(&Role::Destination) => "destination",
        (false, false) => "source",
    };
    word.to_owned()
}
