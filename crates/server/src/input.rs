//! How a request becomes an operation's input: path, query and body in one object, texts coerced by the schema.

use http::{HeaderMap, StatusCode, header};
use linkspan_core::{Error, ErrorKind};
use serde_json::{Map, Number, Value};

use crate::{
    limits,
    refusal::{Refusal, Result},
};

/// What one operation takes.
#[derive(Debug)]
pub struct Shape {
    schema: Value,
    placeholders: Vec<&'static str>,
}

/// A kind of value that a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    List,
    Other,
}

impl Shape {
    pub fn new(schema: Value, placeholders: Vec<&'static str>) -> Self {
        Self { schema, placeholders }
    }

    /// One object from the three places; a field that comes from two of them is a mistake, not a matter of order.
    pub fn input(&self, path: &[(String, String)], query: Option<&str>, body: Option<Value>) -> Result<Value> {
        let mut input = match body {
            None => Map::new(),
            Some(Value::Object(fields)) => fields.into_iter().map(|(name, value)| self.whole(name, value)).collect(),
            Some(_) => return Err(mistake("the body is not a JSON object").fix("send one object with the operation's fields").into()),
        };
        for (name, value) in self.query(query.unwrap_or_default())? {
            if input.insert(name.clone(), value).is_some() {
                return Err(twice(&name));
            }
        }
        for (name, text) in path.iter().filter(|(name, _)| self.placeholders.contains(&name.as_str())) {
            if text.contains('\0') {
                return Err(mistake("the path holds a character that no name has").with("field", name).into());
            }
            let value = self.coerced(name, text);
            if input.insert(name.clone(), value).is_some() {
                return Err(twice(name));
            }
        }
        Ok(Value::Object(input))
    }

    fn query(&self, query: &str) -> Result<Map<String, Value>> {
        let mut fields: Map<String, Value> = Map::new();
        // `?refresh` alone says yes; `?refresh=` says nothing that a yes or no could be.
        let pieces = query.split('&').filter_map(|piece| Some((url::form_urlencoded::parse(piece.as_bytes()).next()?, piece)));
        for ((name, text), piece) in pieces {
            let bare = !piece.contains('=') && self.kinds_of(&name).contains(&Kind::Boolean);
            let text = if bare { "true".into() } else { text };
            let is_list = self.kinds_of(&name).contains(&Kind::List);
            match fields.get_mut(name.as_ref()) {
                Some(Value::Array(items)) if is_list => items.push(self.item(&name, &text)),
                Some(_) => return Err(mistake("the query names a field twice").with("field", name).into()),
                None if is_list => drop(fields.insert(name.to_string(), Value::Array(vec![self.item(&name, &text)]))),
                None => drop(fields.insert(name.to_string(), self.coerced(&name, &text))),
            }
        }
        Ok(fields)
    }

    /// `5.0` is the integer 5, as JSON Schema has it.
    fn whole(&self, name: String, value: Value) -> (String, Value) {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match value.as_f64().filter(|f| value.is_f64() && f.fract() == 0.0 && f.abs() <= EXACT) {
            Some(_) if self.kinds_of(&name).contains(&Kind::Integer) => {
                let text = format!("{:.0}", value.as_f64().unwrap_or_default());
                (name, integer(&text).map_or(value, Value::Number))
            }
            _ => (name, value),
        }
    }
    /// A text as the field wants it; what fits nothing stays a text, and the decoder says what was expected.
    fn coerced(&self, name: &str, text: &str) -> Value {
        coerced(text, &self.kinds_of(name))
    }
    fn item(&self, name: &str, text: &str) -> Value {
        let items = self.schema["properties"].get(name).map(|field| self.items(field)).unwrap_or_default();
        coerced(text, &items)
    }
    fn kinds_of(&self, name: &str) -> Vec<Kind> {
        self.schema["properties"].get(name).map(|field| self.kinds(field)).unwrap_or_default()
    }
    fn items(&self, field: &Value) -> Vec<Kind> {
        let field = self.followed(field);
        if let Some(items) = field.get("items") {
            return self.kinds(items);
        }
        alternatives(field).flat_map(|one| self.items(one)).collect()
    }
    fn kinds(&self, field: &Value) -> Vec<Kind> {
        let field = self.followed(field);
        let named = match &field["type"] {
            Value::String(one) => vec![kind(one)],
            Value::Array(several) => several.iter().filter_map(Value::as_str).map(kind).collect(),
            _ if field.get("enum").is_some() || field["const"].is_string() => vec![Kind::Text],
            _ => vec![],
        };
        named.into_iter().chain(alternatives(field).flat_map(|one| self.kinds(one))).collect()
    }
    fn followed<'a>(&'a self, field: &'a Value) -> &'a Value {
        let target = field["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/"));
        target.and_then(|name| self.schema["$defs"].get(name)).unwrap_or(field)
    }
}

fn alternatives(field: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|key| field[key].as_array()).flatten()
}

