//! Which fields of a config are secrets, by the marks in its schema.

use serde_json::{Map, Value};

use super::vault::Values;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// All of it.
    Secret,
    /// A URL whose password is.
    Url,
}

/// What a field is.
pub fn kind_of(schema: &Value, field: &str) -> Kind {
    match schema["properties"].get(field) {
        // Nobody knows what it is: it is shown to nobody.
        None => Kind::Secret,
        Some(property) if property["x-secret"].is_string() => Kind::Url,
        Some(property) if holds_secret(schema, property, 0) => Kind::Secret,
        Some(_) => Kind::Plain,
    }
}

/// The secret fields of a config with their values.
pub fn secrets_of(schema: &Value, config: &Map<String, Value>) -> Values {
    config.iter().filter(|(field, _)| kind_of(schema, field) != Kind::Plain).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn holds_secret(root: &Value, schema: &Value, depth: usize) -> bool {
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return true;
    }
    match schema {
        Value::Object(fields) => {
            let target = fields.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')));
            let marked =
                ["x-secret", "airbyte_secret"].iter().any(|w| fields.get(*w).is_some_and(|v| *v != Value::Bool(false) && !v.is_null()));
            marked || target.is_some_and(|t| holds_secret(root, t, depth + 1)) || fields.values().any(|v| holds_secret(root, v, depth + 1))
        }
        Value::Array(all) => all.iter().any(|v| holds_secret(root, v, depth + 1)),
        _ => false,
    }
}
