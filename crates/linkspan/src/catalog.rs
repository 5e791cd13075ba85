//! `catalog list|show`: what this binary can speak to.

use linkspan_app::registry::Registry;
use linkspan_core::{ConnectorType, ErrorKind, Result, Role};
use serde_json::{Value, json};

use crate::{
    cli::Catalog,
    ends::registry,
    terminal::{Paint, Terminal, table},
};

pub fn run(verb: &Catalog, terminal: &Terminal) -> Result<()> {
    let registry = registry();
    match verb {
        Catalog::List => list(&registry, terminal),
        Catalog::Show { name } => show(registry.named(name, ErrorKind::NotFound)?, terminal),
    }
    Ok(())
}

fn list(registry: &Registry, terminal: &Terminal) {
    let all: Vec<Value> = registry.types().iter().map(|t| entry(t, Detail::Short)).collect();
    terminal.show(&json!({ "types": all }), |paint| {
        let rows = registry.types().iter().map(|t| {
            let forms: Vec<String> = t.spec.url.iter().flat_map(|u| u.schemes.iter().map(|s| format!("{s}:"))).collect();
            let endings = t.spec.url.map_or(String::new(), |u| u.extensions.join(" "));
            vec![t.spec.name.to_string(), t.spec.title.to_string(), roles(t), forms.join(" "), endings]
        });
        let rows = rows.collect();
        table(&["type", "title", "roles", "URL", "files"], &[], rows, paint)
    });
}

enum Detail {
    Short,
    Whole,
}

fn entry(t: &ConnectorType, detail: Detail) -> Value {
    let form = t.spec.url;
    let mut entry = json!({
        "name": t.spec.name, "title": t.spec.title, "aliases": t.spec.aliases, "roles": t.spec.roles, "is_queryable": t.spec.is_queryable,
        "schemes": form.map_or(&[][..], |f| f.schemes), "extensions": form.map_or(&[][..], |f| f.extensions),
    });
    if let Detail::Whole = detail {
        entry["example"] = t.redact(&t.spec.example);
        entry["config_schema"] = t.config_schema();
        entry["docs"] = t.spec.docs.as_ref().into();
    }
    entry
}

fn roles(t: &ConnectorType) -> String {
    let word = |r: &Role| match r {
        Role::Source => "source",
        Role::Destination => "destination",
        Role::Actions => "actions",
        Role::Webhooks => "webhooks",
        Role::Query => "query",
    };
    t.spec.roles.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn show(t: &ConnectorType, terminal: &Terminal) {
    terminal.show(&entry(t, Detail::Whole), |paint| {
        let schema = t.config_schema();
        let head = format!("{} ({})\nroles: {}\n", paint.bold(&t.spec.title), t.spec.name, roles(t));
        let example = serde_json::to_string_pretty(&t.redact(&t.spec.example)).unwrap_or_default();
        format!("{head}\n{}\n\n{}\n\n{}\n{example}", fields(&schema, paint), t.spec.docs.trim(), paint.bold("Example config"))
    });
}

/// The config's fields: name, kind, whether it must be there, what it means.
fn fields(schema: &Value, paint: Paint) -> String {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows = schema["properties"].as_object().into_iter().flatten().map(|(name, field)| {
        let must = if required.contains(&name.as_str()) { "required".into() } else { default_of(field) };
        let words = field["description"].as_str().unwrap_or_default().replace('\n', " ");
        vec![name.clone(), kind_of(field, schema), must, words]
    });
    table(&["field", "kind", "default", "meaning"], &[], rows.collect(), paint)
}

fn default_of(field: &Value) -> String {
    match &field["default"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn kind_of(field: &Value, schema: &Value) -> String {
    if field["x-secret"].as_bool() == Some(true) {
        return "secret".into();
    }
    if let Some(name) = field["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
        return kind_of(&schema["$defs"][name], schema);
    }
    if let Some(words) = words_of(field) {
        return words.join(" | ");
    }
    if let Some(any) = field["anyOf"].as_array() {
        return any.iter().filter(|f| f["type"] != "null").map(|f| kind_of(f, schema)).collect::<Vec<_>>().join(" | ");
    }
    match &field["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).filter(|k| *k != "null").collect::<Vec<_>>().join(" | "),
        _ => "any".into(),
    }
}

/// The words of an enumeration, in either form that schemas give them.
fn words_of(field: &Value) -> Option<Vec<String>> {
    if let Some(words) = field["enum"].as_array() {
        return Some(words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    }
    let all = field["oneOf"].as_array()?;
    all.iter().map(|f| f["const"].as_str().map(str::to_owned).or_else(|| words_of(f).map(|w| w.join(" | ")))).collect()
}
