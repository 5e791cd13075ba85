//! A stored connector, ready to be opened: its secrets read, what lies elsewhere fetched, what forbids its use said.

use std::sync::Arc;

use linkspan_core::{ConnectorType, Error, ErrorKind, Result};
use linkspan_store::{Change, Document, Edit};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Connector,
    config::{masked, references, whole},
    files::fence,
    find_in,
    room::{Room, files_of, holds_files},
};
use crate::{
    app::App,
    lake,
    run::{Endpoint, showing},
    secrets::{Redactor, Values},
};

/// A connector that may be used now.
pub struct Opened {
    pub document: Document,
    pub connector: Connector,
    pub endpoint: Endpoint,
    /// Takes its secrets out of whatever is told about it.
    pub redactor: Redactor,
    /// It reads what was uploaded into it, and nothing is to be written there.
    pub holds_files: bool,
}

/// By id or name. `Conflict` for one that is disabled or has no credentials yet, `DataInvalid` for one whose credentials cannot be
/// read, an error that names the reference for a secret elsewhere that cannot be had.
pub async fn opened(app: &App, project: &str, key: &str) -> Result<Opened> {
    let (document, connector) = find_in(app, project, key).await?;
    open(app, document, connector).await
}

/// The same, for those who only run it.
pub async fn endpoint(app: &App, project: &str, key: &str) -> Result<(Document, Endpoint)> {
    opened(app, project, key).await.map(|o| (o.document, o.endpoint))
}

pub(super) async fn open(app: &App, document: Document, connector: Connector) -> Result<Opened> {
    let name = document.name.clone().unwrap_or_default();
    refuse_unusable(&connector, &name)?;
    let kind = app.kind(&document.project, &connector.kind, ErrorKind::Unsupported).await.map_err(|e| e.with("connector", &name))?;
    let secrets = secrets(app, &document, &connector, &kind).await.map_err(|e| e.with("connector", &name))?;
    let redactor = Redactor::of(&secrets);
    if lake::is_built_in(&kind.spec.name, &connector.config).map_err(|e| e.with("connector", &name))? {
        let (mut config, redactor) = app.lake().config(&document.project);
        connector.config.iter().filter(|(_, value)| !value.is_null()).for_each(|(field, value)| config[field] = value.clone());
        return Ok(Opened { document, connector, endpoint: Endpoint::new(kind, config).named(name), redactor, holds_files: false });
    }
    let mut config = ready(app, &document.project, &kind, &connector, secrets).map_err(|e| e.with("connector", &name))?;
    let holds_files = holds_files(&kind, &connector.config);
    if holds_files {
        config["path"] = folder(app, &document).await.map_err(|e| e.with("connector", &name))?.into();
    }
    let kept_open = kept_open(app, &document, &kind, &config).await?;
    let endpoint = Endpoint::new(kind, config).named(name).kept(app.keeping().stored(document.id)).kept_open(kept_open);
    let endpoint = endpoint.limited(connector.output_schemas.clone());
    let redactor = redactor.and(endpoint.drawn());
    Ok(Opened { document, connector, endpoint, redactor, holds_files })
}

/// Where the uploaded files are, all of them in their place.
async fn folder(app: &App, document: &Document) -> Result<String> {
    let room = Room::of(&app.store, &document.project, document.id);
    room.settle(&app.store).await?;
    if files_of(&app.store, &document.project, document.id).await?.is_empty() {
        return Err(Error::new(ErrorKind::Conflict, "nothing was uploaded into this connector yet").fix(format!(
            "linkspan connectors upload '{}' FILE, or POST it as a form's `file` to /v1/connectors/{}/files",
            document.name.as_deref().unwrap_or_default(),
            document.id
        )));
    }
    Ok(room.files().display().to_string())
}

/// One open connector for all who use it, where it keeps sessions.
async fn kept_open(
    app: &App,
    document: &Document,
    kind: &ConnectorType,
    config: &Value,
) -> Result<Option<Arc<dyn linkspan_core::Connector>>> {
    let opened = app.desk.open.get(document.id, kind, config, &app.context).await;
    // It may have been changed or deleted since it was read: then nobody would close what was opened of it.
    if opened.is_some() && app.store.document_by_id(document.id).await?.is_none_or(|d| d.version != document.version) {
        app.desk.open.forget(document.id).await;
        return Ok(None);
    }
    Ok(opened)
}

fn refuse_unusable(connector: &Connector, name: &str) -> Result<()> {
    if !connector.enabled {
        return Err(Error::new(ErrorKind::Conflict, "the connector is disabled")
            .with("connector", name)
            .fix(format!("linkspan connectors enable '{name}'")));
    }
    if !connector.missing.is_empty() {
        return Err(Error::new(ErrorKind::Conflict, "the connector has no credentials yet")
            .with("connector", name)
            .with("status", "needs_credentials")
            .with("missing", connector.missing.join(", "))
            .fix(format!("linkspan connectors credentials '{name}' --input '{{\"{}\": \"...\"}}'", connector.missing[0])));
    }
    Ok(())
}

/// What a type opens: path fenced, schemas limited. A guest's config is its author's: nothing is put into it.
fn ready(app: &App, project: &str, kind: &ConnectorType, connector: &Connector, secrets: Values) -> Result<Value> {
    let mut config = whole(&connector.config, &secrets);
    if kind.is_guest() {
        return Ok(config);
    }
    fence(kind, &mut config, &app.settings.files, project)?;
    let schema = kind.config_schema();
    config = showing(&connector.output_schemas, kind, config);
    if let (Some(pull), true, Some(fields)) = (&connector.pull, schema["properties"].get("query").is_some(), config.as_object_mut()) {
        fields.insert("query".into(), json!(pull.query));
        if let (Some(entity), true) = (&pull.entity_type, schema["properties"].get("query_name").is_some()) {
            fields.insert("query_name".into(), json!(entity));
        }
    }
    Ok(config)
}

/// The secrets of the vault and of elsewhere. One that cannot be read marks the connector, so that everybody sees why.
async fn secrets(app: &App, document: &Document, connector: &Connector, kind: &ConnectorType) -> Result<Values> {
    let mut values = match stored(app, document, connector).await {
        Err(e) if e.kind() == ErrorKind::DataInvalid => {
            mark_unreadable(app, document.id).await;
            return Err(e.with("status", "credential_unreadable"));
        }
        read => read?,
    };
    for (field, reference) in references(&kind.config_schema(), &connector.config)? {
        let value = app.elsewhere.read(&reference).await.map_err(|e| e.with("field", &field))?;
        values.insert(field, value.into());
    }
    Ok(values)
}

/// Every masked field has its secret, or none is handed out: a mask must never be taken for a password.
pub(super) async fn stored(app: &App, document: &Document, connector: &Connector) -> Result<Values> {
    let values = app.vault.values(document.id).await?;
    match masked(&connector.config).into_iter().find(|f| !values.contains_key(f)) {
        None => Ok(values),
        Some(field) => {
            Err(Error::new(ErrorKind::DataInvalid, "a stored secret is gone").with("field", field).fix("save the credentials again"))
        }
    }
}

async fn mark_unreadable(app: &App, id: Uuid) {
    let merge = json!({ "status": "credential_unreadable", "last_check_ms": app.now_ms() });
    // What it is marked for is told to the caller anyway.
    app.store.change(Change::new(app.now_ms()).edit(Edit::Observe { id, merge })).await.ok();
}
