//! Fits a batch's columns to the forms that the table's columns take, and finds every value that would be changed or refused
//! on the way. Nothing is rounded, cut or replaced here: a misfit is reported by row and column, and the session's policy decides.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int8Array, RecordBatch, StringArray,
    cast::AsArray,
    types::{
        Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
    },
};
use arrow_buffer::i256;
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{ArrowError, DataType, IntervalUnit, TimeUnit};
use linkspan_core::{Error, ErrorKind, Reason, Result, nested};

use super::{
    encode::{Bytes, Column, Fitted, Sent, Values},
    encode_numeric::{Decimal, Special},
    types::{EPOCH_DAYS, EPOCH_MICROS},
};

/// What the server's dates and timestamps span, as it counts them (from 2000-01-01).
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// How one column of the rows becomes one column of the table; decided once per schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit {
    pub name: String,
    /// Where the column stands in the batch.
    pub index: usize,
    pub sent: Sent,
    pub cast: Cast,
    /// Where its sibling of NaN and infinities stands.
    pub special: Option<usize>,
    pub infinite: bool,
    pub not_null: bool,
}

/// The way to the Arrow type that a form is written from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cast {
    Same,
    /// A cast whose result must say the same when cast back.
    Exact(DataType),
    /// A nested value as a JSON document.
    Json,
    /// A list as the server's array literal.
    Array,
}

/// A value that its column cannot hold as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub row: usize,
    pub reason: Reason,
}

/// The form and the cast for values of a type in a column of `form`, or nothing when the column cannot take such values.
/// Text for a type that is written from numbers (a timestamp that only text can hold, say) is left to the server to read.
pub(super) fn sent_for(form: &Sent, from: &DataType) -> Option<(Sent, Cast)> {
    let is_text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let reads_text = matches!(form, Sent::Oid | Sent::Uuid | Sent::Date | Sent::Time(_) | Sent::Timestamp { .. } | Sent::Interval);
    let form = if is_text && reads_text { &Sent::Parsed } else { form };
    cast_for(form, from).map(|cast| (form.clone(), cast))
}

/// The cast of a field's values for a form, or nothing when the column cannot take such values at all.
fn cast_for(form: &Sent, from: &DataType) -> Option<Cast> {
    use DataType::*;
    if let Dictionary(_, values) = from {
        return cast_for(form, values).map(|_| Cast::Exact((**values).clone()));
    }
    let exact = |to: DataType| can_cast_types(from, &to).then_some(Cast::Exact(to));
    if from == &Null {
        return exact(arrow_type(form));
    }
    let text = matches!(from, Utf8 | LargeUtf8);
    match form {
        Sent::Numeric(_) => match from {
            Decimal128(_, s) | Decimal256(_, s) if *s >= 0 => Some(Cast::Same),
            Decimal128(..) | Decimal256(..) => exact(Decimal256(76, 0)),
            Utf8View | Float16 | Float32 | Float64 => exact(Utf8),
            _ if text => Some(Cast::Same),
            d if d.is_integer() => exact(Decimal128(20, 0)),
            _ => None,
        },
        Sent::Text(_) | Sent::Jsonb | Sent::Parsed if text => Some(Cast::Same),
        Sent::Text(_) | Sent::Jsonb | Sent::Parsed => match from {
            Utf8View => exact(Utf8),
            List(_) | LargeList(_) | FixedSizeList(..) if *form == Sent::Parsed => Some(Cast::Array),
            d if d.is_nested() => Some(Cast::Json),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => None,
            _ => exact(Utf8),
        },
        Sent::Bytea => match from {
            Binary | LargeBinary => Some(Cast::Same),
            BinaryView | FixedSizeBinary(_) => exact(Binary),
            _ => None,
        },
        Sent::Timestamp { zoned, .. } => match from {
            Timestamp(TimeUnit::Microsecond, z) if z.is_some() == *zoned => Some(Cast::Same),
            Timestamp(_, z) if z.is_some() == *zoned => exact(Timestamp(TimeUnit::Microsecond, z.clone())),
            Date32 | Date64 if !zoned => exact(Timestamp(TimeUnit::Microsecond, None)),
            _ => None,
        },
        Sent::Uuid => (from == &FixedSizeBinary(16)).then_some(Cast::Same),
        Sent::Interval => match from {
            Interval(IntervalUnit::MonthDayNano) => Some(Cast::Same),
            Interval(_) | Duration(_) => exact(Interval(IntervalUnit::MonthDayNano)),
            _ => None,
        },
        Sent::Date if matches!(from, Date32 | Date64) => same_or(from, Date32),
        Sent::Time(_) if matches!(from, Time32(_) | Time64(_)) => same_or(from, Time64(TimeUnit::Microsecond)),
        Sent::Bool => (from == &Boolean).then_some(Cast::Same),
        Sent::Int2 | Sent::Int4 | Sent::Int8 | Sent::Oid | Sent::Float4 | Sent::Float8 if from.is_numeric() => {
            same_or(from, arrow_type(form))
        }
        _ => None,
    }
}

