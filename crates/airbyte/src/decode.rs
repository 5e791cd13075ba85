//! Decoders: an answer's body as the elements that extractors look into.

mod body;
mod parser;
mod table;
mod text;
mod xml;
mod zip;

use std::{borrow::Cow, io::BufRead};

use bytes::Buf;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::{answer::Answer, component::Component, page_text};

use parser::Parser;

/// How bodies are read.
pub enum Decoder {
    Json,
    Xml,
    /// Every line is a record with one field.
    Lines,
    Zip(Parser),
    /// Read as it comes.
    Streamed(Parser),
}

/// The elements of a body, one after the other.
pub type Elements<'a> = Box<dyn Iterator<Item = Result<Value>> + Send + 'a>;

impl Decoder {
    /// The decoder of a component; JSON where there is none.
    pub fn build(component: Option<&Component<'_>>) -> Result<Self> {
        let Some(component) = component else { return Ok(Self::Json) };
        match component.kind() {
            "JsonDecoder" => Ok(Self::Json),
            "XmlDecoder" => Ok(Self::Xml),
            "IterableDecoder" => Ok(Self::Lines),
            "ZipfileDecoder" => Parser::build(&component.required("decoder")?).map(Self::Zip),
            "CsvDecoder" | "JsonlDecoder" | "JsonItemsDecoder" | "GzipDecoder" => Parser::build(component).map(Self::Streamed),
            _ => Err(component.unknown_kind()),
        }
    }

    /// Whether bodies are read as they come: paginators see nothing of such a body.
    pub fn is_streaming(&self) -> bool {
        matches!(self, Self::Streamed(_) | Self::Lines)
    }

    /// Whether a paginator may stand beside it.
    pub fn may_page(&self) -> bool {
        match self {
            Self::Json | Self::Xml => true,
            Self::Streamed(parser) => parser.is_json(),
            Self::Lines | Self::Zip(_) => false,
        }
    }

    pub fn elements<'a>(&'a self, answer: &'a Answer) -> Result<Elements<'a>> {
        match self {
            Self::Json => json(answer),
            Self::Xml => Ok(Box::new(std::iter::once(Ok(xml::parse(&text::of(answer)).unwrap_or_else(empty))))),
            Self::Lines => Ok(Box::new(lines(answer.body.clone().reader()))),
            Self::Zip(parser) => {
                let files = zip::files(&answer.body)?;
                Ok(Box::new(files.flat_map(move |file| {
                    match file.and_then(|content| parser.parse(Box::new(content.reader())).map_err(unreadable)) {
                        Ok(elements) => Box::new(elements.map(|e| e.map_err(unreadable))) as Elements<'_>,
                        Err(e) => Box::new(std::iter::once(Err(e))),
                    }
                })))
            }
            Self::Streamed(parser) => parser.parse(Box::new(answer.body.clone().reader())),
        }
    }

    /// What a paginator sees of the body: its first element.
    pub fn first<'a>(&self, answer: &'a Answer) -> Result<Cow<'a, Value>> {
        if self.is_streaming() {
            return Ok(Cow::Owned(empty()));
        }
        if let (Self::Json, Some(one)) = (self, answer.json()) {
            return Ok(match one {
                Value::Array(items) => items.first().map_or_else(|| Cow::Owned(empty()), Cow::Borrowed),
                Value::Null => Cow::Owned(empty()),
                one => Cow::Borrowed(one),
            });
        }
        self.elements(answer)?.next().unwrap_or_else(|| Ok(empty())).map(Cow::Owned)
    }
}

fn empty() -> Value {
    Value::Object(Map::new())
}

fn unreadable(e: Error) -> Error {
    Error::new(ErrorKind::DataInvalid, "a file of the answer's archive cannot be read").because(e)
}

/// A list gives its items, all else itself. What is empty or no JSON gives one empty object.
fn json(answer: &Answer) -> Result<Elements<'_>> {
    let nothing = || Box::new(std::iter::once(Ok(empty()))) as Elements<'_>;
    Ok(match answer.json() {
        Some(Value::Array(items)) if !items.is_empty() => Box::new(items.iter().cloned().map(Ok)),
        Some(Value::Array(_) | Value::Null) => nothing(),
        Some(one) => Box::new(std::iter::once(Ok(one.clone()))),
        None if page_text::is_too_deep(&answer.body) => {
            return Err(Error::new(ErrorKind::DataInvalid, "the answer is nested too deeply to be read"));
        }
        None => nothing(),
    })
}

