//! `sync`: carries jobs out one after the other and shows how they go.

use std::{path::PathBuf, sync::Arc};

use linkspan_app::run::{self, Claimed, Consent, Job, Prepared, Report, unless_stopped};
use linkspan_core::{Context, Result, Stop};
use linkspan_store::Store;
use serde_json::json;

use crate::{
    cli::{self, Common},
    dry,
    errors::{self, Exit},
    house::House,
    interrupt, job,
    progress::Progress,
    report,
    settings::data_dir,
    terminal::Terminal,
};

/// The `sync` verb.
pub async fn run(args: &cli::Sync, common: &Common, context: Context, terminal: Arc<Terminal>) -> Result<Exit> {
    let (jobs, house) = job::jobs(args, common.data_dir.as_ref(), &context).await?;
    let exit = carried_out(args, common, context, terminal, &jobs, house.as_ref().map(House::store)).await;
    if let Some(house) = house {
        house.close().await;
    }
    exit
}

/// In the open store, where there is one.
async fn carried_out(
    args: &cli::Sync,
    common: &Common,
    context: Context,
    terminal: Arc<Terminal>,
    jobs: &[Job],
    store: Option<Store>,
) -> Result<Exit> {
    if jobs.iter().any(|j| j.to.takes_stdout()) {
        terminal.give_stdout_away();
    }
    let stop = interrupt::listen(terminal.clone())?;
    let mut mover = Mover { context, terminal, stop, store, data_dir: common.data_dir.clone() };
    if args.dry_run {
        for job in jobs {
            mover.dry_run(job).await?;
        }
        return Ok(Exit::OK);
    }
    let consent = Consent { accept: args.accept, adopt: args.adopt, reset: args.reset };
    let exits = mover.run_all(jobs, consent).await;
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
    /// Opened when the first job is about to run, so that a mistake in a command line leaves nothing behind.
    pub store: Option<Store>,
    pub data_dir: Option<PathBuf>,
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

    async fn dry_run(&self, job: &Job) -> Result<()> {
        let Prepared { destination, plan, .. } = run::prepare(job, &self.context, &self.stop).await?;
        unless_stopped(&self.stop, dry::show(job, &plan, destination.as_ref(), &self.terminal)).await
    }

    /// Runs one job to its end. `Err` when nothing could start; what happened to streams is in the report.
    pub async fn run(&mut self, job: &Job, consent: Consent) -> Result<Report> {
        let prepared = run::prepare(job, &self.context, &self.stop).await?;
        let store = self.store().await?;
        let claimed = prepared.claim(job, consent, store, &self.context).await?;
        self.announce(job, &claimed);
        let progress = Progress::start(claimed.tally.clone(), self.terminal.clone());
        let moved = claimed.go(&self.stop).await;
        progress.finish().await;
        moved.finish().await
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

    fn announce(&self, job: &Job, claimed: &Claimed) {
        let (streams, run) = (claimed.streams(), claimed.run.to_string());
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
        let (terminal, exit) = (&self.terminal, report::exit(report));
        if terminal.json() {
            terminal.json_line(&report::event(report));
            return exit;
        }
        terminal.out(&report::summary(report, terminal.paint_out()));
        let failures = report::failures(report, terminal.paint_err());
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
