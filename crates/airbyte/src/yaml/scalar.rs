//! What plain scalars mean in YAML 1.1.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Number, Value};

use super::Problem;

/// The value of a plain scalar without a tag.
pub(super) fn plain(text: &str) -> Result<Value, Problem> {
    match kind(text) {
        Some(kind) => tagged(kind, text),
        None => Ok(text.into()),
    }
}

fn kind(text: &str) -> Option<&'static str> {
    match text.bytes().next() {
        None => Some("null"),
        Some(b'~') => (text == "~").then_some("null"),
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => numeric(text),
        Some(b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O') => match text {
            "null" | "Null" | "NULL" => Some("null"),
            text if boolean(text).is_some() && is_one_case(text) => Some("bool"),
            _ => None,
        },
        _ => None,
    }
}

/// `yes`, `Yes` and `YES`, not `yEs`.
fn is_one_case(text: &str) -> bool {
    let rest = &text[1..];
    let is_lower = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase());
    is_lower(rest) || text.bytes().all(|b| b.is_ascii_uppercase())
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

static FLOAT: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?",
        r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ))
});
static INTEGER: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)",
        r"|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$"
    ))
});
/// The whole form has more freedom than the date alone, which wants two digits everywhere.
static DATE: LazyLock<Regex> = LazyLock::new(|| regex(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?",
        r"(?:[ \t]*(Z|([-+])([0-9]{1,2})(?::([0-9]{2}))?))?$"
    ))
});

fn regex(source: &str) -> Regex {
    Regex::new(source).expect("a pattern of this file")
}

fn numeric(text: &str) -> Option<&'static str> {
    if FLOAT.is_match(text) {
        Some("float")
    } else if INTEGER.is_match(text) {
        Some("int")
    } else if DATE.is_match(text) || TIME.is_match(text) {
        Some("timestamp")
    } else {
        None
    }
}

/// A scalar whose kind is written or found.
pub(super) fn tagged(kind: &str, text: &str) -> Result<Value, Problem> {
    match kind {
        "str" => Ok(text.into()),
        "null" => Ok(Value::Null),
        "bool" => boolean(text).map(Value::Bool).ok_or(Problem::Words("this is no boolean")),
        "int" => integer(text).ok_or(Problem::Words("this is no whole number")),
        "float" => float(text).ok_or(Problem::Fix("this is no number that JSON has", "write a finite number, or put it in quotes")),
        "timestamp" => timestamp(text).map(Value::String).ok_or(Problem::Fix("no calendar has this date", "put it in quotes")),
        _ => Err(super::unknown_tag()),
    }
}

fn signed(text: &str) -> (bool, &str) {
    (text.starts_with('-'), text.strip_prefix(['-', '+']).unwrap_or(text))
}

fn integer(text: &str) -> Option<Value> {
    let text = text.replace('_', "");
    let (is_negative, digits) = signed(&text);
    let radix = |digits: &str, radix: u32| u128::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
    let value = if digits == "0" {
        0
    } else if let Some(digits) = digits.strip_prefix("0b") {
        radix(digits, 2)?
    } else if let Some(digits) = digits.strip_prefix("0x") {
        radix(digits, 16)?
    } else if digits.starts_with('0') {
        radix(digits, 8)?
    } else if digits.contains(':') {
        let mut value = 0u128;
        for part in digits.split(':') {
            value = value.checked_mul(60)?.checked_add(part.parse().ok()?)?;
        }
        value
    } else {
        match digits.parse() {
            Ok(value) => value,
            Err(_) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => return finite(text.parse().ok()?),
            Err(_) => return None,
        }
    };
    let value = if is_negative { -i128::try_from(value).ok()? } else { i128::try_from(value).ok()? };
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(n), _) => Some(n.into()),
        (_, Ok(n)) => Some(n.into()),
        _ => finite(value as f64),
    }
}

fn finite(value: f64) -> Option<Value> {
    Number::from_f64(value).map(Value::Number)
}

fn float(text: &str) -> Option<Value> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let (is_negative, digits) = signed(&text);
    let value = if digits.contains(':') {
        let (mut value, mut base) = (0.0, 1.0);
        for part in digits.rsplit(':') {
            value += part.parse::<f64>().ok()? * base;
            base *= 60.0;
        }
        value
    } else {
        digits.parse::<f64>().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit() || c == '.'))?
    };
    finite(if is_negative { -value } else { value })
}

/// As Python writes dates and times where JSON is asked for.
fn timestamp(text: &str) -> Option<String> {
    if DATE.is_match(text) {
        return text.parse::<jiff::civil::Date>().ok().filter(|date| date.year() > 0).map(|date| date.to_string());
    }
    let found = TIME.captures(text)?;
    let number = |at: usize| found.get(at).map_or(Some(0), |m| m.as_str().parse::<i16>().ok());
    let date = jiff::civil::Date::new(number(1)?, number(2)? as i8, number(3)? as i8).ok().filter(|date| date.year() > 0)?;
    let fraction: String = found.get(7).map_or("", |m| m.as_str()).chars().chain("000000".chars()).take(6).collect();
    jiff::civil::Time::new(number(4)? as i8, number(5)? as i8, number(6)? as i8, 0).ok()?;
    let mut out = format!("{date}T{:02}:{:02}:{:02}", number(4)?, number(5)?, number(6)?);
    if fraction != "000000" {
        out += &format!(".{fraction}");
    }
    if let Some(sign) = found.get(9) {
        let minutes = number(10)? * 60 + number(11)?;
        let sign = if minutes == 0 { "+" } else { sign.as_str() };
        (minutes < 24 * 60).then_some(())?;
        out += &format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    } else if found.get(8).is_some() {
        out += "+00:00";
    }
    Some(out)
}
