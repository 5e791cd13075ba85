//! Carries a job out: opens both ends, plans, claims the run, lets the engine move the rows, and writes down how it ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use linkspan_core::{
    ConnectionId, Context, Destination, Error, ErrorKind, Memory, Result, Source, Stop, Stopper, Stream, StreamName, TRACES, Target,
};
use linkspan_engine::{
    gate::PolicyGate,
    plan::{self, Plan},
    run::{Outcome, Run, Settings, StreamEnd},
};
use linkspan_store::{Claim, Level, NewRun, RunId, RunResult, RunStatus, Store};
use serde_json::json;
use tracing::{Instrument, field::Empty};

use super::{
    ends::{Moving, OpenEnds},
    job::{Consent, Job},
    report::Report,
    tally::Tally,
    totals::Sums,
    watch::Watch,
};

/// Both ends, open and planned. Nothing is written yet.
pub struct Prepared {
    pub source: Arc<dyn Source>,
    pub destination: Arc<dyn Destination>,
    pub plan: Plan,
    /// All that the source offers.
    pub discovered: Vec<Stream>,
    /// So many at once find their sessions at both ends.
    lanes: usize,
    ends: OpenEnds,
}

/// Opens both ends, reads what the source offers, plans, and sets aside the sessions that the run needs. Touches nothing at the
/// destination.
pub async fn prepare(job: &Job, context: &Context, stop: &Stop) -> Result<Prepared> {
    let ends = OpenEnds::open(job, context)?;
    let (source, destination) = ends.offered(job)?;
    let discovered = unless_stopped(stop, source.discover()).await?;
    let mut plan = match plan::plan(&discovered, &job.request, &destination.capability()) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(explained(e, job, source.as_ref()).await),
        plan => plan?,
    };
    not_onto_itself(job, &plan)?;
    let wanted = if destination.capability().parallel { job.concurrency.max(1) } else { 1 };
    let Moving { source, destination, lanes } = unless_stopped(stop, ends.reserved(job, wanted)).await?;
    if lanes < wanted {
        plan.notes.push(format!("{lanes} of {wanted} lanes go at once: the connectors' pools have no more connections"));
    }
    Ok(Prepared { source, destination, plan, discovered, lanes, ends })
}

/// A run that holds its connection: nobody else runs it until this ends or is dropped.
pub struct Held {
    pub run: RunId,
    /// What the run has done so far.
    pub tally: Arc<Tally>,
    connection: ConnectionId,
    fence: u64,
    memory: Arc<dyn Memory>,
    lost: Stop,
    watch: Arc<Watch>,
}

impl Held {
    pub fn new(claim: Claim, store: Store) -> Self {
        let (run, connection, lost, fence, memory) = (claim.run_id(), claim.connection(), claim.lost(), claim.fence(), claim.memory());
        let tally = Arc::new(Tally::default());
        let watch = Arc::new(Watch::new(tally.clone(), store, claim));
        Self { run, tally, connection, fence, memory, lost, watch }
    }
    pub fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }
    /// Fires when another run may start: this one must write nothing more.
    pub fn lost(&self) -> Stop {
        self.lost.clone()
    }
    /// Ready to move what is planned.
    pub fn load(self, prepared: Prepared, job: &Job, consent: Consent, context: &Context) -> Claimed {
        let Self { run, tally, connection, fence, memory, lost, watch } = self;
        let Prepared { source, destination, plan, lanes, ends, .. } = prepared;
        let engine = Run {
            connection,
            fence,
            source,
            gate: Arc::new(PolicyGate::new(job.policies.clone(), &destination.capability())),
            destination,
            streams: plan.assignments.clone(),
            memory,
            settings: Settings { concurrency: lanes, ..job.settings(consent) },
            context: context.clone(),
            observer: watch.clone(),
        };
        // The first cleaner counts: a hub's connectors have theirs already.
        let redactors = [job.from.redactor(), job.to.redactor()];
        watch.clean_with(move |value| redactors.iter().fold(value, |value, redactor| redactor.value(value)));
        let claimed = Claimed { run, plan, tally, name: job.name.clone(), lost, watch, engine, ends };
        claimed.log_start(job);
        claimed
    }
}

/// A prepared job that holds its connection.
pub struct Claimed {
    pub run: RunId,
    pub plan: Plan,
    /// What the run has done so far.
    pub tally: Arc<Tally>,
    name: String,
    lost: Stop,
    watch: Arc<Watch>,
    engine: Run,
    ends: OpenEnds,
}

impl Prepared {
    /// Claims the connection, after a reset where the user asked for one. `Conflict` while another run of it is going.
    pub async fn claim(self, job: &Job, consent: Consent, store: Store, context: &Context) -> Result<Claimed> {
        let connection = job.known_connection(&store).await?;
        if consent.reset {
            store.reset(connection, job.reset_of(&self.plan)).await?;
        }
        let claim = store.claim(connection, NewRun::new("sync", job.spec())).await?;
        Ok(Held::new(claim, store).load(self, job, consent, context))
    }
}

impl Claimed {
    /// The names of the streams that move.
    pub fn streams(&self) -> Vec<String> {
        self.plan.assignments.iter().map(|a| a.selected.stream.name.to_string()).collect()
    }

    fn log_start(&self, job: &Job) {
        let fields = [("from", json!(job.from.shown)), ("to", json!(job.to.shown)), ("streams", json!(self.streams()))];
        self.watch.log(Level::Info, "started", &fields);
        self.plan.notes.iter().for_each(|note| linkspan_engine::run::Observer::note(self.watch.as_ref(), None, note));
    }

