//! Making, changing and deleting connectors. Nothing here connects to anything.

use std::sync::Arc;

use linkspan_core::{ConnectorType, Error, ErrorKind, Result};
use linkspan_store::{Change, Document, Edit, SecretEdit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Connector, KIND, Pull, check_name,
    config::{Parted, judged, masked, merge, part, references},
    discover, endpoint,
    files::fence,
    find,
    room::{Room, files_of, holds_files},
    shown::{ConnectorShown, shown_new, shown_one},
};
use crate::{
    app::App,
    caller::{CallContext, Reach, Scope},
    commit::once_more,
    lake,
    operation::{Patch, Reply},
    registry::direction_of,
    secrets::{Reference, Sealing},
};

const BATCH: u32 = 5000;
const LARGEST_BATCH: u32 = 1_000_000;

/// A connector as it is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{"name": "shop", "type": "faker", "config": {"customers": 100, "orders": 400}}]))]
pub struct NewConnector {
    /// Unique in its project: 1 to 200 characters, no slash and no colon among them.
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[^\s/:\\\x00-\x1f]([^/:\\\x00-\x1f]*[^\s/:\\\x00-\x1f])?$"))]
    pub name: String,
    /// A type of the catalog, by name or alias; `kind` and `connector_type` are taken too.
    #[serde(rename = "type", alias = "kind", alias = "connector_type")]
    pub type_name: String,
    /// The type's config; `connection_config` is taken too.
    #[serde(default, alias = "connection_config")]
    pub config: Map<String, Value>,
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub description: Option<String>,
    /// `inbound` or `outbound`, for a type that can be both.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// The schemas that may be discovered and read; empty: those that the login owns.
    #[serde(default)]
    pub output_schemas: Vec<String>,
    /// What `pull` runs; `:last_pull` in it is bound to the start of the last successful pull.
    #[serde(default)]
    pub query: Option<String>,
    #[serde(default)]
    pub vertical: Option<String>,
    #[serde(default)]
    pub entity_type: Option<String>,
    /// The column that names an entity.
    #[serde(default)]
    pub name_column: Option<String>,
    /// Rows per batch of a pull: 5000 when not said.
    #[serde(default)]
    pub batch_size: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What is changed; fields that are left out stay.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectorPatch {
    /// Id or name.
    pub connector: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Merged field by field: null removes, absent and masked keep.
    #[serde(default, alias = "connection_config")]
    pub config: Option<Map<String, Value>>,
    #[serde(default)]
    pub output_schemas: Option<Vec<String>>,
    #[serde(default)]
    pub direction: Patch<Direction>,
    #[serde(default)]
    pub query: Patch<String>,
    #[serde(default)]
    pub vertical: Patch<String>,
    #[serde(default)]
    pub entity_type: Patch<String>,
    #[serde(default)]
    pub name_column: Patch<String>,
    #[serde(default)]
    pub batch_size: Option<u32>,
}

/// A connector that is decided and not yet stored: what makes it, and how it will be shown.
pub struct PreparedConnector {
    pub document: Document,
    pub connector: Connector,
    pub edits: Vec<Edit>,
    pub shown: ConnectorShown,
}

/// Judges a new connector and seals its secrets, so that it can be made in one change with others.
pub async fn prepare(app: &App, context: &CallContext, new: NewConnector) -> Result<PreparedConnector> {
    check_name(&new.name)?;
    let kind = app.kind(&context.project, &new.type_name, ErrorKind::ConfigInvalid).await?;
    let schema = kind.config_schema();
    let parted = part(&schema, new.config)?;
    refuse_foreign(context, &references(&schema, &parted.config)?)?;
    judge(app, context, &kind, &schema, &parted)?;
    let connector = Connector {
        kind: kind.spec.name.to_string(),
        description: new.description,
        enabled: new.enabled.unwrap_or(true),
        config: parted.config,
        missing: parted.missing,
        output_schemas: new.output_schemas,
        pull: pull(new.query, new.vertical, new.entity_type, new.name_column, new.batch_size)?,
    };
    let now = app.now_ms();
    let mut document = Document::new(KIND, &context.project, Some(&new.name), encoded(&connector)?, now);
    document.facet = direction(&kind, new.direction)?.unwrap_or_default().to_owned();
    let mut edits = Vec::new();
    let mut secret = None;
    if !parted.secrets.is_empty() {
        let sealing = app.vault.seal(document.id, &parted.secrets, now).await?;
        edits.push(sealing.stands);
        secret = Some(sealing.sealed);
    }
    edits.push(Edit::Insert { document: document.clone(), links: vec![], secret });
    let shown = shown_new(app, &document, &connector)?;
    Ok(PreparedConnector { document, connector, edits, shown })
}

pub(super) async fn create(app: Arc<App>, context: CallContext, new: NewConnector) -> Result<Reply<ConnectorShown>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let made = prepare(&app, &context, new.clone()).await?;
        let change = Change { edits: made.edits, ..Change::new(made.document.created_at_ms) };
        let reply = Reply::created(format!("/v1/connectors/{}", made.document.id), made.shown).version(made.document.version);
        match app.commit(&context, change, reply).await {
            // The data key was rotated away since it was looked up.
            Err(e) if e.kind() == ErrorKind::NotFound && attempt < 3 => app.vault.forget_current().await,
            done => return done,
        }
    }
}

