//! One stream's flow: its partitions side by side, a checkpoint behind each.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use linkspan_core::{Changes, Covers, Ended, Error, ErrorKind, JsonRows, Lane, Output, Result, Rows, Scope, State, Stop, StreamName};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::{
    edge::{self, Edge, Newest},
    shape::Shape,
};
use crate::{cursor::Observed, hand, record::Record, slice::Slice, stream::Stream};

/// The version of the states that lanes write.
pub(super) const VERSION: u16 = 1;

/// The language knows three kinds of failure; what is worth another try, or is about access, says so by its cause.
pub(super) fn plainly(error: Error) -> Error {
    if error.kind() != ErrorKind::DataInvalid {
        return error;
    }
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>());
    let Some(cause) = cause.filter(|cause| cause.kind() != ErrorKind::DataInvalid) else { return error };
    let mut plain = Error::new(cause.kind(), cause.message().to_owned()).retry(cause.retry_hint());
    for (key, value) in cause.context().iter().chain(error.context()) {
        plain = plain.with(key, value);
    }
    match cause.suggested_fix().or(error.suggested_fix()) {
        Some(fix) => plain.fix(fix.to_owned()),
        None => plain,
    }
}

pub(super) struct GuestLane {
    pub(super) stream: Arc<Stream>,
    pub(super) name: StreamName,
    pub(super) shape: Shape,
    /// Partitions read at once; one, where a row must not come twice: a state covers whole partitions only.
    pub(super) workers: usize,
    /// What the last run saw last; none for a full read.
    pub(super) edge: Option<Edge>,
    /// Held while a stream is read that must not be read beside others.
    pub(super) group: Option<Arc<Mutex<()>>>,
}

/// What the partitions of a stream say.
#[allow(clippy::large_enum_variant, reason = "one of the large ones is made for each partition")]
enum Said {
    Rows(Vec<Record>),
    Closed(Arc<Slice>, Box<(Observed, Newest)>),
}

impl GuestLane {
    fn scope(&self) -> Scope {
        Scope::Stream(self.name.clone())
    }

    /// All partitions, `workers` at a time, pulled as they are read. A stop lets those under way end.
    fn said(&self, stop: &Stop) -> BoxStream<'static, Result<Said>> {
        let (stream, edge, stop) = (self.stream.clone(), Arc::new(self.edge.clone()), stop.clone());
        let asked = async move { stop.wait().await };
        let partitions =
            self.stream.slices().take_until(Box::pin(asked)).map_ok(move |slice| partition(stream.clone(), edge.clone(), slice));
        match self.workers {
            0 | 1 => partitions.try_flatten().boxed(),
            many => partitions.try_flatten_unordered(many.min(64)).boxed(),
        }
    }

    async fn rows(&mut self, records: &[Record], out: &mut Output) -> Result<()> {
        let mut text = Vec::with_capacity(records.len() * 256);
        let mut ranges = Vec::with_capacity(records.len());
        for record in records {
            let value = record.value();
            if self.shape.learn(&value) {
                send(&self.name, std::mem::take(&mut text), std::mem::take(&mut ranges), out).await?;
                out.schema(&self.name, self.shape.schema()).await?;
            }
            let start = text.len() as u32;
            self.shape.write(&value, &mut text);
            ranges.push((start, text.len() as u32));
        }
        send(&self.name, text, ranges, out).await
    }

    async fn checkpoint(&self, state: &Map<String, Value>, out: &mut Output) -> Result<()> {
        let mut value = json!({ "stream": state });
        if let Some(edge) = &self.edge {
            value["edge"] = edge.write(&self.stream.cursor);
        }
        out.checkpoint(&self.scope(), State::new(VERSION, value)).await
    }
}

fn partition(stream: Arc<Stream>, edge: Arc<Option<Edge>>, slice: Arc<Slice>) -> BoxStream<'static, Result<Said>> {
    hand::stream(move |mut hand| async move {
        let mut observed = Observed::default();
        let mut newest = Newest::default();
        let key = edge::key(&slice);
        let mut pages = stream.pages(slice.clone());
        while let Some(page) = pages.next().await {
            let page = page?;
            if page.is_empty() {
                continue;
            }
            if let Some(field) = stream.cursor.field() {
                for record in &page {
                    stream.cursor.observe(&mut observed, record.field(field).as_deref())?;
                }
                stream.cursor.settle(&mut observed);
            }
            let page = match &*edge {
                Some(edge) => edge.fresh(&key, page, &stream.cursor, &mut newest),
                None => page,
            };
            hand.out(Said::Rows(page)).await;
        }
        hand.out(Said::Closed(slice, Box::new((observed, newest)))).await;
        Ok(())
    })
}

async fn send(name: &StreamName, text: Vec<u8>, ranges: Vec<(u32, u32)>, out: &mut Output) -> Result<()> {
    let rows = JsonRows::new(Bytes::from(text), ranges);
    out.batch(name, Rows::Json(rows), Changes::default()).await
}

#[async_trait]
impl Lane for GuestLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.name.clone()], scope: self.scope(), after: vec![] }
    }

    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let group = self.group.clone();
        let _alone = match &group {
            Some(group) => Some(group.lock().await),
            None => None,
        };
        let mut said = self.said(stop);
        while let Some(next) = said.next().await {
            match next.map_err(|e| plainly(e).with("stream", &self.name))? {
                Said::Rows(records) => self.rows(&records, out).await?,
                Said::Closed(slice, told) => {
                    let (observed, newest) = *told;
                    if let Some(edge) = &mut self.edge {
                        edge.close(&edge::key(&slice), newest);
                    }
                    if let Some(state) = self.stream.cursor.close(&slice, observed)? {
                        self.checkpoint(&state, out).await?;
                    }
                }
            }
        }
        if stop.requested() {
            // A full read that was stopped has no place to go on from.
            if self.edge.is_some() {
                self.checkpoint(&self.stream.cursor.state(), out).await?;
            }
            return Ok(Ended::Stopped);
        }
        let state = self.stream.finish();
        self.checkpoint(&state, out).await?;
        Ok(Ended::Complete)
    }
}
