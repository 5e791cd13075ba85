//! Who has which role in a project, as an admin of that project sees and sets it. What a user is elsewhere is nobody's business here, nor
//! whether there is one at all: a role may be given to an email that nobody has yet, and looks no different.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Document, DocumentFilter, Edit, NewEntry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    app::App,
    caller::{Access, CallContext, Role, Scope, word},
    commit::{audit_line, once_more},
    operation::{Operation, Reply},
    paging::Page,
    users::{self, User, email_of, invited, named},
};

pub fn operations() -> Vec<Operation> {
    let (read, write) = (Access::Scoped(Scope::MembersRead), Access::Scoped(Scope::MembersWrite));
    vec![
        Operation::get("members.list", "/v1/members", read, "Who has which role in the project of the call.")
            .cli("members list", &[])
            .call(list),
        Operation::put("members.set", "/v1/members/{user}", write, "Gives an email a role in the project of the call, or another one.")
            .cli("members set", &["user", "role"])
            .call(set),
        Operation::delete("members.remove", "/v1/members/{user}", write, "Takes a user's role in the project of the call away.")
            .cli("members remove", &["user"])
            .call(remove),
    ]
}

/// Somebody with a role in the project: it counts from when there is a user of this email.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Member {
    email: String,
    role: Role,
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
    /// An email, whether anybody has it yet or not.
    user: String,
    /// At most the caller's own. Looked at only when this is an email.
    #[serde(default)]
    #[schemars(required, with = "Role")]
    role: Option<Role>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// The email.
    user: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Removed {
    removed: bool,
    email: String,
}

/// In the order of their emails, whatever they are here or elsewhere; a cursor is a place in that order.
async fn list(app: Arc<App>, context: CallContext, page: Page) -> Result<Reply<Members>> {
    let at = page.begin()?;
    let mut members = Vec::new();
    for document in all(&app, users::KIND, "").await? {
        let role = document.read::<User>()?.roles.get(&context.project).copied();
        members.extend(role.map(|role| member(&document, role)));
    }
    for document in all(&app, invited::KIND, &context.project).await? {
        members.push(member(&document, document.read::<invited::Invitation>()?.role));
    }
    members.sort_by(|a, b| a.email.cmp(&b.email));
    let rest = (1_i64..).zip(members).filter(|(place, _)| at.seq.is_none_or(|before| *place > before)).collect();
    let page = at.cut(rest, |(place, _): &(i64, Member)| *place);
    Ok(Reply::ok(Members { members: page.items.into_iter().map(|(_, member)| member).collect(), next_cursor: page.next }))
}

fn member(document: &Document, role: Role) -> Member {
    Member { email: document.name.clone().unwrap_or_default(), role }
}

async fn all(app: &App, kind: &str, project: &str) -> Result<Vec<Document>> {
    app.store.all_documents(DocumentFilter::of(kind, project)).await
}

async fn set(app: Arc<App>, context: CallContext, given: Given) -> Result<Reply<Member>> {
    // Nobody is called so, and nobody will be.
    let email = email_of(&given.user).map_err(|_| no_member())?;
    let role = given.role.ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "the request lacks a field")
            .with("field", "role")
            .fix("add `role`: viewer, operator, editor or admin")
    })?;
    refuse_above(&context, role)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_set(&app, &context, &email, role).await {
            Err(e) if once_more(&context, &e, attempt) => {}
            // Invited at the same moment by somebody else.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
            done => return done,
        }
    }
}

const ATTEMPTS: u32 = 3;

async fn try_set(app: &App, context: &CallContext, email: &str, role: Role) -> Result<Reply<Member>> {
    let now = app.now_ms();
    let reply = Reply::ok(Member { email: email.to_owned(), role });
    let change = Change::new(now).entry(line(context, email));
    let Some((document, mut user)) = named(&app.store, email).await? else {
        let (edit, stands) = invited::invite(app, &context.project, email, role).await?;
        if let Some(stands) = stands {
            refuse_above(context, stands)?;
        }
        let reply = app.commit(context, change.edit(edit), reply).await?;
        // Made while this was being written: whoever comes last of the two finds the other.
        invited::accepted(app, email).await?;
        return Ok(reply);
    };
    if let Some(stands) = user.roles.insert(context.project.clone(), role) {
        refuse_above(context, stands)?;
    }
    let document = document.revised(&user, now)?;
    app.commit(context, change.edit(Edit::update(document)), reply).await
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
    let email = one.user.trim().to_lowercase();
    let reply = Reply::ok(Removed { removed: true, email: email.clone() });
    let now = app.now_ms();
    let change = Change::new(now).entry(line(context, &email));
    if let Some(invitation) = invited::find(app, &context.project, &email).await? {
        refuse_above(context, invitation.read::<invited::Invitation>()?.role)?;
        return app.commit(context, change.edit(Edit::delete(&invitation)), reply).await;
    }
    let Some((document, mut user)) = named(&app.store, &email).await? else { return Err(no_member()) };
    let Some(stands) = user.roles.remove(&context.project) else { return Err(no_member()) };
    refuse_above(context, stands)?;
    let document = document.revised(&user, now)?;
    app.commit(context, change.edit(Edit::update(document)), reply).await
}

/// The same of a user and of an email that is nobody's.
fn line(context: &CallContext, email: &str) -> NewEntry {
    audit_line(context, email, json!({ "kind": "member", "name": email }))
}

fn no_member() -> Error {
    Error::new(ErrorKind::NotFound, "nobody of this email has a role here").fix("`linkspan members list` shows who has one")
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
