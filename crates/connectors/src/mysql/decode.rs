//! From the wire to Arrow: one pass over each row's values, one specialised append per column, no allocation per row.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use linkspan_core::{Change, ChangeKind, Changes, Error, ErrorKind, Reason, Result};

use super::{
    packet::Described,
    types::{Form, OddDates},
    values::{self, Moment, Span, fixed, sized},
    wire::Rows,
};
use crate::gather::{MAX_BYTES, MAX_ROWS, Values};

/// A batch, with the record of values that had to change.
pub(super) struct Decoded {
    pub rows: RecordBatch,
    pub changes: Changes,
}

/// Gathers rows into columns. One of it serves all reads of a lane.
pub(super) struct Decoder {
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
    changed: Vec<Change>,
    odd_dates: OddDates,
}

struct Column {
    field: Field,
    form: Form,
    values: Values,
    /// The rows that are null.
    nulls: Vec<u32>,
    /// The id of the reference system that the column's spatial values have, as far as they agree with the field's.
    srid: u32,
    /// The wire sends bits, not a number.
    of_bits: bool,
}

/// What came of one value.
enum Put {
    Done,
    /// The value has no place in its column's type.
    Odd(Reason),
    /// The value is there, and something beside it was left out.
    Cut,
}

impl Column {
    /// Takes one value off the front of a row; none when the bytes are not the protocol.
    #[inline]
    fn put(&mut self, rest: &mut &[u8]) -> Option<Put> {
        match &mut self.values {
            Values::Bool(v) if self.of_bits => v.append(values::bits(sized(rest)?)? != 0),
            Values::Bool(v) => match fixed::<1>(rest)?[0] {
                n @ (0 | 1) => v.append(n == 1),
                _ => return Some(Put::Odd(Reason::OutOfRange)),
            },
            Values::Int8(v) => v.push(i8::from_le_bytes(fixed(rest)?)),
            Values::UInt8(v) => v.push(u8::from_le_bytes(fixed(rest)?)),
            Values::Int16(v) => v.push(i16::from_le_bytes(fixed(rest)?)),
            Values::UInt16(v) => v.push(u16::from_le_bytes(fixed(rest)?)),
            Values::Int32(v) => v.push(i32::from_le_bytes(fixed(rest)?)),
            Values::UInt32(v) => v.push(u32::from_le_bytes(fixed(rest)?)),
            Values::Int64(v) => v.push(i64::from_le_bytes(fixed(rest)?)),
            Values::UInt64(v) if self.of_bits => v.push(values::bits(sized(rest)?)?),
            Values::UInt64(v) => v.push(u64::from_le_bytes(fixed(rest)?)),
            Values::Float32(v) => v.push(f32::from_le_bytes(fixed(rest)?)),
            Values::Float64(v) => v.push(f64::from_le_bytes(fixed(rest)?)),
            Values::Decimal128(v, _, scale) => v.push(values::decimal128(sized(rest)?, *scale)?),
            Values::Decimal256(v, _, scale) => v.push(values::decimal256(sized(rest)?, *scale)?),
            Values::Date(v) => match Moment::take(rest)?.days() {
                Some(days) => v.push(days),
                None => return Some(Put::Odd(Reason::Invalid)),
            },
            Values::Timestamp(v, _) => match Moment::take(rest)?.micros() {
                Some(micros) => v.push(micros),
                None => return Some(Put::Odd(Reason::Invalid)),
            },
            Values::Time(v) => match Span::take(rest)?.of_day() {
                Some(micros) => v.push(micros),
                None => return Some(Put::Odd(Reason::OutOfRange)),
            },
            Values::Uuid(v) if self.form == Form::UuidBytes => v.extend_from_slice(sized(rest)?.first_chunk::<16>()?),
            Values::Uuid(v) => v.extend_from_slice(&values::uuid(sized(rest)?)?),
            Values::Text(b) | Values::Binary(b) => match self.form {
                Form::DateText => b.push(Moment::take(rest)?.date_text().as_bytes())?,
                Form::DateTimeText(digits) => b.push(Moment::take(rest)?.text(digits).as_bytes())?,
                Form::TimeText(digits) => b.push(Span::take(rest)?.text(digits).as_bytes())?,
                Form::Spatial => {
                    let (srid, shape) = sized(rest)?.split_first_chunk::<4>()?;
                    b.push(shape)?;
                    if u32::from_le_bytes(*srid) != self.srid {
                        return Some(Put::Cut);
                    }
                }
                _ => b.push(sized(rest)?)?,
            },
        }
        Some(Put::Done)
    }