fn same_or(from: &DataType, to: DataType) -> Option<Cast> {
    if *from == to {
        return Some(Cast::Same);
    }
    can_cast_types(from, &to).then_some(Cast::Exact(to))
}

/// The Arrow type that a form is written from, where there is only one.
fn arrow_type(form: &Sent) -> DataType {
    match form {
        Sent::Bool => DataType::Boolean,
        Sent::Int2 => DataType::Int16,
        Sent::Int4 => DataType::Int32,
        Sent::Int8 => DataType::Int64,
        Sent::Oid => DataType::UInt32,
        Sent::Float4 => DataType::Float32,
        Sent::Float8 => DataType::Float64,
        Sent::Numeric(_) => DataType::Decimal128(38, 0),
        Sent::Text(_) | Sent::Jsonb | Sent::Parsed => DataType::Utf8,
        Sent::Bytea => DataType::Binary,
        Sent::Uuid => DataType::FixedSizeBinary(16),
        Sent::Date => DataType::Date32,
        Sent::Time(_) => DataType::Time64(TimeUnit::Microsecond),
        Sent::Timestamp { zoned, .. } => DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into())),
        Sent::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
    }
}

impl Fit {
    /// The column ready to encode, and its misfits in row order.
    pub(super) fn apply(&self, rows: &RecordBatch, server_version: u32) -> Result<(Fitted, Vec<Misfit>)> {
        let source = rows.column(self.index);
        let mut misfits = Vec::new();
        let array = self.cast(source, &mut misfits)?;
        let special = self.special.map(|at| specials(rows.column(at))).transpose()?.flatten();
        if let Some(special) = &special {
            self.check_specials(special, server_version, &mut misfits);
        }
        let fitted = Fitted { array, sent: self.sent.clone(), special, infinite: self.infinite };
        check(&fitted, server_version, &mut misfits);
        if self.not_null {
            self.check_nulls(&fitted, &mut misfits);
        }
        misfits.sort_unstable_by_key(|m| m.row);
        misfits.dedup_by_key(|m| m.row);
        Ok((fitted, misfits))
    }

    fn cast(&self, source: &ArrayRef, misfits: &mut Vec<Misfit>) -> Result<ArrayRef> {
        let failed = |e: ArrowError| {
            Error::new(ErrorKind::Internal, "a column could not be cast to the table's type").with("column", &self.name).because(e)
        };
        match &self.cast {
            Cast::Same => Ok(source.clone()),
            Cast::Exact(to) => {
                let cast = exact(source, to, misfits).map_err(failed)?;
                // A dictionary's values are only unpacked by the first step; the form's own step follows.
                match cast_for(&self.sent, to) {
                    Some(Cast::Exact(next)) if matches!(source.data_type(), DataType::Dictionary(..)) => {
                        exact(&cast, &next, misfits).map_err(failed)
                    }
                    _ => Ok(cast),
                }
            }
            Cast::Json => Ok(Arc::new(nested::json_texts(&self.name, source)?)),
            Cast::Array => super::encode_text::array_literals(source).map_err(failed),
        }
    }

    fn check_specials(&self, special: &Int8Array, server_version: u32, misfits: &mut Vec<Misfit>) {
        for row in (0..special.len()).filter(|row| special.is_valid(*row)) {
            let held = match (&self.sent, Special::of_code(special.value(row))) {
                (Sent::Numeric(_), Special::NotANumber) => true,
                (Sent::Numeric(limit), _) => limit.is_none() && server_version >= 140_000,
                _ => false,
            };
            if !held {
                misfits.push(Misfit { row, reason: Reason::NotRepresentable });
            }
        }
    }