fn kind(word: &str) -> Kind {
    match word {
        "string" => Kind::Text,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        "array" => Kind::List,
        _ => Kind::Other,
    }
}

fn coerced(text: &str, kinds: &[Kind]) -> Value {
    if kinds.contains(&Kind::Text) {
        return Value::String(text.to_owned());
    }
    let read = |kind: &Kind| match (kind, text) {
        (Kind::Boolean, "true") => Some(Value::Bool(true)),
        (Kind::Boolean, "false") => Some(Value::Bool(false)),
        (Kind::Integer, _) => integer(text).map(Value::Number),
        (Kind::Number, _) => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        _ => None,
    };
    kinds.iter().find_map(read).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Digits with an optional minus: no plus, no blanks, no fraction.
fn integer(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).ok()
}

/// A body as JSON; an empty one is none.
pub fn body(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<Value>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if !says_json(headers) {
        let error = mistake("the body is not sent as JSON").fix("send it with `Content-Type: application/json`");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
    }
    limits::json(bytes).map(Some)
}

/// A body without a type is taken for what it must be.
fn says_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn mistake(message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

fn twice(field: &str) -> Refusal {
    mistake("a field comes twice: from the address and from the body").with("field", field).fix("send it in one place").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape() -> Shape {
        let schema = json!({
            "properties": {
                "connector": {"type": "string"},
                "limit": {"type": ["integer", "null"]},
                "refresh": {"type": "boolean"},
                "ratio": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "status": {"$ref": "#/$defs/Status"},
                "streams": {"type": "array", "items": {"type": "string"}},
                "numbers": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
            },
            "$defs": {"Status": {"type": "string", "enum": ["failed"]}},
        });
        Shape::new(schema, vec!["connector"])
    }
    fn input(query: &str, body: Option<Value>) -> Result<Value> {
        shape().input(&[("connector".into(), "crm".into())], Some(query), body)
    }

    #[test]
    fn texts_become_what_the_schema_wants() {
        let got = input("limit=10&refresh&ratio=0.5&status=failed&streams=a&streams=b&numbers=7", None).expect("an input");
        let want = json!({"limit": 10, "refresh": true, "ratio": 0.5, "status": "failed", "streams": ["a", "b"], "numbers": [7],
            "connector": "crm"});
        assert_eq!(got, want);
    }
    #[test]
    fn what_fits_nothing_stays_a_text_and_an_unknown_field_is_kept_for_the_decoder() {
        assert_eq!(input("refresh=", None).expect("an input")["refresh"], json!(""));
        let got = input("limit=ten&refresh=yes&ratio=NaN&oops=1", None).expect("an input");
        assert_eq!(got, json!({"limit": "ten", "refresh": "yes", "ratio": "NaN", "oops": "1", "connector": "crm"}));
        for text in ["+1", " 1", "1.0", "", "-"] {
            assert_eq!(coerced(text, &[Kind::Integer]), json!(text));
        }
        assert_eq!(coerced("-1", &[Kind::Integer]), json!(-1));
        assert_eq!(coerced("18446744073709551615", &[Kind::Integer]), json!(u64::MAX));
    }
    #[test]
    fn an_integer_may_be_written_with_a_point() {
        let of = |body: Value| input("", Some(body)).expect("an input");
        assert_eq!(of(json!({"limit": 5.0, "ratio": 5.0}))["limit"], json!(5));
        assert_eq!(of(json!({"limit": 5.5}))["limit"], json!(5.5));
        assert_eq!(of(json!({"ratio": 5.0}))["ratio"], json!(5.0));
    }
    #[test]
    fn a_text_field_keeps_digits_as_they_are() {
        let got = shape().input(&[("connector".into(), "007".into())], None, None).expect("an input");
        assert_eq!(got["connector"], "007");
    }
    #[test]
    fn one_field_comes_from_one_place() {
        for (query, body) in [("limit=1&limit=2", None), ("limit=1", Some(json!({"limit": 1}))), ("", Some(json!({"connector": "other"})))]
        {
            assert_eq!(input(query, body).expect_err("refused").status, 400);
        }
        assert_eq!(input("connector=other", None).expect_err("refused").status, 400);
    }
    #[test]
    fn a_body_is_an_object() {
        assert_eq!(input("", Some(json!([1]))).expect_err("refused").status, 400);
    }
    #[test]
    fn only_json_is_read_as_json() {
        let typed = |value: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().expect("a header"))]);
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert_eq!(body(&typed(good), b"{}").expect("read"), Some(json!({})));
        }
        for bad in ["application/x-www-form-urlencoded", "text/plain", "json", "text/x+json"] {
            assert_eq!(body(&typed(bad), b"{}").expect_err("refused").status, 415, "{bad}");
        }
        assert_eq!(body(&HeaderMap::new(), b"{}").expect("read"), Some(json!({})));
        assert_eq!(body(&typed("text/plain"), b"").expect("nothing"), None);
    }
}
