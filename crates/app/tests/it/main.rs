//! The operations over a real store: nothing here is mocked but the clock.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking")]

mod attached;
mod auth;
mod connectors;
mod gone;
mod keeping;
mod kv2;
mod members;
mod places;
mod plant;
mod printed;
mod pulls;
mod rig;
mod rotation;
mod runs;
mod secrets;
