//! Pulls: a connector's own query is run now and what is new of its rows goes into the project's default destination.

mod answer;
mod pull;
mod seen;
mod sieve;

use crate::{
    caller::{Access, Scope},
    operation::Operation,
};

pub fn operations() -> Vec<Operation> {
    let act = Access::Scoped(Scope::SyncsRun);
    vec![
        Operation::post(
            "connectors.pull",
            "/v1/connectors/{connector}/pull",
            act,
            "Runs the connector's query now, into the project's default destination; rows whose content is there already are skipped.",
        )
        .cli("connectors pull", &["connector"])
        .call(pull::pull),
    ]
}
