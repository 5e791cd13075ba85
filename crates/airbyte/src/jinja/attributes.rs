//! Which attributes the values have.

use std::rc::Rc;

use jiff::civil::{Date, DateTime};

use super::{
    times::{DAY, delta_parts},
    value::{Outcome, Py},
};
use crate::datetime::Moment;

const TEXT: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const LIST: &[&str] = &["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE: &[&str] = &["count", "index"];
const DICT: &[&str] = &["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const MAPPING: &[&str] = &["get", "items", "keys", "values"];
const HEADERS: &[&str] = &["get", "items", "keys", "values", "lower_items", "copy"];
const SET: &[&str] =
    &["add", "copy", "difference", "discard", "intersection", "isdisjoint", "issubset", "issuperset", "remove", "union", "update"];
const BYTES: &[&str] = &["decode", "hex"];
const INT: &[&str] = &["bit_length", "conjugate", "as_integer_ratio", "to_bytes", "is_integer"];
const FLOAT: &[&str] = &["is_integer", "conjugate", "as_integer_ratio", "hex"];
const MOMENT: &[&str] = &[
    "astimezone",
    "combine",
    "ctime",
    "date",
    "dst",
    "fromisoformat",
    "fromtimestamp",
    "isocalendar",
    "isoformat",
    "isoweekday",
    "now",
    "replace",
    "strftime",
    "strptime",
    "time",
    "timestamp",
    "timetuple",
    "timetz",
    "today",
    "toordinal",
    "tzname",
    "utcfromtimestamp",
    "utcnow",
    "utcoffset",
    "utctimetuple",
    "weekday",
];
const DATE: &[&str] = &[
    "ctime",
    "fromisoformat",
    "fromtimestamp",
    "isocalendar",
    "isoformat",
    "isoweekday",
    "replace",
    "strftime",
    "timetuple",
    "today",
    "toordinal",
    "weekday",
];
const CLOCK: &[&str] = &["isoformat", "strftime"];
const DELTA: &[&str] = &["total_seconds"];
const LOOP: &[&str] = &["cycle", "changed"];
const CYCLER: &[&str] = &["next", "reset"];

/// A method by its name.
pub(super) fn method<'a>(value: &Py<'a>, name: &str) -> Option<Py<'a>> {
    let names = match value {
        Py::Text(_) => TEXT,
        Py::List(_) | Py::JsonList(_) => LIST,
        Py::Tuple(_) | Py::Named(..) => TUPLE,
        Py::Dict(_) | Py::JsonDict(_) => DICT,
        Py::Record(_) | Py::Slice(_) => MAPPING,
        Py::Headers(_) => HEADERS,
        Py::Set(_) => SET,
        Py::Bytes(_) => BYTES,
        Py::Int(_) | Py::Bool(_) => INT,
        Py::Float(_) => FLOAT,
        Py::Moment(..) => MOMENT,
        Py::Date(_) => DATE,
        Py::Clock(_) => CLOCK,
        Py::Delta(_) => DELTA,
        Py::Loop(_) => LOOP,
        Py::Cycler(_) => CYCLER,
        _ => &[],
    };
    names.iter().find(|known| **known == name).map(|known| Py::Method(Rc::new(value.clone()), known))
}

/// The parts of a time or a duration.
pub(super) fn time_attribute<'a>(value: &Py<'a>, name: &str) -> Option<Py<'a>> {
    let int = |n: i64| Some(Py::Int(n.into()));
    match value {
        Py::Moment(moment, zoned) => match name {
            "tzinfo" if *zoned => Some(Py::Zone(moment.offset)),
            "tzinfo" => Some(Py::None),
            "fold" => int(0),
            "min" => Some(Py::Moment(Moment::utc(DateTime::constant(1, 1, 1, 0, 0, 0, 0)), false)),
            "max" => Some(Py::Moment(Moment::utc(DateTime::constant(9999, 12, 31, 23, 59, 59, 999_999_000)), false)),
            "resolution" => Some(Py::Delta(1)),
            _ => date_part(moment.wall.date(), name).or_else(|| clock_part(moment.wall.time(), name)),
        },
        Py::Date(date) => match name {
            "min" => Some(Py::Date(Date::constant(1, 1, 1))),
            "max" => Some(Py::Date(Date::constant(9999, 12, 31))),
            "resolution" => Some(Py::Delta(DAY)),
            _ => date_part(*date, name),
        },
        Py::Clock(_) if name == "tzinfo" => Some(Py::None),
        Py::Clock(time) => clock_part(*time, name),
        Py::Delta(micros) => {
            let (days, seconds, micros) = delta_parts(*micros);
            match name {
                "days" => Some(Py::Int(days)),
                "seconds" => Some(Py::Int(seconds)),
                "microseconds" => Some(Py::Int(micros)),
                "min" => Some(Py::Delta(-999_999_999 * DAY)),
                "max" => Some(Py::Delta(1_000_000_000 * DAY - 1)),
                "resolution" => Some(Py::Delta(1)),
                _ => None,
            }
        }
        Py::Months(months) => match name {
            "years" => Some(Py::Float(months.years)),
            "months" => Some(Py::Float(months.months)),
            "tdelta" => Some(Py::Delta(months.micros)),
            // Everything else is asked of the part without months.
            _ => time_attribute(&Py::Delta(months.micros), name).or_else(|| method(&Py::Delta(months.micros), name)),
        },
        _ => None,
    }
}

fn date_part<'a>(date: Date, name: &str) -> Option<Py<'a>> {
    Some(Py::Int(match name {
        "year" => date.year().into(),
        "month" => date.month().into(),
        "day" => date.day().into(),
        _ => return None,
    }))
}

fn clock_part<'a>(time: jiff::civil::Time, name: &str) -> Option<Py<'a>> {
    Some(Py::Int(match name {
        "hour" => time.hour().into(),
        "minute" => time.minute().into(),
        "second" => time.second().into(),
        "microsecond" => (time.subsec_nanosecond() / 1000).into(),
        _ => return None,
    }))
}

/// What a loop knows about itself.
pub(super) fn loop_attribute<'a>(value: &Py<'a>, name: &str) -> Option<Py<'a>> {
    let Py::Loop(inside) = value else { return None };
    let (at, length) = (inside.at.get(), inside.items.len());
    let int = |n: usize| Some(Py::Int(n as i128));
    match name {
        "index" => int(at + 1),
        "index0" => int(at),
        "revindex" => int(length - at),
        "revindex0" => int(length - at - 1),
        "first" => Some(Py::Bool(at == 0)),
        "last" => Some(Py::Bool(at + 1 == length)),
        "length" => int(length),
        "depth" => int(inside.depth + 1),
        "depth0" => int(inside.depth),
        "previtem" => Some(at.checked_sub(1).and_then(|at| inside.items.get(at)).cloned().unwrap_or(Py::UNDEFINED)),
        "nextitem" => Some(inside.items.get(at + 1).cloned().unwrap_or(Py::UNDEFINED)),
        _ => method(value, name),
    }
}

/// Whether a value can be called.
pub(super) fn is_callable(value: &Py<'_>) -> Outcome<bool> {
    Ok(matches!(value, Py::Method(..) | Py::Builtin(_) | Py::Macro(_) | Py::Joiner(_) | Py::Undefined(_) | Py::Loop(_)))
}
