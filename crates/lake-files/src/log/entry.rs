//! What one entry of the log says.

use linkspan_core::{ConnectionId, Scope, State, StreamName, WriteMode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::storage::PartFile;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Tells a writer its own entry from another's under the same number.
    pub id: Uuid,
    pub connection: ConnectionId,
    pub fence: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A run begins: older runs are fenced out, and what they staged for these streams below these generations is dropped,
    /// with the positions that spoke of it.
    Open { drops: Vec<(StreamName, u64)> },
    /// Rows and the position they reach.
    Commit { scope: Scope, generation: u64, previous: u64, number: u64, state: State, streams: Vec<StreamCommit> },
    /// A complete generation takes the table's place.
    Publish { stream: StreamName, folder: String, generation: u64, schema: Option<String>, files: Vec<PartFile>, removes: Vec<String> },
    /// Positions and staging are gone; rows stay.
    Forget,
}

/// What a commit adds to one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StreamCommit {
    pub stream: StreamName,
    pub folder: String,
    pub write: WriteMode,
    pub generation: u64,
    pub files: Vec<PartFile>,
    /// The table's schema, when this commit changes it (`schema::to_text`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Whether the stream was emptied before these rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Files that a truncate takes away, or of which a merge has written what stays into new ones; of a staged generation by where they wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removes: Vec<String>,
    /// What a merge finds rows by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
}
