//! Native connectors, one file or folder each. Adding one is that file, its docs, one line in `all` and one harness.

pub mod csv;
pub mod faker;
pub mod jsonl;
pub mod postgresql;
pub mod sqlite;

use linkspan_core::ConnectorType;

/// Every native connector type, in catalog order.
pub fn all() -> Vec<ConnectorType> {
    vec![]
}
