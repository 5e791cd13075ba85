//! What a user does with connections.

use std::sync::Arc;

use linkspan_core::{ConnectionId, Error, ErrorKind, ReadMode, Result};
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
    connectors::{StreamShown, last_known},
    moment::moment,
    operation::{Operation, Patch, Reply},
    paging::Page,
    schedule::{Form, Schedule},
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
        Operation::get(
            "connections.streams",
            "/v1/connections/{connection}/streams",
            read,
            "The streams of a connection's source as they were last discovered, also when the source is gone.",
        )
        .cli("connections streams", &["connection"])
        .call(streams),
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

/// Streams as they were once.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct KnownStreams {
    /// The source's name; its id when it is gone.
    from: String,
    streams: Vec<StreamShown>,
    discovered_at: String,
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

async fn streams(app: Arc<App>, context: CallContext, One { connection }: One) -> Result<Reply<KnownStreams>> {
    let (_, kept) = named(&app, &context, &connection).await?;
    let (from, _) = end_names(&app, &kept).await?;
    match last_known(&app, &context.project, kept.from).await? {
        Some((streams, discovered_at)) => Ok(Reply::ok(KnownStreams { from, streams, discovered_at })),
        None => Err(never_seen(&app, &kept, &from).await?),
    }
}

async fn never_seen(app: &App, kept: &Kept, from: &str) -> Result<Error> {
    ends::expect_source(app, kept).await?;
    let error = Error::new(ErrorKind::NotFound, "the source's streams were never discovered").with("connector", from);
    Ok(error.fix(format!("linkspan connectors discover '{from}'")))
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
    let (to, to_name) = ends::destination(app, &context.project, dest.connector).await.map_err(|e| e.with("field", "dest"))?;
    let target = dest.target.clone();
    let now = app.now_ms();
    let kept = Kept { with_source: from.is_some(), ..made(new, Ends { from: source.id, to, target }, now)? };
    let body = serde_json::to_value(&kept)
        .map_err(|e| Error::new(linkspan_core::ErrorKind::Internal, "a connection could not be encoded").because(e))?;
    let document = Document::new(KIND, &context.project, Some(&name), body, now);
    let names = (source.name.unwrap_or_default(), to_name);
    let put = row(&document, &kept, (&names.0, &names.1))?;
    let edits = vec![Edit::Insert { document: document.clone(), links: kept.links(), secret: None }, Edit::PutConnection { new: put }];
    let shown = Shown::new(app, &document, &kept, names);
    Ok((document, kept, shown, edits))
}

/// What a connector's change says of the schedule of the connection that was made with it.
#[derive(Clone, Debug, Default)]
pub struct Reschedule {
    /// Null takes the schedule away.
    pub cron: Patch<String>,
    /// The zone of the expression.
    pub timezone: Patch<String>,
    /// Null means what a new one has: only what changed.
    pub mode: Patch<ReadMode>,
}

/// A connection on another schedule, decided and not yet stored.
pub struct Rescheduled {
    document: Document,
    kept: Kept,
    pub edits: Vec<Edit>,
}

/// The change of the connection that was made with the connector; nothing when nothing is asked for, or when there is nothing to take
/// away. `Conflict` when there is no such connection.
pub async fn reschedule(app: &App, connector: &Document, asked: &Reschedule) -> Result<Option<Rescheduled>> {
    let Reschedule { cron, timezone, mode } = asked;
    if cron.is_absent() && timezone.is_absent() && mode.is_absent() {
        return Ok(None);
    }
    let Some((document, mut kept)) = made_with(app, connector).await? else {
        if matches!(cron, Patch::Null) && !matches!(timezone, Patch::Set(_)) && !matches!(mode, Patch::Set(_)) {
            return Ok(None);
        }
        return Err(Error::new(ErrorKind::Conflict, "no connection was made together with this connector")
            .with("connector", connector.name.as_deref().unwrap_or_default())
            .with("field", "schedule_cron")
            .fix("give the schedule to a connection of its own: `linkspan connections create` or `update`"));
    };
    let schedule = rescheduled(kept.schedule.clone(), cron, timezone)?;
    let mode = match mode {
        Patch::Null => Patch::Set(ReadMode::Incremental),
        said => said.clone(),
    };
    let changes = Changes { schedule, mode, ..Changes::default() };
    let (now, if_version) = (app.now_ms(), document.version);
    let ends = Ends { from: kept.from, to: kept.to.clone(), target: kept.request.target.clone() };
    changed(&mut kept, changes, ends, now)?;
    let document = document.revised(&kept, now)?;
    let names = end_names(app, &kept).await?;
    let put = row(&document, &kept, (&names.0, &names.1))?;
    let update = Edit::Update { document: document.clone(), if_version, links: Some(kept.links()), secret: SecretEdit::Keep };
    Ok(Some(Rescheduled { document, kept, edits: vec![update, Edit::PutConnection { new: put }] }))
}

