//! Rows on their way: Arrow for bulk, JSON text for SaaS records, and the record of what was changed in them.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_json::ReaderBuilder;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, MemoryLease, Result, StreamName};

/// Rows of one stream, with their lease on the run's memory.
#[derive(Debug)]
pub struct Batch {
    pub stream: StreamName,
    pub rows: Rows,
    pub changes: Changes,
    pub lease: MemoryLease,
}

#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rows {
    Arrow(RecordBatch),
    Json(JsonRows),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Self::Arrow(b) => b.num_rows(),
            Self::Json(j) => j.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The sum of sliced lengths, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Arrow(b) => sliced_bytes(b),
            Self::Json(j) => j.bytes() as u64,
        }
    }
}

/// JSON objects in one buffer: `offsets[i]..offsets[i + 1]` is row `i`.
#[derive(Clone, Debug, Default)]
pub struct JsonRows {
    text: Bytes,
    ranges: Arc<[(u32, u32)]>,
}

impl JsonRows {
    /// `ranges` are (start, end) byte offsets into `text`, one per row.
    pub fn new(text: Bytes, ranges: Vec<(u32, u32)>) -> Self {
        Self { text, ranges: ranges.into() }
    }
    pub fn len(&self) -> usize {
        self.ranges.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    pub fn row(&self, i: usize) -> &[u8] {
        let (a, b) = self.ranges[i];
        &self.text[a as usize..b as usize]
    }
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|(a, b)| (b - a) as usize).sum()
    }
    /// Converts once, in the session task. A value that does not fit the schema is `DataInvalid`.
    pub fn to_arrow(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let bad =
            |e: arrow_schema::ArrowError| Error::new(ErrorKind::DataInvalid, "a JSON row does not fit the stream's schema").because(e);
        let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(self.len().max(1)).build_decoder().map_err(bad)?;
        for i in 0..self.len() {
            let mut row = self.row(i);
            while !row.is_empty() {
                let n = decoder.decode(row).map_err(bad)?;
                if n == 0 {
                    return Err(Error::new(ErrorKind::DataInvalid, "a JSON row is not one object"));
                }
                row = &row[n..];
            }
        }
        Ok(decoder.flush().map_err(bad)?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
    }
}

/// What was changed in a batch's rows to make them fit: sparse, in row order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub changed: Vec<Change>,
    /// Rows that are not in the batch at all: bad lines, rows refused by policy.
    pub rejected: Vec<Rejected>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.rejected.is_empty()
    }
}

/// One value that could not travel as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Ordinal within the batch.
    pub row: u32,
    pub field: String,
    pub kind: ChangeKind,
    pub reason: Reason,
}

/// A row that was left out, and where it came from (`file:line`, a key), never its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub place: String,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Nulled,
    Truncated,
    /// The value travels as text or in another declared form.
    Recast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    OutOfRange,
    TooLarge,
    NotRepresentable,
    Invalid,
    DriftPolicy,
}

/// The sum of the sliced lengths of all columns, in bytes. `get_array_memory_size` counts whole shared buffers and would
/// charge a ten-row slice for the million rows behind it.
pub fn sliced_bytes(rows: &RecordBatch) -> u64 {
    rows.columns()
        .iter()
        .map(|c| {
            let data = c.to_data();
            data.get_slice_memory_size().unwrap_or_else(|_| c.get_buffer_memory_size()) as u64
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray, cast::AsArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_slice_costs_what_it_holds() {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let big = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from((0..1_000_000).collect::<Vec<_>>()))]).unwrap();
        assert_eq!(sliced_bytes(&big.slice(10, 10)), 80);
    }

    #[test]
    fn json_rows_become_columns_once() {
        let text = Bytes::from_static(br#"{"id":1,"n":"a"}{"id":2}"#);
        let rows = JsonRows::new(text, vec![(0, 16), (16, 24)]);
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("n", DataType::Utf8, true)]));
        let batch = rows.to_arrow(&schema).unwrap();
        assert_eq!(batch.num_rows(), 2);
        let n: &StringArray = batch.column(1).as_string();
        assert_eq!((n.value(0), n.is_null(1)), ("a", true));
    }
}
