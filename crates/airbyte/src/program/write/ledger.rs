//! What one program remembers while it runs. Between programs nothing is kept here: the platform keeps its states, and the destination
//! its own record.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Commit, Generation, Memory, Recalled, Remembered, Result, Scope, StreamName, Target};

pub(in crate::program) struct Ledger(Mutex<BTreeMap<StreamName, Generation>>);

impl Ledger {
    /// The generation in which each stream is written.
    pub(in crate::program) fn new(generations: impl IntoIterator<Item = (StreamName, u64)>) -> Self {
        let all = generations.into_iter().map(|(stream, number)| (stream, Generation { number, complete: false }));
        Self(Mutex::new(all.collect()))
    }

    fn generations(&self) -> MutexGuard<'_, BTreeMap<StreamName, Generation>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Memory for Ledger {
    async fn load(&self) -> Result<Remembered> {
        Ok(Remembered { generations: self.generations().clone(), ..Remembered::default() })
    }
    async fn draw_generation(&self, stream: &StreamName) -> Result<u64> {
        let mut all = self.generations();
        let next = all.values().map(|g| g.number).max().unwrap_or(0) + 1;
        all.insert(stream.clone(), Generation { number: next, complete: false });
        Ok(next)
    }
    async fn aim(&self, _: &BTreeMap<StreamName, Target>) -> Result<()> {
        Ok(())
    }
    async fn save(&self, _: &[Commit]) -> Result<()> {
        Ok(())
    }
    async fn complete(&self, stream: &StreamName, generation: u64) -> Result<()> {
        self.generations().insert(stream.clone(), Generation { number: generation, complete: true });
        Ok(())
    }
    async fn adopt(&self, _: &BTreeMap<Scope, Recalled>, generations: &BTreeMap<StreamName, Generation>) -> Result<()> {
        self.generations().extend(generations.iter().map(|(stream, generation)| (stream.clone(), *generation)));
        Ok(())
    }
    async fn saw_schema(&self, _: &StreamName, _: &SchemaRef) -> Result<()> {
        Ok(())
    }
}
