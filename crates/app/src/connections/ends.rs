//! The connectors that a connection stands between.

use linkspan_core::{Error, ErrorKind, Result, Role};
use linkspan_store::Document;
use serde_json::Value;
use uuid::Uuid;

use super::kept::To;
use crate::{app::App, run::Endpoint};

/// What `dest` says: a connector, and the name of a table or schema in it.
pub(super) struct Dest<'a> {
    pub connector: &'a str,
    pub target: Option<String>,
}

impl<'a> Dest<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let (connector, target) = match text.split_once(':') {
            Some((connector, target)) => (connector.trim(), Some(target.trim())),
            None => (text.trim(), None),
        };
        if connector.is_empty() || target.is_some_and(str::is_empty) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the destination is not named")
                .with("field", "dest")
                .fix("write `connector` or `connector:name`, such as `lake:orders`"));
        }
        Ok(Self { connector, target: target.map(str::to_owned) })
    }
}

/// The source connector by id or name.
pub(super) async fn source(app: &App, project: &str, key: &str) -> Result<Document> {
    let document = connector(app, project, key).await?;
    can(app, &document, Role::Source)?;
    Ok(document)
}

/// The destination by id or name. A connector of the user's own comes before the built-in names.
pub(super) async fn destination(app: &App, project: &str, key: &str) -> Result<(To, String)> {
    match connector(app, project, key).await {
        Ok(document) => {
            can(app, &document, Role::Destination)?;
            Ok((To::Connector(document.id), document.name.unwrap_or_default()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound && matches!(key, "lake" | "data") => Ok((To::Lake, "lake".to_owned())),
        Err(e) => Err(e),
    }
}

async fn connector(app: &App, project: &str, key: &str) -> Result<Document> {
    app.store.document("connector", project, key).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no such connector in this project")
            .with("connector", key)
            .fix("`linkspan connectors list` shows those that are there; `lake` is built in as a destination")
    })
}

fn type_of(document: &Document) -> &str {
    document.body["type"].as_str().unwrap_or_default()
}

fn can(app: &App, document: &Document, role: Role) -> Result<()> {
    let kind = app.registry.named(type_of(document), ErrorKind::Unsupported)?;
    if kind.spec.roles.contains(&role) {
        return Ok(());
    }
    let what = if role == Role::Source { "read from" } else { "written to" };
    Err(Error::new(ErrorKind::ConfigInvalid, format!("{} cannot be {what}", kind.spec.title))
        .with("connector", document.name.as_deref().unwrap_or_default())
        .with("connector_type", &kind.spec.name)
        .fix("`linkspan catalog list` shows what each type can do"))
}

/// A connector, ready to be opened. One that was deleted since says so.
pub(super) async fn endpoint(app: &App, project: &str, id: Uuid) -> Result<Endpoint> {
    let document = app.store.document_by_id(id).await?.filter(|d| d.project == project).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the connector of this connection was deleted")
            .with("connector", id)
            .fix("name another one: `linkspan connections update NAME --from CONNECTOR` (or --dest)")
    })?;
    let kind = app.registry.named(type_of(&document), ErrorKind::Unsupported)?.clone();
    let config = document.body.get("config").cloned().unwrap_or(Value::Null);
    Ok(Endpoint::new(kind, config).named(document.name.unwrap_or_default()))
}

/// The built-in lake: Parquet tables in the data dir, a folder per project.
pub(super) fn lake(app: &App, project: &str) -> Result<Endpoint> {
    let path = app.store.dir().join("lake").join(project);
    let (kind, config) = app.registry.typed("parquet", |_| serde_json::json!({ "path": path.display().to_string() }))?;
    Ok(Endpoint::new(kind, config).named("lake"))
}