impl Rescheduled {
    /// Once it is stored.
    pub fn tell(&self, app: &App) {
        app.desk.schedule(self.document.id, schedule_entry(&self.document, &self.kept, None));
    }
}

async fn made_with(app: &App, connector: &Document) -> Result<Option<(Document, Kept)>> {
    for linked in app.store.linked(vec![connector.id]).await? {
        if linked.by_kind != KIND || linked.role != "from" {
            continue;
        }
        let Some(document) = app.store.document_by_id(linked.by).await? else { continue };
        let kept = Kept::of(&document)?;
        if kept.with_source {
            return Ok(Some((document, kept)));
        }
    }
    Ok(None)
}

/// A new expression keeps the zone that stands, unless another one is said.
fn rescheduled(stands: Option<Schedule>, cron: &Patch<String>, timezone: &Patch<String>) -> Result<Patch<Form>> {
    let stood = stands.map(Form::from).and_then(|form| serde_json::to_value(form).ok()).unwrap_or_default();
    let of = |field: &str| stood[field].as_str().map(str::to_owned);
    let (mut expression, mut zone) = (of("cron"), of("timezone"));
    cron.clone().apply(&mut expression);
    timezone.clone().apply(&mut zone);
    let Some(expression) = expression else {
        if let Patch::Set(_) = timezone {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a time zone needs a schedule").with("field", "schedule_timezone"));
        }
        return Ok(if matches!(cron, Patch::Null) { Patch::Null } else { Patch::Absent });
    };
    let mut form = if stood.is_object() { stood } else { serde_json::json!({}) };
    form["cron"] = expression.into();
    form["timezone"] = zone.map_or(serde_json::Value::Null, Into::into);
    if let Some(fields) = form.as_object_mut() {
        fields.shift_remove("every");
    }
    if cron.is_absent() && timezone.is_absent() {
        return Ok(Patch::Absent);
    }
    let form: Form =
        serde_json::from_value(form).map_err(|e| Error::new(ErrorKind::Internal, "a schedule could not be written").because(e))?;
    // Judged now, with the field that the caller knows.
    Schedule::try_from(form.clone()).map_err(|e| e.with("field", "schedule_cron"))?;
    Ok(Patch::Set(form))
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
            let to = ends::destination(app, &context.project, dest.connector).await.map_err(|e| e.with("field", "dest"))?.0;
            (to, dest.target)
        }
        _ => (kept.to.clone(), kept.request.target.clone()),
    };
    Ok(Ends { from, to, target })
}

/// What a caller of the hub can do about a run that goes: which process has it is nobody's business there.
pub(crate) fn busy(e: Error) -> Error {
    let of = |key: &str| e.context().iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
    let (ErrorKind::Conflict, Some(run), Some(_)) = (e.kind(), of("run"), of("holder")) else { return e };
    let fix = format!("wait for it to end, or cancel it: `linkspan connections runs cancel {run}`");
    Error::new(ErrorKind::Conflict, "a run of this connection is going").with("run", run).fix(fix)
}

async fn delete(app: Arc<App>, context: CallContext, One { connection }: One) -> Result<Reply<Deleted>> {
    let (document, _) = named(&app, &context, &connection).await?;
    context.check_version(document.version)?;
    let files = app.store.files_of(ConnectionId(document.id)).await?;
    let change =
        Change::new(app.now_ms()).edit(Edit::ForgetConnection { connection: ConnectionId(document.id) }).edit(Edit::delete(&document));
    let reply = app.commit(&context, change, Reply::ok(Deleted { deleted: true, id: document.id.to_string() })).await.map_err(busy)?;
    app.desk.schedule(document.id, None);
    if let Err(e) = app.store.remove_files(files) {
        tracing::warn!(error = %e, "the logs of a deleted connection could not be removed");
    }
    Ok(reply)
}