    /// Moves the rows until all is done, `stop` fires or the lease is lost. What became of each stream is in the moved run's
    /// outcome; `Err` when the run as a whole broke.
    pub async fn go(self, stop: &Stop) -> Moved {
        let Self { run, plan, tally, name, lost, watch, engine, ends } = self;
        let started = Instant::now();
        let span = tracing::info_span!(
            target: TRACES, "run", "linkspan.run.id" = %run, "linkspan.connection.id" = %engine.connection, "linkspan.connection" = name,
            "linkspan.streams" = plan.assignments.len(), "linkspan.rows.read" = Empty, "linkspan.rows.written" = Empty,
            "linkspan.rows.rejected" = Empty, "error.type" = Empty
        );
        let outcome = stopped_by(stop, &lost, |stop| engine.run(stop)).instrument(span.clone()).await;
        ends.close().await;
        let mut sums = Sums::default();
        sums.count(&tally);
        span.record("linkspan.rows.read", sums.rows_read).record("linkspan.rows.written", sums.written);
        span.record("linkspan.rows.rejected", sums.rejected);
        if let Some(kind) = failure(&outcome) {
            span.record("error.type", tracing::field::debug(kind));
        }
        Moved { run, plan, tally, name, watch, outcome, elapsed: started.elapsed() }
    }
}

/// The first thing that went wrong, if anything did.
fn failure(outcome: &Result<Outcome>) -> Option<ErrorKind> {
    match outcome {
        Err(e) => Some(e.kind()),
        Ok(outcome) => outcome.streams.values().find_map(|s| match &s.ended {
            StreamEnd::Parked(e) | StreamEnd::Failed(e) => Some(e.kind()),
            StreamEnd::Completed | StreamEnd::Stopped => None,
        }),
    }
}

/// A run whose rows have moved and whose end is not yet written down.
pub struct Moved {
    run: RunId,
    plan: Plan,
    tally: Arc<Tally>,
    name: String,
    watch: Arc<Watch>,
    outcome: Result<Outcome>,
    elapsed: Duration,
}

impl Moved {
    /// What became of it. The run still holds its connection.
    pub fn report(self) -> Result<Report> {
        let Self { run, plan, tally, name, outcome, elapsed, .. } = self;
        outcome.map(|o| Report::new(&name, run.to_string(), &plan.assignments, o, &tally, elapsed))
    }
    /// Writes the end of the run down and gives the connection back.
    pub async fn finish(self) -> Result<Report> {
        let watch = self.watch.clone();
        let report = self.report();
        write_down(&watch, &report).await?;
        report
    }
}

/// Rows read from a table must not be written into it.
fn not_onto_itself(job: &Job, plan: &Plan) -> Result<()> {
    if !job.from.is_same_system(&job.to, &job.folder) {
        return Ok(());
    }
    let onto_itself = plan.assignments.iter().find(|a| Target::from(&a.selected.stream.name) == a.target);
    onto_itself.map_or(Ok(()), |a| {
        Err(Error::new(ErrorKind::ConfigInvalid, "a stream would be written onto itself")
            .with("stream", &a.selected.stream.name)
            .fix("give it another name with --target, or another destination"))
    })
}

/// A better reason than "not found" for a stream that was named, where the source knows one.
async fn explained(e: Error, job: &Job, source: &dyn Source) -> Error {
    let named = e.context().iter().find(|(k, _)| *k == "stream").map(|(_, name)| name.clone());
    let asked = named.as_ref().or(job.request.streams.first().map(|c| &c.name));
    for name in asked.into_iter().filter(|s| !s.contains('*')) {
        if let Some(better) = source.missing(&StreamName::parse(name)).await {
            return better;
        }
    }
    e
}

/// Does a piece of work that has nothing to keep: a stop ends it.
pub async fn unless_stopped<T>(stop: &Stop, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        () = stop.wait() => Err(Error::new(ErrorKind::Canceled, "stopped before anything was moved").fix("run the same command again")),
    }
}

/// Runs with a stop that fires when the person asks for it or when the run's lease is lost.
async fn stopped_by<F, T>(user: &Stop, lost: &Stop, run: impl FnOnce(Stop) -> F) -> T
where
    F: Future<Output = T>,
{
    let (stopper, stop) = Stopper::new();
    let running = run(stop);
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended,
        () = user.wait() => {}
        () = lost.wait() => {}
    }
    stopper.stop();
    running.await
}

/// That the lease was lost meanwhile is worth an error, anything else about the record is not.
async fn write_down(watch: &Watch, outcome: &Result<Report>) -> Result<()> {
    let result = match outcome {
        Ok(report) => RunResult { status: report.verdict().status(), stats: report.to_json(), error: report.failure().map(Error::to_json) },
        Err(e) => {
            watch.log(Level::Error, "failed", &[("error", e.to_json())]);
            RunResult { status: RunStatus::Failed, stats: json!({}), error: Some(e.to_json()) }
        }
    };
    let RunResult { status, stats, error } = result;
    let result = RunResult { status, stats: watch.cleaned(stats), error: error.map(|e| watch.cleaned(e)) };
    let Some(claim) = watch.release() else { return Ok(()) };
    match claim.finish(result).await {
        Err(e) if e.kind() == ErrorKind::Conflict && outcome.is_ok() => Err(e),
        Err(e) => {
            tracing::warn!(error = %e, "the end of the run could not be written down");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
