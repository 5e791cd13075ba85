//! `strptime`: a format becomes a regular expression, its groups become a moment.

use jiff::{
    SignedDuration, ToSpan,
    civil::{Date, Time, Weekday},
};
use regex::Regex;

use super::Moment;

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] =
    ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];

pub(super) struct Pattern {
    regex: Regex,
    /// The directives, in the order of the groups.
    order: Vec<char>,
}

impl Pattern {
    pub(super) fn new(format: &str) -> Result<Self, String> {
        let mut source = String::from("(?i)^(?:");
        let mut order = Vec::new();
        expand(format, &mut source, &mut order)?;
        source.push(')');
        if let Some(conflict) = conflict(&order) {
            return Err(conflict.into());
        }
        let regex = regex::RegexBuilder::new(&source).size_limit(4 << 20).build().map_err(|_| "the format is too large".to_owned())?;
        Ok(Self { regex, order })
    }

    pub(super) fn read(&self, text: &str) -> Result<Moment, &'static str> {
        let found = self.regex.captures(text).ok_or("the value does not match the format")?;
        if found.get(0).is_none_or(|whole| whole.end() != text.len()) {
            return Err("the value goes on behind what the format describes");
        }
        let mut parts = Parts::default();
        for (at, directive) in self.order.iter().enumerate() {
            let Some(piece) = found.get(at + 1) else { continue };
            parts.take(*directive, piece.as_str()).ok_or("a part of the value is no time")?;
        }
        parts.moment().ok_or("the value names a day or a time that does not exist")
    }
}

fn names(all: &[&str], length: Option<usize>) -> String {
    let mut names: Vec<&str> = all.iter().map(|name| &name[..length.unwrap_or(name.len()).min(name.len())]).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names.join("|")
}

fn expand(format: &str, source: &mut String, order: &mut Vec<char>) -> Result<(), String> {
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            while chars.peek().is_some_and(|c| c.is_whitespace()) {
                chars.next();
            }
            source.push_str(r"\s+");
        } else if c != '%' {
            source.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        } else {
            let directive = chars.next().ok_or("the format ends in a lone %")?;
            match directive {
                '%' => source.push('%'),
                'c' => expand("%a %b %d %H:%M:%S %Y", source, order)?,
                'x' => expand("%m/%d/%y", source, order)?,
                'X' => expand("%H:%M:%S", source, order)?,
                _ if order.contains(&directive) => return Err(format!("the format has %{directive} twice")),
                _ => {
                    let group = group(directive).ok_or_else(|| format!("the format has %{directive}, which cannot be read"))?;
                    source.push_str(&format!("({group})"));
                    order.push(directive);
                }
            }
        }
    }
    Ok(())
}

fn group(directive: char) -> Option<String> {
    let fixed = match directive {
        'd' => r"3[0-1]|[1-2][0-9]|0[1-9]|[1-9]| [1-9]",
        'f' => r"[0-9]{1,6}",
        'H' => r"2[0-3]|[0-1][0-9]|[0-9]",
        'I' => r"1[0-2]|0[1-9]|[1-9]",
        'G' | 'Y' => r"[0-9]{4}",
        'j' => r"36[0-6]|3[0-5][0-9]|[1-2][0-9][0-9]|0[1-9][0-9]|00[1-9]|[1-9][0-9]|0[1-9]|[1-9]",
        'm' => r"1[0-2]|0[1-9]|[1-9]",
        'M' => r"[0-5][0-9]|[0-9]",
        'S' => r"6[0-1]|[0-5][0-9]|[0-9]",
        'U' | 'W' => r"5[0-3]|[0-4][0-9]|[0-9]",
        'V' => r"5[0-3]|0[1-9]|[1-4][0-9]|[0-9]",
        'w' => r"[0-6]",
        'u' => r"[1-7]",
        'y' => r"[0-9]{2}",
        'z' => r"[+-][0-9]{2}:?[0-5][0-9](?::?[0-5][0-9](?:\.[0-9]{1,6})?)?|(?-i:Z)",
        'p' => "am|pm",
        'Z' => "utc|gmt",
        'A' => return Some(names(&DAYS, None)),
        'a' => return Some(names(&DAYS, Some(3))),
        'B' => return Some(names(&MONTHS, None)),
        'b' => return Some(names(&MONTHS, Some(3))),
        _ => return None,
    };
    Some(fixed.into())
}

/// Week numbers of one calendar need the year of the same calendar and a weekday.
fn conflict(order: &[char]) -> Option<&'static str> {
    let has = |c| order.contains(&c);
    let weekday = ['A', 'a', 'w', 'u'].into_iter().any(has);
    if has('G') {
        if has('j') {
            return Some("%j belongs to %Y, not to %G");
        }
        return (!(has('V') && weekday)).then_some("%G needs %V and a weekday");
    }
    match has('V') {
        true if has('Y') => Some("%V belongs to %G, not to %Y"),
        true => Some("%V needs %G and a weekday"),
        false => None,
    }
}

