//! `airbyte source`: a connector type of the house as a program that speaks the Airbyte protocol.

use std::{io::BufWriter, path::PathBuf};

use clap::{Args, Subcommand};
use linkspan_airbyte::program::{self, Program, Verb};
use linkspan_core::{Context, ErrorKind, Result};

use crate::{ends, errors::Exit, terminal};

pub const EXAMPLES: &str = "\
Examples:
  linkspan airbyte source postgresql spec
  linkspan airbyte source postgresql check --config config.json
  linkspan airbyte source postgresql discover --config config.json
  linkspan airbyte source postgresql read --config config.json --catalog catalog.json --state state.json

TYPE is a type of `linkspan catalog list`. A platform that wants one executable gets a file of two lines:
  #!/bin/sh
  exec linkspan airbyte source postgresql \"$@\"

The exit code is the protocol's: 0, also for a connection that does not work; 1 when a stream was not
read to its end, or the program could not do what it was asked.";

#[derive(Debug, Subcommand)]
pub enum Airbyte {
    /// A source type as a program.
    Source(Source),
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

pub async fn run(verb: Airbyte, context: Context) -> Result<Exit> {
    match verb {
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
