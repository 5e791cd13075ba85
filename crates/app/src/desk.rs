//! What this process runs now, and what it waits for: the runs that go, the ticker, and the way to wake or stop them. It knows no
//! operation and no connection's words.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use linkspan_core::{ConnectionId, Stop, Stopper};
use linkspan_store::RunId;
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use crate::{
    run::{OpenConnectors, Sums, Tally, Totals},
    schedule::{Entry, Ticker},
};

/// One per process.
#[derive(Default)]
pub struct Desk {
    going: Mutex<HashMap<RunId, Arc<Going>>>,
    ticker: Mutex<Option<Ticker>>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
    closing: AtomicBool,
    wake: Notify,
    /// What all attempts of this process did.
    pub totals: Totals,
    /// The connectors that it keeps open.
    pub open: OpenConnectors,
}

/// A run that this process carries out.
pub struct Going {
    pub run: RunId,
    pub connection: ConnectionId,
    stopper: Stopper,
    why: Mutex<Option<Why>>,
    tally: Mutex<Arc<Tally>>,
}

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody cancelled it.
    Cancelled,
    /// It took longer than its connection allows.
    TimedOut(Duration),
    /// This process ends; the run goes on in the next one.
    Closing,
}

impl Going {
    pub fn new(run: RunId, connection: ConnectionId) -> Arc<Self> {
        let (stopper, _) = Stopper::new();
        Arc::new(Self { run, connection, stopper, why: Mutex::default(), tally: Mutex::default() })
    }
    pub fn stop(&self) -> Stop {
        self.stopper.listener()
    }
    /// Asks it to stop; the first reason counts.
    pub fn end(&self, why: Why) {
        held(&self.why).get_or_insert(why);
        self.stopper.stop();
    }
    pub fn why(&self) -> Option<Why> {
        *held(&self.why)
    }
    pub fn counts(&self, tally: Arc<Tally>) {
        *held(&self.tally) = tally;
    }
    pub fn tally(&self) -> Arc<Tally> {
        held(&self.tally).clone()
    }
}

impl Desk {
    pub fn begin(&self, going: Arc<Going>) {
        held(&self.going).insert(going.run, going);
    }
    pub fn ended(&self, run: RunId) {
        let mut going = held(&self.going);
        if let Some(over) = going.remove(&run) {
            // Under the same lock, so that nobody counts it twice or not at all.
            self.totals.add(&over.tally());
        }
        drop(going);
        self.wake();
    }
    pub fn going(&self, run: RunId) -> Option<Arc<Going>> {
        held(&self.going).get(&run).cloned()
    }
    pub fn all_going(&self) -> Vec<Arc<Going>> {
        held(&self.going).values().cloned().collect()
    }
    /// What all runs of this process did, those that still go included.
    pub fn sums(&self) -> Sums {
        let going = held(&self.going);
        let mut sums = self.totals.sums();
        going.values().for_each(|run| sums.count(&run.tally()));
        sums
    }
    /// Something is to be done: a run waits, or room has become free.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
    /// From now on nothing is started.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        held(&self.ticker).take();
        self.wake();
    }
    pub fn set_ticker(&self, ticker: Ticker) {
        if !self.is_closing() {
            *held(&self.ticker) = Some(ticker);
        }
    }
    pub fn set_dispatcher(&self, task: JoinHandle<()>) {
        if let Some(before) = held(&self.dispatcher).replace(task) {
            before.abort();
        }
    }
    pub fn take_dispatcher(&self) -> Option<JoinHandle<()>> {
        held(&self.dispatcher).take()
    }
    /// The connection runs by this schedule from now on, or by none.
    pub fn schedule(&self, connection: Uuid, entry: Option<Entry>) {
        let ticker = held(&self.ticker);
        let Some(ticker) = ticker.as_ref() else { return };
        match entry {
            Some(entry) => ticker.put(entry),
            None => ticker.remove(connection),
        }
    }
    /// When the connection starts next by itself, as far as this process knows.
    pub fn next_start(&self, connection: Uuid) -> Option<Timestamp> {
        held(&self.ticker).as_ref()?.next_start(connection)
    }
}

/// Usable after a panic elsewhere.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
