//! The connectors that this process keeps open, because they keep sessions: one for each stored connector and config, shared by all
//! that use it, and closed when its config changes or nobody may use it any more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::join_all;
use linkspan_core::{Connector, ConnectorType, Context, PoolState};
use serde_json::Value;
use uuid::Uuid;

/// One per process.
#[derive(Default)]
pub struct OpenConnectors(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: HashMap<Uuid, Open>,
    /// Timeouts of those that are closed, by type: a counter never falls.
    timeouts: BTreeMap<String, u64>,
}

struct Open {
    kind: String,
    /// Of what. Secrets are part of it, so that another password makes another connector; it is compared, and never shown.
    digest: blake3::Hash,
    connector: Arc<dyn Connector>,
}

/// The pools of all connectors of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    pub connectors: usize,
    pub sum: PoolState,
}

impl OpenConnectors {
    /// The open connector of a stored one, opened now when it is not, or was with another config. `None` for a type that keeps no
    /// sessions, and for a config that does not open: whoever opens it next is told why.
    pub async fn get(&self, id: Uuid, kind: &ConnectorType, config: &Value, context: &Context) -> Option<Arc<dyn Connector>> {
        // A guest's fields mean what its author says.
        if kind.is_guest() || kind.config_schema()["properties"].get("pool_size").is_none() {
            return None;
        }
        let digest = blake3::hash(format!("{} {config}", kind.spec.name).as_bytes());
        let (connector, replaced) = {
            let mut known = self.held();
            if let Some(open) = known.open.get(&id).filter(|open| open.digest == digest) {
                return Some(open.connector.clone());
            }
            // Opening does no I/O.
            let connector = kind.open(config.clone(), context.clone()).ok()?;
            connector.pool()?;
            let open = Open { kind: kind.spec.name.to_string(), digest, connector: connector.clone() };
            (connector, known.replace(id, Some(open)))
        };
        if let Some(replaced) = replaced {
            replaced.close().await;
        }
        Some(connector)
    }

    /// The connector is another one now, or none: its idle sessions end, and those in use when their use is over.
    pub async fn forget(&self, id: Uuid) {
        let gone = self.held().replace(id, None);
        if let Some(gone) = gone {
            gone.close().await;
        }
    }

    pub async fn close_all(&self) {
        let all: Vec<_> = {
            let mut known = self.held();
            let ids: Vec<Uuid> = known.open.keys().copied().collect();
            ids.into_iter().filter_map(|id| known.replace(id, None)).collect()
        };
        join_all(all.iter().map(|connector| connector.close())).await;
    }

    /// By type.
    pub fn pools(&self) -> BTreeMap<String, Pools> {
        let known = self.held();
        let mut pools: BTreeMap<String, Pools> = BTreeMap::new();
        for (kind, timeouts) in &known.timeouts {
            pools.entry(kind.clone()).or_default().sum.timeouts += timeouts;
        }
        for open in known.open.values() {
            let Some(state) = open.connector.pool() else { continue };
            let Pools { connectors, sum } = pools.entry(open.kind.clone()).or_default();
            *connectors += 1;
            sum.open += state.open;
            sum.idle += state.idle;
            sum.in_use += state.in_use;
            sum.waiting += state.waiting;
            sum.max += state.max;
            sum.timeouts += state.timeouts;
        }
        pools
    }

    /// Usable after a panic elsewhere.
    fn held(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn replace(&mut self, id: Uuid, by: Option<Open>) -> Option<Arc<dyn Connector>> {
        let gone = self.open.remove(&id);
        if let Some(by) = by {
            self.open.insert(id, by);
        }
        let Open { kind, connector, .. } = gone?;
        *self.timeouts.entry(kind).or_default() += connector.pool().map_or(0, |pool| pool.timeouts);
        Some(connector)
    }
}
