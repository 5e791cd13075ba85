//! What can be asked of the store, as data: the same in the owner, over the socket, and for every database.
//!
//! Every request may be asked twice (a socket can break before the answer): by its own content, or by an id that the store remembers.

use std::collections::BTreeMap;

use linkspan_core::{Commit, ConnectionId, Generation, Recalled, Scope, StreamName, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    change::{Change, Outcome, Remembered},
    document::{Document, DocumentFilter, DocumentPage, Entry, EntryFilter, Linked, Sealed},
    record::{
        Attempt, ConnectionRecord, NewConnection, NewRun, PositionRecord, Queued, ResetOf, RunCounts, RunFilter, RunId, RunLogRecord,
        RunRecord, RunResult, SchemaRecord, WaitingRun,
    },
};

/// Proof of a claim: who writes, and with which fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseKey {
    pub connection: ConnectionId,
    pub run: RunId,
    pub fence: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Found by id or name, else made with the id given or with `drawn`.
    PutConnection {
        new: NewConnection,
        drawn: Uuid,
    },
    DeleteConnection {
        connection: ConnectionId,
    },
    /// Lets runs wait for their turn. A connection has at most one that waits or goes.
    QueueRuns {
        runs: Vec<WaitingRun>,
    },
    /// Ends a run that waits; any other is left as it is. Answers it.
    CancelWaiting {
        run: RunId,
    },
    /// Gives the lease back and lets the run wait again, for its next attempt.
    Requeue {
        by: LeaseKey,
        after_ms: u64,
        stats: Value,
        error: Value,
        attempt: Attempt,
    },
    /// Takes every lease whose holder is gone or silent; answers the runs that were concerned, as they are now.
    Sweep,
    /// Checks that nobody else holds the connection, draws the fence, starts the run and takes the lease. A run that waits goes on
    /// under its own id.
    Claim {
        connection: ConnectionId,
        run: RunId,
        new: NewRun,
        ttl_ms: u64,
    },
    /// Keeps all leases of a process alive; answers those it still holds.
    Renew {
        runs: Vec<RunId>,
        ttl_ms: u64,
    },
    Finish {
        by: LeaseKey,
        result: RunResult,
    },
    DrawGeneration {
        by: LeaseKey,
        stream: StreamName,
        id: Uuid,
    },
    /// Where the newest generations of these streams go.
    Aim {
        by: LeaseKey,
        targets: Vec<(StreamName, Target)>,
    },
    Save {
        by: LeaseKey,
        commits: Vec<Commit>,
    },
    Complete {
        by: LeaseKey,
        stream: StreamName,
        generation: u64,
    },
    Adopt {
        by: LeaseKey,
        scopes: BTreeMap<Scope, Recalled>,
        generations: Vec<(StreamName, Generation)>,
    },
    SawSchema {
        by: LeaseKey,
        stream: StreamName,
        schema: Value,
    },
    Reset {
        connection: ConnectionId,
        of: ResetOf,
        id: Uuid,
    },
    PutRunLog {
        log: RunLogRecord,
    },
    ForgetRunLogs {
        runs: Vec<RunId>,
    },
    /// Edits of documents with their histories and the remembered answer: one transaction.
    Change(Box<Change>),
    ForgetEntries {
        kind: String,
        before_ms: i64,
    },

    Connections {
        after: Option<String>,
        limit: Option<u32>,
    },
    FindConnection {
        name: String,
    },
    GetConnection {
        connection: ConnectionId,
    },
    Load {
        connection: ConnectionId,
    },
    Positions {
        connection: ConnectionId,
    },
    Runs {
        filter: RunFilter,
    },
    GetRun {
        run: RunId,
    },
    /// Runs that wait, the one that may start first before the others.
    WaitingRuns {
        limit: u32,
    },
    /// How many runs wait and go.
    CountRuns,
    /// The latest tick of every connection that ever had one.
    LastTicks,
    SchemaHistory {
        connection: ConnectionId,
        stream: StreamName,
    },
    GetRunLog {
        run: RunId,
    },
    /// Logs beyond the `keep` newest of a connection, or older than `max_age_ms`.
    OldRunLogs {
        connection: ConnectionId,
        keep: u32,
        max_age_ms: i64,
    },
    GetDocument {
        id: Uuid,
    },
    /// By id, else by name.
    FindDocument {
        kind: String,
        project: String,
        key: String,
    },
    Documents {
        filter: DocumentFilter,
    },
    /// Documents of one project with who points at them and how many there are.
    PageOfDocuments {
        filter: DocumentFilter,
    },
    CountDocuments {
        kind: String,
        project: String,
    },
    Linked {
        to: Vec<Uuid>,
    },
    Sealed {
        document: Uuid,
    },
    SealedUnder {
        data_key: Uuid,
        after: Option<Uuid>,
        limit: u32,
    },
    Entries {
        filter: EntryFilter,
    },
    Remembered {
        project: String,
        caller: String,
        key: String,
    },
}

impl Request {
    /// Whether it changes nothing, so that any reader can answer it.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Connections { .. }
                | Self::FindConnection { .. }
                | Self::GetConnection { .. }
                | Self::Load { .. }
                | Self::Positions { .. }
                | Self::Runs { .. }
                | Self::GetRun { .. }
                | Self::WaitingRuns { .. }
                | Self::CountRuns
                | Self::LastTicks
                | Self::SchemaHistory { .. }
                | Self::GetRunLog { .. }
                | Self::OldRunLogs { .. }
                | Self::GetDocument { .. }
                | Self::FindDocument { .. }
                | Self::Documents { .. }
                | Self::PageOfDocuments { .. }
                | Self::CountDocuments { .. }
                | Self::Linked { .. }
                | Self::Sealed { .. }
                | Self::SealedUnder { .. }
                | Self::Entries { .. }
                | Self::Remembered { .. }
        )
    }
    /// Whether what it deletes must be gone from the files when it is answered.
    pub(crate) fn erases(&self) -> bool {
        matches!(self, Self::Change(change) if change.erase)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Connection(ConnectionRecord),
    Connections(Vec<ConnectionRecord>),
    Claimed { fence: u64, started_at_ms: i64 },
    Held(Vec<RunId>),
    Queued(Vec<Queued>),
    RunCounts(RunCounts),
    Ticks(Vec<(ConnectionId, i64)>),
    Generation(u64),
    Memory { positions: Vec<PositionRecord>, generations: Vec<(StreamName, Generation)>, targets: Vec<(StreamName, Target)>, known: bool },
    Positions(Vec<PositionRecord>),
    Runs(Vec<RunRecord>),
    Schemas(Vec<SchemaRecord>),
    RunLogs(Vec<RunLogRecord>),
    Changed(Outcome),
    Documents(Vec<Document>),
    PageOfDocuments(DocumentPage),
    Facets(Vec<(String, u64)>),
    Linked(Vec<Linked>),
    Sealed(Vec<(Uuid, Sealed)>),
    Entries(Vec<Entry>),
    Remembered(Option<Remembered>),
    Count(u64),
}
