//! The manifest as a tree of components: references put in place, parameters handed down, types written where they go without saying.

mod defaults;
mod language;
mod parameters;
mod references;

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// The manifest with every `$ref` and `"#/.."` replaced by what it names, then every component with its type and its parents' `$parameters`.
pub fn resolved(manifest: &Value) -> Result<Value> {
    let whole = references::resolved(manifest)?;
    Ok(parameters::propagated(whole, Precedence::Own))
}

pub use parameters::{Precedence, propagated};
pub use references::resolved as without_references;

/// A manifest's text, ready to build from: resolved, and of the language. A mistake in a part that nobody uses is none.
pub fn opened(text: &str) -> Result<Value> {
    let mut parsed = crate::yaml::parse(text)?;
    match parsed.as_object_mut() {
        Some(fields) => {
            fields.entry("type").or_insert_with(|| "DeclarativeSource".into());
        }
        None => return Err(Error::new(ErrorKind::ConfigInvalid, "the manifest is no object")),
    }
    let root = resolved(&parsed)?;
    language::check(&root)?;
    Ok(root)
}

/// Components in Python cannot be run here: `Unsupported` names the first one's place. Definitions that nobody uses do not count.
pub fn refuse_python(root: &Value) -> Result<()> {
    let Some(fields) = root.as_object() else { return Ok(()) };
    fields.iter().filter(|(key, _)| *key != "definitions" && *key != "metadata").try_for_each(|(key, value)| python_in(value, key))
}

fn python_in(value: &Value, path: &str) -> Result<()> {
    match value {
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
            if kind.starts_with("Custom")
                && let Some(class) = fields.get("class_name").and_then(Value::as_str)
            {
                return Err(Error::new(ErrorKind::Unsupported, "the manifest has a component in Python, which is not run here")
                    .with("path", path)
                    .with("class", class)
                    .fix("run the connector's own program as a subprocess, or replace the component by one of the language"));
            }
            let mut inside = fields.iter().filter(|(key, _)| *key != "$parameters");
            inside.try_for_each(|(key, value)| python_in(value, &format!("{path}.{key}")))
        }
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| python_in(item, &format!("{path}[{at}]"))),
        _ => Ok(()),
    }
}
