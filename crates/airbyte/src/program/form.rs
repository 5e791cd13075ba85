//! A connector type's config as a platform's form: JSON Schema of the older draft, without references, secrets marked in its way.

use linkspan_core::ConnectorType;
use serde_json::{Map, Value, json};

/// Deeper than any config; a schema that refers to itself ends here.
const DEEPEST: usize = 12;

/// The `connectionSpecification` of a type.
pub fn specification(kind: &ConnectorType) -> Value {
    let schema = kind.config_schema();
    let mut form = plain(&schema, &schema, 0);
    if let Some(fields) = form.as_object_mut() {
        fields.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
        fields.insert("title".into(), kind.spec.title.as_ref().into());
        fields.entry("type").or_insert("object".into());
        fields.entry("properties").or_insert(json!({}));
        // Platforms put fields of their own into configs.
        fields.insert("additionalProperties".into(), true.into());
        if kind.spec.uploads.is_some() {
            // A program has no hub whose uploads could stand in for it.
            fields.insert("required".into(), json!(["path"]));
        }
    }
    form
}

fn plain(root: &Value, schema: &Value, depth: usize) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    if depth > DEEPEST {
        return json!({});
    }
    let mut out = Map::new();
    if let Some(target) = target(root, fields) {
        out = plain(root, target, depth + 1).as_object().cloned().unwrap_or_default();
    }
    for (key, value) in fields {
        match key.as_str() {
            "$ref" | "$defs" | "$schema" | "definitions" => {}
            "default" if value.is_null() => {}
            "x-secret" => {
                out.insert("airbyte_secret".into(), (*value != Value::Bool(false)).into());
            }
            "type" => {
                out.insert(key.clone(), without_null(value));
            }
            "properties" => {
                let all = value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), plain(root, v, depth + 1)));
                out.insert(key.clone(), all.collect::<Map<_, _>>().into());
            }
            "anyOf" | "oneOf" => alternatives(root, key, value, depth, &mut out),
            _ => {
                out.insert(key.clone(), plain(root, value, depth + 1));
            }
        }
    }
    if out.get("type").is_some_and(|kind| kind == "string") {
        // A platform guesses by names such as `key`; the type knows.
        out.entry("airbyte_secret").or_insert(false.into());
    }
    out.into()
}

fn target<'a>(root: &'a Value, fields: &Map<String, Value>) -> Option<&'a Value> {
    fields.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')))
}

/// What may be left out says so by not being required; a platform's form has no null.
fn without_null(kinds: &Value) -> Value {
    let Value::Array(all) = kinds else { return kinds.clone() };
    let kept: Vec<Value> = all.iter().filter(|kind| *kind != "null").cloned().collect();
    match kept.as_slice() {
        [one] => one.clone(),
        _ => kept.into(),
    }
}

/// One alternative beside null is that one; words with a description each are a list of words.
fn alternatives(root: &Value, key: &str, value: &Value, depth: usize, out: &mut Map<String, Value>) {
    let all = value.as_array().into_iter().flatten().filter(|one| one["type"] != "null");
    let all: Vec<Value> = all.map(|one| plain(root, one, depth + 1)).collect();
    if let [Value::Object(one)] = all.as_slice() {
        for (name, inner) in one {
            out.entry(name.clone()).or_insert_with(|| inner.clone());
        }
        return;
    }
    let words: Option<Vec<Value>> = all.iter().map(|one| one.get("const").cloned()).collect();
    match words {
        Some(words) if !words.is_empty() => {
            out.insert("type".into(), "string".into());
            out.insert("enum".into(), words.into());
        }
        _ => {
            out.insert(key.to_owned(), all.into());
        }
    }
}

/// The values of a config that must never be shown, as its type marks them.
pub fn secrets(kind: &ConnectorType, config: &Value) -> Vec<String> {
    let schema = kind.config_schema();
    let mut found = Vec::new();
    marked(&schema, &schema, config, 0, &mut found);
    found
}

