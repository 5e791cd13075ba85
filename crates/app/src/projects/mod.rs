//! Projects: what belongs to one does not exist for the others.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Document, DocumentFilter, Edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    app::App,
    caller::{Access, CallContext, CallerKind, DEFAULT_PROJECT, Reach, Role, Scope, covers, word},
    commit::once_more,
    connectors::{expect_role, find_in},
    moment::moment,
    operation::{Operation, Patch, Reply},
    paging::Page,
    users,
};

pub const KIND: &str = "project";

/// What belongs to a project and keeps it from being deleted.
const OWNED: [&str; 3] = ["connector", "connection", "key"];

/// A project as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Project {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The connector that `bootstrap` and `pull` write to when nobody says another place; the built-in lake when not set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub destination: Option<Uuid>,
}

/// What is no id was written before destinations were looked up, when nothing went by them.
fn known<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Option<Uuid>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.and_then(|text| Uuid::try_parse(&text).ok()))
}

pub fn operations() -> Vec<Operation> {
    let write = Access::Installation(Scope::ProjectsWrite);
    vec![
        Operation::get("projects.list", "/v1/projects", Access::SignedIn, "The projects that the caller has a role in.")
            .cli("projects list", &[])
            .call(list),
        Operation::post("projects.create", "/v1/projects", write, "Makes a project.")
            .creates()
            .cli("projects create", &["name"])
            .call(create),
        Operation::get("projects.show", "/v1/projects/{project}", Access::SignedIn, "One project, by name or id.")
            .cli("projects show", &["project"])
            .call(show),
        Operation::patch(
            "projects.update",
            "/v1/projects/{project}",
            Access::SignedIn,
            "Changes a project's description or default destination; its own admins may.",
        )
        .cli("projects update", &["project"])
        .call(update),
        Operation::delete("projects.delete", "/v1/projects/{project}", write, "Deletes a project that is empty.")
            .cli("projects delete", &["project"])
            .call(delete),
    ]
}

/// A project as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Shown {
    id: String,
    name: String,
    description: Option<String>,
    /// The connector that `bootstrap`, `pull` and the name `data` mean; its id when it is gone.
    destination: String,
    /// The caller's role in it.
    role: Option<Role>,
    created_at: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Projects {
    projects: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct New {
    /// Letters, digits, `-` and `_`; at most 64.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    name: String,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Name or id.
    project: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Changed {
    /// Name or id.
    project: String,
    #[serde(default)]
    description: Patch<String>,
    /// A connector of the project that can be written to; `lake` or null for the built-in one.
    #[serde(default)]
    destination: Patch<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Deleted {
    deleted: bool,
    id: String,
}

async fn shown(app: &App, document: &Document, project: Project, role: Option<Role>) -> Result<Shown> {
    let destination = match project.destination {
        None => "lake".to_owned(),
        Some(id) => app.store.document_by_id(id).await?.and_then(|d| d.name).unwrap_or_else(|| id.to_string()),
    };
    Ok(Shown {
        id: document.id.to_string(),
        name: document.name.clone().unwrap_or_default(),
        description: project.description,
        destination,
        role,
        created_at: moment(document.created_at_ms),
    })
}

/// The connector that the project writes to when nobody says another; nothing for the built-in lake. It may be gone.
pub(crate) async fn default_destination(app: &App, project: &str) -> Result<Option<Uuid>> {
    let Some(document) = app.store.document(KIND, "", project).await? else { return Ok(None) };
    Ok(document.read::<Project>()?.destination)
}

/// A connector of the project that can be written to. `lake` is the built-in one, unless the project has a connector of that name.
async fn chosen(app: &App, project: &str, key: &str) -> Result<Option<Uuid>> {
    let key = key.trim();
    if key.contains(':') || key == "data" {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a default destination is a connector; each connection names its own table")
            .with("field", "destination")
            .fix("give the name of a connector, such as `warehouse`, or `lake`"));
    }
    match find_in(app, project, key).await {
        Ok((document, connector)) => {
            expect_role(app, project, &connector, key, linkspan_core::Role::Destination)
                .await
                .map_err(|e| e.with("field", "destination"))?;
            Ok(Some(document.id))
        }
        Err(e) if e.kind() == ErrorKind::NotFound && key == "lake" => Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::new(ErrorKind::ConfigInvalid, "the project has no such connector")
            .with("field", "destination")
            .with("connector", key)
            .fix(format!("`linkspan connectors list --project {project}` shows them; `lake` is built in"))),
        Err(e) => Err(e),
    }
}

/// The caller's role in any project, not only that of the call.
async fn roles(app: &App, context: &CallContext) -> Result<impl Fn(&str) -> Option<Role> + use<>> {
    let user = match context.caller.kind {
        CallerKind::User => Some(users::find(&app.store, &context.caller.id).await?.1),
        _ => None,
    };
    let (whole, here, project) = (context.caller.reach == Reach::Installation, context.caller.role, context.project.clone());
    Ok(move |name: &str| match &user {
        _ if whole => Some(Role::Admin),
        Some(user) => user.role_in(name),
        None => here.filter(|_| name == project),
    })
}

async fn list(app: Arc<App>, context: CallContext, page: Page) -> Result<Reply<Projects>> {
    let at = page.begin()?;
    let role_in = roles(&app, &context).await?;
    let filter = DocumentFilter { after: at.seq, limit: Some(at.fetch()), ..DocumentFilter::of(KIND, "") };
    let page = at.cut(app.store.documents(filter).await?, |d| d.seq);
    let mut projects = Vec::new();
    for document in &page.items {
        if let Some(role) = role_in(document.name.as_deref().unwrap_or_default()) {
            projects.push(shown(&app, document, document.read()?, Some(role)).await?);
        }
    }
    Ok(Reply::ok(Projects { projects, next_cursor: page.next }))
}

async fn create(app: Arc<App>, context: CallContext, new: New) -> Result<Reply<Shown>> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if new.name.is_empty() || new.name.len() > 64 || !new.name.chars().all(valid) {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a project's name is letters, digits, `-` and `_`, at most 64")
            .with("field", "name")
            .fix("choose a name such as `acme`"));
    }
    let project = Project { description: new.description, destination: None };
    let now = app.now_ms();
    let body = serde_json::to_value(&project).map_err(|e| Error::new(ErrorKind::Internal, "a project could not be encoded").because(e))?;
    let document = Document::new(KIND, "", Some(&new.name), body, now);
    let reply = Reply::created(format!("/v1/projects/{}", new.name), shown(&app, &document, project, Some(Role::Admin)).await?).version(1);
    app.commit(&context, Change::new(now).edit(Edit::insert(document)), reply).await
}

