//! What the runs of this process did in all, for who watches over it. Sums over every project, and words of our own: nothing of it
//! names a project, a connection or a stream.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::Tally;

/// Upper ends, in seconds, of the buckets of how late runs start.
pub const LATE: [f64; 8] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0];

/// Sums that only rise while the process lives.
#[derive(Default)]
pub struct Totals(Mutex<Sums>);

/// The sums at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    pub rows_read: u64,
    pub bytes_read: u64,
    pub written: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Attempts by how they ended: `completed`, `failed`, `cancelled`, or `requeued` for those that go on later.
    pub ended: BTreeMap<&'static str, u64>,
    /// What attempts failed with, by kind.
    pub errors: BTreeMap<String, u64>,
    /// How long after its time an attempt began: one count per bucket of [`LATE`], then all, then their sum in seconds.
    pub late: [u64; LATE.len()],
    pub begun: u64,
    pub late_seconds: f64,
}

impl Sums {
    /// With what a run has done so far.
    pub fn count(&mut self, tally: &Tally) {
        for (_, counter) in tally.streams() {
            self.rows_read += counter.rows.load(Relaxed);
            self.bytes_read += counter.bytes.load(Relaxed);
            self.written += counter.written.load(Relaxed);
            self.duplicates += counter.duplicates.load(Relaxed);
            self.rejected += counter.rejected.load(Relaxed);
        }
    }
}

impl Totals {
    pub fn begun(&self, late: Duration) {
        let mut sums = self.held();
        sums.begun += 1;
        sums.late_seconds += late.as_secs_f64();
        if let Some(bucket) = LATE.iter().position(|end| late.as_secs_f64() <= *end) {
            sums.late[bucket] += 1;
        }
    }
    /// An attempt is over; `error` is the kind of what it failed with.
    pub fn ended(&self, how: &'static str, error: Option<&str>) {
        let mut sums = self.held();
        *sums.ended.entry(how).or_default() += 1;
        if let Some(kind) = error {
            *sums.errors.entry(kind.to_owned()).or_default() += 1;
        }
    }
    /// What a run did is done: from now on it is counted here.
    pub fn add(&self, tally: &Tally) {
        self.held().count(tally);
    }
    pub fn sums(&self) -> Sums {
        self.held().clone()
    }
    fn held(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linkspan_core::{StreamName, WriteStats};

    #[test]
    fn what_runs_did_adds_up() {
        let (totals, tally) = (Totals::default(), Tally::default());
        let (a, b) = (StreamName::new(None, "a"), StreamName::new(None, "b"));
        tally.read(&a, 5, 50);
        tally.read(&b, 2, 20);
        tally.committed(&a, WriteStats { written: 3, duplicates: 1, rejected: 1 });
        totals.add(&tally);
        totals.begun(Duration::from_millis(300));
        totals.begun(Duration::from_secs(7200));
        totals.ended("requeued", Some("unavailable"));
        totals.ended("completed", None);
        let mut sums = totals.sums();
        assert_eq!((sums.rows_read, sums.bytes_read, sums.written, sums.duplicates, sums.rejected), (7, 70, 3, 1, 1));
        assert_eq!((sums.begun, sums.late[1], sums.late.iter().sum::<u64>()), (2, 1, 1));
        assert_eq!((sums.ended["requeued"], sums.ended["completed"], sums.errors["unavailable"]), (1, 1, 1));
        sums.count(&tally);
        assert_eq!(sums.rows_read, 14, "what goes is counted beside what is over");
    }
}
