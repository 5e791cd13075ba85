//! The timetable on a clock: sleeps until something is due and tells it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_core::Clock;
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use super::timetable::{Entry, Tick, Timetable};

/// The longest sleep: so late is a clock noticed that was set forward.
const LOOK: Duration = Duration::from_secs(5);

/// Told of every tick. The ticker waits for the answer, so that ticks never pile up in memory.
#[async_trait]
pub trait OnTicks: Send + Sync + 'static {
    async fn ticked(&self, ticks: Vec<Tick>);
}

/// Runs until it is dropped.
pub struct Ticker {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    table: Mutex<Timetable>,
    changed: Notify,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Timetable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticker {
    pub fn start(clock: Arc<dyn Clock>, entries: Vec<Entry>, told: impl OnTicks) -> Self {
        let mut table = Timetable::default();
        entries.into_iter().for_each(|entry| table.put(entry));
        let shared = Arc::new(Shared { table: Mutex::new(table), changed: Notify::new() });
        let task = tokio::spawn(tick(shared.clone(), clock, told));
        Self { shared, task }
    }
    pub fn put(&self, entry: Entry) {
        self.shared.table().put(entry);
        self.shared.changed.notify_one();
    }
    pub fn remove(&self, id: Uuid) {
        self.shared.table().remove(id);
    }
    pub fn next_start(&self, id: Uuid) -> Option<Timestamp> {
        self.shared.table().next_start(id)
    }
    pub fn len(&self) -> usize {
        self.shared.table().len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tick(shared: Arc<Shared>, clock: Arc<dyn Clock>, told: impl OnTicks) {
    let mut before = clock.now();
    loop {
        let now = clock.now();
        if now < before {
            tracing::warn!(by_seconds = before.duration_since(now).as_secs(), "the clock was set back");
            shared.table().clock_went_back(now);
        }
        before = now;
        let (ticks, next) = {
            let mut table = shared.table();
            (table.due(now), table.first())
        };
        if !ticks.is_empty() {
            told.ticked(ticks).await;
            continue;
        }
        let pause = next.map_or(LOOK, |at| until(now, at).min(LOOK));
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = shared.changed.notified() => {}
        }
    }
}

/// Rounded up to a millisecond: waking too early would only mean sleeping again.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default();
    left + Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use linkspan_testkit::fakes::TestClock;
    use tokio::sync::mpsc;

    use super::{super::form::Schedule, *};

    struct Told(mpsc::Sender<(Timestamp, Vec<Tick>)>, Arc<TestClock>);
    #[async_trait]
    impl OnTicks for Told {
        async fn ticked(&self, ticks: Vec<Tick>) {
            self.0.send((self.1.now(), ticks)).await.unwrap();
        }
    }

    type Heard = mpsc::Receiver<(Timestamp, Vec<Tick>)>;

    fn start(schedules: &[&str]) -> (Ticker, Heard, Arc<TestClock>) {
        let clock = Arc::new(TestClock::default());
        let (tx, rx) = mpsc::channel(1);
        let since = clock.now();
        let entry = |(n, text): (usize, &&str)| Entry { id: Uuid::from_u128(n as u128), schedule: Schedule::parse(text).unwrap(), since };
        let entries = schedules.iter().enumerate().map(entry).collect();
        (Ticker::start(clock.clone(), entries, Told(tx, clock.clone())), rx, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_schedules_tick_without_drift() {
        let schedules: Vec<&str> = ["every 60s", "* * * * *", "every 1m", "*/2 * * * *"].into_iter().cycle().take(10_000).collect();
        let started = std::time::Instant::now();
        let (_ticker, mut ticks, clock) = start(&schedules);
        let (end, mut seen) = (clock.now().checked_add(SignedDuration::from_mins(10)).unwrap(), HashMap::<Uuid, Vec<Timestamp>>::new());
        loop {
            let (at, batch) = ticks.recv().await.unwrap();
            if at > end {
                break;
            }
            for tick in batch {
                assert!(tick.fires && tick.missed == 0, "{tick:?}");
                assert!(at.duration_since(tick.scheduled_for) < SignedDuration::from_millis(20), "{at} {tick:?}");
                seen.entry(tick.id).or_default().push(tick.scheduled_for);
            }
        }
        assert_eq!(seen.len(), 10_000);
        for (id, times) in &seen {
            let step = if id.as_u128() % 4 == 3 { 120 } else { 60 };
            assert!(times.windows(2).all(|w| w[1].duration_since(w[0]) == SignedDuration::from_secs(step)), "{id} {times:?}");
            assert!(times.len() >= 600 / step as usize - 1, "{times:?}");
        }
        println!("85,000 ticks of 10,000 schedules took {:?} of real time", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_forward_is_noticed_and_what_it_passed_is_missed() {
        let (_ticker, mut ticks, clock) = start(&["0 2 * * *"]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        clock.jump(30 * 3600 * 1000);
        let (at, batch) = ticks.recv().await.unwrap();
        assert_eq!((batch.len(), batch[0].fires, batch[0].missed), (1, false, 2));
        assert!(at < "2026-01-02T06:01:10Z".parse().unwrap(), "{at}");
        let (at, batch) = ticks.recv().await.unwrap();
        assert_eq!((at.to_string()[..19].to_owned(), batch[0].fires), ("2026-01-03T02:00:00".into(), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_repeats_nothing() {
        let (_ticker, mut ticks, clock) = start(&["0 * * * *"]);
        assert_eq!(ticks.recv().await.unwrap().1[0].scheduled_for.to_string(), "2026-01-01T01:00:00Z");
        clock.jump(-40 * 60 * 1000);
        assert_eq!(ticks.recv().await.unwrap().1[0].scheduled_for.to_string(), "2026-01-01T02:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_put_in_later_wakes_the_ticker() {
        let (ticker, mut ticks, clock) = start(&[]);
        tokio::time::sleep(Duration::from_millis(700)).await;
        ticker.put(Entry { id: Uuid::from_u128(5), schedule: Schedule::parse("every 1s").unwrap(), since: clock.now() });
        let (at, batch) = ticks.recv().await.unwrap();
        assert!(batch[0].fires && at.duration_since(batch[0].scheduled_for) < SignedDuration::from_millis(20));
        ticker.remove(Uuid::from_u128(5));
        assert!(ticker.is_empty());
    }
}
