//! The lane of a query that bounds itself by `:last_pull`, and of any query in full.

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Lane, Output, Repeats, Result, Scope, Stop};

use super::{
    catalog::select_list,
    keys,
    reading::{Read, Reading, Subject},
    server::Server,
    sql::{ident, list, literal},
    states::{SEEN_CAP, StreamState, save},
};

/// What `:last_pull` is the first time.
const NEVER: &str = "1970-01-01 00:00:00";

pub(super) struct Pull {
    pub server: Arc<Server>,
    pub subject: Subject,
    pub scope: Scope,
    /// How often `:last_pull` is in the query.
    pub parameters: usize,
    /// Nothing is left to read.
    pub done: bool,
    pub from: Option<(String, Vec<String>)>,
    pub repeats: Repeats,
    pub window_seconds: u32,
}

#[async_trait]
impl Lane for Pull {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.subject.stream.clone()], scope: self.scope.clone(), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.subject.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

impl Pull {
    async fn run(&self, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if self.done {
            return Ok(Ended::Complete);
        }
        let mut reading = Reading::open(&self.server, &self.subject).await?;
        let clock = format!("SELECT CAST(UTC_TIMESTAMP(6) - INTERVAL {} SECOND AS CHAR)", self.window_seconds);
        let last_pull = reading.value(&clock).await?.unwrap_or_else(|| NEVER.to_owned());
        let (since, seen) = self.from.as_ref().map_or((NEVER, [].as_slice()), |(since, seen)| (since, seen));
        let news = match seen {
            [] => String::new(),
            seen => format!(" WHERE {} NOT IN ({})", self.hash(), list(seen.iter().map(|s| literal(s)))),
        };
        let sql = format!("SELECT {} FROM {}{news}", select_list(&self.subject.columns), self.subject.relation);
        let parameters = vec![since; self.parameters];
        let Read::Rows(rows) = reading.select(&sql, &parameters, out, stop).await? else { return Ok(Ended::Stopped) };
        let seen = self.seen(&mut reading, since, rows).await?;
        out.checkpoint(&self.scope, save(&StreamState::Pull { last_pull, seen })?).await?;
        reading.wire.close().await;
        Ok(Ended::Complete)
    }

    fn hash(&self) -> String {
        keys::hash(self.subject.columns.iter().map(|c| ident(&c.name)))
    }

    /// Rows of the late window come again next time: where each would be a row more, a short answer is kept in mind.
    async fn seen(&self, reading: &mut Reading<'_>, since: &str, rows: u64) -> Result<Vec<String>> {
        if self.repeats == Repeats::Folded || self.parameters == 0 || rows > SEEN_CAP as u64 {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT {} FROM {} LIMIT {}", self.hash(), self.subject.relation, SEEN_CAP + 1);
        let seen = reading.bound_values(&sql, &vec![since; self.parameters]).await?;
        Ok(if seen.len() > SEEN_CAP { Vec::new() } else { seen })
    }
}
