//! The store as one run's memory: every change carries the run's fence and is refused once its lease is lost.

use std::{collections::BTreeMap, sync::Arc};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Commit, Error, ErrorKind, Generation, Memory, Recalled, Remembered, Result, Scope, StreamName, Target};
use uuid::Uuid;

use crate::{
    lease::Keeper,
    link::{Link, unexpected},
    logs::Logs,
    request::{LeaseKey, Reply, Request},
    schema_text,
};

pub(crate) struct RunMemory {
    pub link: Arc<Link>,
    pub keeper: Arc<Keeper>,
    pub key: LeaseKey,
    pub logs: Arc<Logs>,
}

impl RunMemory {
    async fn change(&self, request: Request) -> Result<Reply> {
        self.keeper.check(self.key.run)?;
        let reply = self.link.ask(request).await;
        if reply.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict) {
            self.keeper.recheck(self.key.run).await;
        }
        reply
    }
}

#[async_trait]
impl Memory for RunMemory {
    async fn load(&self) -> Result<Remembered> {
        match self.link.ask(Request::Load { connection: self.key.connection }).await? {
            Reply::Memory { positions, generations, targets, known } => Ok(Remembered {
                scopes: positions.into_iter().map(|p| (p.scope, p.recalled)).collect(),
                generations: generations.into_iter().collect(),
                targets: targets.into_iter().collect(),
                known,
            }),
            _ => Err(unexpected()),
        }
    }
    async fn draw_generation(&self, stream: &StreamName) -> Result<u64> {
        // The id makes a repeated request draw once; each call here is a draw of its own.
        let request = Request::DrawGeneration { by: self.key, stream: stream.clone(), id: Uuid::now_v7() };
        let Reply::Generation(number) = self.change(request).await? else { return Err(unexpected()) };
        self.link.failpoints().hit("store.generation.after").await?;
        Ok(number)
    }
    async fn aim(&self, targets: &BTreeMap<StreamName, Target>) -> Result<()> {
        let targets = targets.iter().map(|(s, t)| (s.clone(), t.clone())).collect();
        self.change(Request::Aim { by: self.key, targets }).await.map(drop)
    }
    async fn save(&self, commits: &[Commit]) -> Result<()> {
        if let Some(stale) = commits.iter().find(|c| c.fence != self.key.fence) {
            return Err(Error::new(ErrorKind::Conflict, "a commit of another run was to be saved").with("scope", &stale.scope));
        }
        self.link.failpoints().hit("store.save.before").await?;
        self.change(Request::Save { by: self.key, commits: commits.to_vec() }).await?;
        self.link.failpoints().hit("store.save.after").await?;
        self.logs.flush();
        Ok(())
    }
    async fn complete(&self, stream: &StreamName, generation: u64) -> Result<()> {
        self.change(Request::Complete { by: self.key, stream: stream.clone(), generation }).await.map(drop)
    }
    async fn adopt(&self, scopes: &BTreeMap<Scope, Recalled>, generations: &BTreeMap<StreamName, Generation>) -> Result<()> {
        let generations = generations.iter().map(|(s, g)| (s.clone(), *g)).collect();
        self.change(Request::Adopt { by: self.key, scopes: scopes.clone(), generations }).await.map(drop)
    }
    async fn saw_schema(&self, stream: &StreamName, schema: &SchemaRef) -> Result<()> {
        let schema = schema_text::to_json(schema);
        self.change(Request::SawSchema { by: self.key, stream: stream.clone(), schema }).await.map(drop)
    }
}
