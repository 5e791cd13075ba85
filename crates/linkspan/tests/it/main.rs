//! The whole program as a user runs it: exit codes, words, files; against real systems.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod again;
mod airbyte;
mod alive;
mod api;
mod apply;
mod basics;
mod client;
mod collector;
mod guests;
mod hub;
mod killing;
mod kills;
mod lattice;
mod manifests;
mod mysql;
#[path = "../../../connectors/tests/it/mysql_server.rs"]
mod mysql_server;
mod program;
mod project;
mod redaction;
mod registry;
mod repair;
mod secrets;
mod serve;
mod ssrf;
mod stops;
mod traces;
mod walk;
mod wrong_files;
mod wrong_mysql;
mod wrong_postgres;
