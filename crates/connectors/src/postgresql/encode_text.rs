//! Rows as PostgreSQL's text COPY stream, for tables with a type whose binary form only the server knows (arrays, ranges,
//! addresses, types of extensions): it reads their text, and everything else is written so that the text reads back equal.

use std::{io::Write, sync::Arc};

use arrow_array::{Array, ArrayRef, builder::StringBuilder, cast::AsArray, types::IntervalMonthDayNano};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType};

use super::{
    encode::{Column, Values},
    encode_numeric::{Special, decimal_text},
};

const DAY_MICROS: i64 = 86_400_000_000;

/// Writes a batch's rows as lines.
pub(super) struct TextEncoder<'a> {
    columns: Vec<Column<'a>>,
    rows: usize,
    row: usize,
}

impl<'a> TextEncoder<'a> {
    pub(super) fn new(columns: Vec<Column<'a>>, rows: usize) -> Self {
        Self { columns, rows, row: 0 }
    }

    /// Appends rows until `limit` bytes are reached or the rows are at their end; true at the end.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) -> bool {
        while self.row < self.rows {
            if out.len() >= limit {
                return false;
            }
            for (at, column) in self.columns.iter().enumerate() {
                if at > 0 {
                    out.push(b'\t');
                }
                if column.is_null(self.row) {
                    out.extend_from_slice(b"\\N");
                } else {
                    push_value(out, &column.values, self.row);
                }
            }
            out.push(b'\n');
            self.row += 1;
        }
        true
    }
}

