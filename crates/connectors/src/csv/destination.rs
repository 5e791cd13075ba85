//! Delimited text as a destination: RFC 4180 quoting, an unquoted empty field for null, a quoted one for the empty text.

use std::{io, path::Path, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::Field;
use linkspan_core::{Context, Error, ErrorKind, Result, file_error};

use super::config::{Compression, CsvConfig, Format as FileFormat, Header};
use crate::{
    text::{cells::Cells, write},
    text_file::{Format, Place, TextFiles},
};

/// What a path to one file ends with.
const ENDINGS: [&str; 3] = [".csv", ".tsv", ".txt"];

/// The destination that the config describes; what only a source can do is refused when it is opened for writing.
pub(super) fn open(config: &CsvConfig, ctx: Context) -> Result<TextFiles> {
    let lower = config.path.to_ascii_lowercase();
    let tabs = config.format == FileFormat::Tsv || lower.ends_with(".tsv");
    let delimiter = config.delimiter_byte()?.unwrap_or(if tabs { b'\t' } else { b',' });
    let quote = config.quote_byte()?.unwrap_or(b'"');
    let refusal = refusal(config, &lower);
    let place = Place::of(&config.path, &ENDINGS, if tabs { "tsv" } else { "csv" })?;
    let format = Arc::new(Delimited { delimiter, quote, header: config.header != Header::No });
    Ok(TextFiles { place, format, ctx, refusal })
}

/// Why this config cannot be written to, if it cannot.
fn refusal(config: &CsvConfig, lower: &str) -> Option<(&'static str, &'static str)> {
    let packed = [".gz", ".zst", ".zstd"].iter().any(|e| lower.ends_with(e));
    let utf8 = config.encoding.as_deref().is_none_or(|e| encoding_rs::Encoding::for_label(e.as_bytes()) == Some(encoding_rs::UTF_8));
    if matches!(config.format, FileFormat::Jsonl) || lower.ends_with(".jsonl") || lower.ends_with(".ndjson") {
        Some(("this connector reads JSON lines and does not write them", "write to `jsonl:PATH`"))
    } else if matches!(config.format, FileFormat::Excel) || [".xlsx", ".xls", ".ods"].iter().any(|e| lower.ends_with(e)) {
        Some(("workbooks are read and not written", "write to a .csv file"))
    } else if packed || !matches!(config.compression, Compression::Auto | Compression::None) {
        Some(("compressed files are read and not written", "write to a .csv file and compress it afterwards, or write Parquet"))
    } else if !utf8 {
        Some(("files are written in UTF-8 only", "leave `encoding` out"))
    } else if config.quote.is_empty() {
        Some(("a file without quotes cannot hold every text", "leave `quote` out"))
    } else if config.path.contains(['*', '?']) {
        Some(("a pattern names no place to write to", "name a file or a folder"))
    } else {
        None
    }
}

struct Delimited {
    delimiter: u8,
    quote: u8,
    header: bool,
}

impl Delimited {
    /// A text as a field: quoted where it must be, and when it is empty, since unquoted that is null.
    fn field(&self, text: &[u8], out: &mut Vec<u8>) {
        let plain = !text.is_empty() && !text.iter().any(|b| *b == self.delimiter || *b == self.quote || *b == b'\n' || *b == b'\r');
        if plain {
            return out.extend_from_slice(text);
        }
        out.push(self.quote);
        let mut rest = text;
        while let Some(at) = memchr::memchr(self.quote, rest) {
            out.extend_from_slice(&rest[..=at]);
            out.push(self.quote);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        out.push(self.quote);
    }
    fn value(&self, cells: &Cells, row: usize, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        if cells.is_null(row) {
            return;
        }
        match (cells.text(row), cells) {
            (Some(text), _) => self.field(text.as_bytes(), out),
            // Hexadecimal digits alone could be taken for a number.
            (None, Cells::Blob(bytes)) => {
                out.extend_from_slice(b"\\x");
                write::hex(out, bytes.value(row));
            }
            (None, _) => {
                scratch.clear();
                cells.write(row, b'T', scratch);
                self.field(scratch, out);
            }
        }
    }
    /// The raw fields of a record that this format wrote, quotes and all.
    fn split<'a>(&self, record: &'a [u8], fields: &mut Vec<&'a [u8]>) {
        fields.clear();
        let (mut start, mut inside) = (0, false);
        for (i, b) in record.iter().enumerate() {
            if *b == self.quote {
                // A doubled quote leaves and enters again.
                inside = !inside;
            } else if *b == self.delimiter && !inside {
                fields.push(&record[start..i]);
                start = i + 1;
            }
        }
        fields.push(&record[start..]);
    }
    /// Reads one record with its line break into `record`; false at the end.
    fn record(&self, from: &mut dyn io::BufRead, record: &mut Vec<u8>) -> io::Result<bool> {
        record.clear();
        let mut inside = false;
        loop {
            let start = record.len();
            if from.read_until(b'\n', record)? == 0 {
                return Ok(!record.is_empty());
            }
            // Quotes are doubled inside a field, so a record is whole when their number is even.
            inside ^= memchr::memchr_iter(self.quote, &record[start..]).count() % 2 == 1;
            if !inside {
                return Ok(true);
            }
        }
    }
}

impl Format for Delimited {
    fn header(&self, columns: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.header {
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    out.push(self.delimiter);
                }
                self.field(column.name().as_bytes(), &mut out);
            }
            out.push(b'\n');
        }
        out
    }
    fn encode(&self, rows: &RecordBatch, columns: &[Field], out: &mut Vec<u8>) -> Result<()> {
        let schema = rows.schema_ref();
        let cells: Result<Vec<Cells>> = columns
            .iter()
            .map(|column| match schema.fields().find(column.name()) {
                Some((at, field)) => Cells::of_text(rows.column(at), field),
                None => Ok(Cells::Null),
            })
            .collect();
        let cells = cells?;
        let mut scratch = Vec::new();
        for row in 0..rows.num_rows() {
            for (i, cells) in cells.iter().enumerate() {
                if i > 0 {
                    out.push(self.delimiter);
                }
                self.value(cells, row, out, &mut scratch);
            }
            out.push(b'\n');
        }
        Ok(())
    }
    fn rewrite(&self, from: &mut dyn io::BufRead, old: &[Field], new: &[Field], to: &mut dyn io::Write) -> Result<()> {
        let places: Vec<Option<usize>> = new.iter().map(|n| old.iter().position(|o| o.name() == n.name())).collect();
        let fail = |e| file_error("the rows cannot be written again", Path::new("rows"), e);
        let (mut record, mut out) = (Vec::new(), Vec::new());
        while self.record(from, &mut record).map_err(fail)? {
            let line = record.strip_suffix(b"\n").unwrap_or(&record);
            let mut fields = Vec::with_capacity(old.len());
            self.split(line, &mut fields);
            if fields.len() != old.len().max(1) {
                return Err(Error::new(ErrorKind::Conflict, "the file's rows do not have its columns: somebody has changed it")
                    .fix("put the file back, or move it away and reset the connection"));
            }
            out.clear();
            for (i, place) in places.iter().enumerate() {
                if i > 0 {
                    out.push(self.delimiter);
                }
                out.extend_from_slice(place.and_then(|at| fields.get(at)).copied().unwrap_or_default());
            }
            out.push(b'\n');
            to.write_all(&out).map_err(fail)?;
        }
        Ok(())
    }
    fn positional(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, BinaryArray, BooleanArray, StringArray};
    use arrow_schema::{DataType, Schema};

    use super::*;

    fn format() -> Delimited {
        Delimited { delimiter: b',', quote: b'"', header: true }
    }

    #[test]
    fn null_and_the_empty_text_are_different_and_odd_texts_are_quoted() {
        let columns: Vec<(Field, ArrayRef)> = vec![
            (Field::new("a,b", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some(""), None, Some("q\"x\ny"), Some(" p ")]))),
            (Field::new("b", DataType::Binary, true), Arc::new(BinaryArray::from(vec![Some(&b"\x12\x34"[..]), Some(b""), None, None]))),
            (Field::new("c", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), None]))),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), arrays).unwrap();
        let mut out = format().header(&fields);
        format().encode(&rows, &fields, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\"a,b\",b,c\n\"\",\\x1234,true\n,\\x,\n\"q\"\"x\ny\",,false\n p ,,\n");
    }

    #[test]
    fn rewritten_rows_keep_every_byte_of_their_fields() {
        let field = |n: &str| Field::new(n, DataType::Utf8, true);
        let (old, new) = (vec![field("a"), field("b")], vec![field("b"), field("a"), field("c")]);
        let mut out = Vec::new();
        format().rewrite(&mut &b"\"x,\"\"\n\",1\n,\"\"\n"[..], &old, &new, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "1,\"x,\"\"\n\",\n\"\",,\n");
        assert!(format().rewrite(&mut &b"1,2,3\n"[..], &old, &new, &mut Vec::new()).is_err());
    }
}
