//! What an admin of a project does with its API keys.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, MASK, Result, suggest};
use linkspan_store::{Change, Document, DocumentFilter, Edit, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KIND, Key};
use crate::{
    app::{App, Mode},
    caller::{Access, CallContext, Caller, Role, Scope, covers, word},
    identity::{fingerprint, hex, random},
    moment::{moment, moment_of},
    operation::{Operation, Reply},
    paging::Page,
};

pub fn operations() -> Vec<Operation> {
    let (read, write) = (Access::Scoped(Scope::KeysRead), Access::Scoped(Scope::KeysWrite));
    vec![
        Operation::get("keys.list", "/v1/keys", read, "The API keys of the project; never the keys themselves.")
            .cli("auth keys list", &[])
            .call(list),
        Operation::post("keys.create", "/v1/keys", write, "Makes an API key. The answer is the only time it is shown.")
            .creates()
            .cli("auth keys create", &["name"])
            .call(create),
        Operation::get("keys.show", "/v1/keys/{key}", read, "One API key, by id or name.").cli("auth keys show", &["key"]).call(show),
        Operation::delete("keys.revoke", "/v1/keys/{key}", write, "Revokes an API key at once.")
            .cli("auth keys revoke", &["key"])
            .call(revoke),
    ]
}

/// An API key as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Shown {
    id: String,
    name: String,
    /// What the key begins with.
    prefix: String,
    role: Role,
    /// What it is limited to; null: all that the role may.
    scopes: Option<Vec<String>>,
    created_by: String,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    /// The key itself: shown when it is made, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Keys {
    keys: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct New {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// `viewer` when not said.
    #[serde(default)]
    role: Option<Role>,
    /// What the key is limited to: `connectors:read`, `connectors:*`, ...; all that the role may when not said.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// When it ends, as `2026-03-07T10:00:00Z`.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// Or after how many days it ends.
    #[serde(default)]
    expires_in_days: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Id or name.
    key: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Revoked {
    deleted: bool,
    id: String,
}

fn shown(document: &Document, key: &Key) -> Shown {
    Shown {
        id: document.id.to_string(),
        name: document.name.clone().unwrap_or_default(),
        prefix: key.prefix.clone(),
        role: key.role,
        scopes: key.scopes.clone(),
        created_by: key.created_by.clone(),
        created_at: moment(document.created_at_ms),
        expires_at: key.expires_at_ms.map(moment),
        last_used_at: document.observed["last_used_ms"].as_i64().map(moment),
        key: None,
    }
}

async fn list(app: Arc<App>, context: CallContext, page: Page) -> Result<Reply<Keys>> {
    let at = page.begin()?;
    let filter = DocumentFilter { after: at.seq, limit: Some(at.fetch()), ..DocumentFilter::of(KIND, &context.project) };
    let page = at.cut(app.store.documents(filter).await?, |d| d.seq);
    let keys = page.items.iter().map(|d| Ok(shown(d, &d.read()?))).collect::<Result<_>>()?;
    Ok(Reply::ok(Keys { keys, next_cursor: page.next }))
}

async fn create(app: Arc<App>, context: CallContext, new: New) -> Result<Reply<Shown>> {
    let now = app.now_ms();
    let name = new.name.trim();
    if name.is_empty() || name.len() > 200 {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a key needs a name of at most 200 characters").with("field", "name"));
    }
    let expires_at_ms = end_of(&new, now)?;
    let role = new.role.unwrap_or(Role::Viewer);
    refuse_higher(&context.caller, role)?;
    let scopes = narrowed(&context.caller, new.scopes)?;
    let mut document = Document::new(KIND, &context.project, Some(name), serde_json::Value::Null, now);
    let environment = if app.settings.mode == Mode::Production { "live" } else { "dev" };
    let prefix = format!("lk_{environment}_{}", document.id.simple());
    let text = format!("{prefix}_{}", hex(&random::<32>()?));
    let key = Key {
        fingerprint: fingerprint(&text),
        prefix,
        role,
        scopes,
        expires_at_ms,
        revoked_at_ms: None,
        created_by: context.caller.name.clone(),
    };
    document.body = Json::of(&key)?;
    let once = |key_text: String| {
        let shown = Shown { key: Some(key_text), ..shown(&document, &key) };
        Reply::created(format!("/v1/keys/{}", document.id), shown)
    };
    let (reply, later) = (once(text), once(MASK.into()));
    app.commit_once(&context, Change::new(now).edit(Edit::insert(document)), reply, &later).await
}

fn end_of(new: &New, now_ms: i64) -> Result<Option<i64>> {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let end = match (&new.expires_at, new.expires_in_days) {
        (Some(_), Some(_)) => {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a key ends once").fix("give `expires_at` or `expires_in_days`, not both"));
        }
        (Some(text), None) => moment_of(text, "expires_at")?,
        (None, Some(days)) => now_ms.saturating_add(DAY_MS * i64::from(days)),
        (None, None) => return Ok(None),
    };
    if end <= now_ms {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the key would have ended already").fix("choose a later end"));
    }
    Ok(Some(end))
}

/// Nobody makes a key of a role above their own.
fn refuse_higher(caller: &Caller, role: Role) -> Result<()> {
    match caller.role {
        Some(own) if role <= own => Ok(()),
        _ => Err(Error::new(ErrorKind::PermissionDenied, "a key cannot have a role above its maker's").with("role", word(role))),
    }
}

/// Known scopes only, and none that the caller does not have: a limited key makes no wider one.
fn narrowed(caller: &Caller, asked: Option<Vec<String>>) -> Result<Option<Vec<String>>> {
    for scope in asked.iter().flatten() {
        if !Scope::ALL.iter().any(|s| covers(scope, s.as_str())) {
            let known: Vec<&str> = Scope::ALL.iter().map(|s| s.as_str()).collect();
            let fix =
                suggest::did_you_mean(scope, known.iter().copied()).unwrap_or_else(|| format!("the scopes are: {}", known.join(", ")));
            return Err(Error::new(ErrorKind::ConfigInvalid, "there is no such scope").with("scope", scope).fix(fix));
        }
    }
    let Some(own) = &caller.scopes else { return Ok(asked) };
    let Some(asked) = asked else { return Ok(Some(own.clone())) };
    match asked.iter().find(|scope| !own.iter().any(|o| covers(o, scope))) {
        Some(wider) => Err(Error::new(ErrorKind::PermissionDenied, "a key cannot give what it does not have").with("scope", wider)),
        None => Ok(Some(asked)),
    }
}

async fn find(app: &App, context: &CallContext, key: &str) -> Result<Document> {
    let found = app.store.document(KIND, &context.project, key).await?;
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such key").fix("`linkspan auth keys list` shows them"))
}

async fn show(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Shown>> {
    let document = find(&app, &context, &one.key).await?;
    let key = document.read()?;
    Ok(Reply::ok(shown(&document, &key)).version(document.version))
}

async fn revoke(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Revoked>> {
    let document = find(&app, &context, &one.key).await?;
    context.check_version(document.version)?;
    let reply = Reply::ok(Revoked { deleted: true, id: document.id.to_string() });
    app.commit(&context, Change::new(app.now_ms()).edit(Edit::delete(&document)), reply).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_key_gives_no_more_than_it_has() {
        let limited = Caller { scopes: Some(vec!["connectors:*".into(), "keys:write".into()]), ..Caller::local() };
        let of = |scopes: &[&str]| narrowed(&limited, Some(scopes.iter().map(|s| (*s).into()).collect()));
        assert!(of(&["connectors:read", "connectors:*"]).is_ok());
        for wider in ["*", "users:write", "keys:*"] {
            assert_eq!(of(&[wider]).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        assert_eq!(of(&["conectors:read"]).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        assert_eq!(narrowed(&limited, None).unwrap(), limited.scopes);
    }
}
