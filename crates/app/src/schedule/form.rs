//! A schedule as people write it and as it is kept.

use std::{borrow::Cow, fmt, time::Duration};

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, tz::TimeZone};
use linkspan_core::{Error, ErrorKind, Result, time_zone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cron::Cron, next};

/// When a connection runs by itself. Parsed from a cron expression, from `every 15m`, or from an object with more to say.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Schedule {
    pub when: When,
    /// Each run starts up to this much later, by an amount that differs from connection to connection and from run to run.
    pub jitter: Duration,
    pub catch_up: CatchUp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum When {
    Cron { cron: Cron, zone: TimeZone },
    Every(Duration),
}

/// What becomes of ticks that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are logged.
    #[default]
    Skip,
    /// They are logged, and one run makes up for all of them.
    Once,
}

/// The object form; every field but one of `cron` and `every` may be left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// Five fields, or six with seconds in front: `0 2 * * *`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    /// The zone of the cron expression: `Europe/Berlin`. UTC when not said.
    #[serde(skip_serializing_if = "Option::is_none", alias = "tz")]
    timezone: Option<String>,
    /// Instead of cron: `15m`, `1h 30m`, `1d`.
    #[serde(skip_serializing_if = "Option::is_none", alias = "interval")]
    every: Option<String>,
    /// Starts each run up to so much later: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<String>,
    /// One run makes up for the ticks that were missed. Without it they are only logged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    catch_up: bool,
}

/// A schedule as it is written: what requests carry, so that a mistake in it is told by its own error.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Form {
    /// A cron expression (`0 2 * * *`) or an interval (`every 15m`).
    Text(String),
    Fields(Fields),
}

/// By hand: an untagged enum would not say which field is wrong.
impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(text) => Ok(Self::Text(text)),
            object => serde_json::from_value(object).map(Self::Fields).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Form::json_schema(generator)
    }
}

impl TryFrom<Form> for Schedule {
    type Error = Error;

    fn try_from(form: Form) -> Result<Self> {
        match form {
            Form::Text(text) => Self::parse(&text),
            Form::Fields(fields) => Self::of(fields),
        }
    }
}

impl From<Schedule> for Form {
    fn from(schedule: Schedule) -> Self {
        let Schedule { when, jitter, catch_up } = schedule;
        let mut fields = Fields { catch_up: catch_up == CatchUp::Once, ..Fields::default() };
        fields.jitter = (!jitter.is_zero()).then(|| spelled(jitter));
        match when {
            When::Cron { cron, zone } => {
                fields.cron = Some(cron.to_string());
                fields.timezone = Some(zone.iana_name().unwrap_or("UTC").to_owned());
            }
            When::Every(interval) => fields.every = Some(spelled(interval)),
        }
        Self::Fields(fields)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Cron { cron, zone } => write!(f, "{cron} {}", zone.iana_name().unwrap_or("UTC")),
            When::Every(interval) => write!(f, "every {}", spelled(*interval)),
        }
    }
}

impl Schedule {
    /// `0 2 * * *`, `every 15m` or `@every 15m`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let every = text.strip_prefix('@').unwrap_or(text).strip_prefix("every ").map(|rest| rest.trim().to_owned());
        Self::of(match every {
            Some(every) => Fields { every: Some(every), ..Fields::default() },
            None => Fields { cron: Some(text.to_owned()), ..Fields::default() },
        })
    }

    fn of(fields: Fields) -> Result<Self> {
        let when = match (&fields.cron, &fields.every) {
            (Some(cron), None) => When::Cron { cron: cron.parse()?, zone: zone(fields.timezone.as_deref())? },
            (None, Some(_)) if fields.timezone.is_some() => {
                return Err(invalid("an interval has no time zone").fix("leave `timezone` out, or write a cron expression"));
            }
            (None, Some(every)) => When::Every(interval(every)?),
            _ => return Err(invalid("a schedule needs `cron` or `every`, and not both").fix("write {\"cron\": \"0 2 * * *\"}")),
        };
        let jitter = fields.jitter.as_deref().map(duration).transpose().map_err(|e| e.with("field", "jitter"))?.unwrap_or_default();
        let catch_up = if fields.catch_up { CatchUp::Once } else { CatchUp::Skip };
        Ok(Self { when, jitter, catch_up })
    }

    /// The first tick after a moment. `seed` spreads intervals of different connections; it must be the same in every process.
    pub fn next(&self, after: Timestamp, seed: u64) -> Option<Timestamp> {
        match &self.when {
            When::Cron { cron, zone } => next::next(cron, zone, after),
            When::Every(interval) => {
                // Ticks lie at fixed places of the time line, so neither a late tick nor a restart moves the next one.
                let (step, at) = (i64::try_from(interval.as_millis()).ok()?, after.as_millisecond());
                let phase = i64::try_from(seed % u64::try_from(step).ok()?).ok()?;
                let passed = (at - phase).div_euclid(step);
                Timestamp::from_millisecond(phase.checked_add(passed.checked_add(1)?.checked_mul(step)?)?).ok()
            }
        }
    }

    /// How much later than its tick a run starts.
    pub fn delay(&self, tick: Timestamp, seed: u64) -> Duration {
        let Ok(width) = u64::try_from(self.jitter.as_millis()) else { return Duration::ZERO };
        if width == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(mixed(seed ^ tick.as_millisecond().cast_unsigned()) % (width + 1))
    }
}

