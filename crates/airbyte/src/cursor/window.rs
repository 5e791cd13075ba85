//! Windows of time: the stretches between what was read, cut into steps. All times are UTC without a zone.

use jiff::{
    Span,
    civil::{DateTime, Time, Weekday},
};

/// A stretch that was read, and the largest cursor value seen in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub start: DateTime,
    pub end: DateTime,
    pub most_recent: Option<DateTime>,
}

impl Seen {
    /// Stretches in order; those that touch, or lie apart by no more than `unit` (the smallest difference of two values), are one.
    pub fn merge(mut seen: Vec<Self>, unit: Span) -> Vec<Self> {
        seen.sort_by_key(|s| (s.start, s.end));
        let mut merged: Vec<Self> = Vec::with_capacity(seen.len());
        for next in seen {
            match merged.last_mut().filter(|last| later(last.end, unit) >= next.start) {
                Some(last) => {
                    last.end = last.end.max(next.end);
                    // A stretch without records has no largest value, which is less than any.
                    last.most_recent = last.most_recent.max(next.most_recent);
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
    pub start: DateTime,
    pub end: DateTime,
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
    fn up(self, at: DateTime) -> DateTime {
        let day = at.with().time(Time::midnight()).build().expect("midnight is on every day");
        match self {
            Self::None => at,
            Self::Day if day == at => at,
            Self::Day => later(day, Span::new().days(1)),
            Self::Week(first) => later(day, Span::new().days(days_until(at.weekday(), first))),
            Self::Month if at.day() == 1 => day,
            Self::Month => later(day.first_of_month(), Span::new().months(1)),
        }
    }

    /// The last border at or before `at`.
    fn down(self, at: DateTime) -> DateTime {
        let day = at.with().time(Time::midnight()).build().expect("midnight is on every day");
        match self {
            Self::None => at,
            Self::Day => day,
            Self::Week(first) => earlier(day, Span::new().days(days_until(first, at.weekday()))),
            Self::Month => day.first_of_month(),
        }
    }

    /// Where reading ends: the last border before `end`, less one unit, for a clamped read; `end` itself otherwise.
    pub fn end(self, end: DateTime, granularity: Span) -> DateTime {
        match self {
            Self::None => end,
            _ => earlier(self.down(end), granularity),
        }
    }
}

fn days_until(from: Weekday, to: Weekday) -> i8 {
    (to.to_monday_zero_offset() - from.to_monday_zero_offset()).rem_euclid(7)
}

fn later(at: DateTime, by: Span) -> DateTime {
    at.checked_add(by).unwrap_or(DateTime::MAX)
}

fn earlier(at: DateTime, by: Span) -> DateTime {
    at.checked_sub(by).unwrap_or(DateTime::MIN)
}

/// How windows are cut. `end` is already clamped.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The configured start: no window begins before it.
    pub start: Option<DateTime>,
    pub end: DateTime,
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
    lower: DateTime,
    upper: DateTime,
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
            lower: self.granularity.map_or(pair[0].end, |g| later(pair[0].end, g)),
            upper: pair[1].start,
            is_last: false,
        });
        let lower = self.lookback.map_or(last.end, |l| earlier(last.end, l));
        before.into_iter().chain(between).chain([Gap { lower, upper: self.end, is_last: true }]).collect()
    }

    fn cut(self, gap: Gap) -> Cut {
        let mut lower = gap.lower;
        let upper = gap.upper;
        let is_empty = lower > upper || (lower == upper && self.granularity.is_none()) || self.start.is_some_and(|s| upper < s);
        lower = self.clamping.up(self.start.map_or(lower, |s| s.max(lower)));
        let may_be_a_point = gap.is_last && self.ends == Ends::MayBeEqual;
        let is_empty = is_empty || lower > upper || (lower == upper && !may_be_a_point);
        Cut { plan: self, next: (!is_empty).then_some(lower), upper, is_last: gap.is_last, is_whole: true }
    }
}

/// One gap on its way to become windows.
struct Cut {
    plan: Plan,
    next: Option<DateTime>,
    upper: DateTime,
    is_last: bool,
    /// Nothing was cut off yet.
    is_whole: bool,
}

