//! A server as one config names it, and the sessions that one connector has there.

use std::{ops::Deref, sync::Arc, time::Duration};

use linkspan_core::{Context, Ends, PoolState, Result};

use super::{config::Endpoint, packet::LocalFiles};
use crate::pool::{Idle, Need, Pool, Share, Slot};

/// How long an idle session may take to answer before it counts as broken.
pub(super) const PROBE: Duration = Duration::from_secs(5);

/// The planner, what it opens for a moment, and one more than the view of the full reads takes; one reader a lane.
const SOURCE: Need = Need { base: 3, lane: 1 };
/// Publishing, and the guard of its fence; one session a lane.
const DESTINATION: Need = Need { base: 2, lane: 1 };

/// How to reach a server and to log in.
pub(super) struct Dialer {
    pub endpoint: Endpoint,
    pub ctx: Context,
    /// What its sessions say of themselves.
    pub files: LocalFiles,
}

/// Readers and writers share one pool and its limits.
pub(super) struct Server {
    pub dialer: Arc<Dialer>,
    pool: Pool<Idle<LocalFiles>>,
    /// What is set aside for the run that this is lent to.
    share: Option<Share>,
}

/// A session that was told to send files is never used by one who would not.
pub(super) type Lease = Slot<Idle<LocalFiles>>;

impl Deref for Server {
    type Target = Dialer;
    fn deref(&self) -> &Dialer {
        &self.dialer
    }
}

impl Server {
    pub fn new(endpoint: Endpoint, ctx: Context) -> Arc<Self> {
        let pool = Pool::new(endpoint.limits);
        let dialer = Arc::new(Dialer { endpoint, ctx, files: LocalFiles::Refused });
        Arc::new(Self { dialer, pool, share: None })
    }

    /// The same server for sessions that write.
    pub fn writer(&self) -> Arc<Self> {
        let Dialer { endpoint, ctx, .. } = &*self.dialer;
        let dialer = Arc::new(Dialer { endpoint: endpoint.clone(), ctx: ctx.clone(), files: LocalFiles::Sent });
        Arc::new(Self { dialer, pool: self.pool.clone(), share: self.share.clone() })
    }

    /// The right to one more session.
    pub async fn lease(&self) -> Result<Lease> {
        let lease = match &self.share {
            Some(share) => self.pool.slot_of(share).await,
            None => self.pool.slot().await,
        };
        lease.map_err(|e| e.with("server", self.endpoint.address()))
    }

    /// So many sessions at most may look at one moment: the others of a run's share are for what else it does.
    pub fn viewers(&self, wanted: usize) -> usize {
        let most = self.share.as_ref().map_or_else(|| self.endpoint.limits.most.saturating_sub(SOURCE.base), |share| share.lanes);
        wanted.min(most.max(1))
    }

    pub fn pool(&self) -> PoolState {
        self.pool.state()
    }

    pub async fn close_idle(&self) {
        self.pool.close().await;
    }

    /// The same server for both ends of a run, with what was set aside for each, and for how many lanes that is.
    pub async fn for_run(&self, ends: Ends, lanes: usize) -> Result<(Arc<Self>, Arc<Self>, usize)> {
        let shares = self.pool.share(ends, SOURCE, DESTINATION, lanes).await;
        let shares = shares.map_err(|e| e.with("server", self.endpoint.address()))?;
        let of = |share| Arc::new(Self { dialer: self.dialer.clone(), pool: self.pool.clone(), share });
        Ok((of(shares.source), of(shares.destination), shares.lanes))
    }
}

/// The two families; they differ in what their catalogs and settings are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavor {
    Mysql,
    Mariadb,
}

impl Flavor {
    pub fn of(version: &str) -> Self {
        if version.to_ascii_lowercase().contains("mariadb") { Self::Mariadb } else { Self::Mysql }
    }
}
