//! One run of a connection: what goes in, what is watched, what comes out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use linkspan_core::{
    ConnectionId, Context, Destination, Error, Gate, Memory, Repeats, Selected, Source, StreamName, Swap, Target, WriteMode, WriteStats,
};
use serde::Serialize;

/// Everything one run needs. `fence` comes with the claimed lease and is larger than any earlier run's.
pub struct Run {
    pub connection: ConnectionId,
    pub fence: u64,
    pub source: Arc<dyn Source>,
    pub destination: Arc<dyn Destination>,
    pub streams: Vec<Assignment>,
    pub gate: Arc<dyn Gate>,
    pub memory: Arc<dyn Memory>,
    pub settings: Settings,
    pub context: Context,
    pub observer: Arc<dyn Observer>,
}

/// A selected stream, and where and how its rows go.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub selected: Selected,
    pub target: Target,
    pub write: WriteMode,
    pub key: Vec<String>,
    pub swap: Swap,
}

impl Assignment {
    /// A replace that keeps one row per key.
    pub(crate) fn folds(&self) -> bool {
        self.write == WriteMode::Replace && self.selected.repeats == Repeats::Folded && !self.key.is_empty()
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Lanes at once.
    pub concurrency: usize,
    /// Budget for rows in flight, in bytes.
    pub memory: u64,
    /// Messages between a reader and its session.
    pub depth: usize,
    /// The longest a row may wait for its commit, where the user says so; else the destination's advice counts.
    pub latency: Option<Duration>,
    /// How long lanes may take to stop by themselves before they are dropped.
    pub grace: Duration,
    /// What the user agreed to when the two memories disagree.
    pub accept: Accept,
    /// Whether a lane of several streams may be split over a destination that commits per stream.
    pub split_transactions: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The destination forgot us or was replaced: start again there (`--accept`).
    pub replaced_target: bool,
    /// The store is new, the destination knows the connection: go on from what it recalls (`--adopt`).
    pub adopt: bool,
}

/// Sees a run as it goes, for progress, logs and metrics. Calls are cheap and never block.
pub trait Observer: Send + Sync {
    fn lanes(&self, _stream: &StreamName, _estimated_rows: Option<u64>, _estimated_bytes: Option<u64>) {}
    fn read(&self, _stream: &StreamName, _rows: u64, _bytes: u64) {}
    fn committed(&self, _stream: &StreamName, _stats: WriteStats) {}
    fn note(&self, _stream: Option<&StreamName>, _text: &str) {}
    /// Values or rows that could not travel as they were (also written to the rejects file by whoever observes).
    fn changes(&self, _stream: &StreamName, _changes: &linkspan_core::Changes) {}
    fn ended(&self, _stream: &StreamName, _outcome: &StreamOutcome) {}
}

/// Nobody watches.
pub struct Unobserved;
impl Observer for Unobserved {}

#[derive(Debug, Default)]
pub struct Outcome {
    pub streams: BTreeMap<StreamName, StreamOutcome>,
    pub commits: u64,
}

#[derive(Debug)]
pub struct StreamOutcome {
    pub read_rows: u64,
    pub read_bytes: u64,
    pub stats: WriteStats,
    pub generation: u64,
    pub ended: StreamEnd,
}

/// How a stream's part of the run ended.
#[derive(Debug)]
pub enum StreamEnd {
    Completed,
    /// Asked to stop; what was committed stays, the next run goes on there.
    Stopped,
    /// The gate or a policy stopped it; the other streams went on.
    Parked(Error),
    Failed(Error),
}

impl Serialize for StreamEnd {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Parked(_) => "parked",
            Self::Failed(_) => "failed",
        })
    }
}
