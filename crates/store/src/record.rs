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
    /// `sync`, `pull`, ...: one word.
    pub kind: String,
    /// How it was asked for, without secrets.
    pub spec: Value,
    pub project: String,
    pub holder: Holder,
}

impl NewRun {
    /// A run that this process holds, in the project that everything belongs to when nobody says another.
    pub fn new(kind: impl Into<String>, spec: Value) -> Self {
        Self { kind: kind.into(), spec, project: "default".into(), holder: Holder::this_process() }
    }
    pub fn project(self, project: impl Into<String>) -> Self {
        Self { project: project.into(), ..self }
    }
}

/// A run that is to wait for its turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitingRun {
    /// Drawn by the asker, so that a repeated request queues it once.
    pub run: RunId,
    pub connection: ConnectionId,
    pub kind: String,
    /// How it was asked for, without secrets.
    pub spec: Value,
    pub project: String,
    pub cause: Cause,
    /// The tick that it is for; a connection has one run per tick.
    pub scheduled_for_ms: Option<i64>,
    /// How often it may be tried, the first time included: after errors that pass and after a process that died.
    pub max_attempts: u32,
}

/// What became of a run that was to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queued {
    Waiting,
    /// Another run of the connection waits or goes already.
    Busy(RunId),
    /// The tick had its run.
    Ticked(RunId),
    /// The connection is not there any more.
    Gone,
}

/// Whether what a run did so far counts as one of its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// It failed; the next one begins.
    Next,
    /// It was only interrupted.
    Same,
}

/// Why a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Manual,
    Schedule,
    /// Somebody asked to do an ended run again.
    Retry,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::Retry => "retry",
        }
    }
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Manual, Self::Schedule, Self::Retry].into_iter().find(|s| s.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for its turn, for the first time or once more.
    Queued,
    Running,
    Completed,
    /// At least one stream did not come through; what was committed stays.
    Failed,
    /// Asked to stop; what was committed stays.
    Cancelled,
}

impl RunStatus {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
    /// Whether nothing will change it any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
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
    pub project: String,
    pub kind: String,
    pub spec: Value,
    pub status: RunStatus,
    pub cause: Cause,
    /// 1 is the first.
    pub attempt: u32,
    pub max_attempts: u32,
    /// Of the latest attempt.
    pub fence: u64,
    /// Nobody before its first attempt.
    pub holder: Option<Holder>,
    /// Nothing for a run that went ahead without waiting.
    pub queued_at_ms: Option<i64>,
    /// While it waits: when it may start.
    pub not_before_ms: i64,
    pub scheduled_for_ms: Option<i64>,
    /// Of the latest attempt.
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
    pub stats: Option<Value>,
    pub error: Option<Value>,
}

/// Which runs to list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFilter {
    pub project: Option<String>,
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

/// The runs that are not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCounts {
    pub queued: u64,
    pub running: u64,
    /// Since when the longest-waiting one may start; later than now when all of them wait for a time.
    pub first_due_ms: Option<i64>,
}
