//! A cron expression: five fields, or six with seconds in front. It knows calendar time only; zones are the next room's matter.

use std::{fmt, str::FromStr};

use jiff::civil::{Date, DateTime, Time};
use linkspan_core::{Error, ErrorKind, Result};

/// Parsed, and certain to fire some day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    seconds: Field,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    /// `L`: the last day of the month.
    last_day: bool,
    /// `MON#2`: (weekday, which one of the month).
    nth: Vec<(u8, i8)>,
}

/// The values that fit, as bits; and whether the field began with `*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        self.bits >> value & 1 == 1
    }
    /// The first value at or after `from`.
    fn from(self, from: i8) -> Option<i8> {
        let rest = self.bits.checked_shr(from as u32)? << from;
        (rest != 0).then(|| rest.trailing_zeros() as i8)
    }
}

/// What a field may hold.
struct Range {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const SECOND: Range = Range { name: "second", low: 0, high: 59, names: &[] };
const MINUTE: Range = Range { name: "minute", low: 0, high: 59, names: &[] };
const HOUR: Range = Range { name: "hour", low: 0, high: 23, names: &[] };
const DAY: Range = Range { name: "day of month", low: 1, high: 31, names: &[] };
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: Range = Range { name: "month", low: 1, high: 12, names: &MONTHS };
/// Sunday is 0 and 7.
const WEEKDAY: Range = Range { name: "day of week", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Leap days can be eight years apart (1896 to 1904, 2096 to 2104).
const YEARS_AHEAD: i16 = 9;

impl FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let expanded = nicknamed(text)?;
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let (seconds, rest) = match fields.as_slice() {
            rest @ [_, _, _, _, _] => ("0", rest),
            [seconds, rest @ ..] if rest.len() == 5 => (*seconds, rest),
            _ => {
                return Err(refused(format!("it has {} fields", fields.len()))
                    .fix("write five fields (minute hour day month weekday), or six with seconds in front"));
            }
        };
        let mut nth = Vec::new();
        let (days, last_day) = days(rest[2]).map_err(refused)?;
        let cron = Self {
            text: text.to_owned(),
            seconds: field(seconds, &SECOND).map_err(refused)?,
            minutes: field(rest[0], &MINUTE).map_err(refused)?,
            hours: field(rest[1], &HOUR).map_err(refused)?,
            days,
            months: field(rest[3], &MONTH).map_err(refused)?,
            weekdays: weekdays(rest[4], &mut nth).map_err(refused)?,
            last_day,
            nth,
        };
        // A year that a leap day follows within the years ahead.
        if cron.from(jiff::civil::date(2001, 1, 1).at(0, 0, 0, 0)).is_none() {
            return Err(refused("no month has that day".into()).fix("choose a day that exists"));
        }
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("this is no cron expression: {why}"))
        .with("field", "cron")
        .fix("write it as in `0 2 * * *` (daily at two) or `*/15 * * * *` (every quarter of an hour)")
}

fn nicknamed(text: &str) -> Result<&str> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        name if name.starts_with('@') => return Err(refused("nobody knows this nickname".into())),
        _ => text,
    })
}

fn days(text: &str) -> Result<(Field, bool), String> {
    let (last, rest): (Vec<&str>, Vec<&str>) = text.split(',').partition(|part| part.eq_ignore_ascii_case("l"));
    let field = if rest.is_empty() { Field::default() } else { field(&rest.join(","), &DAY)? };
    Ok((field, !last.is_empty()))
}

fn weekdays(text: &str, nth: &mut Vec<(u8, i8)>) -> Result<Field, String> {
    let mut rest = Vec::new();
    for part in text.split(',') {
        match part.split_once('#') {
            Some((day, which)) => {
                let which = which.parse().ok().filter(|n| (1..=5).contains(n)).ok_or("`#` takes 1 to 5, as in MON#2")?;
                nth.push((value(day, &WEEKDAY)? % 7, which));
            }
            None => rest.push(part),
        }
    }
    let mut field = if rest.is_empty() { Field::default() } else { field(&rest.join(","), &WEEKDAY)? };
    if field.has(7) {
        field.bits = field.bits & !(1 << 7) | 1;
    }
    Ok(field)
}

