//! Dates, times and durations as Python's `datetime` and `isodate` know them.

use jiff::{
    SignedDuration, ToSpan,
    civil::{Date, DateTime, Time},
};

use super::{
    syntax::Operator,
    value::{Months, Outcome, Py, other, type_error},
};
use crate::datetime::Moment;

pub(super) const DAY: i128 = 86_400_000_000;

/// Microseconds since the epoch, to compare by.
pub(super) fn instant(moment: &Moment) -> i128 {
    (moment.wall.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)) - moment.offset).as_micros()
}

pub(super) fn now(at: jiff::Timestamp) -> Moment {
    let wall = at.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    Moment::utc(micros_only(wall))
}

/// Python keeps microseconds.
pub(super) fn micros_only(wall: DateTime) -> DateTime {
    wall.with().subsec_nanosecond(wall.subsec_nanosecond() / 1000 * 1000).build().unwrap_or(wall)
}

fn offset_text(offset: SignedDuration) -> String {
    let sign = if offset.is_negative() { '-' } else { '+' };
    let (seconds, micros) = (offset.abs().as_secs(), offset.abs().subsec_micros());
    let mut out = format!("{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
    if seconds % 60 != 0 || micros != 0 {
        out += &format!(":{:02}", seconds % 60);
    }
    if micros != 0 {
        out += &format!(".{micros:06}");
    }
    out
}

pub(super) fn isoformat(moment: &Moment, zoned: bool, separator: &str) -> String {
    joined(moment, zoned, separator, &clock_text(moment.wall.time()))
}

/// `isoformat` as far as a `timespec` says; `None` when there is no such one.
pub(super) fn isoformat_to(moment: &Moment, zoned: bool, separator: &str, timespec: &str) -> Option<String> {
    Some(joined(moment, zoned, separator, &clock_text_to(moment.wall.time(), timespec)?))
}

fn joined(moment: &Moment, zoned: bool, separator: &str, clock: &str) -> String {
    let date = moment.wall.date();
    let offset = if zoned { offset_text(moment.offset) } else { String::new() };
    format!("{:04}-{:02}-{:02}{separator}{clock}{offset}", date.year(), date.month(), date.day())
}

pub(super) fn clock_text(time: Time) -> String {
    let micros = time.subsec_nanosecond() / 1000;
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    format!("{:02}:{:02}:{:02}{fraction}", time.hour(), time.minute(), time.second())
}

/// A time as far as its `timespec` says; what is behind that is cut off, not rounded.
pub(super) fn clock_text_to(time: Time, timespec: &str) -> Option<String> {
    let (hour, minute, second, micros) = (time.hour(), time.minute(), time.second(), time.subsec_nanosecond() / 1000);
    Some(match timespec {
        "auto" => clock_text(time),
        "hours" => format!("{hour:02}"),
        "minutes" => format!("{hour:02}:{minute:02}"),
        "seconds" => format!("{hour:02}:{minute:02}:{second:02}"),
        "milliseconds" => format!("{hour:02}:{minute:02}:{second:02}.{:03}", micros / 1000),
        "microseconds" => format!("{hour:02}:{minute:02}:{second:02}.{micros:06}"),
        _ => return None,
    })
}

pub(super) fn zone_text(offset: SignedDuration) -> String {
    if offset.is_zero() { "UTC".into() } else { format!("UTC{}", offset_text(offset)) }
}

pub(super) fn moment_repr(moment: &Moment, zoned: bool) -> String {
    let wall = moment.wall;
    let mut out = format!("datetime.datetime({}, {}, {}, {}, {}", wall.year(), wall.month(), wall.day(), wall.hour(), wall.minute());
    let micros = wall.subsec_nanosecond() / 1000;
    if wall.second() != 0 || micros != 0 {
        out += &format!(", {}", wall.second());
    }
    if micros != 0 {
        out += &format!(", {micros}");
    }
    match zoned {
        true if moment.offset.is_zero() => out + ", tzinfo=datetime.timezone.utc)",
        true => out + &format!(", tzinfo=datetime.timezone({}))", delta_repr(moment.offset.as_micros())),
        false => out + ")",
    }
}

/// Days, seconds of the day, microseconds of the second.
pub(super) fn delta_parts(micros: i128) -> (i128, i128, i128) {
    let rest = micros.rem_euclid(DAY);
    (micros.div_euclid(DAY), rest / 1_000_000, rest % 1_000_000)
}

pub(super) fn delta_text(micros: i128) -> String {
    let (days, seconds, micros) = delta_parts(micros);
    let mut out = match days {
        0 => String::new(),
        1 | -1 => format!("{days} day, "),
        _ => format!("{days} days, "),
    };
    out += &format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros != 0 {
        out += &format!(".{micros:06}");
    }
    out
}

pub(super) fn delta_repr(micros: i128) -> String {
    let (days, seconds, micros) = delta_parts(micros);
    let named = [("days", days), ("seconds", seconds), ("microseconds", micros)];
    let parts: Vec<String> = named.iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!("{name}={value}")).collect();
    format!("datetime.timedelta({})", if parts.is_empty() { "0".into() } else { parts.join(", ") })
}

