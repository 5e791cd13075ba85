//! An operation's input, field by field, as a command line can give it.

use linkspan_app::Operation;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// One field of the input.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub doc: String,
    /// A missing secret is no mistake of the command line: it is asked for.
    pub required: bool,
    pub kind: Kind,
}

/// What it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalar(Scalar),
    Boolean,
    Secret,
    List(Scalar),
    Object,
    /// A text, or an object where a text does not say enough.
    Either,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Text,
    Number,
}

/// Options that every such command has; a field of that name is spelled differently.
const TAKEN: &[&str] = &["server", "api-key", "project", "profile", "input", "output", "color", "data-dir", "verbose", "help"];

impl Field {
    pub fn of(operation: &Operation) -> Vec<Self> {
        let schema = operation.input();
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let one = |(name, field): (String, Value)| {
            let kind = kind(&schema, &field);
            let doc = field["description"].as_str().unwrap_or_default().replace('\n', " ");
            Self { required: required.contains(&name.as_str()), doc, kind, name }
        };
        fields.into_iter().map(one).collect()
    }
    /// Unlike any of our own options.
    pub fn id(&self) -> String {
        format!("in.{}", self.name)
    }
    /// The flag that takes a secret from stdin.
    pub fn stdin_flag(&self) -> String {
        format!("{}-stdin", self.long())
    }
    pub fn long(&self) -> String {
        let long = self.name.replace('_', "-");
        if TAKEN.contains(&long.as_str()) { format!("with-{long}") } else { long }
    }
    /// The given texts as the field's value.
    pub fn value(&self, given: &[&str], read: &dyn Fn(&str) -> Result<String>) -> Result<Value> {
        let first = given.first().copied().unwrap_or_default();
        match &self.kind {
            Kind::Scalar(scalar) => Ok(scalar.value(first)),
            Kind::Boolean => first.parse().map(Value::Bool).map_err(|_| self.wrong("true or false")),
            Kind::Secret => read(first).map(Value::String),
            Kind::List(scalar) => Ok(given.iter().filter(|t| !t.is_empty()).map(|text| scalar.value(text)).collect()),
            Kind::Object => self.object(given, read),
            Kind::Either if given.len() == 1 && !first.trim_start().starts_with('{') && !first.starts_with('@') => Ok(first.into()),
            Kind::Either => self.object(given, read),
        }
    }
    /// JSON, or `field=value` as often as there are fields; `a.b=value` goes deeper.
    fn object(&self, given: &[&str], read: &dyn Fn(&str) -> Result<String>) -> Result<Value> {
        let mut whole = Map::new();
        for text in given {
            let text = if text.starts_with('@') || *text == "-" { read(text)? } else { (*text).to_owned() };
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                match value {
                    Value::Object(fields) => whole.extend(fields),
                    other if given.len() == 1 => return Ok(other),
                    _ => return Err(self.wrong("one JSON object, or FIELD=VALUE")),
                }
                continue;
            }
            let Some((path, value)) = text.split_once('=') else { return Err(self.wrong("JSON, or FIELD=VALUE")) };
            put(&mut whole, path, guessed(&read(value)?));
        }
        Ok(Value::Object(whole))
    }
    fn wrong(&self, expected: &str) -> Error {
        Error::new(ErrorKind::ConfigInvalid, format!("--{} has a value of the wrong kind", self.long())).with("expected", expected)
    }
}

impl Scalar {
    fn value(self, text: &str) -> Value {
        match self {
            Self::Text => Value::String(text.to_owned()),
            // What is no number goes as it is: the operation says what it expected.
            Self::Number => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number),
        }
    }
}

