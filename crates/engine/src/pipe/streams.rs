//! How each stream of a run is doing: its open lanes, and the first thing that went wrong. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use linkspan_core::{Ended, Error, ErrorKind, Retry, Scope, StreamName};

use super::books::again;
use crate::run::StreamEnd;

/// The streams of a run, and the scopes that lanes have ended.
pub(super) struct Streams {
    all: BTreeMap<StreamName, Progress>,
    seen: BTreeSet<Scope>,
    ended: BTreeMap<Scope, Ended>,
}

#[derive(Default)]
struct Progress {
    /// Lanes that were accepted and have not ended.
    open: usize,
    announced: bool,
    restarted: bool,
    stopped: bool,
    finishing: bool,
    end: Option<StreamEnd>,
}

/// Whether a lane may start.
pub(super) enum Turn {
    Now,
    Wait,
    /// What it follows will not come in this run.
    Never,
}

impl Streams {
    pub fn new(names: impl IntoIterator<Item = StreamName>) -> Self {
        let all = names.into_iter().map(|n| (n, Progress::default())).collect();
        Self { all, seen: BTreeSet::new(), ended: BTreeMap::new() }
    }
    pub fn knows(&self, stream: &StreamName) -> bool {
        self.all.contains_key(stream)
    }
    /// The stream that an error is about, as its context names it.
    pub fn named(&self, e: &Error) -> Option<StreamName> {
        let (_, name) = e.context().iter().find(|(key, _)| *key == "stream")?;
        self.all.keys().find(|s| s.to_string() == *name).cloned()
    }
    /// Streams that have not ended one way or the other.
    pub fn live(&self) -> Vec<StreamName> {
        self.all.iter().filter(|(_, p)| p.end.is_none()).map(|(s, _)| s.clone()).collect()
    }
    pub fn has_ended(&self, stream: &StreamName) -> bool {
        self.all.get(stream).is_none_or(|p| p.end.is_some())
    }
    pub fn stopped(&mut self, stream: &StreamName) {
        if let Some(progress) = self.all.get_mut(stream) {
            progress.stopped = true;
        }
    }
    /// The first end counts; later ones are its echo. Answers whether it was the first.
    pub fn end(&mut self, stream: &StreamName, end: StreamEnd) -> bool {
        match self.all.get_mut(stream) {
            Some(progress) if progress.end.is_none() => {
                progress.end = Some(end);
                true
            }
            _ => false,
        }
    }
    pub fn fail(&mut self, streams: &[StreamName], e: &Error) {
        for stream in streams {
            self.end(stream, StreamEnd::Failed(again(e).with("stream", stream)));
        }
    }
    /// A stream that was lost may start again once in a run.
    pub fn may_restart(&self, stream: &StreamName) -> bool {
        self.all.get(stream).is_some_and(|p| !p.restarted && p.end.is_none())
    }
    pub fn restarted(&mut self, stream: &StreamName) {
        if let Some(progress) = self.all.get_mut(stream) {
            progress.restarted = true;
            progress.finishing = false;
        }
        self.seen.retain(|scope| scope.stream() != Some(stream));
        self.ended.retain(|scope, _| scope.stream() != Some(stream));
    }
    /// Counts a lane in; answers which of its streams are seen for the first time.
    pub fn opened(&mut self, scope: &Scope, streams: &[StreamName]) -> Vec<StreamName> {
        self.seen.insert(scope.clone());
        let mut first = Vec::new();
        for stream in streams {
            if let Some(progress) = self.all.get_mut(stream) {
                progress.open += 1;
                if !std::mem::replace(&mut progress.announced, true) {
                    first.push(stream.clone());
                }
            }
        }
        first
    }
    pub fn has_seen(&self, scope: &Scope) -> bool {
        self.seen.contains(scope)
    }
    pub fn closed(&mut self, scope: &Scope, streams: &[StreamName], ended: Ended) {
        self.ended.insert(scope.clone(), ended);
        for stream in streams {
            if let Some(progress) = self.all.get_mut(stream) {
                progress.open -= 1;
            }
        }
    }
    pub fn open_lanes(&self, stream: &StreamName) -> usize {
        self.all.get(stream).map_or(0, |p| p.open)
    }
    /// Streams whose lanes are all complete and that wait for their end. Only to be asked when no more lanes will come.
    pub fn take_finished(&mut self) -> Vec<StreamName> {
        let ready = self.all.iter_mut().filter(|(_, p)| p.open == 0 && !p.stopped && !p.finishing && p.end.is_none());
        ready
            .map(|(stream, progress)| {
                progress.finishing = true;
                stream.clone()
            })
            .collect()
    }
    /// Whether a lane with these dependencies may start. `exhausted`: no more lanes will come, so what was not seen was complete before.
    pub fn turn(&self, own: &Scope, after: &[Scope], covers: &[StreamName], exhausted: bool) -> Turn {
        let mut turn = Turn::Now;
        for scope in after.iter().filter(|s| *s != own) {
            match self.ended.get(scope) {
                Some(Ended::Complete) => {}
                Some(Ended::Stopped) if self.goes_on_without(scope, covers) => {}
                Some(Ended::Stopped) => return Turn::Never,
                None if exhausted && !self.seen.contains(scope) => {}
                None => turn = Turn::Wait,
            }
        }
        turn
    }
    /// A stream that is parked, or failed for good, is left behind by a lane of several streams, so that it does not hold them back.
    /// One that may succeed next time is waited for: leaving it behind would mean to read it from its start.
    fn goes_on_without(&self, scope: &Scope, covers: &[StreamName]) -> bool {
        let Some(stream) = scope.stream() else { return false };
        let left = self.all.get(stream).and_then(|p| p.end.as_ref());
        let for_good = match left {
            Some(StreamEnd::Parked(_)) => true,
            Some(StreamEnd::Failed(e)) => e.retry_hint() == Retry::Never && e.kind() != ErrorKind::Canceled,
            _ => false,
        };
        for_good && covers.iter().any(|s| s != stream)
    }
    pub fn into_ends(self) -> impl Iterator<Item = (StreamName, StreamEnd)> {
        self.all.into_iter().map(|(stream, p)| (stream, p.end.unwrap_or(StreamEnd::Stopped)))
    }
}
