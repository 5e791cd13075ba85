//! Seeded faults around every call of the engine's partners: an error before the call, an error after it took effect, a delay.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Batch, Capability, Changes, Commit, ConnectionId, Covers, Destination, Ended, Error, ErrorKind, Generation, Lane, Load, Memory,
    Message, Output, Position, Publish, Recall, Recalled, Remembered, Result, Rows, SchemaPlan, Scope, Selected, Session, Source, Stop,
    Stream, StreamName, TableShape, Target, WriteStats,
};

/// A source of faults that one seed decides. The same seed and the same order of calls give the same faults.
#[derive(Clone)]
pub struct Chaos(Arc<Inner>);

struct Inner {
    seed: u64,
    calls: AtomicU64,
    per_million: AtomicU64,
    struck: AtomicU64,
}

impl Chaos {
    /// `rate` of all calls meet a fault: 0.01 is one in a hundred.
    pub fn new(seed: u64, rate: f64) -> Self {
        Self(Arc::new(Inner {
            seed,
            calls: AtomicU64::new(0),
            per_million: AtomicU64::new((rate * 1e6) as u64),
            struck: AtomicU64::new(0),
        }))
    }
    /// No faults from now on: for the last run of a scenario, which must end well.
    pub fn calm(&self) {
        self.0.per_million.store(0, Ordering::SeqCst);
    }
    pub fn seed(&self) -> u64 {
        self.0.seed
    }
    /// How many calls met a fault.
    pub fn struck(&self) -> u64 {
        self.0.struck.load(Ordering::SeqCst)
    }
    /// A number below `limit` that seed and turn decide.
    pub fn pick(&self, limit: u64) -> u64 {
        let turn = self.0.calls.fetch_add(1, Ordering::SeqCst);
        mix(self.0.seed ^ mix(turn)) % limit.max(1)
    }
    fn roll(&self) -> Fault {
        if self.pick(1_000_000) >= self.0.per_million.load(Ordering::SeqCst) {
            return Fault::None;
        }
        self.0.struck.fetch_add(1, Ordering::SeqCst);
        match self.pick(3) {
            0 => Fault::Before,
            1 => Fault::After,
            _ => Fault::Delay(Duration::from_millis(self.pick(5_000))),
        }
    }
    /// Makes one call under fire.
    async fn around<T>(&self, call: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.roll() {
            Fault::None => work.await,
            Fault::Before => Err(self.error(call, "before")),
            Fault::After => {
                work.await?;
                Err(self.error(call, "after"))
            }
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                work.await
            }
        }
    }
    fn error(&self, call: &'static str, when: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, "a random fault").with("call", call).with("when", when).with("seed", self.0.seed)
    }
}

enum Fault {
    None,
    Before,
    After,
    Delay(Duration),
}

/// splitmix64's finalizer: a seed's bits, well stirred.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A source under fire: discover, each lane's start, each message, acknowledge.
pub struct ChaosSource(pub Arc<dyn Source>, pub Chaos);

#[async_trait]
impl Source for ChaosSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        self.1.around("source.discover", self.0.discover()).await
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let chaos = self.1.clone();
        let lanes = self.0.clone().lanes(selected, from);
        lanes
            .map(move |lane| {
                let lane = lane?;
                match chaos.roll() {
                    Fault::Before | Fault::After => Err(chaos.error("source.lanes", "before")),
                    _ => Ok(Box::new(ChaosLane { inner: lane, chaos: chaos.clone() }) as Box<dyn Lane>),
                }
            })
            .boxed()
    }
    async fn acknowledge(&self, durable: &Position) -> Result<()> {
        self.1.around("source.acknowledge", self.0.acknowledge(durable)).await
    }
}

struct ChaosLane {
    inner: Box<dyn Lane>,
    chaos: Chaos,
}

#[async_trait]
impl Lane for ChaosLane {
    fn covers(&self) -> Covers {
        self.inner.covers()
    }
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let Self { inner, chaos } = *self;
        // The lane speaks into a pipe of its own, and each message crosses under fire.
        let (mut own, mut inbox) = Output::channel(out.budget().clone(), 1);
        let forward = async {
            while let Some(message) = inbox.recv().await {
                chaos.around("lane.message", pass(message, out)).await?;
            }
            Ok::<_, Error>(())
        };
        let reading = async move { inner.read(&mut own, stop).await };
        let (ended, ()) = futures::try_join!(reading, forward)?;
        match chaos.roll() {
            Fault::Before | Fault::After => Err(chaos.error("lane.read", "after")),
            _ => Ok(ended),
        }
    }
}

