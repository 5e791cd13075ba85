//! What a column of a catalog holds, and how a JSON value becomes one of it: as it is, or nulled with a word about it.

use std::borrow::Cow;

use arrow_array::{
    ArrayRef,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
        TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, Field, TimeUnit};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::civil;
use linkspan_core::native::{DECIMAL_TEXT, JSON_TEXT, with_mark};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::program) enum Kind {
    Bool,
    Int,
    Float,
    /// A number of any length, as its digits.
    Big,
    Text,
    /// Everything, as JSON.
    Json,
    Date,
    Time,
    /// A moment.
    Instant,
    /// A date and a time without a zone.
    Civil,
    Bytes,
}

/// Why a value is not there as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::program) enum Lost {
    /// It is no value of the column's type.
    NotOfType,
    /// It is, and the column cannot hold it.
    TooLarge,
    /// It stands there with fewer digits than it came with.
    Rounded,
}

impl Kind {
    /// The kind of a property of a JSON schema.
    pub(in crate::program) fn of(property: &Value) -> Self {
        let kinds: Vec<&str> = match property.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return Self::of_alternatives(property),
        };
        let kinds: Vec<&str> = kinds.into_iter().filter(|kind| *kind != "null").collect();
        let said = property.get("airbyte_type").and_then(Value::as_str).unwrap_or_default();
        match kinds.as_slice() {
            ["boolean"] => Self::Bool,
            ["integer"] if said == "big_integer" => Self::Big,
            ["integer"] => Self::Int,
            ["number"] | ["number", "integer"] | ["integer", "number"] => match said {
                "integer" => Self::Int,
                "big_number" | "big_integer" => Self::Big,
                _ => Self::Float,
            },
            ["string"] => Self::of_text(property, said),
            _ => Self::Json,
        }
    }

    /// One alternative beside null is that one; several are told apart by nobody but JSON.
    fn of_alternatives(property: &Value) -> Self {
        let all = ["oneOf", "anyOf"].into_iter().find_map(|key| property.get(key)?.as_array());
        let mut kinds = all.into_iter().flatten().filter(|one| one["type"] != "null").map(Self::of);
        match (kinds.next(), kinds.next()) {
            (Some(one), None) => one,
            _ => Self::Json,
        }
    }

    fn of_text(property: &Value, said: &str) -> Self {
        let format = property.get("format").and_then(Value::as_str).unwrap_or_default();
        match (format, said) {
            (_, "big_number" | "big_integer") => Self::Big,
            ("date", _) => Self::Date,
            ("date-time", "timestamp_without_timezone") => Self::Civil,
            ("date-time", _) => Self::Instant,
            ("time", "time_without_timezone") => Self::Time,
            _ if property.get("contentEncoding").is_some_and(|e| e == "base64") => Self::Bytes,
            _ => Self::Text,
        }
    }

    pub(in crate::program) fn field(self, name: &str) -> Field {
        let of = |kind| Field::new(name, kind, true);
        match self {
            Self::Bool => of(DataType::Boolean),
            Self::Int => of(DataType::Int64),
            Self::Float => of(DataType::Float64),
            Self::Big => with_mark(of(DataType::Utf8), DECIMAL_TEXT, ""),
            Self::Text => of(DataType::Utf8),
            Self::Json => with_mark(of(DataType::Utf8), JSON_TEXT, ""),
            Self::Date => of(DataType::Date32),
            Self::Time => of(DataType::Time64(TimeUnit::Microsecond)),
            Self::Instant => of(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            Self::Civil => of(DataType::Timestamp(TimeUnit::Microsecond, None)),
            Self::Bytes => of(DataType::Binary),
        }
    }

    pub(in crate::program) fn values(self) -> Values {
        match self {
            Self::Bool => Values::Bool(BooleanBuilder::new()),
            Self::Int => Values::Int(Int64Builder::new()),
            Self::Float => Values::Float(Float64Builder::new()),
            Self::Big | Self::Text | Self::Json => Values::Text(StringBuilder::new()),
            Self::Date => Values::Date(Date32Builder::new()),
            Self::Time => Values::Time(Time64MicrosecondBuilder::new()),
            Self::Instant => Values::Stamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Self::Civil => Values::Stamp(TimestampMicrosecondBuilder::new()),
            Self::Bytes => Values::Bytes(BinaryBuilder::new()),
        }
    }
}

