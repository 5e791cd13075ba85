//! Which type a text is a value of, so that the text can be made again from the value. When in doubt it stays text.

use arrow_schema::{DataType, TimeUnit};
use linkspan_core::widen::widen;

use crate::text::parse;

/// The most digits after the point that count as a decimal; longer ones are doubles, when they are exact.
const MOST_SCALE: usize = 9;

/// What kind of cell a text came from: CSV says nothing, JSON and Excel say a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unquoted or quoted CSV field: the text alone tells.
    Plain,
    Number,
    Bool,
    /// A text that is a text whatever it looks like.
    Text,
    Temporal,
    /// A JSON object or array.
    Json,
}

/// The narrowest type whose values give this text back. `Null` for nothing at all.
pub(super) fn type_of(text: &[u8], kind: Kind) -> DataType {
    let found = match kind {
        Kind::Text | Kind::Json => None,
        Kind::Bool => parse_bool(text).map(|_| DataType::Boolean),
        Kind::Number => number(text),
        Kind::Temporal => temporal(text),
        Kind::Plain => match text.first() {
            // `1e5` alone may be a code; only among doubles is it a number.
            Some(b'0'..=b'9' | b'-' | b'.') if text.iter().any(|b| matches!(b, b'e' | b'E')) => None,
            Some(b'0'..=b'9' | b'-' | b'.') => number(text).or_else(|| temporal(text)),
            Some(b't' | b'f' | b'T' | b'F') => parse_bool(text).map(|_| DataType::Boolean),
            _ => None,
        },
    };
    found.unwrap_or(DataType::Utf8)
}

fn number(text: &[u8]) -> Option<DataType> {
    if parse_i64(text).is_some() {
        return Some(DataType::Int64);
    }
    if let Some((digits, scale)) = decimal_shape(text)
        && scale <= MOST_SCALE
        && digits <= 38
    {
        return Some(decimal(digits, scale));
    }
    parse_f64(text).map(|_| DataType::Float64)
}

/// Room for growth: most columns of money and measures stay within 18 digits, which pack into 8 bytes.
fn decimal(digits: usize, scale: usize) -> DataType {
    DataType::Decimal128(if digits.max(scale + 1) <= 18 { 18 } else { 38 }, scale as i8)
}

fn temporal(text: &[u8]) -> Option<DataType> {
    if parse_date(text).is_some() {
        return Some(DataType::Date32);
    }
    parse_timestamp(text).map(|t| DataType::Timestamp(TimeUnit::Microsecond, t.zoned.then(|| "UTC".into())))
}

/// The type that holds both, for a column. Types that do not meet become text; two decimals keep room for both.
pub(super) fn join(a: &DataType, b: &DataType) -> DataType {
    use DataType::*;
    match (a, b) {
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            // 18 and 38 are classes, not counts: a value that really needs more is met, and moves its column up, when it is parsed.
            Decimal128(*p1.max(p2), *s1.max(s2))
        }
        // An integer column that meets decimals: the integers seen so far may have 19 digits.
        (Int64, Decimal128(_, s)) | (Decimal128(_, s), Int64) => Decimal128(38, *s),
        (Boolean, Int64 | Float64 | Decimal128(..)) | (Int64 | Float64 | Decimal128(..), Boolean) => Utf8,
        (Timestamp(..) | Date32, Int64 | Float64 | Decimal128(..) | Boolean)
        | (Int64 | Float64 | Decimal128(..) | Boolean, Timestamp(..) | Date32) => Utf8,
        // `2024-01-01` is not `2024-01-01 00:00:00`: as text both stay what they are.
        (Timestamp(..), Date32) | (Date32, Timestamp(..)) => Utf8,
        _ => widen(a, b).unwrap_or(Utf8),
    }
}

pub(super) fn parse_bool(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// An integer in its one form: no plus, no leading zeros, no `-0`.
pub(super) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && (digits.len() > 1 || negative)) {
        return None;
    }
    let mut value: u64 = 0;
    for b in digits {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(d)); // 19 digits fit a u64
    }
    if negative { (value <= 1 << 63).then(|| (value as i64).wrapping_neg()) } else { i64::try_from(value).ok() }
}

/// Digits and scale of a plain decimal: `-?(0|[1-9][0-9]*)\.[0-9]+`, or an integer too long for 64 bits.
fn decimal_shape(text: &[u8]) -> Option<(usize, usize)> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let point = digits.iter().position(|b| *b == b'.');
    let (whole, fraction) = match point {
        Some(p) => (&digits[..p], &digits[p + 1..]),
        None => (digits, &digits[..0]),
    };
    let plain = |d: &[u8]| d.iter().all(u8::is_ascii_digit);
    let canonical = !whole.is_empty() && (whole[0] != b'0' || whole.len() == 1) && (point.is_none() || !fraction.is_empty());
    let negative_zero = text.starts_with(b"-") && digits.iter().all(|b| matches!(b, b'0' | b'.'));
    (canonical && !negative_zero && plain(whole) && plain(fraction)).then_some((whole.len() + fraction.len(), fraction.len()))
}

