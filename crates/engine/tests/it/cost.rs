//! What the engine itself costs per row: bulk batches go through it between a source and a destination that do nothing.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use linkspan_core::{
    Batch, Capability, Commit, ConnectionId, Covers, Destination, Ended, Lane, Load, Output, Position, Publish, ReadMode, Recall, Result,
    SchemaPlan, Scope, Selected, Session, Source, State, Stop, Stream, StreamName, TableShape, Target, WriteMode, WriteStats,
};
use linkspan_testkit::fakes::{FakeDestination, ScriptSource};

use crate::rig::{Rig, assignment, name};

const BATCHES: usize = 400;
const ROWS: usize = 8_192;

struct Bulk(RecordBatch);

#[async_trait]
impl Source for Bulk {
    async fn discover(&self) -> Result<Vec<Stream>> {
        Ok(vec![])
    }
    fn lanes(self: Arc<Self>, _: Vec<Selected>, _: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let lane: Box<dyn Lane> = Box::new(BulkLane(self.0.clone()));
        stream::once(async { Ok(lane) }).boxed()
    }
}

struct BulkLane(RecordBatch);

#[async_trait]
impl Lane for BulkLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![name("a")], scope: Scope::Stream(name("a")), after: vec![] }
    }
    async fn read(self: Box<Self>, out: &mut Output, _: &Stop) -> Result<Ended> {
        for n in 0..BATCHES {
            out.rows(&name("a"), self.0.clone()).await?;
            out.checkpoint(&Scope::Stream(name("a")), State::new(1, n.into())).await?;
        }
        Ok(Ended::Complete)
    }
}

struct Nowhere(Capability);

#[async_trait]
impl Destination for Nowhere {
    fn capability(&self) -> Capability {
        self.0.clone()
    }
    async fn shape(&self, _: &Target) -> Result<Option<TableShape>> {
        Ok(None)
    }
    async fn recall(&self, _: ConnectionId) -> Result<Option<Recall>> {
        Ok(None)
    }
    async fn open(&self, _: Load) -> Result<Box<dyn Session>> {
        Ok(Box::new(Void(0)))
    }
    async fn publish(&self, _: &Publish) -> Result<()> {
        Ok(())
    }
    async fn forget(&self, _: ConnectionId) -> Result<()> {
        Ok(())
    }
}

struct Void(u64);

#[async_trait]
impl Session for Void {
    async fn schema(&mut self, _: &StreamName, _: &SchemaPlan) -> Result<()> {
        Ok(())
    }
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.0 += batch.rows.len() as u64;
        Ok(())
    }
    async fn truncate(&mut self, _: &StreamName) -> Result<()> {
        Ok(())
    }
    async fn commit(&mut self, _: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let written = std::mem::take(&mut self.0);
        Ok([(name("a"), WriteStats { written, ..WriteStats::default() })].into())
    }
}

/// CPU seconds of this process, in the kernel's ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Sixteen columns, half of them text. Run it alone: `cargo test --release -p linkspan-engine --test it cost -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it counts the CPU of the whole process"]
async fn the_engine_costs_next_to_nothing_per_row() {
    let columns: Vec<(String, ArrayRef)> = (0..16)
        .map(|i| {
            let array: ArrayRef = match i % 2 {
                0 => Arc::new(Int64Array::from_iter_values(0..ROWS as i64)),
                _ => Arc::new(StringArray::from_iter_values((0..ROWS).map(|r| format!("value {r}")))),
            };
            (format!("c{i}"), array)
        })
        .collect();
    let fields: Vec<Field> = columns.iter().map(|(n, a)| Field::new(n, a.data_type().clone(), true)).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, a)| a).collect()).unwrap();
    let mut capability = FakeDestination::atomic().capability();
    capability.advice.age = std::time::Duration::from_secs(1);
    let mut rig = Rig::new(ScriptSource::new(vec![]), FakeDestination::atomic(), vec![assignment("a", ReadMode::Full, WriteMode::Append)]);
    rig.streams[0].selected.stream.schema = batch.schema();
    rig.source = Arc::new(Bulk(batch));
    rig.destination = Arc::new(Nowhere(capability));
    let before = cpu_seconds();
    let outcome = rig.run().await.unwrap();
    let rows = outcome.streams[&name("a")].stats.written;
    assert_eq!(rows, (BATCHES * ROWS) as u64);
    let per_row = (cpu_seconds() - before) * 1e6 / rows as f64;
    println!("{per_row:.4} us of CPU per row");
    assert!(per_row < 0.02, "{per_row} us per row");
}