/// A column's values as they gather.
pub(in crate::program) enum Values {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Stamp(TimestampMicrosecondBuilder),
    Bytes(BinaryBuilder),
}

impl Values {
    pub(in crate::program) fn null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Float(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Stamp(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
        }
    }

    /// Takes a value in, given as the JSON text that it came in. What it could not take is null, or rounded.
    pub(in crate::program) fn put(&mut self, kind: Kind, raw: &str) -> Option<Lost> {
        let lost = match self {
            Self::Bool(b) => boolean(raw).map(|v| b.append_value(v)).err(),
            Self::Int(b) => integer(raw).map(|v| b.append_value(v)).err(),
            Self::Float(b) => match float(raw) {
                Ok((value, lost)) => {
                    b.append_value(value);
                    return lost;
                }
                Err(lost) => Some(lost),
            },
            Self::Text(b) => match kind {
                Kind::Json => {
                    b.append_value(raw);
                    None
                }
                Kind::Big => big(raw).map(|v| b.append_value(v)).err(),
                _ => {
                    b.append_value(text(raw).as_deref().unwrap_or(raw));
                    None
                }
            },
            Self::Date(b) => date(raw).map(|v| b.append_value(v)).err(),
            Self::Time(b) => time(raw).map(|v| b.append_value(v)).err(),
            Self::Stamp(b) => moment(raw, kind).map(|v| b.append_value(v)).err(),
            Self::Bytes(b) => bytes(raw).map(|v| b.append_value(v)).err(),
        };
        if lost.is_some() {
            self.null();
        }
        lost
    }

    pub(in crate::program) fn finish(&mut self) -> ArrayRef {
        use std::sync::Arc;
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Stamp(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
        }
    }
}

/// The text of a JSON string; `None` for anything else.
pub(in crate::program) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// A number's text, or a text that is a number.
fn numeric(raw: &str) -> Result<Cow<'_, str>, Lost> {
    match text(raw) {
        Some(text) => Ok(Cow::Owned(text.trim().to_owned())),
        None if is_number(raw) => Ok(Cow::Borrowed(raw)),
        None => Err(Lost::NotOfType),
    }
}

fn boolean(raw: &str) -> Result<bool, Lost> {
    match text(raw).as_deref().unwrap_or(raw) {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Lost::NotOfType),
    }
}

fn integer(raw: &str) -> Result<i64, Lost> {
    let number = numeric(raw)?;
    if let Ok(value) = number.parse() {
        return Ok(value);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(number.strip_prefix('-').unwrap_or(&number)) {
        return Err(Lost::TooLarge);
    }
    // `1.0` and `1e3` are integers as well; where a double no longer counts one by one, nobody knows which.
    match number.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 => Ok(value as i64),
        Ok(value) if value.fract() == 0.0 => Err(Lost::TooLarge),
        _ => Err(Lost::NotOfType),
    }
}

fn float(raw: &str) -> Result<(f64, Option<Lost>), Lost> {
    let number = numeric(raw)?;
    match &*number {
        "NaN" => return Ok((f64::NAN, None)),
        "Infinity" => return Ok((f64::INFINITY, None)),
        "-Infinity" => return Ok((f64::NEG_INFINITY, None)),
        _ => {}
    }
    let value: f64 = Some(&*number).filter(|n| is_number(n)).and_then(|n| n.parse().ok()).ok_or(Lost::NotOfType)?;
    if value.is_infinite() {
        return Err(Lost::TooLarge);
    }
    let given = significant(&number);
    let is_exact = given.len() <= 15 || given == significant(&format!("{value:e}"));
    Ok((value, (!is_exact).then_some(Lost::Rounded)))
}

/// The digits that count, without what only places the point.
fn significant(number: &str) -> String {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches('0').trim_end_matches('0').to_owned()
}

