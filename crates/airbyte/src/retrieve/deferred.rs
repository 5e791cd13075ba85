//! The asynchronous retriever: jobs for slices are started as far as the API's budget goes, and each slice is handed on when its job
//! is done.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{
    NoSchema, Retriever, Schema, Stream, Unordered,
    jobs::{Job, Jobs, Status},
    select::Selector,
};
use crate::{
    component::Component,
    extract::Lists,
    record::Record,
    slice::Slice,
    wiring::{Build, Note},
};

/// Between two looks at the jobs.
const PAUSE: f64 = 5.0;
/// So often a job is asked for.
const ATTEMPTS: u32 = 3;
/// So often in a row a job's status may not come.
const MISSED_POLLS: u32 = 5;

pub struct Deferred {
    jobs: Arc<Jobs>,
    selector: Selector,
    schema: Arc<dyn Schema>,
    retry_wait: Option<SignedDuration>,
    stream: String,
    build: Build,
}

impl Deferred {
    fn warn(&self, text: String) {
        self.build.note(Note::Warning(self.stream.clone(), text));
    }

    pub fn build(component: &Component<'_>, stream: Stream<'_>, build: &Build) -> Result<Self> {
        let never = |c: &Component<'_>| -> Result<Arc<dyn Lists>> { Err(c.error("a job's records have no lists that are cut short")) };
        let wait = component.template("failed_retry_wait_time_in_seconds")?.map(|t| t.value(&build.scope())).transpose()?;
        // Records are extracted where results are fetched; here they are filtered and transformed.
        let of = Stream {
            name: stream.name,
            component: stream.component,
            order: Arc::new(Unordered),
            schema: Arc::new(NoSchema),
            is_client_side_incremental: false,
            is_data_feed: false,
            has_state: false,
        };
        Ok(Self {
            jobs: Arc::new(Jobs::build(component, stream.name, build)?),
            selector: Selector::build(component, &of, &never, build)?,
            schema: stream.schema,
            retry_wait: wait.as_ref().and_then(Value::as_i64).filter(|s| *s > 0).map(SignedDuration::from_secs),
            stream: stream.name.to_owned(),
            build: build.clone(),
        })
    }
}

