//! Windows of time: the stretches between what was read, cut into steps. A time keeps its distance from UTC, because it is written with it.

use std::cmp::Ordering;

use jiff::{
    SignedDuration, Span,
    civil::{DateTime, Time, Weekday},
};

use crate::datetime::Moment;

/// A moment as windows count with it: compared by what it is in UTC, moved on its own wall clock.
#[derive(Clone, Copy, Debug)]
pub struct At(pub Moment);

impl At {
    pub fn utc(wall: DateTime) -> Self {
        Self(Moment::utc(wall))
    }
    fn key(&self) -> DateTime {
        self.0.to_utc().unwrap_or(if self.0.offset.is_negative() { DateTime::MAX } else { DateTime::MIN })
    }
    fn at(self, wall: DateTime) -> Self {
        Self(Moment { wall, offset: self.0.offset })
    }
    /// Stays at the calendar's end where it would leave it.
    pub fn later(self, by: Span) -> Self {
        self.at(self.0.wall.checked_add(by).unwrap_or(DateTime::MAX))
    }
    pub fn earlier(self, by: Span) -> Self {
        self.at(self.0.wall.checked_sub(by).unwrap_or(DateTime::MIN))
    }
    fn stepped(self, by: Span) -> Option<Self> {
        self.0.wall.checked_add(by).ok().map(|wall| self.at(wall))
    }
    fn midnight(self) -> Self {
        self.at(self.0.wall.with().time(Time::midnight()).build().expect("midnight is on every day"))
    }
    /// The later one; the first where they are the same moment.
    pub fn latest(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    /// The earlier one; the first where they are the same moment.
    pub fn earliest(self, other: Self) -> Self {
        if other < self { other } else { self }
    }
    /// How long it is from `other` to this.
    pub fn since(self, other: Self) -> SignedDuration {
        self.key().duration_since(other.key())
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A stretch that was read, and the largest cursor value seen in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub start: At,
    pub end: At,
    pub most_recent: Option<At>,
}

impl Seen {
    /// Stretches in order; those that touch, or lie apart by no more than `unit` (the smallest difference of two values), are one.
    pub fn merge(mut seen: Vec<Self>, unit: Span) -> Vec<Self> {
        seen.sort_by_key(|s| (s.start, s.end));
        let mut merged: Vec<Self> = Vec::with_capacity(seen.len());
        for next in seen {
            match merged.last_mut().filter(|last| last.end.later(unit) >= next.start) {
                Some(last) => {
                    last.end = last.end.latest(next.end);
                    // A stretch without records has no largest value, which is less than any.
                    last.most_recent = match (next.most_recent, last.most_recent) {
                        (Some(next), Some(last)) => Some(next.latest(last)),
                        (next, last) => next.or(last),
                    };
                }
                None => merged.push(next),
            }
        }
        merged
    }
}

/// A stretch to read; both ends belong to it when there is a granularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: At,
    pub end: At,
}

/// Whether the API answers a window whose start is its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    #[default]
    MayBeEqual,
    MustDiffer,
}

/// To which borders window ends are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clamping {
    #[default]
    None,
    Day,
    /// Weeks begin on this day.
    Week(Weekday),
    Month,
}

impl Clamping {
    /// The first border at or after `at`. A month's border keeps a first day whatever its hour: it is cut, not moved on.
    fn up(self, at: At) -> At {
        let day = at.midnight();
        match self {
            Self::None => at,
            Self::Day if day == at => at,
            Self::Day => day.later(Span::new().days(1)),
            Self::Week(first) => day.later(Span::new().days(days_until(at.0.wall.weekday(), first))),
            Self::Month if at.0.wall.day() == 1 => day,
            Self::Month => day.at(day.0.wall.first_of_month()).later(Span::new().months(1)),
        }
    }

    /// The last border at or before `at`.
    fn down(self, at: At) -> At {
        let day = at.midnight();
        match self {
            Self::None => at,
            Self::Day => day,
            Self::Week(first) => day.earlier(Span::new().days(days_until(first, at.0.wall.weekday()))),
            Self::Month => day.at(day.0.wall.first_of_month()),
        }
    }

    /// Where reading ends: the last border before `end`, less one unit, for a clamped read; `end` itself otherwise.
    pub fn end(self, end: At, granularity: Span) -> At {
        match self {
            Self::None => end,
            _ => self.down(end).earlier(granularity),
        }
    }
}

