//! What is answered to a pull.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Id or name.
    pub connector: String,
}

/// Every row of the query's answer is ingested, skipped or rejected.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Pulled {
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Rows of the query's answer.
    pub records_pulled: u64,
    pub records_ingested: u64,
    /// Rows whose content was ingested before.
    pub duplicates_skipped: u64,
    pub duration_seconds: f64,
    /// The run, with its log.
    pub run: String,
    /// Where the rows are: `<destination>:<vertical>_<entity_type>`; the destination is `lake` unless the project has another.
    pub dest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}