pub(super) async fn update(app: Arc<App>, context: CallContext, patch: ConnectorPatch) -> Result<Reply<ConnectorShown>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        if let Some(done) = try_update(&app, &context, &patch, vec![], attempt).await {
            return done;
        }
    }
}

/// One attempt, with edits of others in the same change; nothing when it is to be decided again.
pub async fn try_update(
    app: &App,
    context: &CallContext,
    patch: &ConnectorPatch,
    more: Vec<Edit>,
    attempt: u32,
) -> Option<Result<Reply<ConnectorShown>>> {
    match update_once(app, context, patch, more).await {
        Err(e) if once_more(context, &e, attempt) => None,
        Err(e) if e.kind() == ErrorKind::NotFound && e.context().iter().any(|(k, _)| *k == "id") && attempt < 3 => {
            app.vault.forget_current().await;
            None
        }
        done => Some(done),
    }
}

async fn update_once(app: &App, context: &CallContext, patch: &ConnectorPatch, more: Vec<Edit>) -> Result<Reply<ConnectorShown>> {
    let (document, stands) = find(app, context, &patch.connector).await?;
    context.check_version(document.version)?;
    let kind = app.kind(&context.project, &stands.kind, ErrorKind::Unsupported).await?;
    let (mut connector, mut document) = (stands.clone(), document);
    let (name, facet) = (document.name.clone(), document.facet.clone());
    if let Some(new) = patch.name.as_ref().filter(|new| name.as_ref() != Some(new)) {
        check_name(new)?;
        document.name = Some(new.clone());
    }
    patch.description.clone().apply(&mut connector.description);
    connector.enabled = patch.enabled.unwrap_or(connector.enabled);
    connector.output_schemas = patch.output_schemas.clone().unwrap_or(connector.output_schemas);
    connector.pull = pull_after(stands.pull.clone(), patch)?;
    match patch.direction {
        Patch::Absent => {}
        Patch::Null => document.facet = direction(&kind, None)?.unwrap_or_default().to_owned(),
        Patch::Set(wanted) => document.facet = direction(&kind, Some(wanted))?.unwrap_or_default().to_owned(),
    }
    let secret = match &patch.config {
        Some(given) => reconfigure(app, context, &kind, &document, &mut connector, given.clone()).await?,
        None => Secret::Stays,
    };
    let unchanged = connector == stands && document.facet == facet && document.name == name;
    if unchanged && matches!(secret, Secret::Stays) {
        // Asked for what stands already: nothing of it is written.
        let shown = shown_one(app, &document, &stands).await?;
        let reply = Reply::ok(shown).version(document.version);
        if more.is_empty() {
            return Ok(reply);
        }
        let mut change = Change::new(app.now_ms()).edit(Edit::Expect { id: document.id, version: document.version });
        change.edits.extend(more);
        return app.commit(context, change, reply).await;
    }
    let now = app.now_ms();
    let is_another =
        !matches!(secret, Secret::Stays) || Connector { description: stands.description.clone(), ..connector.clone() } != stands;
    let document = document.revised(&connector, now)?;
    let mut change = change_of(&document, connector.config != stands.config, secret, now);
    change.edits.extend(more);
    let mut seen = document.clone();
    if let Value::Object(observed) = &mut seen.observed
        && change.edits.iter().any(|e| matches!(e, Edit::Observe { .. }))
    {
        observed.shift_remove("status");
    }
    let reply = Reply::ok(shown_one(app, &seen, &connector).await?).version(document.version);
    let reply = app.commit(context, change, reply).await?;
    if is_another {
        app.desk.open.forget(document.id).await;
    }
    Ok(reply)
}

enum Secret {
    Stays,
    /// With what must stand until then.
    Set(Box<Sealing>, Edit),
    Gone(Edit),
}

