//! The pipe: lanes are read and written side by side, commits become durable in order, replaces are published when complete.

mod books;
mod cadence;
mod finish;
mod lanes;
mod schedule;
mod session;
mod streams;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use linkspan_core::{Atomic, Error, ErrorKind, ReadMode, Result, Scope, Stop, StreamName, Target, WriteMode};

use crate::{
    reconcile::{Start, reconcile},
    run::{Assignment, Outcome, Run},
};
use books::Pipe;

impl Run {
    /// Runs to the end, a stop or a failure. Every stream has an outcome; `Err` only when nothing could start
    /// (the two memories disagree, the fence is stale, the destination refuses the plan).
    pub async fn run(self, stop: Stop) -> Result<Outcome> {
        let pipe = tokio::select! {
            biased;
            prepared = guarded(prepare(self)) => prepared?,
            // Nothing has begun that could not be begun again.
            () = stop.wait() => return Err(Error::new(ErrorKind::Canceled, "stopped before anything was moved").fix("run it again")),
        };
        Ok(schedule::Schedule::new(pipe, stop).run().await)
    }
}

/// Brings the two memories together and settles which generation of each stream this run reads.
async fn prepare(run: Run) -> Result<Arc<Pipe>> {
    modes_are_supported(&run)?;
    let remembered = run.memory.load().await?;
    let recalled = run.destination.recall(run.connection).await?;
    if let Some(recall) = recalled.as_ref().filter(|r| r.fence > run.fence) {
        return Err(Error::new(ErrorKind::Conflict, "a later run of this connection has taken over the destination")
            .with("fence", run.fence)
            .with("installed", recall.fence)
            .fix("let that run finish, then run this one again"));
    }
    let start = reconcile(run.destination.capability().atomic, &remembered, recalled.as_ref(), run.settings.accept)?;
    for note in &start.notes {
        run.observer.note(None, note);
    }
    if !start.adopt.is_empty() {
        run.memory.adopt(&start.adopt.scopes, &start.adopt.generations).await?;
    }
    let mut due: BTreeSet<StreamName> =
        run.streams.iter().filter(|a| needs_generation(&start, a)).map(|a| a.selected.stream.name.clone()).collect();
    for (assignment, before) in moved_targets(&run, &remembered.targets) {
        let stream = &assignment.selected.stream.name;
        let text = format!("it was written to {before} and goes to {} now: it is read from its start", assignment.target);
        run.observer.note(Some(stream), &text);
        due.insert(stream.clone());
    }
    let generations: BTreeMap<StreamName, u64> = start.generations.iter().map(|(s, g)| (s.clone(), g.number)).collect();
    let pipe = Arc::new(Pipe::new(run, start.scopes, generations));
    for stream in without_table(&pipe, &due).await? {
        pipe.run.observer.note(Some(&stream), "the table that this stream was written to is gone: it is read from its start");
        due.insert(stream);
    }
    // Side by side, so that the store can put many of them into one commit.
    let draw = |(pipe, stream): (Arc<Pipe>, StreamName)| async move { pipe.draw(&stream).await };
    let draws: Vec<_> = due.iter().map(|stream| draw((pipe.clone(), stream.clone()))).collect();
    stream::iter(draws).buffer_unordered(64).try_collect::<Vec<u64>>().await?;
    aim(&pipe, &remembered.targets, &due).await?;
    Ok(pipe)
}

/// Streams whose rows went elsewhere so far: what is new of them would be all that ever came to the new target.
fn moved_targets<'a>(run: &'a Run, known: &'a BTreeMap<StreamName, Target>) -> impl Iterator<Item = (&'a Assignment, &'a Target)> {
    run.streams.iter().filter_map(|a| Some((a, known.get(&a.selected.stream.name).filter(|before| **before != a.target)?)))
}

/// Remembers where the rows go, before the first of them does.
async fn aim(pipe: &Pipe, known: &BTreeMap<StreamName, Target>, drawn: &BTreeSet<StreamName>) -> Result<()> {
    let is_news = |(stream, a): &(&StreamName, &Assignment)| drawn.contains(*stream) || known.get(*stream) != Some(&a.target);
    let targets: BTreeMap<_, _> = pipe.assignments.iter().filter(is_news).map(|(s, a)| (s.clone(), a.target.clone())).collect();
    if targets.is_empty() { Ok(()) } else { pipe.run.memory.aim(&targets).await }
}

/// Streams that go on where they stood, in a table that somebody took away with all its rows. Only new rows would come into the next
/// one. A replace brings its own table; a destination without records may have nothing to show for its tables either.
async fn without_table(pipe: &Arc<Pipe>, due: &BTreeSet<StreamName>) -> Result<Vec<StreamName>> {
    if pipe.capability.atomic == Atomic::None {
        return Ok(Vec::new());
    }
    let goes_on = |(s, a): &(&StreamName, &Assignment)| a.write != WriteMode::Replace && !due.contains(*s) && pipe.has_commits(s);
    let ask = |(pipe, stream, target): (Arc<Pipe>, StreamName, Target)| async move {
        Ok(pipe.shape(&stream, &target).await?.is_none().then_some(stream))
    };
    let asked: Vec<_> = pipe.assignments.iter().filter(goes_on).map(|(s, a)| ask((pipe.clone(), s.clone(), a.target.clone()))).collect();
    let found: Vec<Option<StreamName>> = stream::iter(asked).buffer_unordered(8).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// A full read that ended starts anew; one that was interrupted goes on; changes are read in the generation of their first read.
fn needs_generation(start: &Start, assignment: &Assignment) -> bool {
    match start.generations.get(&assignment.selected.stream.name) {
        Some(_) if start.restart || (start.adopted && assignment.write == WriteMode::Replace) => true,
        Some(generation) => generation.complete && assignment.selected.read == ReadMode::Full,
        None => true,
    }
}

fn modes_are_supported(run: &Run) -> Result<()> {
    let capability = run.destination.capability();
    match run.streams.iter().find(|a| !capability.modes.contains(&a.write)) {
        None => Ok(()),
        Some(assignment) => Err(Error::new(ErrorKind::Unsupported, "this destination cannot write in the mode that was asked for")
            .with("stream", &assignment.selected.stream.name)
            .with("mode", format!("{:?}", assignment.write).to_lowercase())
            .fix("choose another --write")),
    }
}

/// A connector's panic is its own failure and not the process's.
async fn guarded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(panicked("a connector")))
}

fn panicked(who: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("{who} panicked")).fix("report it with the log of this run; the other streams went on")
}

/// Whether a scope is the one that lanes of several streams share.
fn is_shared(scope: &Scope) -> bool {
    matches!(scope, Scope::Shared)
}
