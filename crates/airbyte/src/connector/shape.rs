//! The columns of a stream of JSON records: from its schema, and from records that say more than it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::native::{JSON_TEXT, has_mark, with_mark};
use serde_json::Value;

/// What a column holds. Later kinds hold more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Float,
    /// Texts as they are, anything else as its JSON.
    Text,
    /// Everything as JSON.
    Json,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shape(Vec<(String, Kind)>);

/// Doubles hold integers up to here exactly.
const EXACT: u64 = 1 << 53;

impl Shape {
    /// The properties of a JSON schema.
    pub(crate) fn of(schema: &Value) -> Self {
        let properties = schema.get("properties").and_then(Value::as_object);
        Self(properties.into_iter().flatten().map(|(name, property)| (name.clone(), kind_of(property))).collect())
    }
    pub(crate) fn of_columns(schema: &Schema) -> Self {
        let kind = |field: &Field| match field.data_type() {
            DataType::Boolean => Kind::Bool,
            DataType::Int64 => Kind::Int,
            DataType::Float64 => Kind::Float,
            _ if has_mark(field, JSON_TEXT) => Kind::Json,
            _ => Kind::Text,
        };
        Self(schema.fields().iter().map(|field| (field.name().clone(), kind(field))).collect())
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
    /// A column that must be there, of texts when nothing better is known.
    pub(crate) fn know(&mut self, name: &str) {
        if self.place(name).is_none() {
            self.0.push((name.to_owned(), Kind::Text));
        }
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |(name, kind): &(String, Kind)| match kind {
            Kind::Bool => Field::new(name, DataType::Boolean, true),
            Kind::Int => Field::new(name, DataType::Int64, true),
            Kind::Float => Field::new(name, DataType::Float64, true),
            Kind::Text => Field::new(name, DataType::Utf8, true),
            Kind::Json => with_mark(Field::new(name, DataType::Utf8, true), JSON_TEXT, ""),
        };
        Arc::new(Schema::new(self.0.iter().map(field).collect::<Vec<_>>()))
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// Widens to what the record holds; whether anything changed.
    pub(crate) fn learn(&mut self, record: &Value) -> bool {
        let Value::Object(fields) = record else { return false };
        let mut changed = false;
        for (at, (name, value)) in fields.iter().enumerate() {
            if value.is_null() {
                continue;
            }
            // Records keep to the schema's order more often than not.
            let place = self.0.get(at).filter(|(known, _)| known == name).map(|_| at).or_else(|| self.place(name));
            match place {
                Some(place) if fits(self.0[place].1, value) => continue,
                Some(place) => self.0[place].1 = widened(self.0[place].1, value),
                None => self.0.push((name.clone(), natural(value))),
            }
            changed = true;
        }
        changed
    }

    /// The record as one line of JSON that the columns can hold. `learn` has seen it.
    pub(crate) fn write(&self, record: &Value, out: &mut Vec<u8>) {
        let Value::Object(fields) = record else {
            out.extend_from_slice(b"{}");
            return;
        };
        out.push(b'{');
        let mut first = true;
        for (at, (name, value)) in fields.iter().enumerate() {
            if value.is_null() {
                continue;
            }
            let place = self.0.get(at).filter(|(known, _)| known == name).map(|_| at).or_else(|| self.place(name));
            let Some(place) = place else { continue };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            put(out, name);
            out.push(b':');
            written(self.0[place].1, value, out);
        }
        out.push(b'}');
    }
}

fn put(out: &mut Vec<u8>, value: impl serde::Serialize) {
    serde_json::to_writer(out, &value).expect("a buffer takes every JSON value");
}

fn written(kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (Kind::Json, value) => put(out, value.to_string()),
        (Kind::Text, Value::String(text)) => put(out, text),
        (Kind::Text, value) => put(out, value.to_string()),
        (Kind::Int, Value::Number(number)) if !number.is_i64() => put(out, number.as_f64().unwrap_or_default() as i64),
        (_, value) => put(out, value),
    }
}

fn fits(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Json | Kind::Text, _) | (Kind::Bool, Value::Bool(_)) => true,
        (Kind::Int, Value::Number(number)) => {
            number.is_i64() || number.as_f64().is_some_and(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < EXACT as f64)
        }
        (Kind::Float, Value::Number(number)) => number.is_f64() || number.as_i64().is_some_and(|n| n.unsigned_abs() <= EXACT),
        _ => false,
    }
}

fn natural(value: &Value) -> Kind {
    match value {
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_i64() => Kind::Int,
        Value::Number(number) if number.is_f64() => Kind::Float,
        Value::Array(_) | Value::Object(_) => Kind::Json,
        _ => Kind::Text,
    }
}

fn widened(kind: Kind, value: &Value) -> Kind {
    match (kind, natural(value)) {
        (Kind::Int, Kind::Float) => Kind::Float,
        (_, Kind::Json) => Kind::Json,
        _ => Kind::Text,
    }
}

fn kind_of(property: &Value) -> Kind {
    let kinds: Vec<&str> = match property.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let kinds: Vec<&str> = kinds.into_iter().filter(|kind| *kind != "null").collect();
    match kinds.as_slice() {
        ["boolean"] => Kind::Bool,
        ["integer"] => Kind::Int,
        ["number"] | ["number", "integer"] | ["integer", "number"] => Kind::Float,
        [] => Kind::Json,
        kinds if kinds.iter().any(|kind| matches!(*kind, "object" | "array")) => Kind::Json,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(shape: &Shape, record: &Value) -> Value {
        let mut out = Vec::new();
        shape.write(record, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn columns_come_from_the_schema_and_widen_to_what_records_hold() {
        let schema = json!({"properties": {"id": {"type": "integer"}, "n": {"type": ["null", "number"]}, "t": {"type": "string", "format": "date-time"},
            "o": {"type": "object"}, "b": {"type": "boolean"}, "any": {}}});
        let mut shape = Shape::of(&schema);
        let record = json!({"id": 1.0, "n": 2, "t": "2024-01-01", "o": {"a": [1]}, "b": true, "any": "x", "none": null});
        assert!(!shape.learn(&record));
        assert_eq!(line(&shape, &record), json!({"id": 1, "n": 2, "t": "2024-01-01", "o": "{\"a\":[1]}", "b": true, "any": "\"x\""}));
        let wide = json!({"id": "a-1", "n": 9_007_199_254_740_993i64, "t": 5, "b": 0, "new": [1]});
        assert!(shape.learn(&wide));
        assert!(!shape.learn(&wide));
        assert_eq!(line(&shape, &wide), json!({"id": "a-1", "n": "9007199254740993", "t": "5", "b": "0", "new": "[1]"}));
        let kinds: Vec<String> = shape.schema().fields().iter().map(|f| f.data_type().to_string()).collect();
        assert_eq!(kinds, ["Utf8", "Utf8", "Utf8", "Utf8", "Utf8", "Utf8", "Utf8"]);
    }
}