pub(super) fn months_text(months: &Months) -> String {
    let mut parts = Vec::new();
    if months.years != 0.0 {
        parts.push(format!("{} years", months.years.trunc()));
    }
    if months.months != 0.0 {
        parts.push(format!("{} {}", months.months.trunc(), if months.months <= 1.0 { "month" } else { "months" }));
    }
    parts.push(delta_text(months.micros));
    parts.join(", ")
}

pub(super) fn months_repr(months: &Months) -> String {
    let (days, seconds, micros) = delta_parts(months.micros);
    format!("isodate.duration.Duration({days}, {seconds}, {micros}, years={}, months={})", months.years, months.months)
}

pub(super) fn negative_months<'a>(months: &Months) -> Py<'a> {
    Py::Months(std::rc::Rc::new(Months { years: -months.years, months: -months.months, micros: -months.micros }))
}

pub(super) fn shifted(wall: DateTime, micros: i128) -> Outcome<DateTime> {
    let out = || super::value::Fault::Other("date value out of range".into());
    let micros = i64::try_from(micros).map_err(|_| out())?;
    let wall = wall.checked_add(SignedDuration::from_micros(micros)).map_err(|_| out())?;
    if (1..=9999).contains(&wall.year()) { Ok(wall) } else { Err(out()) }
}

/// Whole months, the day cut to the month's last one.
fn by_months(date: Date, months: &Months, sign: f64) -> Outcome<Date> {
    let total = (months.years * 12.0 + months.months) * sign;
    if months.years.fract() != 0.0 || months.months.fract() != 0.0 {
        return other("fractional years and months cannot be added to a date");
    }
    let months = i32::try_from(total as i64).unwrap_or(i32::MAX);
    match date.checked_add(months.months()) {
        Ok(date) if (1..=9999).contains(&date.year()) => Ok(date),
        _ => other("date value out of range"),
    }
}

/// Operators on times; none when neither side is one.
pub(super) fn arithmetic<'a>(operator: Operator, a: &Py<'a>, b: &Py<'a>) -> Outcome<Option<Py<'a>>> {
    let sign = match operator {
        Operator::Add => 1,
        Operator::Sub => -1,
        _ => return scaled(operator, a, b),
    };
    let result = match (a, b) {
        (Py::Moment(moment, zoned), Py::Delta(micros)) => {
            Py::Moment(Moment { wall: shifted(moment.wall, sign * micros)?, offset: moment.offset }, *zoned)
        }
        (Py::Date(date), Py::Delta(micros)) => {
            let days = micros.div_euclid(DAY) * DAY;
            Py::Date(shifted(date.to_datetime(Time::midnight()), sign * days)?.date())
        }
        (Py::Delta(_), Py::Moment(..) | Py::Date(_)) | (Py::Months(_), Py::Moment(..) | Py::Date(_)) if sign == 1 => {
            return arithmetic(operator, b, a);
        }
        (Py::Moment(a, zoned_a), Py::Moment(b, zoned_b)) if sign == -1 => {
            if zoned_a != zoned_b {
                return type_error("can't subtract offset-naive and offset-aware datetimes");
            }
            Py::Delta(instant(a) - instant(b))
        }
        (Py::Date(a), Py::Date(b)) if sign == -1 => Py::Delta(a.duration_since(*b).as_micros()),
        (Py::Moment(moment, zoned), Py::Months(months)) => {
            let date = by_months(moment.wall.date(), months, f64::from(sign as i32))?;
            let wall = shifted(date.to_datetime(moment.wall.time()), sign * months.micros)?;
            Py::Moment(Moment { wall, offset: moment.offset }, *zoned)
        }
        (Py::Date(date), Py::Months(months)) => {
            let date = by_months(*date, months, f64::from(sign as i32))?;
            let days = months.micros.div_euclid(DAY) * DAY;
            Py::Date(shifted(date.to_datetime(Time::midnight()), sign * days)?.date())
        }
        (Py::Delta(a), Py::Delta(b)) => Py::Delta(a + sign * b),
        (Py::Months(a), Py::Months(b)) => {
            let sign_float = f64::from(sign as i32);
            let months = a.months + sign_float * b.months;
            Py::Months(Months { years: a.years + sign_float * b.years, months, micros: a.micros + sign * b.micros }.into())
        }
        (Py::Months(a), Py::Delta(b)) => Py::Months(Months { micros: a.micros + sign * b, ..(**a).clone() }.into()),
        (Py::Delta(a), Py::Months(b)) if sign == 1 => Py::Months(Months { micros: a + b.micros, ..(**b).clone() }.into()),
        _ => return Ok(None),
    };
    Ok(Some(result))
}

