//! The shorthand of file-like connectors: `type:path?field=value&...` becomes a config object, typed by the config's own schema.

use linkspan_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// `scheme:?a=1&b=x` as a config with these fields. What stands before the `?` becomes `path` where the config has such a field.
pub(crate) fn url_config<C: JsonSchema>(url: &str) -> Result<Value> {
    let (base, query) = url.split_once('?').map_or((url, ""), |(b, q)| (b, q));
    let schema = schemars::schema_for!(C).to_value();
    let mut config = fields_of(query, &schema)?;
    let path = path_of(base);
    if schema["properties"].get("path").is_some() {
        config.insert("path".into(), path.into());
    } else if !path.is_empty() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "this connector takes no path").with("path", path).fix("write only the scheme"));
    }
    Ok(Value::Object(config))
}

/// The path of `scheme:path`, `scheme://path` or a bare path. `sqlite:///abs` is `/abs`.
pub(crate) fn path_of(base: &str) -> &str {
    let scheme = |s: &str| s.len() > 1 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'_');
    match base.split_once(':') {
        Some((s, rest)) if scheme(s) => rest.strip_prefix("//").unwrap_or(rest),
        _ => base,
    }
}

fn fields_of(query: &str, schema: &Value) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let decoded = percent_decode_str(value).decode_utf8().map_err(|_| {
            Error::new(ErrorKind::ConfigInvalid, "the URL is not UTF-8").with("field", name).fix("percent-encode the value as UTF-8")
        })?;
        fields.insert(name.to_owned(), typed(&decoded, &schema["properties"][name]));
    }
    Ok(fields)
}

/// A number or a boolean where the schema wants one and the text is one, a list where it wants one; else the text, for the config to judge.
fn typed(text: &str, property: &Value) -> Value {
    let wants = |name: &str| match &property["type"] {
        Value::String(t) => t == name,
        Value::Array(all) => all.iter().any(|t| t == name),
        _ => false,
    };
    let parsed = match serde_json::from_str::<Value>(text) {
        Ok(v @ Value::Number(_)) if wants("integer") || wants("number") => Some(v),
        Ok(v @ Value::Bool(_)) if wants("boolean") => Some(v),
        _ => None,
    };
    match parsed {
        Some(value) => value,
        None if wants("array") => text.split(',').map(Value::from).collect(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Config {
        path: String,
        rows: Option<u64>,
        sheet: Option<String>,
        all_text: Option<bool>,
        nulls: Option<Vec<String>>,
    }

    #[test]
    fn fields_are_typed_by_the_schema() {
        let config = url_config::<Config>("csv:./a.csv?rows=5&sheet=2023&all_text=true&nulls=NA,-").unwrap();
        assert_eq!(config, json!({"path": "./a.csv", "rows": 5, "sheet": "2023", "all_text": true, "nulls": ["NA", "-"]}));
    }

    #[test]
    fn a_path_may_have_any_form() {
        for (url, path) in
            [("sqlite:./f.db", "./f.db"), ("sqlite:///abs/f", "/abs/f"), ("./x.db", "./x.db"), ("C:\\x", "C:\\x"), ("csv:/a", "/a")]
        {
            assert_eq!(path_of(url), path);
        }
    }
}
