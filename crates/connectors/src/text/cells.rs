//! A column of values on its way to text: typed once, then written row by row without looking at its type again.

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int64Array, LargeStringArray,
    StringArray, StringViewArray, UInt64Array, cast::AsArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::{
    Error, ErrorKind, Result,
    native::{self, INFINITY},
    nested,
};

use super::write::{self, Zone};

/// A column in the form that it is written from.
pub(crate) enum Cells {
    Null,
    Int(Int64Array),
    UInt(UInt64Array),
    Bool(BooleanArray),
    Float(Float32Array),
    Double(Float64Array),
    Text(StringArray),
    LargeText(LargeStringArray),
    ViewText(StringViewArray),
    Blob(BinaryArray),
    Decimal(Decimal128Array, u8, i8),
    Wide(Decimal256Array, i8),
    Date(Int64Array, Ends),
    Instant(Int64Array, TimeUnit, Zone, Ends),
    Time(Int64Array),
    /// JSON documents: lists, structs and maps.
    Json(StringArray),
}

/// Which values stand for the infinities, where the field says that its extremes do.
#[derive(Clone, Copy)]
pub(crate) struct Ends(Option<(i64, i64)>);

impl Ends {
    fn of(field: &Field, low: i64, high: i64) -> Self {
        Self(native::has_mark(field, INFINITY).then_some((low, high)))
    }
    fn name(self, value: i64) -> Option<&'static [u8]> {
        match self.0 {
            Some((low, _)) if value == low => Some(b"-infinity"),
            Some((_, high)) if value == high => Some(b"infinity"),
            _ => None,
        }
    }
}

impl Cells {
    /// `field` is the column's where it goes: values of another type are cast to it without rounding.
    pub fn of(array: &ArrayRef, field: &Field) -> Result<Self> {
        use DataType::*;
        let array = if array.data_type() == field.data_type() { array.clone() } else { strict(array, field.data_type())? };
        let long = |a: &ArrayRef| strict(a, &Int64).map(|a| a.as_primitive().clone());
        Ok(match field.data_type() {
            Null => Self::Null,
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Duration(_) => Self::Int(long(&array)?),
            UInt64 => Self::UInt(array.as_primitive().clone()),
            Boolean => Self::Bool(array.as_boolean().clone()),
            Float16 | Float32 => Self::Float(strict(&array, &Float32)?.as_primitive().clone()),
            Float64 => Self::Double(array.as_primitive().clone()),
            Utf8 => Self::Text(array.as_string().clone()),
            LargeUtf8 => Self::LargeText(array.as_string().clone()),
            Utf8View => Self::ViewText(array.as_string_view().clone()),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Self::Blob(strict(&array, &Binary)?.as_binary().clone()),
            Decimal128(precision, scale) => Self::Decimal(array.as_primitive().clone(), *precision, *scale),
            Decimal256(_, scale) => Self::Wide(array.as_primitive().clone(), *scale),
            Date32 => Self::Date(long(&strict(&array, &Int32)?)?, Ends::of(field, i64::from(i32::MIN), i64::from(i32::MAX))),
            Date64 => Self::Date(long(&strict(&strict(&array, &Date32)?, &Int32)?)?, Ends(None)),
            Timestamp(unit, zone) => {
                let zone = if zone.is_some() { Zone::Utc } else { Zone::None };
                Self::Instant(long(&array)?, *unit, zone, Ends::of(field, i64::MIN, i64::MAX))
            }
            Time32(_) | Time64(_) => Self::Time(long(&strict(&array, &Time64(TimeUnit::Nanosecond))?)?),
            kind if kind.is_nested() => Self::Json(nested::json_texts(field.name(), &array)?),
            _ => Self::Text(strict(&array, &Utf8)?.as_string().clone()),
        })
    }
    /// The same for a text file, where a UUID has its own form instead of a binary's.
    pub fn of_text(array: &ArrayRef, field: &Field) -> Result<Self> {
        match array.as_fixed_size_binary_opt() {
            Some(uuids)
                if uuids.value_length() == 16 && field.metadata().get("ARROW:extension:name").is_some_and(|n| n == "arrow.uuid") =>
            {
                Ok(Self::Text(uuids.iter().map(|u| u.and_then(|u| uuid::Uuid::from_slice(u).ok()).map(|u| u.to_string())).collect()))
            }
            _ => Self::of(array, field),
        }
    }
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Int(a) | Self::Date(a, _) | Self::Instant(a, ..) | Self::Time(a) => a.is_null(row),
            Self::UInt(a) => a.is_null(row),
            Self::Bool(a) => a.is_null(row),
            Self::Float(a) => a.is_null(row),
            Self::Double(a) => a.is_null(row),
            Self::Text(a) | Self::Json(a) => a.is_null(row),
            Self::LargeText(a) => a.is_null(row),
            Self::ViewText(a) => a.is_null(row),
            Self::Blob(a) => a.is_null(row),
            Self::Decimal(a, ..) => a.is_null(row),
            Self::Wide(a, _) => a.is_null(row),
        }
    }
    /// The text of a value that is text already.
    pub fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Text(a) | Self::Json(a) => Some(a.value(row)),
            Self::LargeText(a) => Some(a.value(row)),
            Self::ViewText(a) => Some(a.value(row)),
            _ => None,
        }
    }
    /// Writes a value that is not null, bare; `between` stands between a date and its time. Bytes become hexadecimal digits.
    pub fn write(&self, row: usize, between: u8, out: &mut Vec<u8>) {
        match self {
            Self::Null => {}
            Self::Int(a) => write::integer(out, a.value(row)),
            Self::UInt(a) => write::natural(out, a.value(row)),
            Self::Bool(a) => out.extend_from_slice(if a.value(row) { b"true" } else { b"false" }),
            Self::Float(a) => write::float(out, a.value(row)),
            Self::Double(a) => write::double(out, a.value(row)),
            Self::Text(a) | Self::Json(a) => out.extend_from_slice(a.value(row).as_bytes()),
            Self::LargeText(a) => out.extend_from_slice(a.value(row).as_bytes()),
            Self::ViewText(a) => out.extend_from_slice(a.value(row).as_bytes()),
            Self::Blob(a) => write::hex(out, a.value(row)),
            Self::Decimal(a, _, scale) => write::decimal(out, a.value(row), *scale),
            Self::Wide(a, scale) => write::decimal_text(out, &a.value(row).to_string(), *scale),
            Self::Date(a, ends) => match ends.name(a.value(row)) {
                Some(name) => out.extend_from_slice(name),
                None => write::date(out, a.value(row)),
            },
            Self::Instant(a, unit, zone, ends) => match ends.name(a.value(row)) {
                Some(name) => out.extend_from_slice(name),
                None => write::instant(out, a.value(row), *unit, between, *zone),
            },
            Self::Time(a) => write::time(out, a.value(row), TimeUnit::Nanosecond),
        }
    }
}

/// A cast that fails rather than make a null.
pub(crate) fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|_| Error::new(ErrorKind::DataInvalid, "a value does not fit its column's type").with("type", to))
}
