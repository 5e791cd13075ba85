//! How often one caller may ask: a bucket each, filled at a steady rate, in bounded memory.

use std::{collections::HashMap, time::Duration};

use linkspan_core::{Error, ErrorKind, Retry};

use crate::refusal::Result;

/// What a caller may do: `burst` at once (at least 1), and one more `every` so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub every: Duration,
}

impl Rate {
    pub const fn per_second(burst: u32, per_second: u32) -> Self {
        Self { burst, every: Duration::from_nanos(1_000_000_000 / per_second as u64) }
    }
}

/// The callers of late and what they have left. Time is the caller's: since any fixed moment, never going back.
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    most_callers: usize,
    /// When each bucket will be full again; a bucket that is full is the same as none.
    full_at: HashMap<String, Duration>,
}

impl Rates {
    pub fn new(rate: Rate, most_callers: usize) -> Self {
        let rate = Rate { burst: rate.burst.max(1), every: rate.every.max(Duration::from_nanos(1)) };
        Self { rate, most_callers: most_callers.max(1), full_at: HashMap::new() }
    }

    /// Takes one request of `caller`, or says when the next one is welcome. A refused request costs nothing.
    pub fn take(&mut self, caller: &str, now: Duration) -> Result<()> {
        let cost = self.rate.every;
        let full_at = self.full_at.get(caller).copied().unwrap_or(now).max(now) + cost;
        let wait = (full_at - now).saturating_sub(cost * self.rate.burst);
        if !wait.is_zero() {
            return Err(too_many("too many requests", wait));
        }
        if !self.full_at.contains_key(caller) && !self.has_room(now) {
            // Nobody's bucket is forgotten while it is in use: that would be a way around it.
            return Err(too_many("too many callers at once", cost));
        }
        self.full_at.insert(caller.to_owned(), full_at);
        Ok(())
    }

    fn has_room(&mut self, now: Duration) -> bool {
        if self.full_at.len() >= self.most_callers {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < self.most_callers
    }
}

fn too_many(message: &'static str, wait: Duration) -> crate::refusal::Refusal {
    Error::new(ErrorKind::RateLimited, message).retry(Retry::After(wait)).fix("wait as long as Retry-After says").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Rate = Rate::per_second(3, 2);
    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_the_next_is_told_when_to_come() {
        let mut rates = Rates::new(SLOW, 10);
        for _ in 0..3 {
            rates.take("a", at(0)).expect("in the burst");
        }
        let refusal = rates.take("a", at(0)).expect_err("one too many");
        assert_eq!(refusal.status, 429);
        assert_eq!(refusal.error.retry_hint(), Retry::After(at(500)));
        assert_eq!(refusal.response().headers()["retry-after"], "1");
        rates.take("b", at(0)).expect("another caller has a bucket of its own");
    }
    #[test]
    fn who_comes_back_when_told_is_let_in_and_refusals_cost_nothing() {
        let mut rates = Rates::new(SLOW, 10);
        for _ in 0..3 {
            rates.take("a", at(0)).expect("in the burst");
        }
        for _ in 0..100 {
            rates.take("a", at(499)).expect_err("early");
        }
        rates.take("a", at(500)).expect("on time");
        rates.take("a", at(500)).expect_err("only one");
    }
    #[test]
    fn the_long_run_is_the_rate_whatever_the_caller_tries() {
        let mut rates = Rates::new(SLOW, 10);
        let passed = (0..60_000).filter(|ms| rates.take("a", at(*ms)).is_ok()).count();
        assert_eq!(passed, 3 + 119);
    }
    #[test]
    fn memory_is_bounded_and_a_used_bucket_is_never_forgotten() {
        let mut rates = Rates::new(SLOW, 2);
        rates.take("a", at(0)).expect("first");
        rates.take("b", at(0)).expect("second");
        assert_eq!(rates.take("c", at(0)).expect_err("no room").status, 429);
        for _ in 0..2 {
            rates.take("a", at(0)).expect("known callers go on");
        }
        rates.take("a", at(0)).expect_err("the bucket was kept");
        rates.take("c", at(500)).expect("b is full again and makes room");
        assert_eq!(rates.full_at.len(), 2);
    }
}
