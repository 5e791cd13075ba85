//! The connectors that a connection stands between.

use linkspan_core::{Error, ErrorKind, Result, Role};
use linkspan_store::Document;
use uuid::Uuid;

use super::kept::{Kept, To};
use crate::{
    app::App,
    connectors::{self, expect_role, find_in},
    projects,
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
    let at = |e: Error| e.with("field", "from");
    let (document, connector) = find_in(app, project, key).await.map_err(at)?;
    expect_role(app, project, &connector, key, Role::Source).await.map_err(at)?;
    Ok(document)
}

/// A stored connector to read from, ready to be opened.
pub async fn source_end(app: &App, project: &str, key: &str) -> Result<Endpoint> {
    let document = source(app, project, key).await?;
    opened(app, project, document.id, Role::Source).await.map(|(endpoint, _)| endpoint)
}

/// What `connector` or `connector:name` means as a destination, ready to be opened, and the name.
pub async fn destination_end(app: &App, project: &str, text: &str) -> Result<(Endpoint, Option<String>)> {
    let dest = Dest::parse(text)?;
    let (to, _) = destination(app, project, dest.connector).await?;
    let (endpoint, _) = written_to(app, project, &to).await?;
    Ok((endpoint, dest.target))
}

/// A connector that is made together with its connection.
pub(super) async fn as_source(app: &App, document: &Document) -> Result<Document> {
    let name = document.name.as_deref().unwrap_or_default();
    expect_role(app, &document.project, &document.read()?, name, Role::Source).await?;
    Ok(document.clone())
}

/// The destination by id or name. A connector of the user's own comes before the built-in names.
pub(crate) async fn destination(app: &App, project: &str, key: &str) -> Result<(To, String)> {
    match find_in(app, project, key).await {
        Ok((document, connector)) => {
            expect_role(app, project, &connector, key, Role::Destination).await?;
            Ok((To::Connector(document.id), document.name.unwrap_or_default()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound && key == "lake" => Ok((To::Lake, "lake".to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound && key == "data" => default(app, project).await,
        Err(e) => Err(e),
    }
}

/// Where the project writes when nobody says another place.
async fn default(app: &App, project: &str) -> Result<(To, String)> {
    let Some(id) = projects::default_destination(app, project).await? else {
        return Box::pin(destination(app, project, "lake")).await;
    };
    match find_in(app, project, &id.to_string()).await {
        Ok((document, connector)) => {
            let name = document.name.unwrap_or_default();
            expect_role(app, project, &connector, &name, Role::Destination).await?;
            Ok((To::Connector(id), name))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::new(ErrorKind::Conflict, "the project's default destination was deleted")
            .with("project", project)
            .with("connector", id)
            .fix(format!("set another one: `linkspan projects update {project} --destination CONNECTOR` (`lake` is built in)"))),
        Err(e) => Err(e),
    }
}

/// A connector, ready to be opened. One that was deleted since says so.
pub(super) async fn opened(app: &App, project: &str, id: Uuid, role: Role) -> Result<(Endpoint, Redactor)> {
    match connectors::opened(app, project, &id.to_string()).await {
        Ok(opened) => {
            if opened.holds_files && role == Role::Destination {
                return Err(connectors::holds_files(&opened.endpoint.shown));
            }
            Ok((opened.endpoint, opened.redactor))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Err(deleted(id, role)),
        Err(e) => Err(e),
    }
}

fn deleted(id: Uuid, role: Role) -> Error {
    let (end, option) = if role == Role::Source { ("source", "--from") } else { ("destination", "--dest") };
    Error::new(ErrorKind::Conflict, format!("the {end} of this connection was deleted"))
        .with("connector", id)
        .fix(format!("name another one: `linkspan connections update NAME {option} CONNECTOR`"))
}

/// Refuses when the source is gone.
pub(super) async fn expect_source(app: &App, kept: &Kept) -> Result<()> {
    match app.store.document_by_id(kept.from).await? {
        Some(_) => Ok(()),
        None => Err(deleted(kept.from, Role::Source)),
    }
}

/// Refuses to begin what cannot end well: both connectors must still be there.
pub(crate) async fn expect_ends(app: &App, kept: &Kept) -> Result<()> {
    let to = match kept.to {
        To::Connector(id) => Some((id, Role::Destination)),
        To::Lake => None,
    };
    for (id, role) in std::iter::once((kept.from, Role::Source)).chain(to) {
        if app.store.document_by_id(id).await?.is_none() {
            return Err(deleted(id, role));
        }
    }
    Ok(())
}

/// What rows are written to, ready to be opened, and what takes its secrets out of what is told.
pub(crate) async fn written_to(app: &App, project: &str, to: &To) -> Result<(Endpoint, Vec<Redactor>)> {
    match to {
        To::Connector(id) => opened(app, project, *id, Role::Destination).await.map(|(endpoint, redactor)| (endpoint, vec![redactor])),
        To::Lake => app.lake().endpoint(project).map(|(endpoint, redactor)| (endpoint, vec![redactor])),
    }
}
