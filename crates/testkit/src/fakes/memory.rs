//! What a run remembers, in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Commit, Error, ErrorKind, Generation, Memory, Recalled, Remembered, Result, Scope, StreamName, Target};

/// A memory that can lose its lease, be wiped, and be set back to a backup.
#[derive(Default)]
pub struct FakeMemory(Mutex<Kept>);

#[derive(Clone, Default)]
struct Kept {
    remembered: Remembered,
    schemas: BTreeMap<StreamName, Vec<SchemaRef>>,
    saves: usize,
    stolen: bool,
    unavailable: usize,
}

/// A copy of a memory, for `restore`.
#[derive(Clone)]
pub struct MemoryBackup(Kept);

impl FakeMemory {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    /// What is kept now.
    pub fn remembered(&self) -> Remembered {
        self.0.lock().unwrap().remembered.clone()
    }
    /// How many `save`s succeeded.
    pub fn saves(&self) -> usize {
        self.0.lock().unwrap().saves
    }
    /// The schemas kept of a stream, oldest first.
    pub fn schemas(&self, stream: &StreamName) -> Vec<SchemaRef> {
        self.0.lock().unwrap().schemas.get(stream).cloned().unwrap_or_default()
    }
    /// Another run took the lease: every write is `Conflict` from now on, until `give_back`.
    pub fn steal(&self) {
        self.0.lock().unwrap().stolen = true;
    }
    pub fn give_back(&self) {
        self.0.lock().unwrap().stolen = false;
    }
    /// The next `calls` writes fail with `Unavailable`.
    pub fn unavailable(&self, calls: usize) {
        self.0.lock().unwrap().unavailable = calls;
    }
    /// Forgets everything: the data directory was lost.
    pub fn wipe(&self) {
        *self.0.lock().unwrap() = Kept::default();
    }
    pub fn backup(&self) -> MemoryBackup {
        MemoryBackup(self.0.lock().unwrap().clone())
    }
    pub fn restore(&self, backup: &MemoryBackup) {
        *self.0.lock().unwrap() = backup.0.clone();
    }
    fn write<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> Result<T> {
        let mut kept = self.0.lock().unwrap();
        if kept.stolen {
            return Err(Error::new(ErrorKind::Conflict, "another run holds the lease"));
        }
        if kept.unavailable > 0 {
            kept.unavailable -= 1;
            return Err(Error::new(ErrorKind::Unavailable, "the store cannot be reached"));
        }
        Ok(change(&mut kept))
    }
}

#[async_trait]
impl Memory for FakeMemory {
    async fn load(&self) -> Result<Remembered> {
        Ok(self.remembered())
    }
    async fn draw_generation(&self, stream: &StreamName) -> Result<u64> {
        self.write(|kept| {
            let remembered = &mut kept.remembered;
            remembered.scopes.retain(|scope, _| scope.stream() != Some(stream));
            remembered.targets.remove(stream);
            let generation = remembered.generations.entry(stream.clone()).or_default();
            *generation = Generation { number: generation.number + 1, complete: false };
            generation.number
        })
    }
    async fn aim(&self, targets: &BTreeMap<StreamName, Target>) -> Result<()> {
        self.write(|kept| kept.remembered.targets.extend(targets.clone()))
    }
    async fn save(&self, commits: &[Commit]) -> Result<()> {
        self.write(|kept| {
            for commit in commits {
                let recalled = Recalled { generation: commit.generation, number: commit.number, state: commit.state.clone() };
                kept.remembered.scopes.insert(commit.scope.clone(), recalled);
            }
            kept.remembered.known |= !commits.is_empty();
            kept.saves += 1;
        })
    }
    async fn complete(&self, stream: &StreamName, generation: u64) -> Result<()> {
        self.write(|kept| {
            kept.remembered.generations.insert(stream.clone(), Generation { number: generation, complete: true });
        })
    }
    async fn adopt(&self, scopes: &BTreeMap<Scope, Recalled>, generations: &BTreeMap<StreamName, Generation>) -> Result<()> {
        self.write(|kept| {
            kept.remembered.scopes.extend(scopes.clone());
            kept.remembered.generations.extend(generations.clone());
            kept.remembered.known = true;
        })
    }
    async fn saw_schema(&self, stream: &StreamName, schema: &SchemaRef) -> Result<()> {
        self.write(|kept| {
            let history = kept.schemas.entry(stream.clone()).or_default();
            if history.last() != Some(schema) {
                history.push(schema.clone());
            }
        })
    }
}
