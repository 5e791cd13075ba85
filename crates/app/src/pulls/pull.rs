//! One pull, from the claim to the answer. It goes on when the asker leaves.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use linkspan_core::{ConnectionId, Error, ErrorKind, ReadMode, Result, WriteMode};
use linkspan_engine::{
    gate::Policies,
    plan::{Choice, Request},
};
use linkspan_store::{Change, Claim, NewConnection, NewRun, RunResult, RunStatus};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    answer::{Pulled, Which},
    seen::Seen,
    sieve::{Shared, Sieve},
};
use crate::{
    app::App,
    caller::CallContext,
    connections::{self, To},
    connectors::{self, Opened, Pull},
    desk::{Going, Why},
    operation::Reply,
    run::{self, Consent, Held, Job, Report},
    secrets::Redactor,
};

const MEMORY: u64 = 64 << 20;
/// Makes the id of a connector's pulls from its own.
const PULLS: Uuid = Uuid::from_u128(0x6c69_6e6b_7370_416e_8a5e_0a7d_7055_11aa);

pub(super) async fn pull(app: Arc<App>, context: CallContext, which: Which) -> Result<Reply<Pulled>> {
    let opened = connectors::opened(&app, &context.project, &which.connector).await?;
    let pull = query_of(&opened)?;
    let (job, dest, mut redactors) = job(&app, &context.project, &opened, &pull).await?;
    redactors.push(opened.redactor.clone());
    let row = NewConnection { name: job.name.clone(), id: Some(job.id), from: job.from.shown.clone(), to: dest.clone(), spec: job.spec() };
    let connection = app.store.connection(row).await?.id;
    let claim = app.store.claim(connection, NewRun::new("pull", job.spec()).project(context.project.clone())).await?;
    let running = tokio::spawn(carry_out(app.clone(), claim, job, pull, dest, redactors));
    let pulled = running.await.map_err(|e| Error::new(ErrorKind::Internal, "the pull broke").because(e))??;
    app.commit(&context, Change::new(app.now_ms()), Reply::ok(pulled)).await
}

fn query_of(opened: &Opened) -> Result<Pull> {
    let name = opened.document.name.clone().unwrap_or_default();
    let Some(pull) = opened.connector.pull.clone() else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the connector has no query to pull")
            .with("connector", &name)
            .fix("give it one: PATCH it with `query`, `vertical` and `entity_type`; or make a connection to move tables"));
    };
    if opened.endpoint.kind.config_schema()["properties"].get("query").is_none() {
        return Err(Error::new(ErrorKind::Unsupported, format!("{} cannot run a query yet", opened.endpoint.kind.spec.title))
            .with("connector", name)
            .fix("make a connection of its tables instead: POST /v1/connections"));
    }
    Ok(pull)
}

/// With where it goes in words, and what takes the destination's secrets out of what is told. Each destination has positions and
/// content hashes of its own: what is in one is not in the other.
async fn job(app: &App, project: &str, opened: &Opened, pull: &Pull) -> Result<(Job, String, Vec<Redactor>)> {
    let name = opened.document.name.clone().unwrap_or_default();
    let stream = pull.entity_type.clone().unwrap_or_else(|| "query".into());
    let parts: Vec<&str> = [&pull.vertical, &pull.entity_type].into_iter().filter_map(Option::as_deref).collect();
    let target = if parts.is_empty() { name.replace(['.', ' '], "_") } else { parts.join("_") };
    let mode = if pull.query.contains(":last_pull") { ReadMode::Incremental } else { ReadMode::Full };
    let request = Request {
        streams: vec![Choice::from(stream.as_str())],
        mode: Some(mode),
        write: Some(WriteMode::Append),
        target: Some(target),
        ..Request::default()
    };
    let (to, to_name) = connections::destination(app, project, "data").await?;
    let dest = format!("{to_name}:{}", request.target.as_deref().unwrap_or_default());
    let (row, of) = match to {
        To::Lake => (format!("{}#pull", connections::run_name(project, &name)), opened.document.id.as_bytes().to_vec()),
        To::Connector(id) => {
            let row = format!("{}#pull:{id}", connections::run_name(project, &name));
            (row, [&opened.document.id.as_bytes()[..], id.as_bytes()].concat())
        }
    };
    let (to, redactors) = connections::written_to(app, project, &to).await?;
    let job = Job {
        name: row,
        id: Uuid::new_v5(&PULLS, &of),
        id_is_declared: true,
        from: opened.endpoint.clone(),
        to,
        request,
        policies: Policies::default(),
        concurrency: 1,
        memory: MEMORY,
        folder: app.store.dir().to_owned(),
    };
    Ok((job, dest, redactors))
}

