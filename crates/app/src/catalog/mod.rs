//! The catalog: every connector type that this binary can speak to and every manifest that the project added, with what a form, a client
//! or a person needs to know.

mod add;
mod fetch;

use std::sync::Arc;

use linkspan_core::{ConnectorType, ErrorKind, Result, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{add::from_file, fetch::name_of_path};
use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    manifests::{self, Kept, Version},
    operation::{Nothing, Operation, Reply},
    registry::direction_of,
};

pub fn operations() -> Vec<Operation> {
    let (read, write) = (Access::Scoped(Scope::CatalogRead), Access::Scoped(Scope::CatalogWrite));
    vec![
        Operation::get("catalog.list", "/v1/catalog", read, "Every connector type with its config schema.").call(list),
        Operation::get("catalog.show", "/v1/catalog/{type}", read, "One connector type, by name or alias, with its docs.").call(show),
        Operation::post(
            "catalog.add",
            "/v1/catalog",
            write,
            "Adds a low-code manifest as a connector type of the project, or a new version of one.",
        )
        .creates()
        .call(add::add),
        Operation::get("catalog.manifest", "/v1/catalog/{type}/manifest", read, "The text of an added manifest, of any kept version.")
            .cli("catalog manifest", &["type"])
            .call(add::manifest),
        Operation::delete("catalog.remove", "/v1/catalog/{type}", write, "Removes an added manifest, when no connector uses it.")
            .empties()
            .cli("catalog remove", &["type"])
            .call(add::remove),
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
    /// How the names of files end that may be uploaded into a connector of the type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uploads: Vec<String>,
    pub capabilities: Capabilities,
    /// JSON Schema of `config`; secret fields carry `x-secret`.
    pub config_schema: Value,
    /// A config that validates; its secrets are masked.
    pub example: Value,
    /// Of a type that the project added by its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestShown>,
    /// Markdown; only of one type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

/// The manifest behind a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestShown {
    /// The streams that it names; others are found by discovery.
    pub streams: Vec<String>,
    /// The version of the low-code language that it is written in.
    pub language: Option<String>,
    /// The texts that it had, oldest first; connectors use the last one.
    pub versions: Vec<Version>,
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
pub(crate) struct One {
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
        uploads: spec.uploads.iter().flat_map(|u| u.endings.iter().map(ToString::to_string)).collect(),
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
        manifest: None,
        docs: (detail == Detail::Whole).then(|| spec.docs.to_string()),
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

fn manifest_of(kept: &Kept) -> ManifestShown {
    ManifestShown { streams: kept.streams.clone(), language: kept.language.clone(), versions: kept.versions.clone() }
}

fn shown_kept(name: &str, kept: &Kept) -> TypeShown {
    TypeShown { manifest: Some(manifest_of(kept)), ..shown(&kept.described(name), Detail::Whole) }
}

async fn list(app: Arc<App>, context: CallContext, _: Nothing) -> Result<Reply<Catalog>> {
    let mut types: Vec<TypeShown> = app.registry.types().iter().map(|t| shown(t, Detail::Listed)).collect();
    for (name, kept) in manifests::all(&app.store, &context.project).await? {
        types.push(TypeShown { manifest: Some(manifest_of(&kept)), ..shown(&kept.described(&name), Detail::Listed) });
    }
    Ok(Reply::ok(Catalog { types }))
}

async fn show(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<TypeShown>> {
    let unknown = match app.registry.named(&one.name, ErrorKind::NotFound) {
        Ok(kind) => return Ok(Reply::ok(shown(kind, Detail::Whole))),
        Err(e) => e,
    };
    let Some((document, kept)) = manifests::find(&app.store, &context.project, &one.name).await? else { return Err(unknown) };
    let name = document.name.unwrap_or_default();
    Ok(Reply::ok(shown_kept(&name, &kept)).version(document.version))
}