    #[inline]
    fn null(&mut self, row: u32) {
        self.values.push_default();
        self.nulls.push(row);
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        self.values.finish(rows, &mut self.nulls).map_err(|e| {
            Error::new(ErrorKind::DataInvalid, "a column's values are not what its type says")
                .with("column", self.field.name())
                .fix("check the column's character set: its bytes are not valid text")
                .because(e)
        })
    }
}

impl Decoder {
    /// A decoder of rows with these columns, in this order; `wire` is what the server says it will send.
    pub fn new(columns: impl IntoIterator<Item = (FieldRef, Form)>, odd_dates: OddDates) -> Self {
        let column = |(field, form): (FieldRef, Form)| Column {
            srid: srid_of(&field),
            field: field.as_ref().clone(),
            form,
            values: Values::of(&form.data_type()),
            nulls: Vec::new(),
            of_bits: form == Form::Bits,
        };
        let columns: Vec<_> = columns.into_iter().map(column).collect();
        let schema = schema_of(&columns);
        Self { columns, schema, rows: 0, bytes: 0, changed: Vec::new(), odd_dates }
    }

    /// Compares what the server is about to send with what was planned.
    pub fn expect(&mut self, wire: &[Described]) -> Result<()> {
        let changed = || {
            Error::new(ErrorKind::SchemaDrift, "the table's columns changed while the read was being planned")
                .fix("run the same command again: the read is planned anew")
        };
        if wire.len() != self.columns.len() {
            return Err(changed());
        }
        for (column, described) in self.columns.iter_mut().zip(wire) {
            if !column.form.is_decoded_from(described.kind) {
                return Err(changed().with("column", column.field.name()));
            }
            column.of_bits = described.kind == super::types::kind::BIT;
        }
        Ok(())
    }

    /// The schema of the next batch, as far as the rows so far tell.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
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
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| Error::new(ErrorKind::Internal, "the decoded columns do not make a batch").because(e))?;
        let changes = Changes { changed: std::mem::take(&mut self.changed), rejected: Vec::new() };
        Ok(Some(Decoded { rows: batch, changes }))
    }

    /// A null where the server promised none, or a value that has no place in its column: the schema and the record learn of it.
    #[cold]
    fn learn(&mut self, at: usize, put: &Put) -> Result<()> {
        let row = self.rows as u32;
        let column = &mut self.columns[at];
        let field = column.field.name().clone();
        match put {
            Put::Cut => {
                self.changed.push(Change { row, field, kind: ChangeKind::Truncated, reason: Reason::NotRepresentable });
                return Ok(());
            }
            Put::Odd(_) if self.odd_dates == OddDates::Fail && column.field.data_type().is_temporal() => {
                return Err(Error::new(ErrorKind::DataInvalid, "a date or time of the column is one that no calendar has")
                    .with("column", field)
                    .fix("set odd_dates to null (it becomes null and is recorded) or to text (dates and times travel as text)"));
            }
            Put::Odd(reason) => self.changed.push(Change { row, field, kind: ChangeKind::Nulled, reason: *reason }),
            Put::Done => {}
        }
        column.null(row);
        if !column.field.is_nullable() {
            column.field.set_nullable(true);
            self.schema = schema_of(&self.columns);
        }
        Ok(())
    }
}

impl Rows for Decoder {
    fn room(&self, bytes: usize) -> bool {
        self.rows == 0 || (self.rows < MAX_ROWS && self.bytes + bytes <= MAX_BYTES)
    }