async fn pass(message: Message, out: &mut Output) -> Result<()> {
    match message {
        Message::Schema { stream, schema } => out.schema(&stream, schema).await,
        Message::Rows(Batch { stream, rows, changes, lease }) => {
            // Given back first: the forwarded batch takes a lease of its own.
            drop(lease);
            match rows {
                Rows::Arrow(_) | Rows::Json(_) => out.batch(&stream, rows, changes).await,
                _ => Err(Error::new(ErrorKind::Unsupported, "a form of rows that testkit does not know")),
            }
        }
        Message::Truncated { stream } => out.truncated(&stream).await,
        Message::Checkpoint { scope, state } => out.checkpoint(&scope, state).await,
        Message::Note { stream, note } => out.note(&stream, note).await,
    }
}

/// A destination under fire, with its sessions.
pub struct ChaosDestination(pub Arc<dyn Destination>, pub Chaos);

#[async_trait]
impl Destination for ChaosDestination {
    fn capability(&self) -> Capability {
        self.0.capability()
    }
    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        self.1.around("destination.shape", self.0.shape(target)).await
    }
    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        self.1.around("destination.recall", self.0.recall(connection)).await
    }
    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        let inner = self.1.around("destination.open", self.0.open(load)).await?;
        Ok(Box::new(ChaosSession { inner, chaos: self.1.clone() }))
    }
    async fn publish(&self, publish: &Publish) -> Result<()> {
        self.1.around("destination.publish", self.0.publish(publish)).await
    }
    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        self.1.around("destination.forget", self.0.forget(connection)).await
    }
}

struct ChaosSession {
    inner: Box<dyn Session>,
    chaos: Chaos,
}

#[async_trait]
impl Session for ChaosSession {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        self.chaos.around("session.schema", self.inner.schema(stream, plan)).await
    }
    async fn write(&mut self, rows: Batch) -> Result<()> {
        self.chaos.around("session.write", self.inner.write(rows)).await
    }
    fn take_changes(&mut self) -> Changes {
        self.inner.take_changes()
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        self.chaos.around("session.truncate", self.inner.truncate(stream)).await
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        self.chaos.around("session.commit", self.inner.commit(commit)).await
    }
}

/// A memory under fire.
pub struct ChaosMemory(pub Arc<dyn Memory>, pub Chaos);

#[async_trait]
impl Memory for ChaosMemory {
    async fn load(&self) -> Result<Remembered> {
        self.1.around("memory.load", self.0.load()).await
    }
    async fn draw_generation(&self, stream: &StreamName) -> Result<u64> {
        self.1.around("memory.draw_generation", self.0.draw_generation(stream)).await
    }
    async fn aim(&self, targets: &BTreeMap<StreamName, Target>) -> Result<()> {
        self.1.around("memory.aim", self.0.aim(targets)).await
    }
    async fn save(&self, commits: &[Commit]) -> Result<()> {
        self.1.around("memory.save", self.0.save(commits)).await
    }
    async fn complete(&self, stream: &StreamName, generation: u64) -> Result<()> {
        self.1.around("memory.complete", self.0.complete(stream, generation)).await
    }
    async fn adopt(&self, scopes: &BTreeMap<Scope, Recalled>, generations: &BTreeMap<StreamName, Generation>) -> Result<()> {
        self.1.around("memory.adopt", self.0.adopt(scopes, generations)).await
    }
    async fn saw_schema(&self, stream: &StreamName, schema: &SchemaRef) -> Result<()> {
        self.1.around("memory.saw_schema", self.0.saw_schema(stream, schema)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_faults() {
        let picks = |seed| (0..50).map(|_| 0).scan(Chaos::new(seed, 0.5), |c, _| Some(c.pick(1000))).collect::<Vec<u64>>();
        assert_eq!(picks(7), picks(7));
        assert_ne!(picks(7), picks(8));
    }
}