    fn check_nulls(&self, fitted: &Fitted, misfits: &mut Vec<Misfit>) {
        if fitted.array.null_count() == 0 {
            return;
        }
        let is_special = |row: usize| fitted.special.as_ref().is_some_and(|s| s.is_valid(row));
        let nulls = (0..fitted.array.len()).filter(|row| fitted.array.is_null(*row) && !is_special(*row));
        misfits.extend(nulls.map(|row| Misfit { row, reason: Reason::Invalid }));
    }
}

/// The sibling column, when any value in it is set.
fn specials(array: &ArrayRef) -> Result<Option<Int8Array>> {
    let special = array
        .as_primitive_opt::<Int8Type>()
        .ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the column that carries NaN and infinities has the wrong type"))?;
    Ok((special.null_count() < special.len()).then(|| special.clone()))
}

const SAFE: CastOptions<'static> = CastOptions { safe: true, format_options: arrow_cast::display::FormatOptions::new() };

/// A cast that loses nothing: what becomes null, or another value when cast back, is a misfit.
fn exact(source: &ArrayRef, to: &DataType, misfits: &mut Vec<Misfit>) -> Result<ArrayRef, ArrowError> {
    let cast = cast_with_options(source, to, &SAFE)?;
    let lost = (0..cast.len()).filter(|row| cast.is_null(*row) && source.is_valid(*row));
    misfits.extend(lost.map(|row| Misfit { row, reason: Reason::OutOfRange }));
    let is_text = matches!(to, DataType::Utf8 | DataType::LargeUtf8);
    if !is_text && !matches!(source.data_type(), DataType::Dictionary(..)) && can_cast_types(to, source.data_type()) {
        let back = cast_with_options(&cast, source.data_type(), &SAFE)?;
        let same = arrow_ord::cmp::not_distinct(&back, source)?;
        let changed = (0..cast.len()).filter(|row| cast.is_valid(*row) && !same.value(*row));
        misfits.extend(changed.map(|row| Misfit { row, reason: Reason::NotRepresentable }));
    }
    Ok(cast)
}

/// Finds the values that the server would refuse, round or cut.
fn check(column: &Fitted, server_version: u32, misfits: &mut Vec<Misfit>) {
    let array = &column.array;
    match &column.sent {
        Sent::Text(limit) => check_text(array, *limit, misfits),
        Sent::Jsonb => check_json(array, misfits),
        Sent::Parsed => check_text(array, None, misfits),
        Sent::Numeric(limit) => check_numeric(array, *limit, server_version, misfits),
        Sent::Date if array.data_type() == &DataType::Date32 => {
            let infinite = |v: i32| column.infinite && (v == i32::MIN || v == i32::MAX);
            let held = |v: i32| infinite(v) || v.checked_sub(EPOCH_DAYS).is_some_and(|v| DATES.contains(&v));
            find(array.as_primitive::<Date32Type>(), held, Reason::OutOfRange, misfits);
        }
        Sent::Timestamp { digits, .. } if matches!(array.data_type(), DataType::Timestamp(..)) => {
            let step = 10i64.pow(6 - u32::from((*digits).min(6)));
            let infinite = |v: i64| column.infinite && (v == i64::MIN || v == i64::MAX);
            let held = |v: i64| infinite(v) || v.checked_sub(EPOCH_MICROS).is_some_and(|v| TIMESTAMPS.contains(&v));
            let values = array.as_primitive::<TimestampMicrosecondType>();
            find(values, held, Reason::OutOfRange, misfits);
            if step > 1 {
                find(values, |v| infinite(v) || v % step == 0, Reason::NotRepresentable, misfits);
            }
        }
        Sent::Time(digits) if matches!(array.data_type(), DataType::Time64(_)) => {
            let step = 10i64.pow(6 - u32::from((*digits).min(6)));
            let values = array.as_primitive::<Time64MicrosecondType>();
            find(values, |v| (0..=DAY_MICROS).contains(&v), Reason::OutOfRange, misfits);
            find(values, |v| v % step == 0, Reason::NotRepresentable, misfits);
        }
        Sent::Interval if matches!(array.data_type(), DataType::Interval(_)) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            find(values, |v| v.nanoseconds % 1_000 == 0, Reason::NotRepresentable, misfits);
        }
        _ => {}
    }
}

