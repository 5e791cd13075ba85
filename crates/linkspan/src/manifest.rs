//! `manifest spec|check|discover|read`: a low-code manifest as an Airbyte source program.

use std::io::BufWriter;

use linkspan_airbyte::{
    command::{self, Verb, World},
    wiring::Sleeps,
};
use linkspan_core::{Context, Result};

use crate::{
    cli::{Configured, Manifest},
    errors::Exit,
    terminal,
};

/// Stands for now, for tests and for reads that must be repeatable.
const NOW: &str = "LINKSPAN_NOW";
/// A factor on every wait between attempts; tests set it to 0.
const SLEEP_SCALE: &str = "LINKSPAN_SLEEP_SCALE";

pub async fn run(verb: Manifest, context: Context) -> Result<Exit> {
    let clock = match std::env::var(NOW) {
        Ok(now) => command::clock(Some(&now))?,
        Err(_) => context.clock,
    };
    let sleeps = Sleeps::of(std::env::var(SLEEP_SCALE).ok().as_deref());
    let world = World { http: context.http, clock, sleeps };
    let (manifest, verb) = match verb {
        Manifest::Spec(file) => (file.manifest, Verb::Spec),
        Manifest::Check(Configured { file, config }) => (file.manifest, Verb::Check { config }),
        Manifest::Discover(Configured { file, config }) => (file.manifest, Verb::Discover { config }),
        Manifest::Read { of: Configured { file, config }, catalog, state } => (file.manifest, Verb::Read { config, catalog, state }),
    };
    let out = BufWriter::with_capacity(1 << 16, terminal::lines());
    Ok(Exit(command::run(&manifest, verb, world, out).await))
}
