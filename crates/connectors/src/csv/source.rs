//! Text files as a source: discovery by sample, one lane per stream, full reads and reads of what is new.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Cursor, Error, ErrorKind, Lane, Position, ReadMode, Result, Scope, Selected, Source, Stream};

use crate::blocking::blocking;

use super::{
    column::schema_of,
    config::CsvConfig,
    lane::{FileLane, Progress},
    table::{Table, infer, tables},
};

pub(super) struct CsvSource {
    config: Arc<CsvConfig>,
}

impl CsvSource {
    pub fn new(config: CsvConfig) -> Self {
        let mut config = config;
        if config.all_text {
            config.sample_rows = config.sample_rows.min(1);
        }
        Self { config: Arc::new(config) }
    }
}

fn stream(table: &Table, config: &CsvConfig) -> Result<Stream> {
    let (columns, row) = infer(table, config)?;
    let schema: SchemaRef = schema_of(&columns);
    let bytes: u64 = table.files.iter().map(|f| std::fs::metadata(f).map_or(0, |m| m.len())).sum();
    let packed =
        table.sheet.is_some() || table.files.iter().any(|f| matches!(f.extension().and_then(|e| e.to_str()), Some("gz" | "zst" | "zstd")));
    let estimated_rows = (row > 0.0 && !packed).then_some((bytes as f64 / row) as u64);
    Ok(Stream {
        name: table.name.clone(),
        schema,
        key: vec![],
        cursor: Cursor::SourceDefined,
        estimated_rows,
        estimated_bytes: Some(bytes),
    })
}

#[async_trait]
impl Source for CsvSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let config = self.config.clone();
        blocking(move || tables(&config)?.iter().map(|t| stream(t, &config)).collect()).await
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        futures::stream::iter(selected)
            .then(move |s| {
                let (config, from) = (self.config.clone(), from.clone());
                blocking(move || lane(&s, &from, &config))
            })
            .boxed()
    }
}

fn lane(selected: &Selected, from: &Position, config: &Arc<CsvConfig>) -> Result<Box<dyn Lane>> {
    let name = &selected.stream.name;
    if let (ReadMode::Incremental, Some(cursor)) = (selected.read, &selected.cursor) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "text files have no cursor column: an incremental read brings new files and what was appended",
        )
        .with("stream", name)
        .with("cursor", cursor)
        .fix("leave out --cursor"));
    }
    let Some(table) = tables(config)?.into_iter().find(|t| t.name == *name) else {
        return Err(Error::new(ErrorKind::NotFound, "the stream's file is gone").with("stream", name).fix("discover again"));
    };
    let state = from.get(&Scope::Stream(name.clone()));
    let progress = Progress::resume(state, &table, selected, config)?;
    Ok(Box::new(FileLane { table, config: config.clone(), progress, announced: selected.stream.schema.clone() }))
}