fn days_until(from: Weekday, to: Weekday) -> i8 {
    (to.to_monday_zero_offset() - from.to_monday_zero_offset()).rem_euclid(7)
}

/// How windows are cut. `end` is already clamped.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The configured start: no window begins before it.
    pub start: Option<At>,
    pub end: At,
    /// How long a window is at most; none: one window.
    pub step: Option<Span>,
    /// The smallest difference of two cursor values: windows that follow each other do not overlap by it.
    pub granularity: Option<Span>,
    /// How far the last stretch goes back into what was read.
    pub lookback: Option<Span>,
    pub clamping: Clamping,
    pub ends: Ends,
}

/// A stretch to be cut; the one that reaches the plan's end includes it.
struct Gap {
    lower: At,
    upper: At,
    is_last: bool,
}

impl Plan {
    /// The windows that are left to read, oldest first, cut as they are pulled. `seen` is merged, in order.
    /// Nothing seen means nothing to continue from: a first read hands in one stretch that is empty at its start.
    pub fn windows(self, seen: &[Seen]) -> impl Iterator<Item = Window> + Send + use<> {
        self.gaps(seen).into_iter().flat_map(move |gap| self.cut(gap))
    }

    fn gaps(&self, seen: &[Seen]) -> Vec<Gap> {
        let (Some(first), Some(last)) = (seen.first(), seen.last()) else { return Vec::new() };
        let before = self.start.filter(|s| *s < first.start).map(|lower| Gap { lower, upper: first.start, is_last: false });
        let between = seen.windows(2).map(|pair| Gap {
            lower: self.granularity.map_or(pair[0].end, |g| pair[0].end.later(g)),
            upper: pair[1].start,
            is_last: false,
        });
        let lower = self.lookback.map_or(last.end, |l| last.end.earlier(l));
        before.into_iter().chain(between).chain([Gap { lower, upper: self.end, is_last: true }]).collect()
    }

    fn cut(self, gap: Gap) -> Cut {
        let mut lower = gap.lower;
        let upper = gap.upper;
        let is_empty = lower > upper || (lower == upper && self.granularity.is_none()) || self.start.is_some_and(|s| upper < s);
        lower = self.clamping.up(self.start.map_or(lower, |s| lower.latest(s)));
        let may_be_a_point = gap.is_last && self.ends == Ends::MayBeEqual;
        let is_empty = is_empty || lower > upper || (lower == upper && !may_be_a_point);
        Cut { plan: self, next: (!is_empty).then_some(lower), upper, is_last: gap.is_last, is_whole: true }
    }
}

/// One gap on its way to become windows.
struct Cut {
    plan: Plan,
    next: Option<At>,
    upper: At,
    is_last: bool,
    /// Nothing was cut off yet.
    is_whole: bool,
}

impl Iterator for Cut {
    type Item = Window;
    fn next(&mut self) -> Option<Window> {
        let lower = self.next.take()?;
        // A step beyond the calendar means "to the end".
        let reach = self.plan.step.map_or(self.upper, |step| lower.stepped(step).unwrap_or(self.plan.end));
        if std::mem::take(&mut self.is_whole) && reach >= self.upper {
            return Some(self.only(lower));
        }
        self.piece(lower, reach.earliest(self.upper))
    }
}

impl Cut {
    fn only(&self, start: At) -> Window {
        let end = match (self.plan.granularity, self.is_last) {
            (Some(_), true) => self.upper,
            (Some(unit), false) => self.plan.clamping.up(self.upper).earlier(unit),
            (None, _) => self.plan.clamping.up(self.upper),
        };
        Window { start, end }
    }

