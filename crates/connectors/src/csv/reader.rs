//! Reads one delimited text file chunk by chunk: records are split, checked and become a batch of columns.

use std::{io::Read, path::PathBuf};

use arrow_array::RecordBatch;
use linkspan_core::{Error, ErrorKind, Rejected, Result, file_error};

use super::{
    column::{Cell, Column, build},
    config::{BadRows, CsvConfig, Format},
    dialect::{self, Dialect},
    files,
    infer::Kind,
    split::{Field, Found, Splitter},
};

/// Text per chunk; a longer record makes its chunk as long as itself.
const CHUNK: usize = 4 << 20;
/// A chunk's offsets are 32-bit.
const LONGEST: usize = 1 << 31;

/// A batch, and what was left out of it.
pub(super) struct Chunk {
    pub rows: RecordBatch,
    pub rejected: Vec<Rejected>,
}

/// Where a reader stands: bytes of decoded text and lines before the next record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub line: u64,
    /// The last record had no line end: what is appended later may belong to it.
    pub open: bool,
}

/// A file's text, a window of it in memory.
pub(super) struct Text {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    pub place: Place,
    pub ended: bool,
}

impl Text {
    pub fn open(path: PathBuf, config: &CsvConfig, place: Place) -> Result<Self> {
        let input = files::text(&path, config, place.offset)?;
        Ok(Self { path, input, buffer: Vec::new(), place, ended: false })
    }
    pub fn window(&self) -> &[u8] {
        &self.buffer
    }
    /// Reads up to `CHUNK` more.
    pub fn more(&mut self) -> Result<()> {
        if self.buffer.len() + CHUNK > LONGEST {
            return Err(self.error("a record is over 2 GiB", 0).fix("check the quotes: an opened one may never be closed"));
        }
        let before = self.buffer.len();
        self.buffer.reserve(CHUNK);
        let read = self.input.by_ref().take(CHUNK as u64).read_to_end(&mut self.buffer).map_err(|e| self.broken(e))?;
        debug_assert_eq!(self.buffer.len(), before + read);
        self.ended = read < CHUNK;
        Ok(())
    }
    fn broken(&self, e: std::io::Error) -> Error {
        match e.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::InvalidData
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::Other => Error::new(ErrorKind::DataInvalid, "the compressed file is broken or cut short")
                .with("path", self.path.display())
                .fix("fetch the file again")
                .because(e),
            _ => file_error("the file cannot be read", &self.path, e),
        }
    }
    /// Lets go of the first `bytes` of the window.
    pub fn consume(&mut self, bytes: usize) {
        self.place.line += memchr::memchr_iter(b'\n', &self.buffer[..bytes]).count() as u64;
        self.place.offset += bytes as u64;
        if let Some(last) = self.buffer[..bytes].last() {
            self.place.open = *last != b'\n';
        }
        self.buffer.drain(..bytes);
        if self.buffer.capacity() > 4 * CHUNK && self.buffer.len() < CHUNK {
            self.buffer.shrink_to(CHUNK);
        }
    }
    /// `path:line` of the record at `at` in the window; lines count from 1.
    pub fn line_at(&self, at: usize) -> String {
        let line = self.place.line + 1 + memchr::memchr_iter(b'\n', &self.buffer[..at]).count() as u64;
        format!("{}:{line}", self.path.display())
    }
    pub fn error(&self, message: &'static str, at: usize) -> Error {
        Error::new(ErrorKind::DataInvalid, message).with("place", self.line_at(at))
    }
}

pub(super) struct CsvReader {
    text: Text,
    splitter: Splitter,
    bad_rows: BadRows,
    nulls: Vec<Vec<u8>>,
    width: usize,
    header: bool,
    /// Stream column -> file column.
    map: Vec<Option<usize>>,
    /// The current chunk: `width` fields per row.
    fields: Vec<Field>,
    consumed: usize,
    rejected: Vec<Rejected>,
}

impl CsvReader {
    /// Opens at `place`; the dialect is that of the file's start. Adds the file's columns to `columns`.
    pub fn open(path: PathBuf, config: &CsvConfig, format: Format, place: Place, columns: &mut Vec<Column>) -> Result<Self> {
        let mut start = Text::open(path.clone(), config, Place::default())?;
        start.more()?;
        let Dialect { splitter, header, names } = dialect::detect(start.window(), start.ended, config, format)?;
        let text = if place.offset == 0 { start } else { Text::open(path, config, place)? };
        let map = map_columns(&names, columns);
        let nulls = config.null_values.iter().map(|n| n.clone().into_bytes()).collect();
        Ok(Self {
            header: header && place.offset == 0,
            width: names.len(),
            map,
            text,
            splitter,
            bad_rows: config.bad_rows,
            nulls,
            fields: vec![],
            consumed: 0,
            rejected: vec![],
        })
    }

    pub fn place(&self) -> Place {
        self.text.place
    }

