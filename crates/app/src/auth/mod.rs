//! Who is calling: by the admin key, an API key or a session token; and how a person gets such a token.

mod operations;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Edit};
use serde_json::json;
use uuid::Uuid;

pub use self::operations::operations;
use crate::{
    app::App,
    caller::{CallContext, Caller, CallerKind, DEFAULT_PROJECT, Reach, Role},
    keys, projects, users,
};

/// Which project a call is about.
pub const PROJECT_HEADER: &str = "linkspan-project";
const API_KEY_HEADER: &str = "x-api-key";
const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// How stale a key's last use may be shown.
const LAST_USED_MS: i64 = 60_000;

/// Who sent these headers, about which project, with its preconditions. Without credentials: nobody, whom only anonymous operations
/// admit. `AuthFailed` for wrong credentials, `NotFound` for a project that the caller has no role in.
pub async fn authenticate(app: &Arc<App>, headers: &HeaderMap) -> Result<CallContext> {
    let project = one(headers, &HeaderName::from_static(PROJECT_HEADER))?;
    let credential = credential(headers)?;
    let mut context = admit(app, credential, project).await?;
    context.if_match = one(headers, &header::IF_MATCH)?.map(str::to_owned);
    context.idempotency_key = one(headers, &HeaderName::from_static(IDEMPOTENCY_HEADER))?.map(str::to_owned);
    Ok(context)
}

fn credential(headers: &HeaderMap) -> Result<Option<&str>> {
    let bearer = match one(headers, &header::AUTHORIZATION)? {
        Some(text) => {
            let (scheme, token) = text.split_once(' ').ok_or_else(wrong)?;
            Some(token.trim()).filter(|t| scheme.eq_ignore_ascii_case("bearer") && !t.is_empty()).ok_or_else(wrong).map(Some)?
        }
        None => None,
    };
    let key = one(headers, &HeaderName::from_static(API_KEY_HEADER))?;
    match (bearer, key) {
        (Some(a), Some(b)) if a != b => Err(wrong()),
        (bearer, key) => Ok(bearer.or(key)),
    }
}

/// A header that may come once: which of two is meant nobody can know.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a header came twice").with("header", name).fix("send it once"));
    }
    first
        .map(|v| v.to_str().map_err(|_| Error::new(ErrorKind::ConfigInvalid, "a header is not plain text").with("header", name)))
        .transpose()
}

/// The same for faces without headers.
pub async fn admit(app: &Arc<App>, credential: Option<&str>, project: Option<&str>) -> Result<CallContext> {
    let Some(text) = credential else { return Ok(CallContext::anonymous()) };
    if app.identity.admin.is(text) {
        return whole_installation(app, "admin", "admin key", CallerKind::Key, project).await;
    }
    if text.starts_with("lk_") {
        return by_key(app, text, project).await;
    }
    by_token(app, text, project).await
}

fn wrong() -> Error {
    Error::new(ErrorKind::AuthFailed, "the credentials are not valid")
        .fix("send `Authorization: Bearer <token or API key>`; `linkspan auth login EMAIL` gets a token")
}

async fn whole_installation(app: &App, id: &str, name: &str, kind: CallerKind, project: Option<&str>) -> Result<CallContext> {
    let project = project.unwrap_or(DEFAULT_PROJECT);
    // The default project cannot be deleted: nobody needs to look whether it stands.
    let known = project == DEFAULT_PROJECT
        || app.store.document(projects::KIND, "", project).await?.is_some_and(|d| d.name.as_deref() == Some(project));
    if !known {
        return Err(projects::no_project());
    }
    let caller = Caller { kind, id: id.into(), name: name.into(), role: Some(Role::Admin), reach: Reach::Installation, scopes: None };
    Ok(CallContext::new(caller, project))
}

async fn by_key(app: &App, text: &str, project: Option<&str>) -> Result<CallContext> {
    let now = app.now_ms();
    let known = keys::known(&app.store, text, now).await?.ok_or_else(wrong)?;
    if project.is_some_and(|p| p != known.project) {
        return Err(projects::no_project());
    }
    if known.last_used_ms.is_none_or(|last| now - last >= LAST_USED_MS) {
        let seen = Edit::Observe { id: known.id, merge: json!({ "last_used_ms": now }) };
        // Not worth failing a call for.
        app.store.change(Change::new(now).edit(seen)).await.ok();
    }
    let caller = Caller {
        kind: CallerKind::Key,
        id: known.id.to_string(),
        name: known.name,
        role: Some(known.key.role),
        reach: Reach::Project,
        scopes: known.key.scopes,
    };
    Ok(CallContext::new(caller, known.project))
}

async fn by_token(app: &App, text: &str, project: Option<&str>) -> Result<CallContext> {
    let claims = app.identity.signer.check(text, app.now_ms() / 1000).map_err(|refused| {
        tracing::debug!(reason = refused.as_str(), "a session token was refused");
        wrong()
    })?;
    let id = Uuid::parse_str(&claims.sub).map_err(|_| wrong())?;
    let document = app.store.document_by_id(id).await?.filter(|d| d.kind == users::KIND).ok_or_else(wrong)?;
    let user: users::User = document.read()?;
    if user.disabled || user.session != claims.session {
        return Err(wrong());
    }
    let name = document.name.unwrap_or_default();
    if user.admin {
        return whole_installation(app, &claims.sub, &name, CallerKind::User, project).await;
    }
    let own = || match user.roles.contains_key(DEFAULT_PROJECT) {
        true => DEFAULT_PROJECT,
        // Somebody without any role may still ask who they are.
        false => user.roles.keys().next().map_or(DEFAULT_PROJECT, String::as_str),
    };
    let role = user.role_in(project.unwrap_or_else(own));
    if role.is_none() && project.is_some() {
        return Err(projects::no_project());
    }
    let project = project.unwrap_or_else(own);
    let caller = Caller { kind: CallerKind::User, id: claims.sub, name, role, reach: Reach::Project, scopes: None };
    Ok(CallContext::new(caller, project))
}
