//! Dates and times as the language's formats read and write them: Python's directives, and the epoch's ones of the language itself.

mod read;
mod write;

use jiff::{SignedDuration, civil::DateTime};
use linkspan_core::{Error, ErrorKind, Result};

use read::Pattern;

/// A wall time with its distance from UTC, as Python's aware datetime; microseconds are the finest part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall: DateTime,
    /// East of UTC is positive.
    pub offset: SignedDuration,
}

impl Moment {
    pub fn utc(wall: DateTime) -> Self {
        Self { wall, offset: SignedDuration::ZERO }
    }
    /// The same moment on UTC's wall clock. `DataInvalid` outside the years that a calendar has.
    pub fn to_utc(self) -> Result<DateTime> {
        self.wall.checked_sub(self.offset).map_err(|e| bad("the time is out of range").because(e))
    }
    fn epoch_micros(self) -> i128 {
        let since = self.wall.duration_since(EPOCH);
        (since - self.offset).as_micros()
    }
    /// As Python's `timestamp()`: a float, so that its roundings are kept.
    pub fn timestamp(self) -> f64 {
        self.epoch_micros() as f64 / 1e6
    }
    fn from_epoch_micros(micros: i128) -> Result<Self> {
        let out = || bad("the time is out of range").fix("check that the format's unit (%s, %ms, %epoch_microseconds) is the API's");
        let since = SignedDuration::from_secs(i64::try_from(micros / 1_000_000).map_err(|_| out())?);
        let rest = SignedDuration::from_micros((micros % 1_000_000) as i64);
        let wall = EPOCH.checked_add(since).and_then(|wall| wall.checked_add(rest)).map_err(|_| out())?;
        if !(1..=9999).contains(&wall.year()) {
            return Err(out());
        }
        Ok(Self::utc(wall))
    }
}

const EPOCH: DateTime = jiff::civil::datetime(1970, 1, 1, 0, 0, 0, 0);

/// A format, made ready once and used for many values.
pub struct Format(Kind);

enum Kind {
    Seconds,
    FloatSeconds,
    Millis,
    Micros,
    /// `%_ms` stands for milliseconds wherever the rest has `%f`.
    Pattern {
        text: String,
        millis: bool,
        read: Box<std::sync::OnceLock<Result<Pattern, String>>>,
    },
}

impl Format {
    pub fn new(format: &str) -> Self {
        Self(match format {
            "%s" => Kind::Seconds,
            "%s_as_float" => Kind::FloatSeconds,
            "%ms" => Kind::Millis,
            "%epoch_microseconds" => Kind::Micros,
            other => {
                let millis = other.contains("%_ms");
                Kind::Pattern { text: other.replace("%_ms", "%f"), millis, read: Box::default() }
            }
        })
    }

    /// Reads a value; a text without a zone is UTC. `DataInvalid` when it is not of this format, `ConfigInvalid` when the format itself is wrong.
    pub fn parse(&self, text: &str) -> Result<Moment> {
        let whole = |scale: i128| {
            let number = integer(text).ok_or_else(|| bad("the value is not a whole number"))?;
            Moment::from_epoch_micros(number.checked_mul(scale).ok_or_else(|| bad("the time is out of range"))?)
        };
        match &self.0 {
            Kind::Seconds => whole(1_000_000),
            Kind::Millis => whole(1_000),
            Kind::Micros => whole(1),
            Kind::FloatSeconds => {
                let seconds = float(text).ok_or_else(|| bad("the value is not a number"))?;
                Moment::from_epoch_micros(half_even_micros(seconds).ok_or_else(|| bad("the time is out of range"))?)
            }
            Kind::Pattern { text: format, read, .. } => match read.get_or_init(|| Pattern::new(format)) {
                Ok(pattern) => pattern.read(text).map_err(|why| bad(why).with("format", format)),
                Err(why) => Err(Error::new(ErrorKind::ConfigInvalid, why.clone())
                    .with("format", format)
                    .fix("use the directives of Python's strptime, or %s, %ms, %s_as_float, %epoch_microseconds")),
            },
        }
    }

    pub fn format(&self, moment: &Moment) -> String {
        match &self.0 {
            Kind::Seconds => (moment.timestamp().trunc() as i128).to_string(),
            Kind::FloatSeconds => crate::python::float_text(moment.timestamp()),
            Kind::Millis => ((moment.timestamp() * 1000.0).trunc() as i128).to_string(),
            Kind::Micros => ((moment.timestamp() * 1_000_000.0).trunc() as i128).to_string(),
            Kind::Pattern { text, millis, .. } => {
                let written = write::written(moment, text);
                if !millis {
                    return written;
                }
                // Every occurrence of the six digits is shortened, as the reference does.
                let micros = moment.wall.subsec_nanosecond() / 1000;
                written.replace(&format!("{micros:06}"), &format!("{:03}", micros / 1000))
            }
        }
    }
}

/// C's `strftime`, without what the language adds to it.
pub fn strftime(moment: &Moment, format: &str) -> String {
    write::written(moment, format)
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::DataInvalid, message)
}

/// As Python's `int(text)`: spaces around, a sign, single underscores between digits. Digits of other scripts are not read.
fn integer(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    tidy(digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit() || b == b'_'))?;
    text.replace('_', "").parse().ok()
}

fn float(text: &str) -> Option<f64> {
    let text = text.trim();
    tidy(text)?;
    text.replace('_', "").parse().ok()
}

/// Underscores stand alone and between digits only.
fn tidy(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let fine = bytes.iter().enumerate().all(|(at, b)| *b != b'_' || (digit(at.checked_sub(1)) && digit(Some(at + 1))));
    (fine && !text.is_empty()).then_some(text)
}

/// Python splits off the fraction before it rounds, half to even.
fn half_even_micros(seconds: f64) -> Option<i128> {
    if !seconds.is_finite() || seconds.abs() > 1e12 {
        return None;
    }
    Some(seconds.trunc() as i128 * 1_000_000 + (seconds.fract() * 1e6).round_ties_even() as i128)
}
