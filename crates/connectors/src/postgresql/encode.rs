//! Rows of Arrow columns as PostgreSQL's binary COPY stream: one enum per column, no allocation per value.
//! What does not fit its column was sorted out before (`encode_fit`); here every value is written as it is.

use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Int8Array, types::IntervalMonthDayNano};
use arrow_buffer::{BooleanBuffer, NullBuffer, i256};

use super::{
    encode_numeric::{self as numeric, Special},
    types::{EPOCH_DAYS, EPOCH_MICROS},
};

/// What stands before the first row.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands behind the last row.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];
const NULL: [u8; 4] = [0xff; 4];

/// How the server takes a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// With precision and scale, where the column has them.
    Numeric(Option<(u16, i16)>),
    /// Its binary form is its text. With the most characters, where the column has a limit.
    Text(Option<u32>),
    Jsonb,
    Bytea,
    Uuid,
    Date,
    /// Digits of the second that the column keeps: 6 unless declared.
    Time(u8),
    Timestamp {
        zoned: bool,
        digits: u8,
    },
    Interval,
    /// The server reads its text: the whole table is then copied in text format.
    Parsed,
}

/// A column of a batch in the one Arrow type that its form is written from.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    pub array: ArrayRef,
    pub sent: Sent,
    /// The sibling that carries NaN and infinities, when it holds any.
    pub special: Option<Int8Array>,
    /// The extreme values stand for -infinity and infinity.
    pub infinite: bool,
}

/// Variable-length values: offsets into one buffer.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    Short(&'a [i32], &'a [u8]),
    Long(&'a [i64], &'a [u8]),
}

impl<'a> Bytes<'a> {
    #[inline]
    pub(super) fn get(&self, row: usize) -> &'a [u8] {
        match self {
            Self::Short(offsets, data) => &data[offsets[row] as usize..offsets[row + 1] as usize],
            Self::Long(offsets, data) => &data[offsets[row] as usize..offsets[row + 1] as usize],
        }
    }
}

/// A column's values, borrowed for the time of one batch.
pub(super) enum Values<'a> {
    Bool(&'a BooleanBuffer),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U32(&'a [u32]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal {
        values: &'a [i128],
        scale: i8,
    },
    WideDecimal {
        values: &'a [i256],
        scale: i8,
    },
    /// A decimal beside its specials: a null there may be a special.
    SpecialDecimal {
        decimal: Box<Values<'a>>,
        nulls: Option<&'a NullBuffer>,
        special: &'a Int8Array,
    },
    DecimalText(Bytes<'a>),
    Text(Bytes<'a>),
    Jsonb(Bytes<'a>),
    Bytea(Bytes<'a>),
    Uuid(&'a [u8]),
    Date {
        values: &'a [i32],
        infinite: bool,
    },
    Time(&'a [i64]),
    Timestamp {
        values: &'a [i64],
        infinite: bool,
        zoned: bool,
    },
    Interval(&'a [IntervalMonthDayNano]),
    /// The row's ordinal, counted on from the first one.
    Ordinal(i64),
}

pub(super) struct Column<'a> {
    pub nulls: Option<&'a NullBuffer>,
    pub values: Values<'a>,
}

impl Column<'_> {
    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(row))
    }
}

/// Where the encoder stands in a batch, so that a value larger than a chunk leaves in pieces and memory stays flat.
pub(super) struct Encoder<'a> {
    columns: Vec<Column<'a>>,
    rows: usize,
    row: usize,
    /// The column and byte at which the last chunk ended inside a row.
    column: usize,
    byte: usize,
}

/// A value from here on is sent in pieces.
const LARGE: usize = 1 << 20;

impl<'a> Encoder<'a> {
    pub(super) fn new(columns: Vec<Column<'a>>, rows: usize) -> Self {
        Self { columns, rows, row: 0, column: 0, byte: 0 }
    }

    /// Appends rows until `limit` bytes are reached or the rows are at their end; true at the end.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) -> bool {
        let count = (self.columns.len() as u16).to_be_bytes();
        while self.row < self.rows {
            if self.column == 0 && self.byte == 0 {
                if out.len() >= limit {
                    return false;
                }
                out.extend_from_slice(&count);
            }
            if !self.fill_row(out, limit) {
                return false;
            }
            self.row += 1;
        }
        true
    }

    /// False when the chunk is full in the middle of a large value.
    #[inline]
    fn fill_row(&mut self, out: &mut Vec<u8>, limit: usize) -> bool {
        let row = self.row;
        for at in self.column..self.columns.len() {
            let column = &self.columns[at];
            if column.is_null(row) {
                out.extend_from_slice(&NULL);
                continue;
            }
            match &column.values {
                Values::Text(bytes) | Values::Bytea(bytes) | Values::Jsonb(bytes) if bytes.get(row).len() > LARGE => {
                    let prefix = matches!(column.values, Values::Jsonb(_));
                    let value = bytes.get(row);
                    if !push_piece(out, value, &mut self.byte, prefix, limit) {
                        self.column = at;
                        return false;
                    }
                }
                values => push_value(out, values, row),
            }
        }
        self.column = 0;
        true
    }
}

/// Appends the next piece of a large value; true when it was the last one.
fn push_piece(out: &mut Vec<u8>, value: &[u8], byte: &mut usize, version: bool, limit: usize) -> bool {
    if *byte == 0 {
        out.extend_from_slice(&((value.len() + usize::from(version)) as u32).to_be_bytes());
        if version {
            out.push(1);
        }
    }
    let room = limit.saturating_sub(out.len()).max(64 << 10);
    let end = value.len().min(*byte + room);
    out.extend_from_slice(&value[*byte..end]);
    *byte = if end == value.len() { 0 } else { end };
    *byte == 0
}

#[inline]
fn push_value(out: &mut Vec<u8>, values: &Values<'_>, row: usize) {
    match values {
        Values::Bool(v) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(v.value(row))]),
        Values::I16(v) => {
            let [a, b] = v[row].to_be_bytes();
            out.extend_from_slice(&[0, 0, 0, 2, a, b]);
        }
        Values::I32(v) => push4(out, v[row].to_be_bytes()),
        Values::U32(v) => push4(out, v[row].to_be_bytes()),
        Values::F32(v) => push4(out, v[row].to_be_bytes()),
        Values::I64(v) | Values::Time(v) => push8(out, v[row].to_be_bytes()),
        Values::F64(v) => push8(out, v[row].to_be_bytes()),
        Values::Ordinal(first) => push8(out, (first + row as i64).to_be_bytes()),
        Values::Decimal { values, scale } => numeric::push_i128(out, values[row], *scale as u16),
        Values::WideDecimal { values, scale } => push_wide(out, values[row], *scale),
        Values::SpecialDecimal { decimal, nulls, special } => push_with_special(out, decimal, *nulls, special, row),
        Values::DecimalText(v) => {
            let is_decimal = numeric::push_text(out, v.get(row));
            debug_assert!(is_decimal, "fitting let only decimals through");
        }
        Values::Text(v) | Values::Bytea(v) => {
            let value = v.get(row);
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value);
        }
        Values::Jsonb(v) => {
            let value = v.get(row);
            let [a, b, c, d] = (value.len() as u32 + 1).to_be_bytes();
            out.extend_from_slice(&[a, b, c, d, 1]);
            out.extend_from_slice(value);
        }
        Values::Uuid(v) => {
            out.extend_from_slice(&16u32.to_be_bytes());
            out.extend_from_slice(&v[row * 16..row * 16 + 16]);
        }
        Values::Date { values, infinite } => push4(out, date(values[row], *infinite).to_be_bytes()),
        Values::Timestamp { values, infinite, .. } => push8(out, timestamp(values[row], *infinite).to_be_bytes()),
        Values::Interval(v) => {
            let interval = v[row];
            out.extend_from_slice(&16u32.to_be_bytes());
            out.extend_from_slice(&(interval.nanoseconds / 1_000).to_be_bytes());
            out.extend_from_slice(&interval.days.to_be_bytes());
            out.extend_from_slice(&interval.months.to_be_bytes());
        }
    }
}

