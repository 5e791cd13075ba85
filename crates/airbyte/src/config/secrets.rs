//! Which values of a config are secret: those that the spec marks, wherever its alternatives put them.

use serde_json::Value;

/// The values, as the texts that they would show up as.
pub(super) fn of(schema: &Value, config: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(properties) = schema.get("properties") {
        marked(properties, &mut Vec::new(), &mut paths);
    }
    paths.iter().filter_map(|path| path.iter().try_fold(config, |value, key| value.get(key))).filter_map(text).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|t| !t.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn marked<'a>(schema: &'a Value, path: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    match schema {
        Value::Object(fields) => {
            if fields.get("airbyte_secret") == Some(&Value::Bool(true)) {
                found.push(path.clone());
            }
            for (key, below) in fields {
                // What groups fields is no part of a config's path; a field that is called so is lost with it, as in the reference.
                let is_grouping = matches!(key.as_str(), "properties" | "oneOf");
                if !is_grouping {
                    path.push(key);
                }
                marked(below, path, found);
                if !is_grouping {
                    path.pop();
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| marked(item, path, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn marked_values_are_found_in_every_alternative() {
        let schema = json!({"type": "object", "properties": {
            "key": {"type": "string", "airbyte_secret": true}, "name": {"type": "string"},
            "auth": {"oneOf": [{"properties": {"token": {"airbyte_secret": true}}}, {"properties": {"pin": {"airbyte_secret": true}}}]}}});
        let config = json!({"key": "k1", "name": "n", "auth": {"pin": 1234}});
        let mut found = super::of(&schema, &config);
        found.sort();
        assert_eq!(found, ["1234", "k1"]);
    }
}
