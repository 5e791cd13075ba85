//! Does it answer: tests before and after saving, and their history.

use std::time::{Duration, Instant};

use linkspan_core::{Checked, Error, ErrorKind, Result, TRACES};
use linkspan_store::{Change, Document, Edit, NewEntry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::{Instrument, field::Empty};

use super::{
    Connector,
    config::{part, references, whole},
    endpoint::{Opened, open},
    files::fence,
    manage::refuse_foreign,
};
use crate::{app::App, caller::CallContext, commit::audit_line, run::Endpoint, secrets::Redactor};

pub(super) const HISTORY: &str = "test";
const KEPT: u32 = 100;
/// How long a system may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a test went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    pub ok: bool,
    /// `connected` or `failed`.
    pub status: String,
    pub latency_ms: u64,
    pub server_version: Option<String>,
    pub database: Option<String>,
    /// How many tables, files or streams the login sees.
    pub tables: Option<u64>,
    /// `{kind, message, suggested_fix?, context}` when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

impl Tested {
    /// One for which what it needs could not be had.
    pub(super) fn not_begun(error: Error) -> Self {
        Self::of(Err(error), Duration::ZERO, &Redactor::default())
    }
    fn of(checked: Result<Checked>, took: Duration, redactor: &Redactor) -> Self {
        match checked {
            Ok(found) => Self {
                ok: true,
                status: "connected".into(),
                latency_ms: millis(if found.latency.is_zero() { took } else { found.latency }),
                server_version: found.server_version,
                database: found.database,
                tables: found.streams.map(|n| n as u64),
                error: None,
            },
            Err(e) => Self {
                ok: false,
                status: "failed".into(),
                latency_ms: millis(took),
                server_version: None,
                database: None,
                tables: None,
                error: Some(redactor.error(&e).to_json()),
            },
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Nothing is saved. A config that is none is an error; a system that refuses is an answer.
pub(super) async fn unsaved(app: &App, context: &CallContext, kind: &str, config: Map<String, Value>) -> Result<Tested> {
    let kind = app.kind(&context.project, kind, ErrorKind::ConfigInvalid).await?;
    let schema = kind.config_schema();
    let parted = part(&schema, config)?;
    if let Some(field) = parted.missing.first() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the config lacks a field").with("field", field).fix(format!("add `{field}`")));
    }
    let mut secrets = parted.secrets;
    let elsewhere = references(&schema, &parted.config)?;
    refuse_foreign(context, &elsewhere)?;
    for (field, reference) in elsewhere {
        secrets.insert(field, app.elsewhere.read(&reference).await?.into());
    }
    let redactor = Redactor::of(&secrets);
    let mut config = whole(&parted.config, &secrets);
    fence(&kind, &mut config, &app.settings.files, &context.project)?;
    try_out(app, &Endpoint::new(kind, config), &redactor).await
}

/// `Err` only for a config that its type does not open.
pub(super) async fn try_out(app: &App, endpoint: &Endpoint, redactor: &Redactor) -> Result<Tested> {
    let redactor = &redactor.clone().and(endpoint.drawn());
    let connector = endpoint.open(app.context.clone()).map_err(|e| redactor.error(&e))?;
    let began = Instant::now();
    let span = tracing::info_span!(
        target: TRACES, "connector test", "otel.kind" = "client", "linkspan.connector.type" = %endpoint.kind.spec.name, "error.type" = Empty
    );
    let checked = tokio::time::timeout(PATIENCE, connector.check()).instrument(span.clone()).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, "the system did not answer")
            .with("after_seconds", PATIENCE.as_secs())
            .fix("look at its address and at what lies between"))
    });
    if let Err(e) = &checked {
        span.record("error.type", tracing::field::debug(e.kind()));
    }
    if !endpoint.is_kept_open() {
        connector.close().await;
    }
    Ok(Tested::of(checked, began.elapsed(), redactor))
}

/// A saved one: its result is its health, and goes into its history.
pub(super) async fn saved(app: &App, context: &CallContext, document: Document, connector: Connector) -> Result<Tested> {
    let Opened { document, endpoint, redactor, .. } = open(app, document, connector).await?;
    let tested = try_out(app, &endpoint, &redactor).await?;
    let mut change = seen(app, &document, &tested).entry(line(context, &document, &tested)?);
    if document.has_secret {
        change.entries.push(audit_line(
            context,
            &document.id.to_string(),
            json!({ "kind": document.kind, "name": document.name, "secret": "used" }),
        ));
    }
    app.store.change(change).await?;
    Ok(tested)
}

/// What a check says of the connector's health: an edit that leaves its version. Slow is degraded; a refusal is, too, until it is repeated.
pub(super) fn seen(app: &App, document: &Document, tested: &Tested) -> Change {
    const SLOW_MS: u64 = 2000;
    let failures = if tested.ok { 0 } else { document.observed["failures"].as_u64().unwrap_or(0) + 1 };
    let was_good = matches!(document.observed["status"].as_str(), Some("healthy" | "degraded"));
    let status = match failures {
        0 if tested.latency_ms > SLOW_MS => "degraded",
        0 => "healthy",
        1 if was_good => "degraded",
        _ => "unhealthy",
    };
    let now = app.now_ms();
    let merge = json!({
        "status": status, "failures": failures, "last_check_ms": now, "latency_ms": tested.latency_ms,
        "server_version": tested.server_version, "error": tested.error,
    });
    Change::new(now).edit(Edit::Observe { id: document.id, merge })
}

pub(super) fn line(context: &CallContext, document: &Document, tested: &Tested) -> Result<NewEntry> {
    let mut body = serde_json::to_value(tested).map_err(|e| Error::new(ErrorKind::Internal, "a test could not be encoded").because(e))?;
    body["by"] = context.caller.name.as_str().into();
    Ok(NewEntry { kind: HISTORY.into(), project: document.project.clone(), about: document.id.to_string(), body, keep: Some(KEPT) })
}
