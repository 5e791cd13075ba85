//! What a user does with runs.

use std::sync::Arc;

use futures::stream::BoxStream;
use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use linkspan_store::{Cause, Change, Edit, RunRecord, RunStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    logs::{self, Until},
    pages::{Runs, page, status},
    queue,
    shown::{Shown, of_project, shown},
    ticks::waiting,
};
use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    connections,
    desk::Why,
    operation::{Operation, Reply},
    paging::Cursor,
};

pub(super) fn operations() -> Vec<Operation> {
    let (read, act) = (Access::Scoped(Scope::SyncsRead), Access::Scoped(Scope::SyncsRun));
    vec![
        Operation::get("runs.list", "/v1/runs", read, "Runs of the project, newest first.")
            .cli("connections runs list", &["connection"])
            .call(list),
        Operation::get("runs.show", "/v1/runs/{run}", read, "One run, with what it did stream by stream.")
            .cli("connections runs show", &["run"])
            .call(show),
        Operation::get("runs.logs", "/v1/runs/{run}/logs", read, "The log of a run; with `follow` until the run is over.")
            .cli("connections runs logs", &["connection", "run"])
            .watch::<Logs, Line, _>(log_lines),
        Operation::post("runs.cancel", "/v1/runs/{run}/cancel", act, "Stops a run at its next commit, or takes it out of the queue.")
            .accepts()
            .cli("connections runs cancel", &["run"])
            .call(cancel),
        Operation::post("runs.retry", "/v1/runs/{run}/retry", act, "Runs the connection of a failed or cancelled run again.")
            .accepts()
            .cli("connections runs retry", &["run"])
            .call(retry),
    ]
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Which {
    /// Of this connection only, by id or name.
    connection: Option<String>,
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    #[schemars(extend("enum" = ["queued", "running", "completed", "failed", "cancelled", null]))]
    status: Option<String>,
    /// How many at most: 1 to 1000, 100 when not said.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$"))]
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// The run's id.
    run: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Logs {
    /// The run's id.
    run: String,
    /// The connection that the run is of, when you want that to be checked.
    #[serde(default)]
    connection: Option<String>,
    /// Whether to wait for more until the run is over.
    #[serde(default)]
    follow: bool,
}

/// A line of a run's log.
#[derive(Debug, Serialize, JsonSchema)]
struct Line {
    at: String,
    /// `debug`, `info`, `warn` or `error`.
    level: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    message: String,
}

async fn list(app: Arc<App>, context: CallContext, which: Which) -> Result<Reply<Runs>> {
    let connection = match &which.connection {
        Some(key) => Some(ConnectionId(connections::named(&app, &context, key).await?.0.id)),
        None => None,
    };
    let status = which.status.as_deref().map(status).transpose()?;
    page(&app, &context, connection, status, Cursor::of(which.limit, which.cursor.as_deref())?).await
}

async fn show(app: Arc<App>, context: CallContext, One { run }: One) -> Result<Reply<Shown>> {
    let record = of_project(&app, &context.project, &run).await?;
    Ok(Reply::ok(shown(&app, &record).await?))
}

async fn log_lines(app: Arc<App>, context: CallContext, input: Logs) -> Result<BoxStream<'static, Result<Value>>> {
    let record = of_project(&app, &context.project, &input.run).await?;
    if let Some(key) = &input.connection {
        let (document, _) = connections::named(&app, &context, key).await?;
        if document.id != record.connection.0 {
            return Err(Error::new(ErrorKind::NotFound, "this connection has no such run").with("run", &input.run));
        }
    }
    Ok(logs::lines(app, &record, if input.follow { Until::Over } else { Until::Now }))
}

fn at(record: &RunRecord) -> String {
    format!("/v1/runs/{}", record.id)
}

async fn cancel(app: Arc<App>, context: CallContext, One { run }: One) -> Result<Reply<Shown>> {
    let record = of_project(&app, &context.project, &run).await?;
    if record.status.is_over() {
        return Err(Error::new(ErrorKind::Conflict, "the run is over already")
            .with("run", record.id)
            .with("status", record.status.as_str())
            .fix("what is over cannot be cancelled; `linkspan connections runs list --status running` shows those that go"));
    }
    let going = app.desk.going(record.id);
    if record.status == RunStatus::Running && going.is_none() {
        let holder = record.holder.as_ref().map_or("another process".to_owned(), ToString::to_string);
        return Err(Error::new(ErrorKind::Conflict, "the run is carried out by another process, which has to stop it")
            .with("run", record.id)
            .with("holder", &holder)
            .fix(format!("stop {holder}: Ctrl-C keeps what is committed")));
    }
    let reply = Reply::accepted(at(&record), shown(&app, &record).await?);
    let reply = app.commit(&context, Change::new(app.now_ms()).edit(Edit::CancelRun { run: record.id }), reply).await?;
    if let Some(going) = going.or_else(|| app.desk.going(record.id)) {
        going.end(Why::Cancelled);
    }
    let now = app.store.run(record.id).await?;
    Ok(Reply { body: shown(&app, &now).await?, ..reply })
}

async fn retry(app: Arc<App>, context: CallContext, One { run }: One) -> Result<Reply<Shown>> {
    let record = of_project(&app, &context.project, &run).await?;
    if !matches!(record.status, RunStatus::Failed | RunStatus::Cancelled) {
        return Err(Error::new(ErrorKind::Conflict, "only a run that failed or was cancelled can be retried")
            .with("run", record.id)
            .with("status", record.status.as_str())
            .fix("start another one: `linkspan connections run NAME`"));
    }
    let (document, kept) = connections::named(&app, &context, &record.connection.to_string()).await?;
    let next = linkspan_store::WaitingRun { cause: Cause::Retry, ..waiting(&document, &kept) };
    queue::put(&app, &context, next).await
}