fn field(text: &str, range: &Range) -> Result<Field, String> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |= part_bits(part, range)?;
    }
    Ok(Field { bits, star: text.starts_with(['*', '?']) })
}

/// `*`, `5`, `1-5`, each with `/step`; `5/15` runs on to the field's end.
fn part_bits(part: &str, range: &Range) -> Result<u64, String> {
    let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
    let step = match step {
        None => 1,
        Some(text) => {
            text.parse::<u8>().ok().filter(|n| *n > 0).ok_or_else(|| format!("the step of the {} is no number above 0", range.name))?
        }
    };
    let high = if range.high == 7 { 6 } else { range.high };
    let (from, to) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (range.low, high),
        Some((from, to)) => (value(from, range)?, value(to, range)?),
        None if part.contains('/') => (value(span, range)?, high),
        None => (value(span, range)?, value(span, range)?),
    };
    // `FRI-SUN`: Sunday ends the week as well as it begins it.
    let to = if range.high == 7 && to == 0 && from > 0 { 7 } else { to };
    if from > to {
        return Err(format!("the {} range ends before it begins", range.name));
    }
    Ok((from..=to).step_by(step.into()).fold(0, |bits, n| bits | 1 << n))
}

fn value(text: &str, range: &Range) -> Result<u8, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(place) = range.names.iter().position(|name| *name == lower) {
        return Ok(place as u8 + range.low);
    }
    let odd = || format!("the {} takes {} to {}", range.name, range.low, range.high);
    text.parse().ok().filter(|n| (range.low..=range.high).contains(n)).ok_or_else(odd)
}

impl Cron {
    /// Whether it means a rhythm (`*/15 * * * *`) and not a time of the day (`0 2 * * *`): a rhythm follows the time that passes when
    /// clocks are put forward or back, a time of the day comes once a day.
    pub(super) fn is_rhythm(&self) -> bool {
        self.seconds.star || self.minutes.star || self.hours.star
    }

    /// The first moment at or after `from` that fits; nothing when there is none in the next years.
    pub(super) fn from(&self, from: DateTime) -> Option<DateTime> {
        let last_year = from.year().checked_add(YEARS_AHEAD)?;
        let (mut date, mut time) = (from.date(), ceiling(from)?);
        loop {
            if date.year() > last_year {
                return None;
            }
            if !self.months.has(date.month()) {
                (date, time) = (first_of_next_month(date)?, Some(Time::midnight()));
                continue;
            }
            if let Some(at) = time.filter(|_| self.is_day(date)).and_then(|t| self.time_from(t)) {
                return Some(date.to_datetime(at));
            }
            (date, time) = (date.tomorrow().ok()?, Some(Time::midnight()));
        }
    }

    /// Where both day fields are limited, a day that fits one of them fits.
    fn is_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let by_month = self.days.has(date.day()) || (self.last_day && date.day() == date.days_in_month());
        let which = (date.day() - 1) / 7 + 1;
        let by_week = self.weekdays.has(weekday) || self.nth.iter().any(|(day, n)| *day as i8 == weekday && *n == which);
        if self.days.star || self.weekdays.star { by_month && by_week } else { by_month || by_week }
    }

    fn time_from(&self, from: Time) -> Option<Time> {
        let at = |h, m, s| Time::new(h, m, s, 0).ok();
        let (first_minute, first_second) = (self.minutes.from(0)?, self.seconds.from(0)?);
        let hour = self.hours.from(from.hour())?;
        if hour > from.hour() {
            return at(hour, first_minute, first_second);
        }
        match self.minutes.from(from.minute()) {
            Some(minute) if minute > from.minute() => return at(hour, minute, first_second),
            Some(minute) => {
                if let Some(second) = self.seconds.from(from.second()) {
                    return at(hour, minute, second);
                }
                if let Some(next) = self.minutes.from(minute + 1) {
                    return at(hour, next, first_second);
                }
            }
            None => {}
        }
        at(self.hours.from(hour + 1)?, first_minute, first_second)
    }
}

