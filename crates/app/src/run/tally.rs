//! What a run has done so far, counted by stream. Counting is cheap; showing is someone else's work.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use linkspan_core::{StreamName, WriteStats};

/// Notes that wait to be shown; more than this at once are counted, not kept.
const NOTES: usize = 256;

/// The counters of one run.
#[derive(Default)]
pub struct Tally {
    streams: Mutex<BTreeMap<StreamName, Arc<Counter>>>,
    notes: Mutex<VecDeque<String>>,
}

/// One stream's counters.
#[derive(Default)]
pub struct Counter {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub written: AtomicU64,
    pub duplicates: AtomicU64,
    pub rejected: AtomicU64,
    /// From the source's statistics; 0 when it has none.
    pub expected_rows: AtomicU64,
    pub expected_bytes: AtomicU64,
    pub ended: AtomicBool,
    span: Mutex<(Option<Instant>, Option<Instant>)>,
}

impl Counter {
    /// How long the stream has moved: from its first lane to its end.
    pub fn elapsed(&self) -> Option<Duration> {
        let (from, to) = *held(&self.span);
        from.map(|from| to.unwrap_or_else(Instant::now).duration_since(from))
    }
    /// Rows whose fate is durable.
    pub fn settled(&self) -> u64 {
        [&self.written, &self.duplicates, &self.rejected].iter().map(|n| n.load(Relaxed)).sum()
    }
    fn started(&self) {
        held(&self.span).0.get_or_insert_with(Instant::now);
    }
    /// How far the stream is, from 0 to 1, when its size is known.
    pub fn share(&self) -> Option<f64> {
        let of = |done: &AtomicU64, all: &AtomicU64| (all.load(Relaxed) > 0).then(|| done.load(Relaxed) as f64 / all.load(Relaxed) as f64);
        of(&self.rows, &self.expected_rows).or_else(|| of(&self.bytes, &self.expected_bytes)).map(|s| s.min(1.0))
    }
}

impl Tally {
    pub fn stream(&self, name: &StreamName) -> Arc<Counter> {
        let mut streams = held(&self.streams);
        if let Some(counter) = streams.get(name) {
            return counter.clone();
        }
        streams.entry(name.clone()).or_default().clone()
    }
    pub fn streams(&self) -> Vec<(StreamName, Arc<Counter>)> {
        held(&self.streams).iter().map(|(n, c)| (n.clone(), c.clone())).collect()
    }
    pub fn expect(&self, stream: &StreamName, rows: Option<u64>, bytes: Option<u64>) {
        let counter = self.stream(stream);
        counter.started();
        counter.expected_rows.fetch_max(rows.unwrap_or(0), Relaxed);
        counter.expected_bytes.fetch_max(bytes.unwrap_or(0), Relaxed);
    }
    pub fn read(&self, stream: &StreamName, rows: u64, bytes: u64) {
        let counter = self.stream(stream);
        counter.rows.fetch_add(rows, Relaxed);
        counter.bytes.fetch_add(bytes, Relaxed);
    }
    pub fn committed(&self, stream: &StreamName, stats: WriteStats) {
        let counter = self.stream(stream);
        counter.written.fetch_add(stats.written, Relaxed);
        counter.duplicates.fetch_add(stats.duplicates, Relaxed);
        counter.rejected.fetch_add(stats.rejected, Relaxed);
    }
    pub fn ended(&self, stream: &StreamName) {
        let counter = self.stream(stream);
        held(&counter.span).1 = Some(Instant::now());
        counter.ended.store(true, Relaxed);
    }
    pub fn note(&self, text: String) {
        let mut notes = held(&self.notes);
        if notes.len() < NOTES {
            notes.push_back(text);
        }
    }
    pub fn take_notes(&self) -> Vec<String> {
        held(&self.notes).drain(..).collect()
    }
}

/// Rows per second.
pub fn rate(rows: u64, elapsed: Duration) -> u64 {
    let seconds = elapsed.as_secs_f64();
    if seconds < 1e-6 { 0 } else { (rows as f64 / seconds) as u64 }
}

/// A counter stays usable after a panic elsewhere.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_needs_a_known_size() {
        let tally = Tally::default();
        let s = StreamName::new(None, "s");
        tally.read(&s, 5, 50);
        assert_eq!(tally.stream(&s).share(), None);
        tally.expect(&s, None, Some(100));
        assert_eq!(tally.stream(&s).share(), Some(0.5));
        tally.expect(&s, Some(4), None);
        assert_eq!(tally.stream(&s).share(), Some(1.0));
    }
}
