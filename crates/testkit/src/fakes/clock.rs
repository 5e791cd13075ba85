//! A clock that follows tokio's time (which a test can pause) and can jump.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use linkspan_core::Clock;
use tokio::time::Instant;

/// Starts at 2026-01-01T00:00:00Z and moves with tokio's time. `jump` moves the wall clock only, as an operator or NTP would.
pub struct TestClock {
    origin: Instant,
    jumped_ms: AtomicI64,
}

impl Default for TestClock {
    fn default() -> Self {
        Self { origin: Instant::now(), jumped_ms: AtomicI64::new(0) }
    }
}

impl TestClock {
    /// Moves the wall clock by so many milliseconds, backwards when negative.
    pub fn jump(&self, milliseconds: i64) {
        self.jumped_ms.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> jiff::Timestamp {
        let passed = i64::try_from(self.origin.elapsed().as_millis()).expect("tests are shorter than ages");
        let millis = 1_767_225_600_000 + passed + self.jumped_ms.load(Ordering::SeqCst);
        jiff::Timestamp::from_millisecond(millis).expect("within jiff's range")
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
