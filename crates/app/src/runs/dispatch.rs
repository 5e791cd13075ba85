//! Starts runs that wait as soon as there is room, brings back those whose process died, and lets go in order when this one ends.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use linkspan_core::Result;
use linkspan_store::{RunId, RunStatus};
use tokio::task::JoinSet;

use super::{attempt::attempt, ticks};
use crate::{
    app::App,
    desk::{Going, Why},
};

/// How often dead runs are looked for; runs that wait for a time are looked at no later.
const LOOK: Duration = Duration::from_secs(5);

/// Whether this process runs connections by their schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedules {
    On,
    /// A command that only does what it was asked for.
    Off,
}

/// From now on this process carries out what waits. Runs of processes that died are taken over at once.
pub async fn start(app: &Arc<App>, schedules: Schedules) -> Result<()> {
    sweep(app).await;
    if schedules == Schedules::On {
        ticks::start(app).await?;
    }
    app.desk.set_dispatcher(tokio::spawn(dispatch(Arc::downgrade(app))));
    app.desk.wake();
    Ok(())
}

/// Starts nothing more and stops what goes at its next commit; those runs go on in the next process. What has not stopped in time is
/// dropped, and taken over when its lease is.
pub async fn drain(app: &Arc<App>, within: Duration) {
    app.desk.close();
    app.desk.all_going().iter().for_each(|going| going.end(Why::Closing));
    let Some(mut dispatcher) = app.desk.take_dispatcher() else { return };
    if tokio::time::timeout(within, &mut dispatcher).await.is_err() {
        tracing::warn!("runs did not stop in time; the next process takes them over");
        dispatcher.abort();
    }
}

/// For a command without a server: carries out what waits until the run is over.
pub async fn see_through(app: &Arc<App>, run: RunId) -> Result<()> {
    start(app, Schedules::Off).await?;
    while !app.store.run(run).await?.status.is_over() {
        app.context.clock.sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn dispatch(app: Weak<App>) {
    let (mut runs, mut swept) = (JoinSet::new(), Instant::now());
    while let Some(app) = app.upgrade() {
        while runs.try_join_next().is_some() {}
        if app.desk.is_closing() {
            break;
        }
        if swept.elapsed() >= LOOK {
            sweep(&app).await;
            swept = Instant::now();
        }
        let pause = start_waiting(&app, &mut runs).await.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "the queue could not be read");
            LOOK
        });
        let clock = app.context.clock.clone();
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = app.desk.woken() => {}
        }
    }
    while runs.join_next().await.is_some() {}
}

/// Starts what may start; answers how long to wait for the next.
async fn start_waiting(app: &Arc<App>, runs: &mut JoinSet<()>) -> Result<Duration> {
    let on_desk = app.desk.all_going().len();
    let mut room = app.settings.runs_at_once.saturating_sub(on_desk);
    if room == 0 {
        return Ok(LOOK);
    }
    let now = app.context.clock.now();
    for record in app.store.waiting(u32::try_from(room + on_desk).unwrap_or(u32::MAX)).await? {
        // One whose claim is on its way still waits in the store; started again it would run twice under one fence.
        if app.desk.going(record.id).is_some() {
            continue;
        }
        if room == 0 {
            break;
        }
        if let Some(left) = until(now, record.not_before_ms) {
            return Ok(left.min(LOOK));
        }
        room -= 1;
        let going = Going::new(record.id, record.connection);
        app.desk.begin(going.clone());
        let app = app.clone();
        runs.spawn(async move {
            let ended = Ended(app.clone(), going.run);
            attempt(app, record, going).await;
            drop(ended);
        });
    }
    Ok(LOOK)
}

/// Takes the run off the desk, also when its task panics.
struct Ended(Arc<App>, RunId);
impl Drop for Ended {
    fn drop(&mut self) {
        self.0.desk.ended(self.1);
    }
}

/// The time that is left; nothing when it has come.
fn until(now: Timestamp, at_ms: i64) -> Option<Duration> {
    let left = Timestamp::from_millisecond(at_ms).ok()?.duration_since(now);
    (left > SignedDuration::ZERO).then(|| Duration::try_from(left).unwrap_or(LOOK))
}

/// A run whose process is gone waits again while it has attempts, else it failed.
async fn sweep(app: &App) {
    match app.store.sweep().await {
        Ok(swept) => {
            for run in swept {
                let what = if run.status == RunStatus::Queued { "it goes on" } else { "it failed" };
                tracing::warn!(run = %run.id, attempt = run.attempt, "a run's process ended without a word: {what}");
            }
        }
        Err(e) => tracing::warn!(error = %e, "runs of processes that ended could not be looked for"),
    }
}