impl Retriever for Deferred {
    fn pages(self: Arc<Self>, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>> {
        let results = self.jobs.clone().results(&slice);
        results
            .and_then(move |records| {
                let (retriever, slice) = (self.clone(), slice.clone());
                async move {
                    let schema = if retriever.selector.normalises { Some(retriever.schema.schema().await?) } else { None };
                    Ok(retriever.selector.finished(records, &slice, &Value::Null, schema.as_deref()))
                }
            })
            .flat_map(|page| {
                let (records, broken) = match page {
                    Ok((records, broken)) => (Some(Ok(records)), broken),
                    Err(broken) => (None, Some(broken)),
                };
                futures::stream::iter(records.into_iter().chain(broken.map(Err)))
            })
            .boxed()
    }

    fn partitions(self: Arc<Self>, slices: BoxStream<'static, Result<Arc<Slice>>>) -> BoxStream<'static, Result<Arc<Slice>>> {
        let running =
            Running { retriever: self, slices: Some(slices), waiting: None, places: Vec::new(), ready: VecDeque::new(), failed: None };
        futures::stream::unfold(running, |mut running| async move { running.next().await.map(|slice| (slice, running)) }).boxed()
    }
}

/// All slices on their way.
struct Running {
    retriever: Arc<Deferred>,
    slices: Option<BoxStream<'static, Result<Arc<Slice>>>>,
    /// A slice that was pulled when there was no budget for its job.
    waiting: Option<Arc<Slice>>,
    places: Vec<Place>,
    ready: VecDeque<Arc<Slice>>,
    /// The first thing that went wrong with a slice whose tries are used up. Others go on.
    failed: Option<Error>,
}

/// One slice and the job that is on for it. It holds one of the API's places until it is done.
struct Place {
    slice: Arc<Slice>,
    attempts: u32,
    missed: u32,
    state: State,
}

enum State {
    On(Box<Job>),
    /// The last try failed; the next one begins not before that moment.
    Off {
        not_before: Option<Timestamp>,
        why: Error,
    },
}

impl Running {
    async fn next(&mut self) -> Option<Result<Arc<Slice>>> {
        loop {
            if let Some(slice) = self.ready.pop_front() {
                return Some(Ok(slice));
            }
            if self.slices.is_none() && self.waiting.is_none() && self.places.is_empty() {
                return self.failed.take().map(Err);
            }
            if let Err(e) = self.round().await {
                self.stop().await;
                return Some(Err(e));
            }
        }
    }

    /// Jobs are started, looked at, and handed on.
    async fn round(&mut self) -> Result<()> {
        self.restart().await?;
        self.start().await?;
        let places = std::mem::take(&mut self.places);
        for place in places {
            self.look(place).await?;
        }
        if self.ready.is_empty() && !self.places.is_empty() {
            self.retriever.build.wait(PAUSE).await;
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        let now = self.retriever.build.clock.now();
        for place in &mut self.places {
            let State::Off { not_before, .. } = &place.state else { continue };
            if not_before.is_some_and(|at| at > now) {
                continue;
            }
            place.attempts += 1;
            place.missed = 0;
            place.state = begun(&self.retriever, &place.slice).await?;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<()> {
        loop {
            if self.waiting.is_none() {
                self.waiting = self.pull().await?;
            }
            let Some(slice) = self.waiting.take() else { return Ok(()) };
            if !self.retriever.build.shared.jobs.take() {
                self.waiting = Some(slice);
                return Ok(());
            }
            let state = match begun(&self.retriever, &slice).await {
                Ok(state) => state,
                Err(e) => {
                    self.retriever.build.shared.jobs.give_back();
                    return Err(e);
                }
            };
            self.places.push(Place { slice, attempts: 1, missed: 0, state });
        }
    }

    async fn pull(&mut self) -> Result<Option<Arc<Slice>>> {
        let Some(slices) = &mut self.slices else { return Ok(None) };
        let next = slices.next().await.transpose()?;
        if next.is_none() {
            self.slices = None;
        }
        Ok(next)
    }

    async fn look(&mut self, mut place: Place) -> Result<()> {
        let retriever = self.retriever.clone();
        let State::On(mut job) = place.state else {
            self.settle(place);
            return Ok(());
        };
        let status = match retriever.jobs.poll(&mut job).await {
            Ok(status) => status,
            Err(e) if is_breaking(&e) => {
                place.state = State::On(job);
                self.places.push(place);
                return Err(e);
            }
            Err(e) => {
                place.missed += 1;
                retriever.warn(format!("a job's status did not come: {}", e.message()));
                if place.missed < MISSED_POLLS {
                    place.state = State::On(job);
                    self.places.push(place);
                    return Ok(());
                }
                place.state = State::Off { not_before: None, why: e };
                self.settle(place);
                return Ok(());
            }
        };
        place.missed = 0;
        match status {
            Status::Running => {
                place.state = State::On(job);
                self.places.push(place);
            }
            Status::Completed => {
                retriever.build.shared.jobs.give_back();
                self.ready.push_back(Arc::new(retriever.jobs.keep(*job)?));
            }
            Status::Skipped => retriever.build.shared.jobs.give_back(),
            Status::TimedOut => {
                retriever.jobs.abort(&job).await;
                place.state = State::Off { not_before: None, why: Error::new(ErrorKind::Timeout, "a job at the other side took too long") };
                self.settle(place);
            }
            Status::Failed => {
                let not_before = retriever.retry_wait.and_then(|wait| retriever.build.clock.now().checked_add(wait).ok());
                place.state = State::Off { not_before, why: Error::new(ErrorKind::DataInvalid, "a job failed at the other side") };
                self.settle(place);
            }
        }
        Ok(())
    }

    /// A failed job is tried again, or its slice is given up.
    fn settle(&mut self, place: Place) {
        if place.attempts < ATTEMPTS {
            self.places.push(place);
            return;
        }
        self.retriever.build.shared.jobs.give_back();
        if let State::Off { why, .. } = place.state {
            self.failed.get_or_insert(why.with("stream", &self.retriever.stream).with("attempts", ATTEMPTS));
        }
    }

    async fn stop(&mut self) {
        self.slices = None;
        self.waiting = None;
        for place in std::mem::take(&mut self.places) {
            if let State::On(job) = &place.state {
                self.retriever.jobs.abort(job).await;
            }
            self.retriever.build.shared.jobs.give_back();
        }
    }
}

impl Drop for Running {
    /// A sync that is given up gives its places back.
    fn drop(&mut self) {
        for _ in &self.places {
            self.retriever.build.shared.jobs.give_back();
        }
    }
}

/// A job for a slice; what the config is to blame for ends the stream.
async fn begun(retriever: &Deferred, slice: &Arc<Slice>) -> Result<State> {
    match retriever.jobs.start(slice.clone()).await {
        Ok(job) => Ok(State::On(Box::new(job))),
        Err(e) if is_breaking(&e) => Err(e),
        Err(why) => {
            retriever.warn(format!("a job could not be started: {}", why.message()));
            Ok(State::Off { not_before: None, why })
        }
    }
}

fn is_breaking(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConfigInvalid | ErrorKind::AuthFailed | ErrorKind::PermissionDenied | ErrorKind::Unsupported)
}
