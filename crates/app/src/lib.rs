//! What a user can do: operations as data, rights, projects, secrets, connectors, runs. It knows no HTTP server and no terminal.
//!
//! One folder a noun; each says its rows in `operations()`, and [`operations`] is the whole table.

#![forbid(unsafe_code)]

mod app;
mod caller;
pub mod catalog;
pub mod health;
mod operation;

pub use app::{App, Mode, Settings};
pub use caller::{Access, CallContext, Caller, CallerKind, DEFAULT_PROJECT, Reach, Role, Scope, covers, word};
pub use operation::{Cli, Done, Draft, Face, Nothing, Operation, Patch, Placeholders, Reply, Run, decoded, etag};

/// Every operation, in the order they are shown.
pub fn operations() -> Vec<Operation> {
    [health::operations()].into_iter().flatten().collect()
}
