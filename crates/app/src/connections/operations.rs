//! What a user does with connections.

use std::sync::Arc;

use linkspan_core::{ConnectionId, Error, Result};
use linkspan_store::{Change, Document, DocumentFilter, Edit, ResetOf, SecretEdit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    change::{Ends, Positions, changed, checked_name, made},
    ends::{self, Dest},
    fields::{Changes, New},
    kept::{KIND, Kept, row, schedule_entry},
    shown::{Shown, end_names, unknown},
};
use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    commit::once_more,
    moment::moment,
    operation::{Operation, Patch, Reply},
    paging::Page,
};

pub fn operations() -> Vec<Operation> {
    let (read, write) = (Access::Scoped(Scope::ConnectionsRead), Access::Scoped(Scope::ConnectionsWrite));
    vec![
        Operation::get("connections.list", "/v1/connections", read, "The connections of the project.")
            .cli("connections list", &[])
            .call(list),
        Operation::post("connections.create", "/v1/connections", write, "Makes a connection. Nothing is connected to yet.")
            .creates()
            .cli("connections create", &["name"])
            .call(create),
        Operation::get("connections.show", "/v1/connections/{connection}", read, "One connection, by id or name.")
            .cli("connections show", &["connection"])
            .call(show),
        Operation::patch(
            "connections.update",
            "/v1/connections/{connection}",
            write,
            "Changes the fields that are sent. Another source or destination begins from the start.",
        )
        .cli("connections update", &["connection"])
        .call(update),
        Operation::delete(
            "connections.delete",
            "/v1/connections/{connection}",
            write,
            "Forgets a connection with its runs and positions. What is at the destination stays.",
        )
        .cli("connections delete", &["connection"])
        .call(delete),
    ]
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Connections {
    connections: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Id or name.
    connection: String,
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    pub deleted: bool,
    pub id: String,
}

/// The connection of the caller's project, by id or name.
pub async fn named(app: &App, context: &CallContext, key: &str) -> Result<(Document, Kept)> {
    let document = app.store.document(KIND, &context.project, key).await?.ok_or_else(|| unknown(key))?;
    let kept = Kept::of(&document)?;
    Ok((document, kept))
}

fn at(document: &Document) -> String {
    format!("/v1/connections/{}", document.id)
}

async fn list(app: Arc<App>, context: CallContext, page: Page) -> Result<Reply<Connections>> {
    let at = page.begin()?;
    let filter = DocumentFilter { after: at.seq, limit: Some(at.fetch()), ..DocumentFilter::of(KIND, &context.project) };
    let page = at.cut(app.store.documents(filter).await?, |d| d.seq);
    let mut connections = Vec::with_capacity(page.items.len());
    for document in &page.items {
        let kept = Kept::of(document)?;
        connections.push(Shown::new(&app, document, &kept, end_names(&app, &kept).await?));
    }
    Ok(Reply::ok(Connections { connections, next_cursor: page.next }))
}

async fn show(app: Arc<App>, context: CallContext, One { connection }: One) -> Result<Reply<Shown>> {
    let (document, kept) = named(&app, &context, &connection).await?;
    let names = end_names(&app, &kept).await?;
    Ok(Reply::ok(Shown::new(&app, &document, &kept, names)).version(document.version))
}

/// A connection that is not stored yet: what is shown of it, and the edits that store it. `from` is a connector that the same change
/// makes, else it is looked up.
pub async fn draft(app: &App, context: &CallContext, new: New, from: Option<&Document>) -> Result<(Document, Kept, Shown, Vec<Edit>)> {
    let name = checked_name(&new.name)?.to_owned();
    let source = match from {
        Some(document) => ends::as_source(app, document).await?,
        None => ends::source(app, &context.project, &new.from).await?,
    };
    let dest = Dest::parse(&new.dest)?;
    let (to, to_name) = ends::destination(app, &context.project, dest.connector).await?;
    let target = dest.target.clone();
    let now = app.now_ms();
    let kept = made(new, Ends { from: source.id, to, target }, now)?;
    let body = serde_json::to_value(&kept)
        .map_err(|e| Error::new(linkspan_core::ErrorKind::Internal, "a connection could not be encoded").because(e))?;
    let document = Document::new(KIND, &context.project, Some(&name), body, now);
    let names = (source.name.unwrap_or_default(), to_name);
    let put = row(&document, &kept, (&names.0, &names.1))?;
    let edits = vec![Edit::Insert { document: document.clone(), links: kept.links(), secret: None }, Edit::PutConnection { new: put }];
    let shown = Shown::new(app, &document, &kept, names);
    Ok((document, kept, shown, edits))
}

async fn create(app: Arc<App>, context: CallContext, new: New) -> Result<Reply<Shown>> {
    let (document, kept, shown, edits) = draft(&app, &context, new, None).await?;
    let mut change = Change::new(document.created_at_ms);
    change.edits = edits;
    let reply = app.commit(&context, change, Reply::created(at(&document), shown).version(1)).await?;
    Ok(scheduled(&app, &document, &kept, reply, |shown| shown))
}

async fn update(app: Arc<App>, context: CallContext, changes: Changes) -> Result<Reply<Shown>> {
    let mut attempt = 0;
    loop {
        match try_update(&app, &context, changes.clone()).await {
            Err(e) if once_more(&context, &e, attempt) => attempt += 1,
            done => return done,
        }
    }
}

async fn try_update(app: &App, context: &CallContext, changes: Changes) -> Result<Reply<Shown>> {
    let (mut document, mut kept) = named(app, context, &changes.connection).await?;
    context.check_version(document.version)?;
    let now = app.now_ms();
    if let Patch::Set(name) = &changes.name {
        document.name = Some(checked_name(name)?.to_owned());
    }
    let ends = new_ends(app, context, &kept, &changes).await?;
    let positions = changed(&mut kept, changes, ends, now)?;
    let if_version = document.version;
    let document = document.revised(&kept, now)?;
    let names = end_names(app, &kept).await?;
    let put = row(&document, &kept, (&names.0, &names.1))?;
    let shown = Shown::new(app, &document, &kept, names);
    let update = Edit::Update { document: document.clone(), if_version, links: Some(kept.links()), secret: SecretEdit::Keep };
    let mut change = Change::new(now).edit(update).edit(Edit::PutConnection { new: put });
    if positions == Positions::Reset {
        change = change.edit(Edit::Reset { connection: ConnectionId(document.id), of: ResetOf::All });
    }
    let reply = app.commit(context, change, Reply::ok(shown).version(document.version)).await?;
    Ok(scheduled(app, &document, &kept, reply, |shown| shown))
}

/// What is stored is told to the ticker; the reply shows when it starts next.
pub fn scheduled<T>(
    app: &App,
    document: &Document,
    kept: &Kept,
    mut reply: Reply<T>,
    connection: impl FnOnce(&mut T) -> &mut Shown,
) -> Reply<T> {
    app.desk.schedule(document.id, schedule_entry(document, kept, None));
    connection(&mut reply.body).next_run_at = app.desk.next_start(document.id).map(|at| moment(at.as_millisecond()));
    reply
}

/// What the request says of the ends, and what stands where it says nothing.
async fn new_ends(app: &App, context: &CallContext, kept: &Kept, changes: &Changes) -> Result<Ends> {
    let from = match &changes.from {
        Patch::Set(key) => ends::source(app, &context.project, key).await?.id,
        _ => kept.from,
    };
    let (to, target) = match &changes.dest {
        Patch::Set(text) => {
            let dest = Dest::parse(text)?;
            (ends::destination(app, &context.project, dest.connector).await?.0, dest.target)
        }
        _ => (kept.to.clone(), kept.request.target.clone()),
    };
    Ok(Ends { from, to, target })
}

async fn delete(app: Arc<App>, context: CallContext, One { connection }: One) -> Result<Reply<Deleted>> {
    let (document, _) = named(&app, &context, &connection).await?;
    context.check_version(document.version)?;
    let files = app.store.files_of(ConnectionId(document.id)).await?;
    let change =
        Change::new(app.now_ms()).edit(Edit::ForgetConnection { connection: ConnectionId(document.id) }).edit(Edit::delete(&document));
    let reply = app.commit(&context, change, Reply::ok(Deleted { deleted: true, id: document.id.to_string() })).await?;
    app.desk.schedule(document.id, None);
    if let Err(e) = app.store.remove_files(files) {
        tracing::warn!(error = %e, "the logs of a deleted connection could not be removed");
    }
    Ok(reply)
}
