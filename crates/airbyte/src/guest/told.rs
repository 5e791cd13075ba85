//! What a destination program is told, in either language: its catalog or schemas, records, and the state that it must say back.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use linkspan_core::{Cursor, Error, ErrorKind, LoadStream, Result, Stream, StreamName, WriteMode};
use memchr::memchr;
use serde_json::{Map, Value, json};

use super::language::Language;
use crate::program::{Encode, feed_records, is_feed, stream_entry};

/// The columns and the way of a stream, as a program is told of them.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub load: LoadStream,
    /// Its entry of a catalog.
    pub entry: Value,
}

impl Described {
    pub(super) fn new(load: LoadStream, schema: SchemaRef) -> Self {
        let stream = Stream {
            name: told_name(&load),
            schema,
            key: load.key.clone(),
            cursor: Cursor::None,
            estimated_rows: None,
            estimated_bytes: None,
        };
        Self { entry: stream_entry(&stream), load }
    }
    /// The key by which a program finds rows; none where it appends.
    fn key(&self) -> &[String] {
        if self.load.write == WriteMode::Merge { &self.load.key } else { &[] }
    }
}

/// Its target, in the words of a stream.
pub(super) fn told_name(load: &LoadStream) -> StreamName {
    StreamName { namespace: load.target.namespace.clone(), name: load.target.name.clone() }
}

/// A Singer target knows one name; by its convention a schema stands before a dash.
fn singer_name(load: &LoadStream) -> String {
    match &load.target.namespace {
        Some(namespace) => format!("{namespace}-{}", load.target.name),
        None => load.target.name.to_string(),
    }
}

/// The configured catalog. `sync` counts the runs of the connection.
pub(super) fn catalog(streams: &BTreeMap<StreamName, Described>, sync: u64) -> Value {
    let one = |d: &Described| {
        let (mode, minimum) = match d.load.write {
            WriteMode::Append => ("append", 0),
            WriteMode::Merge => ("append_dedup", 0),
            WriteMode::Replace => ("overwrite", d.load.generation),
        };
        let key: Vec<[&String; 1]> = d.key().iter().map(|column| [column]).collect();
        json!({
            "stream": d.entry, "sync_mode": if d.load.write == WriteMode::Replace { "full_refresh" } else { "incremental" },
            "destination_sync_mode": mode, "primary_key": key, "cursor_field": [],
            "generation_id": d.load.generation, "minimum_generation_id": minimum, "sync_id": sync,
        })
    };
    json!({"streams": streams.values().map(one).collect::<Vec<_>>()})
}

/// What stands before the first record of a stream: Singer targets are told its schema, others know it from their catalog.
pub(super) fn opening(language: Language, described: &Described) -> Option<String> {
    match language {
        Language::Airbyte => None,
        Language::Singer => {
            let schema = &described.entry["json_schema"];
            let line =
                json!({"type": "SCHEMA", "stream": singer_name(&described.load), "schema": schema, "key_properties": described.key()});
            Some(format!("{line}\n"))
        }
    }
}

/// Rows as their objects, one a line.
fn objects(encode: Encode, rows: &RecordBatch, now: jiff::Timestamp) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    match is_feed(&rows.schema()) {
        true => encode(&feed_records(rows, &now.to_string())?, &mut text)?,
        false => encode(rows, &mut text)?,
    }
    Ok(text)
}

/// Objects, one a line, as records of a stream.
pub(super) fn records(language: Language, load: &LoadStream, objects: &[u8], now: jiff::Timestamp, version: Option<u64>) -> Vec<u8> {
    let (head, tail) = match language {
        Language::Airbyte => {
            let name = told_name(load);
            let namespace = name.namespace.map(|n| format!(",\"namespace\":{}", Value::from(&*n))).unwrap_or_default();
            let head = format!("{{\"type\":\"RECORD\",\"record\":{{\"stream\":{}{namespace},\"data\":", Value::from(&*name.name));
            (head, format!(",\"emitted_at\":{}}}}}\n", now.as_millisecond()))
        }
        Language::Singer => {
            let version = version.map(|v| format!(",\"version\":{v}")).unwrap_or_default();
            let head = format!("{{\"type\":\"RECORD\",\"stream\":{},\"record\":", Value::from(singer_name(load)));
            (head, format!("{version},\"time_extracted\":\"{now}\"}}\n"))
        }
    };
    let mut out = Vec::with_capacity(objects.len() * 2);
    let mut rest = objects;
    while let Some(end) = memchr(b'\n', rest) {
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(tail.as_bytes());
        rest = &rest[end + 1..];
    }
    out
}

/// What ends a flow: the states that must come back, and that the streams are whole. `token` is in every one of them.
pub(super) fn closing(language: Language, streams: &BTreeMap<StreamName, Described>, token: &str) -> String {
    let mut out = String::new();
    let mut say = |line: Value| {
        out.push_str(&line.to_string());
        out.push('\n');
    };
    match language {
        Language::Airbyte => {
            for described in streams.values() {
                let name = told_name(&described.load);
                let mut descriptor = json!({"name": name.name});
                if let Some(namespace) = &name.namespace {
                    descriptor["namespace"] = namespace.as_ref().into();
                }
                let state: Map<String, Value> = [("linkspan".to_owned(), Value::from(token))].into_iter().collect();
                say(
                    json!({"type": "STATE", "state": {"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": state}}}),
                );
                let status = json!({"stream_descriptor": descriptor, "status": "COMPLETE"});
                say(json!({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 0.0, "stream_status": status}}));
            }
        }
        Language::Singer => {
            for described in streams.values().filter(|d| d.load.write == WriteMode::Replace) {
                say(json!({"type": "ACTIVATE_VERSION", "stream": singer_name(&described.load), "version": described.load.generation}));
            }
            say(json!({"type": "STATE", "value": {"bookmarks": {"linkspan": {"replication_key_value": token}}}}));
        }
    }
    out
}

/// How many states with the token must come back.
pub(super) fn expected(language: Language, streams: &BTreeMap<StreamName, Described>) -> usize {
    if language == Language::Airbyte { streams.len() } else { 1 }
}

/// Whether a line of the program is a state with the token.
pub(super) fn is_acknowledged(language: Language, line: &[u8], token: &str) -> bool {
    memchr::memmem::find(line, token.as_bytes()).is_some()
        && match language {
            Language::Airbyte => serde_json::from_slice::<Value>(line).is_ok_and(|line| line["type"] == "STATE"),
            Language::Singer => serde_json::from_slice::<Value>(line).is_ok_and(|line| line.is_object()),
        }
}

/// Rows of a batch as their objects, whatever their form.
pub(super) fn of_batch(encode: Encode, rows: &linkspan_core::Rows, now: jiff::Timestamp) -> Result<Vec<u8>> {
    match rows {
        linkspan_core::Rows::Arrow(rows) => objects(encode, rows, now),
        linkspan_core::Rows::Json(rows) => {
            let mut text = Vec::with_capacity(rows.bytes() + rows.len());
            for at in 0..rows.len() {
                text.extend(rows.row(at).iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
                text.push(b'\n');
            }
            Ok(text)
        }
        _ => Err(Error::new(ErrorKind::Unsupported, "rows of this kind cannot be told to a program")),
    }
}

pub(super) type Streams = BTreeMap<StreamName, Described>;
