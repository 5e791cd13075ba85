//! A part of a table's full read: a range of pages, copied chunk by chunk under the run's snapshot, with a checkpoint after each.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Result, Scope, Stop, StreamName};

use super::{
    catalog::{Column, select_list},
    connect::Server,
    reading::{Read, Reading},
    snapshot::{Snapshot, above, unseen},
    states::{PartState, save},
};

/// Above so many transactions in a part, which of them were seen is not listed.
const SEEN_IN_PART: usize = 1_000;

/// One lane of a full read.
pub(super) struct Part {
    pub server: Arc<Server>,
    pub snapshot: Arc<Snapshot>,
    pub stream: StreamName,
    pub scope: Scope,
    /// What to select from, as SQL, and its object id.
    pub relation: String,
    pub oid: u32,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    pub state: PartState,
    /// Pages of one chunk; none when the relation is read in one piece.
    pub chunk: Option<u64>,
    /// Narrows every chunk: rows that the incremental read behind this one will bring are left to it.
    pub only: Option<String>,
    /// Rows that came into the finished pages since they were read, to be sent again before going on.
    pub catch_up: Option<String>,
    /// Whether a resume must prove that nothing changed, so that what was seen above the horizon must be known.
    pub must_prove: bool,
}

#[async_trait]
impl Lane for Part {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.stream.clone()], scope: self.scope.clone(), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

impl Part {
    async fn run(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if self.state.done {
            return Ok(Ended::Complete);
        }
        let stream = self.stream.clone();
        let mut reading = Reading::open(&self.server, Some(&self.snapshot.id), &stream, &self.columns, self.schema.clone()).await?;
        self.hold_still(&mut reading).await?;
        if let Some(catch_up) = self.catch_up.take() {
            let select = self.select(self.state.from, self.state.next, Some(&catch_up));
            let Read::Rows(rows) = reading.copy(&select, out, stop).await? else { return Ok(Ended::Stopped) };
            self.state.rows += rows;
        }
        let ended = match self.chunk {
            Some(chunk) => self.chunks(chunk, &mut reading, out, stop).await?,
            None => self.whole(&mut reading, out, stop).await?,
        };
        if ended == Ended::Complete {
            reading.wire.close().await;
        }
        Ok(ended)
    }

    /// Locks the table against a rewrite for the length of this read, and finds out whether one came before.
    async fn hold_still(&self, reading: &mut Reading<'_>) -> Result<()> {
        if self.chunk.is_none() {
            return Ok(());
        }
        let sql = format!("SELECT 1 FROM {} LIMIT 0; SELECT pg_catalog.pg_relation_filenode({})", self.relation, self.oid);
        let file = reading.value(&sql).await?.and_then(|f| f.parse::<u32>().ok());
        if file == Some(self.state.file) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::PositionLost,
            "the table was rewritten while it was being read (TRUNCATE, VACUUM FULL, CLUSTER or ALTER)",
        )
        .fix("run again: the table is read from its start"))
    }

    async fn whole(&mut self, reading: &mut Reading<'_>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let only = self.only.as_ref().map(|o| format!(" WHERE {o}")).unwrap_or_default();
        let select = format!("SELECT {} FROM {}{only}", select_list(&self.columns), self.relation);
        match reading.copy(&select, out, stop).await? {
            Read::Stopped => Ok(Ended::Stopped),
            Read::Rows(rows) => {
                self.state.rows = rows;
                self.state.done = true;
                out.checkpoint(&self.scope, save(&self.state)?).await?;
                Ok(Ended::Complete)
            }
        }
    }

    async fn chunks(&mut self, chunk: u64, reading: &mut Reading<'_>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        loop {
            let (from, to) = (self.state.next, (self.state.next + chunk).min(self.state.to));
            if from < to {
                let select = self.select(from, to, self.only.as_deref());
                let Read::Rows(rows) = reading.copy(&select, out, stop).await? else { return Ok(Ended::Stopped) };
                self.state.rows += rows;
                self.note_seen(from, to, reading).await?;
            }
            self.state.next = to;
            self.state.done = to >= self.state.to;
            out.checkpoint(&self.scope, save(&self.state)?).await?;
            self.server.ctx.failpoints.hit("postgresql.source.chunk").await?;
            if self.state.done {
                return Ok(Ended::Complete);
            }
            if stop.requested() {
                return Ok(Ended::Stopped);
            }
        }
    }

    fn select(&self, from: u64, to: u64, only: Option<&str>) -> String {
        let only = only.map(|o| format!(" AND {o}")).unwrap_or_default();
        format!("SELECT {} FROM {} WHERE {}{only}", select_list(&self.columns), self.relation, pages(from, to))
    }

    /// Where transactions were open when the snapshot was taken, rows above its horizon were seen all the same: of which
    /// transactions is noted, so that a resume can tell them from later ones.
    async fn note_seen(&mut self, from: u64, to: u64, reading: &mut Reading<'_>) -> Result<()> {
        if !self.must_prove || self.snapshot.horizon.is_settled() || self.state.seen_overflow {
            return Ok(());
        }
        let unseen = unseen(self.state.horizon, &self.state.seen);
        let sql =
            format!("SELECT DISTINCT xmin::text FROM {} WHERE {} AND {unseen} LIMIT {}", self.relation, pages(from, to), SEEN_IN_PART + 1);
        let seen = reading.values(&sql).await?;
        self.state.seen.extend(seen.iter().filter_map(|x| x.parse::<u32>().ok()));
        if self.state.seen.len() > SEEN_IN_PART {
            self.state.seen_overflow = true;
            self.state.seen.clear();
        }
        Ok(())
    }
}

fn pages(from: u64, to: u64) -> String {
    format!("ctid >= '({from},0)'::pg_catalog.tid AND ctid < '({to},0)'::pg_catalog.tid")
}

/// SQL that counts a part's finished pages: all rows there, and those that came since they were read.
pub(super) fn proof(relation: &str, state: &PartState) -> String {
    let came = if state.seen_overflow { above(state.horizon) } else { unseen(state.horizon, &state.seen) };
    format!("SELECT count(*), count(*) FILTER (WHERE {came}) FROM {relation} WHERE {}", pages(state.from, state.next))
}
