//! Who has which role in a project, as an admin of that project sees and sets it. What a user is elsewhere is nobody's business here.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Document, DocumentFilter, Edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    caller::{Access, CallContext, Role, Scope, word},
    commit::once_more,
    operation::{Operation, Reply},
    paging::Page,
    users::{self, User},
};

pub fn operations() -> Vec<Operation> {
    let (read, write) = (Access::Scoped(Scope::MembersRead), Access::Scoped(Scope::MembersWrite));
    vec![
        Operation::get("members.list", "/v1/members", read, "Who has which role in the project of the call.")
            .cli("members list", &[])
            .call(list),
        Operation::put("members.set", "/v1/members/{user}", write, "Gives a user a role in the project of the call, or another one.")
            .cli("members set", &["user", "role"])
            .call(set),
        Operation::delete("members.remove", "/v1/members/{user}", write, "Takes a user's role in the project of the call away.")
            .cli("members remove", &["user"])
            .call(remove),
    ]
}

/// A user of the project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Member {
    email: String,
    role: Role,
    disabled: bool,
    id: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Members {
    members: Vec<Member>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Given {
    /// Email or id.
    user: String,
    /// At most the caller's own. Looked at only when there is such a user.
    #[serde(default)]
    #[schemars(required, with = "Role")]
    role: Option<Role>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Email or id.
    user: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Removed {
    removed: bool,
    email: String,
}

fn member(document: &Document, user: &User, role: Role) -> Member {
    Member { email: document.name.clone().unwrap_or_default(), role, disabled: user.disabled, id: document.id.to_string() }
}

/// A page is of users; those without a role here are left out of it, so that it may be short.
async fn list(app: Arc<App>, context: CallContext, page: Page) -> Result<Reply<Members>> {
    let at = page.begin()?;
    let filter = DocumentFilter { after: at.seq, limit: Some(at.fetch()), ..DocumentFilter::of(users::KIND, "") };
    let page = at.cut(app.store.documents(filter).await?, |d| d.seq);
    let mut members = Vec::new();
    for document in &page.items {
        let user: User = document.read()?;
        if let Some(role) = user.roles.get(&context.project) {
            members.push(member(document, &user, *role));
        }
    }
    Ok(Reply::ok(Members { members, next_cursor: page.next }))
}

async fn set(app: Arc<App>, context: CallContext, given: Given) -> Result<Reply<Member>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_set(&app, &context, &given).await {
            Err(e) if once_more(&context, &e, attempt) => {}
            done => return done,
        }
    }
}

async fn try_set(app: &App, context: &CallContext, given: &Given) -> Result<Reply<Member>> {
    let (document, mut user) = find(app, &given.user).await?;
    let role = given.role.ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "the request lacks a field")
            .with("field", "role")
            .fix("add `role`: viewer, operator, editor or admin")
    })?;
    refuse_above(context, role)?;
    if let Some(stands) = user.roles.get(&context.project) {
        refuse_above(context, *stands)?;
    }
    user.roles.insert(context.project.clone(), role);
    let now = app.now_ms();
    let document = document.revised(&user, now)?;
    let reply = Reply::ok(member(&document, &user, role));
    app.commit(context, Change::new(now).edit(Edit::update(document)), reply).await
}

async fn remove(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Removed>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_remove(&app, &context, &one).await {
            Err(e) if once_more(&context, &e, attempt) => {}
            done => return done,
        }
    }
}

async fn try_remove(app: &App, context: &CallContext, one: &One) -> Result<Reply<Removed>> {
    let (document, mut user) = find(app, &one.user).await?;
    let Some(stands) = user.roles.remove(&context.project) else { return Err(no_member()) };
    refuse_above(context, stands)?;
    let now = app.now_ms();
    let document = document.revised(&user, now)?;
    let reply = Reply::ok(Removed { removed: true, email: document.name.clone().unwrap_or_default() });
    app.commit(context, Change::new(now).edit(Edit::update(document)), reply).await
}

async fn find(app: &App, key: &str) -> Result<(Document, User)> {
    users::find(&app.store, key).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => no_member(),
        _ => e,
    })
}

fn no_member() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such user here").fix(
        "`linkspan members list` shows those of the project; an admin of the installation makes new users (`linkspan auth create-user`)",
    )
}

/// Nobody gives or takes more than they have: neither by their role, nor by the scopes that their key is limited to.
pub(crate) fn refuse_above(context: &CallContext, role: Role) -> Result<()> {
    let caller = &context.caller;
    let above = caller.role.is_none_or(|own| role > own);
    let beyond = Scope::ALL.iter().find(|scope| scope.least_role() <= role && !caller.may(**scope));
    if !above && (caller.scopes.is_none() || beyond.is_none()) {
        return Ok(());
    }
    let mut error = Error::new(ErrorKind::PermissionDenied, "nobody gives or takes a role above their own").with("role", word(role));
    if let (false, Some(scope)) = (above, beyond) {
        error = error.with("scope", scope);
    }
    Err(error.fix("ask somebody who has the role without limits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{Caller, CallerKind, Reach};

    fn context(role: Role, scopes: Option<&[&str]>) -> CallContext {
        let scopes = scopes.map(|s| s.iter().map(|s| (*s).to_owned()).collect());
        CallContext::new(Caller { kind: CallerKind::Key, role: Some(role), reach: Reach::Project, scopes, ..Caller::local() }, "acme")
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        for own in Role::ALL {
            for given in Role::ALL {
                assert_eq!(refuse_above(&context(own, None), given).is_ok(), given <= own, "{own:?} gives {given:?}");
            }
        }
        let limited = context(Role::Admin, Some(&["members:*"]));
        assert!(Role::ALL.iter().all(|given| refuse_above(&limited, *given).is_err()));
        assert!(refuse_above(&context(Role::Admin, Some(&["*"])), Role::Admin).is_ok());
    }
}