fn change_of(document: &Document, reconfigured: bool, secret: Secret, now: i64) -> Change {
    let mut change = Change::new(now);
    let moved = reconfigured || !matches!(secret, Secret::Stays);
    let edit = match secret {
        Secret::Stays => SecretEdit::Keep,
        Secret::Gone(expected) => {
            change.edits.push(expected);
            SecretEdit::Remove
        }
        Secret::Set(sealing, expected) => {
            change.edits.extend([sealing.stands, expected]);
            SecretEdit::Set(sealing.sealed)
        }
    };
    change.erase = edit != SecretEdit::Keep;
    change.edits.push(Edit::Update { document: document.clone(), if_version: document.version - 1, links: None, secret: edit });
    if moved {
        // What was seen of another config says nothing of this one.
        change.edits.push(Edit::Observe { id: document.id, merge: json!({ "status": null, "failures": null, "error": null }) });
    }
    change
}

async fn reconfigure(
    app: &App,
    context: &CallContext,
    kind: &ConnectorType,
    document: &Document,
    connector: &mut Connector,
    given: Map<String, Value>,
) -> Result<Secret> {
    let schema = kind.config_schema();
    // A token that is kept meanwhile must not be overwritten by the one that is read here.
    let was = app.store.sealed(document.id).await?.map(|sealed| sealed.token);
    let expected = Edit::ExpectSecret { id: document.id, token: was };
    let secrets = match endpoint::stored(app, document, connector).await {
        // Unreadable ones may be replaced, all of them.
        Err(e) if e.kind() == ErrorKind::DataInvalid => {
            let lost = masked(&connector.config).into_iter().find(|f| !given.contains_key(f));
            if lost.is_some() {
                return Err(e.with("status", "credential_unreadable"));
            }
            Map::new()
        }
        read => read?,
    };
    let stands = Parted { config: connector.config.clone(), secrets, missing: connector.missing.clone() };
    let merged = merge(&schema, &stands, given)?;
    refuse_redirection(context, &stands, &merged)?;
    // Nor is one that somebody else may name sent to another place.
    if merged.config != stands.config {
        refuse_foreign(context, &references(&schema, &merged.config)?)?;
    }
    judge(app, context, kind, &schema, &merged)?;
    connector.config = merged.config;
    connector.missing = merged.missing;
    if merged.secrets == stands.secrets && endpoint::stored(app, document, connector).await.is_ok() {
        return Ok(Secret::Stays);
    }
    if merged.secrets.is_empty() {
        return Ok(if document.has_secret { Secret::Gone(expected) } else { Secret::Stays });
    }
    let sealing = app.vault.seal(document.id, &merged.secrets, app.now_ms()).await?;
    Ok(Secret::Set(Box::new(sealing), expected))
}

/// Who may not touch secrets may not send a stored one to another place either.
fn refuse_redirection(context: &CallContext, stands: &Parted, merged: &Parted) -> Result<()> {
    let kept = stands.secrets.iter().any(|(k, v)| merged.secrets.get(k) == Some(v));
    if kept && merged.config != stands.config && !context.caller.may(Scope::ConnectorsSecrets) {
        return Err(Error::new(ErrorKind::PermissionDenied, "this caller may not use a stored secret with another config")
            .with("needs", Scope::ConnectorsSecrets)
            .fix("send the secrets with the config, or use a key that has the scope"));
    }
    Ok(())
}

/// What lies elsewhere belongs to the operator: an admin of one project names only what is named after the project.
pub(super) fn refuse_foreign(context: &CallContext, references: &[(String, Reference)]) -> Result<()> {
    if context.caller.reach == Reach::Installation {
        return Ok(());
    }
    match references.iter().find(|(_, r)| !r.belongs_to(&context.project)) {
        None => Ok(()),
        Some((field, reference)) => Err(Error::new(ErrorKind::PermissionDenied, "this reference is not the project's own")
            .with("field", field)
            .with("reference", reference)
            .fix(format!(
                "name what lies under the project: {}; or ask an admin of the installation",
                Reference::own_forms(&context.project)
            ))),
    }
}

/// Opening does no I/O: it only says whether the config is one.
fn judge(app: &App, context: &CallContext, kind: &ConnectorType, schema: &Value, parted: &Parted) -> Result<()> {
    let Some(mut config) = judged(schema, parted)? else { return Ok(()) };
    // What nobody said yet has no kind: a guest's config is judged when all of it is there.
    if kind.is_guest() && !(parted.missing.is_empty() && references(schema, &parted.config)?.is_empty()) {
        return Ok(());
    }
    if lake::is_built_in(&kind.spec.name, &parted.config)? || holds_files(kind, &parted.config) {
        // Where it will be does not matter now.
        config["path"] = app.store.dir().display().to_string().into();
    } else {
        fence(kind, &mut config, &app.settings.files, &context.project)?;
    }
    kind.open(config, app.context.clone()).map(drop)
}

