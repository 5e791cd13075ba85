//! Methods of dates, times and durations.

use jiff::{
    SignedDuration,
    civil::{Date, DateTime, Time},
};

use super::{
    arguments::{Given, int, required, text},
    times,
    value::{Fault, Named, Outcome, Py, Run, other, type_error},
};
use crate::datetime::{self, Format, Moment};

pub(super) fn call<'a>(run: &Run, object: &Py<'a>, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    match object {
        Py::Moment(moment, zoned) => moment_method(run, moment, *zoned, name, given),
        Py::Date(date) => date_method(run, *date, name, given),
        Py::Delta(micros) => given.none().map(|()| Py::Float(*micros as f64 / 1e6)),
        Py::Clock(time) if name == "isoformat" => {
            let [timespec] = given.places(["timespec"])?;
            iso(times::clock_text_to(*time, &text_or(timespec, "auto")?))
        }
        Py::Clock(time) => {
            let format = one_text(given, "format")?;
            Ok(Py::text(strftime(&Moment::utc(Date::constant(1900, 1, 1).to_datetime(*time)), false, &format)))
        }
        _ => type_error(format!("'{}' object has no method {name}", object.kind())),
    }
}

fn one_text(given: Given<'_>, name: &str) -> Outcome<String> {
    let [value] = given.places([name])?;
    text(&required(value, name)?)
}

fn text_or(value: Option<Py<'_>>, default: &str) -> Outcome<String> {
    value.map_or_else(|| Ok(default.to_owned()), |value| text(&value))
}

fn iso<'a>(written: Option<String>) -> Outcome<Py<'a>> {
    written.map_or_else(|| other("Unknown timespec value"), |written| Ok(Py::text(written)))
}

/// C's `strftime`: what the language adds for formats of cursors does not hold here.
pub(super) fn strftime(moment: &Moment, zoned: bool, format: &str) -> String {
    if zoned || !format.contains('%') {
        return datetime::strftime(moment, format);
    }
    datetime::strftime(moment, &format.replace("%z", "").replace("%Z", ""))
}

fn out_of_range() -> Fault {
    Fault::Other("a part of the time is out of range".into())
}

