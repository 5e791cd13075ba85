//! When a session commits (CONTRACTS rule 5). Pure: time comes in as an argument.

use std::time::Duration;

use linkspan_core::{Cadence as Advice, State};
use tokio::time::Instant;

/// What has gathered since the last commit, and when it has to be committed.
#[derive(Debug)]
pub(super) struct Cadence {
    limits: Advice,
    rows: u64,
    bytes: u64,
    since: Option<Instant>,
    checkpoint: Option<State>,
    /// Something was written after the last checkpoint.
    dirty: bool,
}

impl Cadence {
    /// The destination's advice, within the longest wait that the user allows.
    pub fn new(advice: Advice, latency: Option<Duration>) -> Self {
        let age = latency.map_or(advice.age, |l| l.min(advice.age));
        Self { limits: Advice { age, ..advice }, rows: 0, bytes: 0, since: None, checkpoint: None, dirty: false }
    }
    /// Rows, or something else that a commit carries, were written.
    pub fn wrote(&mut self, rows: u64, bytes: u64, now: Instant) {
        self.rows += rows;
        self.bytes += bytes;
        self.dirty = true;
        self.since.get_or_insert(now);
    }
    /// A place where a commit is allowed. Answers whether it is time for one.
    pub fn reached(&mut self, state: State, now: Instant) -> bool {
        self.checkpoint = Some(state);
        self.dirty = false;
        let since = *self.since.get_or_insert(now);
        self.rows >= self.limits.rows || self.bytes >= self.limits.bytes || now.duration_since(since) >= self.limits.age
    }
    /// When a commit at the last checkpoint is due, as long as nothing is written after it.
    pub fn due(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.may_commit())?;
        since.checked_add(self.limits.age)
    }
    /// Whether a commit now would hold exactly what the last checkpoint covers.
    pub fn may_commit(&self) -> bool {
        self.checkpoint.is_some() && !self.dirty
    }
    /// Whether anything was written since the last commit.
    pub fn is_idle(&self) -> bool {
        !self.dirty && self.rows == 0 && self.checkpoint.is_none()
    }
    /// Whether rows wait behind the last checkpoint.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }
    /// Takes the state to commit at and starts anew.
    pub fn commit(&mut self) -> Option<State> {
        (self.rows, self.bytes, self.since, self.dirty) = (0, 0, None, false);
        self.checkpoint.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(n: u64) -> State {
        State::new(1, n.into())
    }
    fn sql() -> Cadence {
        Cadence::new(Advice { rows: 1000, bytes: 1 << 20, age: Duration::from_secs(1) }, None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_is_permission_and_not_an_order() {
        let (mut cadence, start) = (sql(), Instant::now());
        for i in 0..999 {
            cadence.wrote(1, 10, start);
            assert!(!cadence.reached(state(i), start));
        }
        cadence.wrote(1, 10, start);
        assert!(cadence.reached(state(999), start), "a thousand rows");
        assert_eq!(cadence.commit(), Some(state(999)));
        cadence.wrote(1, 1 << 20, start);
        assert!(cadence.reached(state(1000), start), "a MiB");
        cadence.commit();
        cadence.wrote(1, 1, start);
        assert!(cadence.reached(state(1001), start + Duration::from_secs(1)), "a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_never_commits_rows_behind_the_checkpoint() {
        let (mut cadence, start) = (sql(), Instant::now());
        assert_eq!(cadence.due(), None);
        cadence.wrote(1, 1, start);
        assert_eq!(cadence.due(), None, "no checkpoint yet");
        cadence.reached(state(1), start);
        assert_eq!(cadence.due(), Some(start + Duration::from_secs(1)));
        cadence.wrote(1, 1, start);
        assert_eq!(cadence.due(), None, "a row behind the checkpoint");
        assert!(!cadence.may_commit());
    }

    #[tokio::test(start_paused = true)]
    async fn the_user_can_only_make_it_sooner() {
        let latency = |l| Cadence::new(Advice { rows: 1, bytes: 1, age: Duration::from_secs(60) }, Some(Duration::from_secs(l))).limits.age;
        assert_eq!(latency(5), Duration::from_secs(5));
        assert_eq!(latency(500), Duration::from_secs(60));
    }
}
