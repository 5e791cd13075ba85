//! From the wire to Arrow: one pass over each row's fields, one specialised append per column, no allocation per row.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use linkspan_core::{Change, ChangeKind, Changes, Error, ErrorKind, Reason, Result, native};

use super::{
    numeric::{Numeric, to_i128, to_i256},
    types::{EPOCH_DAYS, EPOCH_MICROS, Form},
    wire::Rows,
};
use crate::gather::{MAX_BYTES, MAX_ROWS, Values};

/// What a COPY in binary form begins with; flags and the length of an extension follow.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// A batch, with the record of values that had to change.
pub(super) struct Decoded {
    pub rows: RecordBatch,
    pub changes: Changes,
}

/// Gathers rows into columns. One of it serves all reads of a lane: what it learns of a column (a NaN in a decimal) stays learnt.
pub(super) struct Decoder {
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
    changed: Vec<Change>,
    /// The header of the running COPY was seen.
    in_copy: bool,
}

struct Column {
    field: Field,
    values: Values,
    is_jsonb: bool,
    /// The rows that are null.
    nulls: Vec<u32>,
    /// A decimal's values that are no numbers, once one was met: the row and which one.
    special: Option<Vec<(u32, i8)>>,
}

/// What came of one value.
enum Put {
    Done,
    /// The value stands for no number; the row is null and the sibling column tells which.
    Special(i8),
    /// The value lies outside of what the storage type holds.
    OutOfRange,
}

impl Column {
    #[inline]
    fn put(&mut self, value: &[u8]) -> Result<Put> {
        match &mut self.values {
            Values::Bool(v) => v.append(fixed::<1>(value)?[0] != 0),
            Values::Int16(v) => v.push(i16::from_be_bytes(fixed(value)?)),
            Values::Int32(v) => v.push(i32::from_be_bytes(fixed(value)?)),
            Values::Int64(v) | Values::Time(v) => v.push(i64::from_be_bytes(fixed(value)?)),
            Values::Float32(v) => v.push(f32::from_be_bytes(fixed(value)?)),
            Values::Float64(v) => v.push(f64::from_be_bytes(fixed(value)?)),
            Values::Decimal128(v, _, scale) => match to_i128(value, *scale)? {
                Numeric::Value(n) => v.push(n),
                Numeric::Special(which) => return Ok(Put::Special(which)),
            },
            Values::Decimal256(v, _, scale) => match to_i256(value, *scale)? {
                Numeric::Value(n) => v.push(n),
                Numeric::Special(which) => return Ok(Put::Special(which)),
            },
            Values::Text(b) | Values::Binary(b) => {
                // A jsonb is text behind a byte of version.
                let bare = if self.is_jsonb { value.strip_prefix(&[1]).ok_or_else(garbled)? } else { value };
                b.push(bare).ok_or_else(too_long)?;
            }
            Values::Uuid(v) => v.extend_from_slice(&fixed::<16>(value)?),
            Values::Date(v) => match shifted_days(i32::from_be_bytes(fixed(value)?)) {
                Some(days) => v.push(days),
                None => return Ok(Put::OutOfRange),
            },
            Values::Timestamp(v, _) => match shifted_micros(i64::from_be_bytes(fixed(value)?)) {
                Some(micros) => v.push(micros),
                None => return Ok(Put::OutOfRange),
            },
            // PostgreSQL has no such types.
            Values::Int8(_) | Values::UInt8(_) | Values::UInt16(_) | Values::UInt32(_) | Values::UInt64(_) => return Err(garbled()),
        }
        Ok(Put::Done)
    }

    fn null(&mut self, row: u32) {
        self.values.push_default();
        self.nulls.push(row);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.values.finish(rows, &mut self.nulls).map_err(|e| {
            Error::new(ErrorKind::DataInvalid, "a column's values are not what its type says")
                .with("column", self.field.name())
                .fix("check the database's encoding: text must be valid UTF-8")
                .because(e)
        })
    }
}

/// Infinity keeps its extreme value; any other is counted from 1970.
fn shifted_days(days: i32) -> Option<i32> {
    match days {
        i32::MAX | i32::MIN => Some(days),
        days => days.checked_add(EPOCH_DAYS).filter(|d| *d != i32::MAX),
    }
}
fn shifted_micros(micros: i64) -> Option<i64> {
    match micros {
        i64::MAX | i64::MIN => Some(micros),
        micros => micros.checked_add(EPOCH_MICROS).filter(|m| *m != i64::MAX),
    }
}

