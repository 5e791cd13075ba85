//! An answer for people: lists as tables, things as lines. With `--output json` it is the answer itself.

use serde_json::{Map, Value};

use crate::terminal::{Paint, Terminal, table};

/// Columns that a terminal holds.
const COLUMNS: usize = 9;
/// What a list of everything would only be cluttered by.
const UNSHOWN: &[&str] = &[
    "kind",
    "created_at_ms",
    "last_event_ms",
    "updated_at",
    "project",
    "prefix",
    "connection_id",
    "max_attempts",
    "started_at",
    "ended_at",
    "estimated_bytes",
    "is_queryable",
    "direction",
];
/// What says something twice where one thing is shown.
const TWICE: &[&str] = &["created_at_ms", "connection_id"];

pub fn answer(value: &Value, terminal: &Terminal) {
    match value {
        Value::Null => terminal.show(&Value::Null, |paint| paint.good("done")),
        value => terminal.show(value, |paint| human(value, paint)),
    }
}

/// One of many, as it comes.
pub fn item(value: &Value, terminal: &Terminal) {
    if terminal.json() {
        return terminal.json_line(value);
    }
    let text = |key: &str| value[key].as_str();
    let line = match (text("at"), text("level"), text("message")) {
        (at, level, Some(message)) => {
            let more =
                value.as_object().into_iter().flatten().filter(|(k, v)| !matches!(k.as_str(), "at" | "level" | "message") && !v.is_null());
            let more = more.map(|(k, v)| format!("{k}={}", detail(v))).collect::<Vec<_>>().join(" ");
            let at = at.map(|at| at.get(..19).unwrap_or(at).replace('T', " "));
            let level = level.map(|l| format!("{l:<5}"));
            let words = [at.as_deref(), level.as_deref(), Some(message), Some(more.as_str()).filter(|m| !m.is_empty())];
            words.into_iter().flatten().collect::<Vec<_>>().join("  ")
        }
        _ => value.to_string(),
    };
    terminal.out(&line);
}

