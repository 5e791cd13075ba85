//! The sessions of one connector in this process: idle ones are kept for the next use, never more than the limit are open, and who
//! finds none waits. It knows no protocol: a session says how it ends, and its owner how one is opened.

mod idle;
mod limits;
mod share;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use linkspan_core::{Error, ErrorKind, PoolState, Result};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::Instant,
};

pub(crate) use idle::{Idle, Session};
pub(crate) use limits::{Limits, max_overflow, pool_recycle, pool_size};
pub(crate) use share::{Need, Share};
pub(crate) use slot::Slot;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// One use waits so long for a session.
    wait: Duration,
    /// A run waits so long for all that it needs.
    run: Duration,
    /// A session lies idle so long before it is closed.
    idle: Duration,
}

const USUAL: Patience = Patience { wait: Duration::from_secs(20), run: Duration::from_secs(600), idle: Duration::from_secs(300) };
/// From this limit on runs leave one session to tests and discovery. No run needs more than one less.
const ROOMY: usize = 8;

/// What a pool keeps.
pub(crate) trait Pooled: Send + 'static {
    /// Sessions of one server that cannot stand in for each other.
    type Kind: Copy + PartialEq + Send + Sync + 'static;
    fn kind(&self) -> Self::Kind;
    /// Ends it in good order; when this returns the server has let go of it, or a short time has passed.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// Cheap to clone; the sessions that lie idle end with the last of it.
pub(crate) struct Pool<S: Pooled>(Arc<Inner<S>>);

struct Inner<S: Pooled> {
    limits: Limits,
    patience: Patience,
    /// One permit for each session that is in use or set aside.
    slots: Arc<Semaphore>,
    /// What runs may set aside of it.
    for_runs: Arc<Semaphore>,
    most_for_runs: usize,
    state: Mutex<State<S>>,
    /// Something that was ending has ended.
    gone: Notify,
    waiting: AtomicUsize,
    timeouts: AtomicU64,
}

/// `idle + busy + ending` is never above the limit while a session is being opened.
struct State<S> {
    /// Oldest first.
    idle: Vec<Resting<S>>,
    busy: usize,
    ending: usize,
    closed: bool,
    sweeper: Option<AbortHandle>,
}

struct Resting<S> {
    session: S,
    born: Instant,
    since: Instant,
}

impl<S: Pooled> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Pooled> Pool<S> {
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, USUAL)
    }

    fn with(limits: Limits, patience: Patience) -> Self {
        let most_for_runs = if limits.most < ROOMY { limits.most } else { limits.most - 1 };
        Self(Arc::new(Inner {
            limits,
            patience,
            slots: Arc::new(Semaphore::new(limits.most)),
            for_runs: Arc::new(Semaphore::new(most_for_runs)),
            most_for_runs,
            state: Mutex::new(State { idle: Vec::new(), busy: 0, ending: 0, closed: false, sweeper: None }),
            gone: Notify::new(),
            waiting: AtomicUsize::new(0),
            timeouts: AtomicU64::new(0),
        }))
    }

    /// The right to one more session, as soon as there is one. `Timeout` after some seconds.
    pub async fn slot(&self) -> Result<Slot<S>> {
        let wait = self.0.patience.wait;
        let permit = self.0.wait(tokio::time::timeout(wait, self.0.slots.clone().acquire_owned())).await;
        match permit {
            Ok(Ok(permit)) => Ok(Slot::new(self.0.clone(), permit, None)),
            _ => Err(self.0.exhausted(wait)),
        }
    }

    pub fn state(&self) -> PoolState {
        let state = self.0.held();
        PoolState {
            open: state.idle.len() + state.busy + state.ending,
            idle: state.idle.len(),
            in_use: state.busy,
            waiting: self.0.waiting.load(Relaxed),
            max: self.0.limits.most,
            timeouts: self.0.timeouts.load(Relaxed),
        }
    }

    /// Ends what lies idle. Sessions in use end when they come back.
    pub async fn close(&self) {
        let idle = {
            let mut state = self.0.held();
            state.closed = true;
            let idle = std::mem::take(&mut state.idle);
            state.ending += idle.len();
            idle
        };
        self.0.end(idle).await;
    }
}

impl<S: Pooled> Inner<S> {
    /// Usable after a panic elsewhere.
    fn held(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.waiting.fetch_add(1, Relaxed);
        let _waits = Waits(&self.waiting);
        what.await
    }

    fn exhausted(&self, after: Duration) -> Error {
        self.timeouts.fetch_add(1, Relaxed);
        Error::new(ErrorKind::Timeout, "all connections of this connector were in use for too long")
            .with("waited_seconds", after.as_secs())
            .with("max", self.limits.most)
            .fix("raise `max_overflow` (or `pool_size`) in the connector's config, or do less with it at the same time")
    }

    fn is_old(&self, born: Instant) -> bool {
        self.limits.recycle.is_some_and(|age| born.elapsed() >= age)
    }

    /// Takes a session in, or hands it back because it is not to be kept.
    fn rest(self: &Arc<Self>, session: S, born: Instant) -> Result<(), S> {
        let old = self.is_old(born);
        let mut state = self.held();
        // Somebody who waits takes it at once, whatever is kept.
        let is_wanted = state.idle.len() < self.limits.keep || self.waiting.load(Relaxed) > 0;
        if old || state.closed || !is_wanted {
            return Err(session);
        }
        state.busy -= 1;
        state.idle.push(Resting { session, born, since: Instant::now() });
        if state.sweeper.is_none() {
            state.sweeper = Some(tokio::spawn(sweep(Arc::downgrade(self))).abort_handle());
        }
        Ok(())
    }

    /// Ends sessions that were counted as ending.
    async fn end(&self, sessions: Vec<Resting<S>>) {
        struct Ends<'a, S: Pooled>(&'a Inner<S>, usize);
        impl<S: Pooled> Drop for Ends<'_, S> {
            fn drop(&mut self) {
                self.0.held().ending -= self.1;
                self.0.gone.notify_waiters();
            }
        }
        let ends = Ends(self, sessions.len());
        join_all(sessions.into_iter().map(|r| r.session.end())).await;
        drop(ends);
    }
}

impl<S: Pooled> Drop for Inner<S> {
    fn drop(&mut self) {
        if let Some(sweeper) = self.held().sweeper.take() {
            sweeper.abort();
        }
    }
}

/// Closes what has lain idle for long. It ends when nothing is idle, or with the pool.
async fn sweep<S: Pooled>(pool: Weak<Inner<S>>) {
    loop {
        let Some(next) = pool.upgrade().and_then(|inner| next_end(&inner)) else { return };
        tokio::time::sleep_until(next).await;
        let Some(inner) = pool.upgrade() else { return };
        let over = {
            let mut state = inner.held();
            let over: Vec<_> = state.idle.extract_if(.., |r| r.since.elapsed() >= inner.patience.idle).collect();
            state.ending += over.len();
            over
        };
        inner.end(over).await;
    }
}

/// When the first idle session has to end; without one the sweeper is no more.
fn next_end<S: Pooled>(inner: &Inner<S>) -> Option<Instant> {
    let mut state = inner.held();
    let first = state.idle.iter().map(|r| r.since + inner.patience.idle).min();
    if first.is_none() {
        state.sweeper = None;
    }
    first
}

/// A permit of a run's share, or of the pool itself.
type Permit = OwnedSemaphorePermit;
