//! `sync`: opens both ends, plans, claims the run and lets the engine move the rows.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use linkspan_core::{ConnectionId, Context, Destination, Error, ErrorKind, Result, Source, Stop, Stopper, StreamName, Target};
use linkspan_engine::{
    gate::{PolicyGate, Transactions},
    plan::{self, Plan},
    run::{Accept, Observer, Run, Settings},
};
use linkspan_store::{Level, NewConnection, NewRun, ResetOf, RunResult, RunStatus, Store};
use serde_json::json;

use crate::{
    cli::{self, Common},
    dry,
    errors::{self, Exit},
    interrupt::{self, unless_stopped},
    job::{Job, Jobs, here},
    progress::Progress,
    project::Project,
    report::Report,
    tally::Tally,
    terminal::Terminal,
    watch::Watch,
};

/// How long lanes may take to stop by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// Messages between a reader and its session: enough that neither waits for the other's short pauses.
const DEPTH: usize = 8;

/// What the user agreed to, for every job of one command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consent {
    pub accept: bool,
    pub adopt: bool,
    pub reset: bool,
}

/// The `sync` verb.
pub async fn run(args: &cli::Sync, common: &Common, context: Context, terminal: Arc<Terminal>) -> Result<Exit> {
    let Jobs { jobs, project } = Jobs::of(args)?;
    if jobs.iter().any(|j| j.to.takes_stdout()) {
        terminal.give_stdout_away();
    }
    let stop = interrupt::listen(terminal.clone())?;
    let mut mover = Mover { context, terminal, stop, project, store: None, data_dir: common.data_dir.clone() };
    if args.dry_run {
        for job in &jobs {
            mover.dry_run(job).await?;
        }
        return Ok(Exit::OK);
    }
    let consent = Consent { accept: args.accept, adopt: args.adopt, reset: args.reset };
    let exits = mover.run_all(&jobs, consent).await;
    mover.close().await;
    Ok(together(&exits))
}

/// One exit code for several connections: the common one, or "partial".
fn together(exits: &[Exit]) -> Exit {
    match exits {
        [] => Exit::OK,
        _ if exits.contains(&Exit::INTERRUPTED) => Exit::INTERRUPTED,
        [first, rest @ ..] if rest.iter().all(|e| e == first) => *first,
        _ => Exit::PARTIAL,
    }
}

/// Moves jobs, one after the other.
pub struct Mover {
    pub context: Context,
    pub terminal: Arc<Terminal>,
    pub stop: Stop,
    pub project: Option<Project>,
    /// Opened when the first job is about to run, so that a mistake in a command line leaves nothing behind.
    pub store: Option<Store>,
    pub data_dir: Option<PathBuf>,
}

/// Both ends, open and planned.
struct Prepared {
    source: Arc<dyn Source>,
    destination: Arc<dyn Destination>,
    plan: Plan,
}

impl Mover {
    async fn run_all(&mut self, jobs: &[Job], consent: Consent) -> Vec<Exit> {
        let mut exits = Vec::with_capacity(jobs.len());
        for job in jobs {
            if self.stop.requested() {
                exits.push(Exit::INTERRUPTED);
                break;
            }
            let exit = match self.run(job, consent).await {
                Ok(report) => self.tell(&report),
                Err(e) if jobs.len() > 1 => errors::report(&e.with("connection", &job.name), &self.terminal),
                Err(e) => errors::report(&e, &self.terminal),
            };
            exits.push(exit);
        }
        exits
    }

    pub async fn close(&self) {
        if let Some(store) = &self.store {
            store.close().await;
        }
    }

