//! The incremental read of what has no transactions to look at: views, foreign tables, queries. Only values can be compared, so it
//! looks back by the late window and keeps in mind which rows of that window were sent.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Repeats, Result, Scope, Stop, StreamName};

use super::{
    catalog::{Column, select_list},
    connect::Server,
    reading::{Read, Reading},
    sql,
    states::{SEEN_CAP, StreamState, WindowState, save},
    tail::{back, largest},
    types::{Form, oid},
};

/// The lane that reads a view, a foreign table or a query from a cursor on.
pub(super) struct Window {
    pub server: Arc<Server>,
    pub stream: StreamName,
    /// What to select from: a name, or a query in parentheses with an alias.
    pub relation: String,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    pub cursor: Column,
    /// The columns that tell rows apart, without the cursor; all columns when no key is known.
    pub identity: Vec<String>,
    pub from: Option<WindowState>,
    pub repeats: Repeats,
    pub window_seconds: u32,
}

#[async_trait]
impl Lane for Window {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.stream.clone()], scope: Scope::Stream(self.stream.clone()), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

impl Window {
    async fn run(&self, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let mut reading = Reading::open(&self.server, None, &self.stream, &self.columns, self.schema.clone()).await?;
        // The state comes first, under the same snapshot: a list that is too long is refused before any row.
        let state = self.next_state(&mut reading).await?;
        let select = format!("SELECT {} FROM {}{}", select_list(&self.columns), self.relation, self.news());
        if reading.copy(&select, out, stop).await? == Read::Stopped {
            return Ok(Ended::Stopped);
        }
        out.checkpoint(&Scope::Stream(self.stream.clone()), save(&StreamState::Window(state))?).await?;
        reading.wire.close().await;
        Ok(Ended::Complete)
    }

    fn news(&self) -> String {
        let Some(from) = &self.from else { return String::new() };
        let reach = self.in_reach(from.low.as_deref());
        if from.seen.is_empty() {
            return format!(" WHERE {reach}");
        }
        format!(" WHERE {reach} AND {} <> ALL ('{{{}}}'::text[])", self.hash(), from.seen.join(","))
    }

    fn in_reach(&self, low: Option<&str>) -> String {
        let column = sql::ident(&self.cursor.name);
        match low {
            Some(low) => format!("({column} >= {} OR {column} IS NULL)", sql::literal(low)),
            None => "true".to_owned(),
        }
    }

    /// What tells one version of a row from another.
    fn hash(&self) -> String {
        let columns = sql::list(self.identity.iter().map(String::as_str).chain([self.cursor.name.as_str()]));
        format!("pg_catalog.md5(ROW({columns})::pg_catalog.text)")
    }

    async fn next_state(&self, reading: &mut Reading<'_>) -> Result<WindowState> {
        let from = self.from.as_ref();
        let old = || from.and_then(|f| f.value.clone());
        let value = largest(reading, &self.relation, &self.cursor, from.and_then(|f| f.low.as_deref())).await?.or_else(old);
        let low = match (&value, self.cursor.form) {
            (Some(value), form @ (Form::Date | Form::Timestamp | Form::TimestampTz)) => {
                back(reading, form, value, None, self.window_seconds).await?
            }
            (value, _) => value.clone(),
        };
        let sql = format!(
            "SELECT DISTINCT {} FROM {} WHERE {} LIMIT {}",
            self.hash(),
            self.relation,
            self.in_reach(low.as_deref()),
            SEEN_CAP + 1
        );
        let mut seen = reading.values(&sql).await?;
        if seen.len() > SEEN_CAP {
            if self.repeats == Repeats::Kept {
                return Err(Error::new(ErrorKind::Unsupported, "too many rows lie in the late window to keep them in mind")
                    .with("rows", SEEN_CAP)
                    .fix("write with merge (`--write merge --key ...`), or make late_window_seconds smaller"));
            }
            // They are read once more next time, and fold by key.
            seen.clear();
        }
        Ok(WindowState { cursor: self.cursor.name.clone(), value, low, seen })
    }
}

/// The lane of a query that bounds itself by `:last_pull`, and of any query in full.
pub(super) struct Pull {
    pub server: Arc<Server>,
    pub stream: StreamName,
    pub scope: Scope,
    pub relation: String,
    pub uses_last_pull: bool,
    /// Nothing is left to read.
    pub done: bool,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    pub from: Option<(String, Vec<String>)>,
    pub repeats: Repeats,
    pub window_seconds: u32,
}

/// What `:last_pull` is the first time.
const NEVER: &str = "1970-01-01T00:00:00Z";

#[async_trait]
impl Lane for Pull {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.stream.clone()], scope: self.scope.clone(), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

impl Pull {
    async fn run(&self, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if self.done {
            return Ok(Ended::Complete);
        }
        let mut reading = Reading::open(&self.server, None, &self.stream, &self.columns, self.schema.clone()).await?;
        let clock = format!("SELECT (clock_timestamp() - make_interval(secs => {}))::text", self.window_seconds);
        let last_pull = reading.value(&clock).await?.unwrap_or_else(|| NEVER.to_owned());
        let (since, seen) = self.from.as_ref().map_or((NEVER, [].as_slice()), |(since, seen)| (since, seen));
        let news = if seen.is_empty() { String::new() } else { format!(" WHERE {HASH} <> ALL ('{{{}}}'::text[])", seen.join(",")) };
        let select = format!("SELECT {} FROM {}{news}", select_list(&self.columns), self.relation);
        let parameter = self.uses_last_pull.then_some((oid::TIMESTAMPTZ, since));
        let Read::Rows(rows) = reading.bound(&select, parameter, out, stop).await? else { return Ok(Ended::Stopped) };
        let seen = self.seen(&mut reading, since, rows).await?;
        out.checkpoint(&self.scope, save(&StreamState::Pull { last_pull, seen })?).await?;
        reading.wire.close().await;
        Ok(Ended::Complete)
    }

    /// Rows of the late window come again next time: where each would be a row more, a short answer is kept in mind.
    async fn seen(&self, reading: &mut Reading<'_>, since: &str, rows: u64) -> Result<Vec<String>> {
        if self.repeats == Repeats::Folded || !self.uses_last_pull || rows > SEEN_CAP as u64 {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT {HASH} FROM {} LIMIT {}", self.relation, SEEN_CAP + 1);
        let seen = reading.bound_values(&sql, (oid::TIMESTAMPTZ, since)).await?;
        Ok(if seen.len() > SEEN_CAP { Vec::new() } else { seen })
    }
}

const HASH: &str = "pg_catalog.md5(q::pg_catalog.text)";
