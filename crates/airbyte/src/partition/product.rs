//! Every combination of several routers' partitions; the last router turns fastest.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{Router, Slices};
use crate::{hand, slice::Slice};

/// Partitions that are held in memory, of each router. Those of the first beyond that are read as they are needed; of the others there may be no more.
const MOST: usize = 200_000;

/// The routers are read to their end, one after the other, before there is a first combination, as the reference does: a parent that fails on the way
/// leaves none.
pub(super) fn slices(routers: Vec<Arc<Router>>) -> Slices {
    hand::stream(move |mut hand| async move {
        let Some((first, others)) = routers.split_first() else { return Ok(()) };
        let mut beyond = first.clone().slices();
        let firsts: Vec<Arc<Slice>> = beyond.by_ref().take(MOST).try_collect().await?;
        let mut sets = Vec::with_capacity(others.len());
        for router in others {
            let set: Vec<Arc<Slice>> = router.clone().slices().take(MOST + 1).try_collect().await?;
            if set.len() > MOST {
                return Err(
                    Error::new(ErrorKind::Unsupported, "a partition router of a product has too many partitions").with("limit", MOST)
                );
            }
            sets.push(set);
        }
        let mut firsts = stream::iter(firsts).map(Ok).chain(beyond);
        while let Some(first) = firsts.try_next().await? {
            let mut odometer = Odometer::new(&sets);
            while let Some(rest) = odometer.next() {
                hand.out(Arc::new(joined(&first, &rest)?)).await;
            }
        }
        Ok(())
    })
}

struct Odometer<'a> {
    sets: &'a [Vec<Arc<Slice>>],
    at: Option<Vec<usize>>,
}

impl<'a> Odometer<'a> {
    fn new(sets: &'a [Vec<Arc<Slice>>]) -> Self {
        let has_all = sets.iter().all(|set| !set.is_empty());
        Self { sets, at: has_all.then(|| vec![0; sets.len()]) }
    }
    fn next(&mut self) -> Option<Vec<&'a Arc<Slice>>> {
        let sets = self.sets;
        let at = self.at.as_mut()?;
        let now = sets.iter().zip(at.iter()).map(|(set, at)| &set[*at]).collect();
        let turned = (0..sets.len()).rev().any(|wheel| {
            at[wheel] += 1;
            if at[wheel] < sets[wheel].len() {
                return true;
            }
            at[wheel] = 0;
            false
        });
        if !turned {
            self.at = None;
        }
        Some(now)
    }
}

fn joined(first: &Slice, rest: &[&Arc<Slice>]) -> Result<Slice> {
    let all = || std::iter::once(first).chain(rest.iter().map(|slice| &***slice));
    let merge = |of: fn(&Slice) -> &Map<String, Value>| {
        let mut merged = Map::new();
        for (key, value) in all().flat_map(of) {
            merged.entry(key.clone()).or_insert_with(|| value.clone());
        }
        merged
    };
    let mut stretches = all().map(Slice::cursor).filter(|c| !c.is_empty());
    let stretch = stretches.next().cloned().unwrap_or_default();
    if stretches.next().is_some() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "only one router of a product may have a cursor"));
    }
    Slice::new(merge(Slice::partition), stretch, merge(Slice::extra))
}
