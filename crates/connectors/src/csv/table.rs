//! A stream's files, the reader of one of them, and the columns that a sample of them shows.

use std::path::{Path, PathBuf};

use linkspan_core::{Result, StreamName};

use super::{
    column::Column,
    config::{CsvConfig, Format},
    excel::{self, SheetReader},
    files::{self, Group},
    jsonlines::JsonReader,
    reader::{Chunk, CsvReader, Place},
};

/// One stream's files; a sheet's file is its workbook.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: StreamName,
    pub files: Vec<PathBuf>,
    pub sheet: Option<String>,
}

/// The streams of the config's path.
pub(super) fn tables(config: &CsvConfig) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    // Of a folder's workbooks each may have a sheet of the same name.
    let is_folder = Path::new(&config.path).is_dir();
    for Group { name, files } in files::groups(config)? {
        if files::format_of(&files[0], config) != Format::Excel {
            tables.push(Table { name: StreamName::new(None, &name), files, sheet: None });
            continue;
        }
        for file in &files {
            let sheets = excel::sheets(file, config)?;
            let only = sheets.len() == 1;
            for sheet in sheets {
                let name = match () {
                    () if only && files.len() == 1 => StreamName::new(None, &name),
                    () if is_folder => StreamName::new(Some(&name), &sheet),
                    () => StreamName::new(None, &sheet),
                };
                tables.push(Table { name, files: vec![file.clone()], sheet: Some(sheet) });
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
