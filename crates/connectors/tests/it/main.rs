//! Integration tests of the native connectors.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod crashes;
mod csv_source;
mod faker;
mod http_json;
mod jsonl_source;
mod mysql_destination;
mod mysql_modes;
mod mysql_reads;
mod mysql_server;
mod mysql_source;
mod mysql_types;
mod mysql_values;
mod pools;
mod postgresql_destination;
mod postgresql_incremental;
mod postgresql_lattice;
mod postgresql_merge;
mod postgresql_source;
mod postgresql_suite;
mod postgresql_types;
mod postgresql_values;
mod sqlite;
mod text_files;
