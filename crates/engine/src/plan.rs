//! A plan: which streams are read how, and where their rows go. Pure decisions over what was discovered.

use linkspan_core::{Capability, ReadMode, Result, Stream, Swap, WriteMode};
use serde::{Deserialize, Serialize};

use crate::run::Assignment;

/// What the user asked for, as the CLI and project files say it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Names or patterns (`public.*`, `orders`, `*`); empty means all.
    pub streams: Vec<String>,
    pub mode: Option<ReadMode>,
    pub cursor: Option<String>,
    pub write: Option<WriteMode>,
    pub key: Vec<String>,
    /// Another name for the target: a table for one stream, `schema.*` or `schema` for several.
    pub target: Option<String>,
    pub swap: Swap,
}

/// The plan, and what the user should know about it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub assignments: Vec<Assignment>,
    pub notes: Vec<String>,
}

/// Resolves patterns, modes, cursors, keys and targets (DESIGN section 6, "Settled").
pub fn plan(discovered: &[Stream], request: &Request, capability: &Capability) -> Result<Plan> {
    let _ = (discovered, request, capability);
    Err(linkspan_core::Error::new(linkspan_core::ErrorKind::Unsupported, "plans are not built yet"))
}
