//! Cursor values that are times: how they are read and written, how long a duration is, and where a read starts and ends.

use jiff::Span;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::At;
use crate::{
    component::Component,
    datetime::{Format, Moment},
    python,
    template::{Scope, Template},
};

/// An ISO 8601 duration: signs, fractions and weeks beside other parts are allowed. Years and months follow the calendar.
pub fn duration(text: &str) -> Result<Span> {
    spans(text).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "a duration is expected here").with("found", text).fix("write it as ISO 8601: P1D, PT1H, P1M")
    })
}

fn spans(text: &str) -> Option<Span> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let rest = rest.strip_prefix('P')?;
    let (days, times) = rest.split_once('T').unwrap_or((rest, ""));
    if rest.is_empty() || !rest.as_bytes()[0].is_ascii_alphanumeric() {
        return None;
    }
    let mut span = Span::new();
    let mut micros = 0.0;
    let calendar = [('Y', None), ('M', None), ('W', Some(7.0 * DAY)), ('D', Some(DAY))];
    let clock = [('H', Some(3600e6)), ('M', Some(60e6)), ('S', Some(1e6))];
    for (unit, amount) in parts(days, calendar.map(|(u, _)| u))?.into_iter().zip(calendar).map(|(a, (u, f))| ((u, f), a)) {
        match (unit, amount) {
            (_, None) => {}
            (('Y', _), Some(years)) => span = span.try_years(years as i64).ok()?,
            ((_, None), Some(months)) => span = span.try_months(months as i64).ok()?,
            ((_, Some(scale)), Some(n)) => micros += n * scale,
        }
    }
    for (amount, (_, scale)) in parts(times, clock.map(|(u, _)| u))?.into_iter().zip(clock) {
        micros += amount.unwrap_or_default() * scale.unwrap_or_default();
    }
    let span = span.try_days((micros / DAY).trunc() as i64).ok()?.try_microseconds((micros % DAY).round() as i64).ok()?;
    Some(if negative { span.negate() } else { span })
}

const DAY: f64 = 86_400e6;

/// The amounts before each unit, in the order of the units; `None` when anything else is there.
fn parts<const N: usize>(text: &str, units: [char; N]) -> Option<[Option<f64>; N]> {
    let mut found = [None; N];
    let (mut rest, mut from) = (text, 0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ','))?;
        let unit = rest[end..].chars().next()?;
        let at = from + units[from..].iter().position(|u| *u == unit)?;
        found[at] = Some(rest[..end].replace(',', ".").parse().ok()?);
        (rest, from) = (&rest[end + 1..], at + 1);
    }
    Some(found)
}

/// The formats of a cursor: several to read by, tried in order, and one to write.
pub struct Dates {
    read: Vec<(Format, Kind)>,
    write: Format,
}

/// Whether a format counts, so that a JSON number is read as one.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counted,
    Float,
    Written,
}

impl Dates {
    pub fn new(written: &str, also_read: &[&str]) -> Self {
        let kind = |format: &str| match format {
            "%s" | "%ms" | "%epoch_microseconds" => Kind::Counted,
            "%s_as_float" => Kind::Float,
            _ => Kind::Written,
        };
        let read = also_read.iter().chain([&written]).map(|f| (Format::new(f), kind(f))).collect();
        Self { read, write: Format::new(written) }
    }

    /// `DataInvalid` when no format fits.
    pub fn read(&self, value: &Value) -> Result<At> {
        if let Value::String(text) = value {
            return self.parse(|format, _| format.parse(text));
        }
        self.parse(|format, kind| format.parse(&number_text(value, kind)))
    }

    /// Lists and objects are no times of any format, and an error where times are counted: the reference does not pass over those.
    pub fn takes(&self, value: &Value) -> Result<()> {
        let is_counted = |(_, kind): &(Format, Kind)| *kind != Kind::Written;
        if (value.is_array() || value.is_object()) && self.read.iter().any(is_counted) {
            return Err(Error::new(ErrorKind::DataInvalid, "the cursor's value is a list or an object where a number of time is expected"));
        }
        Ok(())
    }

    pub fn read_text(&self, text: &str) -> Result<At> {
        self.parse(|format, _| format.parse(text))
    }

