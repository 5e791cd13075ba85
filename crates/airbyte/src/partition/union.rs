//! The partitions of several routers one after another, each value once.

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind};
use serde_json::{Map, Value};

use super::{Router, Slices};
use crate::{hand, slice::Slice};

/// Routers that all make partitions of one field.
pub struct Union {
    pub(super) routers: Vec<Arc<Router>>,
    pub(super) field: String,
}

impl Union {
    pub(super) fn state(&self) -> Value {
        let mut merged = Map::new();
        for router in &self.routers {
            if let Some(Value::Object(parents)) = router.parents() {
                merged.extend(parents);
            }
        }
        merged.into()
    }
}

pub(super) fn slices(router: Arc<Router>) -> Slices {
    hand::stream(move |mut hand| async move {
        let Router::Union(this) = &*router else { return Ok(()) };
        let mut seen = HashSet::new();
        for router in &this.routers {
            let mut partitions = router.clone().slices();
            while let Some(partition) = partitions.next().await {
                let partition = partition?;
                let Some(value) = partition.partition().get(&this.field) else {
                    return Err(Error::new(ErrorKind::ConfigInvalid, "a router of a union makes partitions of another field")
                        .with("field", &this.field));
                };
                if value.is_object() || value.is_array() {
                    return Err(Error::new(ErrorKind::DataInvalid, "a union's partition values must be plain").with("field", &this.field));
                }
                if !seen.insert(value.to_string()) {
                    continue;
                }
                // What else a partition holds rides along, so that its state has one key.
                let others = partition.partition().iter().filter(|(key, _)| **key != this.field);
                let extra = partition.extra().iter().chain(others).map(|(k, v)| (k.clone(), v.clone())).collect();
                let own = [(this.field.clone(), value.clone())].into_iter().collect();
                hand.out(Arc::new(Slice::new(own, Map::new(), extra)?)).await;
            }
        }
        Ok(())
    })
}
