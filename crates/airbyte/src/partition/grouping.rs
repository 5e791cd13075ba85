//! Partitions of another router, some at a time as one.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{Router, Slices};
use crate::{hand, slice::Slice};

/// Groups of partitions; their keys hold lists.
pub struct Grouping {
    pub(super) underlying: Arc<Router>,
    pub(super) size: usize,
    pub(super) distinct: bool,
    /// How far the parents were when the last group was complete.
    pub(super) parents: Mutex<Option<Value>>,
}

impl Grouping {
    pub(super) fn state(&self) -> Option<Value> {
        self.parents.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
    fn note_parents(&self) {
        *self.parents.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = self.underlying.parents();
    }
}

pub(super) fn slices(router: Arc<Router>) -> Slices {
    hand::stream(move |mut hand| async move {
        let Router::Grouping(this) = &*router else { return Ok(()) };
        let mut partitions = this.underlying.clone().slices();
        let (mut group, mut seen) = (Vec::new(), HashSet::new());
        while let Some(partition) = partitions.next().await {
            let partition = partition?;
            let key = key(&partition)?;
            if this.distinct && !seen.insert(key) {
                continue;
            }
            group.push(partition);
            if group.len() == this.size {
                this.note_parents();
                hand.out(Arc::new(grouped(&std::mem::take(&mut group))?)).await;
            }
        }
        this.note_parents();
        if !group.is_empty() {
            hand.out(Arc::new(grouped(&group)?)).await;
        }
        Ok(())
    })
}

/// The value that tells partitions apart, as text.
fn key(partition: &Slice) -> Result<String> {
    let mut keys = partition.partition().iter().filter(|(key, _)| *key != "parent_slice");
    match (keys.next(), keys.next()) {
        (Some((_, value)), None) => Ok(value.to_string()),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "a grouping router groups partitions of one key")
            .fix("put a list or substream router with a single partition field below the grouping router")),
    }
}

fn grouped(group: &[Arc<Slice>]) -> Result<Slice> {
    let lists = |keys: Vec<&String>, of: fn(&Slice) -> &Map<String, Value>| -> Map<String, Value> {
        let list = |key: &String| group.iter().map(|slice| of(slice).get(key).cloned().unwrap_or_default()).collect();
        keys.into_iter().map(|key| (key.clone(), list(key))).collect()
    };
    let keys = group[0].partition().keys().collect();
    let mut extra_keys: Vec<&String> = group.iter().flat_map(|slice| slice.extra().keys()).collect();
    extra_keys.sort_unstable();
    extra_keys.dedup();
    Slice::new(lists(keys, Slice::partition), Map::new(), lists(extra_keys, Slice::extra))
}
