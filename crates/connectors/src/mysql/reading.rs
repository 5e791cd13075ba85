//! What all lanes share: a session that looks at one moment of the server, and the way from its rows to the pipe.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use linkspan_core::{Output, Result, Rows, Stop, StreamName};

use super::{
    catalog::{Column, fields},
    decode::Decoder,
    server::Server,
    types::OddDates,
    values::sized,
    wire::{self, Pumped, Wire},
};

/// From here on the session sees the server as it is now. Nothing can be written through it.
pub(super) const LOOK: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
const DOING: &str = "reading";

/// What a lane reads: the stream, its columns, and the schema that the pipe knows.
#[derive(Clone)]
pub(super) struct Subject {
    pub stream: StreamName,
    /// What to select from: a name, or a query in parentheses with an alias.
    pub relation: String,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    pub odd_dates: OddDates,
}

/// One lane's read.
pub(super) struct Reading<'a> {
    pub wire: Wire,
    decoder: Decoder,
    stream: &'a StreamName,
    announced: SchemaRef,
}

/// How a bulk read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Rows(u64),
    Stopped,
}

impl<'a> Reading<'a> {
    /// Opens a session of its own, looking at this moment.
    pub async fn open(server: &Arc<Server>, subject: &'a Subject) -> Result<Self> {
        let mut wire = server.connect().await?;
        wire.query(LOOK, "taking a snapshot").await?;
        Ok(Self::over(wire, subject))
    }

    /// The same over a session that looks already.
    pub fn over(wire: Wire, subject: &'a Subject) -> Self {
        let decoder = Decoder::new(fields(&subject.columns), subject.odd_dates);
        Self { wire, decoder, stream: &subject.stream, announced: subject.schema.clone() }
    }

    /// Sends the rows of a SELECT into the pipe.
    pub async fn select(&mut self, sql: &str, parameters: &[&str], out: &mut Output, stop: &Stop) -> Result<Read> {
        let statement = self.wire.prepare(sql, DOING).await?;
        let columns = self.wire.execute(&statement, parameters, DOING).await?;
        self.decoder.expect(&columns)?;
        let mut rows = 0;
        loop {
            let pumped = self.wire.pump(&mut self.decoder, DOING).await?;
            if let Some(batch) = self.decoder.finish()? {
                rows += batch.rows.num_rows() as u64;
                self.announce(out).await?;
                out.batch(self.stream, Rows::Arrow(batch.rows), batch.changes).await?;
            }
            match pumped {
                Pumped::Done => break,
                Pumped::Full if stop.requested() => return Ok(Read::Stopped),
                Pumped::Full => {}
            }
        }
        self.wire.close_statement(&statement).await?;
        Ok(Read::Rows(rows))
    }

    async fn announce(&mut self, out: &mut Output) -> Result<()> {
        if *self.decoder.schema() != self.announced {
            self.announced = self.decoder.schema().clone();
            out.schema(self.stream, self.announced.clone()).await?;
        }
        Ok(())
    }

    /// The only row, as text.
    pub async fn row(&mut self, sql: &str) -> Result<Vec<Option<String>>> {
        Ok(self.wire.query(sql, DOING).await?.into_iter().next().unwrap_or_default())
    }

    /// The first column of the only row, if there is one.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.row(sql).await?.into_iter().next().flatten())
    }

    /// The first column of all rows.
    pub async fn values(&mut self, sql: &str) -> Result<Vec<String>> {
        Ok(self.wire.query(sql, DOING).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// The first column, a text, of all rows of a query with bound parameters.
    pub async fn bound_values(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<String>> {
        let mut values = TextColumn(Vec::new());
        let statement = self.wire.prepare(sql, DOING).await?;
        self.wire.execute(&statement, parameters, DOING).await?;
        while self.wire.pump(&mut values, DOING).await? == Pumped::Full {}
        self.wire.close_statement(&statement).await?;
        Ok(values.0)
    }
}

/// Rows of one text column.
struct TextColumn(Vec<String>);

impl wire::Rows for TextColumn {
    fn room(&self, _: usize) -> bool {
        true
    }
    fn row(&mut self, data: &[u8]) -> Result<()> {
        // A byte of header, one of nulls, then the text behind its length.
        let value = data.get(2..).and_then(|mut rest| sized(&mut rest)).unwrap_or_default();
        self.0.push(String::from_utf8_lossy(value).into_owned());
        Ok(())
    }
}
