//! One attempt of a run that waited: claimed, carried out, and written down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use linkspan_core::{Error, ErrorKind, Result, Stop, TRACES};
use linkspan_store::{Level, RunRecord, RunResult};
use serde_json::json;
use tracing::{Instrument, Span, field::Empty};

use super::{
    outcome::{Next, SoFar, next},
    stats::done,
};
use crate::{
    app::App,
    connections::{self, Kept, RetryPolicy},
    connectors,
    desk::{Going, Why},
    run::{self, Consent, Held, Report, Watch},
};

/// How often what was logged is brought to the file while the run goes.
const FLUSH: Duration = Duration::from_millis(500);

/// Carries the attempt out. Whatever happens is in the run's row; a run that somebody else took is left to them.
pub(super) async fn attempt(app: Arc<App>, record: RunRecord, going: Arc<Going>) {
    let span = tracing::info_span!(
        target: TRACES, "attempt", "linkspan.run.id" = %record.id, "linkspan.connection.id" = %record.connection,
        "linkspan.project" = record.project, "linkspan.attempt" = record.attempt, "linkspan.run.status" = Empty, "error.type" = Empty
    );
    attempted(app, record, going).instrument(span).await;
}

async fn attempted(app: Arc<App>, record: RunRecord, going: Arc<Going>) {
    let claim = match app.store.claim_waiting(&record).await {
        Ok(claim) => claim,
        Err(e) => return tracing::info!(run = %record.id, error = %e, "the run could not start"),
    };
    app.desk.totals.begun(late(&record, app.now_ms()));
    let held = Held::new(claim, app.store.clone());
    going.counts(held.tally.clone());
    let (watch, lost) = (held.watch(), held.lost());
    let (policy, result) = match settings(&app, &record).await {
        Ok((document, kept)) => {
            let work = carry_out(&app, &record, (&document, &kept), held, going.stop());
            (kept.retry, guarded(&app, work, &watch, &going, kept.timeout).await)
        }
        Err(e) => (RetryPolicy::default(), Err(e)),
    };
    if lost.requested() {
        return tracing::warn!(run = %record.id, "the run lost its lease: another process has it");
    }
    if let Err(e) = write_down(&app, &record, &watch, result, (going.why(), policy)).await {
        tracing::warn!(run = %record.id, error = %e, "what became of the run could not be written down");
    }
}

async fn settings(app: &App, record: &RunRecord) -> Result<(linkspan_store::Document, Kept)> {
    let document = app.store.document_by_id(record.connection.0).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the connection of this run is no longer there").with("connection_id", record.connection)
    })?;
    let kept = Kept::of(&document)?;
    Ok((document, kept))
}

async fn carry_out(
    app: &App,
    record: &RunRecord,
    (document, kept): (&linkspan_store::Document, &Kept),
    held: Held,
    stop: Stop,
) -> Result<Report> {
    let watch = held.watch();
    watch.log(Level::Info, "attempt", &[("attempt", json!(record.attempt)), ("of", json!(record.max_attempts))]);
    let source = app.store.document_by_id(kept.from).await?;
    let (job, redactors) = connections::job(app, document, kept).await?;
    watch.clean_with(move |value| redactors.iter().fold(value, |value, redactor| redactor.value(value)));
    let mut prepared = run::prepare(&job, &app.context, &stop).await?;
    if let Some(source) = source
        && let Err(e) = connectors::found(app, &source, &prepared.discovered).await
    {
        tracing::warn!(connector = %source.id, error = %e, "the streams that a run found could not be kept");
    }
    // What an earlier attempt completed is not read again.
    let done = done(record.stats.as_ref());
    prepared.plan.assignments.retain(|a| !done.contains(&a.selected.stream.name.to_string()));
    held.load(prepared, &job, Consent::default(), &app.context).go(&stop).await.report()
}

/// Watches over the work: flushes its log, and stops it when its time is up.
async fn guarded(
    app: &App,
    work: impl Future<Output = Result<Report>>,
    watch: &Watch,
    going: &Going,
    timeout: Option<Duration>,
) -> Result<Report> {
    let started = Instant::now();
    tokio::pin!(work);
    loop {
        let left = timeout.map(|t| t.saturating_sub(started.elapsed()));
        tokio::select! {
            result = &mut work => return result,
            () = app.context.clock.sleep(left.map_or(FLUSH, |l| l.min(FLUSH)).max(Duration::from_millis(10))) => watch.flush(),
        }
        if let Some(timeout) = timeout.filter(|t| started.elapsed() >= *t) {
            going.end(Why::TimedOut(timeout));
        }
    }
}

/// How long after its time it begins.
fn late(record: &RunRecord, now_ms: i64) -> Duration {
    let due = record.not_before_ms.max(record.queued_at_ms.unwrap_or_default());
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(due)).unwrap_or(0))
}

async fn write_down(
    app: &App,
    record: &RunRecord,
    watch: &Watch,
    result: Result<Report>,
    (why, policy): (Option<Why>, RetryPolicy),
) -> Result<()> {
    let seed = record.id.0.as_u64_pair().1;
    let so_far = SoFar { attempt: record.attempt, max_attempts: record.max_attempts, stats: record.stats.as_ref(), policy, seed };
    let next = next(result, why, &so_far);
    tell(watch, &next);
    let (how, error) = next.counted();
    app.desk.totals.ended(how, error);
    let span = Span::current();
    span.record("linkspan.run.status", how);
    if let Some(kind) = error {
        span.record("error.type", kind);
    }
    let Some(claim) = watch.release() else { return Ok(()) };
    match next {
        Next::Over(RunResult { status, stats, error }) => {
            let (stats, error) = (watch.cleaned(stats), error.map(|e| watch.cleaned(e)));
            claim.finish(RunResult { status, stats, error }).await
        }
        Next::Again { attempt, after, stats, error } => claim.requeue(attempt, after, watch.cleaned(stats), watch.cleaned(error)).await,
    }
}

fn tell(watch: &Watch, next: &Next) {
    match next {
        Next::Over(result) => {
            let level = if result.error.is_some() { Level::Error } else { Level::Info };
            watch.log(level, result.status.as_str(), &[("error", json!(result.error))]);
        }
        Next::Again { after, error, .. } => {
            watch.log(Level::Warn, "it will be tried again", &[("after_seconds", json!(after.as_secs_f64())), ("error", error.clone())]);
        }
    }
}