fn marked(root: &Value, schema: &Value, config: &Value, depth: usize, found: &mut Vec<String>) {
    let Value::Object(fields) = schema else { return };
    if depth > DEEPEST {
        return;
    }
    match fields.get("x-secret") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::String(_)) => of_url(config, found),
        Some(_) => leaves(config, found),
    }
    if let Some(target) = target(root, fields) {
        marked(root, target, config, depth + 1, found);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        fields.get(key).and_then(Value::as_array).into_iter().flatten().for_each(|one| marked(root, one, config, depth + 1, found));
    }
    for (name, below) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = config.get(name) {
            marked(root, below, value, depth + 1, found);
        }
    }
    if let (Some(items), Value::Array(values)) = (fields.get("items"), config) {
        values.iter().for_each(|value| marked(root, items, value, depth + 1, found));
    }
}

fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.is_empty() => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(all) => all.iter().for_each(|one| leaves(one, found)),
        Value::Object(all) => all.values().for_each(|one| leaves(one, found)),
        _ => {}
    }
}

/// The URL as a whole, and its password as it is written and as it is meant.
fn of_url(value: &Value, found: &mut Vec<String>) {
    let Some(text) = value.as_str() else { return };
    if linkspan_core::mask_url(text) != text {
        found.push(text.to_owned());
    }
    let Ok(url) = url::Url::parse(text) else { return };
    let query = url.query_pairs().filter(|(name, _)| ["password", "secret", "token", "key"].iter().any(|w| name.contains(w)));
    found.extend(query.map(|(_, value)| value.into_owned()).filter(|v| !v.is_empty()));
    if let Some(password) = url.password().filter(|p| !p.is_empty()) {
        found.push(password.to_owned());
        let mut bytes = Vec::new();
        let mut rest = password.as_bytes();
        while let [first, tail @ ..] = rest {
            let hex = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|h| std::str::from_utf8(h).ok());
            match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &tail[2..];
                }
                None => {
                    bytes.push(*first);
                    rest = tail;
                }
            }
        }
        found.extend(String::from_utf8(bytes).ok());
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use linkspan_core::{Checked, Connector, Result, Secret, SecretUrl, Spec};
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    /// Where the shop is.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        /// Its address.
        url: Option<SecretUrl>,
        token: Secret,
        mode: Option<Mode>,
        login: Option<Login>,
    }
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        /// Slowly.
        Slow,
        /// Fast.
        Fast,
    }
    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Login {
        user: String,
        password: Secret,
    }
    struct Nothing;
    #[async_trait]
    impl Connector for Nothing {
        async fn check(&self) -> Result<Checked> {
            Ok(Checked::default())
        }
    }
    fn shop() -> ConnectorType {
        ConnectorType::new(Spec { name: "shop".into(), title: "Shop".into(), ..Spec::empty() }, |_: Config, _| Ok(Nothing))
    }

    #[test]
    fn a_form_has_no_references_and_no_nulls_and_marks_secrets() {
        let form = specification(&shop());
        assert!(!form.to_string().contains("$ref") && !form.to_string().contains("$defs"), "{form:#}");
        let fields = &form["properties"];
        assert_eq!((&fields["token"]["airbyte_secret"], &fields["token"]["type"]), (&json!(true), &json!("string")));
        assert_eq!(fields["url"]["airbyte_secret"], true, "{form:#}");
        assert_eq!(fields["login"]["properties"]["user"]["airbyte_secret"], false, "{form:#}");
        assert_eq!((&fields["mode"]["type"], &fields["mode"]["enum"]), (&json!("string"), &json!(["slow", "fast"])), "{form:#}");
        assert_eq!(fields["login"]["properties"]["password"]["airbyte_secret"], true, "{form:#}");
        assert_eq!((&form["required"], &form["additionalProperties"]), (&json!(["token"]), &json!(true)));
    }

    #[test]
    fn secrets_are_found_wherever_they_are_marked() {
        let config = json!({"url": "shop://me:p%40ss@host/x", "token": "t-1", "login": {"user": "u", "password": "pw"}, "mode": "slow"});
        let mut found = secrets(&shop(), &config);
        found.sort();
        assert_eq!(found, ["p%40ss", "p@ss", "pw", "shop://me:p%40ss@host/x", "t-1"]);
    }
}
