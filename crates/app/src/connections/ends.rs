//! The connectors that a connection stands between.

use linkspan_core::{Error, ErrorKind, Result, Role};
use linkspan_store::Document;
use uuid::Uuid;

use super::kept::To;
use crate::{
    app::App,
    connectors::{self, Connector, find_in},
    run::Endpoint,
    secrets::Redactor,
};

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
    let (document, connector) = find_in(app, project, key).await?;
    can(app, project, &connector, key, Role::Source).await?;
    Ok(document)
}

/// A connector that is made together with its connection.
pub(super) async fn as_source(app: &App, document: &Document) -> Result<Document> {
    let name = document.name.as_deref().unwrap_or_default();
    can(app, &document.project, &document.read()?, name, Role::Source).await?;
    Ok(document.clone())
}

/// The destination by id or name. A connector of the user's own comes before the built-in names.
pub(super) async fn destination(app: &App, project: &str, key: &str) -> Result<(To, String)> {
    match find_in(app, project, key).await {
        Ok((document, connector)) => {
            can(app, project, &connector, key, Role::Destination).await?;
            Ok((To::Connector(document.id), document.name.unwrap_or_default()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound && matches!(key, "lake" | "data") => Ok((To::Lake, "lake".to_owned())),
        Err(e) => Err(e),
    }
}

async fn can(app: &App, project: &str, connector: &Connector, name: &str, role: Role) -> Result<()> {
    let kind = app.kind(project, &connector.kind, ErrorKind::Unsupported).await?;
    if kind.spec.roles.contains(&role) {
        return Ok(());
    }
    let what = if role == Role::Source { "read from" } else { "written to" };
    Err(Error::new(ErrorKind::ConfigInvalid, format!("{} cannot be {what}", kind.spec.title))
        .with("connector", name)
        .with("connector_type", &kind.spec.name)
        .fix("`linkspan catalog list` shows what each type can do"))
}

/// A connector, ready to be opened. One that was deleted since says so.
pub(super) async fn opened(app: &App, project: &str, id: Uuid) -> Result<(Endpoint, Redactor)> {
    match connectors::opened(app, project, &id.to_string()).await {
        Ok(opened) => Ok((opened.endpoint, opened.redactor)),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::new(ErrorKind::NotFound, "the connector of this connection was deleted")
            .with("connector", id)
            .fix("name another one: `linkspan connections update NAME --from CONNECTOR` (or --dest)")),
        Err(e) => Err(e),
    }
}

/// The built-in lake: Parquet tables in the data dir, a folder per project.
pub(crate) fn lake(app: &App, project: &str) -> Result<Endpoint> {
    let path = app.store.dir().join("lake").join(project);
    let (kind, config) = app.registry.typed("parquet", |_| serde_json::json!({ "path": path.display().to_string() }))?;
    Ok(Endpoint::new(kind, config).named("lake"))
}
