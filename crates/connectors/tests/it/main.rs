//! Integration tests of the native connectors.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod faker;
mod postgresql_source;
mod sqlite;
