//! The destination suite against the in-memory destination, whole and with faults built in.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::FutureExt;
use linkspan_core::{
    Atomic, Batch, Capability, Checked, Commit, ConnectionId, Connector, ConnectorType, Context, Destination, Failpoints, Load, Publish,
    Recall, Result, Role, SchemaPlan, Session, Spec, StreamName, TableShape, Target, WriteStats,
};
use linkspan_testkit::{
    Table,
    destination::{DestinationHarness, suite, trial},
    fakes::{Backup, FakeDestination, FakeTable},
    rows::standard_schema,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

const DOCS: &str = "# Fake\n## Setup\nNothing.\n## Limits\nGone with the process.\n";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A name, for nothing.
    #[serde(default)]
    #[allow(dead_code)]
    name: Option<String>,
}

/// What is wrong with the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Rows are shown as they are written, although it claims to be atomic.
    ShowsEarly,
    /// Commits whatever number comes.
    NoCompareAndSet,
    /// Lets an older run commit.
    NoFence,
    /// Holds leases until the commit.
    HoldsLeases,
    /// Says nothing of what it committed.
    ForgetsPositions,
    /// Drops the staging of an interrupted replace.
    DropsStaging,
}

/// One in-memory store that outlives the connectors opened on it, as a server does.
struct Fake {
    store: Arc<FakeDestination>,
    atomic: Atomic,
    flaw: Flaw,
}

struct FakeConnector(Arc<dyn Destination>);

#[async_trait]
impl Connector for FakeConnector {
    async fn check(&self) -> Result<Checked> {
        Ok(Checked::default())
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(self.0.clone())
    }
}

impl Fake {
    fn new(atomic: Atomic, flaw: Flaw) -> Self {
        Self { store: FakeDestination::with_failpoints(atomic, Failpoints::default()), atomic, flaw }
    }
}

#[async_trait]
impl DestinationHarness for Fake {
    fn connector_type(&self) -> ConnectorType {
        let (store, atomic, flaw) = (self.store.clone(), self.atomic, self.flaw);
        let spec = Spec {
            name: "fake".into(),
            title: "Fake".into(),
            docs: DOCS.into(),
            roles: vec![Role::Destination],
            example: json!({}),
            ..Spec::empty()
        };
        ConnectorType::new(spec, move |_: Config, context: Context| {
            let opened = store.reopened(atomic, context.failpoints);
            Ok(FakeConnector(Arc::new(Flawed { inner: opened, flaw })))
        })
    }
    fn config(&self) -> Value {
        json!({})
    }
    fn target(&self, name: &str) -> Target {
        Target { namespace: Some("fake".into()), name: name.into() }
    }
    async fn read_back(&self, target: &Target) -> Table {
        self.store.table(target).map(|t| t.to_table()).unwrap_or_default()
    }
    async fn staging_left(&self) -> Vec<String> {
        self.store.staging()
    }
    async fn foreign_table(&self, target: &Target) -> bool {
        self.store.put_table(target, FakeTable::foreign(standard_schema()));
        true
    }
}

/// A destination with one fault built in.
struct Flawed {
    inner: Arc<FakeDestination>,
    flaw: Flaw,
}

#[async_trait]
impl Destination for Flawed {
    fn capability(&self) -> Capability {
        self.inner.capability()
    }
    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        self.inner.shape(target).await
    }
    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        let mut recall = self.inner.recall(connection).await?;
        if self.flaw == Flaw::ForgetsPositions
            && let Some(recall) = &mut recall
        {
            recall.scopes.clear();
        }
        Ok(recall)
    }
    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        if self.flaw == Flaw::DropsStaging {
            self.inner.drop_staging();
        }
        let before = self.inner.backup();
        let inner = self.inner.open(load.clone()).await?;
        Ok(Box::new(FlawedSession { inner, store: self.inner.clone(), flaw: self.flaw, load, held: vec![], before }))
    }
    async fn publish(&self, publish: &Publish) -> Result<()> {
        self.inner.publish(publish).await
    }
    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        self.inner.forget(connection).await
    }
}

struct FlawedSession {
    inner: Box<dyn Session>,
    store: Arc<FakeDestination>,
    flaw: Flaw,
    load: Load,
    held: Vec<linkspan_core::MemoryLease>,
    #[allow(dead_code, reason = "kept as a server keeps its past")]
    before: Backup,
}

#[async_trait]
impl Session for FlawedSession {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        self.inner.schema(stream, plan).await
    }
    async fn write(&mut self, mut rows: Batch) -> Result<()> {
        if self.flaw == Flaw::HoldsLeases {
            self.held.push(std::mem::take(&mut rows.lease));
        }
        self.inner.write(rows).await?;
        if self.flaw == Flaw::ShowsEarly {
            let at = self.load.previous;
            let commit = Commit {
                connection: self.load.connection,
                scope: self.load.scope.clone(),
                generation: self.load.streams[0].generation,
                fence: self.load.fence,
                previous: at,
                number: at,
                state: linkspan_core::State::new(1, json!({ "n": at })),
            };
            self.inner.commit(&commit).await?;
        }
        Ok(())
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        self.inner.truncate(stream).await
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        self.load.previous = commit.number;
        match self.flaw {
            Flaw::NoCompareAndSet => self.store.stand_at(commit),
            Flaw::NoFence => self.store.set_fence(commit.connection, commit.fence),
            _ => {}
        }
        self.held.clear();
        self.inner.commit(commit).await
    }
}

#[tokio::test]
async fn an_atomic_destination_passes() {
    suite(Fake::new(Atomic::Session, Flaw::None)).await;
}

#[tokio::test]
async fn a_destination_atomic_per_stream_passes() {
    suite(Fake::new(Atomic::Stream, Flaw::None)).await;
}

#[tokio::test]
async fn a_non_atomic_destination_passes() {
    suite(Fake::new(Atomic::None, Flaw::None)).await;
}

async fn fails_with(flaw: Flaw, name: &str) {
    let panic = std::panic::AssertUnwindSafe(trial(Fake::new(Atomic::Session, flaw), name)).catch_unwind().await;
    let panic = panic.expect_err("the suite passes a broken destination");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(&format!("fake/destination/{name}")), "{flaw:?} is not found by {name}:\n{text}");
}

#[tokio::test]
async fn rows_shown_early_are_found() {
    fails_with(Flaw::ShowsEarly, "nothing_is_visible_before_the_commit").await;
}

#[tokio::test]
async fn a_commit_without_compare_and_set_is_found() {
    fails_with(Flaw::NoCompareAndSet, "a_commit_is_compare_and_set").await;
}

#[tokio::test]
async fn a_missing_fence_is_found() {
    fails_with(Flaw::NoFence, "a_stale_fence_is_refused").await;
}

#[tokio::test]
async fn forgotten_positions_are_found() {
    fails_with(Flaw::ForgetsPositions, "a_crash_at_every_failpoint_loses_nothing_append").await;
}

#[tokio::test]
async fn a_lost_staging_is_found() {
    fails_with(Flaw::DropsStaging, "an_interrupted_replace_leaves_the_old_rows").await;
}

/// The session waits 20 s for a lease before the trial gives up, so the clock is paused where that is possible: here it is short.
#[tokio::test]
async fn held_leases_are_found() {
    fails_with(Flaw::HoldsLeases, "leases_are_given_back_before_the_commit").await;
}