fn push_value(out: &mut Vec<u8>, values: &Values<'_>, row: usize) {
    match values {
        Values::Bool(v) => out.push(if v.value(row) { b't' } else { b'f' }),
        Values::I16(v) => put(out, format_args!("{}", v[row])),
        Values::I32(v) => put(out, format_args!("{}", v[row])),
        Values::U32(v) => put(out, format_args!("{}", v[row])),
        Values::I64(v) => put(out, format_args!("{}", v[row])),
        Values::Ordinal(first) => put(out, format_args!("{}", first + row as i64)),
        Values::F32(v) => push_float(out, v[row].is_finite(), v[row].into(), format_args!("{:e}", v[row])),
        Values::F64(v) => push_float(out, v[row].is_finite(), v[row], format_args!("{:e}", v[row])),
        Values::Decimal { values, scale } => {
            out.extend_from_slice(decimal_text(&values[row].to_string(), i16::from(*scale)).as_bytes());
        }
        Values::WideDecimal { values, scale } => {
            out.extend_from_slice(decimal_text(&values[row].to_string(), i16::from(*scale)).as_bytes());
        }
        Values::SpecialDecimal { decimal, nulls, special } => {
            if special.is_valid(row) {
                out.extend_from_slice(Special::of_code(special.value(row)).text().as_bytes());
            } else if nulls.is_some_and(|n| n.is_null(row)) {
                out.extend_from_slice(b"\\N");
            } else {
                push_value(out, decimal, row);
            }
        }
        Values::DecimalText(v) | Values::Text(v) | Values::Jsonb(v) => push_escaped(out, v.get(row)),
        Values::Bytea(v) => {
            out.extend_from_slice(b"\\\\x");
            push_hex(out, v.get(row));
        }
        Values::Uuid(v) => push_hex(out, &v[row * 16..row * 16 + 16]),
        Values::Date { values, infinite } => match values[row] {
            i32::MAX if *infinite => out.extend_from_slice(b"infinity"),
            i32::MIN if *infinite => out.extend_from_slice(b"-infinity"),
            days => {
                let era = push_day(out, days.into());
                out.extend_from_slice(era.as_bytes());
            }
        },
        Values::Time(v) => push_clock(out, v[row]),
        Values::Timestamp { values, infinite, zoned } => push_timestamp(out, values[row], *infinite, *zoned),
        Values::Interval(v) => push_interval(out, v[row]),
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

fn push_float(out: &mut Vec<u8>, finite: bool, value: f64, text: std::fmt::Arguments<'_>) {
    match (finite, value.is_nan(), value.is_sign_negative()) {
        (true, ..) => put(out, text),
        (_, true, _) => out.extend_from_slice(b"NaN"),
        (_, _, true) => out.extend_from_slice(b"-Infinity"),
        _ => out.extend_from_slice(b"Infinity"),
    }
}

/// COPY's own escapes: whatever ends a value or a line.
fn push_escaped(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends the day and returns what must follow the time: the era, for years before 1.
fn push_day(out: &mut Vec<u8>, days: i64) -> &'static str {
    let (year, month, day) = civil(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    put(out, format_args!("{year:04}-{month:02}-{day:02}"));
    era
}

/// Year, month and day of a count of days from 1970-01-01, in the calendar that is Gregorian for ever: years are counted from
/// March, so that the leap day is the last one of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn push_clock(out: &mut Vec<u8>, micros: i64) {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    put(out, format_args!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60));
}

fn push_timestamp(out: &mut Vec<u8>, micros: i64, infinite: bool, zoned: bool) {
    match micros {
        i64::MAX if infinite => return out.extend_from_slice(b"infinity"),
        i64::MIN if infinite => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let era = push_day(out, micros.div_euclid(DAY_MICROS));
    out.push(b' ');
    push_clock(out, micros.rem_euclid(DAY_MICROS));
    if zoned {
        out.extend_from_slice(b"+00");
    }
    out.extend_from_slice(era.as_bytes());
}

fn push_interval(out: &mut Vec<u8>, interval: IntervalMonthDayNano) {
    let micros = interval.nanoseconds / 1_000;
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (months, days) = (interval.months, interval.days);
    put(out, format_args!("P{months}M{days}DT{sign}{}.{:06}S", micros / 1_000_000, micros % 1_000_000));
}

/// Lists as the server's array literals: `{1,NULL,"a b"}`.
pub(super) fn array_literals(lists: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut texts = StringBuilder::new();
    let mut text = String::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        push_list(&mut text, lists, row)?;
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

fn push_list(text: &mut String, lists: &ArrayRef, row: usize) -> Result<(), ArrowError> {
    let items: ArrayRef = match lists.data_type() {
        DataType::List(_) => lists.as_list::<i32>().value(row),
        DataType::LargeList(_) => lists.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => lists.as_fixed_size_list().value(row),
        other => return Err(ArrowError::InvalidArgumentError(format!("{other} is no list"))),
    };
    text.push('{');
    let is_nested = matches!(items.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..));
    let options = FormatOptions::new();
    let formatter = (!is_nested).then(|| ArrayFormatter::try_new(&items, &options)).transpose()?;
    for item in 0..items.len() {
        if item > 0 {
            text.push(',');
        }
        match &formatter {
            _ if items.is_null(item) => text.push_str("NULL"),
            None => push_list(text, &items, item)?,
            Some(formatter) => {
                let prefix = if matches!(items.data_type(), DataType::Binary | DataType::LargeBinary) { "\\x" } else { "" };
                push_quoted(text, &format!("{prefix}{}", formatter.value(item).try_to_string()?));
            }
        }
    }
    text.push('}');
    Ok(())
}

fn push_quoted(text: &mut String, item: &str) {
    text.push('"');
    for c in item.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use arrow_array::{ListArray, types::Int32Type};

    use super::*;

    fn written(values: Values<'_>) -> String {
        let mut out = Vec::new();
        push_value(&mut out, &values, 0);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_far_from_ours_are_written_as_the_server_reads_them() {
        let day = |days| written(Values::Date { values: &[days], infinite: true });
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(-719_162), "0001-01-01");
        assert_eq!(day(-719_163), "0001-12-31 BC");
        assert_eq!(day(2_932_896), "9999-12-31");
        assert_eq!(day(19_782), "2024-02-29");
        assert_eq!(day(i32::MAX), "infinity");
        let at = |micros, zoned| written(Values::Timestamp { values: &[micros], infinite: true, zoned });
        assert_eq!(at(-1, false), "1969-12-31 23:59:59.999999");
        assert_eq!(at(253_402_300_799_999_999, true), "9999-12-31 23:59:59.999999+00");
        assert_eq!(at(-62_135_596_800_000_001, true), "0001-12-31 23:59:59.999999+00 BC");
        assert_eq!(at(i64::MIN, true), "-infinity");
    }

    #[test]
    fn nothing_in_a_text_ends_a_line() {
        let mut out = Vec::new();
        push_escaped(&mut out, b"a\tb\\N\nc\r");
        assert_eq!(out, b"a\\tb\\\\N\\nc\\r");
    }

    #[test]
    fn floats_and_intervals_read_back_equal() {
        assert_eq!(written(Values::F64(&[0.1])), "1e-1");
        assert_eq!(written(Values::F64(&[f64::NEG_INFINITY])), "-Infinity");
        assert_eq!(written(Values::F32(&[f32::NAN])), "NaN");
        let interval = IntervalMonthDayNano::new(-14, 3, -1_500_000_000);
        assert_eq!(written(Values::Interval(&[interval])), "P-14M3DT-1.500000S");
    }

    #[test]
    fn lists_become_array_literals() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]));
        let texts = array_literals(&lists).unwrap();
        let texts = texts.as_string::<i32>();
        assert_eq!((texts.value(0), texts.is_null(1), texts.value(2)), ("{\"1\",NULL}", true, "{}"));
        let mut quoted = String::new();
        push_quoted(&mut quoted, "a \"b\\");
        assert_eq!(quoted, "\"a \\\"b\\\\\"");
    }
}
