//! `airbyte source|destination`: a connector type of the house as a program that speaks the Airbyte protocol.

use std::{collections::BTreeMap, io::BufWriter, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use linkspan_airbyte::program::{self, Lenient, Moved, Moving, Program, Verb, WriteVerb, Writer};
use linkspan_core::{Changes, Context, ErrorKind, Gate, Result, StreamName, Swap};
use linkspan_engine::{
    gate::{Drift, Policies, Policy, PolicyGate},
    run::{Accept, Assignment, Observer, Run, Settings, StreamEnd, StreamOutcome},
};

use crate::{ends, errors::Exit, interrupt, terminal, terminal::Terminal};

pub const EXAMPLES: &str = "\
Examples:
  linkspan airbyte source postgresql spec
  linkspan airbyte source postgresql check --config config.json
  linkspan airbyte source postgresql discover --config config.json
  linkspan airbyte source postgresql read --config config.json --catalog catalog.json --state state.json
  linkspan airbyte destination postgresql write --config config.json --catalog catalog.json < messages.jsonl

TYPE is a type of `linkspan catalog list`. A platform that wants one executable gets a file of two lines:
  #!/bin/sh
  exec linkspan airbyte source postgresql \"$@\"

The exit code is the protocol's: 0, also for a connection that does not work; 1 when a stream was not
read or written to its end, or the program could not do what it was asked.";

#[derive(Debug, Subcommand)]
pub enum Airbyte {
    /// A source type as a program.
    Source(Source),
    /// A destination type as a program: records and states come on stdin, states go out once they are durable.
    Destination(Destination),
}

#[derive(Args, Debug)]
pub struct Destination {
    /// The connector type.
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(subcommand)]
    verb: DestinationVerb,
}

#[derive(Debug, Subcommand)]
enum DestinationVerb {
    /// What its config looks like, and which sync modes it supports.
    Spec,
    /// Whether the config works.
    Check(Config),
    /// Writes the records of stdin.
    Write {
        #[command(flatten)]
        config: Config,
        /// Which streams come, and how they are written, as a configured catalog (JSON).
        #[arg(long, value_name = "FILE")]
        catalog: PathBuf,
    },
}

#[derive(Args, Debug)]
pub struct Source {
    /// The connector type.
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(subcommand)]
    verb: SourceVerb,
}