    async fn prepare(&self, job: &Job) -> Result<Prepared> {
        let source = job.from.open_source(self.context.clone(), self.project.as_ref())?;
        let destination = job.to.open_destination(self.context.clone(), self.project.as_ref())?;
        let discovered = unless_stopped(&self.stop, source.discover()).await?;
        let plan = match plan::plan(&discovered, &job.request, &destination.capability()) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(explained(e, job, source.as_ref()).await),
            plan => plan?,
        };
        not_onto_itself(job, &plan)?;
        Ok(Prepared { source, destination, plan })
    }

    async fn dry_run(&self, job: &Job) -> Result<()> {
        let Prepared { destination, plan, .. } = self.prepare(job).await?;
        unless_stopped(&self.stop, dry::show(job, &plan, destination.as_ref(), &self.terminal)).await
    }

    /// Runs one job to its end. `Err` when nothing could start; what happened to streams is in the report.
    pub async fn run(&mut self, job: &Job, consent: Consent) -> Result<Report> {
        let prepared = self.prepare(job).await?;
        let store = self.store().await?;
        let connection = known_connection(&store, job).await?;
        if consent.reset {
            store.reset(connection, reset_of(job, &prepared.plan)).await?;
        }
        let claim = store.claim(connection, NewRun::new("sync", spec(job))).await?;
        let (run, lost, fence, memory) = (claim.run_id().to_string(), claim.lost(), claim.fence(), claim.memory());
        let tally = Arc::new(Tally::default());
        let watch = Arc::new(Watch::new(tally.clone(), store, claim));
        self.announce(job, &prepared.plan, &run, &watch);
        let started = Instant::now();
        let assignments = prepared.plan.assignments.clone();
        let progress = Progress::start(tally.clone(), self.terminal.clone());
        let engine = Run {
            connection,
            fence,
            source: prepared.source,
            gate: Arc::new(PolicyGate::new(job.policies.clone(), &prepared.destination.capability())),
            destination: prepared.destination,
            streams: prepared.plan.assignments,
            memory,
            settings: settings(job, consent),
            context: self.context.clone(),
            observer: watch.clone(),
        };
        let outcome = stopped_by(&self.stop, &lost, |stop| engine.run(stop)).await;
        progress.finish().await;
        let outcome = outcome.map(|o| Report::new(&job.name, run, &assignments, o, &tally, started.elapsed()));
        finish(&watch, &outcome).await?;
        outcome
    }

    async fn store(&mut self) -> Result<Store> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let dir = data_dir(self.data_dir.as_ref())?;
        let store = Store::open(&dir, &self.context).await?;
        self.store = Some(store.clone());
        Ok(store)
    }

    fn announce(&self, job: &Job, plan: &Plan, run: &str, watch: &Watch) {
        let streams: Vec<String> = plan.assignments.iter().map(|a| a.selected.stream.name.to_string()).collect();
        watch.log(Level::Info, "started", &[("from", json!(job.from.shown)), ("to", json!(job.to.shown)), ("streams", json!(streams))]);
        plan.notes.iter().for_each(|note| watch.note(None, note));
        if self.terminal.stdout_is_taken() {
            return;
        }
        if self.terminal.json() {
            let from_to = (&job.from.shown, &job.to.shown);
            let event = json!({
                "event": "started", "connection": job.name, "run": run, "from": from_to.0, "to": from_to.1, "streams": streams,
            });
            return self.terminal.json_line(&event);
        }
        let paint = self.terminal.paint_err();
        let count = if streams.len() == 1 { "1 stream".to_owned() } else { format!("{} streams", streams.len()) };
        self.terminal.err(&format!("{} {} -> {} ({count})", paint.bold(&job.name), job.from.shown, job.to.shown));
    }

    /// Prints the report and answers its exit code.
    pub fn tell(&self, report: &Report) -> Exit {
        let (terminal, exit) = (&self.terminal, report.exit());
        if terminal.json() {
            terminal.json_line(&report.to_json());
            return exit;
        }
        terminal.out(&report.table(terminal.paint_out()));
        let failures = report.failures(terminal.paint_err());
        if !failures.is_empty() {
            terminal.err(failures.trim_end());
        }
        if report.rejected() > 0
            && let Some(store) = &self.store
        {
            let path = report.run.parse().map(|id| store.rejects_path(linkspan_store::RunId(id)).display().to_string());
            terminal.err(&format!("rejected rows are listed in {}", path.unwrap_or_default()));
        }
        if exit == Exit::INTERRUPTED {
            terminal.err("stopped: what is committed stays; the same command goes on from there");
        }
        exit
    }
}