/// Numbers and truth values as such, all else as text; a text that looks like one is written with quotes.
fn guessed(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn put(fields: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(fields.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let below = fields.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

fn kind(schema: &Value, field: &Value) -> Kind {
    let field = followed(schema, field);
    if field["x-secret"] == true {
        return Kind::Secret;
    }
    let some = alternatives(field);
    if let [only] = some.as_slice() {
        return kind(schema, only);
    }
    match types(field).as_slice() {
        ["boolean"] => Kind::Boolean,
        ["integer" | "number"] => Kind::Scalar(Scalar::Number),
        ["string"] => Kind::Scalar(Scalar::Text),
        ["array"] => list(schema, &field["items"]),
        _ if !some.is_empty() && some.iter().all(|s| matches!(kind(schema, s), Kind::Scalar(Scalar::Text))) => Kind::Scalar(Scalar::Text),
        _ if some.iter().any(|s| matches!(kind(schema, s), Kind::List(_))) => Kind::List(Scalar::Text),
        _ if some.iter().any(|s| kind(schema, s) == Kind::Scalar(Scalar::Text)) => Kind::Either,
        _ if field["enum"].is_array() || field["const"].is_string() => Kind::Scalar(Scalar::Text),
        _ => Kind::Object,
    }
}

fn list(schema: &Value, items: &Value) -> Kind {
    match kind(schema, items) {
        Kind::Scalar(scalar) => Kind::List(scalar),
        // A list of names that may be said in full as well: names come with commas, the rest with --input.
        Kind::Either => Kind::List(Scalar::Text),
        _ => Kind::Object,
    }
}

fn followed<'a>(schema: &'a Value, field: &'a Value) -> &'a Value {
    let target = field["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/"));
    target.and_then(|name| schema["$defs"].get(name)).unwrap_or(field)
}

fn alternatives(field: &Value) -> Vec<&Value> {
    let all = ["anyOf", "oneOf"].into_iter().filter_map(|key| field[key].as_array()).flatten();
    all.filter(|one| one["type"] != "null").collect()
}

fn types(field: &Value) -> Vec<&str> {
    match &field["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_are_read_through_options_and_references() {
        let schema = json!({"$defs": {"Role": {"enum": ["a", "b"], "type": "string"}, "Choice": {"anyOf": [{"type": "string"}, {"type": "object"}]}}});
        for (field, want) in [
            (json!({"type": ["string", "null"]}), Kind::Scalar(Scalar::Text)),
            (json!({"anyOf": [{"$ref": "#/$defs/Role"}, {"type": "null"}]}), Kind::Scalar(Scalar::Text)),
            (json!({"type": "integer"}), Kind::Scalar(Scalar::Number)),
            (json!({"type": ["boolean", "null"]}), Kind::Boolean),
            (json!({"type": "string", "x-secret": true}), Kind::Secret),
            (json!({"type": ["array", "null"], "items": {"type": "string"}}), Kind::List(Scalar::Text)),
            (json!({"type": "array", "items": {"$ref": "#/$defs/Choice"}}), Kind::List(Scalar::Text)),
            (json!({"type": "array", "items": {"type": "object"}}), Kind::Object),
            (json!(true), Kind::Object),
            (json!({"$ref": "#/$defs/Choice"}), Kind::Either),
            (json!({"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Choice"}}, {"type": "string"}]}), Kind::List(Scalar::Text)),
        ] {
            assert_eq!(kind(&schema, &field), want, "{field}");
        }
    }

    #[test]
    fn an_object_is_json_or_its_fields() {
        let field = Field { name: "config".into(), doc: String::new(), required: false, kind: Kind::Object };
        let value = |given: &[&str]| field.value(given, &|t| Ok(t.to_owned()));
        assert_eq!(value(&[r#"{"a": 1}"#, "b=x", "c.d=5", "c.e=true"]).unwrap(), json!({"a": 1, "b": "x", "c": {"d": 5, "e": true}}));
        assert_eq!(value(&["password=\"12\"", "url=postgres://a?b=c"]).unwrap(), json!({"password": "12", "url": "postgres://a?b=c"}));
        assert_eq!(value(&["nothing"]).unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }
}
