//! A stream as a program describes it, as the house's own, and as it is asked for again.

use linkspan_core::{Cursor, Error, ErrorKind, ReadMode, Repeats, Result, Selected, Stream, StreamName};
use serde_json::{Value, json};

use crate::{connector::Shape, protocol::Descriptor};

pub(super) fn name(described: &Value) -> Option<StreamName> {
    Some(StreamName::new(described["namespace"].as_str(), described["name"].as_str()?))
}

pub(super) fn descriptor(name: &StreamName) -> Descriptor {
    Descriptor { name: name.name.to_string(), namespace: name.namespace.as_deref().map(Into::into) }
}

/// The stream, with what is first in paths: fields inside of fields are no columns here.
pub(super) fn stream(described: &Value) -> Result<Stream> {
    let unnamed = || Error::new(ErrorKind::DataInvalid, "the program describes a stream without a name");
    let name = name(described).ok_or_else(unnamed)?;
    let mut shape = Shape::of(&described["json_schema"]);
    let key: Vec<String> = paths(&described["source_defined_primary_key"]).unwrap_or_default();
    let can_go_on = described["supported_sync_modes"].as_array().is_some_and(|modes| modes.iter().any(|mode| mode == "incremental"));
    let cursors: Vec<String> = described["default_cursor_field"].as_array().into_iter().flatten().filter_map(text).collect();
    let cursor = match (can_go_on, described["source_defined_cursor"].as_bool()) {
        (false, _) => Cursor::None,
        (true, Some(true)) => Cursor::SourceDefined,
        (true, _) if cursors.len() == 1 => Cursor::Columns(cursors),
        (true, _) => Cursor::Columns(shape.names()),
    };
    key.iter().for_each(|column| shape.know(column));
    if let Cursor::Columns(columns) = &cursor {
        columns.iter().for_each(|column| shape.know(column));
    }
    Ok(Stream { name, schema: shape.schema(), key, cursor, estimated_rows: None, estimated_bytes: None })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Paths of one name each; `None` where one leads into a field.
fn paths(value: &Value) -> Option<Vec<String>> {
    let one = |path: &Value| match path.as_array().map(Vec::as_slice) {
        Some([name]) => text(name),
        _ => None,
    };
    value.as_array()?.iter().map(one).collect()
}

/// The catalog that asks for one stream.
pub(super) fn asked(described: &Value, wanted: &Selected) -> Value {
    let sync = if wanted.read == ReadMode::Full { "full_refresh" } else { "incremental" };
    let write = if wanted.repeats == Repeats::Folded { "append_dedup" } else { "append" };
    let key = &described["source_defined_primary_key"];
    let cursor: Vec<&str> = match &wanted.cursor {
        Some(column) => vec![column],
        None => described["default_cursor_field"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let mut stream = json!({"stream": described, "sync_mode": sync, "destination_sync_mode": write, "cursor_field": cursor});
    if key.is_array() {
        stream["primary_key"] = key.clone();
    }
    json!({"streams": [stream]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_described_stream_is_one_of_the_house_and_is_asked_for_as_it_was_described() {
        let described = json!({"name": "users", "json_schema": {"properties": {"id": {"type": "integer"}, "address": {"type": "object"}}},
            "supported_sync_modes": ["full_refresh", "incremental"], "source_defined_cursor": true, "default_cursor_field": ["updated_at"],
            "source_defined_primary_key": [["id"]], "is_file_based": false});
        let stream = stream(&described).unwrap();
        assert_eq!((stream.key.as_slice(), &stream.cursor), (&["id".to_owned()][..], &Cursor::SourceDefined));
        let wanted = Selected { stream, read: ReadMode::Incremental, cursor: None, repeats: Repeats::Folded };
        let catalog = asked(&described, &wanted);
        let one = &catalog["streams"][0];
        assert_eq!((&one["stream"], &one["sync_mode"]), (&described, &json!("incremental")));
        assert_eq!((&one["cursor_field"], &one["primary_key"]), (&json!(["updated_at"]), &json!([["id"]])));
    }

    #[test]
    fn a_key_inside_of_a_field_is_no_key_here() {
        let described = json!({"name": "a", "source_defined_primary_key": [["x", "id"]], "supported_sync_modes": ["full_refresh"]});
        let stream = stream(&described).unwrap();
        assert_eq!((stream.key.len(), stream.cursor), (0, Cursor::None));
        assert!(super::stream(&json!({"json_schema": {}})).is_err());
    }
}
