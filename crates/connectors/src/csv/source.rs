//! Text files as a source: discovery by sample, one lane per stream, full reads and reads of what is new.

use std::{path::PathBuf, sync::Arc};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Context, Cursor, Error, ErrorKind, Lane, Position, ReadMode, Result, Scope, Selected, Source, Stream, StreamName};

use super::{
    column::{Column, schema_of},
    config::{CsvConfig, Format},
    excel::{self, SheetReader},
    files::{self, Group},
    jsonlines::JsonReader,
    lane::{FileLane, Progress},
    reader::{Chunk, CsvReader, Place},
};

pub(super) struct CsvSource {
    config: Arc<CsvConfig>,
    _context: Context,
}

/// One stream's files; a sheet's file is its workbook.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: StreamName,
    pub files: Vec<PathBuf>,
    pub sheet: Option<String>,
}

impl CsvSource {
    pub fn new(config: CsvConfig, context: Context) -> Self {
        let mut config = config;
        if config.all_text {
            config.sample_rows = config.sample_rows.min(1);
        }
        Self { config: Arc::new(config), _context: context }
    }
}

/// The streams of the config's path.
fn tables(config: &CsvConfig) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for Group { name, files } in files::groups(config)? {
        if files::format_of(&files[0], config) != Format::Excel {
            tables.push(Table { name: StreamName::new(None, &name), files, sheet: None });
            continue;
        }
        for file in &files {
            let sheets = excel::sheets(file, config)?;
            let only = sheets.len() == 1;
            for sheet in sheets {
                let name = if only && files.len() == 1 { name.clone() } else { sheet.clone() };
                tables.push(Table { name: StreamName::new(None, &name), files: vec![file.clone()], sheet: Some(sheet) });
            }
        }
    }
    Ok(tables)
}

/// A file under way, whatever its format.
pub(super) enum Reader {
    Csv(Box<CsvReader>),
    Json(Box<JsonReader>),
    Sheet(Box<SheetReader>),
}

impl Reader {
    pub fn open(file: PathBuf, sheet: Option<&str>, config: &CsvConfig, place: Place, columns: &mut Vec<Column>) -> Result<Self> {
        Ok(match (files::format_of(&file, config), sheet) {
            (Format::Excel, sheet) => Self::Sheet(Box::new(SheetReader::open(&file, config, sheet.unwrap_or_default(), place, columns)?)),
            (Format::Jsonl, _) => Self::Json(Box::new(JsonReader::open(file, config, place)?)),
            (format, _) => Self::Csv(Box::new(CsvReader::open(file, config, format, place, columns)?)),
        })
    }
    pub fn next(&mut self, columns: &mut Vec<Column>) -> Result<Option<Chunk>> {
        match self {
            Self::Csv(r) => r.next(columns),
            Self::Json(r) => r.next(columns),
            Self::Sheet(r) => r.next(columns),
        }
    }
    pub fn place(&self) -> Place {
        match self {
            Self::Csv(r) => r.place(),
            Self::Json(r) => r.place(),
            Self::Sheet(r) => r.place(),
        }
    }
    fn learn(&mut self, columns: &mut Vec<Column>, most: usize) -> Result<(usize, u64)> {
        match self {
            Self::Csv(r) => r.learn(columns, most),
            Self::Json(r) => r.learn(columns, most),
            Self::Sheet(r) => Ok(r.learn(columns)),
        }
    }
}

/// The columns as a sample shows them, and bytes per row.
pub(super) fn infer(table: &Table, config: &CsvConfig) -> Result<(Vec<Column>, f64)> {
    let (mut columns, mut rows, mut bytes) = (Vec::new(), 0, 0);
    // Every file's header counts; values are sampled until there are enough.
    for file in &table.files {
        let mut reader = Reader::open(file.clone(), table.sheet.as_deref(), config, Place::default(), &mut columns)?;
        if rows < config.sample_rows {
            let (r, b) = reader.learn(&mut columns, config.sample_rows - rows)?;
            (rows, bytes) = (rows + r, bytes + b);
        }
    }
    if config.all_text {
        columns.iter_mut().for_each(|c| (c.data_type, c.json) = (arrow_schema::DataType::Utf8, false));
    }
    Ok((columns, if rows == 0 { 0.0 } else { bytes as f64 / rows as f64 }))
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal, "a reader thread broke").because(e)))
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
