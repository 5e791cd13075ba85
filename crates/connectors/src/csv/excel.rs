//! Reads the sheets of a workbook. Excel keeps every number as a double; whole ones come out as integers.

use std::{io::Read, path::Path};

use calamine::{Data, Reader, Sheets, open_workbook_auto};
use linkspan_core::{Error, ErrorKind, Result};

use super::{
    column::{Cell, Column, build},
    config::{CsvConfig, Header},
    dialect,
    infer::Kind,
    jsonlines::Value,
    reader::{Chunk, Place},
    workbook::{archive, refuse_sparse},
};

/// A workbook is unpacked in memory, so its size is bounded.
const LARGEST: u64 = 200 << 20;
const LARGEST_UNPACKED: u128 = 2 << 30;
const ROWS: usize = 8192;

type Book = Sheets<std::io::BufReader<std::fs::File>>;

fn book(path: &Path) -> Result<Book> {
    let meta = std::fs::metadata(path).map_err(|e| linkspan_core::file_error("the file cannot be opened", path, e))?;
    if meta.len() > LARGEST {
        return Err(Error::new(ErrorKind::DataInvalid, "the workbook is over 200 MB")
            .with("path", path.display())
            .fix("save its sheets as CSV"));
    }
    refuse_bombs(path).map_err(|e| e.with("path", path.display()))?;
    open_workbook_auto(path).map_err(|e| broken(path, e))
}

/// By what the archive says of its own parts; a file that was uploaded has been unpacked once to make sure.
fn refuse_bombs(path: &Path) -> Result<()> {
    let mut file = std::fs::File::open(path).map_err(|e| linkspan_core::file_error("the file cannot be opened", path, e))?;
    let mut first = [0; 4];
    if file.read_exact(&mut first).is_err() || first != *b"PK\x03\x04" {
        return Ok(());
    }
    let archive = archive(file)?;
    let sizes = (0..archive.len()).filter_map(|at| Some(u128::from(archive.by_index_data(at).ok()?.size())));
    if sizes.sum::<u128>() > LARGEST_UNPACKED {
        return Err(Error::new(ErrorKind::DataInvalid, "the workbook unpacks to more than is read")
            .with("unpacked_limit_bytes", LARGEST_UNPACKED)
            .fix("save its sheets as CSV"));
    }
    Ok(())
}

fn broken(path: &Path, e: calamine::Error) -> Error {
    Error::new(ErrorKind::DataInvalid, "the workbook cannot be read")
        .with("path", path.display())
        .fix("open it in a spreadsheet program and save it again")
        .because(e)
}

/// The sheets that are streams.
pub(super) fn sheets(path: &Path, config: &CsvConfig) -> Result<Vec<String>> {
    let names = book(path)?.sheet_names();
    match &config.sheet {
        None => Ok(names),
        Some(sheet) if names.contains(sheet) => Ok(vec![sheet.clone()]),
        Some(sheet) => {
            let fix = linkspan_core::suggest::did_you_mean(sheet, names.iter().map(String::as_str))
                .unwrap_or_else(|| format!("the sheets are: {}", names.join(", ")));
            Err(Error::new(ErrorKind::NotFound, "the workbook has no such sheet")
                .with("sheet", sheet)
                .with("path", path.display())
                .fix(fix))
        }
    }
}

pub(super) struct SheetReader {
    rows: Vec<Vec<Option<Value>>>,
    at: usize,
}

impl SheetReader {
    /// `place.offset` counts rows.
    pub fn open(path: &Path, config: &CsvConfig, sheet: &str, place: Place, columns: &mut Vec<Column>) -> Result<Self> {
        let mut book = book(path)?;
        if let Sheets::Xlsx(book) = &mut book {
            refuse_sparse(book, sheet).map_err(|e| e.with("path", path.display()))?;
        }
        let range = book.worksheet_range(sheet).map_err(|e| broken(path, e))?;
        let mut rows: Vec<Vec<Option<Value>>> = range.rows().map(|row| row.iter().map(value).collect()).collect();
        let texts: Vec<Vec<String>> = rows.iter().take(2).map(|r| r.iter().map(text).collect()).collect();
        let header = match config.header {
            Header::Yes => true,
            Header::No => false,
            Header::Auto => dialect::has_header(&texts),
        };
        let first = if header { texts.into_iter().next().unwrap_or_default() } else { vec![String::new(); range.width()] };
        for name in dialect::unique(first) {
            if !columns.iter().any(|c| c.name == name) {
                columns.push(Column::new(name));
            }
        }
        if header && !rows.is_empty() {
            rows.remove(0);
        }
        rows.retain(|r| r.iter().any(Option::is_some));
        Ok(Self { rows, at: usize::try_from(place.offset).unwrap_or(usize::MAX) })
    }
    pub fn place(&self) -> Place {
        Place { offset: self.at as u64, line: self.at as u64, open: false }
    }
    pub fn next(&mut self, columns: &mut [Column]) -> Result<Option<Chunk>> {
        if self.at >= self.rows.len() {
            return Ok(None);
        }
        let rows = &self.rows[self.at..self.rows.len().min(self.at + ROWS)];
        let batch = build(columns, rows.len(), b'"', |r, c| cell(rows, r, c))?;
        self.at += rows.len();
        Ok(Some(Chunk { rows: batch, rejected: vec![] }))
    }
    pub fn learn(&mut self, columns: &mut [Column]) -> (usize, u64) {
        for r in 0..self.rows.len() {
            for (c, column) in columns.iter_mut().enumerate() {
                if let Some(cell) = cell(&self.rows, r, c) {
                    column.learn(&cell);
                }
            }
        }
        (self.rows.len(), self.rows.len() as u64)
    }
}

fn cell(rows: &[Vec<Option<Value>>], row: usize, column: usize) -> Option<Cell<'_>> {
    rows[row].get(column)?.as_ref().map(|(kind, text)| Cell { text, escaped: false, kind: *kind })
}

fn text(value: &Option<Value>) -> String {
    value.as_ref().map(|(_, t)| String::from_utf8_lossy(t).into_owned()).unwrap_or_default()
}

fn value(data: &Data) -> Option<Value> {
    let (kind, text) = match data {
        Data::Empty => return None,
        Data::String(s) | Data::DurationIso(s) => (Kind::Text, s.clone()),
        Data::DateTimeIso(s) => (Kind::Temporal, s.clone()),
        Data::Int(n) => (Kind::Number, n.to_string()),
        Data::Float(f) if f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 => (Kind::Number, format!("{f:.0}")),
        Data::Float(f) => (Kind::Number, f.to_string()),
        Data::Bool(b) => (Kind::Bool, b.to_string()),
        Data::DateTime(d) if d.is_datetime() => {
            let (y, mo, da, h, mi, s, ms) = d.to_ymd_hms_milli();
            match (h, mi, s, ms) {
                (0, 0, 0, 0) => (Kind::Temporal, format!("{y:04}-{mo:02}-{da:02}")),
                _ => (Kind::Temporal, format!("{y:04}-{mo:02}-{da:02} {h:02}:{mi:02}:{s:02}.{ms:03}")),
            }
        }
        other => (Kind::Text, other.to_string()),
    };
    Some((kind, text.into_bytes().into()))
}
