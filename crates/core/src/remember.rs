//! What a run may remember between runs. The store implements it for one claimed run; a stale run's `save` is refused.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Commit, Recalled, Result, StreamName, Target};

/// The store's copy of a connection's memory. Where the destination keeps its own record, this is only a cache of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    pub scopes: BTreeMap<crate::Scope, Recalled>,
    pub generations: BTreeMap<StreamName, Generation>,
    /// Where the rows of a stream's newest generation go, as far as that was told.
    pub targets: BTreeMap<StreamName, Target>,
    /// Whether any run of this connection ever committed.
    pub known: bool,
}

/// Which read of a stream is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The generation that was drawn last.
    pub number: u64,
    /// Whether its read ended complete (and, for a replace, was published).
    pub complete: bool,
}

#[async_trait]
pub trait Memory: Send + Sync {
    async fn load(&self) -> Result<Remembered>;
    /// Draws the stream's next generation and forgets the stream's states and target. Durable before it answers.
    async fn draw_generation(&self, stream: &StreamName) -> Result<u64>;
    /// Where the newest generations of these streams go. Durable before it answers.
    async fn aim(&self, targets: &BTreeMap<StreamName, Target>) -> Result<()>;
    /// Remembers commits that are durable in the destination. `Conflict` when this run's lease is lost.
    async fn save(&self, commits: &[Commit]) -> Result<()>;
    /// The stream's generation ended complete.
    async fn complete(&self, stream: &StreamName, generation: u64) -> Result<()>;
    /// Takes over what the destination recalls (adoption, rewind).
    async fn adopt(&self, scopes: &BTreeMap<crate::Scope, Recalled>, generations: &BTreeMap<StreamName, Generation>) -> Result<()>;
    /// Keeps the schema in the stream's history when it differs from the last one kept.
    async fn saw_schema(&self, stream: &StreamName, schema: &SchemaRef) -> Result<()>;
}
