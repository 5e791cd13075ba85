//! Connectors: named, configured instances of a type. Their secrets lie in the vault; what is shown is masked.

mod config;
mod discover;
mod endpoint;
mod files;
mod health;
mod manage;
mod operations;
mod room;
mod shown;
mod test;
pub mod uploads;

use linkspan_core::{Error, ErrorKind, Result, Role};
use linkspan_store::Document;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use self::discover::{found, last_known};
pub use self::{
    config::canonical,
    discover::{DiscoveredStreams, StreamShown, discovered},
    endpoint::{Opened, endpoint, opened},
    health::{Checks, check_all},
    manage::{ConnectorPatch, NewConnector, PreparedConnector, prepare, try_update},
    operations::operations,
    shown::{ConnectorShown, all_shown, shown_one},
    test::Tested,
};
use crate::{app::App, caller::CallContext};

pub const KIND: &str = "connector";

/// Paths below `/v1/connectors` that are no connectors.
const RESERVED: [&str; 4] = ["catalog", "bootstrap", "test", "inbound"];

/// A connector as it is stored; its name and direction are the document's name and facet. Who only shows it reads its config as the
/// text that it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connector<C = Map<String, Value>> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub description: Option<String>,
    pub enabled: bool,
    /// Secrets masked, references as they are.
    pub config: C,
    /// Secret fields that the type needs and that nobody gave yet.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The schemas that may be discovered and read; empty: the type's own choice.
    #[serde(default)]
    pub output_schemas: Vec<String>,
    /// What `pull` runs, for connectors that have a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
}

/// A query that is run when it is pulled, and what its rows are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pull {
    /// `:last_pull` in it is bound to the start of the last successful pull.
    pub query: String,
    #[serde(default)]
    pub vertical: Option<String>,
    #[serde(default)]
    pub entity_type: Option<String>,
    /// The column that names an entity.
    #[serde(default)]
    pub name_column: Option<String>,
    pub batch_size: u32,
}

/// By id, else by name, in the project of the call.
pub async fn find(app: &App, context: &CallContext, key: &str) -> Result<(Document, Connector)> {
    find_in(app, &context.project, key).await
}

pub(crate) async fn find_in(app: &App, project: &str, key: &str) -> Result<(Document, Connector)> {
    let found = app.store.document(KIND, project, key).await?;
    let document = found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no such connector").with("connector", key).fix("`linkspan connectors list` shows them")
    })?;
    let connector = document.read()?;
    Ok((document, connector))
}

/// Refuses a connector whose type has not this role, and one to write to that holds uploaded files.
pub(crate) async fn expect_role(app: &App, project: &str, connector: &Connector, name: &str, role: Role) -> Result<()> {
    let kind = app.kind(project, &connector.kind, ErrorKind::Unsupported).await?;
    if role == Role::Destination && room::holds_files(&kind, &connector.config) {
        return Err(holds_files(name));
    }
    if kind.spec.roles.contains(&role) {
        return Ok(());
    }
    let what = if role == Role::Source { "read from" } else { "written to" };
    Err(Error::new(ErrorKind::ConfigInvalid, format!("{} cannot be {what}", kind.spec.title))
        .with("connector", name)
        .with("connector_type", &kind.spec.name)
        .fix("`linkspan catalog list` shows what each type can do"))
}

pub(crate) fn holds_files(name: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the connector holds uploaded files, and nothing is written among them")
        .with("connector", name)
        .fix("name another destination, or give the connector a `path` of its own")
}

/// A name that can stand in a path and before a colon.
fn check_name(name: &str) -> Result<()> {
    let bad = |why: &'static str| Err(Error::new(ErrorKind::ConfigInvalid, why).with("field", "name").fix("choose another name"));
    match name {
        _ if name.trim().is_empty() || name.trim() != name => bad("a connector's name is empty, or begins or ends with a space"),
        _ if name.chars().count() > 200 => bad("a connector's name is longer than 200 characters"),
        _ if name.chars().any(|c| c.is_control() || matches!(c, '/' | ':' | '\\')) => {
            bad("a connector's name holds a slash, a colon or a control character")
        }
        _ if uuid::Uuid::try_parse(name).is_ok() => bad("a connector's name looks like an id"),
        _ if RESERVED.contains(&name) => bad("this name is reserved"),
        _ => Ok(()),
    }
}
