//! Ticks of schedules become runs that wait; those that cannot are written down as missed.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_core::{ConnectionId, Result};
use linkspan_store::{Cause, Change, Document, DocumentFilter, Edit, NewEntry, Queued, RunId, WaitingRun};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    app::App,
    connections::{KIND, Kept, schedule_entry},
    moment::moment,
    schedule::{Entry, OnTicks, Tick, Ticker},
};

/// Between tries to write ticks down.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Of each connection's missed ticks so many lines are kept.
const KEPT: u32 = 50;

/// Reads every schedule of the store and starts to tick.
pub(super) async fn start(app: &Arc<App>) -> Result<()> {
    let last: HashMap<ConnectionId, i64> = app.store.last_ticks().await?.into_iter().collect();
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let filter = DocumentFilter { kind: KIND.into(), after, limit: Some(1000), ..DocumentFilter::default() };
        let page = app.store.documents(filter).await?;
        let Some(end) = page.last() else { break };
        after = Some(end.seq);
        entries.extend(page.iter().filter_map(|d| entry(d, &last)));
    }
    app.desk.set_ticker(Ticker::start(app.context.clock.clone(), entries, Ticks(Arc::downgrade(app))));
    Ok(())
}

fn entry(document: &Document, last: &HashMap<ConnectionId, i64>) -> Option<Entry> {
    match Kept::of(document) {
        Ok(kept) => schedule_entry(document, &kept, last.get(&ConnectionId(document.id)).copied()),
        Err(e) => {
            tracing::warn!(connection = %document.id, error = %e, "the schedule of a connection cannot be read");
            None
        }
    }
}

struct Ticks(Weak<App>);

#[async_trait]
impl OnTicks for Ticks {
    /// A tick is not lost because the store was away: it is tried until it is written. Those that come meanwhile wait in the timetable.
    async fn ticked(&self, ticks: Vec<Tick>) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let Some(app) = self.0.upgrade().filter(|app| !app.desk.is_closing()) else { return };
            let Err(e) = queue(&app, &ticks).await else { return };
            tracing::error!(error = %e, ticks = ticks.len(), again_in_ms = pause.as_millis() as u64, "the runs of these ticks could not be queued");
            let clock = app.context.clock.clone();
            drop(app);
            clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Why ticks had no run.
struct Missed {
    connection: Uuid,
    at: Timestamp,
    count: u32,
    reason: &'static str,
}

/// Asked again for the same ticks it does what is left of it.
async fn queue(app: &Arc<App>, ticks: &[Tick]) -> Result<()> {
    app.context.failpoints.hit("runs.ticks").await?;
    let mut missed: Vec<Missed> = ticks.iter().filter(|t| t.missed > 0).map(nobody_there).collect();
    let mut runs = Vec::new();
    for tick in ticks.iter().filter(|t| t.fires) {
        runs.extend(run_of(app, tick).await?);
    }
    let at: HashMap<Uuid, Timestamp> = ticks.iter().map(|t| (t.id, t.scheduled_for)).collect();
    let connections: Vec<Uuid> = runs.iter().map(|r| r.connection.0).collect();
    for (connection, answer) in connections.into_iter().zip(app.store.queue(runs).await?) {
        if let Queued::Busy(_) = answer {
            missed.push(Missed { connection, at: at[&connection], count: 1, reason: "the run before was still waiting or going" });
        }
    }
    app.desk.wake();
    write_down(app, &missed).await
}

fn nobody_there(tick: &Tick) -> Missed {
    Missed { connection: tick.id, at: tick.scheduled_for, count: tick.missed, reason: "nothing was running that could start it" }
}

/// The connection as it is now: one that was deleted or disabled since has no run.
async fn run_of(app: &App, tick: &Tick) -> Result<Option<WaitingRun>> {
    let Some(document) = app.store.document_by_id(tick.id).await? else {
        app.desk.schedule(tick.id, None);
        return Ok(None);
    };
    let kept = match Kept::of(&document) {
        Ok(kept) => kept,
        Err(e) => {
            // One that cannot be read is no reason to hold up the others.
            tracing::warn!(connection = %document.id, error = %e, "a connection that is due cannot be read");
            return Ok(None);
        }
    };
    if !kept.enabled || kept.schedule.is_none() {
        return Ok(None);
    }
    Ok(Some(WaitingRun {
        cause: Cause::Schedule,
        scheduled_for_ms: Some(tick.scheduled_for.as_millisecond()),
        ..waiting(&document, &kept)
    }))
}

/// A run of the connection that somebody asks for.
pub(super) fn waiting(document: &Document, kept: &Kept) -> WaitingRun {
    WaitingRun {
        run: RunId(Uuid::now_v7()),
        connection: ConnectionId(document.id),
        kind: "sync".into(),
        spec: serde_json::to_value(&kept.request).unwrap_or(Value::Null),
        project: document.project.clone(),
        cause: Cause::Manual,
        scheduled_for_ms: None,
        max_attempts: kept.retry.attempts,
    }
}

/// Missed ticks are logged, shown with their connection, and kept as its history.
async fn write_down(app: &App, missed: &[Missed]) -> Result<()> {
    if missed.is_empty() {
        return Ok(());
    }
    let mut change = Change::new(app.now_ms());
    for m in missed {
        tracing::warn!(connection = %m.connection, at = %m.at, missed = m.count, "ticks had no run: {}", m.reason);
        let body = json!({ "at": moment(m.at.as_millisecond()), "missed": m.count, "reason": m.reason });
        change = change.edit(Edit::Observe { id: m.connection, merge: json!({ "last_missed": body }) }).entry(NewEntry {
            kind: "missed_ticks".into(),
            project: String::new(),
            about: m.connection.to_string(),
            body,
            keep: Some(KEPT),
        });
    }
    app.store.change(change).await.map(drop)
}