/// Durations multiplied and divided.
fn scaled<'a>(operator: Operator, a: &Py<'a>, b: &Py<'a>) -> Outcome<Option<Py<'a>>> {
    let zero = || other("division by zero");
    Ok(Some(match (operator, a, b) {
        (Operator::Mul, Py::Delta(micros), number) | (Operator::Mul, number, Py::Delta(micros)) if number.as_number().is_some() => {
            match number.as_int() {
                Some(times) => Py::Delta(micros.saturating_mul(times)),
                None => Py::Delta((*micros as f64 * number.as_number().unwrap_or_default()).round_ties_even() as i128),
            }
        }
        (Operator::Mul, Py::Months(months), Py::Int(n)) | (Operator::Mul, Py::Int(n), Py::Months(months)) => {
            let times = *n as f64;
            Py::Months(
                Months { years: months.years * times, months: months.months * times, micros: months.micros.saturating_mul(*n) }.into(),
            )
        }
        (Operator::Div | Operator::FloorDiv | Operator::Mod, Py::Delta(_), Py::Delta(0)) => return zero(),
        (Operator::Div, Py::Delta(a), Py::Delta(b)) => Py::Float(*a as f64 / *b as f64),
        (Operator::FloorDiv, Py::Delta(a), Py::Delta(b)) => Py::Int((*a as f64 / *b as f64).floor() as i128),
        (Operator::Mod, Py::Delta(a), Py::Delta(b)) => Py::Delta(a.rem_euclid(*b)),
        (Operator::Div, Py::Delta(a), number) if number.as_number().is_some() => match number.as_number().unwrap_or_default() {
            0.0 => return zero(),
            by => Py::Delta((*a as f64 / by).round_ties_even() as i128),
        },
        (Operator::FloorDiv, Py::Delta(_), Py::Int(0)) => return zero(),
        (Operator::FloorDiv, Py::Delta(a), Py::Int(by)) => Py::Delta(a.div_euclid(*by)),
        _ => return Ok(None),
    }))
}

/// `isodate.parse_duration`.
pub(super) fn duration<'a>(text: &str) -> Outcome<Py<'a>> {
    let wrong = || super::value::Fault::Other(format!("no ISO 8601 duration: {text:?}"));
    let rest = text.strip_prefix(['+', '-'].as_slice()).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let rest = rest.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    let [years, months, weeks, days] = parts(date, ['Y', 'M', 'W', 'D']).ok_or_else(wrong)?;
    let [hours, minutes, seconds, _] = parts(time, ['H', 'M', 'S', '\0']).ok_or_else(wrong)?;
    let micros = (weeks * 7.0 + days) * DAY as f64 + (hours * 3600.0 + minutes * 60.0 + seconds) * 1e6;
    let micros = (micros * sign).round_ties_even() as i128;
    if years == 0.0 && months == 0.0 {
        return Ok(Py::Delta(micros));
    }
    Ok(Py::Months(Months { years: years * sign, months: months * sign, micros }.into()))
}

/// Numbers, each before its letter, the letters in order.
fn parts(text: &str, letters: [char; 4]) -> Option<[f64; 4]> {
    let mut found = [0.0; 4];
    let mut rest = text;
    let mut next = 0;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')?;
        let letter = rest[length..].chars().next()?;
        let at = next + letters[next..].iter().position(|known| *known == letter && letter != '\0')?;
        found[at] = rest[..length].replace(',', ".").parse().ok()?;
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        rest = &rest[length + letter.len_utf8()..];
        next = at + 1;
    }
    Some(found)
}

/// `dateutil.parser.isoparse`; without a zone it says so.
pub(super) fn isoparse(text: &str) -> Option<(Moment, bool)> {
    let (date, rest) = common_date(text).or_else(|| uncommon_date(text))?;
    if rest.is_empty() {
        return Some((Moment::utc(date.to_datetime(Time::midnight())), false));
    }
    // Any one character separates the two.
    let mut chars = rest.chars();
    chars.next().filter(char::is_ascii)?;
    let (time, extra_days, offset) = iso_time(chars.as_str())?;
    let wall = date.checked_add(i32::from(extra_days).days()).ok()?.to_datetime(time);
    Some((Moment { wall, offset: offset.unwrap_or(SignedDuration::ZERO) }, offset.is_some()))
}

/// As Python's `int` reads bytes.
fn number(text: &str, at: usize, length: usize) -> Option<i32> {
    let piece = text.get(at..(at + length).min(text.len()))?.trim();
    piece.strip_prefix('+').unwrap_or(piece).parse().ok()
}

