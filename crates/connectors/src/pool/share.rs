//! What is set aside for one run. A run holds sessions while it waits for others: were each of them taken when it is needed, two runs,
//! or two lanes of one run, could each hold what the other waits for. So a run takes all it needs before it holds any.

use std::sync::Arc;

use linkspan_core::{Ends, Error, ErrorKind, Result};
use tokio::{sync::Semaphore, time::timeout};

use super::{Inner, Permit, Pool, Pooled, Slot};

/// How many sessions one end of a run needs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// For the run as such.
    pub base: usize,
    /// For each of its lanes.
    pub lane: usize,
}

/// One end's part of what is set aside.
#[derive(Clone)]
pub(crate) struct Share {
    slots: Arc<Semaphore>,
    aside: Arc<Aside>,
    pub lanes: usize,
}

/// What was set aside; it goes back when both ends of the run, and every session of theirs, are done.
pub(super) struct Aside(#[allow(dead_code, reason = "held, not looked at")] [Permit; 2]);

/// The parts of both ends.
pub(crate) struct Shares {
    pub source: Option<Share>,
    pub destination: Option<Share>,
    /// So many lanes find their sessions.
    pub lanes: usize,
}

impl<S: Pooled> Pool<S> {
    /// Sets aside what a run of at most `lanes` lanes needs; fewer lanes when there is not so much, at least one.
    pub async fn share(&self, ends: Ends, source: Need, destination: Need, lanes: usize) -> Result<Shares> {
        let source = (ends != Ends::Destination).then_some(source);
        let destination = (ends != Ends::Source).then_some(destination);
        let needs = [source, destination];
        let sum = |of: fn(&Need) -> usize| needs.iter().flatten().map(of).sum::<usize>();
        let (base, lane) = (sum(|n| n.base), sum(|n| n.lane).max(1));
        let least = base + lane;
        let inner = &self.0;
        if least > inner.most_for_runs {
            return Err(too_few(least, inner.limits.most));
        }
        let mut of_runs = inner.of_runs(least).await?;
        let mut lanes_found = 1;
        while lanes_found < lanes.max(1)
            && let Ok(more) = inner.for_runs.clone().try_acquire_many_owned(count(lane))
        {
            of_runs.merge(more);
            lanes_found += 1;
        }
        // Whatever else holds a session now does not wait for another while it does.
        let all = inner.slots.clone().acquire_many_owned(count(base + lane * lanes_found));
        let Ok(Ok(permits)) = inner.wait(timeout(inner.patience.run, all)).await else {
            return Err(inner.exhausted(inner.patience.run));
        };
        let aside = Arc::new(Aside([of_runs, permits]));
        let share = |need: Option<Need>| {
            need.map(|n| Share { slots: Arc::new(Semaphore::new(n.base + n.lane * lanes_found)), aside: aside.clone(), lanes: lanes_found })
        };
        Ok(Shares { source: share(source), destination: share(destination), lanes: lanes_found })
    }

    /// A slot of a run's own. Those who hold the others give them back without needing one more, so that no limit of time is needed.
    pub async fn slot_of(&self, share: &Share) -> Result<Slot<S>> {
        let permit = self.0.wait(share.slots.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| Error::new(ErrorKind::Internal, "a run's sessions were closed"))?;
        Ok(Slot::new(self.0.clone(), permit, Some(share.aside.clone())))
    }
}

impl<S: Pooled> Inner<S> {
    async fn of_runs(&self, least: usize) -> Result<Permit> {
        // Runs queue here, among themselves: who tests or discovers does not wait behind them.
        match timeout(self.patience.run, self.for_runs.clone().acquire_many_owned(count(least))).await {
            Ok(Ok(permits)) => Ok(permits),
            _ => Err(self.exhausted(self.patience.run)),
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn too_few(least: usize, most: usize) -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the connector's pool is too small for a run")
        .with("field", "max_overflow")
        .with("needs", least)
        .with("max", most)
        .fix(format!("raise `pool_size` or `max_overflow`: together they must allow {least} connections at once"))
}