#[derive(Debug, Subcommand)]
enum SourceVerb {
    /// What its config looks like.
    Spec,
    /// Whether the config works.
    Check(Config),
    /// Its streams and their schemas.
    Discover(Config),
    /// Records and states of the streams of a catalog.
    Read {
        #[command(flatten)]
        config: Config,
        /// Which streams, as a configured catalog (JSON).
        #[arg(long, value_name = "FILE")]
        catalog: PathBuf,
        /// Where an earlier read stopped (JSON).
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct Config {
    /// The connector's config (JSON).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub const TARGET_EXAMPLES: &str = "\
Examples:
  tap-jsonl --config tap.json --catalog catalog.json | linkspan singer-target postgresql --config target.json > state.json

The config is the connector type's own (`linkspan catalog show TYPE`). States come out once all that came before them is durable.";

/// A connector type as a Singer target.
#[derive(Args, Debug)]
pub struct SingerTarget {
    /// The connector type.
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    config: Config,
}

pub async fn singer_target(asked: SingerTarget, context: Context, terminal: Arc<Terminal>) -> Result<Exit> {
    let kind = ends::registry().named(&asked.kind, ErrorKind::NotFound)?.clone();
    let stop = interrupt::listen(terminal.clone())?;
    let writer = Writer { kind, context, pipe: Box::new(|moving| Box::pin(moved(moving))), stop };
    let say = Arc::new(move |text: &str| terminal.err(text));
    let out = BufWriter::with_capacity(1 << 16, terminal::lines());
    program::target(&writer, &asked.config.config, std::io::stdin(), out, say).await.map(|()| Exit::OK)
}

pub async fn run(verb: Airbyte, context: Context, terminal: Arc<Terminal>) -> Result<Exit> {
    match verb {
        Airbyte::Destination(Destination { kind, verb }) => {
            let kind = ends::registry().named(&kind, ErrorKind::NotFound)?.clone();
            let stop = interrupt::listen(terminal)?;
            let writer = Writer { kind, context, pipe: Box::new(|moving| Box::pin(moved(moving))), stop };
            let verb = match verb {
                DestinationVerb::Spec => WriteVerb::Spec,
                DestinationVerb::Check(Config { config }) => WriteVerb::Check { config },
                DestinationVerb::Write { config: Config { config }, catalog } => WriteVerb::Write { config, catalog },
            };
            let out = BufWriter::with_capacity(1 << 16, terminal::lines());
            Ok(Exit(program::write(&writer, verb, std::io::stdin(), out).await))
        }
        Airbyte::Source(Source { kind, verb }) => {
            let program = program(&kind, context)?;
            let verb = match verb {
                SourceVerb::Spec => Verb::Spec,
                SourceVerb::Check(Config { config }) => Verb::Check { config },
                SourceVerb::Discover(Config { config }) => Verb::Discover { config },
                SourceVerb::Read { config: Config { config }, catalog, state } => Verb::Read { config, catalog, state },
            };
            let out = BufWriter::with_capacity(1 << 16, terminal::lines());
            Ok(Exit(program::run(&program, verb, out).await))
        }
    }
}

fn program(kind: &str, context: Context) -> Result<Program> {
    let kind = ends::registry().named(kind, ErrorKind::NotFound)?.clone();
    let width = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    Ok(Program { kind, context, encode: linkspan_connectors::jsonl::json_lines, width })
}

/// Bytes for rows in flight.
const MEMORY: u64 = 64 << 20;
/// How long a lane may take to stop by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Moves what a program was given through the house's pipe.
async fn moved(moving: Moving) -> Result<BTreeMap<StreamName, Result<()>>> {
    let Moving { connection, fence, source, destination, streams, memory, parked, say, context, stop } = moving;
    let capability = destination.capability();
    let gate = |policy| {
        let drift = Drift { changed_type: Some(policy), ..Drift::all(policy) };
        Arc::new(PolicyGate::new(Policies { drift, ..Policies::default() }, &capability)) as Arc<dyn Gate>
    };
    let gate = Arc::new(Lenient::new(gate(Policy::Evolve), gate(Policy::DiscardValue), parked));
    let streams =
        streams.into_iter().map(|Moved { selected, target, write, key }| Assignment { selected, target, write, key, swap: Swap::Rename });
    let settings = Settings {
        concurrency: 1,
        memory: MEMORY,
        depth: 8,
        latency: None,
        grace: GRACE,
        // The platform keeps the states: what the destination remembers is taken as it is.
        accept: Accept { replaced_target: true, adopt: true },
        // The input is one lane; its streams may be shown one after the other.
        split_transactions: true,
    };
    let observer = Arc::new(Noted(say));
    let streams = streams.collect();
    let run = Run { connection, fence, source, destination, streams, gate, memory, settings, context, observer };
    let outcome = run.run(stop).await?;
    Ok(outcome.streams.into_iter().map(|(stream, StreamOutcome { ended, .. })| (stream, end(ended))).collect())
}

fn end(ended: StreamEnd) -> Result<()> {
    match ended {
        StreamEnd::Completed => Ok(()),
        StreamEnd::Stopped => Err(linkspan_core::Error::new(ErrorKind::Unavailable, "the program was asked to stop")
            .fix("run the sync again: it goes on from the last state")),
        StreamEnd::Parked(e) | StreamEnd::Failed(e) => Err(e),
    }
}

/// What a run has to tell goes to whoever listens to the program.
struct Noted(Arc<dyn Fn(&str) + Send + Sync>);

impl Observer for Noted {
    fn note(&self, stream: Option<&StreamName>, text: &str) {
        match stream {
            Some(stream) => (self.0)(&format!("{stream}: {text}")),
            None => (self.0)(text),
        }
    }
    fn changes(&self, stream: &StreamName, changes: &Changes) {
        let (changed, rejected) = (changes.changed.len(), changes.rejected.len());
        (self.0)(&format!("{stream}: {changed} values could not be kept as they were, {rejected} rows were left out"));
    }
}
