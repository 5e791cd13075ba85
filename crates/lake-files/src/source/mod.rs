//! Parquet as a source: each folder of files is a stream, and so is each loose file.

mod cursor;
mod full;
mod incremental;
mod reader;

use std::{collections::BTreeMap, sync::Arc};

use arrow_schema::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use linkspan_core::{Cursor, Error, ErrorKind, Lane, Position, ReadMode, Result, Scope, Selected, Source, Stream, StreamName};

use crate::{
    place, schema,
    storage::{Depth, Item, Storage},
};

pub(crate) use reader::{DataFile, align, footer_schema};

/// Footers of a table that discovery reads, at most; half of them the oldest, half the newest.
const SAMPLED: usize = 200;
/// Footers read at once.
const AT_ONCE: usize = 8;
/// A full read gets a lane more for each this many bytes, up to `LANES`.
const LANE_BYTES: u64 = 64 << 20;
const LANES: u64 = 4;
/// Names that usually tell when a row last changed, best first.
const USUAL_CURSORS: &[&str] = &["updated_at", "modified_at", "last_modified", "_updated_at"];

pub(crate) struct ParquetSource {
    storage: Arc<Storage>,
}

impl ParquetSource {
    pub fn new(storage: Arc<Storage>) -> Self {
        Self { storage }
    }

    /// The files of every stream, by its name.
    async fn tables(&self) -> Result<BTreeMap<StreamName, Vec<Item>>> {
        if let Some((name, item)) = single_file(&self.storage).await? {
            return Ok(BTreeMap::from([(name, vec![item])]));
        }
        let mut tables: BTreeMap<StreamName, Vec<Item>> = BTreeMap::new();
        for item in self.storage.list("", Depth::Tables).await?.into_iter().filter(is_data) {
            tables.entry(stream_of(&item.path)).or_default().push(item);
        }
        if tables.is_empty() {
            self.refuse_missing_root()?;
        }
        Ok(tables)
    }

    fn refuse_missing_root(&self) -> Result<()> {
        match &*self.storage {
            Storage::Local(local) if !local.root().exists() => Err(Error::new(ErrorKind::NotFound, "the folder does not exist")
                .with("path", local.root().display())
                .fix("check the path; it is a folder of Parquet files, or one file")),
            _ => Ok(()),
        }
    }

    async fn describe(&self, name: StreamName, files: &[Item]) -> Result<Stream> {
        let sampled: Vec<&Item> = match files.len() {
            n if n > SAMPLED => files[..SAMPLED / 2].iter().chain(&files[n - SAMPLED / 2..]).collect(),
            _ => files.iter().collect(),
        };
        let seen: u64 = sampled.iter().map(|i| i.size).sum::<u64>().max(1);
        let mut footers = stream::iter(sampled.into_iter().cloned().collect::<Vec<_>>())
            .map(|item| {
                let storage = self.storage.clone();
                async move { DataFile::open(&storage, &item).await }
            })
            .buffered(AT_ONCE);
        let mut sum: Option<SchemaRef> = None;
        let mut rows = 0;
        while let Some(file) = footers.try_next().await? {
            rows += file.rows();
            sum = Some(match sum {
                Some(stands) => schema::sum(&stands, &file.schema()).map_err(|e| e.with("file", file.name()))?,
                None => file.schema(),
            });
        }
        drop(footers);
        let all: u64 = files.iter().map(|i| i.size).sum();
        let schema = sum.ok_or_else(|| Error::new(ErrorKind::NotFound, "the stream has no file").with("stream", &name))?;
        Ok(Stream {
            name,
            key: Vec::new(),
            cursor: cursors(&schema),
            schema,
            estimated_rows: Some((u128::from(rows) * u128::from(all) / u128::from(seen)).try_into().unwrap_or(u64::MAX)),
            estimated_bytes: Some(all),
        })
    }
}

/// The root itself, when it is one file.
async fn single_file(storage: &Storage) -> Result<Option<(StreamName, Item)>> {
    let (item, shown) = match storage {
        Storage::Local(local) if local.root().is_file() => (local.item("")?, local.root().display().to_string()),
        Storage::S3(s3) if s3.describe().ends_with(".parquet") => (s3.head("").await?, s3.describe()),
        _ => return Ok(None),
    };
    let name = shown.rsplit('/').next().unwrap_or(&shown);
    let name = name.strip_suffix(".parquet").unwrap_or(name);
    Ok(item.map(|item| (StreamName::new(None, name), item)))
}