async fn carry_out(app: Arc<App>, claim: Claim, job: Job, pull: Pull, dest: String, redactors: Vec<Redactor>) -> Result<Pulled> {
    let (began, run) = (Instant::now(), claim.run_id());
    let going = Going::new(run, claim.connection());
    app.desk.begin(going.clone());
    let ended = Ended(app.clone(), run);
    let held = Held::new(claim, app.store.clone());
    going.counts(held.tally.clone());
    let watch = held.watch();
    watch.clean_with(move |value| redactors.iter().fold(value, |value, redactor| redactor.value(value)));
    let mut sifted = None;
    let result = move_rows(&app, held, &job, &pull, &going, &mut sifted).await;
    let (skipped, rows) = sifted.map_or((0, 0), |s| (s.skipped.load(Relaxed), s.pulled.load(Relaxed)));
    let result = outcome(result, going.why(), skipped);
    let RunResult { status, stats, error } = result;
    let (stats, error) = (watch.cleaned(stats), error.map(|e| watch.cleaned(e)));
    let sum = |field: &str| stats["streams"].as_array().into_iter().flatten().filter_map(|s| s[field].as_u64()).sum::<u64>();
    let pulled = Pulled {
        status: status.as_str().to_owned(),
        records_pulled: rows,
        records_ingested: sum("written"),
        duplicates_skipped: skipped,
        duration_seconds: (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        run: run.to_string(),
        dest,
        error: error.clone(),
    };
    drop(ended);
    if let Some(claim) = watch.release() {
        claim.finish(RunResult { status, stats, error }).await?;
    }
    Ok(pulled)
}

/// Takes the run off the desk, also when the task panics.
struct Ended(Arc<App>, linkspan_store::RunId);
impl Drop for Ended {
    fn drop(&mut self) {
        self.0.desk.ended(self.1);
    }
}

/// What went through the sieve is told through `sifted`, also when the pull fails.
async fn move_rows(app: &App, held: Held, job: &Job, pull: &Pull, going: &Going, sifted: &mut Option<Arc<Shared>>) -> Result<Report> {
    let stop = going.stop();
    let mut prepared = run::prepare(job, &app.context, &stop).await?;
    check_name_column(pull, &prepared.plan.assignments)?;
    let recall = prepared.destination.recall(ConnectionId(job.id)).await?;
    let seen = Seen::open(app.store.dir(), job.id, recall.as_ref(), app.context.files.clone())?;
    let shared = Shared::new(seen, pull.batch_size.max(1) as usize);
    *sifted = Some(shared.clone());
    prepared.source = Arc::new(Sieve { inner: prepared.source, shared: shared.clone() });
    let report = held.load(prepared, job, Consent::default(), &app.context).go(&stop).await.report()?;
    if report.verdict() == run::Verdict::Completed {
        shared.seen().ingested()?;
    }
    Ok(report)
}

fn check_name_column(pull: &Pull, assignments: &[linkspan_engine::run::Assignment]) -> Result<()> {
    let Some(column) = &pull.name_column else { return Ok(()) };
    let known = || assignments.iter().flat_map(|a| a.selected.stream.schema.fields().iter().map(|f| f.name().as_str()));
    if known().any(|name| name == column) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "the query has no column of this name")
        .with("name_column", column)
        .fix(format!("its columns are: {}", known().collect::<Vec<_>>().join(", "))))
}

/// Rows that were skipped were read too, and had been there.
fn outcome(result: Result<Report>, why: Option<Why>, skipped: u64) -> RunResult {
    let (mut stats, status, error) = match &result {
        Ok(report) => (report.to_json(), report.verdict().status(), report.failure().map(Error::to_json)),
        Err(e) => (json!({}), RunStatus::Failed, Some(e.to_json())),
    };
    let status = if why.is_some() && status != RunStatus::Completed { RunStatus::Cancelled } else { status };
    if let Some(stream) = stats["streams"].as_array_mut().and_then(|s| s.first_mut()) {
        for field in ["rows_read", "duplicates"] {
            stream[field] = Value::from(stream[field].as_u64().unwrap_or(0) + skipped);
        }
    }
    RunResult { status, stats, error }
}
