//! What a user can do: operations as data, rights, projects, secrets, connectors, runs. It knows no HTTP server and no terminal.
//!
//! One folder a noun; each says its rows in `operations()`, and [`operations`] is the whole table.

#![forbid(unsafe_code)]

mod app;
mod arriving;
pub mod audit;
pub mod auth;
pub mod bootstrap;
mod caller;
pub mod catalog;
mod commit;
pub mod connections;
pub mod connectors;
pub mod desk;
pub mod health;
pub mod identity;
pub mod keeping;
pub mod keys;
mod lake;
pub mod manifests;
pub mod members;
mod moment;
mod operation;
mod paging;
pub mod projects;
pub mod pulls;
pub mod registry;
pub mod rotation;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod secrets;
pub mod users;

pub use app::{App, LocalFiles, Mode, Settings, UploadLimits};
pub use caller::{Access, CallContext, Caller, CallerKind, DEFAULT_PROJECT, Reach, Role, Scope, covers, word};
pub use commit::{audit_line, once_more};
pub use lake::LakeHome;
pub use linkspan_store::Json;
pub use moment::{moment, moment_of};
pub use operation::{Cli, Done, Draft, Face, Nothing, Operation, Patch, Placeholders, Reply, Run, decoded, etag};
pub use paging::{Cursor, Page, PageOf};

/// Every operation, in the order they are shown.
pub fn operations() -> Vec<Operation> {
    [
        health::operations(),
        auth::operations(),
        projects::operations(),
        users::operations(),
        members::operations(),
        keys::operations(),
        audit::operations(),
        catalog::operations(),
        connectors::operations(),
        connectors::uploads::operations(),
        bootstrap::operations(),
        pulls::operations(),
        connections::operations(),
        runs::operations(),
        rotation::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_two_operations_share_a_name_or_a_route_or_a_command() {
        let all = super::operations();
        let names: HashSet<_> = all.iter().map(|o| o.name).collect();
        let routes: HashSet<_> = all.iter().map(|o| (o.method.clone(), o.path)).collect();
        let commands: Vec<_> = all.iter().filter_map(|o| o.cli.map(|c| c.words)).collect();
        assert_eq!((names.len(), routes.len()), (all.len(), all.len()));
        assert_eq!(commands.iter().collect::<HashSet<_>>().len(), commands.len());
    }

    #[test]
    fn every_placeholder_and_position_is_a_field_of_the_input() {
        for operation in super::operations() {
            let input = operation.input();
            let positions = operation.cli.map_or(&[][..], |c| c.positional);
            for field in operation.placeholders().iter().chain(positions) {
                assert!(input["properties"].get(field).is_some(), "{}: {field}", operation.name);
            }
        }
    }
}
