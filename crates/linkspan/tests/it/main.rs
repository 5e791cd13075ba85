//! The whole program as a user runs it: exit codes, words, files; against real systems.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod again;
mod airbyte;
mod alive;
mod apply;
mod basics;
mod client;
mod hub;
mod kills;
mod lattice;
mod mysql;
mod program;
mod project;
mod registry;
mod repair;
mod secrets;
mod serve;
mod stops;
mod walk;
mod wrong_files;
mod wrong_postgres;
