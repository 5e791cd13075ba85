//! Roles for emails that nobody has yet. They become the user's with the user.

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{AUDIT, Change, Document, DocumentFilter, Edit, NewEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::named;
use crate::{app::App, caller::Role};

pub(crate) const KIND: &str = "invitation";

/// How often a user is changed again that somebody else is changing.
const ATTEMPTS: u32 = 10;

/// As it is stored in its project; its name and facet are the email.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invitation {
    pub role: Role,
}

pub(crate) async fn find(app: &App, project: &str, email: &str) -> Result<Option<Document>> {
    Ok(app.store.document(KIND, project, email).await?.filter(|d| d.name.as_deref() == Some(email)))
}

/// What makes the invitation or changes it, and the role that stood in it.
pub(crate) async fn invite(app: &App, project: &str, email: &str, role: Role) -> Result<(Edit, Option<Role>)> {
    let now = app.now_ms();
    if let Some(document) = find(app, project, email).await? {
        let stands = document.read::<Invitation>()?.role;
        return Ok((Edit::update(document.revised(&Invitation { role }, now)?), Some(stands)));
    }
    let mut document = Document::new(KIND, project, Some(email), json!({ "role": role }), now);
    document.facet = email.to_owned();
    Ok((Edit::insert(document), None))
}

/// Every invitation in a project, for its end.
pub(crate) async fn in_project(app: &App, project: &str) -> Result<Vec<Edit>> {
    app.store.all_documents(DocumentFilter::of(KIND, project)).await.map(|all| all.iter().map(Edit::delete).collect())
}

/// Gives a user that there is now what its email was invited to. A role that was given otherwise meanwhile stays. Nothing without a user.
pub(crate) async fn accepted(app: &App, email: &str) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let filter = DocumentFilter { kind: KIND.into(), facet: Some(email.to_owned()), ..DocumentFilter::default() };
        let invitations = app.store.all_documents(filter).await?;
        if invitations.is_empty() {
            return Ok(());
        }
        let Some((document, mut user)) = named(&app.store, email).await? else { return Ok(()) };
        let now = app.now_ms();
        let mut change = Change::new(now);
        for invitation in &invitations {
            user.roles.entry(invitation.project.clone()).or_insert(invitation.read::<Invitation>()?.role);
            change.edits.push(Edit::delete(invitation));
            let body = json!({ "operation": "members.accepted", "kind": "member", "name": email });
            change.entries.push(NewEntry { kind: AUDIT.into(), project: String::new(), about: email.to_owned(), body, keep: None });
        }
        match app.store.change(change.edit(Edit::update(document.revised(&user, now)?))).await {
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            done => return done.map(drop),
        }
    }
    Err(Error::new(ErrorKind::Conflict, "the user is being changed all the time").fix("give the role once more"))
}
