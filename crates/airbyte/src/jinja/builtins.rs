//! The functions that every template has: the language's macros and Jinja's own few.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::{
    access::{length, list_of, pairs_of},
    arguments::{Given, required, text},
    codes::quoted_plus,
    order::{insert, order},
    time_methods, times,
    value::{Fault, Outcome, Py, Run, other, type_error},
};
use crate::datetime::{Format, Moment};

pub(super) fn call<'a>(run: &Run, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    run.step(1)?;
    match name {
        "now_utc" => given.none().map(|()| Py::Moment(times::now(run.now), true)),
        "today_utc" => given.none().map(|()| Py::Date(times::now(run.now).wall.date())),
        "today_with_timezone" => {
            let [zone] = given.places(["timezone"])?;
            let zone = text(&required(zone, "timezone")?)?;
            match linkspan_core::time_zone(&zone) {
                Some(zone) => Ok(Py::Date(run.now.to_zoned(zone).date())),
                None => other(format!("there is no time zone {zone:?}")),
            }
        }
        "timestamp" => {
            let [at] = given.places(["dt"])?;
            timestamp(&required(at, "dt")?)
        }
        "str_to_datetime" => {
            let [value] = given.places(["s"])?;
            Ok(Py::Moment(utc_of(&required(value, "s")?)?, true))
        }
        "max" | "min" => extreme(run, name == "max", given),
        "day_delta" => day_delta(run, given),
        "duration" => {
            let [value] = given.places(["datestring"])?;
            match required(value, "datestring")? {
                Py::Text(text) => times::duration(&text),
                other => type_error(format!("Expecting a string {}", other.kind())),
            }
        }
        "format_datetime" => format_datetime(given),
        "sanitize_url" => {
            let [value] = given.places(["value"])?;
            Ok(Py::text(quoted_plus(&text(&required(value, "value")?)?)))
        }
        "camel_case_to_snake_case" => {
            let [value] = given.places(["value"])?;
            Ok(Py::text(snake_case(&text(&required(value, "value")?)?)))
        }
        "generate_uuid" => given.none().map(|()| Py::text(uuid::Uuid::new_v4().to_string())),
        "dict" => dict(run, given).map(Py::dict),
        "namespace" => {
            let pairs = dict(run, given)?;
            let fields = pairs.into_iter().map(|(key, value)| Ok((text(&key)?, value))).collect::<Outcome<Vec<_>>>()?;
            Ok(Py::Namespace(Rc::new(RefCell::new(fields))))
        }
        "cycler" => {
            let items = given.plain()?;
            if items.is_empty() {
                return other("at least one item has to be provided");
            }
            Ok(Py::Cycler(Rc::new((items, Cell::new(0)))))
        }
        "joiner" => {
            let [separator] = given.places(["sep"])?;
            let separator = separator.map(|value| text(&value)).transpose()?.unwrap_or(", ".into());
            Ok(Py::Joiner(Rc::new((separator, Cell::new(false)))))
        }
        _ => other(format!("the function {name} is not supported")),
    }
}

/// A joiner is empty the first time.
pub(super) fn join<'a>(joiner: &(String, Cell<bool>)) -> Py<'a> {
    if joiner.1.replace(true) { Py::text(joiner.0.as_str()) } else { Py::text("") }
}

fn dict<'a>(run: &Run, given: Given<'a>) -> Outcome<super::value::Pairs<'a>> {
    let mut pairs = Vec::new();
    let written = match given.positional.as_slice() {
        [] => Vec::new(),
        [one] => pairs_of(run, one)?,
        _ => return type_error("dict expected at most 1 argument"),
    };
    for (key, value) in written {
        insert(run, &mut pairs, key, value)?;
    }
    for (name, value) in given.named {
        insert(run, &mut pairs, Py::text(name), value)?;
    }
    Ok(pairs)
}