    /// The next batch, or nothing at the end. Columns whose values do not fit are widened.
    pub fn next(&mut self, columns: &mut [Column]) -> Result<Option<Chunk>> {
        let Some(rows) = self.split(usize::MAX)? else { return Ok(None) };
        let quote = self.splitter.quote.unwrap_or(b'"');
        let batch = build(columns, rows, quote, |r, c| self.cell(r, c))?;
        self.text.consume(self.consumed);
        Ok(Some(Chunk { rows: batch, rejected: std::mem::take(&mut self.rejected) }))
    }

    /// Lets the columns learn from up to `most` rows. Answers how many there were, and how many bytes they took.
    pub fn learn(&mut self, columns: &mut [Column], most: usize) -> Result<(usize, u64)> {
        let (mut seen, start) = (0, self.text.place.offset);
        while seen < most {
            let Some(rows) = self.split(most - seen)? else { break };
            for r in 0..rows {
                for (c, column) in columns.iter_mut().enumerate() {
                    if let Some(cell) = self.cell(r, c) {
                        column.learn(&cell);
                    }
                }
            }
            self.text.consume(self.consumed);
            self.rejected.clear();
            seen += rows;
        }
        Ok((seen, self.text.place.offset - start))
    }

    fn cell(&self, row: usize, column: usize) -> Option<Cell<'_>> {
        let field = self.fields[row * self.width + (*self.map.get(column)?)?];
        let text = &self.text.window()[field.start as usize..field.end as usize];
        if !field.quoted && (text.is_empty() || self.nulls.iter().any(|n| n == text)) {
            return None;
        }
        Some(Cell { text, escaped: field.escaped, kind: Kind::Plain })
    }

    /// Splits the next chunk into `fields`: how many rows, or nothing at the end.
    fn split(&mut self, most: usize) -> Result<Option<usize>> {
        loop {
            self.fields.clear();
            let rows = self.split_window(most)?;
            if rows > 0 || !self.rejected.is_empty() {
                return Ok(Some(rows));
            }
            if self.text.ended {
                self.text.consume(self.consumed);
                return Ok(None);
            }
            self.text.consume(self.consumed);
            self.text.more()?;
        }
    }

    fn split_window(&mut self, most: usize) -> Result<usize> {
        let (mut at, mut rows) = (0, 0);
        let utf8 = simdutf8::basic::from_utf8(self.text.window()).is_ok();
        while at < self.text.window().len() && rows < most {
            let first = self.fields.len();
            let next = match self.splitter.record(self.text.window(), at, self.text.ended, &mut self.fields) {
                Found::Record(next) => next,
                Found::Partial => {
                    self.fields.truncate(first);
                    break;
                }
                Found::OpenQuote => {
                    return Err(self
                        .text
                        .error("a quoted field is never closed", at)
                        .fix("close the quote, or set `quote` to another character or to nothing"));
                }
            };
            let blank = self.fields.len() == first + 1 && self.width != 1 && is_empty(&self.fields[first]);
            if self.header || blank {
                self.header = false;
                self.fields.truncate(first);
            } else if self.accept(first, at, next, utf8)? {
                rows += 1;
            }
            at = next;
        }
        self.consumed = at;
        Ok(rows)
    }

    /// Checks the record whose fields start at `first`; a refused one is taken out again.
    fn accept(&mut self, first: usize, at: usize, next: usize, utf8: bool) -> Result<bool> {
        let count = self.fields.len() - first;
        let wrong = if !utf8 && simdutf8::basic::from_utf8(&self.text.window()[at..next]).is_err() {
            Some("the row is not valid text in the file's encoding".to_owned())
        } else if count != self.width {
            Some(format!("the row has {count} fields, the header {}", self.width))
        } else {
            return Ok(true);
        };
        let Some(reason) = wrong else { return Ok(true) };
        let undecodable = count == self.width;
        match self.bad_rows {
            BadRows::Fail => {
                let fix = if undecodable {
                    "set `encoding` to the file's encoding, or `bad_rows: skip`"
                } else {
                    "mend the line, or set `bad_rows` to `skip` or `null`"
                };
                Err(Error::new(ErrorKind::DataInvalid, reason).with("place", self.text.line_at(at)).fix(fix))
            }
            BadRows::Null if !undecodable && simdutf8::basic::from_utf8(&self.text.window()[at..next]).is_ok() => {
                let null = Field { start: at as u32, end: at as u32, quoted: false, escaped: false };
                self.fields.resize(first + self.width, null);
                Ok(true)
            }
            _ => {
                self.rejected.push(Rejected { place: self.text.line_at(at), reason });
                self.fields.truncate(first);
                Ok(false)
            }
        }
    }
}

fn is_empty(field: &Field) -> bool {
    field.start == field.end && !field.quoted
}

/// Where each stream column stands in the file; the file's unknown columns are added to the stream.
fn map_columns(names: &[String], columns: &mut Vec<Column>) -> Vec<Option<usize>> {
    for name in names {
        if !columns.iter().any(|c| c.name == *name) {
            columns.push(Column::new(name));
        }
    }
    columns.iter().map(|c| names.iter().position(|n| *n == c.name)).collect()
}
