//! The suite that every destination passes (T, C and D of the suites' list). A connector brings a harness and inherits the behaviour.

mod bench;
mod commits;
mod modes;
mod shapes;
pub mod torture;
mod trials;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{ConnectorType, Context, Failpoints, StreamName, Target};
use serde_json::Value;

use crate::{BadConfig, Table, Trials, typed};

/// What a destination's harness does for the suite. Methods may panic: that fails the trial with the panic's text.
#[async_trait]
pub trait DestinationHarness: Send + Sync + 'static {
    fn connector_type(&self) -> ConnectorType;
    /// A config that works, in a place that nobody else writes to.
    fn config(&self) -> Value;
    /// The context for a connector that the suite opens; `failpoints` must be those it runs with.
    fn context(&self, failpoints: Failpoints) -> Context {
        Context::with_failpoints(failpoints)
    }
    /// Where the suite's table `name` (a short lower-case word) goes.
    fn target(&self, name: &str) -> Target;
    fn stream_name(&self, name: &str) -> StreamName {
        StreamName::new(Some("suite"), name)
    }
    /// What a reader of the system sees in the target now; an empty table when there is none. Not through the connector under test.
    /// Values as text: `t`/`true`/`1`, decimals with their digits, times ISO or `YYYY-MM-DD hh:mm:ss[.f][+00]` in UTC, bytes as hex.
    async fn read_back(&self, target: &Target) -> Table;
    /// Names of staging tables, part files and the like that are there now (none after a clean end).
    async fn staging_left(&self) -> Vec<String>;
    /// Makes somebody else's table of the standard shape with no rows in the way of `target`, if the system can.
    async fn foreign_table(&self, _target: &Target) -> bool {
        false
    }
    /// Cuts every connection that the connector under test has now; `false` when there is nothing to cut.
    async fn break_connections(&self) -> bool {
        false
    }
    /// Standard columns that cannot be read back (`read_back` has no trace of them).
    fn lacks(&self) -> Vec<&'static str> {
        vec![]
    }
    /// Columns of the type torture (see `torture`) that read back in another documented form, and why.
    fn declared_losses(&self) -> Vec<(&'static str, &'static str)> {
        vec![]
    }
    /// Configs that must fail `check`.
    fn bad_configs(&self) -> Vec<BadConfig> {
        vec![]
    }
    /// Removes everything the harness made.
    async fn cleanup(&self) {}
}

/// Runs every trial that the destination's capability asks for, and panics at the end with all that failed.
pub async fn suite(harness: impl DestinationHarness) {
    let trials = Trials::new(&harness.connector_type().spec.name, "destination");
    run(harness, trials).await;
}

/// Runs the trials whose name contains `name`.
pub async fn trial(harness: impl DestinationHarness, name: &str) {
    let mut trials = Trials::new(&harness.connector_type().spec.name, "destination");
    trials.only(name);
    run(harness, trials).await;
}

async fn run(harness: impl DestinationHarness, mut trials: Trials) {
    let harness = Arc::new(harness);
    let context = harness.context(Failpoints::default());
    typed::trials(&mut trials, &harness.connector_type(), &harness.config(), context, &harness.bad_configs()).await;
    trials::run(&mut trials, harness.clone()).await;
    harness.cleanup().await;
    trials.finish();
}
