//! What a run is asked to do: both ends, what moves between them, and what the user agreed to.

use std::path::PathBuf;

use linkspan_core::ConnectionId;
use linkspan_engine::{
    gate::{Policies, Transactions},
    plan::{Plan, Request},
    run::{Accept, Settings},
};
use linkspan_store::{NewConnection, ResetOf, Store};
use uuid::Uuid;

use super::endpoint::Endpoint;

/// How long lanes may take to stop by themselves.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);
/// Messages between a reader and its session: enough that neither waits for the other's short pauses.
const DEPTH: usize = 8;

/// One connection that is to run.
#[derive(Clone)]
pub struct Job {
    pub name: String,
    /// Its identity: what destinations and the store keep its position by.
    pub id: Uuid,
    /// The identity stands in the project file, so it may be taken up again by a new data dir.
    pub id_is_declared: bool,
    pub from: Endpoint,
    pub to: Endpoint,
    pub request: Request,
    pub policies: Policies,
    pub concurrency: usize,
    /// Bytes for rows in flight.
    pub memory: u64,
    /// The folder that relative paths of both ends mean.
    pub folder: PathBuf,
}

/// What the user agreed to, for every job of one command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consent {
    pub accept: bool,
    pub adopt: bool,
    pub reset: bool,
}

impl Job {
    /// What is kept of the request: it holds no secret.
    pub fn spec(&self) -> serde_json::Value {
        serde_json::to_value(&self.request).unwrap_or_default()
    }

    /// The connection's id in the store. A name that the store knows keeps its identity, whatever its ends are now.
    pub async fn known_connection(&self, store: &Store) -> linkspan_core::Result<ConnectionId> {
        let known = if self.id_is_declared { None } else { store.find(&self.name).await? };
        let id = known.map_or(self.id, |c| c.id.0);
        let (from, to) = (self.from.shown.clone(), self.to.shown.clone());
        let new = NewConnection { name: self.name.clone(), id: Some(id), from, to, spec: self.spec() };
        Ok(store.connection(new).await?.id)
    }

    /// A reset of chosen streams leaves the others where they are.
    pub fn reset_of(&self, plan: &Plan) -> ResetOf {
        if self.request.streams.is_empty() {
            return ResetOf::All;
        }
        ResetOf::Streams(plan.assignments.iter().map(|a| a.selected.stream.name.clone()).collect())
    }

    pub(super) fn settings(&self, consent: Consent) -> Settings {
        Settings {
            concurrency: self.concurrency,
            memory: self.memory,
            depth: DEPTH,
            latency: None,
            grace: GRACE,
            accept: Accept { replaced_target: consent.accept || consent.reset, adopt: consent.adopt || self.id_is_declared },
            split_transactions: self.policies.transactions == Transactions::Split,
        }
    }
}
