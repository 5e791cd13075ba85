//! What is remembered: connections, runs, positions with lease and fence, generations, schema history, run logs.
//! One process owns a data dir; others speak to it through its socket. It knows no connector and no pipe.
//!
//! - Everything asked of the store is a [`Request`]; it means the same in the owner, over the socket and in any database.
//! - What people keep by name is a [`Document`]; a [`Change`] edits several at once, with audit and idempotency, or not at all.
//! - The SQL is shared between databases; a [`Driver`] brings the connection, its clock and a few statements of its dialect.
//! - The memory budget of a run (rows in flight) is not shared through the socket yet: each process has its own.

#![forbid(unsafe_code)]

mod apply;
mod change;
mod claim;
mod data_dir;
mod document;
mod documents;
mod driver;
mod holder;
mod lease;
mod link;
mod listener;
mod logs;
mod memory;
mod record;
mod remote;
mod request;
mod run_log;
pub mod schema_text;
mod sqlite;
mod store;
mod wire;

pub use change::*;
pub use claim::Claim;
pub use document::*;
pub use driver::{Counts, Dialect, Driver, Param, Row, Sql};
pub use holder::Holder;
pub use link::{Options, Role};
pub use record::*;
pub use request::{LeaseKey, Reply, Request};
pub use run_log::{Level, Rejects, RunLog};
pub use sqlite::Sqlite;
pub use store::{FilesOfRuns, Store};
