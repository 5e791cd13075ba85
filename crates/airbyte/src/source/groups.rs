//! Streams that an API does not want to be read at the same time.

use std::{collections::HashMap, sync::Arc};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::stream::Stream;

/// The group of each stream that has one.
pub(super) fn of(root: &Value) -> HashMap<String, String> {
    let mut groups = HashMap::new();
    for (group, members) in root.get("stream_groups").and_then(Value::as_object).into_iter().flatten() {
        for stream in members["streams"].as_array().into_iter().flatten() {
            if let Some(name) = stream["name"].as_str().filter(|name| !name.is_empty()) {
                groups.insert(name.to_owned(), group.clone());
            }
        }
    }
    groups
}

/// A stream and its parent in one group would wait for each other.
pub(super) fn check(streams: &[Arc<Stream>], groups: &HashMap<String, String>) -> Result<()> {
    for stream in streams {
        let Some(group) = &stream.group else { continue };
        if let Some(parent) = stream.router.ancestors().into_iter().find(|name| groups.get(name) == Some(group)) {
            return Err(Error::new(
                ErrorKind::ConfigInvalid,
                "a stream and its parent stream are in one group, and would wait for each other",
            )
            .with("stream", &stream.name)
            .with("parent", parent)
            .with("group", group)
            .fix("take one of them out of the group in stream_groups"));
        }
    }
    Ok(())
}