fn find<T: arrow_array::ArrowPrimitiveType>(
    array: &arrow_array::PrimitiveArray<T>,
    held: impl Fn(T::Native) -> bool,
    reason: Reason,
    misfits: &mut Vec<Misfit>,
) {
    // One cheap pass first: nearly always everything is held. Values under nulls are arbitrary, so only the second pass decides.
    if array.values().iter().all(|v| held(*v)) {
        return;
    }
    let bad = (0..array.len()).filter(|row| array.is_valid(*row) && !held(array.value(*row)));
    misfits.extend(bad.map(|row| Misfit { row, reason }));
}

fn check_text(array: &ArrayRef, limit: Option<u32>, misfits: &mut Vec<Misfit>) {
    let Some((bytes, all)) = text_of(array) else { return };
    if memchr::memchr(0, all).is_some() {
        find_bytes(array, bytes, Reason::NotRepresentable, misfits, |v| memchr::memchr(0, v).is_none());
    }
    if let Some(limit) = limit {
        let limit = limit as usize;
        let held = |v: &[u8]| v.len() <= limit || v.iter().filter(|b| (**b as i8) >= -0x40).count() <= limit;
        find_bytes(array, bytes, Reason::TooLarge, misfits, held);
    }
}

fn check_json(array: &ArrayRef, misfits: &mut Vec<Misfit>) {
    let Some((bytes, all)) = text_of(array) else { return };
    if memchr::memchr(0, all).is_some() || memchr::memmem::find(all, br"\u0000").is_some() {
        find_bytes(array, bytes, Reason::NotRepresentable, misfits, |v| memchr::memchr(0, v).is_none() && !escapes_nul(v));
    }
}

/// Whether a JSON text holds `\u0000` as an escape: an even run of backslashes before it would be text.
fn escapes_nul(json: &[u8]) -> bool {
    memchr::memmem::find_iter(json, br"\u0000").any(|at| json[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0)
}

fn find_bytes(array: &ArrayRef, bytes: Bytes<'_>, reason: Reason, misfits: &mut Vec<Misfit>, held: impl Fn(&[u8]) -> bool) {
    let bad = (0..array.len()).filter(|row| array.is_valid(*row) && !held(bytes.get(*row)));
    misfits.extend(bad.map(|row| Misfit { row, reason }));
}

/// A text column's values, and the part of the buffer that they share.
fn text_of(array: &ArrayRef) -> Option<(Bytes<'_>, &[u8])> {
    let bytes = bytes_of(array)?;
    let all = match bytes {
        Bytes::Short(offsets, data) => &data[*offsets.first()? as usize..*offsets.last()? as usize],
        Bytes::Long(offsets, data) => &data[*offsets.first()? as usize..*offsets.last()? as usize],
    };
    Some((bytes, all))
}

fn check_numeric(array: &ArrayRef, limit: Option<(u16, i16)>, server_version: u32, misfits: &mut Vec<Misfit>) {
    match array.data_type() {
        DataType::Decimal128(p, s) => {
            let Some((precision, scale)) = limit.filter(|l| !holds(*l, *p, *s)) else { return };
            let divisor = i128::from(*s as i16 - scale).max(0);
            let (Some(step), room) = (10i128.checked_pow(divisor as u32), i32::from(precision) - i32::from(scale) + i32::from(*s)) else {
                return;
            };
            let most = u32::try_from(room).ok().and_then(|r| 10i128.checked_pow(r)).unwrap_or(if room < 0 { 1 } else { i128::MAX });
            let values = array.as_primitive::<Decimal128Type>();
            find(values, |v| v.unsigned_abs() < most.unsigned_abs(), Reason::OutOfRange, misfits);
            find(values, |v| v % step == 0, Reason::NotRepresentable, misfits);
        }
        DataType::Decimal256(p, s) => {
            let Some(limit) = limit.filter(|l| !holds(*l, *p, *s)) else { return };
            let held = |v: i256| {
                let text = super::encode_numeric::decimal_text(&v.to_string(), i16::from(*s));
                Decimal::parse(text.as_bytes()).is_some_and(|d| d.fits(limit.0, limit.1))
            };
            find(array.as_primitive::<Decimal256Type>(), held, Reason::OutOfRange, misfits);
        }
        _ => {
            let Some(bytes) = bytes_of(array) else { return };
            let held = |v: &[u8]| match Decimal::parse(v) {
                None => false,
                Some(Decimal::Special(Special::Infinity | Special::NegativeInfinity)) if server_version < 140_000 => false,
                Some(d) => limit.is_none_or(|(p, s)| d.fits(p, s)),
            };
            find_bytes(array, bytes, Reason::NotRepresentable, misfits, held);
        }
    }
}

/// Whether `numeric(precision, scale)` holds every value of a decimal type.
fn holds((precision, scale): (u16, i16), p: u8, s: i8) -> bool {
    i16::from(s) <= scale && i32::from(p) - i32::from(s) <= i32::from(precision) - i32::from(scale)
}

fn bytes_of(array: &ArrayRef) -> Option<Bytes<'_>> {
    Some(match array.data_type() {
        DataType::Utf8 => {
            let a: &StringArray = array.as_string();
            Bytes::Short(a.value_offsets(), a.value_data())
        }
        DataType::LargeUtf8 => {
            let a = array.as_string::<i64>();
            Bytes::Long(a.value_offsets(), a.value_data())
        }
        DataType::Binary => {
            let a = array.as_binary::<i32>();
            Bytes::Short(a.value_offsets(), a.value_data())
        }
        DataType::LargeBinary => {
            let a = array.as_binary::<i64>();
            Bytes::Long(a.value_offsets(), a.value_data())
        }
        _ => return None,
    })
}

