//! The operations over a real store: nothing here is mocked but the clock.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod auth;
mod rig;