/// A text of ISO 8601 as a moment in UTC; one without a zone is UTC.
fn utc_of(value: &Py<'_>) -> Outcome<Moment> {
    let Py::Text(value) = value else {
        value.defined()?;
        // What is too short is no date; what is longer turns out to be no text.
        if length(value).is_ok_and(|length| length < 4) {
            return other("the text is no date of ISO 8601");
        }
        return type_error(format!("a text is expected, not {}", value.kind()));
    };
    match times::isoparse(value) {
        Some((moment, _)) => in_utc(&moment),
        None => other("the text is no date of ISO 8601"),
    }
}

fn in_utc(moment: &Moment) -> Outcome<Moment> {
    moment.to_utc().map(Moment::utc).map_err(|e| Fault::Other(e.message().to_owned()))
}

fn timestamp<'a>(value: &Py<'a>) -> Outcome<Py<'a>> {
    if let Some(n) = value.as_int() {
        return Ok(Py::Int(n));
    }
    match value {
        Py::Float(f) if f.is_finite() => Ok(Py::Int(f.trunc() as i128)),
        Py::Float(_) => other("cannot convert float to integer"),
        value => Ok(Py::Float(utc_of(value)?.timestamp())),
    }
}

fn extreme<'a>(run: &Run, largest: bool, given: Given<'a>) -> Outcome<Py<'a>> {
    let mut items = given.plain()?;
    if items.len() == 1 {
        items = list_of(run, &items[0])?;
        if items.is_empty() {
            return other("the sequence is empty");
        }
    }
    let mut items = items.into_iter();
    let Some(mut best) = items.next() else { return type_error("at least 1 argument is expected") };
    let sign = if largest { ">" } else { "<" };
    for next in items {
        let order = order(run, &next, &best, sign)?;
        if order.is_some_and(|order| if largest { order.is_gt() } else { order.is_lt() }) {
            best = next;
        }
    }
    Ok(best)
}

fn day_delta<'a>(run: &Run, given: Given<'a>) -> Outcome<Py<'a>> {
    let [days, format] = given.places(["num_days", "format"])?;
    let days = required(days, "num_days")?;
    let micros = match (days.as_int(), days.as_number()) {
        (Some(days), _) => days.saturating_mul(times::DAY),
        (_, Some(days)) => (days * times::DAY as f64).round_ties_even() as i128,
        _ => {
            days.defined()?;
            return type_error("unsupported type for timedelta days component");
        }
    };
    let format = format.map(|format| text(&format)).transpose()?.unwrap_or("%Y-%m-%dT%H:%M:%S.%f%z".into());
    let wall = times::shifted(times::now(run.now).wall, micros)?;
    Ok(Py::text(time_methods::strftime(&Moment::utc(wall), true, &format)))
}

fn format_datetime<'a>(given: Given<'a>) -> Outcome<Py<'a>> {
    let [value, format, input_format] = given.places(["dt", "format", "input_format"])?;
    let value = required(value, "dt")?;
    let format = text(&required(format, "format")?)?;
    let input_format = match input_format {
        None | Some(Py::None) => None,
        Some(input) => Some(text(&input)?).filter(|input| !input.is_empty()),
    };
    if let Py::Moment(moment, zoned) = &value {
        return Ok(Py::text(time_methods::strftime(moment, *zoned, &format)));
    }
    let moment = match (value.as_int(), input_format) {
        (Some(number), input) => {
            let parsed = Format::new(input.as_deref().unwrap_or("%s")).parse(&number.to_string());
            parsed.map_err(|e| Fault::Other(e.message().to_owned()))?
        }
        (None, Some(input)) => match time_methods::parse(&text(&value)?, &input)? {
            Py::Moment(moment, _) => moment,
            _ => return other("the text is no time"),
        },
        (None, None) => utc_of(&value)?,
    };
    Ok(Py::text(Format::new(&format).format(&moment)))
}

/// Before every capital but the first one.
fn snake_case(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    for (at, c) in value.chars().enumerate() {
        if at > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