fn big(raw: &str) -> Result<String, Lost> {
    let number = numeric(raw)?;
    if matches!(&*number, "NaN" | "Infinity" | "-Infinity") {
        return Ok(number.into_owned());
    }
    let plain = |text: &str| {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let all = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        all(whole) && all(part)
    };
    let unsigned = number.strip_prefix('-').unwrap_or(&number);
    match unsigned.split_once(['e', 'E']) {
        None if plain(unsigned) => Ok(number.into_owned()),
        Some((mantissa, exponent)) if plain(mantissa) => {
            let sign = if number.starts_with('-') { "-" } else { "" };
            unfold(mantissa, exponent.parse().map_err(|_| Lost::NotOfType)?).map(|text| format!("{sign}{text}"))
        }
        _ => Err(Lost::NotOfType),
    }
}

/// `1.5e3` without its exponent. A short text must not become a long one.
fn unfold(mantissa: &str, exponent: i32) -> Result<String, Lost> {
    const MOST: i32 = 1_000;
    if exponent.abs() > MOST {
        return Err(Lost::TooLarge);
    }
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{part}");
    let mut point = whole.len() as i32 + exponent;
    if point <= 0 {
        digits.insert_str(0, &"0".repeat((1 - point) as usize));
        point = 1;
    }
    while (digits.len() as i32) < point {
        digits.push('0');
    }
    let (whole, part) = digits.split_at(point as usize);
    Ok(if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") })
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

fn date(raw: &str) -> Result<i32, Lost> {
    let text = text(raw).ok_or(Lost::NotOfType)?;
    let date: civil::Date = text.get(..10).filter(|_| text.len() > 10).unwrap_or(&text).parse().map_err(|_| Lost::NotOfType)?;
    if text.len() > 10 && text.parse::<civil::DateTime>().is_err() {
        return Err(Lost::NotOfType);
    }
    Ok((date - EPOCH).get_days())
}

fn time(raw: &str) -> Result<i64, Lost> {
    let text = text(raw).ok_or(Lost::NotOfType)?;
    let time: civil::Time = text.parse().map_err(|_| Lost::NotOfType)?;
    let seconds = i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    Ok(seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000)
}

fn moment(raw: &str, kind: Kind) -> Result<i64, Lost> {
    let text = text(raw).ok_or(Lost::NotOfType)?;
    let text = zoned(&text);
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let is_utc = text.ends_with(['Z', 'z']) || text.ends_with("+00:00");
        // A column without a zone takes what has none, or the zone that changes nothing.
        return if kind == Kind::Instant || is_utc { Ok(at.as_microsecond()) } else { Err(Lost::NotOfType) };
    }
    let at: civil::DateTime = text.parse().map_err(|_| Lost::NotOfType)?;
    Ok(at.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| Lost::TooLarge)?.timestamp().as_microsecond())
}

/// `+0000` and ` UTC` as ISO 8601 has them.
fn zoned(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if let Some(local) = text.strip_suffix(" UTC") {
        return Cow::Owned(format!("{local}Z"));
    }
    Cow::Borrowed(text)
}