/// A value beside a log's words.
fn detail(value: &Value) -> String {
    match value {
        Value::String(text) if !text.contains(' ') => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn human(value: &Value, paint: Paint) -> String {
    let Value::Object(fields) = value else { return scalar(value) };
    match list(fields) {
        Some((name, [])) => format!("no {}", name.replace('_', " ")),
        Some((_, items)) => rows(items, paint) + &more(fields, paint),
        None => lines(fields, 0, paint),
    }
}

/// The one list of things that the answer is about.
fn list(fields: &Map<String, Value>) -> Option<(&str, &[Value])> {
    let mut lists =
        fields.iter().filter_map(|(k, v)| v.as_array().filter(|a| a.iter().all(Value::is_object)).map(|a| (k.as_str(), a.as_slice())));
    let found = lists.next()?;
    let alone =
        lists.next().is_none() && fields.iter().all(|(k, v)| k == found.0 || k == "next_cursor" || k.ends_with("_count") || v.is_null());
    alone.then_some(found)
}

fn rows(items: &[Value], paint: Paint) -> String {
    let Some(first) = items[0].as_object() else { return String::new() };
    let fits = |name: &str| !UNSHOWN.contains(&name) && items.iter().all(|i| short(&i[name])) && items.iter().any(|i| said(&i[name]));
    let mut columns: Vec<&str> = first.keys().map(String::as_str).filter(|n| fits(n)).collect();
    // Who reads a list looks for names; ids are there for those without one.
    if columns.contains(&"name") {
        columns.retain(|c| *c != "id");
        columns.sort_by_key(|c| *c != "name");
    }
    columns.truncate(COLUMNS);
    let numbers: Vec<&str> = columns.iter().copied().filter(|c| items.iter().all(|i| i[*c].is_number() || i[*c].is_null())).collect();
    let cells = items.iter().map(|item| columns.iter().map(|c| cell(&item[*c])).collect()).collect();
    let spaced = |all: &[&str]| all.iter().map(|c| c.replace('_', " ")).collect::<Vec<_>>();
    let (heads, right) = (spaced(&columns), spaced(&numbers));
    table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &right.iter().map(String::as_str).collect::<Vec<_>>(), cells, paint)
}

/// In a table: lists of things by their number, somebody by their name, a cursor by its columns.
fn cell(value: &Value) -> String {
    match value {
        Value::Array(items) if items.iter().any(Value::is_object) => items.len().to_string(),
        Value::Object(fields) => match (fields.get("name"), fields.get("kind").and_then(Value::as_str)) {
            (Some(name), _) => scalar(name),
            (_, Some("columns")) => fields.get("columns").map(scalar).unwrap_or_default(),
            (_, Some("source_defined")) => "(its own)".into(),
            _ => String::new(),
        },
        other => scalar(other),
    }
}

/// Whether a cell would hold anything.
fn said(value: &Value) -> bool {
    !value.is_null() && !cell(value).is_empty()
}

fn short(value: &Value) -> bool {
    match value {
        Value::Array(items) if items.iter().any(Value::is_object) => true,
        Value::Array(items) => items.iter().all(|i| i.is_string() || i.is_number()) && items.len() <= 5,
        Value::String(text) => text.len() <= 80,
        Value::Object(fields) => fields.contains_key("kind") && (fields.len() <= 2 || fields.contains_key("name")),
        _ => true,
    }
}

fn more(fields: &Map<String, Value>, paint: Paint) -> String {
    match fields.get("next_cursor").and_then(Value::as_str) {
        Some(cursor) => format!("\n{}", paint.dim(&format!("more: --cursor {cursor}"))),
        None => String::new(),
    }
}

fn lines(fields: &Map<String, Value>, depth: usize, paint: Paint) -> String {
    let indent = "  ".repeat(depth);
    let mut text = String::new();
    let twice = |name: &str, value: &Value| TWICE.contains(&name) || (name == "kind" && fields.get("type") == Some(value));
    for (name, value) in fields.iter().filter(|(name, v)| !v.is_null() && !twice(name, v) && v.as_array().is_none_or(|a| !a.is_empty())) {
        let label = paint.dim(&format!("{}:", name.replace('_', " ")));
        match value {
            Value::Object(below) if below.is_empty() => {}
            Value::Object(below) => text += &format!("{indent}{label}\n{}", lines(below, depth + 1, paint)),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text += &format!("{indent}{label}\n{}\n", rows(items, paint));
            }
            value => text += &format!("{indent}{label} {}\n", scalar(value)),
        }
    }
    text
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_a_table_and_a_thing_is_lines() {
        let list = json!({"keys": [{"id": "1", "name": "ci", "role": "viewer", "scopes": null, "n": 5}], "next_cursor": "abc"});
        let text = human(&list, Paint::PLAIN);
        let mut shown = text.lines();
        assert_eq!(shown.next().map(|l| l.split_whitespace().collect::<Vec<_>>()), Some(vec!["name", "role", "n"]));
        assert!(text.contains("ci") && text.ends_with("more: --cursor abc"), "{text}");
        assert_eq!(human(&json!({"keys": [], "next_cursor": null}), Paint::PLAIN), "no keys");
        let thing = human(&json!({"name": "crm", "enabled": true, "config": {"host": "db"}, "none": null}), Paint::PLAIN);
        assert_eq!(thing, "name: crm\nenabled: yes\nconfig:\n  host: db\n");
        let streams = json!({"connector": "crm", "streams": [{"name": "a", "namespace": null, "columns": [{"name": "id"}, {"name": "at"}],
            "cursor": {"kind": "columns", "columns": ["at"]}, "estimated_rows": 5}]});
        let text = human(&streams, Paint::PLAIN);
        assert_eq!(
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>(),
            ["connector: crm", "streams:", "name columns cursor estimated rows", "a 2 at 5"]
        );
    }
}
