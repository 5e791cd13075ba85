//! `$ref`: what is written once and used in many places. Local keys win over the ones referred to.

use std::cell::Cell;

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// References multiply: without a limit a page of text can mean more nodes than memory holds.
const MOST_NODES: usize = 2_000_000;
/// Deeper than any manifest, far from the end of the stack.
const DEEPEST: usize = 400;

/// The tree without references. A reference into itself, or to nothing, is `ConfigInvalid` with its text.
pub fn resolved(manifest: &Value) -> Result<Value> {
    let walk = Walk { manifest, nodes: Cell::new(0) };
    walk.node(manifest, &mut Vec::new(), 0)
}

struct Walk<'a> {
    manifest: &'a Value,
    nodes: Cell<usize>,
}

impl<'a> Walk<'a> {
    fn node(&self, node: &'a Value, open: &mut Vec<&'a str>, depth: usize) -> Result<Value> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > MOST_NODES || depth > DEEPEST {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the manifest is too large once its references are put in place")
                .fix("look for references that multiply each other"));
        }
        match node {
            Value::Object(fields) => self.object(fields, open, depth),
            Value::Array(items) => items.iter().map(|item| self.node(item, open, depth + 1)).collect(),
            Value::String(text) if text.starts_with("#/") => self.named(text, open, depth),
            other => Ok(other.clone()),
        }
    }

    fn object(&self, fields: &'a Map<String, Value>, open: &mut Vec<&'a str>, depth: usize) -> Result<Value> {
        let mut own = Map::with_capacity(fields.len());
        for (key, value) in fields.iter().filter(|(key, _)| *key != "$ref") {
            // What a user's config says is no reference, whatever it looks like.
            let value = if key == "config_overrides" { value.clone() } else { self.node(value, open, depth + 1)? };
            own.insert(key.clone(), value);
        }
        let Some(reference) = fields.get("$ref") else { return Ok(own.into()) };
        match self.node(reference, open, depth + 1)? {
            Value::Object(mut base) => {
                base.extend(own);
                Ok(base.into())
            }
            other => Ok(other),
        }
    }

    fn named(&self, reference: &'a str, open: &mut Vec<&'a str>, depth: usize) -> Result<Value> {
        if open.contains(&reference) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a reference leads back to itself")
                .with("ref", reference)
                .fix("break the circle of $ref"));
        }
        // A dot does not match a line break, so the reference ends there.
        let path = reference[2..].split('\n').next().unwrap_or_default();
        let target = lookup(self.manifest, path).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "a reference names nothing").with("ref", reference).fix("check the path behind #/")
        })?;
        open.push(reference);
        let value = self.node(target, open, depth + 1);
        open.pop();
        value
    }
}

/// The whole rest of a path is tried as one key first, then its first part.
fn lookup<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    let (mut node, mut path) = (root, path);
    while !path.is_empty() {
        if let Some(found) = node.as_object().and_then(|fields| fields.get(path)) {
            return Some(found);
        }
        let (head, rest) = path.split_once('/').unwrap_or((path, ""));
        node = match (node, head.trim().replace('_', "").parse::<i64>()) {
            (Value::Array(items), Ok(index)) if index < 0 => items.get(items.len().checked_sub(index.unsigned_abs() as usize)?)?,
            (Value::Array(items), Ok(index)) => items.get(index as usize)?,
            // A part that is a number is an index, never a key: it is looked for as a number, which no JSON key is.
            (Value::Object(fields), Err(_)) => fields.get(head)?,
            _ => return None,
        };
        path = rest;
    }
    Some(node)
}
