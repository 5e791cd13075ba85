//! Values made what their schema says, as far as that can be done: texts of numbers become numbers, single items lists.

use serde_json::{Number, Value};

use crate::{python::text, truth::is_true};

/// A schema may refer to itself: no deeper than this.
const DEEPEST: u32 = 64;

/// Changes the record's values in place. What cannot be changed stays as it is.
pub fn normalize(record: &mut Value, schema: &Value) {
    walk(record, schema, schema, 0);
}

fn walk(value: &mut Value, schema: &Value, root: &Value, depth: u32) {
    let Value::Object(keywords) = schema else { return };
    if depth > DEEPEST {
        return;
    }
    for (keyword, rule) in keywords {
        match (keyword.as_str(), &mut *value) {
            ("$ref", value) => {
                let target = rule.as_str().and_then(|r| r.strip_prefix('#')).and_then(|pointer| root.pointer(pointer));
                if let Some(target) = target {
                    walk(value, target, root, depth + 1);
                }
            }
            ("properties", Value::Object(map)) => {
                for (name, inner) in rule.as_object().into_iter().flatten() {
                    if let Some(member) = map.get_mut(name) {
                        convert(member, inner);
                        walk(member, inner, root, depth + 1);
                    }
                }
            }
            ("items", Value::Array(items)) if rule.is_object() => {
                for item in items {
                    convert(item, rule);
                    walk(item, rule, root, depth + 1);
                }
            }
            _ => {}
        }
    }
}

/// One value by the one type that its schema allows beside null.
fn convert(value: &mut Value, schema: &Value) {
    let (kind, is_nullable) = match schema.get("type") {
        Some(Value::String(kind)) => (kind.as_str(), kind == "null"),
        Some(Value::Array(kinds)) => {
            let is_nullable = kinds.iter().any(|k| k == "null");
            let mut others = kinds.iter().filter(|k| *k != "null");
            let (Some(kind), None) = (others.next().and_then(Value::as_str), others.next()) else { return };
            (kind, is_nullable)
        }
        _ => return,
    };
    if value.is_null() && is_nullable {
        return;
    }
    let converted = match kind {
        "string" if value.is_string() => None,
        "string" => Some(text(value).into()),
        "number" => number(value),
        "integer" => integer(value),
        "boolean" => boolean(value),
        "array" => listed(value, schema),
        _ => None,
    };
    if let Some(converted) = converted {
        *value = converted;
    }
}

fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(b) => Some(f64::from(u8::from(*b)).into()),
        Value::Number(n) if n.is_f64() => None,
        Value::Number(n) => n.as_f64().map(Value::from),
        // What is no finite number leaves as null.
        Value::String(text) => python_float(text).map(|f| Number::from_f64(f).map_or(Value::Null, Value::Number)),
        _ => None,
    }
}

fn python_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.contains('_').then(|| text.replace('_', ""));
    digits.as_deref().unwrap_or(text).parse().ok()
}

fn integer(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(b) => Some(u8::from(*b).into()),
        Value::Number(n) if n.is_f64() => {
            let whole = n.as_f64()?.trunc();
            (whole.abs() < 9.0e18).then(|| Value::from(whole as i64))
        }
        Value::String(text) => text.trim().replace('_', "").parse::<i64>().ok().map(Value::from),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => None,
        Value::String(text) => match text.to_lowercase().trim() {
            "y" | "yes" | "t" | "true" | "on" | "1" => Some(true.into()),
            "n" | "no" | "f" | "false" | "off" | "0" => Some(false.into()),
            _ => None,
        },
        other => Some(is_true(other).into()),
    }
}

/// A single value in a list, where the items are simple: types written as a list, or none at all.
fn listed(value: &Value, schema: &Value) -> Option<Value> {
    const SIMPLE: [&str; 5] = ["string", "number", "integer", "boolean", "null"];
    let is_simple = match schema.get("items").and_then(|items| items.get("type")) {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().all(|k| k.as_str().is_some_and(|k| SIMPLE.contains(&k))),
        Some(_) => false,
    };
    (is_simple && !value.is_array() && !value.is_object()).then(|| vec![value.clone()].into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_what_their_schema_says() {
        let schema = json!({"type": "object", "properties": {
            "s": {"type": ["null", "string"]}, "n": {"type": "number"}, "i": {"type": ["integer", "null"]}, "b": {"type": "boolean"},
            "a": {"type": "array", "items": {"type": ["null", "string"]}}, "a2": {"type": "array", "items": {"type": "string"}},
            "o": {"type": "object", "properties": {"x": {"type": "string"}}}, "m": {"type": ["string", "number"]}, "r": {"$ref": "#/definitions/r"}},
            "definitions": {"r": {"properties": {"y": {"type": "integer"}}}}});
        let mut record = json!({"s": {"k": [1, null]}, "n": " 1_0.5 ", "i": 2.9, "b": "YES", "a": 1, "a2": "x", "o": {"x": true}, "m": 5,
            "r": {"y": "7"}, "z": 1});
        normalize(&mut record, &schema);
        assert_eq!(
            record,
            json!({"s": "{'k': [1, None]}", "n": 10.5, "i": 2, "b": true, "a": ["1"], "a2": "x", "o": {"x": "True"}, "m": 5, "r": {"y": 7}, "z": 1})
        );
        let mut record = json!({"s": null, "n": null, "i": "1.5", "b": "maybe", "a": ["2"]});
        normalize(&mut record, &schema);
        assert_eq!(record, json!({"s": null, "n": null, "i": "1.5", "b": "maybe", "a": ["2"]}));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let mut record = json!({"a": {"a": {"a": 1}}});
        normalize(&mut record, &json!({"properties": {"a": {"$ref": "#"}}}));
        normalize(&mut record, &json!({"$ref": "#"}));
        assert_eq!(record, json!({"a": {"a": {"a": 1}}}));
    }
}