#[derive(Default)]
struct Parts {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    minute: i8,
    second: i8,
    micros: i32,
    half: Option<bool>,
    hour12: Option<i8>,
    day_of_year: Option<i32>,
    /// Monday is 0.
    weekday: Option<i32>,
    week: Option<(i32, Weekday)>,
    iso_year: Option<i16>,
    iso_week: Option<i32>,
    offset: Option<SignedDuration>,
}

impl Parts {
    fn take(&mut self, directive: char, text: &str) -> Option<()> {
        let number = || text.trim_start().parse::<i32>().ok();
        match directive {
            'Y' => self.year = Some(number()? as i16),
            'y' => self.year = Some(number().map(|y| if y <= 68 { 2000 + y } else { 1900 + y })? as i16),
            'm' => self.month = Some(number()? as i8),
            'd' => self.day = Some(number()? as i8),
            'B' | 'b' => self.month = Some(1 + position(&MONTHS, text)? as i8),
            'H' => self.hour = number()? as i8,
            'I' => self.hour12 = Some(number()? as i8),
            'p' => self.half = Some(text.eq_ignore_ascii_case("pm")),
            'M' => self.minute = number()? as i8,
            'S' => self.second = number()? as i8,
            'f' => self.micros = format!("{text:0<6}").parse().ok()?,
            'A' | 'a' => self.weekday = Some(position(&DAYS, text)? as i32),
            'w' => self.weekday = Some((number()? + 6) % 7),
            'u' => self.weekday = Some(number()? - 1),
            'j' => self.day_of_year = Some(number()?),
            'U' => self.week = Some((number()?, Weekday::Sunday)),
            'W' => self.week = Some((number()?, Weekday::Monday)),
            'G' => self.iso_year = Some(number()? as i16),
            'V' => self.iso_week = Some(number()?),
            'z' => self.offset = Some(offset(text)?),
            _ => {}
        }
        Some(())
    }

    fn moment(self) -> Option<Moment> {
        let hour = match self.hour12 {
            Some(hour) => hour % 12 + if self.half == Some(true) { 12 } else { 0 },
            None => self.hour,
        };
        let time = Time::new(hour, self.minute, self.second, self.micros * 1000).ok()?;
        let date = self.date()?;
        (1..=9999).contains(&date.year()).then_some(())?;
        Some(Moment { wall: date.to_datetime(time), offset: self.offset.unwrap_or(SignedDuration::ZERO) })
    }

    fn date(&self) -> Option<Date> {
        let year = self.year.unwrap_or(1900);
        if let Some(day) = self.day_of_year {
            return Date::new(year, 1, 1).ok()?.checked_add((day - 1).days()).ok();
        }
        if let (Some(weekday), Some((week, start))) = (self.weekday, self.week) {
            return week_day(year, week, start, weekday);
        }
        if let (Some(weekday), Some(iso_year), Some(iso_week)) = (self.weekday, self.iso_year, self.iso_week) {
            // Week 53 of a year that has 52 is the first week of the next one.
            let fourth = i32::from(Date::new(iso_year, 1, 4).ok()?.weekday().to_monday_one_offset());
            let ordinal = iso_week * 7 + weekday + 1 - (fourth + 3);
            return Date::new(iso_year, 1, 1).ok()?.checked_add((ordinal - 1).days()).ok();
        }
        Date::new(year, self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()
    }
}

/// The day of a week that is counted from the year's first Sunday or Monday; week 0 lies before it.
fn week_day(year: i16, week: i32, start: Weekday, weekday: i32) -> Option<Date> {
    let first = Date::new(year, 1, 1).ok()?;
    let shift = |monday_zero: i32| if start == Weekday::Sunday { (monday_zero + 1) % 7 } else { monday_zero };
    let of_first = shift(i32::from(first.weekday().to_monday_zero_offset()));
    let weekday = shift(weekday);
    let ordinal = if week == 0 { weekday - of_first } else { (7 - of_first) % 7 + 7 * (week - 1) + weekday };
    first.checked_add(ordinal.days()).ok()
}

fn position(all: &[&str], text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    all.iter().position(|name| name.starts_with(&text))
}

fn offset(text: &str) -> Option<SignedDuration> {
    if text == "Z" {
        return Some(SignedDuration::ZERO);
    }
    let (sign, rest) = text.split_at(1);
    let colons = rest.as_bytes().get(2) == Some(&b':');
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    // Colons are everywhere or nowhere.
    let count = whole.matches(':').count();
    let digits = whole.replace(':', "");
    if (digits.len() == 6 && count != if colons { 2 } else { 0 }) || !digits.len().is_multiple_of(2) {
        return None;
    }
    let number = |at: usize| digits.get(at..at + 2).map_or(Some(0), |d| d.parse::<i64>().ok());
    let seconds = number(0)? * 3600 + number(2)? * 60 + number(4)?;
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let offset = SignedDuration::from_secs(seconds) + SignedDuration::from_micros(micros);
    if offset >= SignedDuration::from_hours(24) {
        return None;
    }
    Some(if sign == "-" { -offset } else { offset })
}