/// `NotFound` for one that does not exist, and for one that the caller has no role in.
async fn find(app: &App, context: &CallContext, key: &str) -> Result<(Document, Role)> {
    let role_in = roles(app, context).await?;
    let found = app.store.document(KIND, "", key).await?;
    found.and_then(|d| role_in(d.name.as_deref().unwrap_or_default()).map(|role| (d, role))).ok_or_else(no_project)
}

pub(crate) fn no_project() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such project").fix("`linkspan projects list` shows yours")
}

async fn show(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Shown>> {
    let (document, role) = find(&app, &context, &one.project).await?;
    let project = document.read()?;
    Ok(Reply::ok(shown(&app, &document, project, Some(role)).await?).version(document.version))
}

async fn update(app: Arc<App>, context: CallContext, changed: Changed) -> Result<Reply<Shown>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match update_once(&app, &context, &changed).await {
            Err(e) if once_more(&context, &e, attempt) => {}
            done => return done,
        }
    }
}

/// An admin of the project, by a key that may.
fn admit(context: &CallContext, role: Role) -> Result<()> {
    let scope = Scope::ProjectsWrite;
    let covered = context.caller.scopes.as_ref().is_none_or(|given| given.iter().any(|g| covers(g, scope.as_str())));
    if role >= scope.least_role() && covered {
        return Ok(());
    }
    Err(Error::new(ErrorKind::PermissionDenied, "this caller may not change the project")
        .with("role", word(role))
        .with("needs", format!("{scope} (role {})", word(scope.least_role())))
        .fix("ask an admin of the project"))
}

async fn update_once(app: &App, context: &CallContext, changed: &Changed) -> Result<Reply<Shown>> {
    let (document, role) = find(app, context, &changed.project).await?;
    admit(context, role)?;
    context.check_version(document.version)?;
    let name = document.name.clone().unwrap_or_default();
    let mut project: Project = document.read()?;
    changed.description.clone().apply(&mut project.description);
    match &changed.destination {
        Patch::Absent => {}
        Patch::Null => project.destination = None,
        Patch::Set(key) => project.destination = chosen(app, &name, key).await?,
    }
    let now = app.now_ms();
    let document = document.revised(&project, now)?;
    let reply = Reply::ok(shown(app, &document, project, Some(role)).await?).version(document.version);
    app.commit(context, Change::new(now).edit(Edit::update(document)), reply).await
}

async fn delete(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Deleted>> {
    let (document, _) = find(&app, &context, &one.project).await?;
    context.check_version(document.version)?;
    let name = document.name.clone().unwrap_or_default();
    if name == DEFAULT_PROJECT {
        return Err(Error::new(ErrorKind::Conflict, "the default project stays").fix("delete what is in it instead"));
    }
    for kind in OWNED {
        let count: u64 = app.store.count_documents(kind, &name).await?.iter().map(|(_, n)| n).sum();
        if count > 0 {
            return Err(Error::new(ErrorKind::Conflict, format!("the project still has {count} {kind}s"))
                .with("project", &name)
                .fix(format!("delete its {kind}s first")));
        }
    }
    let reply = Reply::ok(Deleted { deleted: true, id: document.id.to_string() });
    let mut change = Change::new(app.now_ms()).edit(Edit::delete(&document));
    change.edits.extend(without_roles_in(&app, &name).await?);
    app.commit(&context, change, reply).await
}

/// A later project of the same name must not inherit its members.
async fn without_roles_in(app: &App, project: &str) -> Result<Vec<Edit>> {
    let mut edits = users::invited::in_project(app, project).await?;
    for document in app.store.all_documents(DocumentFilter::of(users::KIND, "")).await? {
        let mut user: users::User = document.read()?;
        if user.roles.remove(project).is_some() {
            edits.push(Edit::update(document.revised(&user, app.now_ms())?));
        }
    }
    Ok(edits)
}
