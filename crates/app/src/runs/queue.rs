//! A run that somebody asks for is put where it waits for its turn.

use std::sync::Arc;

use linkspan_core::Result;
use linkspan_store::{Change, Edit, RunRecord, RunStatus, WaitingRun};

use super::shown::{Shown, shown};
use crate::{app::App, caller::CallContext, operation::Reply};

/// Lets the run wait for its turn; the answer shows it.
pub(super) async fn put(app: &Arc<App>, context: &CallContext, run: WaitingRun) -> Result<Reply<Shown>> {
    let record = preview(app, &run);
    let reply = Reply::accepted(format!("/v1/runs/{}", run.run), shown(app, &record).await?);
    let change = Change::new(app.now_ms()).edit(Edit::QueueRun { run });
    let reply = app.commit(context, change, reply).await?;
    app.desk.wake();
    Ok(reply)
}

/// The run as it is the moment it was queued, so that the answer is known before the change is made.
fn preview(app: &App, run: &WaitingRun) -> RunRecord {
    let now = app.now_ms();
    RunRecord {
        id: run.run,
        seq: 0,
        connection: run.connection,
        project: run.project.clone(),
        kind: run.kind.clone(),
        spec: run.spec.clone(),
        status: RunStatus::Queued,
        cause: run.cause,
        attempt: 1,
        max_attempts: run.max_attempts,
        fence: 0,
        holder: None,
        queued_at_ms: Some(now),
        not_before_ms: now,
        scheduled_for_ms: run.scheduled_for_ms,
        started_at_ms: None,
        ended_at_ms: None,
        stats: None,
        error: None,
    }
}
