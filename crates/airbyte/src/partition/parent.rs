//! Partitions out of other streams' records.

use std::sync::Arc;

use futures::StreamExt;
use linkspan_core::Result;
use serde_json::{Map, Value, json};

use super::{ParentStream, Router, Slices};
use crate::{
    cursor::Observed,
    hand::{self, Hand},
    inject::{Inject, RequestOption},
    path,
    record::Record,
    slice::Slice,
    wiring::Build,
};

/// The parents, read one after another.
pub struct Parents(pub(super) Vec<Parent>);

/// A stream whose records make partitions, and what of a record makes one.
pub struct Parent {
    pub(super) stream: Arc<dyn ParentStream>,
    pub(super) key: Vec<String>,
    pub(super) field: String,
    pub(super) extra: Vec<Vec<String>>,
    pub(super) option: Option<RequestOption>,
    /// Its position is kept in the child's state.
    pub(super) is_incremental: bool,
    /// Where the child's own records lie in the parent's.
    pub(super) lazy: Vec<String>,
}

impl Parents {
    pub(super) fn state(&self) -> Value {
        let incremental = self.0.iter().filter(|p| p.is_incremental);
        incremental.map(|p| (p.stream.name().to_owned(), Value::Object(p.stream.cursor().state()))).collect::<Map<_, _>>().into()
    }

    pub(super) fn options(&self, into: Inject, slice: &Slice, build: &Build) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        for parent in &self.0 {
            options.extend(super::list::inject(parent.option.as_ref(), &parent.field, into, slice, build)?);
        }
        Ok(options)
    }

    pub(super) fn ancestors(&self) -> Vec<String> {
        self.0.iter().flat_map(|p| std::iter::once(p.stream.name().to_owned()).chain(p.stream.ancestors())).collect()
    }
}

pub(super) fn slices(router: Arc<Router>) -> Slices {
    hand::stream(move |mut hand| async move {
        let Router::Parents(Parents(parents)) = &*router else { return Ok(()) };
        for parent in parents {
            let mut partitions = parent.stream.clone().slices();
            let mut next = partitions.next().await.transpose()?;
            while let Some(slice) = next.take() {
                // Whether a partition is the last one is known before it is read.
                next = partitions.next().await.transpose()?;
                parent.read(slice, next.is_none(), &mut hand).await?;
            }
        }
        Ok(())
    })
}

impl Parent {
    /// A record's position is noted, and its partition closed if it is the last one, before it becomes a partition of the child:
    /// the child keeps the parents' state beside it.
    async fn read(&self, slice: Arc<Slice>, is_last: bool, hand: &mut Hand<Arc<Slice>>) -> Result<()> {
        let mut pages = self.stream.clone().pages(slice.clone());
        let mut observed = Observed::default();
        let mut held: Option<Record> = None;
        while let Some(page) = pages.next().await {
            for record in page? {
                let Some(before) = held.replace(record) else { continue };
                if let Some(partition) = self.partition(&before, &slice, &mut observed)? {
                    hand.out(partition).await;
                }
            }
        }
        let partition = match &held {
            Some(last) => self.partition(last, &slice, &mut observed)?,
            None => None,
        };
        let cursor = self.stream.cursor();
        cursor.close(&slice, observed)?;
        if is_last {
            cursor.finish(|| self.stream.parents());
        }
        if let Some(partition) = partition {
            hand.out(partition).await;
        }
        Ok(())
    }

    /// `None` for a record without the key.
    fn partition(&self, record: &Record, slice: &Slice, observed: &mut Observed) -> Result<Option<Arc<Slice>>> {
        let cursor = self.stream.cursor();
        if let Some(field) = cursor.field() {
            cursor.observe(observed, record.field(field).as_deref())?;
            cursor.settle(observed);
        }
        let value = record.value();
        let Some(key) = path::get(&value, &self.key)?.filter(|key| !key.is_null()) else { return Ok(None) };
        let partition = [(self.field.clone(), key.clone()), ("parent_slice".to_owned(), slice.partition().clone().into())];
        let mut extra = Map::new();
        if !self.lazy.is_empty() {
            extra.insert("child_response".into(), path::get(&value, &self.lazy)?.cloned().unwrap_or_else(|| json!([])));
        }
        for way in &self.extra {
            extra.insert(way.join("."), path::get(&value, way)?.cloned().unwrap_or_default());
        }
        Slice::new(partition.into_iter().collect(), Map::new(), extra).map(|slice| Some(Arc::new(slice)))
    }
}
