//! Access tokens that are replaced while a sync runs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

/// A token and when it ends.
#[derive(Clone)]
pub struct Held {
    pub token: String,
    pub until: Timestamp,
}

/// Tokens by the request that brought them: streams that would ask alike share theirs.
#[derive(Default)]
pub struct Tokens(Mutex<HashMap<String, Held>>);

impl Tokens {
    pub fn get(&self, request: &str) -> Option<Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(request).cloned()
    }
    pub fn put(&self, request: String, held: Held) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(request, held);
    }
}