fn direction(kind: &ConnectorType, asked: Option<Direction>) -> Result<Option<&'static str>> {
    match (direction_of(kind), asked.map(Direction::as_str)) {
        (Some(own), Some(asked)) if own != asked => {
            Err(Error::new(ErrorKind::ConfigInvalid, "a connector of this type has another direction")
                .with("field", "direction")
                .with("direction", own)
                .fix("leave the field out"))
        }
        (own, asked) => Ok(own.or(asked)),
    }
}

fn pull(
    query: Option<String>,
    vertical: Option<String>,
    entity_type: Option<String>,
    name_column: Option<String>,
    batch_size: Option<u32>,
) -> Result<Option<Pull>> {
    let wrong = |field: &'static str, fix: &'static str| {
        Err(Error::new(ErrorKind::ConfigInvalid, "a field of the pull is wrong").with("field", field).fix(fix))
    };
    let Some(query) = query.filter(|q| !q.trim().is_empty()) else {
        let orphan = [
            ("vertical", vertical.is_some()),
            ("entity_type", entity_type.is_some()),
            ("name_column", name_column.is_some()),
            ("batch_size", batch_size.is_some()),
        ];
        return match orphan.iter().find(|(_, there)| *there) {
            Some((field, _)) => wrong(field, "it goes with a `query`: add one, or leave it out"),
            None => Ok(None),
        };
    };
    let batch_size = batch_size.unwrap_or(BATCH);
    if !(1..=LARGEST_BATCH).contains(&batch_size) {
        return wrong("batch_size", "use 1 to 1000000");
    }
    for (field, text) in [("vertical", &vertical), ("entity_type", &entity_type)] {
        let plain = |t: &String| !t.is_empty() && t.len() <= 63 && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if text.as_ref().is_some_and(|t| !plain(t)) {
            return wrong(field, "use letters, digits, `_` and `-`, at most 63: it names a table");
        }
    }
    Ok(Some(Pull { query, vertical, entity_type, name_column, batch_size }))
}

fn pull_after(stands: Option<Pull>, patch: &ConnectorPatch) -> Result<Option<Pull>> {
    let (mut query, mut vertical, mut entity_type, mut name_column, batch) = match stands {
        Some(p) => (Some(p.query), p.vertical, p.entity_type, p.name_column, Some(p.batch_size)),
        None => (None, None, None, None, None),
    };
    patch.query.clone().apply(&mut query);
    if query.is_none() && patch.query == Patch::Null {
        return Ok(None);
    }
    patch.vertical.clone().apply(&mut vertical);
    patch.entity_type.clone().apply(&mut entity_type);
    patch.name_column.clone().apply(&mut name_column);
    pull(query, vertical, entity_type, name_column, patch.batch_size.or(batch))
}

/// What is answered to a deletion.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Deleted {
    pub deleted: bool,
    pub id: String,
}

/// Its secret is erased from the files; connections that use it stay, keep their schemas and refuse to run.
pub(super) async fn delete(app: Arc<App>, context: CallContext, key: String) -> Result<Reply<Deleted>> {
    let (document, _) = find(&app, &context, &key).await?;
    context.check_version(document.version)?;
    let mut change = Change { erase: true, ..Change::new(app.now_ms()).edit(Edit::Delete { id: document.id, if_version: None }) };
    if app.store.linked(vec![document.id]).await?.is_empty() {
        change.edits.extend(discover::forget(&app, &document).await?);
    }
    let files = files_of(&app.store, &document.project, document.id).await?;
    change.edits.extend(files.iter().map(|file| Edit::Delete { id: file.id, if_version: None }));
    let reply = Reply::ok(Deleted { deleted: true, id: document.id.to_string() });
    let reply = app.commit(&context, change, reply).await?;
    app.desk.open.forget(document.id).await;
    if let Err(e) = Room::of(&app.store, &document.project, document.id).remove().await {
        tracing::warn!(connector = %document.id, error = %e, "the files of a deleted connector wait to be removed");
    }
    Ok(reply)
}

fn encoded(connector: &Connector) -> Result<Value> {
    serde_json::to_value(connector).map_err(|e| Error::new(ErrorKind::Internal, "a connector could not be encoded").because(e))
}
