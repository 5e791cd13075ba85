//! The manifest as a tree of components: references put in place, parameters handed down, types written where they go without saying.

mod defaults;
mod parameters;
mod references;

use linkspan_core::Result;
use serde_json::Value;

/// The manifest with every `$ref` and `"#/.."` replaced by what it names, then every component with its type and its parents' `$parameters`.
pub fn resolved(manifest: &Value) -> Result<Value> {
    let whole = references::resolved(manifest)?;
    Ok(parameters::propagated(whole, Precedence::Own))
}

pub use parameters::{Precedence, propagated};
pub use references::resolved as without_references;
