//! Keeps this process's leases alive with one request for all of them, and counts by itself when one must be taken as lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use linkspan_core::{Result, Stop, Stopper};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    apply,
    link::Link,
    record::RunId,
    request::{Reply, Request},
};

/// The leases of one process.
pub(crate) struct Keeper {
    link: Weak<Link>,
    ttl: Duration,
    held: Mutex<HashMap<RunId, Held>>,
    changed: watch::Sender<()>,
    task: Mutex<Option<AbortHandle>>,
}

struct Held {
    stopper: Stopper,
    /// Counted from before the last good renewal was *sent*, on this process's own monotonic clock.
    good_until: Instant,
}

impl Keeper {
    pub(crate) fn new(link: &Arc<Link>) -> Arc<Self> {
        let (link, ttl) = (Arc::downgrade(link), link.options.lease);
        Arc::new(Self { link, ttl, held: Mutex::default(), changed: watch::Sender::new(()), task: Mutex::default() })
    }
    /// A third of the lease stays unused, so that a holder stops before another may start, whatever the clocks' speeds.
    fn good_for(&self) -> Duration {
        self.ttl - self.ttl / 3
    }
    /// Renews the lease from now on; the answer fires when it is lost.
    pub(crate) fn keep(self: &Arc<Self>, run: RunId, claimed_from: Instant) -> Stop {
        let (stopper, stop) = Stopper::new();
        let held = Held { stopper, good_until: claimed_from + self.good_for() };
        self.held.lock().expect("no panic while held").insert(run, held);
        self.changed.send_replace(());
        let mut task = self.task.lock().expect("no panic while held");
        if task.as_ref().is_none_or(AbortHandle::is_finished) {
            let keeper = Arc::downgrade(self);
            let (renewals, deadlines) = (self.changed.subscribe(), self.changed.subscribe());
            let renew = renew(keeper.clone(), renewals);
            let watch = watch(keeper, deadlines);
            *task = Some(tokio::spawn(futures::future::join(renew, watch)).abort_handle());
        }
        stop
    }
    /// Stops to renew: the run ended, or its claim was dropped.
    pub(crate) fn release(&self, run: RunId) {
        self.held.lock().expect("no panic while held").remove(&run);
        self.changed.send_replace(());
    }
    /// Whether the run may still write, by this process's own clock.
    pub(crate) fn check(&self, run: RunId) -> Result<()> {
        self.expire(Instant::now());
        if self.held.lock().expect("no panic while held").contains_key(&run) { Ok(()) } else { Err(apply::lost(run)) }
    }

    /// The store refused this run something: if that was because another run took its place, it must stop at once.
    pub(crate) async fn recheck(&self, run: RunId) {
        if let Some(link) = self.link.upgrade() {
            self.ask_for(vec![run], &link).await;
        }
    }
    async fn ask_for(&self, runs: Vec<RunId>, link: &Link) {
        let sent = Instant::now();
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        match link.ask(Request::Renew { runs: runs.clone(), ttl_ms }).await {
            Ok(Reply::Held(still)) => self.renewed(&runs, &still, sent),
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %e, "leases could not be renewed; trying again until they are lost"),
        }
    }

    fn expire(&self, now: Instant) {
        let mut held = self.held.lock().expect("no panic while held");
        held.retain(|_, h| {
            let good = h.good_until > now;
            if !good {
                h.stopper.stop();
            }
            good
        });
    }
    fn runs(&self) -> Vec<RunId> {
        self.held.lock().expect("no panic while held").keys().copied().collect()
    }
    fn first_deadline(&self) -> Option<Instant> {
        self.held.lock().expect("no panic while held").values().map(|h| h.good_until).min()
    }

    fn renewed(&self, asked: &[RunId], still: &[RunId], sent: Instant) {
        let mut held = self.held.lock().expect("no panic while held");
        for run in asked {
            if still.contains(run) {
                if let Some(h) = held.get_mut(run) {
                    h.good_until = sent + self.good_for();
                }
            } else if let Some(h) = held.remove(run) {
                h.stopper.stop();
            }
        }
    }
}

/// One request for all leases, six times per lease time. Ends with its keeper.
async fn renew(keeper: Weak<Keeper>, mut changed: watch::Receiver<()>) {
    loop {
        let Some((pause, idle)) = keeper.upgrade().map(|k| (k.ttl / 6, k.runs().is_empty())) else { return };
        if idle {
            match changed.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        tokio::time::sleep(pause).await;
        let Some(keeper) = keeper.upgrade() else { return };
        let (Some(link), runs) = (keeper.link.upgrade(), keeper.runs()) else { return };
        if !runs.is_empty() {
            keeper.ask_for(runs, &link).await;
        }
    }
}

/// Beside the renewals, since one of them may hang past a deadline.
async fn watch(keeper: Weak<Keeper>, mut changed: watch::Receiver<()>) {
    loop {
        let Some(deadline) = keeper.upgrade().map(|k| k.first_deadline()) else { return };
        let wait = async {
            match deadline {
                Some(at) => tokio::time::sleep(at.saturating_duration_since(Instant::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => keeper.upgrade().into_iter().for_each(|k| k.expire(Instant::now())),
            end = changed.changed() => if end.is_err() { return },
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().expect("no panic while held").take() {
            task.abort();
        }
    }
}
