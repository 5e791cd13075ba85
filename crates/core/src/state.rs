//! Positions: what a source needs to go on where it stopped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Scope;

/// An opaque position of one scope. Only the source that wrote it reads inside; `version` is that source's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub version: u16,
    pub value: Value,
}

impl State {
    pub fn new(version: u16, value: Value) -> Self {
        Self { version, value }
    }
    /// A state that takes its scope out of the position (a slice that is no longer needed).
    pub fn gone() -> Self {
        Self { version: 0, value: Value::Null }
    }
    pub fn is_gone(&self) -> bool {
        self.value.is_null()
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