    fn parse(&self, read: impl Fn(&Format, Kind) -> Result<Moment>) -> Result<At> {
        let mut wrong_format = None;
        for (format, kind) in &self.read {
            match read(format, *kind) {
                Ok(moment) => return Ok(At(moment)),
                Err(e) if e.kind() == ErrorKind::ConfigInvalid => wrong_format = Some(e),
                Err(_) => {}
            }
        }
        Err(wrong_format.unwrap_or_else(|| Error::new(ErrorKind::DataInvalid, "the cursor's value fits none of its formats")))
    }

    pub fn write(&self, at: At) -> String {
        self.write.format(&at.0)
    }
}

/// A value that is no text, as Python hands it to a format: whole numbers lose their fraction where whole ones are counted.
fn number_text(value: &Value, kind: Kind) -> String {
    match (value.as_f64(), kind) {
        (Some(number), Kind::Counted) if !value.is_i64() && !value.is_u64() => format!("{:.0}", number.trunc()),
        (None, Kind::Counted | Kind::Float) if value.is_boolean() => u8::from(value == &Value::Bool(true)).to_string(),
        _ => python::text(value),
    }
}

/// A time of the manifest, held between two others.
pub struct MinMax {
    time: Template,
    min: Option<Template>,
    max: Option<Template>,
    format: Format,
}

impl MinMax {
    /// A text, or a `MinMaxDatetime`; without a format of its own it has the cursor's.
    pub fn build(value: &Value, parameters: &Map<String, Value>, path: &str, inherited: &str) -> Result<Self> {
        let Value::Object(_) = value else {
            let text = value.as_str().map_or_else(|| python::text(value), str::to_owned);
            return Ok(Self { time: Template::parse(&text, parameters)?, min: None, max: None, format: Format::new(inherited) });
        };
        let component = Component::new(value, path)?;
        let bound = |name| component.template(name).map(|t| t.filter(|t| !t.source().is_empty()));
        let format = component.text("datetime_format")?.filter(|f| !f.is_empty()).unwrap_or(inherited);
        Ok(Self {
            time: component.required_template("datetime")?,
            min: bound("min_datetime")?,
            max: bound("max_datetime")?,
            format: Format::new(if format.is_empty() { "%Y-%m-%dT%H:%M:%S.%f%z" } else { format }),
        })
    }

    pub fn eval(&self, scope: &Scope<'_>) -> Result<At> {
        let time = self.parse(&self.time.text(scope)?)?;
        let bound = |template: &Option<Template>| -> Result<Option<At>> {
            let Some(template) = template else { return Ok(None) };
            let text = template.text(scope)?;
            if text.is_empty() { Ok(None) } else { self.parse(&text).map(Some) }
        };
        let time = bound(&self.min)?.map_or(time, |min| time.latest(min));
        Ok(bound(&self.max)?.map_or(time, |max| time.earliest(max)))
    }

    fn parse(&self, text: &str) -> Result<At> {
        self.format.parse(text).map(At).map_err(|e| {
            Error::new(ErrorKind::ConfigInvalid, "a start or end of the read is not a time of its format")
                .fix("compare the config's date with the manifest's datetime_format")
                .because(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_iso_8601_with_signs_and_fractions() {
        let same = |text: &str, span: Span| assert_eq!(duration(text).unwrap().fieldwise(), span.fieldwise(), "{text}");
        same("P1D", 1.day());
        same("P30D", 30.days());
        same("PT1H", 3_600_000_000_i64.microseconds());
        same("P1M", 1.month());
        same("P1Y2M10DT2H30M", 1.year().months(2).days(10).microseconds(9_000_000_000_i64));
        same("P1W", 7.days());
        same("-P1D", (-1).day());
        same("PT0.000001S", 1.microsecond());
        same("P0,5D", 43_200_000_000_i64.microseconds());
        for wrong in ["", "P", "1D", "PD", "P1X", "P1D2Y", "PT1D", "p1d", "P-1D"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_read_by_the_first_format_that_fits() {
        let dates = Dates::new("%Y-%m-%d", &["%s", "%Y-%m-%dT%H:%M:%S%z"]);
        let read = |value: Value| dates.write(dates.read(&value).unwrap());
        assert_eq!(read(json!("1710504000")), "2024-03-15");
        assert_eq!(read(json!(1_710_504_000)), "2024-03-15");
        assert_eq!(read(json!(1_710_504_000.9)), "2024-03-15");
        assert_eq!(read(json!("2024-03-15T00:00:00+05:00")), "2024-03-15");
        assert_eq!(dates.read(&json!("soon")).unwrap_err().kind(), ErrorKind::DataInvalid);
    }
}
