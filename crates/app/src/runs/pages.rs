//! Pages of runs.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use linkspan_store::{RunFilter, RunStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shown::{Shown, shown};
use crate::{
    app::App,
    caller::CallContext,
    operation::Reply,
    paging::{Cursor, PageOf},
};

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Runs {
    pub runs: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

pub(super) fn status(word: &str) -> Result<RunStatus> {
    RunStatus::parse(word).ok_or_else(|| {
        let words: Vec<&str> = RunStatus::ALL.iter().map(|s| s.as_str()).collect();
        Error::new(ErrorKind::ConfigInvalid, "no run has this status")
            .with("field", "status")
            .fix(format!("the words are: {}", words.join(", ")))
    })
}

pub(super) async fn page(
    app: &App,
    context: &CallContext,
    connection: Option<ConnectionId>,
    status: Option<RunStatus>,
    at: Cursor,
) -> Result<Reply<Runs>> {
    let project = Some(context.project.clone());
    let filter = RunFilter { project, connection, status, before: at.seq, limit: Some(at.fetch()) };
    let PageOf { items, next } = at.cut(app.store.runs(filter).await?, |r| r.seq);
    let mut runs = Vec::with_capacity(items.len());
    for record in &items {
        runs.push(shown(app, record).await?);
    }
    Ok(Reply::ok(Runs { runs, next_cursor: next }))
}
