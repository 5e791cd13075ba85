//! Which connections are due. It is told the time and keeps nothing but memory: a row is written only when a tick fires.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::form::{CatchUp, Schedule, mixed};

/// A tick that is looked at so much late still counts as in time: a restart or a busy machine loses no run.
const IN_TIME: SignedDuration = SignedDuration::from_secs(60);
/// A clock that goes back by less than this repeats nothing; one that goes back further was wrong before.
const REPEATS: SignedDuration = SignedDuration::from_hours(3);
/// Missed ticks are counted so far; of a clock that was a year behind nobody needs the exact number.
const COUNTED: u32 = 10_000;

/// A connection that runs by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: Uuid,
    pub schedule: Schedule,
    /// Ticks after this moment count: the last one that fired, or when the schedule was made.
    pub since: Timestamp,
}

/// What the time has brought for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    pub id: Uuid,
    /// The latest tick, as the schedule says it, without jitter.
    pub scheduled_for: Timestamp,
    /// Whether a run is to start now.
    pub fires: bool,
    /// Ticks before it (and it, when it does not fire) that came while nobody was there.
    pub missed: u32,
}

/// All schedules by the time of their next tick. Ten thousand cost a few megabytes, and a moment per tick.
#[derive(Default)]
pub struct Timetable {
    entries: HashMap<Uuid, Standing>,
    /// May hold what no longer stands; the entry's own time tells.
    queue: BinaryHeap<Reverse<(Timestamp, Uuid)>>,
}

struct Standing {
    entry: Entry,
    seed: u64,
    tick: Timestamp,
    /// The tick with its jitter.
    starts: Timestamp,
}

impl Timetable {
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Puts a schedule in, or another in its place. One that stands as it is keeps its next tick.
    pub fn put(&mut self, entry: Entry) {
        if self.entries.get(&entry.id).is_some_and(|s| s.entry.schedule == entry.schedule && s.entry.since >= entry.since) {
            return;
        }
        let seed = mixed(entry.id.as_u64_pair().0 ^ entry.id.as_u64_pair().1);
        self.stand(entry, seed);
    }
    pub fn remove(&mut self, id: Uuid) {
        self.entries.remove(&id);
    }
    /// Keeps only the schedules that still exist.
    pub fn retain(&mut self, keep: impl Fn(Uuid) -> bool) {
        self.entries.retain(|id, _| keep(*id));
    }
    /// When the connection's next run starts.
    pub fn next_start(&self, id: Uuid) -> Option<Timestamp> {
        self.entries.get(&id).map(|s| s.starts)
    }
    /// When anything starts next.
    pub fn first(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, id))) = self.queue.peek() {
            if self.entries.get(id).is_some_and(|s| s.starts == *at) {
                return Some(*at);
            }
            self.queue.pop();
        }
        None
    }
    /// What is due by now, each connection at most once, in order of time.
    pub fn due(&mut self, now: Timestamp) -> Vec<Tick> {
        let mut ticks = Vec::new();
        while self.first().is_some_and(|at| at <= now) {
            let Some(Reverse((_, id))) = self.queue.pop() else { break };
            let Some(standing) = self.entries.remove(&id) else { continue };
            ticks.push(self.advance(standing, now));
        }
        ticks
    }
    /// The clock was set back. Ticks that fired are not fired again, unless the clock was so wrong that they were none.
    pub fn clock_went_back(&mut self, now: Timestamp) {
        for standing in std::mem::take(&mut self.entries).into_values() {
            let Standing { mut entry, seed, .. } = standing;
            if entry.since.duration_since(now) > REPEATS {
                entry.since = now;
            }
            self.stand(entry, seed);
        }
        self.queue.retain(|Reverse((at, id))| self.entries.get(id).is_some_and(|s| s.starts == *at));
    }

    /// The latest tick up to now, and what it means; the entry then waits for the one after.
    fn advance(&mut self, standing: Standing, now: Timestamp) -> Tick {
        let Standing { mut entry, seed, tick, starts } = standing;
        let (mut latest, mut latest_starts, mut passed) = (tick, starts, 0);
        while passed < COUNTED
            && let Some(next) = entry.schedule.next(latest, seed)
            && let Some(next_starts) = later(next, entry.schedule.delay(next, seed))
            && next_starts <= now
        {
            (latest, latest_starts, passed) = (next, next_starts, passed + 1);
        }
        if passed == COUNTED {
            latest = newest(&entry.schedule, seed, latest, now);
            latest_starts = later(latest, entry.schedule.delay(latest, seed)).unwrap_or(latest);
        }
        let fires = now.duration_since(latest_starts) <= IN_TIME || entry.schedule.catch_up == CatchUp::Once;
        let tick = Tick { id: entry.id, scheduled_for: latest, fires, missed: if fires { passed } else { passed + 1 } };
        entry.since = latest;
        self.stand(entry, seed);
        tick
    }

    fn stand(&mut self, entry: Entry, seed: u64) {
        // A schedule whose calendar has ended simply never comes again.
        let Some(tick) = entry.schedule.next(entry.since, seed) else { return };
        let Some(starts) = later(tick, entry.schedule.delay(tick, seed)) else { return };
        self.queue.push(Reverse((starts, entry.id)));
        self.entries.insert(entry.id, Standing { entry, seed, tick, starts });
    }
}

