//! A part of a table's full read: a range of its key, read chunk by chunk with a checkpoint after each.

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Lane, Output, Result, Scope, Stop};

use super::{
    catalog::{Column, select_list},
    keys::{asked, between, written},
    reading::{Read, Reading, Subject},
    server::Server,
    sql::ident,
    states::{PartState, save},
    view::View,
};

/// One lane of a full read.
pub(super) struct Part {
    pub server: Arc<Server>,
    /// The view that all parts share; none for an initial load, whose parts need not agree with each other.
    pub view: Option<Arc<View>>,
    pub subject: Arc<Subject>,
    pub scope: Scope,
    pub state: PartState,
    /// The column whose ranges are read; none when the table is read in one piece.
    pub by: Option<Column>,
    /// About so many rows make a chunk.
    pub chunk: u64,
    /// Rows that the incremental read behind this one will bring are left to it: the cursor, and the value to stay below.
    pub below: Option<(Column, String)>,
}

#[async_trait]
impl Lane for Part {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.subject.stream.clone()], scope: self.scope.clone(), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.subject.stream.clone();
        self.run(out, stop).await.map_err(|e| e.with("stream", stream))
    }
}

impl Part {
    async fn run(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if self.state.done {
            return Ok(Ended::Complete);
        }
        if stop.requested() {
            return Ok(Ended::Stopped);
        }
        let subject = self.subject.clone();
        let mut reading = match &self.view {
            Some(view) => Reading::over(view.session().await?, &subject),
            None => Reading::open(&self.server, &subject).await?,
        };
        let ended = match self.by.clone() {
            None => self.chunk(&mut reading, None, out, stop).await?,
            Some(by) if by.form.is_integer() => self.by_numbers(&by, &mut reading, out, stop).await?,
            Some(by) => self.by_values(&by, &mut reading, out, stop).await?,
        };
        match (&self.view, ended) {
            (Some(view), Ended::Complete) => view.give_back(reading.wire),
            (None, Ended::Complete) => reading.wire.close().await,
            // A read that was broken off leaves a session in the middle of an answer.
            (_, Ended::Stopped) => {}
        }
        Ok(ended)
    }

    /// Ranges of numbers: wider ones where few rows are, narrower ones where many.
    async fn by_numbers(&mut self, by: &Column, reading: &mut Reading<'_>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let name = ident(&by.name);
        let sql = format!("SELECT MIN({name}), MAX({name}) FROM {} WHERE {}", self.subject.relation, self.range(by));
        let bounds: Vec<i128> = reading.row(&sql).await?.iter().flatten().filter_map(|v| v.parse().ok()).collect();
        let [first, last] = bounds[..] else { return self.chunk(reading, None, out, stop).await };
        let (mut at, mut width) = (first, i128::from(self.chunk.max(1)));
        loop {
            let end = at + width - 1;
            let to = (end < last).then(|| end.to_string());
            let rows = self.chunk_rows(reading, to.clone(), out, stop).await?;
            let Read::Rows(rows) = rows else { return Ok(Ended::Stopped) };
            if self.state.done {
                return Ok(Ended::Complete);
            }
            if stop.requested() {
                return Ok(Ended::Stopped);
            }
            at = end + 1;
            width = match rows {
                0 => width * 16,
                n if n < self.chunk / 2 => width * 2,
                n if n > self.chunk * 2 => (width / 2).max(1),
                _ => width,
            };
        }
    }

    /// Ranges of any other values: the server says where a chunk ends.
    async fn by_values(&mut self, by: &Column, reading: &mut Reading<'_>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        loop {
            let sql = format!(
                "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
                asked(by),
                self.subject.relation,
                self.range(by),
                ident(&by.name),
                self.chunk.saturating_sub(1)
            );
            let to = reading.value(&sql).await?;
            let ended = self.chunk(reading, to, out, stop).await?;
            if self.state.done || ended == Ended::Stopped {
                return Ok(ended);
            }
            if stop.requested() {
                return Ok(Ended::Stopped);
            }
        }
    }

    /// Reads as far as `to`, or to the part's end without one, and says so. `Complete` means only that the chunk is.
    async fn chunk(&mut self, reading: &mut Reading<'_>, to: Option<String>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        Ok(match self.chunk_rows(reading, to, out, stop).await? {
            Read::Rows(_) => Ended::Complete,
            Read::Stopped => Ended::Stopped,
        })
    }

    async fn chunk_rows(&mut self, reading: &mut Reading<'_>, to: Option<String>, out: &mut Output, stop: &Stop) -> Result<Read> {
        let end = to.as_deref().or(self.state.to.as_deref());
        let range = self.by.as_ref().map_or_else(|| "TRUE".to_owned(), |by| between(by, self.state.after.as_deref(), end));
        let below = self.below.as_ref().map(|(cursor, value)| format!(" AND {} < {}", ident(&cursor.name), written(cursor, value)));
        let columns = select_list(&self.subject.columns);
        let sql = format!("SELECT {columns} FROM {} WHERE {range}{}", self.subject.relation, below.unwrap_or_default());
        let read = reading.select(&sql, &[], out, stop).await?;
        if read == Read::Stopped {
            return Ok(read);
        }
        self.state.done = to.is_none();
        if to.is_some() {
            self.state.after = to;
        }
        out.checkpoint(&self.scope, save(&self.state)?).await?;
        self.server.ctx.failpoints.hit("mysql.source.chunk").await?;
        Ok(read)
    }

    fn range(&self, by: &Column) -> String {
        between(by, self.state.after.as_deref(), self.state.to.as_deref())
    }
}
