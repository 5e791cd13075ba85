//! A declarative stream: its partitions, how one is read, and its position.

mod build;
mod migrate;
mod order;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::{
    cursor::{Again, Cursor, Opened},
    hand::{self, Hand},
    partition::{ParentStream, Router, Slices},
    record::Record,
    retrieve::Retriever,
    schema::Loader,
    slice::Slice,
};

pub use build::{Env, build};
pub use order::of_router;

/// One stream of a source, ready to be read.
pub struct Stream {
    pub name: String,
    pub router: Arc<Router>,
    pub cursor: Arc<Cursor>,
    retriever: Arc<dyn Retriever>,
    schema: Arc<Loader>,
    /// Top-level fields.
    pub key: Vec<String>,
    /// The catalog may choose the cursor field.
    is_cursor_choosable: bool,
    is_file_based: bool,
    /// Streams of a group are not read at the same time.
    pub group: Option<String>,
    /// The state that came with the run was too old for the API: it is told first that it is forgotten.
    pub forgot: bool,
}

impl Stream {
    pub async fn schema(&self) -> Result<Arc<Value>> {
        self.schema.schema().await
    }

    /// As the catalog describes it.
    pub async fn describe(&self) -> Result<Value> {
        let mut stream = json!({"name": self.name, "json_schema": *self.schema().await?, "supported_sync_modes": ["full_refresh"]});
        if let Some(field) = self.cursor.field() {
            stream["supported_sync_modes"] = json!(["full_refresh", "incremental"]);
            stream["source_defined_cursor"] = json!(!self.is_cursor_choosable);
            stream["default_cursor_field"] = json!([field]);
        }
        if !self.key.is_empty() {
            stream["source_defined_primary_key"] = self.key.iter().map(|key| json!([key])).collect();
        }
        stream["is_resumable"] = json!(self.cursor.field().is_some());
        stream["is_file_based"] = json!(self.is_file_based);
        Ok(stream)
    }

    /// The slices that are left to read, made as they are pulled. A partition is read once.
    pub fn slices(&self) -> Slices {
        self.slices_of(Again::No)
    }

    fn slices_of(&self, again: Again) -> Slices {
        let slices = match &*self.cursor {
            Cursor::Whole => self.router.clone().slices(),
            Cursor::Counting(counting) => {
                let slice = Slice::new(Map::new(), counting.keys(), Map::new()).map(Arc::new);
                futures::stream::iter([slice]).boxed()
            }
            Cursor::Ranged(_) => windows(self.cursor.clone()),
            Cursor::Partitioned(_) => partitions(self.cursor.clone(), self.router.clone(), again),
        };
        self.retriever.clone().partitions(slices)
    }

    /// The records of a slice, page by page.
    pub fn pages(&self, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>> {
        self.retriever.clone().pages(slice)
    }

    /// The end of a run: what its last state says is settled.
    pub fn finish(&self) {
        self.cursor.finish(|| self.router.parents());
    }
}

#[async_trait]
impl ParentStream for Stream {
    fn name(&self) -> &str {
        &self.name
    }
    fn cursor(&self) -> &Cursor {
        &self.cursor
    }
    fn slices(self: Arc<Self>) -> Slices {
        self.slices_of(Again::Yes)
    }
    fn pages(self: Arc<Self>, slice: Arc<Slice>) -> BoxStream<'static, Result<Vec<Record>>> {
        Stream::pages(&self, slice)
    }
    fn parents(&self) -> Option<Value> {
        self.router.parents()
    }
    fn ancestors(&self) -> Vec<String> {
        self.router.ancestors()
    }
}

fn windows(cursor: Arc<Cursor>) -> Slices {
    hand::stream(move |mut hand| async move {
        let Cursor::Ranged(ranged) = &*cursor else { return Ok(()) };
        for (at, window) in ranged.windows()?.enumerate() {
            few_enough(at)?;
            let slice = Slice::new(Map::new(), ranged.definition.keys(window), Map::new())?;
            hand.out(Arc::new(slice)).await;
        }
        Ok(())
    })
}

/// More windows than anybody asks an API for: a step that is far too short.
const MOST_WINDOWS: usize = 1_000_000;

fn few_enough(at: usize) -> Result<()> {
    if at < MOST_WINDOWS {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "the stream is cut into too many windows")
        .with("limit", MOST_WINDOWS)
        .fix("choose a longer step, or a later start date"))
}

/// Every partition's windows. A partition is handed out once the next one is known, with the parents' state as it was when it came.
fn partitions(cursor: Arc<Cursor>, router: Arc<Router>, again: Again) -> Slices {
    hand::stream(move |mut hand| async move {
        let Cursor::Partitioned(parts) = &*cursor else { return Ok(()) };
        parts.start();
        let mut all = router.clone().slices();
        let mut held: Option<(Arc<Slice>, Option<Value>)> = None;
        while let Some(partition) = all.next().await {
            let next = (partition?, router.parents());
            if let Some((partition, parents)) = held.replace(next) {
                cut(&cursor, &partition, parents, again, &mut hand).await?;
            }
        }
        if let Some((partition, parents)) = held {
            cut(&cursor, &partition, parents, again, &mut hand).await?;
        }
        Ok(())
    })
}

async fn cut(cursor: &Cursor, partition: &Slice, parents: Option<Value>, again: Again, hand: &mut Hand<Arc<Slice>>) -> Result<()> {
    let Cursor::Partitioned(parts) = cursor else { return Ok(()) };
    let Some(Opened { key, windows }) = parts.open(partition, parents, again)? else { return Ok(()) };
    let mut windows = windows.enumerate().peekable();
    while let Some((at, window)) = windows.next() {
        few_enough(at)?;
        let slice = Slice::new(partition.partition().clone(), parts.definition.keys(window), partition.extra().clone())?;
        parts.hand_out(&key, windows.peek().is_none());
        hand.out(Arc::new(slice)).await;
    }
    Ok(())
}
