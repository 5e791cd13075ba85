//! Partition routers: what a stream is cut into before time is.

mod build;
mod grouping;
mod list;
mod parent;
mod product;
mod union;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{cursor::Cursor, inject::Inject, record::Record, slice::Slice, wiring::Build};

pub use build::{Routing, build};
pub use grouping::Grouping;
pub use list::List;
pub use parent::{Parent, Parents};
pub use union::Union;

/// Slices as they are asked for.
pub type Slices = BoxStream<'static, Result<Arc<Slice>>>;

/// Where a stream's partitions come from.
pub enum Router {
    /// The stream is one partition.
    Single,
    List(List),
    Parents(Parents),
    Product(Vec<Arc<Router>>),
    Grouping(Grouping),
    Union(Union),
}

/// A stream whose records make partitions of another.
#[async_trait]
pub trait ParentStream: Send + Sync {
    fn name(&self) -> &str;
    fn cursor(&self) -> &Cursor;
    fn slices(self: Arc<Self>) -> Slices;
    fn pages(self: Arc<Self>, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>>;
    /// How far its own parents were read.
    fn parents(&self) -> Option<Value>;
    /// The names of its own parents, and of theirs.
    fn ancestors(&self) -> Vec<String>;
}

impl Router {
    /// The partitions, made as they are pulled.
    pub fn slices(self: Arc<Self>) -> Slices {
        match &*self {
            Self::Single => futures::stream::iter([Ok(Arc::new(Slice::empty()))]).boxed(),
            Self::List(list) => list.slices(),
            Self::Product(routers) => product::slices(routers.clone()),
            Self::Parents(_) => parent::slices(self),
            Self::Grouping(_) => grouping::slices(self),
            Self::Union(_) => union::slices(self),
        }
    }

    /// How far the parents that are read incrementally have been read.
    pub fn parents(&self) -> Option<Value> {
        match self {
            Self::Single | Self::List(_) | Self::Product(_) => None,
            Self::Parents(parents) => Some(parents.state()),
            Self::Grouping(grouping) => grouping.state(),
            Self::Union(union) => Some(union.state()),
        }
    }

    /// What a slice adds to a request.
    pub fn options(&self, into: Inject, slice: &Slice, build: &Build) -> Result<Map<String, Value>> {
        match self {
            Self::Single | Self::Grouping(_) | Self::Union(_) => Ok(Map::new()),
            Self::List(list) => list.options(into, slice, build),
            Self::Parents(parents) => parents.options(into, slice, build),
            Self::Product(routers) => {
                let mut merged = Map::new();
                for router in routers {
                    for (key, value) in router.options(into, slice, build)? {
                        // The first router to set a key wins.
                        merged.entry(key).or_insert(value);
                    }
                }
                Ok(merged)
            }
        }
    }

    pub fn is_single(&self) -> bool {
        matches!(self, Self::Single)
    }
    pub fn is_grouping(&self) -> bool {
        matches!(self, Self::Grouping(_))
    }

    /// The names of all streams that must be read for the partitions.
    pub fn ancestors(&self) -> Vec<String> {
        match self {
            Self::Single | Self::List(_) => vec![],
            Self::Product(routers) => routers.iter().flat_map(|r| r.ancestors()).collect(),
            Self::Grouping(grouping) => grouping.underlying.ancestors(),
            Self::Union(union) => union.routers.iter().flat_map(|r| r.ancestors()).collect(),
            Self::Parents(parents) => parents.ancestors(),
        }
    }

    /// Whether a request option hangs on it, which groups and unions cannot honour.
    fn has_options(&self) -> bool {
        match self {
            Self::List(list) => list.option.is_some(),
            Self::Parents(parents) => parents.0.iter().any(|p| p.option.is_some()),
            _ => false,
        }
    }
}
