//! What the trials of a destination share: loads, sessions, rows, and a small stand-in for the engine.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use linkspan_core::{
    Alter, Atomic, Batch, Changes, Commit, ConnectionId, Destination, Failpoints, Load, LoadStream, MemoryLease, Misfit, Publish, Result,
    Rows, SchemaPlan, Scope, Session, State, StreamName, Swap, Target, WriteMode, WriteStats,
};
use serde_json::json;

use super::DestinationHarness;
use crate::{StandardRow, Table, rows};

pub(super) struct Bench<H> {
    pub harness: Arc<H>,
    names: AtomicU64,
}

/// One connection's load of one table, and how far it is.
pub(super) struct Lane {
    pub connection: ConnectionId,
    pub fence: u64,
    pub scope: Scope,
    pub stream: LoadStream,
    pub number: u64,
}

impl Lane {
    pub fn load(&self) -> Load {
        Load {
            connection: self.connection,
            fence: self.fence,
            scope: self.scope.clone(),
            previous: self.number,
            streams: vec![self.stream.clone()],
        }
    }
    /// The commit after the last one.
    pub fn next(&self) -> Commit {
        self.commit(self.number)
    }
    pub fn commit(&self, previous: u64) -> Commit {
        Commit {
            connection: self.connection,
            scope: self.scope.clone(),
            generation: self.stream.generation,
            fence: self.fence,
            previous,
            number: previous + 1,
            state: State::new(1, json!({ "n": previous + 1 })),
        }
    }
    pub fn publish(&self) -> Publish {
        Publish { connection: self.connection, fence: self.fence, stream: self.stream.clone() }
    }
    /// The same table in its next generation, from the start.
    pub fn next_generation(&mut self) {
        self.stream.generation += 1;
        self.number = 0;
    }
}

impl<H: DestinationHarness> Bench<H> {
    pub fn new(harness: Arc<H>) -> Self {
        Self { harness, names: AtomicU64::new(0) }
    }
    pub fn destination(&self) -> Arc<dyn Destination> {
        self.destination_with(Failpoints::default())
    }
    /// A freshly opened connector, as after a restart of the process.
    pub fn destination_with(&self, failpoints: Failpoints) -> Arc<dyn Destination> {
        let connector = self.harness.connector_type().open(self.harness.config(), self.harness.context(failpoints));
        let connector = connector.unwrap_or_else(|e| panic!("the harness's config does not open: {e:?}"));
        connector.destination().expect("the type has the role")
    }
    /// A connection and a table that no other trial uses.
    pub fn lane(&self, name: &str, write: WriteMode) -> Lane {
        let name = format!("{name}_{}", self.names.fetch_add(1, Ordering::SeqCst));
        self.lane_to(&self.harness.stream_name(&name), self.harness.target(&name), write)
    }
    pub fn lane_to(&self, stream: &StreamName, target: Target, write: WriteMode) -> Lane {
        let key = if write == WriteMode::Merge { vec!["id".to_owned()] } else { vec![] };
        let stream = LoadStream { stream: stream.clone(), target, write, generation: 1, key, swap: Swap::Rename };
        Lane { connection: ConnectionId(uuid::Uuid::new_v4()), fence: 1, scope: Scope::Stream(stream.stream.clone()), stream, number: 0 }
    }
    pub async fn rows_in(&self, lane: &Lane) -> Vec<StandardRow> {
        self.table_of(lane).await.standard_rows(&self.harness.lacks())
    }
    pub async fn table_of(&self, lane: &Lane) -> Table {
        self.harness.read_back(&lane.stream.target).await
    }
    pub async fn assert_no_staging(&self, when: &str) {
        let left = self.harness.staging_left().await;
        assert!(left.is_empty(), "{when}: staging is left: {left:?}");
    }
    pub fn atomic(&self) -> Atomic {
        self.destination().capability().atomic
    }
}

/// The plan that the engine would make for rows of `schema`: a table is created where none stands; a replace always
/// asks for its staging table, which may already be there.
pub(super) async fn plan(destination: &Arc<dyn Destination>, stream: &LoadStream, schema: &SchemaRef) -> SchemaPlan {
    let stands = destination.shape(&stream.target).await.unwrap_or_else(|e| panic!("shape: {e:?}"));
    let create = || Alter::Create { schema: schema.clone(), key: stream.key.clone() };
    let ddl = if stands.is_none() || stream.write == WriteMode::Replace { vec![create()] } else { vec![] };
    SchemaPlan { ddl, schema: schema.clone(), misfit: Misfit::Fail }
}

/// Opens a session and tells it the schema of the rows to come.
pub(super) async fn open(destination: &Arc<dyn Destination>, lane: &Lane, schema: &SchemaRef) -> Result<Box<dyn Session>> {
    let mut session = destination.open(lane.load()).await?;
    session.schema(&lane.stream.stream, &plan(destination, &lane.stream, schema).await).await?;
    Ok(session)
}

pub(super) async fn open_standard(destination: &Arc<dyn Destination>, lane: &Lane) -> Box<dyn Session> {
    open(destination, lane, &rows::standard_schema()).await.unwrap_or_else(|e| panic!("open: {e:?}"))
}

pub(super) fn batch(stream: &StreamName, rows: RecordBatch) -> Batch {
    Batch { stream: stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() }
}

pub(super) async fn write(session: &mut Box<dyn Session>, lane: &Lane, standard: &[StandardRow]) -> Result<()> {
    session.write(batch(&lane.stream.stream, rows::standard_batch(standard))).await
}

/// Commits what was written and moves the lane on.
pub(super) async fn commit(session: &mut Box<dyn Session>, lane: &mut Lane) -> Result<WriteStats> {
    let stats = session.commit(&lane.next()).await?;
    lane.number += 1;
    Ok(stats.get(&lane.stream.stream).copied().unwrap_or_default())
}

/// Opens, writes, commits: one whole load.
pub(super) async fn load(destination: &Arc<dyn Destination>, lane: &mut Lane, standard: &[StandardRow]) -> WriteStats {
    let mut session = open_standard(destination, lane).await;
    write(&mut session, lane, standard).await.unwrap_or_else(|e| panic!("write: {e:?}"));
    commit(&mut session, lane).await.unwrap_or_else(|e| panic!("commit: {e:?}"))
}
