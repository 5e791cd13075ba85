//! `catalog list|show|add`: what this binary can speak to, and what the project added to it.

mod add;

use clap::ArgMatches;
use http::Method;
use linkspan_app::catalog::{Detail, shown};
use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::Store;
use serde_json::{Map, Value, json};

use crate::{
    cli::{Catalog, Common},
    ends::registry,
    errors::Exit,
    remote::{Client, Place, escaped},
    settings::data_dir,
    terminal::{Paint, Terminal, table},
};

pub async fn run(verb: &Catalog, below: &ArgMatches, common: &Common, terminal: &Terminal) -> Result<Exit> {
    let below = below.subcommand().map_or(below, |(_, below)| below);
    match verb {
        Catalog::List => list(&all(below, common).await?, terminal),
        Catalog::Show { name } => show(&one(name, below, common).await?, terminal),
        Catalog::Add(args) => return add::run(args, below, common, terminal).await,
    }
    Ok(Exit::OK)
}

/// Whom to ask: a server, or the data dir where there is one. The types of the binary need neither.
async fn hub(below: &ArgMatches, common: &Common) -> Result<Option<Client>> {
    let place = Place::of(below)?;
    if place.server.is_none() && !Store::stands(&data_dir(common.data_dir.as_ref())?) {
        return Ok(None);
    }
    Client::open(&place, common).await.map(Some)
}

async fn all(below: &ArgMatches, common: &Common) -> Result<Vec<Value>> {
    let Some(client) = hub(below, common).await? else {
        return registry().types().iter().map(|t| encoded(&shown(t, Detail::Listed))).collect();
    };
    let answer = client.call(&Method::GET, "/v1/catalog", &Map::new()).await;
    client.close().await;
    Ok(answer?["types"].as_array().cloned().unwrap_or_default())
}

async fn one(name: &str, below: &ArgMatches, common: &Common) -> Result<Value> {
    let Some(client) = hub(below, common).await? else {
        return encoded(&shown(registry().named(name, ErrorKind::NotFound)?, Detail::Whole));
    };
    let answer = client.call(&Method::GET, &format!("/v1/catalog/{}", escaped(name)), &Map::new()).await;
    client.close().await;
    answer
}

fn encoded(shown: &linkspan_app::catalog::TypeShown) -> Result<Value> {
    serde_json::to_value(shown).map_err(|e| Error::new(ErrorKind::Internal, "a type could not be encoded").because(e))
}

fn list(types: &[Value], terminal: &Terminal) {
    let all: Vec<Value> = types.iter().map(|t| entry(t, Detail::Listed)).collect();
    terminal.show(&json!({ "types": all }), |paint| {
        let rows = types.iter().map(|t| {
            let forms: Vec<String> = words(&t["schemes"]).iter().map(|s| format!("{s}:")).collect();
            vec![text(t, "type"), text(t, "title"), words(&t["roles"]).join(", "), forms.join(" "), words(&t["extensions"]).join(" ")]
        });
        table(&["type", "title", "roles", "URL", "files"], &[], rows.collect(), paint)
    });
}

fn entry(t: &Value, detail: Detail) -> Value {
    let mut entry = json!({
        "name": t["type"], "title": t["title"], "aliases": t["aliases"], "roles": t["roles"], "is_queryable": t["is_queryable"],
        "schemes": t["schemes"], "extensions": t["extensions"],
    });
    if !t["manifest"].is_null() {
        entry["manifest"] = t["manifest"].clone();
    }
    if detail == Detail::Whole {
        for field in ["example", "config_schema", "docs"] {
            entry[field] = t[field].clone();
        }
    }
    entry
}

fn text(t: &Value, field: &str) -> String {
    t[field].as_str().unwrap_or_default().to_owned()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn show(t: &Value, terminal: &Terminal) {
    terminal.show(&entry(t, Detail::Whole), |paint| {
        let roles = words(&t["roles"]).join(", ");
        let head = format!("{} ({})\nroles: {roles}\n{}", paint.bold(&text(t, "title")), text(t, "type"), versions(&t["manifest"]));
        let example = serde_json::to_string_pretty(&t["example"]).unwrap_or_default();
        let docs = text(t, "docs");
        format!("{head}\n{}\n\n{}\n\n{}\n{example}", fields(&t["config_schema"], paint), docs.trim(), paint.bold("Example config"))
    });
}

/// What is known of a manifest's texts.
fn versions(manifest: &Value) -> String {
    let line =
        |v: &Value| format!("manifest: version {}, {} bytes, from {}\n", v["number"], v["bytes"], v["from"].as_str().unwrap_or_default());
    manifest["versions"].as_array().into_iter().flatten().map(line).collect()
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