#[inline]
fn push4(out: &mut Vec<u8>, v: [u8; 4]) {
    out.extend_from_slice(&[0, 0, 0, 4, v[0], v[1], v[2], v[3]]);
}
#[inline]
fn push8(out: &mut Vec<u8>, v: [u8; 8]) {
    out.extend_from_slice(&[0, 0, 0, 8, v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]]);
}

/// The server's day; its extremes are the infinities, which are Arrow's extremes too.
#[inline]
pub(super) fn date(days: i32, infinite: bool) -> i32 {
    if infinite && (days == i32::MAX || days == i32::MIN) { days } else { days.wrapping_sub(EPOCH_DAYS) }
}
#[inline]
pub(super) fn timestamp(micros: i64, infinite: bool) -> i64 {
    if infinite && (micros == i64::MAX || micros == i64::MIN) { micros } else { micros.wrapping_sub(EPOCH_MICROS) }
}

fn push_wide(out: &mut Vec<u8>, value: i256, scale: i8) {
    match value.to_i128() {
        Some(small) if scale >= 0 => numeric::push_i128(out, small, scale as u16),
        _ => {
            let text = numeric::decimal_text(&value.to_string(), scale.into());
            numeric::push_text(out, text.as_bytes());
        }
    }
}

fn push_with_special(out: &mut Vec<u8>, decimal: &Values<'_>, nulls: Option<&NullBuffer>, special: &Int8Array, row: usize) {
    if special.is_valid(row) {
        numeric::push_special(out, Special::of_code(special.value(row)));
    } else if nulls.is_some_and(|n| n.is_null(row)) {
        out.extend_from_slice(&NULL);
    } else {
        push_value(out, decimal, row);
    }
}

/// A column of bytes.
pub(super) fn bytea(array: &BinaryArray) -> Column<'_> {
    Column { nulls: array.nulls(), values: Values::Bytea(Bytes::Short(array.value_offsets(), array.value_data())) }
}

/// A column of flags.
pub(super) fn flags(array: &BooleanArray) -> Column<'_> {
    Column { nulls: array.nulls(), values: Values::Bool(array.values()) }
}