fn moment_method<'a>(run: &Run, moment: &Moment, zoned: bool, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    match name {
        "strftime" => Ok(Py::text(strftime(moment, zoned, &one_text(given, "format")?))),
        "isoformat" => {
            let [separator, timespec] = given.places(["sep", "timespec"])?;
            iso(times::isoformat_to(moment, zoned, &text_or(separator, "T")?, &text_or(timespec, "auto")?))
        }
        "tzname" => given.none().map(|()| match (zoned, moment.offset.is_zero()) {
            (false, _) => Py::None,
            (true, true) => Py::text("UTC"),
            (true, false) => Py::text(times::zone_text(moment.offset)),
        }),
        // What has a zone here has a fixed one.
        "dst" => given.none().map(|()| Py::None),
        "timetuple" => given.none().map(|()| time_tuple(moment.wall, -1)),
        "utctimetuple" => {
            given.none()?;
            times::shifted(moment.wall, -moment.offset.as_micros()).map(|wall| time_tuple(wall, 0))
        }
        "timetz" => given.none().map(|()| Py::Clock(moment.wall.time())),
        "combine" => {
            let [date, time] = given.places(["date", "time"])?;
            match (required(date, "date")?, required(time, "time")?) {
                (Py::Date(date), Py::Clock(time)) => Ok(Py::Moment(Moment::utc(date.to_datetime(time)), false)),
                (Py::Moment(day, _), Py::Clock(time)) => Ok(Py::Moment(Moment::utc(day.wall.date().to_datetime(time)), false)),
                _ => type_error("combine() takes a date and a time"),
            }
        }
        "date" => given.none().map(|()| Py::Date(moment.wall.date())),
        "time" => given.none().map(|()| Py::Clock(moment.wall.time())),
        "timestamp" => given.none().map(|()| Py::Float(moment.timestamp())),
        "utcoffset" => given.none().map(|()| if zoned { Py::Delta(moment.offset.as_micros()) } else { Py::None }),
        "replace" => replace_moment(moment, zoned, given),
        "astimezone" => {
            let [zone] = given.places(["tz"])?;
            let offset = match zone {
                Some(Py::Zone(offset)) => offset,
                None | Some(Py::None) => SignedDuration::ZERO,
                Some(_) => return type_error("tzinfo argument must be None or of a tzinfo subclass"),
            };
            let wall = times::shifted(moment.wall, (offset - moment.offset).as_micros())?;
            Ok(Py::Moment(Moment { wall, offset }, true))
        }
        "now" | "utcnow" | "today" => {
            let [zone] = given.places(["tz"])?;
            Ok(Py::Moment(times::now(run.now), matches!(zone, Some(Py::Zone(_)))))
        }
        "fromtimestamp" | "utcfromtimestamp" => {
            let [at, zone] = given.places(["timestamp", "tz"])?;
            let seconds = required(at, "timestamp")?.as_number().ok_or_else(|| Fault::Type("a number is expected".into()))?;
            let micros = (seconds * 1e6).round_ties_even() as i128;
            let wall = times::shifted(DateTime::constant(1970, 1, 1, 0, 0, 0, 0), micros)?;
            Ok(Py::Moment(Moment::utc(wall), matches!(zone, Some(Py::Zone(_)))))
        }
        "strptime" => strptime(given),
        "fromisoformat" => {
            let given = text(&given.between(1, 1)?[0])?;
            match times::isoparse(&given) {
                Some((moment, zoned)) => Ok(Py::Moment(moment, zoned)),
                None => other("Invalid isoformat string"),
            }
        }
        "ctime" => given.none().map(|()| Py::text(datetime::strftime(moment, "%a %b %e %H:%M:%S %Y"))),
        _ => date_method(run, moment.wall.date(), name, given),
    }
}

static ISO_WEEK: Named = Named { kind: "datetime.IsoCalendarDate", fields: &["year", "week", "weekday"] };
static TIME_TUPLE: Named = Named {
    kind: "time.struct_time",
    fields: &["tm_year", "tm_mon", "tm_mday", "tm_hour", "tm_min", "tm_sec", "tm_wday", "tm_yday", "tm_isdst"],
};

fn time_tuple<'a>(wall: DateTime, summer: i128) -> Py<'a> {
    let parts =
        [wall.year().into(), wall.month().into(), wall.day().into(), wall.hour().into(), wall.minute().into(), wall.second().into()];
    let days = [i128::from(wall.weekday().to_monday_zero_offset()), wall.day_of_year().into(), summer];
    Py::named(&TIME_TUPLE, parts.into_iter().chain(days).map(Py::Int).collect())
}

/// Python's own `strptime`: without a zone in the format, the time has none.
fn strptime<'a>(given: Given<'a>) -> Outcome<Py<'a>> {
    let given = given.between(2, 2)?;
    parse(&text(&given[0])?, &text(&given[1])?)
}

pub(super) fn parse<'a>(value: &str, format: &str) -> Outcome<Py<'a>> {
    if matches!(format, "%s" | "%ms" | "%s_as_float" | "%epoch_microseconds") || format.contains("%_ms") {
        return other(format!("the format {format:?} has a bad directive"));
    }
    let parsed = Format::new(format).parse(value);
    match parsed {
        Ok(moment) => Ok(Py::Moment(moment, has_directive(format, 'z'))),
        Err(e) => other(e.message().to_owned()),
    }
}

fn has_directive(format: &str, wanted: char) -> bool {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '%' && chars.next() == Some(wanted) {
            return true;
        }
    }
    false
}

