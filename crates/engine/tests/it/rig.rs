//! A run of the pipe between fakes.

use std::{sync::Arc, time::Duration};

use linkspan_core::{
    ConnectionId, Context, Destination, Error, Failpoints, Gate, Memory, ReadMode, Repeats, Result, Selected, Source, Stop, StreamName,
    Swap, Target, WriteMode,
};
use linkspan_engine::{
    gate::{Policies, PolicyGate},
    run::{Accept, Assignment, Observer, Outcome, Run, Settings, StreamEnd, Unobserved},
};
use linkspan_testkit::{
    fakes::{FakeDestination, FakeMemory, ScriptSource},
    rows::standard_stream,
};
use uuid::Uuid;

pub const CONNECTION: ConnectionId = ConnectionId(Uuid::from_u128(7));

pub fn name(text: &str) -> StreamName {
    StreamName::parse(text)
}
pub fn target(text: &str) -> Target {
    Target::from(&name(text))
}

pub struct Rig {
    pub source: Arc<dyn Source>,
    pub script: Arc<ScriptSource>,
    pub to: Arc<FakeDestination>,
    pub destination: Arc<dyn Destination>,
    pub memory: Arc<FakeMemory>,
    pub remembers: Arc<dyn Memory>,
    pub gate: Arc<dyn Gate>,
    pub observer: Arc<dyn Observer>,
    pub streams: Vec<Assignment>,
    pub settings: Settings,
    pub context: Context,
    pub fence: std::sync::atomic::AtomicU64,
}

pub fn settings() -> Settings {
    Settings {
        concurrency: 4,
        memory: 64 << 20,
        depth: 4,
        latency: None,
        grace: Duration::from_secs(5),
        accept: Accept::default(),
        split_transactions: false,
    }
}

pub fn assignment(stream: &str, read: ReadMode, write: WriteMode) -> Assignment {
    let stream = standard_stream(name(stream));
    let key = if write == WriteMode::Merge { stream.key.clone() } else { vec![] };
    let repeats = if write == WriteMode::Merge { Repeats::Folded } else { Repeats::Kept };
    let target = Target::from(&stream.name);
    Assignment { selected: Selected { stream, read, cursor: None, repeats }, target, write, key, swap: Swap::Rename }
}

impl Rig {
    pub fn new(script: Arc<ScriptSource>, to: Arc<FakeDestination>, streams: Vec<Assignment>) -> Self {
        let memory = FakeMemory::new();
        Self {
            source: script.clone(),
            script,
            gate: Arc::new(PolicyGate::new(Policies::default(), &to.capability())),
            observer: Arc::new(Unobserved),
            destination: to.clone(),
            to,
            remembers: memory.clone(),
            memory,
            streams,
            settings: settings(),
            context: Context::with_failpoints(Failpoints::default()),
            fence: std::sync::atomic::AtomicU64::new(1),
        }
    }
    pub fn run(&self) -> impl Future<Output = Result<Outcome>> + Send + use<> {
        self.run_until(Stop::never())
    }
    pub fn run_until(&self, stop: Stop) -> impl Future<Output = Result<Outcome>> + Send + use<> {
        let run = Run {
            connection: CONNECTION,
            fence: self.fence.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
            source: self.source.clone(),
            destination: self.destination.clone(),
            streams: self.streams.clone(),
            gate: self.gate.clone(),
            memory: self.remembers.clone(),
            settings: self.settings.clone(),
            context: self.context.clone(),
            observer: self.observer.clone(),
        };
        run.run(stop)
    }
    /// Runs and expects every stream to complete.
    pub async fn complete(&self) -> Outcome {
        let outcome = self.complete_beside().await;
        self.nothing_leaked();
        outcome
    }
    /// The same, while another run may be alive.
    pub async fn complete_beside(&self) -> Outcome {
        let outcome = self.run().await.unwrap();
        for (stream, o) in &outcome.streams {
            assert!(matches!(o.ended, StreamEnd::Completed), "{stream}: {:?}", o.ended);
        }
        outcome
    }
    pub fn nothing_leaked(&self) {
        assert_eq!((self.script.running(), self.to.open_sessions()), (0, 0), "a lane or a session outlived its run");
    }
    pub fn ids(&self, table: &str) -> Vec<i64> {
        self.to.ids(&target(table))
    }
}

/// The error of a stream's outcome.
pub fn failure<'a>(outcome: &'a Outcome, stream: &str) -> &'a Error {
    match &outcome.streams[&name(stream)].ended {
        StreamEnd::Failed(e) | StreamEnd::Parked(e) => e,
        other => panic!("{stream} ended {other:?}"),
    }
}
