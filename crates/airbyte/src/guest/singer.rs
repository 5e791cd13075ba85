//! Singer taps: a catalog as one document, records by the name of their stream, one state for whatever was selected.

use linkspan_core::{Cursor, Error, ErrorKind, ReadMode, Result, Selected, Stream, StreamName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::lines::Said;
use crate::{connector::Shape, protocol::Descriptor};

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    stream: Option<String>,
    record: Option<Value>,
    value: Option<Value>,
}

/// What a line says; `None` for a line that is no message, or one that nobody needs.
pub(super) fn parse(line: &[u8]) -> Option<Said> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    match line.kind.as_str() {
        "RECORD" => Some(Said::Record { stream: Descriptor { name: line.stream?, namespace: None }, data: line.record? }),
        "STATE" => line.value.map(Said::State),
        "BATCH" => Some(Said::Refused("the tap hands out files of rows (BATCH), which cannot be read")),
        _ => None,
    }
}

/// The streams of a catalog document.
pub(super) fn streams(document: &str) -> Result<Vec<Value>> {
    // Some taps say a word before their catalog.
    let start = document.find('{').unwrap_or(document.len());
    let mut catalog: Value = serde_json::from_str(&document[start..]).map_err(|_| no_catalog())?;
    match catalog["streams"].take() {
        Value::Array(streams) => Ok(streams),
        _ => Err(no_catalog()),
    }
}

fn no_catalog() -> Error {
    Error::new(ErrorKind::DataInvalid, "the program did not answer `--discover` with a catalog")
        .fix("see that it is a Singer tap that can discover")
}

/// The id is the name: tables of two schemas may share the shorter one.
pub(super) fn name(described: &Value) -> Option<StreamName> {
    let name = described["tap_stream_id"].as_str().or(described["stream"].as_str())?;
    Some(StreamName::new(None, name))
}

/// The names under which its records come.
pub(super) fn descriptors(described: &Value) -> Vec<Descriptor> {
    let names = ["tap_stream_id", "stream"].into_iter().filter_map(|field| described[field].as_str());
    names.map(|name| Descriptor { name: name.to_owned(), namespace: None }).collect()
}

/// The metadata of the stream itself.
fn root(described: &Value) -> Map<String, Value> {
    let all = described["metadata"].as_array().into_iter().flatten();
    let root = all.into_iter().find(|entry| entry["breadcrumb"].as_array().is_some_and(Vec::is_empty));
    root.and_then(|entry| entry["metadata"].as_object().cloned()).unwrap_or_default()
}

