//! What all lanes share: a session that looks through a snapshot, and the way from its frames to the pipe.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType,
    cast::AsArray,
    types::{Date32Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::{DataType, SchemaRef};
use linkspan_core::{Output, Result, Rows, Stop, StreamName};

use super::{
    catalog::{Column, fields},
    connect::Server,
    decode::Decoder,
    snapshot::{gone, look_through},
    wire::{self, Pumped, Wire},
};

/// One lane's read: its session, its decoder, and the schema that the pipe knows.
pub(super) struct Reading<'a> {
    pub wire: Wire,
    decoder: Decoder,
    stream: &'a StreamName,
    announced: SchemaRef,
    /// The column whose largest value is noted, and that value.
    watched: Option<(usize, Option<i64>)>,
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
            wire.query(&look_through(id)).await.map_err(gone)?;
        }
        Ok(Self { wire, decoder: Decoder::new(fields(columns)), stream, announced, watched: None })
    }

    /// From now on notes the largest value of a column of integers or times, infinity aside. `None` when it is no such column.
    pub fn watch(&mut self, column: usize) -> Option<()> {
        use DataType::{Date32, Int16, Int32, Int64, Timestamp};
        let known = matches!(self.decoder.schema().field(column).data_type(), Int16 | Int32 | Int64 | Date32 | Timestamp(..));
        self.watched = known.then_some((column, None));
        known.then_some(())
    }

    /// The largest value of the watched column so far: an integer, days or microseconds since 1970.
    pub fn largest_watched(&self) -> Option<i64> {
        self.watched.and_then(|(_, largest)| largest)
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
                if let Some((column, largest)) = &mut self.watched {
                    *largest = (*largest).max(largest_of(batch.rows.column(*column)));
                }
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

fn largest_of(column: &ArrayRef) -> Option<i64> {
    fn of<T: ArrowPrimitiveType<Native: Into<i64>>>(column: &ArrayRef, infinity: i64) -> Option<i64> {
        column.as_primitive::<T>().iter().flatten().map(Into::into).filter(|v| *v < infinity && *v > -infinity).max()
    }
    match column.data_type() {
        DataType::Int16 => of::<Int16Type>(column, i64::MAX),
        DataType::Int32 => of::<Int32Type>(column, i64::MAX),
        // The largest bigint is a value like any other, but nothing comes behind it either way.
        DataType::Int64 => of::<Int64Type>(column, i64::MAX),
        DataType::Date32 => of::<Date32Type>(column, i32::MAX.into()),
        DataType::Timestamp(..) => of::<TimestampMicrosecondType>(column, i64::MAX),
        _ => None,
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
