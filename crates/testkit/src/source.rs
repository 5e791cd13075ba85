//! The suite that every source passes (T, C and S of the suites' list). A connector brings a harness and inherits the behaviour.

mod trials;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{ConnectorType, Context, ReadMode, Repeats, Selected, Stream, StreamName};
use serde_json::Value;

use crate::{BadConfig, StandardRow, Trials, typed};

/// What a source's harness does for the suite. Methods may panic: that fails the trial with the panic's text.
#[async_trait]
pub trait SourceHarness: Send + Sync + 'static {
    fn connector_type(&self) -> ConnectorType;
    /// A config that works. Every stream the harness seeds is visible through it.
    fn config(&self) -> Value;
    fn context(&self) -> Context {
        Context::real()
    }
    /// The name under which `discover` shows the stream that the suite calls `stream` (a short lower-case word).
    fn stream_name(&self, stream: &str) -> StreamName;
    /// Standard columns that the system cannot hold.
    fn lacks(&self) -> Vec<&'static str> {
        vec![]
    }
    /// Whether `discover` shows `id` as the stream's key.
    fn has_key(&self) -> bool {
        true
    }
    /// The cursor column of incremental reads (usually `updated_at`); `None`: full reads only.
    fn cursor(&self) -> Option<&'static str>;
    /// Makes the stream, replacing what was there, with exactly these rows. The `id` is its key.
    async fn seed(&self, stream: &str, rows: &[StandardRow]);
    /// Changes the stream, or says that the system cannot.
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated;
    /// How many connections the connector under test has open at the system now, where that can be counted.
    async fn connections(&self) -> Option<usize> {
        None
    }
    /// Cuts every connection that the connector under test has now; `false` when there is nothing to cut.
    async fn break_connections(&self) -> bool {
        false
    }
    /// Configs that must fail `check`.
    fn bad_configs(&self) -> Vec<BadConfig> {
        vec![]
    }
    /// Removes everything the harness made.
    async fn cleanup(&self) {}
}

/// A change of a stream's rows.
#[derive(Clone, Debug)]
pub enum Mutation {
    Insert(Vec<StandardRow>),
    /// The rows take the place of those with the same id.
    Update(Vec<StandardRow>),
    Delete(Vec<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutated {
    Done,
    Unsupported,
}

/// Runs every trial that the harness's capability asks for, and panics at the end with all that failed.
pub async fn suite(harness: impl SourceHarness) {
    let trials = Trials::new(&harness.connector_type().spec.name, "source");
    run(harness, trials).await;
}

/// Runs the trials whose name contains `name`.
pub async fn trial(harness: impl SourceHarness, name: &str) {
    let mut trials = Trials::new(&harness.connector_type().spec.name, "source");
    trials.only(name);
    run(harness, trials).await;
}

async fn run(harness: impl SourceHarness, mut trials: Trials) {
    let harness = Arc::new(harness);
    typed::trials(&mut trials, &harness.connector_type(), &harness.config(), harness.context(), &harness.bad_configs()).await;
    trials::run(&mut trials, harness.clone()).await;
    harness.cleanup().await;
    trials.finish();
}

/// A stream as the suite selects it.
pub fn select(stream: &Stream, read: ReadMode, cursor: Option<&str>) -> Selected {
    Selected { stream: stream.clone(), read, cursor: cursor.map(str::to_owned), repeats: Repeats::Kept }
}
