//! From the wire to Arrow: one pass over each row's values, one specialised append per column, no allocation per row.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{ArrowError, Field, FieldRef, Schema, SchemaRef};
use linkspan_core::{Change, ChangeKind, Changes, Error, ErrorKind, Reason, Result};

use super::{
    packet::Described,
    types::{Form, OddDates},
    values::{self, Moment, Span, fixed, sized},
    wire::Rows,
};

/// A batch ends at so many rows, or at so many bytes on the wire, whichever comes first. A larger row travels alone.
const MAX_ROWS: usize = 8 * 1024;
const MAX_BYTES: usize = 1 << 20;

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

enum Values {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>),
    UInt8(Vec<u8>),
    Int16(Vec<i16>),
    UInt16(Vec<u16>),
    Int32(Vec<i32>),
    UInt32(Vec<u32>),
    Int64(Vec<i64>),
    UInt64(Vec<u64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Decimal256(Vec<i256>, u8, i8),
    Bytes(Bytes),
    Uuid(Vec<u8>),
    Date(Vec<i32>),
    Timestamp(Vec<i64>, Option<Arc<str>>),
    Time(Vec<i64>),
}

/// Values of any length, end to end.
struct Bytes {
    data: Vec<u8>,
    offsets: Vec<i32>,
}

impl Bytes {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { data: Vec::with_capacity(bytes), offsets }
    }
    #[inline]
    fn push(&mut self, value: &[u8]) -> Option<()> {
        self.data.extend_from_slice(value);
        self.offsets.push(i32::try_from(self.data.len()).ok()?);
        Some(())
    }
    fn repeat(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
    }
    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let (rows, bytes) = (self.offsets.len(), (self.data.len() + self.data.len() / 8).min(MAX_BYTES));
        let full = std::mem::replace(self, Self::with_capacity(rows, bytes));
        (OffsetBuffer::new(full.offsets.into()), Buffer::from_vec(full.data))
    }
}

impl Values {
    fn of(form: Form) -> Self {
        match form {
            Form::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            Form::Int8 => Self::Int8(Vec::new()),
            Form::UInt8 => Self::UInt8(Vec::new()),
            Form::Int16 | Form::Year => Self::Int16(Vec::new()),
            Form::UInt16 => Self::UInt16(Vec::new()),
            Form::Int32 => Self::Int32(Vec::new()),
            Form::UInt32 => Self::UInt32(Vec::new()),
            Form::Int64 => Self::Int64(Vec::new()),
            Form::UInt64 | Form::Bits => Self::UInt64(Vec::new()),
            Form::Float4 => Self::Float4(Vec::new()),
            Form::Float8 => Self::Float8(Vec::new()),
            Form::Decimal(p, s) if p <= 38 => Self::Decimal(Vec::new(), p, s),
            Form::Decimal(p, s) => Self::Decimal256(Vec::new(), p, s),
            Form::Text | Form::Json | Form::Binary | Form::Spatial | Form::DateText | Form::DateTimeText(_) | Form::TimeText(_) => {
                Self::Bytes(Bytes::with_capacity(0, 0))
            }
            Form::Uuid | Form::UuidBytes => Self::Uuid(Vec::new()),
            Form::Date => Self::Date(Vec::new()),
            Form::DateTime(_) => Self::Timestamp(Vec::new(), None),
            Form::Timestamp(_) => Self::Timestamp(Vec::new(), Some("UTC".into())),
            Form::Time(_) => Self::Time(Vec::new()),
        }
    }

    /// What stands in a null's place.
    fn push_default(&mut self) {
        match self {
            Self::Bool(v) => v.append(false),
            Self::Int8(v) => v.push(0),
            Self::UInt8(v) => v.push(0),
            Self::Int16(v) => v.push(0),
            Self::UInt16(v) => v.push(0),
            Self::Int32(v) | Self::Date(v) => v.push(0),
            Self::UInt32(v) => v.push(0),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.push(0),
            Self::UInt64(v) => v.push(0),
            Self::Float4(v) => v.push(0.0),
            Self::Float8(v) => v.push(0.0),
            Self::Decimal(v, ..) => v.push(0),
            Self::Decimal256(v, ..) => v.push(i256::ZERO),
            Self::Bytes(b) => b.repeat(),
            Self::Uuid(v) => v.extend_from_slice(&[0; 16]),
        }
    }

    fn finish(&mut self, is_text: bool, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Self::Int8(v) => Arc::new(Int8Array::new(full(v), nulls)),
            Self::UInt8(v) => Arc::new(UInt8Array::new(full(v), nulls)),
            Self::Int16(v) => Arc::new(Int16Array::new(full(v), nulls)),
            Self::UInt16(v) => Arc::new(UInt16Array::new(full(v), nulls)),
            Self::Int32(v) => Arc::new(Int32Array::new(full(v), nulls)),
            Self::UInt32(v) => Arc::new(UInt32Array::new(full(v), nulls)),
            Self::Int64(v) => Arc::new(Int64Array::new(full(v), nulls)),
            Self::UInt64(v) => Arc::new(UInt64Array::new(full(v), nulls)),
            Self::Float4(v) => Arc::new(Float32Array::new(full(v), nulls)),
            Self::Float8(v) => Arc::new(Float64Array::new(full(v), nulls)),
            Self::Decimal(v, p, s) => Arc::new(Decimal128Array::new(full(v), nulls).with_precision_and_scale(*p, *s)?),
            Self::Decimal256(v, p, s) => Arc::new(Decimal256Array::new(full(v), nulls).with_precision_and_scale(*p, *s)?),
            Self::Bytes(b) => {
                let (offsets, data) = b.take();
                match is_text {
                    true => Arc::new(StringArray::try_new(offsets, data, nulls)?),
                    false => Arc::new(BinaryArray::try_new(offsets, data, nulls)?),
                }
            }
            Self::Uuid(v) => {
                let room = Vec::with_capacity(v.len());
                Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(std::mem::replace(v, room)), nulls)?)
            }
            Self::Date(v) => Arc::new(Date32Array::new(full(v), nulls)),
            Self::Timestamp(v, zone) => Arc::new(TimestampMicrosecondArray::new(full(v), nulls).with_timezone_opt(zone.clone())),
            Self::Time(v) => Arc::new(Time64MicrosecondArray::new(full(v), nulls)),
        })
    }
}

/// The values, leaving room for as many again.
fn full<T: arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room).into()
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
            Values::Float4(v) => v.push(f32::from_le_bytes(fixed(rest)?)),
            Values::Float8(v) => v.push(f64::from_le_bytes(fixed(rest)?)),
            Values::Decimal(v, _, scale) => v.push(values::decimal128(sized(rest)?, *scale)?),
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
            Values::Bytes(b) => match self.form {
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
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(rows);
            valid.append_n(rows, true);
            self.nulls.drain(..).for_each(|row| valid.set_bit(row as usize, false));
            NullBuffer::new(valid.finish())
        });
        let is_text = !matches!(self.form, Form::Binary | Form::Spatial);
        self.values.finish(is_text, nulls).map_err(|e| {
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
            values: Values::of(form),
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
    use arrow_array::{Array, cast::AsArray, types::TimestampMicrosecondType};

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
