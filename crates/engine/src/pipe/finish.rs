//! The end of a stream whose lanes are all complete: its table stands even when it had no rows, a replace is published, and the
//! generation is complete.

use std::{collections::BTreeSet, sync::Arc};

use linkspan_core::{Covers, Publish, Result, Scope, Stop, StreamName, WriteMode};

use super::{books::Pipe, session::LaneSession};

/// How it went; a gate may still stop a stream that had no rows.
pub(super) enum Finished {
    Done,
    Parked(linkspan_core::Error),
}

pub(super) async fn finish(pipe: Arc<Pipe>, stream: StreamName, stop: Stop) -> Result<Finished> {
    let Some(assignment) = pipe.assignments.get(&stream) else { return Ok(Finished::Done) };
    if lacks_table(&pipe, &stream).await? {
        let covers = Covers { streams: vec![stream.clone()], scope: Scope::Stream(stream.clone()), after: Vec::new() };
        let mut end = LaneSession::new(pipe.clone(), &covers, BTreeSet::new(), stop).make_table().await;
        end.result?;
        if let Some(e) = end.parked.remove(&stream) {
            return Ok(Finished::Parked(e));
        }
    }
    if assignment.write == WriteMode::Replace
        && let Some(load) = pipe.load_stream(&stream)
    {
        let failpoints = &pipe.run.context.failpoints;
        failpoints.hit("pipe.publish.before").await?;
        let publish = Publish { connection: pipe.run.connection, fence: pipe.run.fence, stream: load };
        pipe.run.destination.publish(&publish).await?;
        tracing::debug!(%stream, generation = publish.stream.generation, "published");
        failpoints.hit("pipe.publish.after").await?;
    }
    pipe.run.memory.complete(&stream, pipe.generation(&stream)).await?;
    Ok(Finished::Done)
}

/// A generation that committed nothing may have no table; one that did commit, in this run or before, has one.
async fn lacks_table(pipe: &Pipe, stream: &StreamName) -> Result<bool> {
    let Some(assignment) = pipe.assignments.get(stream) else { return Ok(false) };
    if pipe.has_table(stream) {
        return Ok(false);
    }
    if assignment.write == WriteMode::Replace {
        return Ok(true);
    }
    Ok(pipe.run.destination.shape(&assignment.target).await?.is_none())
}
