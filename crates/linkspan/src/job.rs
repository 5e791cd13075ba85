//! What a `sync` is asked to do, gathered from flags and project file into one value per connection.

use std::path::{Path, PathBuf};

use linkspan_app::{
    DEFAULT_PROJECT,
    registry::Registry,
    run::{Endpoint, Job, connection_id, derived_name},
};
use linkspan_core::{Context, Error, ErrorKind, Result};
use linkspan_engine::{
    gate::Policies,
    plan::{Choice, Request},
};

use crate::{
    cli, ends,
    house::House,
    kept,
    project::{ConnectionEntry, Project},
    stored,
};

/// What the command line and its project file ask for, in their order. What was opened of the data dir for it is the caller's to close.
pub async fn jobs(args: &cli::Sync, data_dir: Option<&PathBuf>, context: &Context) -> Result<(Vec<Job>, Option<House>)> {
    let hub = stored::Hub::new(data_dir, context, args.project.as_deref().unwrap_or(DEFAULT_PROJECT));
    let jobs = asked(args, data_dir, context, &hub).await;
    let house = hub.into_house();
    match (jobs, house) {
        (Err(e), Some(house)) => {
            house.close().await;
            Err(e)
        }
        (jobs, house) => Ok((jobs?, house)),
    }
}

async fn asked(args: &cli::Sync, data_dir: Option<&PathBuf>, context: &Context, hub: &stored::Hub) -> Result<Vec<Job>> {
    let project = args.file.as_deref().map(Project::read).transpose()?;
    let registry = ends::registry_for(project.as_ref(), data_dir, context).await?;
    let keeps = kept::DataDir::new(data_dir, context);
    let jobs = match (&args.from, &args.to, &project) {
        (Some(from), Some(to), project) => {
            let find = |text: &str| ends::find(text, &registry, project.as_ref()).map(|end| keeps.keeps(end));
            // What the words of this binary and the file do not mean may be the name of a connector that is stored.
            let from = match find(from) {
                Err(e) if project.is_none() => hub.source(from).await?.ok_or(e)?,
                found => found?,
            };
            let (to, target) = match find(to) {
                Err(e) if project.is_none() => hub.destination(to).await?.ok_or(e)?,
                found => (found?, None),
            };
            let mut job = of_ends((from, to), args, &here()?);
            job.request.target = job.request.target.or(target);
            return Ok(vec![job]);
        }
        (Some(_), None, _) => Err(Error::new(ErrorKind::ConfigInvalid, "TO is missing")
            .fix("write both ends: linkspan sync FROM TO; or name a connection of the file with --connection")),
        (None, _, Some(project)) => declared(args, project, &registry),
        (None, _, None) => Err(Error::new(ErrorKind::ConfigInvalid, "nothing to sync").fix("linkspan sync FROM TO")),
    };
    Ok(jobs?.into_iter().map(|job| Job { from: keeps.keeps(job.from), to: keeps.keeps(job.to), ..job }).collect())
}

/// The folder that relative paths on the command line mean.
fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(|e| linkspan_core::file_error("the current folder cannot be read", Path::new("."), e))
}

fn declared(args: &cli::Sync, project: &Project, registry: &Registry) -> Result<Vec<Job>> {
    let here = here()?;
    let connections = project.connections(&args.connection)?;
    if args.name.is_some() && connections.len() > 1 {
        return Err(Error::new(ErrorKind::ConfigInvalid, "one name cannot stand for several connections").fix("add --connection NAME"));
    }
    let job = |(name, entry): (String, ConnectionEntry)| {
        let end = |field: &'static str, text: &str| {
            ends::find(text, registry, Some(project)).map_err(|e| {
                let place = project.error("", &["connections", &name, field]).context()[0].1.clone();
                e.with("place", place).with("connection", &name)
            })
        };
        let ends = (end("from", &entry.from)?, end("to", &entry.to)?);
        Ok(of_entry(name, entry, ends, args, &here))
    };
    connections.into_iter().map(job).collect()
}

fn of_ends((from, to): (Endpoint, Endpoint), args: &cli::Sync, here: &Path) -> Job {
    let id = connection_id(&from, &to, args.name.as_deref(), here);
    let name = args.name.clone().unwrap_or_else(|| derived_name(&from, &to, id));
    let nothing = ConnectionEntry::default();
    Job {
        name,
        id,
        id_is_declared: false,
        from,
        to,
        request: request(&args.request, &nothing),
        policies: Policies::default(),
        concurrency: concurrency(args.concurrency),
        memory: memory(args.memory),
        folder: here.to_owned(),
    }
}

fn of_entry(name: String, entry: ConnectionEntry, (from, to): (Endpoint, Endpoint), args: &cli::Sync, here: &Path) -> Job {
    let name = args.name.clone().unwrap_or(name);
    Job {
        id: entry.id.unwrap_or_else(|| connection_id(&from, &to, Some(&name), here)),
        id_is_declared: entry.id.is_some(),
        name,
        from,
        to,
        request: request(&args.request, &entry),
        policies: entry.policies.clone(),
        concurrency: concurrency(args.concurrency.or(entry.concurrency)),
        memory: memory(args.memory.or(entry.memory)),
        folder: here.to_owned(),
    }
}

/// Flags win over the file.
fn request(flags: &cli::Request, entry: &ConnectionEntry) -> Request {
    let either = |flag: &Vec<String>, file: &Vec<String>| if flag.is_empty() { file.clone() } else { flag.clone() };
    Request {
        streams: streams(flags, entry),
        mode: flags.mode.or(entry.mode),
        cursor: flags.cursor.clone().or_else(|| entry.cursor.clone()),
        write: flags.write.or(entry.write),
        key: either(&flags.key, &entry.key),
        target: flags.target.clone().or_else(|| entry.target.clone()),
        swap: flags.swap.or(entry.swap).unwrap_or_default(),
    }
}

/// The file's entries, but for what a flag says for all of them; or those that are named by flags, with what the file says of them.
fn streams(flags: &cli::Request, entry: &ConnectionEntry) -> Vec<Choice> {
    let said_of = |name: &String| entry.streams.iter().find(|c| c.name == *name).cloned().unwrap_or_else(|| Choice::from(name.as_str()));
    let mut streams = if flags.streams.is_empty() { entry.streams.clone() } else { flags.streams.iter().map(said_of).collect() };
    for Choice { own, .. } in &mut streams {
        own.mode = own.mode.filter(|_| flags.mode.is_none());
        own.cursor = own.cursor.take().filter(|_| flags.cursor.is_none());
        own.write = own.write.filter(|_| flags.write.is_none());
        own.target = own.target.take().filter(|_| flags.target.is_none());
        if !flags.key.is_empty() {
            own.key.clear();
        }
    }
    streams
}

fn concurrency(asked: Option<u16>) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    asked.map_or(cores.clamp(2, 8), usize::from)
}

fn memory(megabytes: Option<u32>) -> u64 {
    u64::from(megabytes.unwrap_or(64)) << 20
}