fn names(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

pub(super) fn stream(described: &Value) -> Result<Stream> {
    let name = name(described).ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the program describes a stream without a name"))?;
    let mut shape = Shape::of(&described["schema"]);
    let root = root(described);
    let keys = ["table-key-properties", "view-key-properties"].map(|field| names(root.get(field)));
    let key = keys.into_iter().chain([names(described.get("key_properties"))]).find(|key| !key.is_empty()).unwrap_or_default();
    key.iter().for_each(|column| shape.know(column));
    let method = ["forced-replication-method", "replication-method"].into_iter().find_map(|field| root.get(field)?.as_str());
    let one = root.get("replication-key").or(described.get("replication_key")).and_then(Value::as_str);
    let valid = names(root.get("valid-replication-keys"));
    let cursor = match (method.or(described["replication_method"].as_str()), one) {
        (Some("FULL_TABLE"), _) => Cursor::None,
        (_, Some(one)) => Cursor::Columns(vec![one.to_owned()]),
        _ if !valid.is_empty() => Cursor::Columns(valid),
        _ => Cursor::Columns(shape.names()),
    };
    Ok(Stream { name, schema: shape.schema(), key, cursor, estimated_rows: None, estimated_bytes: None })
}

/// The catalog with one stream, selected with all that it has.
pub(super) fn asked(described: &Value, wanted: &Selected) -> Value {
    let mut stream = described.clone();
    let method = if wanted.read == ReadMode::Full { "FULL_TABLE" } else { "INCREMENTAL" };
    let mut all: Vec<Value> = described["metadata"].as_array().cloned().unwrap_or_default();
    if !all.iter().any(|entry| entry["breadcrumb"].as_array().is_some_and(Vec::is_empty)) {
        all.push(json!({"breadcrumb": [], "metadata": {}}));
    }
    for entry in &mut all {
        let is_root = entry["breadcrumb"].as_array().is_some_and(Vec::is_empty);
        if entry["metadata"]["inclusion"] == "unsupported" {
            continue;
        }
        entry["metadata"]["selected"] = true.into();
        if is_root {
            entry["metadata"]["replication-method"] = method.into();
            if let Some(cursor) = &wanted.cursor {
                entry["metadata"]["replication-key"] = cursor.as_str().into();
            }
        }
    }
    stream["metadata"] = all.into();
    stream["selected"] = true.into();
    stream["replication_method"] = method.into();
    if let Some(cursor) = &wanted.cursor {
        stream["replication_key"] = cursor.as_str().into();
    }
    json!({"streams": [stream]})
}

#[cfg(test)]
mod tests {
    use linkspan_core::Repeats;

    use super::*;

    fn described() -> Value {
        json!({"tap_stream_id": "public-users", "stream": "users", "schema": {"properties": {"id": {"type": "integer"}, "at": {"type": "string"}}},
            "metadata": [{"breadcrumb": [], "metadata": {"table-key-properties": ["id"], "valid-replication-keys": ["at"]}},
                {"breadcrumb": ["properties", "at"], "metadata": {"inclusion": "available"}},
                {"breadcrumb": ["properties", "x"], "metadata": {"inclusion": "unsupported"}}]})
    }

    #[test]
    fn a_tap_s_stream_has_its_key_and_its_cursor_and_is_asked_for_by_metadata() {
        let stream = stream(&described()).unwrap();
        assert_eq!(
            (&*stream.name.name, &stream.key, &stream.cursor),
            ("public-users", &vec!["id".to_owned()], &Cursor::Columns(vec!["at".into()]))
        );
        let wanted = Selected { stream, read: ReadMode::Incremental, cursor: Some("at".into()), repeats: Repeats::Kept };
        let one = asked(&described(), &wanted)["streams"][0].clone();
        assert_eq!(one["metadata"][0]["metadata"]["replication-method"], "INCREMENTAL");
        assert_eq!(one["metadata"][0]["metadata"]["replication-key"], "at");
        assert_eq!(
            (&one["metadata"][1]["metadata"]["selected"], &one["metadata"][2]["metadata"]["selected"]),
            (&json!(true), &Value::Null)
        );
        let bare = json!({"stream": "a", "schema": {}, "replication_method": "FULL_TABLE"});
        assert_eq!(super::stream(&bare).unwrap().cursor, Cursor::None);
        assert_eq!(asked(&bare, &wanted)["streams"][0]["metadata"][0]["metadata"]["selected"], true);
    }

    #[test]
    fn a_catalog_may_follow_a_word_and_what_is_none_is_said() {
        assert_eq!(streams("hello\n{\"streams\": [{}]}").unwrap().len(), 1);
        for bad in ["", "hello", "{}", "{\"streams\": 1}", "[]"] {
            assert_eq!(streams(bad).unwrap_err().kind(), ErrorKind::DataInvalid, "{bad}");
        }
    }

    #[test]
    fn lines_are_told_apart() {
        assert!(matches!(parse(br#"{"type":"RECORD","stream":"a","record":{"id":1},"version":1}"#), Some(Said::Record { .. })));
        assert!(matches!(parse(br#"{"type":"STATE","value":{"bookmarks":{}}}"#), Some(Said::State(_))));
        assert!(matches!(parse(br#"{"type":"BATCH","stream":"a"}"#), Some(Said::Refused(_))));
        for nothing in
            [&br#"{"type":"SCHEMA","stream":"a","schema":{}}"#[..], br#"{"type":"ACTIVATE_VERSION","stream":"a","version":1}"#, b"x", b"{}"]
        {
            assert!(parse(nothing).is_none());
        }
    }
}