/// Spreads neighbouring numbers over all of them.
pub(super) fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

fn zone(name: Option<&str>) -> Result<TimeZone> {
    let Some(name) = name.filter(|n| !n.eq_ignore_ascii_case("utc")) else { return Ok(TimeZone::UTC) };
    time_zone(name).ok_or_else(|| {
        let fix = "use a name of the time zone database, such as `Europe/Berlin`";
        invalid("there is no such time zone").with("field", "timezone").fix(fix)
    })
}

fn interval(text: &str) -> Result<Duration> {
    let interval = duration(text).map_err(|e| e.with("field", "every"))?;
    if interval < Duration::from_secs(1) {
        return Err(invalid("an interval is at least one second").with("field", "every").fix("write `every 15m`"));
    }
    Ok(interval)
}

/// `15m`, `1h 30m`, `2 days`, `PT15M`, or a number of seconds.
pub fn duration(text: &str) -> Result<Duration> {
    const LONGEST: u64 = 366 * 24 * 3600;
    let seconds = text.trim().parse::<u32>().ok().map(|s| SignedDuration::from_secs(s.into()));
    let span = || text.trim().parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
    seconds
        .or_else(span)
        .and_then(|d| Duration::try_from(d).ok())
        .filter(|d| d.as_secs() <= LONGEST)
        .ok_or_else(|| invalid("this is no length of time up to a year").fix("write it as in `30s`, `15m`, `1h 30m`, `1d`"))
}

/// As `duration` reads it.
pub fn spelled(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (millis.into(), "ms")];
    let text: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text.join(" ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Schedule, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn both_forms_are_read_and_kept_as_one() {
        for (written, kept) in [
            (json!("0 2 * * *"), json!({"cron": "0 2 * * *", "timezone": "UTC"})),
            (json!("every 15m"), json!({"every": "15m"})),
            (json!("@every 1h30m"), json!({"every": "1h 30m"})),
            (
                json!({"cron": "@daily", "tz": "Europe/Berlin", "jitter": "90", "catch_up": true}),
                json!({"cron": "@daily", "timezone": "Europe/Berlin", "jitter": "1m 30s", "catch_up": true}),
            ),
            (json!({"interval": "P1D"}), json!({"every": "1d"})),
        ] {
            let schedule = read(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(&schedule).unwrap(), kept, "{written}");
            assert_eq!(read(kept).unwrap(), schedule);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (written, word) in [
            (json!({}), "cron"),
            (json!({"cron": "0 2 * * *", "every": "1h"}), "not both"),
            (json!({"cron": "0 2 * * *", "timezone": "Berlin"}), "no such time zone"),
            (json!({"every": "1h", "timezone": "UTC"}), "no time zone"),
            (json!("every 0s"), "at least one second"),
            (json!("every -5m"), "no length of time"),
            (json!("every 900 years"), "no length of time"),
            (json!({"cron": "0 2 * * *", "jitter": "soon"}), "no length of time"),
        ] {
            let e = Schedule::try_from(serde_json::from_value::<Form>(written.clone()).unwrap()).unwrap_err();
            assert!(e.message().contains(word), "{written}: {e:?}");
        }
    }

    #[test]
    fn intervals_keep_their_places_whenever_they_are_asked() {
        let schedule = Schedule::parse("every 15m").unwrap();
        let at: Timestamp = "2026-01-01T10:07:13.25Z".parse().unwrap();
        let first = schedule.next(at, 12345).unwrap();
        assert!(first > at && first.duration_since(at) <= SignedDuration::from_mins(15));
        let second = schedule.next(first, 12345).unwrap();
        assert_eq!(second.duration_since(first), SignedDuration::from_mins(15));
        let late = first.checked_add(SignedDuration::from_mins(7)).unwrap();
        assert_eq!(schedule.next(late, 12345), Some(second), "a late tick moves nothing");
        assert_ne!(schedule.next(at, 999_999), Some(first), "connections are spread");
    }

    #[test]
    fn jitter_stays_within_its_width_and_is_the_same_when_asked_again() {
        let schedule = Schedule { jitter: Duration::from_secs(60), ..Schedule::parse("@hourly").unwrap() };
        let ticks = |seed| (0..50).map(move |n| (Timestamp::from_second(n * 3600).unwrap(), seed));
        let delays: Vec<Duration> = ticks(7).map(|(t, seed)| schedule.delay(t, seed)).collect();
        assert!(delays.iter().all(|d| *d <= Duration::from_secs(60)));
        assert!(delays.iter().any(|d| *d > Duration::from_secs(30)) && delays.iter().any(|d| *d < Duration::from_secs(30)));
        assert_eq!(delays, ticks(7).map(|(t, seed)| schedule.delay(t, seed)).collect::<Vec<_>>());
    }
}
