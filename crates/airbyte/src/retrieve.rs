//! Retrievers: the records of a slice, page by page.

mod deferred;
mod files;
mod jobs;
mod misuse;
mod properties;
mod reading;
mod reduce;
mod select;
mod simple;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{component::Component, inject::Inject, record::Record, slice::Slice, wiring::Build};

/// Reads slices. Nothing is asked for before a page is pulled.
pub trait Retriever: Send + Sync {
    /// The slice's pages in order; records are filtered, transformed and ready to write. A page may be empty.
    fn pages(self: Arc<Self>, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>>;

    /// The slices as they are to be read: jobs that run at the other side turn them into finished jobs here.
    fn partitions(self: Arc<Self>, slices: BoxStream<'static, Result<Arc<Slice>>>) -> BoxStream<'static, Result<Arc<Slice>>> {
        slices
    }
}

/// The stream's cursor and routers, as its retriever sees them.
pub trait Order: Send + Sync {
    /// What routers and windows add to a part of a request.
    fn options(&self, into: Inject, slice: &Slice) -> Result<Map<String, Value>>;

    /// Whether a record is still to be read: a client-side cursor drops the others, a data feed ends at one.
    fn is_due(&self, record: &Record, slice: &Slice) -> Result<bool>;

    /// Smaller slices in place of one that the API refuses; `None` when it cannot be split further.
    fn split(&self, slice: &Slice, at_least: Option<jiff::SignedDuration>) -> Result<Option<Vec<Slice>>>;

    /// Follows the records of one slice, for streams that begin paging anew on the way.
    fn tracker(&self) -> Option<Box<dyn Tracker>>;
}

/// What was read of a slice so far.
pub trait Tracker: Send {
    fn observe(&mut self, record: &Record, slice: &Slice);
    /// The slice without what was read.
    fn reduced(&self, slice: &Slice) -> Slice;
}

/// A stream without cursor and routers.
pub struct Unordered;

impl Order for Unordered {
    fn options(&self, _: Inject, _: &Slice) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
    fn is_due(&self, _: &Record, _: &Slice) -> Result<bool> {
        Ok(true)
    }
    fn split(&self, _: &Slice, _: Option<jiff::SignedDuration>) -> Result<Option<Vec<Slice>>> {
        Ok(None)
    }
    fn tracker(&self) -> Option<Box<dyn Tracker>> {
        None
    }
}

/// What the stream's records look like, once it is known.
#[async_trait]
pub trait Schema: Send + Sync {
    async fn schema(&self) -> Result<Arc<Value>>;

    /// Whether records may be anything but objects: what is read for the program's own use may.
    fn takes_anything(&self) -> bool {
        false
    }
}

/// Records of any form.
pub struct NoSchema;

#[async_trait]
impl Schema for NoSchema {
    async fn schema(&self) -> Result<Arc<Value>> {
        Ok(Arc::new(Value::Object(Map::new())))
    }
    fn takes_anything(&self) -> bool {
        true
    }
}

/// The stream that a retriever reads for.
pub struct Stream<'a> {
    pub name: &'a str,
    /// The whole stream: its transformations are read from here.
    pub component: &'a Component<'a>,
    pub order: Arc<dyn Order>,
    pub schema: Arc<dyn Schema>,
    pub is_client_side_incremental: bool,
    pub is_data_feed: bool,
    /// Whether the sync continues from a state.
    pub has_state: bool,
}

pub use files::staging;

pub fn build(retriever: &Component<'_>, stream: Stream<'_>, build: &Build) -> Result<Arc<dyn Retriever>> {
    match retriever.kind() {
        "SimpleRetriever" => Ok(Arc::new(simple::Simple::build(retriever, stream, build)?)),
        "AsyncRetriever" => Ok(Arc::new(deferred::Deferred::build(retriever, stream, build)?)),
        _ => Err(retriever.unknown_kind()),
    }
}