/// Lines end with any line break; a last line needs none.
fn lines(mut body: impl BufRead + Send) -> impl Iterator<Item = Result<Value>> + Send {
    let mut waiting = std::collections::VecDeque::new();
    std::iter::from_fn(move || {
        loop {
            if let Some(line) = waiting.pop_front() {
                return Some(record(line));
            }
            let mut piece = Vec::new();
            match body.read_until(b'\n', &mut piece) {
                Ok(0) => return None,
                Ok(_) => {
                    let piece = piece.strip_suffix(b"\n").unwrap_or(&piece);
                    let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
                    waiting.extend(piece.split(|b| *b == b'\r').map(<[u8]>::to_vec));
                }
                Err(e) => return Some(Err(Error::new(ErrorKind::DataInvalid, "the answer cannot be read").because(e))),
            }
        }
    })
}

fn record(line: Vec<u8>) -> Result<Value> {
    let text = String::from_utf8(line).map_err(|_| Error::new(ErrorKind::DataInvalid, "a line of the answer is no UTF-8 text"))?;
    Ok(json!({ "record": text }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn decoded(component: &Value, body: &[u8]) -> Vec<Value> {
        let decoder = Decoder::build(Some(&Component::new(component, "decoder").unwrap())).unwrap();
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), "", Bytes::copy_from_slice(body));
        decoder.elements(&answer).unwrap().collect::<Result<_>>().unwrap()
    }
    fn gzip(body: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(body).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn json_gives_the_items_of_a_list_and_an_empty_object_for_nothing() {
        let kind = json!({"type": "JsonDecoder"});
        assert_eq!(decoded(&kind, b"[1, {\"a\": 2}]"), [json!(1), json!({"a": 2})]);
        for nothing in [&b"[]"[..], b"null", b"<html>", b""] {
            assert_eq!(decoded(&kind, nothing), [json!({})]);
        }
    }

    #[test]
    fn lines_that_are_no_json_are_left_out() {
        let kind = json!({"type": "JsonlDecoder"});
        assert_eq!(decoded(&kind, b"{\"a\": 1}\n\nnot json\n[NaN]\n{\"a\": 2}"), [json!({"a": 1}), json!([null]), json!({"a": 2})]);
    }

    #[test]
    fn lines_are_records_of_one_field() {
        let kind = json!({"type": "IterableDecoder"});
        let record = |text: &str| json!({ "record": text });
        assert_eq!(decoded(&kind, b"a\r\n\nb\rc"), [record("a"), record(""), record("b"), record("c")]);
    }

    #[test]
    fn tables_are_read_as_pythons_reader_reads_them() {
        let kind = json!({"type": "CsvDecoder"});
        assert_eq!(
            decoded(&kind, b"id,name\r\n1,\"a \"\"b\"\",\r\nc\"\r\n\r\n2\r\n3,x,y,z\r\n"),
            [
                json!({"id": "1", "name": "a \"b\",\nc"}),
                json!({"id": "2", "name": null}),
                json!({"id": "3", "name": "x", "null": ["y", "z"]})
            ]
        );
        let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain("id\tn\n1\t\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let kind = json!({"type": "CsvDecoder", "delimiter": "\\t", "encoding": "utf-16", "set_values_to_none": [""]});
        assert_eq!(decoded(&kind, &utf16), [json!({"id": "1", "n": null})]);
    }

    #[test]
    fn gzip_is_opened_where_there_is_some() {
        let kind = json!({"type": "GzipDecoder", "decoder": {"type": "JsonlDecoder"}});
        let body = [gzip(b"{\"a\": 1}\n"), gzip(b"{\"a\": 2}\n")].concat();
        assert_eq!(decoded(&kind, &body), [json!({"a": 1}), json!({"a": 2})]);
        assert_eq!(decoded(&kind, b"{\"a\": 3}\n"), [json!({"a": 3})]);
        let twice = json!({"type": "GzipDecoder", "decoder": {"type": "GzipDecoder", "decoder": {"type": "JsonDecoder"}}});
        assert_eq!(decoded(&twice, &gzip(&gzip(b"[1]"))), [json!(1)]);
    }

    #[test]
    fn items_of_one_list_are_found_by_their_path() {
        let kind = json!({"type": "JsonItemsDecoder", "items_path": "data.rows"});
        assert_eq!(decoded(&kind, br#"{"x": [1], "data": {"rows": [{"a": 1}, 2]}}"#), [json!({"a": 1}), json!(2)]);
        let kind = json!({"type": "JsonItemsDecoder", "items_path": "item.rows"});
        assert_eq!(decoded(&kind, br#"[{"rows": [1]}, {"rows": [2]}]"#), [json!(1), json!(2)]);
    }
}
