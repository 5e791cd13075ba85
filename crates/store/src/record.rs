//! The rows of the store as the rest of the house sees them.

use linkspan_core::{ConnectionId, StreamName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::holder::Holder;

/// One execution of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub Uuid);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection as the user names it. `from` and `to` are shown as they are: mask secrets before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewConnection {
    pub name: String,
    /// The uuid of a project file; without one the store draws it.
    pub id: Option<Uuid>,
    pub from: String,
    pub to: String,
    /// What the user asked for, without secrets.
    pub spec: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    pub id: ConnectionId,
    pub name: String,
    pub from: String,
    pub to: String,
    pub spec: Value,
    /// Whether any run of it ever committed.
    pub known: bool,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

/// A run that wants to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewRun {
    /// `sync`, `reset`, ...: one word.
    pub kind: String,
    /// How it was asked for, without secrets.
    pub spec: Value,
    pub holder: Holder,
}

impl NewRun {
    /// A run that this process holds.
    pub fn new(kind: impl Into<String>, spec: Value) -> Self {
        Self { kind: kind.into(), spec, holder: Holder::this_process() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    Succeeded,
    /// Some streams failed or were parked, others went on.
    Partial,
    /// Asked to stop; what was committed stays.
    Stopped,
    Failed,
}

impl RunStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Succeeded, Self::Partial, Self::Stopped, Self::Failed].into_iter().find(|s| s.as_str() == text)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub status: RunStatus,
    /// Rows, bytes, streams: whatever the caller wants to show again.
    pub stats: Value,
    /// `Error::to_json` of what went wrong.
    pub error: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    /// Rises with every run of the store; pages of runs are cut by it.
    pub seq: i64,
    pub connection: ConnectionId,
    pub kind: String,
    pub spec: Value,
    pub status: RunStatus,
    pub fence: u64,
    pub holder: Holder,
    pub started_at_ms: i64,
    pub ended_at_ms: Option<i64>,
    pub stats: Option<Value>,
    pub error: Option<Value>,
}

/// Which runs to list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFilter {
    pub connection: Option<ConnectionId>,
    pub status: Option<RunStatus>,
    /// The `seq` of the last run of the page before.
    pub before: Option<i64>,
    /// At most 1,000; 50 when not said.
    pub limit: Option<u32>,
}

/// Where one scope of a connection stands, as the store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PositionRecord {
    pub scope: linkspan_core::Scope,
    #[serde(flatten)]
    pub recalled: linkspan_core::Recalled,
    pub saved_at_ms: i64,
}

/// One schema that a stream had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemaRecord {
    pub stream: StreamName,
    /// 1 is the first.
    pub version: u64,
    /// As `schema_text::to_json` writes it.
    pub schema: Value,
    pub seen_at_ms: i64,
    pub run: RunId,
}

/// Which streams a reset forgets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetOf {
    All,
    Streams(Vec<StreamName>),
}

/// What the store knows of a run's log files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunLogRecord {
    pub run: RunId,
    pub connection: ConnectionId,
    pub lines: u64,
    pub bytes: u64,
    /// Lines left out because the file was full.
    pub dropped: u64,
    pub rejects: u64,
    pub rejects_dropped: u64,
    pub closed_at_ms: i64,
}
