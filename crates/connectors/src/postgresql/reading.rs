//! What all lanes share: a session that looks through a snapshot, and the way from its frames to the pipe.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use linkspan_core::{Output, Result, Rows, Stop, StreamName};

use super::{
    catalog::{Column, fields},
    connect::Server,
    decode::Decoder,
    wire::{self, Pumped, Wire},
};

/// One lane's read: its session, its decoder, and the schema that the pipe knows.
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
    /// Opens a read-only session; with a snapshot's id it looks through that, else through its own.
    pub async fn open(
        server: &Arc<Server>,
        snapshot: Option<&str>,
        stream: &'a StreamName,
        columns: &[Column],
        announced: SchemaRef,
    ) -> Result<Self> {
        let mut wire = Wire::connect(server).await?;
        wire.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        if let Some(id) = snapshot {
            wire.query(&format!("SET TRANSACTION SNAPSHOT {}", super::sql::literal(id))).await?;
        }
        Ok(Self { wire, decoder: Decoder::new(fields(columns)), stream, announced })
    }

    /// Copies the rows of a SELECT into the pipe.
    pub async fn copy(&mut self, select: &str, out: &mut Output, stop: &Stop) -> Result<Read> {
        self.decoder.begin();
        self.wire.start_copy(&format!("COPY ({select}) TO STDOUT (FORMAT binary)")).await?;
        self.drain(out, stop).await
    }

    /// The same for a query with a bound parameter, which COPY cannot take.
    pub async fn bound(&mut self, select: &str, parameter: Option<(u32, &str)>, out: &mut Output, stop: &Stop) -> Result<Read> {
        self.wire.start_bound(select, parameter).await?;
        self.drain(out, stop).await
    }

    async fn drain(&mut self, out: &mut Output, stop: &Stop) -> Result<Read> {
        let mut rows = 0;
        loop {
            let pumped = self.wire.pump(&mut self.decoder).await?;
            if let Some(batch) = self.decoder.finish()? {
                rows += batch.rows.num_rows() as u64;
                self.announce(out).await?;
                out.batch(self.stream, Rows::Arrow(batch.rows), batch.changes).await?;
            }
            match pumped {
                Pumped::Done => return Ok(Read::Rows(rows)),
                Pumped::Full if stop.requested() => return Ok(Read::Stopped),
                Pumped::Full => {}
            }
        }
    }

    async fn announce(&mut self, out: &mut Output) -> Result<()> {
        if *self.decoder.schema() != self.announced {
            self.announced = self.decoder.schema().clone();
            out.schema(self.stream, self.announced.clone()).await?;
        }
        Ok(())
    }

    /// The first column of the only row, if there is one.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.wire.query(sql).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// The first column of all rows.
    pub async fn values(&mut self, sql: &str) -> Result<Vec<String>> {
        Ok(self.wire.query(sql).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// The first column, a text, of all rows of a query with a bound parameter.
    pub async fn bound_values(&mut self, sql: &str, parameter: (u32, &str)) -> Result<Vec<String>> {
        let mut values = TextColumn(Vec::new());
        self.wire.start_bound(sql, Some(parameter)).await?;
        while self.wire.pump(&mut values).await? == Pumped::Full {}
        Ok(values.0)
    }
}

/// Rows of one text column.
struct TextColumn(Vec<String>);

impl wire::Rows for TextColumn {
    fn room(&self, _: usize) -> bool {
        true
    }
    fn copied(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn row(&mut self, data: &[u8]) -> Result<()> {
        // Two bytes of count, four of length, then the text.
        self.0.push(String::from_utf8_lossy(data.get(6..).unwrap_or_default()).into_owned());
        Ok(())
    }
}
