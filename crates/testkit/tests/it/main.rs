//! The suites are tested by what they test: a good fake passes, and each broken one fails in the trial that names its fault.

#![allow(clippy::unwrap_used, reason = "tests")]

mod destination;
mod source;
