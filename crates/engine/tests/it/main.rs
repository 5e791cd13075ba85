//! The pipe against its partners: what holds for every source and destination, shown with fakes.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "tests")]

mod chaos;
mod cost;
mod counterexamples;
mod drift;
mod lanes;
mod memories;
mod pipe;
mod rig;
