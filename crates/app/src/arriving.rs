//! Bytes of uploads under way in this process, by project: they count against its quota before they are anybody's file.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Clone, Default)]
pub struct Arriving(Arc<Mutex<HashMap<String, u64>>>);

/// The bytes of one upload; given back when it is dropped.
pub struct Share {
    all: Arriving,
    project: String,
    bytes: u64,
}

impl Arriving {
    pub fn share(&self, project: &str) -> Share {
        Share { all: self.clone(), project: project.to_owned(), bytes: 0 }
    }
    fn held(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// So many bytes more; answers what all uploads of the project have brought so far.
    pub fn add(&mut self, bytes: u64) -> u64 {
        self.bytes += bytes;
        let mut all = self.all.held();
        let sum = all.entry(self.project.clone()).or_default();
        *sum += bytes;
        *sum
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.all.held();
        if let Some(sum) = all.get_mut(&self.project) {
            *sum = sum.saturating_sub(self.bytes);
            if *sum == 0 {
                all.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_counts_no_more() {
        let all = Arriving::default();
        let (mut a, mut b, mut other) = (all.share("p"), all.share("p"), all.share("q"));
        assert_eq!((a.add(5), b.add(3), a.add(1), other.add(7)), (5, 8, 9, 7));
        drop(a);
        assert_eq!(b.add(1), 4);
        drop(b);
        assert_eq!(all.held().len(), 1);
    }
}