impl Decoder {
    /// A decoder of rows with these columns, in this order.
    pub fn new(columns: impl IntoIterator<Item = (FieldRef, Form)>) -> Self {
        let columns = columns.into_iter().map(|(field, form)| Column {
            field: field.as_ref().clone(),
            values: Values::of(&form.data_type()),
            is_jsonb: form == Form::Jsonb,
            nulls: Vec::new(),
            special: None,
        });
        let columns: Vec<_> = columns.collect();
        let schema = schema_of(&columns);
        Self { columns, schema, rows: 0, bytes: 0, changed: Vec::new(), in_copy: false }
    }

    /// The schema of the next batch, as far as the rows so far tell.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A read broke off or begins anew: what was gathered of it is forgotten.
    pub fn begin(&mut self) {
        self.in_copy = false;
    }

    /// The rows so far as a batch; nothing when there are none.
    pub fn finish(&mut self) -> Result<Option<Decoded>> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            arrays.push(column.finish(rows)?);
        }
        for column in &mut self.columns {
            if let Some(special) = &mut column.special {
                let mut values = vec![None; rows];
                special.drain(..).for_each(|(row, which)| values[row as usize] = Some(which));
                arrays.push(Arc::new(Int8Array::from(values)));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| Error::new(ErrorKind::Internal, "the decoded columns do not make a batch").because(e))?;
        let changes = Changes { changed: std::mem::take(&mut self.changed), rejected: Vec::new() };
        Ok(Some(Decoded { rows: batch, changes }))
    }

    /// A null where the server promised none, or a value that has no place in its column: the schema learns of it.
    #[cold]
    fn learn(&mut self, at: usize, put: &Put) {
        let row = self.rows as u32;
        let column = &mut self.columns[at];
        match put {
            Put::Special(which) => column.special.get_or_insert_default().push((row, *which)),
            Put::OutOfRange => {
                let field = column.field.name().clone();
                self.changed.push(Change { row, field, kind: ChangeKind::Nulled, reason: Reason::OutOfRange });
            }
            Put::Done => {}
        }
        column.null(row);
        column.field.set_nullable(true);
        self.schema = schema_of(&self.columns);
    }
}

impl Rows for Decoder {
    fn room(&self, bytes: usize) -> bool {
        self.rows == 0 || (self.rows < MAX_ROWS && self.bytes + bytes <= MAX_BYTES)
    }

    fn copied(&mut self, mut data: &[u8]) -> Result<()> {
        if !self.in_copy {
            let rest = data.strip_prefix(SIGNATURE).and_then(|r| r.split_at_checked(8)).ok_or_else(garbled)?;
            let extension = u32::from_be_bytes(fixed(&rest.0[4..])?) as usize;
            data = rest.1.get(extension..).ok_or_else(garbled)?;
            self.in_copy = true;
        }
        match data {
            [] => Ok(()),
            // The trailer: minus one where a row has its number of fields.
            [0xff, 0xff] => {
                self.in_copy = false;
                Ok(())
            }
            row => self.row(row),
        }
    }

    fn row(&mut self, data: &[u8]) -> Result<()> {
        let (count, mut rest) = data.split_first_chunk::<2>().ok_or_else(garbled)?;
        if usize::from(u16::from_be_bytes(*count)) != self.columns.len() {
            return Err(garbled());
        }
        let row = self.rows as u32;
        for at in 0..self.columns.len() {
            let (len, after) = rest.split_first_chunk::<4>().ok_or_else(garbled)?;
            let column = &mut self.columns[at];
            let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
                rest = after;
                if column.field.is_nullable() {
                    column.null(row);
                } else {
                    self.learn(at, &Put::Done);
                }
                continue;
            };
            let (value, after) = after.split_at_checked(len).ok_or_else(garbled)?;
            rest = after;
            match column.put(value)? {
                Put::Done => {}
                other => self.learn(at, &other),
            }
        }
        self.rows += 1;
        self.bytes += data.len();
        Ok(())
    }
}

