//! Memory that is bounded by configuration, not by data: every batch travels with a lease on the run's budget.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT: u64 = 1024;

/// A run's budget for rows in flight. Granted in KiB, so that one `u32` of permits covers 4 TiB.
#[derive(Clone)]
pub struct MemoryBudget {
    semaphore: Arc<Semaphore>,
    units: u32,
}

impl MemoryBudget {
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from((bytes / UNIT).clamp(1, u64::from(u32::MAX >> 4))).unwrap_or(u32::MAX >> 4);
        Self { semaphore: Arc::new(Semaphore::new(units as usize)), units }
    }
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }
    pub fn available(&self) -> u64 {
        self.semaphore.available_permits() as u64 * UNIT
    }
    /// Waits until `bytes` fit. A request above the whole budget is clamped to it, so it is admitted alone instead of never.
    pub async fn lease(&self, bytes: u64) -> MemoryLease {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        let permit = self.semaphore.clone().acquire_many_owned(units).await.ok();
        MemoryLease { permit, bytes }
    }
}

/// A share of the budget, given back when dropped: after the session has flushed, encoded or spilled the batch.
#[derive(Debug, Default)]
pub struct MemoryLease {
    #[allow(dead_code, reason = "held for its drop")]
    permit: Option<OwnedSemaphorePermit>,
    bytes: u64,
}

impl MemoryLease {
    /// A lease on nothing: for tests and for rows that are counted elsewhere.
    pub fn none() -> Self {
        Self::default()
    }
    /// What was asked for, before clamping.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_larger_than_the_budget_is_admitted_alone() {
        let budget = MemoryBudget::new(64 << 20);
        let big = budget.lease(100 << 20).await;
        assert_eq!(budget.available(), 0);
        drop(big);
        assert_eq!(budget.available(), 64 << 20);
    }
}
