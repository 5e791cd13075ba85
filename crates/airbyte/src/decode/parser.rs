//! Parsers: what is inside of a stream of bytes, whatever it came in.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use linkspan_core::Result;
use serde_json::Value;

use super::{
    Elements,
    body::{LARGEST, Source, broken, invalid, whole},
    table::Table,
    text::Encoding,
};
use crate::{component::Component, page_text};

pub enum Parser {
    Json,
    JsonLines,
    JsonItems { path: Vec<String>, encoding: Encoding },
    Table(Table),
    Gzip(Box<Parser>),
}

impl Parser {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        match component.kind() {
            "JsonDecoder" => Ok(Self::Json),
            "JsonlDecoder" => Ok(Self::JsonLines),
            "JsonItemsDecoder" => {
                let path = component.required_text("items_path")?;
                if path.is_empty() {
                    return Err(component.error("items_path is empty"));
                }
                Ok(Self::JsonItems { path: path.split('.').map(Into::into).collect(), encoding: Encoding::of(component)? })
            }
            "CsvDecoder" => Table::build(component).map(Self::Table),
            "GzipDecoder" => Self::build(&component.required("decoder")?).map(Box::new).map(Self::Gzip),
            _ => Err(component.unknown_kind()),
        }
    }

    pub fn is_json(&self) -> bool {
        match self {
            Self::Json => true,
            Self::Gzip(inner) => matches!(**inner, Self::Json),
            _ => false,
        }
    }

    pub fn parse<'a>(&'a self, mut source: Source<'a>) -> Result<Elements<'a>> {
        match self {
            Self::Json => {
                let value = page_text::parse(&whole(source)?).filter(|v| !v.is_null()).ok_or_else(|| invalid("the answer is no JSON"))?;
                Ok(match value {
                    Value::Array(items) => Box::new(items.into_iter().map(Ok)),
                    one => Box::new(std::iter::once(Ok(one))),
                })
            }
            Self::JsonLines => Ok(Box::new(json_lines(source))),
            Self::JsonItems { path, encoding } => {
                let text = encoding.decoded(&whole(source)?)?;
                let value = page_text::parse(text.as_bytes()).ok_or_else(|| invalid("the answer is no JSON"))?;
                let mut found = Vec::new();
                items(value, path, &mut found);
                Ok(Box::new(found.into_iter().map(Ok)))
            }
            Self::Table(table) => table.rows(source),
            Self::Gzip(inner) => {
                let head = source.fill_buf().map_err(broken)?;
                match head.starts_with(&[0x1F, 0x8B]) {
                    true => inner.parse(Box::new(BufReader::new(MultiGzDecoder::new(source)))),
                    false => inner.parse(source),
                }
            }
        }
    }
}

fn json_lines(mut source: Source<'_>) -> impl Iterator<Item = Result<Value>> + Send + '_ {
    std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            match (&mut source).take(LARGEST).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                // A line that is no JSON is passed over.
                Ok(_) => match page_text::parse(&line) {
                    Some(value) => return Some(Ok(value)),
                    None => continue,
                },
                Err(e) => return Some(Err(broken(e))),
            }
        }
    })
}

/// The items of the list at a path of names; `item` steps through a list on the way.
fn items(value: Value, path: &[String], found: &mut Vec<Value>) {
    match (value, path.split_first()) {
        (Value::Array(list), None) => found.extend(list),
        (Value::Object(mut map), None) => found.extend(map.shift_remove("item")),
        (Value::Object(mut map), Some((name, rest))) => {
            if let Some(inner) = map.shift_remove(name) {
                items(inner, rest, found);
            }
        }
        (Value::Array(list), Some((name, rest))) if name == "item" => list.into_iter().for_each(|inner| items(inner, rest, found)),
        _ => {}
    }
}
