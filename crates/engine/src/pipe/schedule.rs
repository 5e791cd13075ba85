//! Which lanes run when: pulled as slots become free, held back until what they follow is complete, restarted where a source lost
//! its position, dropped when a stop is not heard in time. Owns every task of the run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use linkspan_core::{
    Covers, Ended, Error, ErrorKind, Lane, MemoryBudget, Output, ReadMode, Repeats, Result, Retry, Stop, Stopper, StreamName, TRACES,
    WriteMode,
};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::Instant,
};
use tracing::Instrument;

use super::{
    books::Pipe,
    finish::{Finished, finish},
    guarded, is_shared,
    lanes::Lanes,
    panicked,
    session::{LaneEnd, LaneSession},
    streams::{Streams, Turn},
};
use crate::run::{Outcome, StreamEnd};

/// The least that a lane gets of the run's memory.
const LEAST_PER_LANE: u64 = 1 << 20;

const LOST: &str = "the source cannot go on where this stream stood";
const UNPUBLISHED: &str = "an earlier run had read this stream to its end and did not come to publish it";

pub(super) struct Schedule {
    pipe: Arc<Pipe>,
    streams: Streams,
    lanes: Lanes,
    accepted: usize,
    waiting: Vec<(Covers, Box<dyn Lane>)>,
    running: HashMap<u64, Running>,
    tasks: JoinSet<Done>,
    roles: HashMap<Id, Role>,
    next_lane: u64,
    outside: Stop,
    stopper: Stopper,
    deadline: Option<Instant>,
    /// Streams to be read from their start, and why.
    restart: BTreeMap<StreamName, &'static str>,
    /// Complete, and waiting for a free hand to publish them.
    finishing: VecDeque<StreamName>,
}

/// A lane at work: two tasks.
struct Running {
    covers: Covers,
    reader: AbortHandle,
    session: AbortHandle,
    alive: u8,
    end: Option<LaneEnd>,
    reader_panicked: bool,
}

enum Role {
    Lane(u64, Half),
    Finish(StreamName),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Reader,
    Session,
}

/// What a task brings back.
enum Done {
    Reader,
    Session(LaneEnd),
    Finish(Result<Finished>),
}