/// Rows read from a table must not be written into it.
fn not_onto_itself(job: &Job, plan: &Plan) -> Result<()> {
    if !job.from.is_same_system(&job.to, &here()?) {
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
    let asked = named.as_ref().or(job.request.streams.first());
    for name in asked.into_iter().filter(|s| !s.contains('*')) {
        if let Some(better) = source.missing(&StreamName::parse(name)).await {
            return better;
        }
    }
    e
}

/// The connection's id in the store. A name that the store knows keeps its identity, whatever its ends are now.
async fn known_connection(store: &Store, job: &Job) -> Result<ConnectionId> {
    let known = if job.id_is_declared { None } else { store.find(&job.name).await? };
    let id = known.map_or(job.id, |c| c.id.0);
    let new =
        NewConnection { name: job.name.clone(), id: Some(id), from: job.from.shown.clone(), to: job.to.shown.clone(), spec: spec(job) };
    Ok(store.connection(new).await?.id)
}

fn spec(job: &Job) -> serde_json::Value {
    serde_json::to_value(&job.request).unwrap_or_default()
}

/// A reset of chosen streams leaves the others where they are.
fn reset_of(job: &Job, plan: &Plan) -> ResetOf {
    if job.request.streams.is_empty() {
        return ResetOf::All;
    }
    ResetOf::Streams(plan.assignments.iter().map(|a| a.selected.stream.name.clone()).collect())
}

fn settings(job: &Job, consent: Consent) -> Settings {
    Settings {
        concurrency: job.concurrency,
        memory: job.memory,
        depth: DEPTH,
        latency: None,
        grace: GRACE,
        accept: Accept { replaced_target: consent.accept || consent.reset, adopt: consent.adopt || job.id_is_declared },
        split_transactions: job.policies.transactions == Transactions::Split,
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

/// Writes the end of the run down. That the lease was lost meanwhile is worth an error, anything else about the record is not.
async fn finish(watch: &Watch, outcome: &Result<Report>) -> Result<()> {
    let result = match outcome {
        Ok(report) => RunResult { status: status(report), stats: report.to_json(), error: None },
        Err(e) => {
            watch.log(Level::Error, "failed", &[("error", e.to_json())]);
            RunResult { status: RunStatus::Failed, stats: json!({}), error: Some(e.to_json()) }
        }
    };
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

fn status(report: &Report) -> RunStatus {
    match report.exit() {
        Exit::OK => RunStatus::Succeeded,
        Exit::PARTIAL => RunStatus::Partial,
        Exit::INTERRUPTED => RunStatus::Stopped,
        _ => RunStatus::Failed,
    }
}

/// Where this user's positions, runs and logs are.
fn data_dir(asked: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(dir) = asked {
        return Ok(dir.clone());
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .filter(|d| d.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("linkspan"))
        .ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "there is no place for the data dir: HOME is not set")
                .fix("give one: --data-dir DIR, or set LINKSPAN_DATA_DIR")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_connections_have_one_exit_code() {
        assert_eq!(together(&[Exit::OK, Exit::OK]), Exit::OK);
        assert_eq!(together(&[Exit::OK, Exit::AUTH]), Exit::PARTIAL);
        assert_eq!(together(&[Exit::AUTH, Exit::AUTH]), Exit::AUTH);
        assert_eq!(together(&[Exit::OK, Exit::INTERRUPTED]), Exit::INTERRUPTED);
    }
}
