//! Rows as JSON objects. A value that a JSON number would not keep in every reader is a string.

use std::io;

use arrow_array::RecordBatch;
use arrow_schema::Field;
use base64::Engine as _;
use linkspan_core::{
    Result, SEQ_COLUMN, file_error,
    native::{self, DECIMAL_TEXT, JSON_TEXT},
};
use serde_json::value::RawValue;

use crate::{
    text::{cells::Cells, write},
    text_file::Format,
};

/// Decimals up to this many digits are numbers: a reader that takes them for doubles shows the same digits.
const DOUBLE_DIGITS: u8 = 15;

pub(super) struct JsonLines;

impl Format for JsonLines {
    fn header(&self, _columns: &[Field]) -> Vec<u8> {
        Vec::new()
    }
    fn encode(&self, rows: &RecordBatch, _columns: &[Field], out: &mut Vec<u8>) -> Result<()> {
        objects(rows, None, out)
    }
    fn rewrite(&self, from: &mut dyn io::BufRead, _old: &[Field], _new: &[Field], to: &mut dyn io::Write) -> Result<()> {
        io::copy(from, to).map(drop).map_err(|e| file_error("the rows cannot be copied", std::path::Path::new("rows"), e))
    }
    fn positional(&self) -> bool {
        false
    }
}

/// One line per row; `lead` is a field that every row starts with.
pub(super) fn objects(rows: &RecordBatch, lead: Option<(&str, &str)>, out: &mut Vec<u8>) -> Result<()> {
    let fields = rows.schema_ref().fields();
    let mut columns = Vec::with_capacity(fields.len());
    for (field, array) in fields.iter().zip(rows.columns()) {
        let mut name = Vec::new();
        quoted(field.name(), &mut name);
        name.push(b':');
        columns.push((name, Cells::of_text(array, field)?, Style::of(field)));
    }
    let mut start = vec![b'{'];
    if let Some((field, stream)) = lead {
        quoted(field, &mut start);
        start.push(b':');
        quoted(stream, &mut start);
    }
    let mut scratch = Vec::new();
    for row in 0..rows.num_rows() {
        out.extend_from_slice(&start);
        for (i, (name, cells, style)) in columns.iter().enumerate() {
            if i > 0 || lead.is_some() {
                out.push(b',');
            }
            out.extend_from_slice(name);
            value(cells, *style, row, out, &mut scratch);
        }
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

/// How a column's text is put into JSON, where its type leaves a choice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    /// The text is a JSON document.
    Document,
    /// The bytes' order matters more than their size: hexadecimal sorts, base64 does not.
    Hex,
    /// The text is exact decimal digits: kept as a string.
    Digits,
}

impl Style {
    fn of(field: &Field) -> Self {
        if native::has_mark(field, JSON_TEXT) {
            Self::Document
        } else if field.name() == SEQ_COLUMN {
            Self::Hex
        } else if native::has_mark(field, DECIMAL_TEXT) {
            Self::Digits
        } else {
            Self::Plain
        }
    }
}

fn value(cells: &Cells, style: Style, row: usize, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    if cells.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match cells {
        Cells::Int(_) | Cells::UInt(_) | Cells::Bool(_) => cells.write(row, b'T', out),
        Cells::Double(a) if a.value(row).is_finite() => cells.write(row, b'T', out),
        Cells::Float(a) if a.value(row).is_finite() => cells.write(row, b'T', out),
        Cells::Decimal(_, precision, _) if *precision <= DOUBLE_DIGITS => cells.write(row, b'T', out),
        Cells::Json(a) => document(a.value(row), out),
        Cells::Blob(a) if style != Style::Hex => {
            out.push(b'"');
            out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(a.value(row)).as_bytes());
            out.push(b'"');
        }
        _ => match cells.text(row) {
            Some(text) if style == Style::Document => document(text, out),
            Some(text) => quoted(text, out),
            None => {
                // Digits, letters and signs: nothing here needs an escape.
                scratch.clear();
                cells.write(row, b'T', scratch);
                out.push(b'"');
                out.extend_from_slice(scratch);
                out.push(b'"');
            }
        },
    }
}

/// A JSON document on one line; a text that is none becomes a string.
fn document(text: &str, out: &mut Vec<u8>) {
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return quoted(text, out);
    }
    // Raw line breaks can only stand between tokens.
    out.extend(text.trim().bytes().map(|b| if b == b'\n' || b == b'\r' { b' ' } else { b }));
}

/// A JSON string.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, b) in bytes.iter().enumerate() {
        if *b >= 0x20 && *b != b'"' && *b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                write::hex(out, &[*control]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Decimal128Array, Float64Array, StringArray, TimestampMicrosecondArray};
    use arrow_schema::{DataType, Schema, TimeUnit};

    use super::*;

    #[test]
    fn every_line_is_json_and_keeps_its_digits() {
        let columns: Vec<(Field, ArrayRef)> = vec![
            (Field::new("t\"x", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("a\"\\\n\u{1}é"), None]))),
            (Field::new("f", DataType::Float64, true), Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.1)]))),
            (
                Field::new("small", DataType::Decimal128(12, 2), true),
                Arc::new(Decimal128Array::from(vec![110, -5]).with_precision_and_scale(12, 2).unwrap()),
            ),
            (
                Field::new("large", DataType::Decimal128(38, 2), true),
                Arc::new(Decimal128Array::from(vec![110, -5]).with_precision_and_scale(38, 2).unwrap()),
            ),
            (Field::new("b", DataType::Binary, true), Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None]))),
            (
                Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
                Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("UTC")),
            ),
            (
                native::with_mark(Field::new("j", DataType::Utf8, true), JSON_TEXT, ""),
                Arc::new(StringArray::from(vec![Some("{\n \"a\": [1,\r\n2]}"), Some("{broken")])),
            ),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let mut out = Vec::new();
        objects(&rows, Some(("_stream", "s.t")), &mut out).unwrap();
        let lines: Vec<&str> = std::str::from_utf8(&out).unwrap().lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"_stream":"s.t","t\"x":"a\"\\\n\u0001é","f":"NaN","small":1.10,"large":"1.10","b":"AP8=","at":"1970-01-01T00:00:00.000000Z","j":{  "a": [1,  2]}}"#,
                r#"{"_stream":"s.t","t\"x":null,"f":0.1,"small":-0.05,"large":"-0.05","b":null,"at":null,"j":"{broken"}"#,
            ]
        );
        for line in lines {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