impl Schedule {
    pub fn new(pipe: Arc<Pipe>, stop: Stop) -> Self {
        Self {
            streams: Streams::new(pipe.assignments.keys().cloned()),
            lanes: Lanes::default(),
            accepted: 0,
            waiting: Vec::new(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            roles: HashMap::new(),
            next_lane: 0,
            outside: stop,
            stopper: Stopper::new().0,
            deadline: None,
            restart: BTreeMap::new(),
            finishing: VecDeque::new(),
            pipe,
        }
    }

    pub async fn run(mut self) -> Outcome {
        self.ask_for_lanes(&self.streams.live());
        loop {
            self.restart_lost().await;
            self.start_lanes();
            self.finish_streams();
            if self.restart.keys().any(|s| self.streams.open_lanes(s) == 0) {
                continue;
            }
            if self.tasks.is_empty() && (self.lanes.is_exhausted() || self.is_stopping()) {
                if self.waiting.is_empty() {
                    break;
                }
                self.give_up_waiting();
                continue;
            }
            self.next_event().await;
        }
        self.last_word().await
    }

    async fn next_event(&mut self) {
        let may_pull = !self.is_stopping() && !self.lanes.is_exhausted() && self.running.len() < self.slots();
        let (stopping, deadline) = (self.is_stopping(), self.deadline);
        tokio::select! {
            biased;
            Some(done) = self.tasks.join_next_with_id() => self.task_ended(done),
            () = self.outside.wait(), if !stopping => self.begin_stop(),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.drop_lanes(),
            lane = self.lanes.next(), if may_pull => match lane {
                Some(Ok(lane)) => self.accept(lane),
                Some(Err(e)) => self.lanes_failed(e).await,
                None => {}
            },
        }
    }

    /// Lanes at once. A destination that takes one session at a time gets one lane at a time: a lane never reads ahead of its turn.
    fn slots(&self) -> usize {
        if self.pipe.capability.parallel { self.pipe.run.settings.concurrency.max(1) } else { 1 }
    }

    fn is_stopping(&self) -> bool {
        self.stopper.listener().requested()
    }

    fn ask_for_lanes(&mut self, streams: &[StreamName]) {
        let selected = self.pipe.selected(streams);
        let of_these = |scope: &linkspan_core::Scope| scope.stream().is_none_or(|s| streams.contains(s));
        let from = self.pipe.position().iter().filter(|(scope, _)| of_these(scope)).map(|(k, v)| (k.clone(), v.clone())).collect();
        if selected.is_empty() {
            return;
        }
        let source = self.pipe.run.source.clone();
        match std::panic::catch_unwind(AssertUnwindSafe(|| source.lanes(selected, from))) {
            Ok(lanes) => self.lanes.push(lanes),
            Err(_) => self.streams.fail(streams, &panicked("the source")),
        }
    }

    fn accept(&mut self, lane: Box<dyn Lane>) {
        let covers = lane.covers();
        self.accepted += 1;
        if let Err(e) = self.check(&covers) {
            let known: Vec<_> = covers.streams.iter().filter(|s| self.streams.knows(s)).cloned().collect();
            return self.streams.fail(&known, &e);
        }
        if covers.streams.iter().all(|s| self.streams.has_ended(s)) {
            return;
        }
        for stream in self.streams.opened(&covers.scope, &covers.streams) {
            if let Some(assignment) = self.pipe.assignments.get(&stream) {
                let stream = &assignment.selected.stream;
                self.pipe.run.observer.lanes(&stream.name, stream.estimated_rows, stream.estimated_bytes);
            }
        }
        self.waiting.push((covers, lane));
    }

    fn check(&self, covers: &Covers) -> Result<()> {
        if covers.streams.iter().any(|s| !self.streams.knows(s)) || covers.streams.is_empty() {
            return Err(Error::new(ErrorKind::DataInvalid, "the source yielded a lane of streams that were not selected"));
        }
        if self.streams.has_seen(&covers.scope) {
            return Err(Error::new(ErrorKind::DataInvalid, "the source yielded two lanes of one scope").with("scope", &covers.scope));
        }
        let several = covers.streams.len() > 1;
        if several && self.pipe.capability.atomic == linkspan_core::Atomic::Stream && !self.pipe.run.settings.split_transactions {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the source's transactions span several streams, and this destination commits one stream at a time",
            )
            .fix("set `policies.transactions: split`, or choose a destination that commits a session at once"));
        }
        Ok(())
    }

    fn start_lanes(&mut self) {
        if self.is_stopping() {
            return;
        }
        let exhausted = self.lanes.is_exhausted();
        let mut at = 0;
        while at < self.waiting.len() && self.running.len() < self.slots() {
            let covers = &self.waiting[at].0;
            match self.streams.turn(&covers.scope, &covers.after, &covers.streams, exhausted) {
                Turn::Wait => at += 1,
                Turn::Never => {
                    let (covers, _) = self.waiting.remove(at);
                    self.cannot_follow(&covers);
                }
                Turn::Now => {
                    let (covers, lane) = self.waiting.remove(at);
                    self.start(covers, lane);
                }
            }
        }
    }

    fn start(&mut self, covers: Covers, lane: Box<dyn Lane>) {
        let without: BTreeSet<StreamName> = covers.streams.iter().filter(|s| self.streams.has_ended(s)).cloned().collect();
        if without.len() == covers.streams.len() {
            return self.streams.closed(&covers.scope, &covers.streams, Ended::Stopped);
        }
        let settings = &self.pipe.run.settings;
        // Each lane has a budget of its own, so that none can starve a session on which another one waits.
        let share = (settings.memory / self.slots() as u64).max(LEAST_PER_LANE);
        let (mut out, inbox) = Output::channel(MemoryBudget::new(share), settings.depth.max(1));
        let (tell, told) = oneshot::channel();
        tracing::debug!(scope = %covers.scope, streams = covers.streams.len(), "a lane starts");
        let (stop, id) = (self.stopper.listener(), self.next_lane);
        self.next_lane += 1;
        let session = LaneSession::new(self.pipe.clone(), &covers, without, stop.clone());
        let span = tracing::info_span!(
            target: TRACES, "lane", "linkspan.scope" = %covers.scope, "linkspan.streams" = covers.streams.len(), "error.type" = tracing::field::Empty
        );
        let session = self.tasks.spawn(async move { Done::Session(session.run(inbox, told).await) }.instrument(span.clone()));
        let read = async move {
            let ended = lane.read(&mut out, &stop).await;
            tell.send(ended).ok();
            Done::Reader
        };
        let reader = self.tasks.spawn(read.instrument(span));
        self.roles.insert(session.id(), Role::Lane(id, Half::Session));
        self.roles.insert(reader.id(), Role::Lane(id, Half::Reader));
        self.running.insert(id, Running { covers, reader, session, alive: 2, end: None, reader_panicked: false });
    }

    fn task_ended(&mut self, done: Result<(Id, Done), JoinError>) {
        let (id, done) = match done {
            Ok((id, done)) => (id, Ok(done)),
            Err(e) => (e.id(), Err(e)),
        };
        let Some(role) = self.roles.remove(&id) else { return };
        match role {
            Role::Finish(stream) => self.stream_finished(&stream, done),
            Role::Lane(lane, half) => self.half_ended(lane, half, done),
        }
    }

    fn half_ended(&mut self, id: u64, half: Half, done: Result<Done, JoinError>) {
        let Some(lane) = self.running.get_mut(&id) else { return };
        lane.alive -= 1;
        match (half, done) {
            (_, Ok(Done::Session(end))) => lane.end = Some(end),
            (Half::Reader, Err(e)) if e.is_panic() => lane.reader_panicked = true,
            (Half::Session, Err(e)) if e.is_panic() => {
                lane.end = Some(LaneEnd { result: Err(panicked("the destination")), parked: BTreeMap::new() });
            }
            _ => {}
        }
        // Nobody listens any more: the reader closes its sockets now, not when it next has something to say.
        if half == Half::Session {
            lane.reader.abort();
        }
        if lane.alive == 0
            && let Some(lane) = self.running.remove(&id)
        {
            self.lane_ended(lane);
        }
    }

    fn lane_ended(&mut self, lane: Running) {
        let Running { covers, end, reader_panicked, .. } = lane;
        // A lane without an end was dropped, because of a stop or for a restart.
        let LaneEnd { result, parked } = end.unwrap_or_else(|| LaneEnd { result: Ok(Ended::Stopped), parked: BTreeMap::new() });
        let result = if reader_panicked && result.is_err() { Err(panicked("the source")) } else { result };
        tracing::debug!(scope = %covers.scope, ended = ?result.as_ref().map_err(Error::kind), "a lane ended");
        self.streams.closed(&covers.scope, &covers.streams, *result.as_ref().unwrap_or(&Ended::Stopped));
        for (stream, e) in parked {
            self.streams.end(&stream, StreamEnd::Parked(e));
        }
        match result {
            Ok(Ended::Complete) => {}
            Ok(Ended::Stopped) => covers.streams.iter().filter(|s| !self.restart.contains_key(*s)).for_each(|s| self.streams.stopped(s)),
            Err(e) if e.kind() == ErrorKind::PositionLost && !is_shared(&covers.scope) && !self.is_stopping() => {
                covers.streams.iter().for_each(|s| self.position_lost(s, &e));
            }
            Err(e) => self.streams.fail(&covers.streams, &e),
        }
    }

    /// What the lane follows ended without being complete.
    fn cannot_follow(&mut self, covers: &Covers) {
        self.streams.closed(&covers.scope, &covers.streams, Ended::Stopped);
        let e = Error::new(ErrorKind::Unavailable, "a lane that this stream's lane follows did not complete").retry(Retry::Backoff);
        self.streams.fail(&covers.streams, &e);
    }

    /// Nothing runs and nothing more comes, and still lanes wait: because of a stop, or for each other.
    fn give_up_waiting(&mut self) {
        for (covers, _) in std::mem::take(&mut self.waiting) {
            self.streams.closed(&covers.scope, &covers.streams, Ended::Stopped);
            if self.is_stopping() {
                covers.streams.iter().for_each(|s| self.streams.stopped(s));
            } else {
                let e = Error::new(ErrorKind::DataInvalid, "the source's lanes wait for each other").with("scope", &covers.scope);
                self.streams.fail(&covers.streams, &e);
            }
        }
    }

    fn finish_streams(&mut self) {
        let dropped = self.is_stopping() && self.deadline.is_none();
        if !self.lanes.is_exhausted() || !self.restart.is_empty() || dropped {
            return;
        }
        self.finishing.extend(self.streams.take_finished());
        while self.roles.values().filter(|r| matches!(r, Role::Finish(_))).count() < self.slots() {
            let Some(stream) = self.finishing.pop_front() else { break };
            if self.is_stale(&stream) {
                self.restart.insert(stream, UNPUBLISHED);
                continue;
            }
            let work = finish(self.pipe.clone(), stream.clone(), self.stopper.listener());
            let task = self.tasks.spawn(async move { Done::Finish(work.await) });
            self.roles.insert(task.id(), Role::Finish(stream));
        }
    }

    /// A replace that an earlier run had read to its end, but not published: its rows may be old by now, and nothing said that they are
    /// not. It is read again.
    fn is_stale(&self, stream: &StreamName) -> bool {
        let replaces = self.pipe.assignments.get(stream).is_some_and(|a| a.write == WriteMode::Replace);
        replaces && self.streams.may_restart(stream) && self.pipe.has_commits(stream) && self.pipe.is_of_an_earlier_run(stream)
    }

    fn stream_finished(&mut self, stream: &StreamName, done: Result<Done, JoinError>) {
        let end = match done {
            Ok(Done::Finish(Ok(Finished::Done))) => StreamEnd::Completed,
            Ok(Done::Finish(Ok(Finished::Parked(e)))) => StreamEnd::Parked(e),
            Ok(Done::Finish(Err(e))) => StreamEnd::Failed(e.with("stream", stream)),
            Err(e) if e.is_panic() => StreamEnd::Failed(panicked("the destination").with("stream", stream)),
            _ => StreamEnd::Stopped,
        };
        self.streams.end(stream, end);
    }

    fn begin_stop(&mut self) {
        self.stopper.stop();
        let grace = self.pipe.run.settings.grace;
        self.deadline = Some(Instant::now() + grace.min(Duration::from_secs(86_400)));
        self.lanes_are_no_more();
    }

    /// No lane is pulled any more: streams that waited for more of them cannot be complete in this run.
    fn lanes_are_no_more(&mut self) {
        if !self.lanes.is_exhausted() {
            self.streams.live().iter().for_each(|s| self.streams.stopped(s));
            self.lanes.clear();
        }
    }

    /// The grace is over: what still runs is dropped, which closes its sockets.
    fn drop_lanes(&mut self) {
        self.deadline = None;
        self.tasks.abort_all();
    }

    async fn lanes_failed(&mut self, e: Error) {
        let named = self.streams.named(&e);
        if e.kind() == ErrorKind::PositionLost {
            return self.lanes_lost(named, &e).await;
        }
        match named {
            Some(stream) => self.streams.fail(&[stream], &e),
            None => {
                // Nobody can say which lanes are missing. What runs is brought to a good end; nothing is published.
                self.streams.fail(&self.streams.live(), &e);
                self.begin_stop();
            }
        }
    }

    /// The source cannot go on from where a stream (or, without a name, everything) stands.
    async fn lanes_lost(&mut self, named: Option<StreamName>, e: &Error) {
        let affected = named.map_or_else(|| self.streams.live(), |s| vec![s]);
        if self.accepted > 0 {
            return affected.iter().for_each(|s| self.position_lost(s, e));
        }
        // Nothing has begun: the source is asked again as a whole, so that a log that they share starts again with them.
        if affected.len() == self.streams.live().len() {
            self.pipe.forget_shared();
        }
        for stream in &affected {
            if self.can_restart(stream) {
                self.draw_again(stream, LOST).await;
            } else {
                self.streams.end(stream, StreamEnd::Failed(lost_for_good(e).with("stream", stream)));
            }
        }
        self.lanes.clear();
        self.ask_for_lanes(&self.streams.live());
    }

    /// Whether nothing is lost or doubled when the stream is read from its start.
    fn can_restart(&self, stream: &StreamName) -> bool {
        let Some(assignment) = self.pipe.assignments.get(stream) else { return false };
        let repeatable = assignment.write == WriteMode::Replace || assignment.selected.repeats == Repeats::Folded;
        self.streams.may_restart(stream) && (repeatable || !self.pipe.has_commits(stream))
    }

    /// One stream's position is lost while others are at work.
    fn position_lost(&mut self, stream: &StreamName, e: &Error) {
        let log = self.pipe.assignments.get(stream).is_some_and(|a| a.selected.read == ReadMode::Cdc);
        let mut lanes = self.running.values().map(|l| &l.covers).chain(self.waiting.iter().map(|(c, _)| c));
        let shares = lanes.any(|c| c.streams.len() > 1 && c.streams.contains(stream));
        if log || shares || !self.can_restart(stream) {
            self.streams.end(stream, StreamEnd::Failed(lost_for_good(e).with("stream", stream)));
            return;
        }
        self.restart.insert(stream.clone(), LOST);
        for lane in self.running.values().filter(|l| l.covers.streams.contains(stream)) {
            lane.session.abort();
            lane.reader.abort();
        }
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|(c, _)| c.streams.contains(stream));
        self.waiting = kept;
        gone.iter().for_each(|(c, _)| self.streams.closed(&c.scope, &c.streams, Ended::Stopped));
    }

    /// Streams that have to start again do so once their last lane is gone.
    async fn restart_lost(&mut self) {
        let ready = |s: &StreamName, _: &mut &'static str| self.streams.open_lanes(s) == 0;
        let ready: Vec<_> = self.restart.extract_if(.., ready).collect();
        for (stream, why) in ready {
            if self.streams.has_ended(&stream) {
                continue;
            }
            if !self.is_stopping() && self.draw_again(&stream, why).await {
                self.ask_for_lanes(&[stream]);
            } else {
                self.streams.stopped(&stream);
            }
        }
    }

    async fn draw_again(&mut self, stream: &StreamName, why: &'static str) -> bool {
        self.streams.restarted(stream);
        match guarded(self.pipe.draw(stream)).await {
            Ok(generation) => {
                let text = format!("{why}: it is read from its start (generation {generation})");
                self.pipe.run.observer.note(Some(stream), &text);
                true
            }
            Err(e) => {
                self.streams.fail(std::slice::from_ref(stream), &e);
                false
            }
        }
    }

    /// Once more what is durable, then the outcome of every stream.
    async fn last_word(self) -> Outcome {
        let Self { pipe, streams, .. } = self;
        if let Err(e) = thank(&pipe).await {
            pipe.run.observer.note(None, &format!("the source could not be told what is durable; the next run will: {e}"));
        }
        let mut outcome = Outcome { commits: pipe.commits(), ..Outcome::default() };
        for (stream, end) in streams.into_ends() {
            let ended = pipe.outcome(&stream, end);
            pipe.run.observer.ended(&stream, &ended);
            outcome.streams.insert(stream, ended);
        }
        outcome
    }
}

/// Tells the source once more what is durable. A source that does not answer must not hold the run's end.
async fn thank(pipe: &Pipe) -> Result<()> {
    let durable = pipe.position();
    if durable.is_empty() {
        return Ok(());
    }
    let patience = pipe.run.settings.grace.max(Duration::from_secs(10));
    let silent = |_| Err(Error::new(ErrorKind::Timeout, "the source did not answer"));
    tokio::time::timeout(patience, guarded(pipe.run.source.acknowledge(&durable))).await.unwrap_or_else(silent)
}

fn lost_for_good(e: &Error) -> Error {
    let error = super::books::again(e);
    if e.suggested_fix().is_some() {
        return error;
    }
    error.fix("reset this stream and run again: it is read from its start, and rows that were appended stay")
}
