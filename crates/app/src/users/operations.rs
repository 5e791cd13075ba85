//! What an admin of the installation does with users.

use std::{collections::BTreeMap, sync::Arc};

use linkspan_core::{Error, ErrorKind, Result, Secret};
use linkspan_store::{Change, Document, DocumentFilter, Edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KIND, User, email_of, find, invited};
use crate::{
    app::App,
    caller::{Access, CallContext, Role, Scope},
    commit::once_more,
    moment::moment,
    operation::{Operation, Patch, Reply},
    paging::Page,
};

const READ: Access = Access::Installation(Scope::UsersRead);
const WRITE: Access = Access::Installation(Scope::UsersWrite);

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("users.list", "/v1/users", READ, "Every user of the installation.").cli("users list", &[]).call(list),
        Operation::post("users.create", "/v1/users", WRITE, "Makes a user with a password and a role per project.")
            .creates()
            .cli("auth create-user", &["email"])
            .call(create),
        Operation::get("users.show", "/v1/users/{user}", READ, "One user, by email or id.").cli("users show", &["user"]).call(show),
        Operation::patch("users.update", "/v1/users/{user}", WRITE, "Changes a user's password, roles or rights; open sessions end.")
            .cli("users update", &["user"])
            .call(update),
        Operation::delete("users.delete", "/v1/users/{user}", WRITE, "Deletes a user; open sessions end.")
            .cli("users delete", &["user"])
            .call(delete),
    ]
}

/// A user as it is shown: never the password's hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserShown {
    pub id: String,
    pub email: String,
    /// Admin of the whole installation.
    pub admin: bool,
    pub disabled: bool,
    /// The role in each project.
    pub roles: BTreeMap<String, Role>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Users {
    users: Vec<UserShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    #[schemars(regex(pattern = r"^[^@\s]+@[^@\s]+$"))]
    email: String,
    /// At least 8 characters. Without one the user cannot sign in until an admin sets it.
    #[serde(default)]
    #[schemars(length(min = 8, max = 1024))]
    password: Option<Secret>,
    /// Admin of the whole installation.
    #[serde(default)]
    admin: bool,
    /// The role in each project; `{"default": "viewer"}` when not said.
    #[serde(default)]
    roles: Option<BTreeMap<String, Role>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneUser {
    /// Email or id.
    user: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserPatch {
    /// Email or id.
    user: String,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    admin: Option<bool>,
    #[serde(default)]
    disabled: Option<bool>,
    /// Roles by project, merged: null takes one away.
    #[serde(default)]
    roles: BTreeMap<String, Patch<Role>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Deleted {
    deleted: bool,
    id: String,
}

pub fn shown(document: &Document, user: &User) -> UserShown {
    UserShown {
        id: document.id.to_string(),
        email: document.name.clone().unwrap_or_default(),
        admin: user.admin,
        disabled: user.disabled,
        roles: user.roles.clone(),
        created_at: moment(document.created_at_ms),
        updated_at: moment(document.updated_at_ms),
    }
}

async fn list(app: Arc<App>, _: CallContext, page: Page) -> Result<Reply<Users>> {
    let at = page.begin()?;
    let filter = DocumentFilter { after: at.seq, limit: Some(at.fetch()), ..DocumentFilter::of(KIND, "") };
    let page = at.cut(app.store.documents(filter).await?, |d| d.seq);
    let users = page.items.iter().map(|d| Ok(shown(d, &d.read()?))).collect::<Result<_>>()?;
    Ok(Reply::ok(Users { users, next_cursor: page.next }))
}

async fn create(app: Arc<App>, context: CallContext, new: NewUser) -> Result<Reply<UserShown>> {
    let email = email_of(&new.email)?;
    let roles = new.roles.unwrap_or_else(|| BTreeMap::from([(context.project.clone(), Role::Viewer)]));
    for project in roles.keys() {
        expect_project(&app, project).await?;
    }
    let password = match new.password {
        Some(password) => Some(app.identity.hash(password.expose().to_owned()).await?),
        None => None,
    };
    let user = User { password, admin: new.admin, disabled: false, roles, session: 0 };
    let now = app.now_ms();
    let document = Document::new(KIND, "", Some(&email), encoded(&user)?, now);
    let reply = Reply::created(format!("/v1/users/{}", document.id), shown(&document, &user)).version(document.version);
    let reply = app.commit(&context, Change::new(now).edit(Edit::insert(document)), reply).await?;
    // Projects may have given the email a role before; the version goes on with it.
    invited::accepted(&app, &email).await?;
    Ok(reply)
}

async fn show(app: Arc<App>, _: CallContext, one: OneUser) -> Result<Reply<UserShown>> {
    let (document, user) = find(&app.store, &one.user).await?;
    Ok(Reply::ok(shown(&document, &user)).version(document.version))
}

async fn update(app: Arc<App>, context: CallContext, patch: UserPatch) -> Result<Reply<UserShown>> {
    for (project, _) in patch.roles.iter().filter(|(_, role)| matches!(role, Patch::Set(_))) {
        expect_project(&app, project).await?;
    }
    let password = match &patch.password {
        Some(password) => Some(app.identity.hash(password.expose().to_owned()).await?),
        None => None,
    };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match update_once(&app, &context, &patch, password.clone()).await {
            Err(e) if once_more(&context, &e, attempt) => {}
            done => return done,
        }
    }
}

async fn update_once(app: &App, context: &CallContext, patch: &UserPatch, password: Option<String>) -> Result<Reply<UserShown>> {
    let (document, mut user) = find(&app.store, &patch.user).await?;
    context.check_version(document.version)?;
    let ends_sessions = password.is_some() || patch.disabled == Some(true);
    user.password = password.or(user.password);
    user.admin = patch.admin.unwrap_or(user.admin);
    user.disabled = patch.disabled.unwrap_or(user.disabled);
    user.session += u64::from(ends_sessions);
    for (project, role) in &patch.roles {
        match role {
            Patch::Set(role) => drop(user.roles.insert(project.clone(), *role)),
            Patch::Null | Patch::Absent => drop(user.roles.remove(project)),
        }
    }
    let now = app.now_ms();
    let document = document.revised(&user, now)?;
    let reply = Reply::ok(shown(&document, &user)).version(document.version);
    app.commit(context, Change::new(now).edit(Edit::update(document)), reply).await
}

async fn delete(app: Arc<App>, context: CallContext, one: OneUser) -> Result<Reply<Deleted>> {
    let (document, _) = find(&app.store, &one.user).await?;
    context.check_version(document.version)?;
    let reply = Reply::ok(Deleted { deleted: true, id: document.id.to_string() });
    // The hash goes for good with its user.
    let change = Change { erase: true, ..Change::new(app.now_ms()).edit(Edit::delete(&document)) };
    app.commit(&context, change, reply).await
}

async fn expect_project(app: &App, project: &str) -> Result<()> {
    match app.store.document("project", "", project).await? {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::ConfigInvalid, "a role is given in a project that does not exist")
            .with("project", project)
            .fix("make the project first: `linkspan projects create`")),
    }
}

fn encoded(user: &User) -> Result<serde_json::Value> {
    serde_json::to_value(user).map_err(|e| Error::new(ErrorKind::Internal, "a user could not be encoded").because(e))
}