    fn piece(&mut self, lower: At, reach: At) -> Option<Window> {
        let end = if reach == self.upper { reach } else { self.plan.clamping.up(reach) };
        let is_final = reach >= self.upper || end == self.upper;
        let start = self.plan.clamping.up(lower);
        // Clamping left nothing (or a step of no length would go on for ever).
        if start >= end {
            return None;
        }
        self.next = (!is_final).then_some(end);
        let shown = match self.plan.granularity {
            Some(unit) if !(self.is_last && is_final) => end.earlier(unit),
            _ => end,
        };
        Some(Window { start, end: shown })
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use serde::Deserialize;

    use super::*;

    /// What the reference interpreter answered to drawn plans: how many windows, and the first three of them and the last two of the rest.
    const MEASURED: &str = include_str!("windows.jsonl");

    #[derive(Deserialize)]
    struct Case {
        start: Option<DateTime>,
        end: DateTime,
        step: Option<Span>,
        granularity: Option<Span>,
        lookback: Option<Span>,
        clamping: String,
        must_differ: bool,
        seen: Vec<(DateTime, DateTime)>,
        count: usize,
        windows: Vec<(DateTime, DateTime)>,
    }

    impl Case {
        fn clamping(&self) -> Clamping {
            match self.clamping.as_str() {
                "NONE" => Clamping::None,
                "DAY" => Clamping::Day,
                "MONTH" => Clamping::Month,
                "MONDAY" => Clamping::Week(Weekday::Monday),
                "TUESDAY" => Clamping::Week(Weekday::Tuesday),
                "WEDNESDAY" => Clamping::Week(Weekday::Wednesday),
                "THURSDAY" => Clamping::Week(Weekday::Thursday),
                "FRIDAY" => Clamping::Week(Weekday::Friday),
                "SATURDAY" => Clamping::Week(Weekday::Saturday),
                _ => Clamping::Week(Weekday::Sunday),
            }
        }
        fn plan(&self) -> Plan {
            let clamping = self.clamping();
            let unit = if clamping == Clamping::Day { 1.second() } else { 1.day() };
            Plan {
                start: self.start.map(At::utc),
                end: clamping.end(At::utc(self.end), self.granularity.unwrap_or(unit)),
                step: self.step,
                granularity: self.granularity,
                lookback: self.lookback,
                clamping,
                ends: if self.must_differ { Ends::MustDiffer } else { Ends::MayBeEqual },
            }
        }
        fn seen(&self) -> Vec<Seen> {
            self.seen.iter().map(|&(start, end)| Seen { start: At::utc(start), end: At::utc(end), most_recent: None }).collect()
        }
    }

    #[test]
    fn windows_are_those_of_the_reference() {
        for (at, line) in MEASURED.lines().enumerate() {
            let case: Case = serde_json::from_str(line).unwrap();
            let mut got: Vec<_> = case.plan().windows(&case.seen()).map(|w| (w.start.0.wall, w.end.0.wall)).collect();
            assert_eq!(got.len(), case.count, "line {}: {line}\n{got:?}", at + 1);
            if got.len() > 3 {
                let rest = got.split_off(3);
                got.extend_from_slice(&rest[rest.len().saturating_sub(2)..]);
            }
            assert_eq!(got, case.windows, "line {}: {line}", at + 1);
        }
    }

    #[test]
    fn stretches_that_touch_are_one_and_keep_the_largest_value() {
        let day = |n| At::utc(jiff::civil::date(2024, 1, n).at(0, 0, 0, 0));
        let seen = |a, b, most_recent: Option<i8>| Seen { start: day(a), end: day(b), most_recent: most_recent.map(day) };
        let apart = [seen(8, 9, None), seen(2, 4, Some(3)), seen(1, 5, None), seen(6, 6, Some(2))];
        assert_eq!(Seen::merge(apart.to_vec(), 1.day()), [seen(1, 6, Some(3)), seen(8, 9, None)]);
        assert_eq!(Seen::merge(apart.to_vec(), 1.second()), [seen(1, 5, Some(3)), seen(6, 6, Some(2)), seen(8, 9, None)]);
        assert_eq!(Seen::merge(apart.to_vec(), 2.days()), [seen(1, 9, Some(3))]);
    }

    #[test]
    fn windows_are_cut_as_they_are_pulled() {
        let start = At::utc(jiff::civil::date(1, 1, 1).at(0, 0, 0, 0));
        let plan = Plan {
            start: Some(start),
            end: At::utc(DateTime::MAX),
            step: Some(1.second()),
            granularity: None,
            lookback: None,
            clamping: Clamping::None,
            ends: Ends::MayBeEqual,
        };
        let first = plan.windows(&[Seen { start, end: start, most_recent: None }]).nth(1).unwrap();
        assert_eq!(first, Window { start: start.later(1.second()), end: start.later(2.seconds()) });
    }

    #[test]
    fn a_step_of_no_length_ends() {
        let start = At::utc(jiff::civil::date(2024, 1, 1).at(0, 0, 0, 0));
        let plan = Plan {
            start: Some(start),
            end: start.later(1.day()),
            step: Some(Span::new()),
            granularity: None,
            lookback: None,
            clamping: Clamping::None,
            ends: Ends::MayBeEqual,
        };
        assert_eq!(plan.windows(&[Seen { start, end: start, most_recent: None }]).count(), 0);
    }
}