/// The first whole second at or after; `Some(None)` when that is on the next day.
#[allow(clippy::option_option, reason = "the outer one is the end of the calendar")]
fn ceiling(at: DateTime) -> Option<Option<Time>> {
    if at.subsec_nanosecond() == 0 {
        return Some(Some(at.time()));
    }
    let whole = Time::new(at.hour(), at.minute(), at.second(), 0).ok()?;
    Some(whole.checked_add(jiff::SignedDuration::from_secs(1)).ok())
}

fn first_of_next_month(date: Date) -> Option<Date> {
    date.first_of_month().checked_add(jiff::Span::new().months(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(cron: &str, from: &str, count: usize) -> Vec<String> {
        let cron: Cron = cron.parse().unwrap();
        let mut at: DateTime = from.parse().unwrap();
        (0..count)
            .map(|_| {
                let next = cron.from(at).unwrap();
                at = next.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
                next.to_string()
            })
            .collect()
    }

    #[test]
    fn fields_lists_ranges_steps_and_names_mean_what_cron_means() {
        let table: &[(&str, &[&str])] = &[
            ("0 2 * * *", &["2026-01-02T02:00:00", "2026-01-03T02:00:00"]),
            ("*/15 * * * *", &["2026-01-01T10:15:00", "2026-01-01T10:30:00", "2026-01-01T10:45:00", "2026-01-01T11:00:00"]),
            ("5/20 10-11 * * *", &["2026-01-01T10:05:00", "2026-01-01T10:25:00", "2026-01-01T10:45:00", "2026-01-01T11:05:00"]),
            ("30 9 * * mon-fri", &["2026-01-02T09:30:00", "2026-01-05T09:30:00"]),
            ("0 0 * * 7", &["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),
            ("0 0 * * fri-sun", &["2026-01-02T00:00:00", "2026-01-03T00:00:00", "2026-01-04T00:00:00", "2026-01-09T00:00:00"]),
            ("0 0 1,15 * mon", &["2026-01-05T00:00:00", "2026-01-12T00:00:00", "2026-01-15T00:00:00"]),
            ("0 0 L * *", &["2026-01-31T00:00:00", "2026-02-28T00:00:00"]),
            ("0 6 * * MON#1", &["2026-01-05T06:00:00", "2026-02-02T06:00:00"]),
            ("0 0 29 2 *", &["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
            ("10,40 * * * * *", &["2026-01-01T10:00:10", "2026-01-01T10:00:40", "2026-01-01T10:01:10"]),
            ("@monthly", &["2026-02-01T00:00:00"]),
            ("59 23 31 12 *", &["2026-12-31T23:59:00"]),
        ];
        for (cron, expected) in table {
            assert_eq!(runs(cron, "2026-01-01T10:00:01", expected.len()), *expected, "{cron}");
        }
    }

    #[test]
    fn a_century_without_its_leap_day_is_passed() {
        assert_eq!(runs("0 0 29 2 *", "2096-03-01T00:00:00", 1), ["2104-02-29T00:00:00"]);
    }

    #[test]
    fn a_part_of_a_second_counts_to_the_next_one() {
        assert_eq!(runs("* * * * * *", "2026-12-31T23:59:59.5", 1), ["2027-01-01T00:00:00"]);
    }

    #[test]
    fn nonsense_is_refused_with_the_field_that_is_wrong() {
        for (cron, word) in [
            ("", "fields"),
            ("* * * *", "4 fields"),
            ("60 * * * *", "minute takes 0 to 59"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of week"),
            ("*/0 * * * *", "step"),
            ("5-1 * * * *", "before it begins"),
            ("0 0 30 2 *", "no month has that day"),
            ("* * * * mon#6", "1 to 5"),
            ("@sometimes", "nickname"),
            ("a * * * *", "minute"),
        ] {
            let e = cron.parse::<Cron>().unwrap_err();
            assert!(e.message().contains(word), "{cron}: {e:?}");
            assert!(e.suggested_fix().is_some());
        }
    }
}