/// The data columns, then the siblings of decimals that met a special, in the data columns' order.
fn schema_of(columns: &[Column]) -> SchemaRef {
    let mut fields: Vec<Field> = columns.iter().map(|c| c.field.clone()).collect();
    for column in columns.iter().filter(|c| c.special.is_some()) {
        let mut name = native::special_name(column.field.name());
        while fields.iter().any(|f| *f.name() == name) {
            name.push('_');
        }
        let field = Field::new(name, DataType::Int8, true);
        fields.push(native::with_mark(field, native::SPECIAL_OF, column.field.name()));
    }
    Arc::new(Schema::new(fields))
}

#[inline]
fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N]> {
    value.try_into().map_err(|_| garbled())
}

#[cold]
fn too_long() -> Error {
    Error::new(ErrorKind::DataInvalid, "a batch of text is over 2 GiB")
}

#[cold]
fn garbled() -> Error {
    Error::new(ErrorKind::DataInvalid, "a row of the server is not in PostgreSQL's binary form")
        .fix("is the server a PostgreSQL? Its relatives may answer in another form")
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, StringArray, cast::AsArray, types::TimestampMicrosecondType};

    use super::*;

    fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = (fields.len() as u16).to_be_bytes().to_vec();
        for f in fields {
            out.extend(f.map_or(-1, |f| f.len() as i32).to_be_bytes());
            out.extend(f.unwrap_or_default());
        }
        out
    }
    fn decoder(forms: &[(&str, Form, bool)]) -> Decoder {
        Decoder::new(forms.iter().map(|(name, form, null)| (Arc::new(form.field(name, "x", *null)), *form)))
    }

    #[test]
    fn rows_become_columns() {
        let mut d = decoder(&[("id", Form::Int4, false), ("t", Form::Text, true)]);
        let mut first = [SIGNATURE, &[0; 8]].concat();
        first.extend(tuple(&[Some(&7i32.to_be_bytes()), Some("é".as_bytes())]));
        d.copied(&first).unwrap();
        d.copied(&tuple(&[Some(&8i32.to_be_bytes()), None])).unwrap();
        d.copied(&[0xff, 0xff]).unwrap();
        let batch = d.finish().unwrap().unwrap().rows;
        assert_eq!(batch.num_rows(), 2);
        let text: &StringArray = batch.column(1).as_string();
        assert_eq!((text.value(0), text.is_null(1)), ("é", true));
        assert!(d.finish().unwrap().is_none());
    }

    #[test]
    fn a_nan_makes_a_sibling_column_from_then_on() {
        let mut d = decoder(&[("n", Form::Decimal(5, 2), false)]);
        let before = d.schema().clone();
        d.row(&tuple(&[Some(&[0, 1, 0, 0, 0, 0, 0, 2, 0, 5])])).unwrap();
        d.row(&tuple(&[Some(&[0, 0, 0, 0, 0xC0, 0, 0, 0])])).unwrap();
        let batch = d.finish().unwrap().unwrap().rows;
        assert_ne!(&before, d.schema());
        assert_eq!(batch.schema().field(1).name(), "n__special");
        assert!(batch.column(0).is_null(1) && batch.column(1).is_null(0) && batch.column(1).is_valid(1));
    }

    #[test]
    fn a_timestamp_beyond_the_storage_type_is_null_and_recorded_and_infinity_is_not() {
        let mut d = decoder(&[("t", Form::Timestamp, false)]);
        for micros in [i64::MAX - 1, i64::MAX, i64::MIN, 0] {
            d.row(&tuple(&[Some(&micros.to_be_bytes())])).unwrap();
        }
        let Decoded { rows, changes } = d.finish().unwrap().unwrap();
        let t = rows.column(0).as_primitive::<TimestampMicrosecondType>();
        assert!(t.is_null(0));
        assert_eq!((t.value(1), t.value(2), t.value(3)), (i64::MAX, i64::MIN, EPOCH_MICROS));
        assert_eq!(changes.changed.len(), 1);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut d = decoder(&[("t", Form::Text, true)]);
        d.row(&tuple(&[Some(&[0xc3])])).unwrap();
        d.row(&tuple(&[Some(&[0xa9])])).unwrap();
        assert_eq!(d.finish().err().unwrap().kind(), ErrorKind::DataInvalid);
    }
}
