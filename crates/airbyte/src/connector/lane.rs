//! One stream's flow: its partitions side by side, a checkpoint behind each.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use linkspan_core::{Changes, Covers, Ended, JsonRows, Lane, Output, Result, Rows, Scope, State, Stop, StreamName};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::shape::Shape;
use crate::{cursor::Observed, hand, record::Record, slice::Slice, stream::Stream};

/// The version of the states that lanes write.
pub(super) const VERSION: u16 = 1;

pub(super) struct GuestLane {
    pub(super) stream: Arc<Stream>,
    pub(super) name: StreamName,
    pub(super) shape: Shape,
    pub(super) workers: usize,
    /// Held while a stream is read that must not be read beside others.
    pub(super) group: Option<Arc<Mutex<()>>>,
}

/// What the partitions of a stream say.
enum Said {
    Rows(Vec<Record>),
    Closed(Arc<Slice>, Observed),
}

impl GuestLane {
    fn scope(&self) -> Scope {
        Scope::Stream(self.name.clone())
    }

    /// All partitions, `workers` at a time, pulled as they are read.
    fn said(&self) -> BoxStream<'static, Result<Said>> {
        let stream = self.stream.clone();
        let partitions = self.stream.slices().map_ok(move |slice| partition(stream.clone(), slice));
        partitions.try_flatten_unordered(self.workers.clamp(1, 64)).boxed()
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
        out.checkpoint(&self.scope(), State::new(VERSION, json!({ "stream": state }))).await
    }
}

fn partition(stream: Arc<Stream>, slice: Arc<Slice>) -> BoxStream<'static, Result<Said>> {
    hand::stream(move |mut hand| async move {
        let mut observed = Observed::default();
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
            hand.out(Said::Rows(page)).await;
        }
        hand.out(Said::Closed(slice, observed)).await;
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
        let mut said = self.said();
        loop {
            let next = tokio::select! {
                biased;
                () = stop.wait() => return Ok(Ended::Stopped),
                next = said.next() => next,
            };
            match next.transpose().map_err(|e| e.with("stream", &self.name))? {
                None => break,
                Some(Said::Rows(records)) => self.rows(&records, out).await?,
                Some(Said::Closed(slice, observed)) => {
                    if let Some(state) = self.stream.cursor.close(&slice, observed)? {
                        self.checkpoint(&state, out).await?;
                    }
                }
            }
        }
        let state = self.stream.finish();
        self.checkpoint(&state, out).await?;
        Ok(Ended::Complete)
    }
}
