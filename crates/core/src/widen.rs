//! Which type can hold every value of two types. A pure table: nothing here loses a digit.

use arrow_schema::{DataType, Field, TimeUnit};

use crate::native;

/// The narrowest type that holds every value of both, or none. `Utf8` is the top, except for binary and nested types.
pub fn widen(from: &DataType, to: &DataType) -> Option<DataType> {
    use DataType::*;
    if from == to {
        return Some(from.clone());
    }
    let numeric = |d: &DataType| match d {
        Int8 => Some((true, 8u8)),
        Int16 => Some((true, 16)),
        Int32 => Some((true, 32)),
        Int64 => Some((true, 64)),
        UInt8 => Some((false, 8)),
        UInt16 => Some((false, 16)),
        UInt32 => Some((false, 32)),
        UInt64 => Some((false, 64)),
        _ => None,
    };
    let int = |signed: bool, bits: u8| match (signed, bits) {
        (true, ..=8) => Int8,
        (true, ..=16) => Int16,
        (true, ..=32) => Int32,
        (true, ..=64) => Int64,
        (true, _) => Decimal128(20, 0),
        (false, ..=8) => UInt8,
        (false, ..=16) => UInt16,
        (false, ..=32) => UInt32,
        (false, _) => UInt64,
    };
    if let (Some((sa, ba)), Some((sb, bb))) = (numeric(from), numeric(to)) {
        return Some(match (sa, sb) {
            (a, b) if a == b => int(a, ba.max(bb)),
            // A signed type holds an unsigned one of half its width.
            (true, false) => int(true, ba.max(bb * 2)),
            _ => int(true, bb.max(ba * 2)),
        });
    }
    // Doubles hold integers up to 2^53 exactly: 64-bit ones do not fit.
    let small_int = |d: &DataType| matches!(d, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32);
    match (from, to) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Float32, Float64) | (Float64, Float32) => Some(Float64),
        (Float32 | Float64, other) | (other, Float32 | Float64) if small_int(other) => Some(Float64),
        (Decimal128(p1, s1) | Decimal256(p1, s1), Decimal128(p2, s2) | Decimal256(p2, s2)) => decimal(*p1, *s1, *p2, *s2),
        (Decimal128(p, s) | Decimal256(p, s), other) | (other, Decimal128(p, s) | Decimal256(p, s)) if numeric(other).is_some() => {
            decimal(*p, *s, digits(other), 0)
        }
        (Timestamp(a, za), Timestamp(b, zb)) if za.is_some() == zb.is_some() => Some(Timestamp(finer(*a, *b), za.clone())),
        (Date32, Timestamp(unit, None)) | (Timestamp(unit, None), Date32) => Some(Timestamp(*unit, None)),
        (Utf8 | LargeUtf8 | Utf8View, LargeUtf8) | (LargeUtf8, Utf8 | Utf8View) => Some(LargeUtf8),
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary | LargeBinary | BinaryView | FixedSizeBinary(_)) => Some(Binary),
        (a, Utf8 | Utf8View) | (Utf8 | Utf8View, a) if scalar(a) => Some(Utf8),
        (a, b) if scalar(a) && scalar(b) => Some(Utf8),
        _ => None,
    }
}

/// How many decimal digits an integer type can need.
fn digits(integer: &DataType) -> u8 {
    match integer {
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        _ => 20,
    }
}

fn decimal(p1: u8, s1: i8, p2: u8, s2: i8) -> Option<DataType> {
    let scale = s1.max(s2);
    let whole = (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2));
    let precision = whole + i16::from(scale);
    match u8::try_from(precision).ok()? {
        p @ 1..=38 => Some(DataType::Decimal128(p, scale)),
        p @ 39..=76 => Some(DataType::Decimal256(p, scale)),
        _ => Some(DataType::Utf8),
    }
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |u: TimeUnit| match u {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn scalar(d: &DataType) -> bool {
    !d.is_nested() && !matches!(d, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// The field that holds the values of both: widened type, nullable if either is, marks kept only where both agree.
pub fn widen_field(stands: &Field, next: &Field) -> Option<Field> {
    let data_type = widen(stands.data_type(), next.data_type())?;
    let mut field = Field::new(stands.name(), data_type, stands.is_nullable() || next.is_nullable());
    let marks = stands.metadata().iter().filter(|(k, v)| next.metadata().get(*k) == Some(*v));
    field.set_metadata(marks.map(|(k, v)| (k.clone(), v.clone())).collect());
    if native::has_mark(stands, native::INFINITY) && field.data_type().is_temporal() {
        field = native::with_mark(field, native::INFINITY, "");
    }
    Some(field)
}

#[cfg(test)]
mod tests {
    use DataType::*;

    use super::*;

    #[test]
    fn nothing_that_widens_loses_a_digit() {
        assert_eq!(widen(&Int32, &Int64), Some(Int64));
        assert_eq!(widen(&Int64, &Float64), Some(Utf8), "doubles round above 2^53");
        assert_eq!(widen(&Int32, &Float64), Some(Float64));
        assert_eq!(widen(&UInt32, &Int32), Some(Int64));
        assert_eq!(widen(&UInt64, &Int64), Some(Decimal128(20, 0)));
        assert_eq!(widen(&Decimal128(10, 2), &Decimal128(12, 4)), Some(Decimal128(12, 4)));
        assert_eq!(widen(&Decimal128(38, 0), &Decimal128(38, 10)), Some(Decimal256(48, 10)));
        assert_eq!(widen(&Decimal128(12, 2), &Int32), Some(Decimal128(12, 2)));
        assert_eq!(widen(&Int64, &Decimal128(10, 2)), Some(Decimal128(21, 2)));
        assert_eq!(widen(&Boolean, &Utf8), Some(Utf8));
        assert_eq!(widen(&Binary, &Utf8), None);
    }
}
