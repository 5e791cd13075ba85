//! Who calls, what they may do, and in which project.

use std::fmt;

use linkspan_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may do in a project; each one may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and lists; secrets are masked for everybody.
    Viewer,
    /// Runs, cancels and retries what others made.
    Operator,
    /// Makes and changes connections.
    Editor,
    /// Makes and changes connectors, credentials, keys and members.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Editor, Self::Admin];
}

macro_rules! scopes {
    ($($variant:ident $text:literal $role:ident),* $(,)?) => {
        /// What a key can be limited to. Each scope names the least role that has it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Scope { $($variant),* }

        impl Scope {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
            pub const fn least_role(self) -> Role {
                match self { $(Self::$variant => Role::$role),* }
            }
        }
    };
}

scopes! {
    CatalogRead "catalog:read" Viewer,
    CatalogWrite "catalog:write" Admin,
    ConnectorsRead "connectors:read" Viewer,
    ConnectorsUse "connectors:use" Operator,
    ConnectorsWrite "connectors:write" Admin,
    ConnectorsSecrets "connectors:secrets" Admin,
    FilesWrite "files:write" Editor,
    ConnectionsRead "connections:read" Viewer,
    ConnectionsWrite "connections:write" Editor,
    SyncsRead "syncs:read" Viewer,
    SyncsRun "syncs:run" Operator,
    KeysRead "keys:read" Admin,
    KeysWrite "keys:write" Admin,
    UsersRead "users:read" Admin,
    UsersWrite "users:write" Admin,
    MembersRead "members:read" Admin,
    MembersWrite "members:write" Admin,
    ProjectsRead "projects:read" Viewer,
    ProjectsWrite "projects:write" Admin,
    AuditRead "audit:read" Admin,
    VaultRotate "vault:rotate" Admin,
    MetricsRead "metrics:read" Viewer,
    WebhooksRead "webhooks:read" Viewer,
    WebhooksWrite "webhooks:write" Editor,
    RecordsRead "records:read" Viewer,
    RecordsWrite "records:write" Operator,
    QueryRun "query:run" Operator,
    ActionsInvoke "actions:invoke" Operator,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a name.
    Anonymous,
    /// Everybody who is somebody, in any role.
    SignedIn,
    /// Who has the scope in the project of the call.
    Scoped(Scope),
    /// Who is admin of the whole installation: the admin key, or a user that is so.
    Installation(Scope),
}

impl Access {
    pub fn admit(self, caller: &Caller, operation: &'static str) -> Result<()> {
        let allowed = match self {
            Self::Anonymous => return Ok(()),
            _ if caller.kind == CallerKind::Anonymous => return Err(not_signed_in(operation)),
            Self::SignedIn => true,
            Self::Scoped(scope) => caller.may(scope),
            Self::Installation(scope) => caller.reach == Reach::Installation && caller.may(scope),
        };
        if allowed { Ok(()) } else { Err(self.refusal(caller, operation)) }
    }
    fn refusal(self, caller: &Caller, operation: &'static str) -> Error {
        let needs = match self {
            Self::Scoped(scope) => format!("{scope} (role {})", word(scope.least_role())),
            Self::Installation(_) => "an admin of the whole installation".into(),
            Self::Anonymous | Self::SignedIn => "a sign-in".into(),
        };
        Error::new(ErrorKind::PermissionDenied, "this caller may not do that")
            .with("operation", operation)
            .with("role", caller.role.map_or("none", word))
            .with("needs", needs)
            .fix("ask an admin of the project for the role, or use a key that has the scope")
    }
}

fn not_signed_in(operation: &'static str) -> Error {
    Error::new(ErrorKind::AuthFailed, "the request carries no valid credentials")
        .with("operation", operation)
        .fix("send `Authorization: Bearer <token or API key>`; `linkspan auth login EMAIL` gets a token")
}

pub fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Editor => "editor",
        Role::Admin => "admin",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    Anonymous,
    User,
    Key,
    /// This process on its own data dir.
    Local,
}

/// How far a caller's rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Project,
    Installation,
}

/// Who calls, with what they may do in the project of the call.
#[derive(Clone, Debug)]
pub struct Caller {
    pub kind: CallerKind,
    /// Of the user or key; `local` and `anonymous` for the others.
    pub id: String,
    /// For people: an email, a key's name.
    pub name: String,
    /// None: a caller that is known but has no role here.
    pub role: Option<Role>,
    pub reach: Reach,
    /// What a key is limited to: `connectors:read`, `connectors:*`, `*`. None: all that the role has.
    pub scopes: Option<Vec<String>>,
}

