//! Suites that every connector passes, and what tests need: harnesses, faults, fakes, servers, processes.
//! A dev-dependency only; it knows core and nothing above it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "this crate is test code")]

pub mod bad;
pub mod chaos;
pub mod destination;
pub mod drive;
pub mod fakes;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod rows;
pub mod servers;
pub mod source;
mod trial;
pub mod typed;
pub mod waivers;

pub use bad::{BadConfig, Case};
pub use rows::{StandardRow, Table};
pub use trial::Trials;

use std::time::Duration;

/// How much the heavy tests do.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Random kills per scenario.
    pub kills: usize,
    /// Seeds of a random-fault scenario.
    pub seeds: u64,
    /// How long one trial of a suite may take.
    pub trial_limit: Duration,
}

/// `LINKSPAN_TEST_SCALE`: `ci` (the default: 20 kills, 500 seeds) or `full` (300 kills, 2,000 seeds).
pub fn scale() -> Scale {
    match std::env::var("LINKSPAN_TEST_SCALE").as_deref() {
        Ok("full") => Scale { kills: 300, seeds: 2_000, trial_limit: Duration::from_secs(600) },
        _ => Scale { kills: 20, seeds: 500, trial_limit: Duration::from_secs(120) },
    }
}