/// The last tick before now, found without counting those between: by asking from ever nearer.
fn newest(schedule: &Schedule, seed: u64, mut stands: Timestamp, now: Timestamp) -> Timestamp {
    let mut step = now.duration_since(stands) / 2;
    while step > SignedDuration::from_millis(500) {
        let from = now.checked_sub(step).unwrap_or(stands);
        match schedule.next(from, seed).filter(|t| *t <= now) {
            Some(found) => stands = found,
            None => break,
        }
        step /= 2;
    }
    while let Some(next) = schedule.next(stands, seed).filter(|t| *t <= now) {
        stands = next;
    }
    stands
}

fn later(at: Timestamp, by: Duration) -> Option<Timestamp> {
    at.checked_add(SignedDuration::try_from(by).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }
    fn table(schedule: &str, since: &str) -> (Timetable, Uuid) {
        let (mut table, id) = (Timetable::default(), Uuid::from_u128(7));
        table.put(Entry { id, schedule: Schedule::parse(schedule).unwrap(), since: at(since) });
        (table, id)
    }
    fn told(ticks: &[Tick]) -> Vec<(String, bool, u32)> {
        ticks.iter().map(|t| (t.scheduled_for.to_string(), t.fires, t.missed)).collect()
    }

    #[test]
    fn a_tick_fires_once_when_its_time_comes() {
        let (mut table, _) = table("0 2 * * *", "2026-01-01T00:00:00Z");
        assert_eq!(table.first(), Some(at("2026-01-01T02:00:00Z")));
        assert!(table.due(at("2026-01-01T01:59:59Z")).is_empty());
        assert_eq!(told(&table.due(at("2026-01-01T02:00:00Z"))), [("2026-01-01T02:00:00Z".into(), true, 0)]);
        assert!(table.due(at("2026-01-01T02:00:30Z")).is_empty());
        assert_eq!(table.first(), Some(at("2026-01-02T02:00:00Z")));
    }

    #[test]
    fn missed_ticks_are_told_and_not_replayed() {
        let (mut table, _) = table("0 * * * *", "2026-01-01T00:00:00Z");
        assert_eq!(told(&table.due(at("2026-01-01T05:30:00Z"))), [("2026-01-01T05:00:00Z".into(), false, 5)]);
        assert_eq!(told(&table.due(at("2026-01-01T06:00:10Z"))), [("2026-01-01T06:00:00Z".into(), true, 0)]);
    }

    #[test]
    fn a_tick_missed_by_a_short_restart_still_fires() {
        let (mut table, _) = table("0 * * * *", "2026-01-01T00:00:00Z");
        assert_eq!(told(&table.due(at("2026-01-01T03:00:40Z"))), [("2026-01-01T03:00:00Z".into(), true, 2)]);
    }

    #[test]
    fn catching_up_is_one_run_for_all_that_was_missed() {
        let (mut table, id) = table("0 * * * *", "2026-01-01T00:00:00Z");
        let schedule = Schedule { catch_up: CatchUp::Once, ..Schedule::parse("0 * * * *").unwrap() };
        table.put(Entry { id, schedule, since: at("2026-01-01T00:00:00Z") });
        assert_eq!(told(&table.due(at("2026-01-01T05:30:00Z"))), [("2026-01-01T05:00:00Z".into(), true, 4)]);
        assert!(table.due(at("2026-01-01T05:31:00Z")).is_empty());
    }

    #[test]
    fn a_clock_far_behind_is_caught_up_in_a_moment() {
        let (mut table, _) = table("* * * * * *", "2020-01-01T00:00:00Z");
        let started = std::time::Instant::now();
        let ticks = table.due(at("2026-01-01T00:00:00.5Z"));
        assert_eq!(told(&ticks), [("2026-01-01T00:00:00Z".into(), true, COUNTED)]);
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(table.first(), Some(at("2026-01-01T00:00:01Z")));
    }

    #[test]
    fn a_clock_set_back_a_little_repeats_nothing_and_one_set_back_far_starts_anew() {
        let (mut table, _) = table("*/10 * * * *", "2026-01-01T12:00:00Z");
        assert_eq!(table.due(at("2026-01-01T12:10:00Z")).len(), 1);
        table.clock_went_back(at("2026-01-01T11:30:00Z"));
        assert_eq!(table.first(), Some(at("2026-01-01T12:20:00Z")));
        table.clock_went_back(at("2025-06-01T00:00:00Z"));
        assert_eq!(table.first(), Some(at("2025-06-01T00:10:00Z")));
    }

    #[test]
    fn a_changed_schedule_takes_the_place_of_the_old_one_and_a_removed_one_is_silent() {
        let (mut table, id) = table("0 2 * * *", "2026-01-01T00:00:00Z");
        table.put(Entry { id, schedule: Schedule::parse("0 1 * * *").unwrap(), since: at("2026-01-01T00:00:00Z") });
        assert_eq!(table.next_start(id), Some(at("2026-01-01T01:00:00Z")));
        assert_eq!(told(&table.due(at("2026-01-01T01:00:00Z"))).len(), 1);
        table.remove(id);
        assert!(table.is_empty() && table.first().is_none());
        assert!(table.due(at("2027-01-01T00:00:00Z")).is_empty());
    }

    #[test]
    fn jitter_moves_the_start_and_not_the_tick() {
        let id = Uuid::from_u128(99);
        let schedule = Schedule { jitter: Duration::from_secs(300), ..Schedule::parse("0 * * * *").unwrap() };
        let mut table = Timetable::default();
        table.put(Entry { id, schedule, since: at("2026-01-01T00:00:00Z") });
        let mut now = at("2026-01-01T00:00:00Z");
        let (mut starts, mut ticks) = (Vec::new(), Vec::new());
        for _ in 0..24 {
            now = table.first().unwrap().max(now);
            starts.push(now);
            ticks.extend(table.due(now));
        }
        assert_eq!(ticks.len(), 24);
        for (n, (tick, start)) in ticks.iter().zip(&starts).enumerate() {
            assert_eq!(tick.scheduled_for.as_second(), at("2026-01-01T01:00:00Z").as_second() + n as i64 * 3600);
            assert!(start.duration_since(tick.scheduled_for).as_secs() <= 300);
        }
        assert!(starts.iter().any(|s| s.subsec_nanosecond() != 0 || s.as_second() % 3600 != 0));
    }
}
