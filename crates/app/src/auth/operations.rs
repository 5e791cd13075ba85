//! Signing in and out, and who one is.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result, Secret};
use linkspan_store::{Change, Document, Edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    caller::{Access, CallContext, CallerKind, Reach, Role},
    commit::audit_line,
    identity::Claims,
    moment::moment,
    operation::{Nothing, Operation, Reply},
    users::{self, User, UserShown},
};

/// How long a session lasts.
const SESSION_SECONDS: i64 = 12 * 3600;

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post("auth.login", "/v1/auth/login", Access::Anonymous, "Exchanges an email and a password for a session token.")
            .cli("auth login", &["email"])
            .call(login),
        Operation::get("auth.me", "/v1/auth/me", Access::SignedIn, "Who the caller is, and what it may do in this project.")
            .cli("auth whoami", &[])
            .call(me),
        Operation::post("auth.password", "/v1/auth/password", Access::SignedIn, "Changes the caller's own password; other sessions end.")
            .cli("auth password", &[])
            .call(password),
        Operation::post("auth.logout", "/v1/auth/logout", Access::SignedIn, "Ends every session of the caller.")
            .cli("auth logout", &[])
            .call(logout),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    password: Secret,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Session {
    /// Send it as `Authorization: Bearer <token>`.
    token: String,
    /// `Bearer`.
    token_type: String,
    expires_at: String,
    user: UserShown,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Me {
    /// `user`, `key` or `local`.
    kind: String,
    id: String,
    name: String,
    project: String,
    role: Option<Role>,
    /// What a key is limited to; null: all that the role may.
    scopes: Option<Vec<String>>,
    /// Whether the caller is admin of the whole installation.
    installation: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    current: Secret,
    new: Secret,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Ended {
    /// Whether the sessions so far are over.
    ended: bool,
}

async fn login(app: Arc<App>, context: CallContext, given: Login) -> Result<Reply<Session>> {
    let name = given.email.trim().to_lowercase();
    let now = app.now_ms();
    app.identity.attempts.admit(&name, now)?;
    let found = users::named(&app.store, &name).await?;
    let stored = found.as_ref().filter(|(_, user)| !user.disabled).and_then(|(_, user)| user.password.clone());
    let known = app.identity.verify(given.password.expose().to_owned(), stored).await?;
    match found {
        Some((document, user)) if known => {
            app.identity.attempts.succeeded(&name);
            let session = session_of(&app, &document, &user)?;
            note(&app, &context, &document, "signed in").await?;
            Ok(Reply::ok(session))
        }
        found => {
            app.identity.attempts.failed(&name, now);
            match found {
                Some((document, _)) => note(&app, &context, &document, "refused").await?,
                // As much work as for a known name, so that the time tells nothing; and nothing that stays, so that nobody fills the disk.
                None => drop(app.store.change(Change::new(now)).await?),
            }
            Err(Error::new(ErrorKind::AuthFailed, "the email or the password is not right")
                .fix("check both; an admin can set a new password"))
        }
    }
}

fn session_of(app: &App, document: &Document, user: &User) -> Result<Session> {
    let iat = app.now_ms() / 1000;
    let claims = Claims { sub: document.id.to_string(), iat, exp: iat + SESSION_SECONDS, session: user.session };
    Ok(Session {
        token: app.identity.signer.sign(&claims)?,
        token_type: "Bearer".into(),
        expires_at: moment(claims.exp * 1000),
        user: users::shown(document, user),
    })
}

async fn note(app: &App, context: &CallContext, user: &Document, outcome: &str) -> Result<()> {
    let line = audit_line(context, &user.id.to_string(), json!({ "kind": users::KIND, "name": user.name, "outcome": outcome }));
    app.store.change(Change::new(app.now_ms()).entry(line)).await.map(drop)
}

async fn me(_: Arc<App>, context: CallContext, _: Nothing) -> Result<Reply<Me>> {
    let caller = context.caller;
    let kind = caller.key().split(':').next().unwrap_or_default().to_owned();
    Ok(Reply::ok(Me {
        kind,
        id: caller.id,
        name: caller.name,
        project: context.project,
        role: caller.role,
        scopes: caller.scopes,
        installation: caller.reach == Reach::Installation,
    }))
}

async fn own(app: &App, context: &CallContext) -> Result<(Document, User)> {
    let id = (context.caller.kind == CallerKind::User).then(|| Uuid::parse_str(&context.caller.id).ok()).flatten();
    let Some(id) = id else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "only a user has a password and sessions").fix("sign in as a user"));
    };
    let document = app.store.document_by_id(id).await?.filter(|d| d.kind == users::KIND);
    let document = document.ok_or_else(|| Error::new(ErrorKind::NotFound, "the user was deleted"))?;
    let user = document.read()?;
    Ok((document, user))
}

async fn password(app: Arc<App>, context: CallContext, given: NewPassword) -> Result<Reply<Session>> {
    let (document, mut user) = own(&app, &context).await?;
    let now = app.now_ms();
    app.identity.attempts.admit(&context.caller.id, now)?;
    if !app.identity.verify(given.current.expose().to_owned(), user.password.clone()).await? {
        app.identity.attempts.failed(&context.caller.id, now);
        return Err(Error::new(ErrorKind::AuthFailed, "the current password is not right"));
    }
    user.password = Some(app.identity.hash(given.new.expose().to_owned()).await?);
    user.session += 1;
    let document = document.revised(&user, now)?;
    let session = session_of(&app, &document, &user)?;
    let later = Session { token: linkspan_core::MASK.into(), ..session.clone() };
    let change = Change { erase: true, ..Change::new(now).edit(Edit::update(document)) };
    app.commit_once(&context, change, Reply::ok(session), &Reply::ok(later)).await
}

async fn logout(app: Arc<App>, context: CallContext, _: Nothing) -> Result<Reply<Ended>> {
    let (document, mut user) = own(&app, &context).await?;
    user.session += 1;
    let now = app.now_ms();
    let change = Change::new(now).edit(Edit::update(document.revised(&user, now)?));
    app.commit(&context, change, Reply::ok(Ended { ended: true })).await
}
