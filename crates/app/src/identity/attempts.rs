//! How often somebody may guess: per name, in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use linkspan_core::{Error, ErrorKind, Result, Retry};

const ALLOWED: u32 = 10;
const WINDOW_MS: i64 = 60_000;
/// Names that are remembered at once; a flood of names pushes out the oldest windows.
const MOST: usize = 10_000;

#[derive(Default)]
pub struct Attempts(Mutex<HashMap<String, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    since_ms: i64,
    count: u32,
}

impl Attempts {
    /// `RateLimited` with the time to wait when there were too many failures lately.
    pub fn admit(&self, name: &str, now_ms: i64) -> Result<()> {
        match self.known().get(name) {
            Some(f) if f.count >= ALLOWED && now_ms.abs_diff(f.since_ms) < WINDOW_MS.unsigned_abs() => {
                let wait = WINDOW_MS.unsigned_abs() - now_ms.abs_diff(f.since_ms);
                Err(Error::new(ErrorKind::RateLimited, "too many failed sign-ins")
                    .retry(Retry::After(Duration::from_millis(wait)))
                    .fix("wait a minute and try again"))
            }
            _ => Ok(()),
        }
    }
    pub fn failed(&self, name: &str, now_ms: i64) {
        let mut known = self.known();
        if known.len() >= MOST && !known.contains_key(name) {
            known.retain(|_, f| now_ms.abs_diff(f.since_ms) < WINDOW_MS.unsigned_abs());
            if known.len() >= MOST
                && let Some(oldest) = known.iter().min_by_key(|(_, f)| f.since_ms).map(|(n, _)| n.clone())
            {
                known.remove(&oldest);
            }
        }
        let failures = known.entry(name.to_owned()).or_insert(Failures { since_ms: now_ms, count: 0 });
        if now_ms.abs_diff(failures.since_ms) >= WINDOW_MS.unsigned_abs() {
            *failures = Failures { since_ms: now_ms, count: 0 };
        }
        failures.count += 1;
    }
    pub fn succeeded(&self, name: &str) {
        self.known().remove(name);
    }
    fn known(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        self.0.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_guess_waits_and_a_new_minute_forgives() {
        let a = Attempts::default();
        for n in 0..10 {
            a.admit("x", n).unwrap();
            a.failed("x", n);
        }
        let e = a.admit("x", 10_000).unwrap_err();
        assert_eq!((e.kind(), e.retry_hint()), (ErrorKind::RateLimited, Retry::After(Duration::from_millis(50_000))));
        assert!(a.admit("y", 10_000).is_ok());
        assert!(a.admit("x", 60_000).is_ok());
        a.failed("x", 60_000);
        assert!(a.admit("x", 60_001).is_ok());
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let a = Attempts::default();
        for n in 0..MOST + 5 {
            a.failed(&n.to_string(), n as i64 % 1000);
        }
        assert_eq!(a.known().len(), MOST);
    }
}