impl Caller {
    pub fn anonymous() -> Self {
        let name = "anonymous".to_owned();
        Self { kind: CallerKind::Anonymous, id: name.clone(), name, role: None, reach: Reach::Project, scopes: None }
    }
    /// The process itself, for commands that a person runs on their own data dir.
    pub fn local() -> Self {
        let name = "local".to_owned();
        Self { kind: CallerKind::Local, id: name.clone(), name, role: Some(Role::Admin), reach: Reach::Installation, scopes: None }
    }
    /// Tells callers apart, whatever they are: `user:...`, `key:...`.
    pub fn key(&self) -> String {
        let kind = match self.kind {
            CallerKind::Anonymous => "anonymous",
            CallerKind::User => "user",
            CallerKind::Key => "key",
            CallerKind::Local => "local",
        };
        format!("{kind}:{}", self.id)
    }
    pub fn may(&self, scope: Scope) -> bool {
        let by_role = self.role.is_some_and(|r| r >= scope.least_role());
        by_role && self.scopes.as_ref().is_none_or(|given| given.iter().any(|g| covers(g, scope.as_str())))
    }
}

/// `connectors:*` covers `connectors:read`; `*` covers all; `actions:invoke` covers `actions:invoke` only.
pub fn covers(given: &str, wanted: &str) -> bool {
    given == "*" || given == wanted || given.strip_suffix('*').is_some_and(|start| start.ends_with(':') && wanted.starts_with(start))
}

/// What comes with a call beside its input.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub caller: Caller,
    /// The project of the call: rows of others do not exist for it.
    pub project: String,
    /// `If-Match`: the version that an update was read at.
    pub if_match: Option<String>,
    pub idempotency_key: Option<String>,
    /// The digest of what is asked, when an idempotency key came with it; set by [`Operation::call`](crate::Operation::call).
    pub asked: Option<String>,
    /// The row that is called; set by [`Operation::call`](crate::Operation::call).
    pub operation: &'static str,
}

/// The project that everything belongs to when nobody says another.
pub const DEFAULT_PROJECT: &str = "default";

impl CallContext {
    pub fn new(caller: Caller, project: impl Into<String>) -> Self {
        Self { caller, project: project.into(), if_match: None, idempotency_key: None, asked: None, operation: "" }
    }
    pub fn local() -> Self {
        Self::new(Caller::local(), DEFAULT_PROJECT)
    }
    pub fn anonymous() -> Self {
        Self::new(Caller::anonymous(), DEFAULT_PROJECT)
    }
    /// Refuses an update that was made from an older version: `Conflict`.
    pub fn check_version(&self, stands: u64) -> Result<()> {
        match &self.if_match {
            Some(wanted)
                if wanted.trim() != "*"
                    && !wanted.split(',').any(|w| w.trim().trim_start_matches("W/").trim_matches('"') == stands.to_string()) =>
            {
                Err(Error::new(ErrorKind::Conflict, "somebody else changed it since it was read")
                    .with("version", stands)
                    .with("precondition", "if-match")
                    .fix("read it again, apply the change to what stands now, and send its ETag"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(role: Role, scopes: Option<&[&str]>) -> Caller {
        Caller {
            kind: CallerKind::Key,
            role: Some(role),
            reach: Reach::Project,
            scopes: scopes.map(|s| s.iter().map(|s| (*s).into()).collect()),
            ..Caller::local()
        }
    }

    #[test]
    fn a_scope_narrows_a_role_and_never_widens_it() {
        assert!(key(Role::Viewer, None).may(Scope::ConnectorsRead));
        assert!(!key(Role::Viewer, Some(&["*"])).may(Scope::ConnectorsWrite));
        assert!(key(Role::Admin, Some(&["connectors:*"])).may(Scope::ConnectorsWrite));
        assert!(!key(Role::Admin, Some(&["connectors:*"])).may(Scope::KeysWrite));
        assert!(!covers("conn*", "connectors:read"));
    }

    #[test]
    fn a_stale_version_is_a_conflict() {
        let mut context = CallContext::local();
        assert!(context.check_version(3).is_ok());
        context.if_match = Some("W/\"3\"".into());
        assert!(context.check_version(3).is_ok());
        assert_eq!(context.check_version(4).unwrap_err().kind(), ErrorKind::Conflict);
    }
}
