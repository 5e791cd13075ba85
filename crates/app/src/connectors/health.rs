//! Health in the background: every connector that can be checked is, again and again, a few at a time.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use linkspan_core::Result;
use linkspan_store::{Document, DocumentFilter, Role};
use serde_json::json;
use tokio::task::AbortHandle;

use super::{
    Connector, KIND,
    endpoint::open,
    room::Room,
    test::{Tested, line, seen, try_out},
};
use crate::{
    app::App,
    audit,
    caller::{CallContext, Caller},
    commit::audit_line,
};

const EVERY: Duration = Duration::from_secs(300);
/// How often it is looked for who is due.
const TICK: Duration = Duration::from_secs(15);
const AT_ONCE: usize = 4;

/// The background checks; they end when it is dropped.
pub struct Checks(AbortHandle);

impl Checks {
    /// Only the process that owns the data dir checks.
    pub fn start(app: Arc<App>) -> Self {
        let task = tokio::spawn(async move {
            let mut trimmed_ms = None;
            loop {
                app.context.clock.sleep(TICK).await;
                if app.store.role() == Some(Role::Owner)
                    && let Err(e) = round(&app, &mut trimmed_ms).await
                {
                    tracing::warn!(error = %e, "the connectors could not be checked");
                }
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn round(app: &App, trimmed_ms: &mut Option<i64>) -> Result<()> {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let now = app.now_ms();
    if trimmed_ms.is_none_or(|last| now - last >= DAY_MS) {
        audit::trim(app).await?;
        tidy(app).await;
        *trimmed_ms = Some(now);
    }
    check_all(app, EVERY).await.map(drop)
}

/// Takes away what uploads left that died, and the files of connectors that are gone.
async fn tidy(app: &App) {
    for room in Room::all(&app.store) {
        let tidied = match app.store.document_by_id(room.connector()).await {
            Ok(Some(_)) => room.settle(&app.store).await,
            Ok(None) => room.remove().await,
            Err(e) => Err(e),
        };
        if let Err(e) = tidied {
            tracing::warn!(connector = %room.connector(), error = %e, "uploaded files could not be looked after");
        }
    }
}

/// Checks every connector whose last check is older; answers how many were.
pub async fn check_all(app: &App, older_than: Duration) -> Result<usize> {
    let (mut checked, mut after) = (0, None);
    loop {
        let page = app.store.documents(DocumentFilter { kind: KIND.into(), after, limit: Some(1000), ..DocumentFilter::default() }).await?;
        let Some(last) = page.last() else { return Ok(checked) };
        after = Some(last.seq);
        let due: Vec<Document> = page.into_iter().filter(|d| is_due(app, d, older_than)).collect();
        checked += due.len();
        stream::iter(due).for_each_concurrent(AT_ONCE, async |document| check(app, document).await).await;
    }
}

fn is_due(app: &App, document: &Document, older_than: Duration) -> bool {
    let Ok(connector) = document.read::<Connector>() else { return false };
    // A connector with a query is connected to only while it is pulled.
    let idle = !connector.enabled || !connector.missing.is_empty() || connector.pull.is_some();
    let last = document.observed["last_check_ms"].as_i64();
    let fresh =
        document.observed["status"].is_string() && last.is_some_and(|l| u128::from(app.now_ms().abs_diff(l)) < older_than.as_millis());
    !idle && !fresh
}

/// A check that cannot even begin is told by its status; what goes wrong in between concerns nobody else.
async fn check(app: &App, document: Document) {
    let id = document.id;
    if let Err(e) = try_check(app, document).await {
        tracing::debug!(connector = %id, error = %e, "a health check could not be made");
    }
}

async fn try_check(app: &App, document: Document) -> Result<()> {
    let connector = document.read::<Connector>()?;
    let (document, tested) = match open(app, document.clone(), connector).await {
        Ok(opened) => (opened.document, try_out(app, &opened.endpoint, &opened.redactor).await?),
        // A secret that lies elsewhere and cannot be read there: nobody would see why nothing works.
        Err(e) if e.context().iter().any(|(key, _)| *key == "reference") => (document, Tested::not_begun(e)),
        Err(e) => return Err(e),
    };
    let document = &document;
    let mut context = CallContext::new(Caller::local(), document.project.clone());
    context.operation = "connectors.health";
    let mut change = seen(app, document, &tested);
    // A change of health is history; that nothing changed is not. The secret's use is told once for each version of it.
    if document.observed["status"].as_str().is_none_or(|was| (was == "healthy" || was == "degraded") != tested.ok) {
        change = change.entry(line(&context, document, &tested)?);
        if document.has_secret {
            let what = json!({ "kind": document.kind, "name": document.name, "secret": "used", "version": document.version });
            change = change.entry(audit_line(&context, &document.id.to_string(), what));
        }
    }
    // What was seen of a config that was changed meanwhile says nothing of the new one.
    let stands = app.store.document_by_id(document.id).await?.is_some_and(|d| d.version == document.version);
    if stands { app.store.change(change).await.map(drop) } else { Ok(()) }
}