fn date_method<'a>(run: &Run, date: Date, name: &str, given: Given<'a>) -> Outcome<Py<'a>> {
    let monday = i128::from(date.weekday().to_monday_zero_offset());
    match name {
        "strftime" => Ok(Py::text(strftime(&Moment::utc(date.to_datetime(Time::midnight())), false, &one_text(given, "format")?))),
        "isoformat" => given.none().map(|()| Py::text(format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()))),
        "weekday" => given.none().map(|()| Py::Int(monday)),
        "isoweekday" => given.none().map(|()| Py::Int(monday + 1)),
        "isocalendar" => {
            given.none()?;
            let week = date.iso_week_date();
            Ok(Py::named(&ISO_WEEK, vec![Py::Int(week.year().into()), Py::Int(week.week().into()), Py::Int(monday + 1)]))
        }
        "timetuple" => given.none().map(|()| time_tuple(date.to_datetime(Time::midnight()), -1)),
        "fromtimestamp" => {
            let seconds = given.between(1, 1)?[0].as_number().ok_or_else(|| Fault::Type("a number is expected".into()))?;
            let wall = times::shifted(DateTime::constant(1970, 1, 1, 0, 0, 0, 0), (seconds * 1e6).round_ties_even() as i128)?;
            Ok(Py::Date(wall.date()))
        }
        "toordinal" => {
            given.none()?;
            let days = date.duration_since(Date::constant(1, 1, 1)).as_hours() / 24 + 1;
            Ok(Py::Int(days.into()))
        }
        "replace" => {
            let [year, month, day] = given.places(["year", "month", "day"])?;
            replaced_date(date, [year, month, day]).map(Py::Date)
        }
        "today" => given.none().map(|()| Py::Date(times::now(run.now).wall.date())),
        "fromisoformat" => {
            let given = text(&given.between(1, 1)?[0])?;
            match given.parse::<Date>() {
                Ok(date) => Ok(Py::Date(date)),
                Err(_) => other("Invalid isoformat string"),
            }
        }
        "ctime" => {
            given.none().map(|()| Py::text(datetime::strftime(&Moment::utc(date.to_datetime(Time::midnight())), "%a %b %e %H:%M:%S %Y")))
        }
        _ => type_error(format!("a date has no method {name}")),
    }
}

fn part<T: TryFrom<i128>>(value: Option<Py<'_>>, default: T) -> Outcome<T> {
    match value {
        None => Ok(default),
        Some(value) => int(&value)?.try_into().map_err(|_| out_of_range()),
    }
}

fn replaced_date(date: Date, [year, month, day]: [Option<Py<'_>>; 3]) -> Outcome<Date> {
    let date = Date::new(part(year, date.year())?, part(month, date.month())?, part(day, date.day())?);
    date.ok().filter(|date| date.year() > 0).ok_or_else(out_of_range)
}

fn replace_moment<'a>(moment: &Moment, zoned: bool, given: Given<'a>) -> Outcome<Py<'a>> {
    let names = ["year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo"];
    let [year, month, day, hour, minute, second, micros, zone] = given.places(names)?;
    let date = replaced_date(moment.wall.date(), [year, month, day])?;
    let time = moment.wall.time();
    let micros: i32 = part(micros, time.subsec_nanosecond() / 1000)?;
    let nanos = micros.checked_mul(1000).ok_or_else(out_of_range)?;
    let time = Time::new(part(hour, time.hour())?, part(minute, time.minute())?, part(second, time.second())?, nanos);
    let wall = date.to_datetime(time.map_err(|_| out_of_range())?);
    Ok(match zone {
        None => Py::Moment(Moment { wall, offset: moment.offset }, zoned),
        Some(Py::Zone(offset)) => Py::Moment(Moment { wall, offset }, true),
        Some(Py::None) => Py::Moment(Moment::utc(wall), false),
        Some(_) => return type_error("tzinfo argument must be None or of a tzinfo subclass"),
    })
}
