//! Reads one JSON lines file chunk by chunk: an object per line, its top-level fields are the columns. Nested values stay JSON text.

use std::{fmt, path::PathBuf};

use linkspan_core::{Error, ErrorKind, Rejected, Result};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    column::{Cell, Column, build},
    config::{BadRows, CsvConfig},
    infer::Kind,
    reader::{Chunk, Place, Text},
};

/// A value as text, with what JSON says about it; strings without quotes and escapes.
pub(super) type Value = (Kind, Box<[u8]>);

pub(super) struct JsonReader {
    text: Text,
    bad_rows: BadRows,
    rows: Vec<Vec<Option<Value>>>,
    consumed: usize,
    rejected: Vec<Rejected>,
}

impl JsonReader {
    pub fn open(path: PathBuf, config: &CsvConfig, place: Place) -> Result<Self> {
        Ok(Self { text: Text::open(path, config, place)?, bad_rows: config.bad_rows, rows: vec![], consumed: 0, rejected: vec![] })
    }
    pub fn place(&self) -> Place {
        self.text.place
    }
    pub fn next(&mut self, columns: &mut Vec<Column>) -> Result<Option<Chunk>> {
        if !self.parse(columns, usize::MAX)? {
            return Ok(None);
        }
        let batch = build(columns, self.rows.len(), b'"', |r, c| cell(&self.rows, r, c))?;
        self.text.consume(self.consumed);
        Ok(Some(Chunk { rows: batch, rejected: std::mem::take(&mut self.rejected) }))
    }
    pub fn learn(&mut self, columns: &mut Vec<Column>, most: usize) -> Result<(usize, u64)> {
        let (mut seen, start) = (0, self.text.place.offset);
        while seen < most && self.parse(columns, most - seen)? {
            for r in 0..self.rows.len() {
                for (c, column) in columns.iter_mut().enumerate() {
                    if let Some(cell) = cell(&self.rows, r, c) {
                        column.learn(&cell);
                    }
                }
            }
            self.text.consume(self.consumed);
            self.rejected.clear();
            seen += self.rows.len();
        }
        Ok((seen, self.text.place.offset - start))
    }
    /// Parses the lines of the next chunk; false at the end.
    fn parse(&mut self, columns: &mut Vec<Column>, most: usize) -> Result<bool> {
        loop {
            self.rows.clear();
            let mut at = 0;
            while at < self.text.window().len() && self.rows.len() < most {
                let rest = &self.text.window()[at..];
                let (line, next) = match memchr::memchr(b'\n', rest) {
                    Some(n) => (at..at + n, at + n + 1),
                    None if self.text.ended => (at..at + rest.len(), at + rest.len()),
                    None => break,
                };
                self.line(line, columns)?;
                at = next;
            }
            self.consumed = at;
            if !self.rows.is_empty() || !self.rejected.is_empty() {
                return Ok(true);
            }
            self.text.consume(at);
            if self.text.ended {
                return Ok(false);
            }
            self.text.more()?;
        }
    }
    fn line(&mut self, line: std::ops::Range<usize>, columns: &mut Vec<Column>) -> Result<()> {
        let bytes = self.text.window()[line.clone()].trim_ascii();
        if bytes.is_empty() {
            return Ok(());
        }
        match object(bytes, columns) {
            Ok(row) => self.rows.push(row),
            Err(reason) if self.bad_rows == BadRows::Fail => {
                let fix = "mend the line, or set `bad_rows` to `skip`";
                return Err(Error::new(ErrorKind::DataInvalid, reason).with("place", self.text.line_at(line.start)).fix(fix));
            }
            Err(reason) => self.rejected.push(Rejected { place: self.text.line_at(line.start), reason: reason.to_owned() }),
        }
        Ok(())
    }
}

fn cell(rows: &[Vec<Option<Value>>], row: usize, column: usize) -> Option<Cell<'_>> {
    rows[row].get(column)?.as_ref().map(|(kind, text)| Cell { text, escaped: false, kind: *kind })
}

fn object(line: &[u8], columns: &mut Vec<Column>) -> Result<Vec<Option<Value>>, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not valid UTF-8")?;
    if !text.starts_with('{') {
        return Err("the line is not a JSON object");
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut row = vec![None; columns.len()];
    deserializer.deserialize_map(Fields { columns, row: &mut row }).map_err(|_| "the line is not valid JSON")?;
    deserializer.end().map_err(|_| "the line has text after its JSON object")?;
    Ok(row)
}

struct Fields<'a> {
    columns: &'a mut Vec<Column>,
    row: &'a mut Vec<Option<Value>>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut guess = 0;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let raw: &RawValue = map.next_value()?;
            // Lines mostly have their fields in the same order: the column after the last one is tried first.
            let at = match self.columns.get(guess) {
                Some(c) if c.name == *name => guess,
                _ => match self.columns.iter().position(|c| c.name == *name) {
                    Some(at) => at,
                    None => {
                        self.columns.push(Column::new(&*name));
                        self.columns.len() - 1
                    }
                },
            };
            guess = at + 1;
            if self.row.len() <= at {
                self.row.resize(at + 1, None);
            }
            self.row[at] = value(raw.get()).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

fn value(raw: &str) -> Result<Option<Value>, serde_json::Error> {
    let kind = match raw.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            let text: std::borrow::Cow<'_, str> = serde_json::from_str(raw)?;
            return Ok(Some((Kind::Text, text.as_bytes().into())));
        }
        Some(b't' | b'f') => Kind::Bool,
        Some(b'{' | b'[') => Kind::Json,
        _ => Kind::Number,
    };
    Ok(Some((kind, raw.as_bytes().into())))
}