impl Iterator for Cut {
    type Item = Window;
    fn next(&mut self) -> Option<Window> {
        let lower = self.next.take()?;
        // A step beyond the calendar means "to the end".
        let reach = self.plan.step.map_or(self.upper, |step| lower.checked_add(step).unwrap_or(self.plan.end));
        if std::mem::take(&mut self.is_whole) && reach >= self.upper {
            return Some(self.only(lower));
        }
        self.piece(lower, reach.min(self.upper))
    }
}

impl Cut {
    fn only(&self, start: DateTime) -> Window {
        let end = match (self.plan.granularity, self.is_last) {
            (Some(_), true) => self.upper,
            (Some(unit), false) => earlier(self.plan.clamping.up(self.upper), unit),
            (None, _) => self.plan.clamping.up(self.upper),
        };
        Window { start, end }
    }

    fn piece(&mut self, lower: DateTime, reach: DateTime) -> Option<Window> {
        let end = if reach == self.upper { reach } else { self.plan.clamping.up(reach) };
        let is_final = reach >= self.upper || end == self.upper;
        let start = self.plan.clamping.up(lower);
        // Clamping left nothing (or a step of no length would go on for ever).
        if start >= end {
            return None;
        }
        self.next = (!is_final).then_some(end);
        let shown = match self.plan.granularity {
            Some(unit) if !(self.is_last && is_final) => earlier(end, unit),
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
                start: self.start,
                end: clamping.end(self.end, self.granularity.unwrap_or(unit)),
                step: self.step,
                granularity: self.granularity,
                lookback: self.lookback,
                clamping,
                ends: if self.must_differ { Ends::MustDiffer } else { Ends::MayBeEqual },
            }
        }
        fn seen(&self) -> Vec<Seen> {
            self.seen.iter().map(|&(start, end)| Seen { start, end, most_recent: None }).collect()
        }
    }

    #[test]
    fn windows_are_those_of_the_reference() {
        for (at, line) in MEASURED.lines().enumerate() {
            let case: Case = serde_json::from_str(line).unwrap();
            let mut got: Vec<_> = case.plan().windows(&case.seen()).map(|w| (w.start, w.end)).collect();
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
        let day = |n| jiff::civil::date(2024, 1, n).at(0, 0, 0, 0);
        let seen = |a, b, most_recent: Option<i8>| Seen { start: day(a), end: day(b), most_recent: most_recent.map(day) };
        let apart = [seen(8, 9, None), seen(2, 4, Some(3)), seen(1, 5, None), seen(6, 6, Some(2))];
        assert_eq!(Seen::merge(apart.to_vec(), 1.day()), [seen(1, 6, Some(3)), seen(8, 9, None)]);
        assert_eq!(Seen::merge(apart.to_vec(), 1.second()), [seen(1, 5, Some(3)), seen(6, 6, Some(2)), seen(8, 9, None)]);
        assert_eq!(Seen::merge(apart.to_vec(), 2.days()), [seen(1, 9, Some(3))]);
    }

    #[test]
    fn windows_are_cut_as_they_are_pulled() {
        let start = jiff::civil::date(1, 1, 1).at(0, 0, 0, 0);
        let plan = Plan {
            start: Some(start),
            end: DateTime::MAX,
            step: Some(1.second()),
            granularity: None,
            lookback: None,
            clamping: Clamping::None,
            ends: Ends::MayBeEqual,
        };
        let first = plan.windows(&[Seen { start, end: start, most_recent: None }]).nth(1).unwrap();
        assert_eq!(first, Window { start: start + 1.second(), end: start + 2.seconds() });
    }

    #[test]
    fn a_step_of_no_length_ends() {
        let start = jiff::civil::date(2024, 1, 1).at(0, 0, 0, 0);
        let plan = Plan {
            start: Some(start),
            end: start + 1.day(),
            step: Some(Span::new()),
            granularity: None,
            lookback: None,
            clamping: Clamping::None,
            ends: Ends::MayBeEqual,
        };
        assert_eq!(plan.windows(&[Seen { start, end: start, most_recent: None }]).count(), 0);
    }
}