fn is_data(item: &Item) -> bool {
    let name = item.path.rsplit('/').next().unwrap_or(&item.path);
    name.ends_with(".parquet") && !name.starts_with(['_', '.'])
}

fn stream_of(path: &str) -> StreamName {
    match path.split('/').collect::<Vec<_>>()[..] {
        [ns, name, _] => StreamName::new(Some(&place::name_of_folder(ns)), &place::name_of_folder(name)),
        [name, _] => StreamName::new(None, &place::name_of_folder(name)),
        _ => StreamName::new(None, path.strip_suffix(".parquet").unwrap_or(path)),
    }
}

/// The files of one stream, in the order of their names.
pub(super) async fn files_of(storage: &Storage, stream: &StreamName) -> Result<Vec<Item>> {
    if let Some((_, item)) = single_file(storage).await? {
        return Ok(vec![item]);
    }
    let target = linkspan_core::Target::from(stream);
    let mut files: Vec<Item> = storage.list(&place::table_folder(&target), Depth::One).await?.into_iter().filter(is_data).collect();
    if files.is_empty() && stream.namespace.is_none() {
        let loose = format!("{}.parquet", stream.name);
        files = storage.list("", Depth::One).await?.into_iter().filter(|i| i.path == loose).collect();
    }
    if files.is_empty() {
        // Folders that others named need not be spelt as ours are.
        files = storage.list("", Depth::Tables).await?.into_iter().filter(|i| is_data(i) && stream_of(&i.path) == *stream).collect();
    }
    Ok(files)
}

fn cursors(schema: &SchemaRef) -> Cursor {
    let rank = |name: &str, data_type: &DataType| match USUAL_CURSORS.iter().position(|c| *c == name) {
        Some(at) => at,
        None if matches!(data_type, DataType::Timestamp(..)) => USUAL_CURSORS.len(),
        None => USUAL_CURSORS.len() + 1,
    };
    let fields = schema.fields().iter().filter(|f| cursor::is_orderable(f.data_type()));
    let mut ranked: Vec<(usize, String)> = fields.map(|f| (rank(f.name(), f.data_type()), f.name().clone())).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    if ranked.is_empty() { Cursor::None } else { Cursor::Columns(ranked.into_iter().map(|(_, name)| name).collect()) }
}

#[async_trait]
impl Source for ParquetSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for (name, files) in self.tables().await? {
            streams.push(self.describe(name, &files).await?);
        }
        Ok(streams)
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let from = Arc::new(from);
        stream::iter(selected)
            .then(move |selected| {
                let (source, from) = (self.clone(), from.clone());
                async move { source.lanes_of(selected, &from).await }
            })
            .flat_map(|lanes| match lanes {
                Ok(lanes) => stream::iter(lanes.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(e) => stream::iter(vec![Err(e)]),
            })
            .boxed()
    }
}

impl ParquetSource {
    async fn lanes_of(&self, selected: Selected, from: &Position) -> Result<Vec<Box<dyn Lane>>> {
        match selected.read {
            ReadMode::Full => {
                let count = self.lane_count(&selected, from).await?;
                let lane = |i| full::FullLane::new(self.storage.clone(), &selected, i, count, from);
                (0..count).map(|i| lane(i).map(|l| Box::new(l) as Box<dyn Lane>)).collect()
            }
            ReadMode::Incremental => {
                Ok(vec![Box::new(incremental::IncrementalLane::new(self.storage.clone(), selected, from)?) as Box<dyn Lane>])
            }
            ReadMode::Cdc => Err(Error::new(ErrorKind::Unsupported, "files have no change feed")
                .with("stream", &selected.stream.name)
                .fix("use `--mode incremental --cursor COLUMN`, or `--mode full`")),
        }
    }

    /// A read that was begun keeps its number of lanes: the files are dealt out by it.
    async fn lane_count(&self, selected: &Selected, from: &Position) -> Result<u64> {
        let name = &selected.stream.name;
        for scope in from.keys() {
            match scope {
                Scope::Stream(s) if s == name => return Ok(1),
                Scope::Part(s, part) if s == name => {
                    if let Some(count) = part.split_once('/').and_then(|(_, n)| n.parse().ok()).filter(|n| (1..=LANES).contains(n)) {
                        return Ok(count);
                    }
                }
                _ => {}
            }
        }
        let files = files_of(&self.storage, name).await?;
        let bytes: u64 = files.iter().map(|f| f.size).sum();
        Ok((bytes / LANE_BYTES).clamp(1, LANES).min(files.len().max(1) as u64))
    }
}