fn day(year: i32, month: i32, day: i32) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok().filter(|date| date.year() > 0)
}

fn common_date(text: &str) -> Option<(Date, &str)> {
    if text.len() < 4 || !text.is_ascii() {
        return None;
    }
    let year = number(text, 0, 4)?;
    if text.len() == 4 {
        return Some((day(year, 1, 1)?, ""));
    }
    let separated = text.as_bytes()[4] == b'-';
    let at = 4 + usize::from(separated);
    if text.len() - at < 2 {
        return None;
    }
    let month = number(text, at, 2)?;
    let at = at + 2;
    if at >= text.len() {
        return if separated { Some((day(year, month, 1)?, "")) } else { None };
    }
    let at = match separated {
        true if text.as_bytes()[at] != b'-' => return None,
        true => at + 1,
        false => at,
    };
    if text.len() - at < 2 {
        return None;
    }
    Some((day(year, month, number(text, at, 2)?)?, &text[at + 2..]))
}

fn uncommon_date(text: &str) -> Option<(Date, &str)> {
    if text.len() < 4 || !text.is_ascii() {
        return None;
    }
    let year: i16 = number(text, 0, 4)?.try_into().ok()?;
    let separated = text.as_bytes().get(4) == Some(&b'-');
    let mut at = 4 + usize::from(separated);
    if text.as_bytes().get(at) != Some(&b'W') {
        let ordinal = number(text, at, 3).filter(|_| text.len() - at >= 3)?;
        let first = Date::new(year, 1, 1).ok()?;
        let date = first.checked_add((ordinal - 1).days()).ok().filter(|date| ordinal >= 1 && date.year() == year)?;
        return Some((date, &text[at + 3..]));
    }
    at += 1;
    let week = number(text, at, 2)?;
    at += 2;
    let mut weekday = 1;
    if text.len() > at {
        if (text.as_bytes()[at] == b'-') != separated {
            return None;
        }
        at += usize::from(separated);
        weekday = number(text, at, 1)?;
        at += 1;
    }
    if !(1..=53).contains(&week) || !(1..=7).contains(&weekday) {
        return None;
    }
    let fourth = Date::new(year, 1, 4).ok()?;
    let monday = fourth.checked_sub(i32::from(fourth.weekday().to_monday_zero_offset()).days()).ok()?;
    Some((monday.checked_add(((week - 1) * 7 + weekday - 1).days()).ok()?, &text[at.min(text.len())..]))
}

/// The time, the days that 24:00 adds, and the offset.
fn iso_time(text: &str) -> Option<(Time, i8, Option<SignedDuration>)> {
    if text.len() < 2 || !text.is_ascii() {
        return None;
    }
    let bytes = text.as_bytes();
    let mut found = [0i32; 4];
    let mut offset = None;
    let (mut at, mut part, mut separated) = (0, 0, false);
    while at < text.len() && part < 5 {
        if matches!(bytes[at], b'-' | b'+' | b'Z' | b'z') {
            offset = Some(iso_offset(&text[at..])?);
            at = text.len();
            break;
        }
        if part == 1 && bytes[at] == b':' {
            separated = true;
            at += 1;
        } else if part == 2 && separated {
            if bytes[at] != b':' {
                return None;
            }
            at += 1;
        }
        if part < 3 {
            found[part] = number(text, at, 2)?;
            at += 2;
        } else if part == 3 && matches!(bytes[at], b'.' | b',') {
            let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 {
                let kept = &text[at + 1..at + 1 + digits.min(6)];
                found[3] = format!("{kept:0<6}").parse().ok()?;
                at += 1 + digits;
            }
        }
        part += 1;
    }
    if at < text.len() {
        return None;
    }
    let midnight = found[0] == 24;
    if midnight && found[1..].iter().any(|value| *value != 0) {
        return None;
    }
    let hour = if midnight { 0 } else { found[0] };
    let time = Time::new(hour.try_into().ok()?, found[1].try_into().ok()?, found[2].try_into().ok()?, found[3] * 1000).ok()?;
    Some((time, i8::from(midnight), offset))
}

fn iso_offset(text: &str) -> Option<SignedDuration> {
    if matches!(text, "Z" | "z") {
        return Some(SignedDuration::ZERO);
    }
    if !matches!(text.len(), 3 | 5 | 6) {
        return None;
    }
    let hours = number(text, 1, 2)?;
    let minutes = match text.len() {
        3 => 0,
        _ => number(text, if text.as_bytes()[3] == b':' { 4 } else { 3 }, 3)?,
    };
    if minutes > 59 || hours > 23 {
        return None;
    }
    let offset = SignedDuration::from_mins(i64::from(hours * 60 + minutes));
    match text.as_bytes()[0] {
        b'-' => Some(-offset),
        b'+' => Some(offset),
        _ => None,
    }
}
