//! The JSON Schema of project files, for editors: the file's own fields, and the config of each connector type where it is chosen.

use linkspan_app::registry::Registry;
use linkspan_core::ConnectorType;
use serde_json::{Map, Value, json};

use super::ProjectFile;

/// Fields are offered and explained; a misspelt one is `project check`'s matter, which knows other names and variables, too.
pub fn schema(registry: &Registry) -> Value {
    let mut schema = schemars::schema_for!(ProjectFile).to_value();
    let mut definitions = schema["$defs"].take();
    let names: Vec<&str> = registry.types().iter().map(|t| &*t.spec.name).collect();
    let choices: Vec<Value> = registry.types().iter().map(|t| choice(t, &mut definitions)).collect();
    let entry = &mut definitions["ConnectorEntry"];
    entry["properties"]["type"]["examples"] = json!(names);
    entry["allOf"] = Value::Array(choices);
    schema["title"] = json!("A Linkspan project file");
    schema["$defs"] = definitions;
    schema
}

/// What `config` holds when `type` says this one.
fn choice(kind: &ConnectorType, definitions: &mut Value) -> Value {
    let name = &kind.spec.name;
    let mut config = kind.config_schema();
    if let Value::Object(own) = config["$defs"].take() {
        for (key, definition) in own {
            definitions[format!("{name}.{key}")] = moved(definition, name);
        }
    }
    let fields = config["properties"].take();
    let fields: Map<String, Value> =
        fields.as_object().into_iter().flatten().map(|(field, schema)| (field.clone(), or_variable(moved(schema.clone(), name)))).collect();
    let words: Vec<&str> = std::iter::once(&**name).chain(kind.spec.aliases.iter().map(|a| &**a)).collect();
    let mut described = json!({ "properties": fields });
    if config["description"].is_string() {
        described["description"] = config["description"].take();
    }
    json!({
        "if": { "properties": { "type": { "enum": words } }, "required": ["type"] },
        "then": { "properties": { "config": described } },
    })
}

/// References of a type's schema point at where its definitions lie now.
fn moved(mut schema: Value, kind: &str) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                *value = match value.as_str().and_then(|v| v.strip_prefix("#/$defs/")).filter(|_| key == "$ref") {
                    Some(target) => json!(format!("#/$defs/{kind}.{target}")),
                    None => moved(value.take(), kind),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = moved(item.take(), kind)),
        _ => {}
    }
    schema
}

/// Any value may come out of the environment.
fn or_variable(schema: Value) -> Value {
    let description = schema["description"].clone();
    let mut either = json!({ "anyOf": [schema, { "type": "string", "pattern": "\\$\\{" }] });
    if !description.is_null() {
        either["description"] = description;
    }
    either
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_type_is_offered() {
        let registry = crate::ends::registry();
        let schema = schema(&registry);
        let mut open = vec![&schema];
        while let Some(value) = open.pop() {
            if let Some(target) = value["$ref"].as_str() {
                assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            open.extend(value.as_object().into_iter().flat_map(|o| o.values()).chain(value.as_array().into_iter().flatten()));
        }
        assert_eq!(schema["$defs"]["ConnectorEntry"]["allOf"].as_array().unwrap().len(), registry.types().len());
        assert!(schema["properties"]["connections"].is_object());
    }
}