impl Fitted {
    /// The column as the encoder reads it.
    pub(super) fn column(&self) -> Result<Column<'_>> {
        let values = self.values().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a column has a type that its form is not written from").with("type", self.array.data_type())
        })?;
        let nulls = self.array.nulls();
        Ok(match &self.special {
            Some(special) => Column { nulls: None, values: Values::SpecialDecimal { decimal: Box::new(values), nulls, special } },
            None => Column { nulls, values },
        })
    }

    fn values(&self) -> Option<Values<'_>> {
        let array = &self.array;
        Some(match &self.sent {
            Sent::Bool => Values::Bool(array.as_boolean_opt().map(BooleanArray::values)?),
            Sent::Int2 => Values::I16(array.as_primitive_opt::<Int16Type>()?.values()),
            Sent::Int4 => Values::I32(array.as_primitive_opt::<Int32Type>()?.values()),
            Sent::Int8 => Values::I64(array.as_primitive_opt::<Int64Type>()?.values()),
            Sent::Oid => Values::U32(array.as_primitive_opt::<UInt32Type>()?.values()),
            Sent::Float4 => Values::F32(array.as_primitive_opt::<Float32Type>()?.values()),
            Sent::Float8 => Values::F64(array.as_primitive_opt::<Float64Type>()?.values()),
            Sent::Numeric(_) => match array.data_type() {
                DataType::Decimal128(_, scale) => {
                    Values::Decimal { values: array.as_primitive_opt::<Decimal128Type>()?.values(), scale: *scale }
                }
                DataType::Decimal256(_, scale) => {
                    Values::WideDecimal { values: array.as_primitive_opt::<Decimal256Type>()?.values(), scale: *scale }
                }
                _ => Values::DecimalText(bytes_of(array)?),
            },
            Sent::Text(_) | Sent::Parsed => Values::Text(bytes_of(array)?),
            Sent::Jsonb => Values::Jsonb(bytes_of(array)?),
            Sent::Bytea => Values::Bytea(bytes_of(array)?),
            Sent::Uuid => Values::Uuid(array.as_fixed_size_binary_opt()?.value_data()),
            Sent::Date => Values::Date { values: array.as_primitive_opt::<Date32Type>()?.values(), infinite: self.infinite },
            Sent::Time(_) => Values::Time(array.as_primitive_opt::<Time64MicrosecondType>()?.values()),
            Sent::Timestamp { zoned, .. } => Values::Timestamp {
                values: array.as_primitive_opt::<TimestampMicrosecondType>()?.values(),
                infinite: self.infinite,
                zoned: *zoned,
            },
            Sent::Interval => Values::Interval(array.as_primitive_opt::<IntervalMonthDayNanoType>()?.values()),
        })
    }
}
