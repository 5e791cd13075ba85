//! People: an email, a password's hash, and a role per project.

pub(crate) mod invited;
mod operations;

use std::collections::BTreeMap;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Document, Store};
use serde::{Deserialize, Serialize};

pub use self::operations::{UserShown, operations, shown};
use crate::caller::Role;

pub const KIND: &str = "user";

/// A user as it is stored; its name is the email.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// In PHC form; none for one that cannot sign in by password.
    pub password: Option<String>,
    /// Admin of the whole installation.
    pub admin: bool,
    pub disabled: bool,
    pub roles: BTreeMap<String, Role>,
    /// Raised when sessions are to end: a new password, a sign-out, a ban.
    pub session: u64,
}

impl User {
    pub fn role_in(&self, project: &str) -> Option<Role> {
        if self.admin { Some(Role::Admin) } else { self.roles.get(project).copied() }
    }
}

/// Emails are compared without case.
pub fn email_of(text: &str) -> Result<String> {
    let email = text.trim().to_lowercase();
    let valid = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if !valid || email.len() > 254 || email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::new(ErrorKind::ConfigInvalid, "this is no email address")
            .with("field", "email")
            .fix("write it like ada@example.com"));
    }
    Ok(email)
}

/// By email alone.
pub async fn named(store: &Store, email: &str) -> Result<Option<(Document, User)>> {
    let found = store.document(KIND, "", email).await?.filter(|d| d.name.as_deref() == Some(email));
    found.map(|document| document.read().map(|user| (document, user))).transpose()
}

/// By email or id.
pub async fn find(store: &Store, key: &str) -> Result<(Document, User)> {
    let found = store.document(KIND, "", &key.trim().to_lowercase()).await?;
    let document = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such user").fix("`linkspan users list` shows them"))?;
    let user = document.read()?;
    Ok((document, user))
}