fn bytes(raw: &str) -> Result<Vec<u8>, Lost> {
    STANDARD.decode(text(raw).ok_or(Lost::NotOfType)?.as_bytes()).map_err(|_| Lost::NotOfType)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(property: Value) -> Kind {
        Kind::of(&property)
    }

    #[test]
    fn a_property_is_one_kind_and_what_may_be_several_is_json() {
        assert_eq!(kind(json!({"type": ["null", "integer"]})), Kind::Int);
        assert_eq!(kind(json!({"type": "number", "airbyte_type": "integer"})), Kind::Int);
        assert_eq!(kind(json!({"type": ["number", "null"]})), Kind::Float);
        assert_eq!(kind(json!({"type": "string", "airbyte_type": "big_number"})), Kind::Big);
        assert_eq!(kind(json!({"type": "string", "format": "date-time"})), Kind::Instant);
        assert_eq!(kind(json!({"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"})), Kind::Civil);
        assert_eq!(kind(json!({"type": "string", "format": "time", "airbyte_type": "time_without_timezone"})), Kind::Time);
        assert_eq!(kind(json!({"type": "string", "contentEncoding": "base64"})), Kind::Bytes);
        assert_eq!(kind(json!({"oneOf": [{"type": "null"}, {"type": "boolean"}]})), Kind::Bool);
        for several in
            [json!({}), json!({"type": ["string", "integer"]}), json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}), json!(true)]
        {
            assert_eq!(kind(several.clone()), Kind::Json, "{several}");
        }
    }

    fn put(kind: Kind, raw: &str) -> (ArrayRef, Option<Lost>) {
        let mut values = kind.values();
        let lost = values.put(kind, raw);
        (values.finish(), lost)
    }
    fn shown(kind: Kind, raw: &str) -> String {
        use arrow_array::cast::AsArray;
        let (array, lost) = put(kind, raw);
        if array.is_null(0) {
            return format!("{:?}", lost.expect("a null is a loss"));
        }
        let value = match kind {
            Kind::Int => array.as_primitive::<arrow_array::types::Int64Type>().value(0).to_string(),
            Kind::Float => array.as_primitive::<arrow_array::types::Float64Type>().value(0).to_string(),
            Kind::Date => array.as_primitive::<arrow_array::types::Date32Type>().value(0).to_string(),
            Kind::Time => array.as_primitive::<arrow_array::types::Time64MicrosecondType>().value(0).to_string(),
            Kind::Instant | Kind::Civil => array.as_primitive::<arrow_array::types::TimestampMicrosecondType>().value(0).to_string(),
            Kind::Bool => array.as_boolean().value(0).to_string(),
            Kind::Bytes => format!("{:?}", array.as_binary::<i32>().value(0)),
            _ => array.as_string::<i32>().value(0).to_owned(),
        };
        lost.map_or(value.clone(), |lost| format!("{value} {lost:?}"))
    }

    #[test]
    fn a_value_is_taken_as_it_is_or_nulled_or_said_to_be_rounded() {
        let cases = [
            (Kind::Int, "7", "7"),
            (Kind::Int, "\"-7\"", "-7"),
            (Kind::Int, "1.0", "1"),
            (Kind::Int, "1.5", "NotOfType"),
            (Kind::Int, "9223372036854775808", "TooLarge"),
            (Kind::Int, "1e400", "NotOfType"),
            (Kind::Int, "true", "NotOfType"),
            (Kind::Float, "0.30000000000000004", "0.30000000000000004"),
            (Kind::Float, "123456789012345678.123", "123456789012345680 Rounded"),
            (Kind::Float, "1e400", "TooLarge"),
            (Kind::Float, "\"NaN\"", "NaN"),
            (Kind::Float, "\"many\"", "NotOfType"),
            (Kind::Float, "\"inf\"", "NotOfType"),
            (Kind::Big, "-1.5e3", "-1500"),
            (Kind::Big, "1.25e-3", "0.00125"),
            (Kind::Big, "\"123456789012345678901234567890.5\"", "123456789012345678901234567890.5"),
            (Kind::Big, "1e100000", "TooLarge"),
            (Kind::Text, "\"a\\\"b\"", "a\"b"),
            (Kind::Text, "{\"a\":1}", "{\"a\":1}"),
            (Kind::Json, "\"x\"", "\"x\""),
            (Kind::Bool, "\"true\"", "true"),
            (Kind::Bool, "1", "NotOfType"),
            (Kind::Date, "\"1970-01-11\"", "10"),
            (Kind::Date, "\"1970-01-11T23:00:00\"", "10"),
            (Kind::Date, "\"1970-02-31\"", "NotOfType"),
            (Kind::Time, "\"00:00:01.5\"", "1500000"),
            (Kind::Instant, "\"1970-01-01T00:00:01+01:00\"", "-3599000000"),
            (Kind::Instant, "\"1970-01-01 00:00:01\"", "1000000"),
            (Kind::Instant, "\"-0044-03-15T00:00:00Z\"", "NotOfType"),
            (Kind::Civil, "\"1970-01-01T00:00:01\"", "1000000"),
            (Kind::Civil, "\"1970-01-01T00:00:01+01:00\"", "NotOfType"),
            (Kind::Instant, "17", "NotOfType"),
            (Kind::Bytes, "\"AAE=\"", "[0, 1]"),
        ];
        for (kind, raw, wanted) in cases {
            assert_eq!(shown(kind, raw), wanted, "{kind:?} {raw}");
        }
    }
}