    fn row(&mut self, data: &[u8]) -> Result<()> {
        let count = self.columns.len();
        let (nulls, mut rest) = data.get(1..).and_then(|d| d.split_at_checked((count + 9) / 8)).ok_or_else(garbled)?;
        let row = self.rows as u32;
        for at in 0..count {
            let bit = at + 2;
            let column = &mut self.columns[at];
            if nulls[bit >> 3] & (1 << (bit & 7)) != 0 {
                if column.field.is_nullable() {
                    column.null(row);
                } else {
                    self.learn(at, &Put::Done)?;
                }
                continue;
            }
            match column.put(&mut rest).ok_or_else(garbled)? {
                Put::Done => {}
                other => self.learn(at, &other)?,
            }
        }
        self.rows += 1;
        self.bytes += data.len();
        Ok(())
    }
}

fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>()))
}

fn srid_of(field: &Field) -> u32 {
    field.metadata().get(super::types::SRID).and_then(|s| s.parse().ok()).unwrap_or(0)
}

#[cold]
fn garbled() -> Error {
    Error::new(ErrorKind::DataInvalid, "a row of the server is not in the binary form of the MySQL protocol")
        .fix("is the server a MySQL or MariaDB? Its relatives may answer in another form")
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, StringArray, cast::AsArray, types::TimestampMicrosecondType};

    use super::*;

    fn decoder(forms: &[(&str, Form, bool)], odd: OddDates) -> Decoder {
        Decoder::new(forms.iter().map(|(name, form, null)| (Arc::new(form.field(name, "x", *null)), *form)), odd)
    }

    #[test]
    fn rows_become_columns() {
        let mut d = decoder(&[("id", Form::Int32, false), ("t", Form::Text, true), ("n", Form::Decimal(5, 2), true)], OddDates::Null);
        d.row(b"\x00\x00\x07\x00\x00\x00\x02\xc3\xa9\x05-1.50").unwrap();
        d.row(b"\x00\x18\x08\x00\x00\x00").unwrap();
        let batch = d.finish().unwrap().unwrap().rows;
        assert_eq!(batch.num_rows(), 2);
        let text: &StringArray = batch.column(1).as_string();
        assert_eq!((text.value(0), text.is_null(1)), ("é", true));
        assert!(batch.column(2).is_null(1));
        assert!(d.finish().unwrap().is_none());
    }

    #[test]
    fn an_odd_date_is_null_and_recorded_or_text_or_an_error() {
        let zero = b"\x00\x00\x00";
        let mut d = decoder(&[("t", Form::DateTime(0), false)], OddDates::Null);
        d.row(zero).unwrap();
        d.row(b"\x00\x00\x07\xb2\x07\x01\x01\x00\x00\x01").unwrap();
        let Decoded { rows, changes } = d.finish().unwrap().unwrap();
        let t = rows.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!((t.is_null(0), t.value(1), changes.changed.len()), (true, 1_000_000, 1));
        assert!(d.schema().field(0).is_nullable());
        let mut d = decoder(&[("t", Form::DateTimeText(3), false)], OddDates::Text);
        d.row(zero).unwrap();
        assert_eq!(d.finish().unwrap().unwrap().rows.column(0).as_string::<i32>().value(0), "0000-00-00 00:00:00.000");
        let mut d = decoder(&[("t", Form::Date, false)], OddDates::Fail);
        assert_eq!(d.row(zero).unwrap_err().kind(), ErrorKind::DataInvalid);
    }

    #[test]
    fn whatever_is_cut_off_is_an_error_and_no_panic() {
        let forms = [("a", Form::Int64, true), ("b", Form::Text, true), ("c", Form::Time(0), true), ("d", Form::Spatial, true)];
        let whole = b"\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x03abc\x08\x00\x00\x00\x00\x00\x01\x02\x03\x05\x00\x00\x00\x00x";
        assert!(decoder(&forms, OddDates::Null).row(whole).is_ok());
        for n in 0..whole.len() {
            assert!(decoder(&forms, OddDates::Null).row(&whole[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut d = decoder(&[("t", Form::Text, true)], OddDates::Null);
        d.row(b"\x00\x00\x01\xc3").unwrap();
        d.row(b"\x00\x00\x01\xa9").unwrap();
        assert_eq!(d.finish().err().unwrap().kind(), ErrorKind::DataInvalid);
    }
}
