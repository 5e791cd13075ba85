//! The whole program as a user runs it: exit codes, words, files; against real systems.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod added;
mod again;
mod airbyte;
mod airbyte_destination;
mod alive;
mod api;
mod apply;
mod basics;
mod client;
mod collector;
mod documents;
mod drawn;
mod guests;
mod guests_taking;
mod hub;
mod killing;
mod kills;
mod lake;
mod lattice;
mod lattice_mysql;
mod manifest_runs;
mod manifests;
mod mysql;
#[path = "../../../connectors/tests/it/mysql_server.rs"]
mod mysql_server;
mod pools;
mod program;
mod project;
mod pypi;
mod redaction;
mod registry;
mod repair;
mod schemathesis;
mod secrets;
mod serve;
mod singer;
mod ssrf;
mod stops;
mod stored;
mod tokens;
mod traces;
mod types_page;
mod uploads;
mod walk;
mod wrong_files;
mod wrong_mysql;
mod wrong_postgres;
