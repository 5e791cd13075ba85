//! `$parameters`: handed down to every component below, where they also fill the fields of the same name that are empty.

use serde_json::{Map, Value};

use super::defaults::default_type;

const PARAMETERS: &str = "$parameters";

/// Whose parameter counts where a component and one above it set the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    Own,
    Parents,
}

/// The tree with types and parameters in place.
pub fn propagated(manifest: Value, precedence: Precedence) -> Value {
    match manifest {
        Value::Object(fields) => component("", fields, &Map::new(), precedence).into(),
        other => other,
    }
}

fn component(place: &str, mut fields: Map<String, Value>, parents: &Map<String, Value>, precedence: Precedence) -> Map<String, Value> {
    if !fields.contains_key("type")
        && let Some(kind) = default_type(place, fields.contains_key("class_name"))
    {
        fields.insert("type".into(), kind.into());
    }
    let mut parameters = parents.clone();
    if let Some(Value::Object(own)) = fields.shift_remove(PARAMETERS) {
        match precedence {
            Precedence::Own => parameters.extend(own),
            Precedence::Parents => parameters = own.into_iter().chain(parameters).collect(),
        }
    }
    match fields.get("type") {
        Some(Value::String(kind)) if kind == "object" => return fields,
        // Nothing of a JSON schema is a component: a list is a union of types, a map a property that is called so.
        Some(Value::Array(_) | Value::Object(_)) => return fields,
        Some(_) => {}
        None => return with_components_inside(place, fields, &parameters, precedence),
    }
    for (key, value) in &parameters {
        if !fields.get(key).is_some_and(truthy) {
            fields.insert(key.clone(), value.clone());
        }
    }
    let kind = text_of(&fields["type"]);
    for (name, value) in &mut fields {
        if value.is_object() || value.is_array() {
            let place = format!("{kind}.{name}");
            // A parameter of the field's own name would be handed down without end.
            let withheld = parameters.shift_remove(name);
            below(&place, value, &parameters, precedence);
            if let Some(withheld) = withheld.filter(truthy) {
                parameters.insert(name.clone(), withheld);
            }
        }
    }
    if !parameters.is_empty() {
        fields.insert(PARAMETERS.into(), parameters.into());
    }
    fields
}

fn below(place: &str, value: &mut Value, parameters: &Map<String, Value>, precedence: Precedence) {
    match value {
        Value::Object(fields) => *value = component(place, std::mem::take(fields), parameters, precedence).into(),
        Value::Array(items) => items.iter_mut().filter(|item| item.is_object()).for_each(|item| below(place, item, parameters, precedence)),
        _ => {}
    }
}

/// A plain object is no component, but what has a type in it is.
fn with_components_inside(
    place: &str,
    mut fields: Map<String, Value>,
    parameters: &Map<String, Value>,
    precedence: Precedence,
) -> Map<String, Value> {
    for value in fields.values_mut() {
        if value.as_object().and_then(|inner| inner.get("type")).is_some_and(truthy) {
            below(place, value, parameters, precedence);
        }
    }
    fields
}

fn text_of(kind: &Value) -> String {
    match kind {
        Value::String(text) => text.clone(),
        Value::Null => "None".into(),
        other => other.to_string(),
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
