//! A cursor that is a time: the windows that are left to read, and what was read of them.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Span};
use linkspan_core::{Clock, Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{At, Clamping, Dates, Ends, MinMax, Plan, Seen, Window};
use crate::{slice::Slice, template::Scope};

/// What a manifest says about a cursor; the same for every partition of a stream.
pub struct Definition {
    pub field: String,
    /// The slice's keys for a window's start and end.
    pub bounds: (String, String),
    pub dates: Dates,
    pub start: At,
    /// None: until now.
    pub end: Option<MinMax>,
    pub lookback: Option<Span>,
    pub step: Option<Span>,
    pub granularity: Option<Span>,
    pub clamping: Clamping,
    pub ends: Ends,
    /// Why there is no start: told when the first partition asks for it, as others may never be read.
    pub broken: Mutex<Option<Error>>,
    pub config: Arc<Value>,
    pub clock: Arc<dyn Clock>,
}

impl Definition {
    /// Where reading ends, as of now.
    pub fn end(&self) -> Result<At> {
        let now = self.clock.now();
        let end = match &self.end {
            Some(end) => end.eval(&Scope::new(&self.config, now))?,
            None => At::utc(jiff::tz::TimeZone::UTC.to_datetime(now)),
        };
        let unit = match (self.granularity, self.clamping) {
            (Some(unit), _) => unit,
            (None, Clamping::Day) => Span::new().seconds(1),
            (None, _) => Span::new().days(1),
        };
        Ok(self.clamping.end(end, unit))
    }

    fn whole(&self) -> Result<()> {
        let broken = self.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        broken.map_or(Ok(()), Err)
    }

    /// Two stretches that lie apart by this are one.
    fn unit(&self) -> Span {
        self.granularity.unwrap_or(Span::new().milliseconds(1))
    }

    /// A saved value, moved back by what the last sync took and written anew.
    pub fn moved_back(&self, state: &mut Map<String, Value>, seconds: i64) -> Result<()> {
        let Some(value) = state.get(&self.field).filter(|v| seconds > 0 && crate::truth::is_true(v)) else { return Ok(()) };
        let moved = self.dates.read(value)?.earlier(Span::new().seconds(seconds));
        state.insert(self.field.clone(), self.dates.write(moved).into());
        Ok(())
    }

    pub fn window(&self, slice: &Slice) -> Result<Window> {
        let bound = |key: &str| {
            let value = slice.get(key).ok_or_else(|| Error::new(ErrorKind::Internal, "a slice lacks its window").with("key", key))?;
            self.dates.read(value)
        };
        Ok(Window { start: bound(&self.bounds.0)?, end: bound(&self.bounds.1)? })
    }

    /// A window's keys, as requests see them.
    pub fn keys(&self, window: Window) -> Map<String, Value> {
        let (start, end) = (&self.bounds.0, &self.bounds.1);
        [(start.clone(), self.dates.write(window.start).into()), (end.clone(), self.dates.write(window.end).into())].into_iter().collect()
    }

    /// Half a window each, by units of the granularity; `None` when it cannot be made smaller than it is, or than `at_least`.
    pub fn halves(&self, slice: &Slice, at_least: Option<SignedDuration>) -> Result<Option<[Slice; 2]>> {
        let Some(unit) = self.granularity else { return Ok(None) };
        let Window { start, end } = self.window(slice)?;
        let span = end.since(start);
        if start >= end || at_least.is_some_and(|least| span <= least) {
            return Ok(None);
        }
        let micros = start.later(unit).since(start).as_micros();
        if micros <= 0 {
            return Ok(None);
        }
        let units = span.as_micros() / micros + 1;
        let half = i64::try_from((units / 2 - 1) * micros).unwrap_or(i64::MAX);
        if units <= 1 {
            return Ok(None);
        }
        let first_end = start.later(Span::new().microseconds(half));
        let second_start = first_end.later(unit);
        if !(start <= first_end && first_end < second_start && second_start <= end) {
            return Ok(None);
        }
        let part = |start, end| Slice::new(slice.partition().clone(), self.keys(Window { start, end }), slice.extra().clone());
        Ok(Some([part(start, first_end)?, part(second_start, end)?]))
    }
}

/// One position: a stream's, or a partition's.
pub struct Ranged {
    pub definition: Arc<Definition>,
    /// Where this read began: what client-side filtering compares with.
    start: At,
    progress: Mutex<Progress>,
}

struct Progress {
    seen: Vec<Seen>,
    /// The state as it came: its other keys stay in it.
    rest: Map<String, Value>,
}

impl Ranged {
    /// `state` is `{field: value}` as it is written here, or a list of stretches; empty on a first read.
    pub fn new(definition: Arc<Definition>, state: Map<String, Value>) -> Result<Self> {
        definition.whole()?;
        if matches!(state.get("state_type").and_then(Value::as_str), Some("date-range" | "integer")) {
            return Self::of_stretches(definition, state);
        }
        let first = definition.start;
        let saved = state.get(&definition.field).map(|value| definition.dates.read(value)).transpose()?;
        let start = saved.filter(|saved| *saved >= first).unwrap_or(first);
        let seen = vec![Seen { start: first, end: start, most_recent: Some(start) }];
        Ok(Self { definition, start, progress: Mutex::new(Progress { seen, rest: state }) })
    }

    fn of_stretches(definition: Arc<Definition>, mut state: Map<String, Value>) -> Result<Self> {
        let stretches = match state.remove("slices") {
            Some(Value::Array(stretches)) => stretches,
            _ => vec![],
        };
        let time = |stretch: &Value, key: &str| definition.dates.read(&stretch[key]);
        let seen = stretches
            .iter()
            .map(|s| {
                let most_recent = s.get("most_recent_cursor_value").map(|v| definition.dates.read(v)).transpose()?;
                Ok(Seen { start: time(s, "start")?, end: time(s, "end")?, most_recent })
            })
            .collect::<Result<Vec<_>>>()?;
        let start = seen.first().map_or(definition.start, |s| s.most_recent.unwrap_or(s.end));
        let rest = match state.remove("legacy") {
            Some(Value::Object(rest)) => rest,
            _ => Map::new(),
        };
        Ok(Self { definition, start, progress: Mutex::new(Progress { seen, rest }) })
    }

    /// The windows that are left, oldest first.
    pub fn windows(&self) -> Result<impl Iterator<Item = Window> + Send + use<>> {
        let d = &self.definition;
        let mut progress = self.lock();
        progress.seen = Seen::merge(std::mem::take(&mut progress.seen), d.unit());
        if progress.seen.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the state's list of read stretches is empty").fix("reset the stream's state"));
        }
        let plan = Plan {
            start: Some(d.start),
            end: d.end()?,
            step: d.step,
            granularity: d.granularity,
            lookback: d.lookback,
            clamping: d.clamping,
            ends: d.ends,
        };
        Ok(plan.windows(&progress.seen))
    }

    /// The window was read whole; `most_recent` is the largest value of its records.
    pub fn close(&self, window: Window, most_recent: Option<At>) {
        let mut progress = self.lock();
        progress.seen.push(Seen { start: window.start, end: window.end, most_recent });
        progress.seen = Seen::merge(std::mem::take(&mut progress.seen), self.definition.unit());
    }

    /// `{field: the time before which all was read}`, beside what else the state held.
    pub fn state(&self) -> Map<String, Value> {
        let progress = self.lock();
        let mut state = progress.rest.clone();
        if let Some(first) = Seen::merge(progress.seen.clone(), self.definition.unit()).first() {
            let at = first.most_recent.unwrap_or(first.start);
            state.insert(self.definition.field.clone(), self.definition.dates.write(at).into());
        }
        state
    }

    /// Whether a record lies within this read. One whose value is missing or unreadable does.
    pub fn is_due(&self, value: Option<&Value>) -> Result<bool> {
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(true) };
        self.definition.dates.takes(value)?;
        let Ok(at) = self.definition.dates.read(value) else { return Ok(true) };
        Ok(self.floor() <= at && at <= self.definition.end()?)
    }

    /// Records of the lookback window are kept, but none from before the configured start, unless the state lies before that.
    fn floor(&self) -> At {
        let first = self.definition.start;
        match self.definition.lookback {
            None => self.start,
            Some(lookback) => self.start.earlier(lookback).latest(self.start.earliest(first)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
