//! A stream of the house as an entry of a catalog: what its columns are as JSON, what it is found by, how it can be read.

use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::{
    Cursor, Stream, is_feed_column,
    native::{DECIMAL_TEXT, JSON_TEXT, SPECIAL_OF, has_mark},
};
use serde_json::{Map, Value, json};

use super::feed;

/// Decimals up to this many digits are written as numbers.
const DOUBLE_DIGITS: u8 = 15;

/// One stream of a CATALOG message.
pub(crate) fn entry(stream: &Stream) -> Value {
    let properties = stream.schema.fields().iter().filter(|f| !is_feed_column(f.name()));
    let mut properties: Map<String, Value> = properties.map(|f| (f.name().clone(), schema_of(f))).collect();
    if stream.cursor == Cursor::SourceDefined || feed::is_feed(&stream.schema) {
        properties.insert(feed::DELETED_AT.to_owned(), json!({"type": ["null", "string"], "format": "date-time"}));
    }
    let mut entry = json!({
        "name": stream.name.name,
        "json_schema": {
            "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": properties, "additionalProperties": true,
        },
    });
    let modes: &[&str] = if stream.cursor == Cursor::None { &["full_refresh"] } else { &["full_refresh", "incremental"] };
    entry["supported_sync_modes"] = json!(modes);
    match &stream.cursor {
        Cursor::SourceDefined => entry["source_defined_cursor"] = true.into(),
        Cursor::Columns(columns) => {
            entry["source_defined_cursor"] = false.into();
            entry["default_cursor_field"] = columns.iter().take(1).map(String::as_str).collect();
        }
        Cursor::None => {}
    }
    entry["source_defined_primary_key"] = stream.key.iter().map(|column| json!([column])).collect();
    if let Some(namespace) = &stream.name.namespace {
        entry["namespace"] = namespace.as_ref().into();
    }
    entry["is_resumable"] = (stream.cursor != Cursor::None).into();
    entry
}

fn schema_of(field: &Field) -> Value {
    if has_mark(field, JSON_TEXT) {
        return json!({"type": ["null", "object", "array", "string", "number", "boolean"]});
    }
    if has_mark(field, DECIMAL_TEXT) {
        return json!({"type": ["null", "string"], "airbyte_type": "big_number"});
    }
    if has_mark(field, SPECIAL_OF) {
        return json!({"type": ["null", "integer"]});
    }
    of_type(field.data_type())
}

fn of_type(kind: &DataType) -> Value {
    use DataType as T;
    match kind {
        T::Boolean => json!({"type": ["null", "boolean"]}),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            json!({"type": ["null", "integer"]})
        }
        // NaN and the infinities are no JSON numbers: they are texts.
        T::Float16 | T::Float32 | T::Float64 => json!({"type": ["null", "number"]}),
        T::Decimal32(precision, _) | T::Decimal64(precision, _) | T::Decimal128(precision, _) | T::Decimal256(precision, _) => {
            if *precision <= DOUBLE_DIGITS {
                json!({"type": ["null", "number"]})
            } else {
                json!({"type": ["null", "string"], "airbyte_type": "big_number"})
            }
        }
        T::Date32 | T::Date64 => json!({"type": ["null", "string"], "format": "date"}),
        T::Time32(_) | T::Time64(_) => {
            json!({"type": ["null", "string"], "format": "time", "airbyte_type": "time_without_timezone"})
        }
        T::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) => {
            let word = if zone.is_some() { "timestamp_with_timezone" } else { "timestamp_without_timezone" };
            json!({"type": ["null", "string"], "format": "date-time", "airbyte_type": word})
        }
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
            json!({"type": ["null", "string"], "contentEncoding": "base64"})
        }
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
            json!({"type": ["null", "array"], "items": schema_of(item)})
        }
        T::Struct(fields) => {
            let properties: Map<String, Value> = fields.iter().map(|f| (f.name().clone(), schema_of(f))).collect();
            json!({"type": ["null", "object"], "properties": properties})
        }
        T::Map(..) => json!({"type": ["null", "object"]}),
        T::Dictionary(_, value) => of_type(value),
        _ => json!({"type": ["null", "string"]}),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;
    use linkspan_core::{StreamName, native::with_mark};

    use super::*;

    #[test]
    fn a_stream_says_its_columns_key_cursor_and_modes() {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("at", instant, true),
            with_mark(Field::new("doc", DataType::Utf8, true), JSON_TEXT, ""),
            Field::new("price", DataType::Decimal128(38, 2), true),
            Field::new("_ls_op", DataType::Utf8, false),
        ]);
        let stream = Stream {
            name: StreamName::new(Some("public"), "orders"),
            schema: Arc::new(schema),
            key: vec!["id".into()],
            cursor: Cursor::Columns(vec!["at".into(), "id".into()]),
            estimated_rows: None,
            estimated_bytes: None,
        };
        let entry = entry(&stream);
        let fields = entry["json_schema"]["properties"].as_object().unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["id", "at", "doc", "price", feed::DELETED_AT]);
        assert_eq!(fields["at"]["airbyte_type"], "timestamp_with_timezone");
        assert_eq!(fields["price"]["airbyte_type"], "big_number");
        assert_eq!((&entry["namespace"], &entry["source_defined_primary_key"]), (&json!("public"), &json!([["id"]])));
        assert_eq!(entry["default_cursor_field"], json!(["at"]));
        assert_eq!(entry["supported_sync_modes"], json!(["full_refresh", "incremental"]));
    }
}
