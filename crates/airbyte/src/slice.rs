//! What one request loop reads: a partition, a stretch of the cursor, and fields that ride along.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// Partition keys and cursor keys, read as one mapping: partition keys first. Extra fields are no part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    partition: Map<String, Value>,
    cursor: Map<String, Value>,
    extra: Map<String, Value>,
}

impl Slice {
    /// `ConfigInvalid` when a key is in the partition and in the cursor's stretch.
    pub fn new(partition: Map<String, Value>, cursor: Map<String, Value>, extra: Map<String, Value>) -> Result<Self> {
        if let Some(key) = partition.keys().find(|key| cursor.contains_key(*key)) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a partition and its cursor use the same key")
                .with("key", key)
                .fix("rename partition_field, cursor_field or partition_field_start and partition_field_end"));
        }
        Ok(Self { partition, cursor, extra })
    }

    pub fn empty() -> Self {
        Self::default()
    }
    pub fn of_partition(partition: Map<String, Value>) -> Self {
        Self { partition, ..Self::default() }
    }

    pub fn partition(&self) -> &Map<String, Value> {
        &self.partition
    }
    pub fn cursor(&self) -> &Map<String, Value> {
        &self.cursor
    }
    pub fn extra(&self) -> &Map<String, Value> {
        &self.extra
    }

    /// A key of the partition or of the cursor's stretch.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.partition.get(key).or_else(|| self.cursor.get(key))
    }
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.partition.iter().chain(&self.cursor)
    }
    pub fn len(&self) -> usize {
        self.partition.len() + self.cursor.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Extra fields make a slice true in conditions although they are not looked up.
    pub fn is_truthy(&self) -> bool {
        !self.is_empty() || !self.extra.is_empty()
    }
    /// The lookups as one JSON object.
    pub fn to_json(&self) -> Value {
        Value::Object(self.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}
