//! Positions: what a source needs to go on where it stopped.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::Scope;

/// An opaque position of one scope. Only the source that wrote it reads inside; `version` is that source's own. A state may be large
/// (thousands of partitions) and is held in several places at once: its clones share the value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub version: u16,
    pub value: Arc<Value>,
}

impl State {
    pub fn new(version: u16, value: Value) -> Self {
        Self { version, value: Arc::new(value) }
    }
    /// A state that takes its scope out of the position (a slice that is no longer needed).
    pub fn gone() -> Self {
        Self::new(0, Value::Null)
    }
    pub fn is_gone(&self) -> bool {
        self.value.is_null()
    }
    /// What the source put in; an error when it is of another shape.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(&*self.value)
    }
}

/// States by scope. A checkpoint carries a delta of it, never the whole map.
pub type Position = BTreeMap<Scope, State>;

/// Applies a delta: a state that is `gone` takes its scope out.
pub fn advance(position: &mut Position, delta: &Position) {
    for (scope, state) in delta {
        if state.is_gone() {
            position.remove(scope);
        } else {
            position.insert(scope.clone(), state.clone());
        }
    }
}
