//! The catalog: every connector type that this binary can speak to, with what a form, a client or a person needs to know.

use std::sync::Arc;

use linkspan_core::{ConnectorType, ErrorKind, Result, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    operation::{Nothing, Operation, Reply},
};

pub fn operations() -> Vec<Operation> {
    let read = Access::Scoped(Scope::CatalogRead);
    vec![
        Operation::get("catalog.list", "/v1/catalog", read, "Every connector type with its config schema.").call(list),
        Operation::get("catalog.show", "/v1/catalog/{type}", read, "One connector type, by name or alias, with its docs.").call(show),
    ]
}

/// A type as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TypeShown {
    /// The canonical name.
    #[serde(rename = "type")]
    pub name: String,
    pub title: String,
    /// Other names that are taken for it.
    pub aliases: Vec<String>,
    /// `source`, `destination`, `actions`, `webhooks`, `query`.
    pub roles: Vec<String>,
    /// `inbound`, `outbound`, or null for a type that can be both.
    pub direction: Option<String>,
    pub is_queryable: bool,
    /// URL schemes that name the type (`postgres://...`).
    pub schemes: Vec<String>,
    /// File endings that name the type.
    pub extensions: Vec<String>,
    pub capabilities: Capabilities,
    /// JSON Schema of `config`; secret fields carry `x-secret`.
    pub config_schema: Value,
    /// A config that validates; its secrets are masked.
    pub example: Value,
    /// Markdown; only of one type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

/// What can be done with a connector of the type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    pub test: bool,
    pub discover: bool,
    pub read: bool,
    pub write: bool,
    pub actions: bool,
    pub webhooks: bool,
    pub query: bool,
    /// Whether `pull` with a `query` of one's own is possible.
    pub pull: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Catalog {
    types: Vec<TypeShown>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Name or alias.
    #[serde(rename = "type")]
    name: String,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Listed,
    Whole,
}

pub fn shown(t: &ConnectorType, detail: Detail) -> TypeShown {
    let spec = &t.spec;
    let has = |role: Role| spec.roles.contains(&role);
    let schema = t.config_schema();
    TypeShown {
        name: spec.name.to_string(),
        title: spec.title.to_string(),
        aliases: spec.aliases.iter().map(ToString::to_string).collect(),
        roles: spec.roles.iter().map(|r| role_word(*r).to_owned()).collect(),
        direction: direction_of(t).map(str::to_owned),
        is_queryable: spec.is_queryable,
        schemes: spec.url.iter().flat_map(|u| u.schemes.iter().map(ToString::to_string)).collect(),
        extensions: spec.url.iter().flat_map(|u| u.extensions.iter().map(ToString::to_string)).collect(),
        capabilities: Capabilities {
            test: true,
            discover: has(Role::Source),
            read: has(Role::Source),
            write: has(Role::Destination),
            actions: has(Role::Actions),
            webhooks: has(Role::Webhooks),
            query: has(Role::Query),
            pull: has(Role::Source) && schema["properties"].get("query").is_some(),
        },
        example: t.redact(&spec.example),
        config_schema: schema,
        docs: (detail == Detail::Whole).then(|| spec.docs.to_string()),
    }
}

/// The direction of a type that has only one; a type that can be both takes it when a connector is made.
pub fn direction_of(t: &ConnectorType) -> Option<&'static str> {
    match (t.has_role(Role::Source) || t.has_role(Role::Webhooks), t.has_role(Role::Destination)) {
        (true, false) => Some("inbound"),
        (false, true) => Some("outbound"),
        _ => None,
    }
}

pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Destination => "destination",
        Role::Actions => "actions",
        Role::Webhooks => "webhooks",
        Role::Query => "query",
    }
}

async fn list(app: Arc<App>, _: CallContext, _: Nothing) -> Result<Reply<Catalog>> {
    Ok(Reply::ok(Catalog { types: app.registry.types().iter().map(|t| shown(t, Detail::Listed)).collect() }))
}

async fn show(app: Arc<App>, _: CallContext, one: One) -> Result<Reply<TypeShown>> {
    Ok(Reply::ok(shown(app.registry.named(&one.name, ErrorKind::NotFound)?, Detail::Whole)))
}