/// The unscaled value at `scale`; nothing when the text has more digits after the point or does not fit the precision.
pub(super) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 40 || (digits[0] == b'0' && digits.len() > 1 && digits[1] != b'.') {
        return None;
    }
    let (mut value, mut fraction, mut point): (i128, i8, bool) = (0, 0, false);
    let mut small: u64 = 0;
    if digits.len() <= 18 {
        for b in digits {
            match b {
                b'0'..=b'9' => (small, fraction) = (small * 10 + u64::from(b - b'0'), fraction + i8::from(point)),
                b'.' if !point => point = true,
                _ => return None,
            }
        }
        value = i128::from(small);
    } else {
        for b in digits {
            match b {
                b'0'..=b'9' => (value, fraction) = (value.checked_mul(10)?.checked_add(i128::from(b - b'0'))?, fraction + i8::from(point)),
                b'.' if !point => point = true,
                _ => return None,
            }
        }
    }
    if digits[0] == b'.' || (point && fraction == 0) || fraction > scale || (negative && value == 0) {
        return None;
    }
    let value = value.checked_mul(POWERS[(scale - fraction) as usize])?;
    let fits = value < POWERS[usize::from(precision)];
    fits.then_some(if negative { -value } else { value })
}

const POWERS: [i128; 39] = {
    let mut p = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        p[i] = p[i - 1] * 10;
        i += 1;
    }
    p
};

/// A double only when it prints as it was written, so that no digit is lost; never `NaN`, `inf` or hexadecimal words.
pub(super) fn parse_f64(text: &[u8]) -> Option<f64> {
    if !text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E')) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let same = value.is_finite() && (value.to_string() == text || format!("{value:?}") == text || format!("{value:e}") == text);
    same.then_some(value)
}

/// Days since 1970 of `YYYY-MM-DD`, in years 1 to 9999.
pub(super) fn parse_date(text: &[u8]) -> Option<i32> {
    let plain = text.len() == 10 && text[0].is_ascii_digit() && !text.starts_with(b"0000");
    i32::try_from(parse::date(text).filter(|_| plain)?).ok()
}

pub(super) struct Instant {
    pub micros: i64,
    pub zoned: bool,
}

/// `YYYY-MM-DD[T ]HH:MM:SS[.f][Z|±HH[:MM]]`. The instant is exact; a zone other than UTC is not kept.
pub(super) fn parse_timestamp(text: &[u8]) -> Option<Instant> {
    parse_date(text.get(..10)?)?;
    let instant = parse::instant(text).filter(|_| text[10] != b't')?;
    Some(Instant { micros: instant.ticks(TimeUnit::Microsecond)?, zoned: instant.zoned })
}

#[cfg(test)]
mod tests {
    use DataType::*;

    use super::*;

    fn of(text: &str) -> DataType {
        type_of(text.as_bytes(), Kind::Plain)
    }

    #[test]
    fn what_would_lose_a_digit_stays_text() {
        for text in ["007", "+1", "1e5", "1,5", "0x1f", "NaN", "inf", "01.5", ".5", "5.", "1_000", "yes", "12:30", "2024-02-30", "2024-1-1"]
        {
            assert_eq!(of(text), Utf8, "{text}");
        }
        assert_eq!(of("123456789012345678901234567890123456789"), Utf8, "39 digits fit no decimal of ours");
        assert_eq!(of("2024-01-01T00:00:00.1234567Z"), Utf8, "a tenth of a microsecond would be lost");
    }

    #[test]
    fn plain_values_have_their_types() {
        assert_eq!(of("0"), Int64);
        assert_eq!(of("-9223372036854775808"), Int64);
        assert_eq!(of("9223372036854775808"), Decimal128(38, 0));
        assert_eq!(of("12.50"), Decimal128(18, 2));
        assert_eq!(of("0.12345678901234"), Float64);
        assert_eq!(of("-0"), Float64, "only a double has a negative zero");
        assert_eq!(of("TRUE"), Boolean);
        assert_eq!(of("2024-02-29"), Date32);
        assert_eq!(of("2024-02-29 10:00:00"), Timestamp(TimeUnit::Microsecond, None));
        assert_eq!(of("2024-02-29T10:00:00.5+02:00"), Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    }

    #[test]
    fn dates_count_days() {
        assert_eq!(parse_date(b"1970-01-01"), Some(0));
        assert_eq!(parse_date(b"2000-03-01"), Some(11_017));
        assert_eq!(parse_date(b"0001-01-01"), Some(-719_162));
        assert_eq!(parse_date(b"9999-12-31"), Some(2_932_896));
        assert_eq!(parse_timestamp(b"1970-01-01 01:00:00.000001+01").unwrap().micros, 1);
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(parse_decimal(b"12.5", 18, 2), Some(1250));
        assert_eq!(parse_decimal(b"-0.01", 18, 2), Some(-1));
        assert_eq!(parse_decimal(b"12.555", 18, 2), None);
        assert_eq!(parse_decimal(b"99999999999999999999999999999999999999", 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(join(&Int64, &Decimal128(18, 2)), Decimal128(38, 2));
        assert_eq!(join(&Date32, &Timestamp(TimeUnit::Microsecond, None)), Utf8);
    }
}
