//! A lane for streams that are fetched in one piece: all rows, one checkpoint. For connectors too small to stop in the middle.

use std::{pin::Pin, sync::Arc};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Lane, Output, Position, Result, Scope, Selected, Stop, Stream};

use crate::positions;

/// Made one by one as they are taken, so that a stream lies in memory once.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;
type Fetch = Box<dyn FnOnce(Arc<Stream>) -> Pin<Box<dyn Future<Output = Result<Batches>> + Send>> + Send + Sync>;

struct Whole {
    stream: Arc<Stream>,
    /// A full read that has a position is complete.
    done: bool,
    fetch: Fetch,
}

/// The lane of a full read. `fetch` gets the stream as it was selected and answers with its rows in that schema.
pub(crate) fn lane<F>(
    selected: Selected,
    from: &Position,
    fetch: impl FnOnce(Arc<Stream>) -> F + Send + Sync + 'static,
) -> Result<Box<dyn Lane>>
where
    F: Future<Output = Result<Batches>> + Send + 'static,
{
    let done = from.get(&Scope::Stream(selected.stream.name.clone())).map(positions::load::<bool>).transpose()?.is_some();
    Ok(Box::new(Whole { stream: Arc::new(selected.stream), done, fetch: Box::new(move |stream| Box::pin(fetch(stream))) }))
}

#[async_trait]
impl Lane for Whole {
    fn covers(&self) -> Covers {
        let stream = self.stream.name.clone();
        Covers { streams: vec![stream.clone()], scope: Scope::Stream(stream), after: vec![] }
    }
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        if self.done {
            return Ok(Ended::Complete);
        }
        if stop.requested() {
            return Ok(Ended::Stopped);
        }
        let name = self.stream.name.clone();
        for rows in (self.fetch)(self.stream).await.map_err(|e| e.with("stream", &name))? {
            out.rows(&name, rows.map_err(|e| e.with("stream", &name))?).await?;
        }
        out.checkpoint(&Scope::Stream(name), positions::save(&true)?).await?;
        Ok(Ended::Complete)
    }
}
