//! Every combination of several routers' partitions; the last router turns fastest.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{Router, Slices};
use crate::{hand, slice::Slice};

/// Partitions of the routers after the first are held in memory, up to this many each.
const MOST: usize = 200_000;

pub(super) fn slices(routers: Vec<Arc<Router>>) -> Slices {
    hand::stream(move |mut hand| async move {
        let Some((first, others)) = routers.split_first() else { return Ok(()) };
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
        let mut firsts = first.clone().slices();
        while let Some(first) = firsts.next().await {
            let first = first?;
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
