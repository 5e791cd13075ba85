//! An answer for people: lists as tables, things as lines. With `--output json` it is the answer itself.

use serde_json::{Map, Value};

use crate::terminal::{Paint, Terminal, table};

/// Columns that a terminal holds.
const COLUMNS: usize = 8;
/// What a list of everything would only be cluttered by.
const UNSHOWN: &[&str] = &["kind", "created_at_ms", "last_event_ms", "updated_at", "project", "prefix"];

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
        (at, level, Some(message)) => [at, level, Some(message)].into_iter().flatten().collect::<Vec<_>>().join("  "),
        _ => value.to_string(),
    };
    terminal.out(&line);
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
    let fits = |name: &str| !UNSHOWN.contains(&name) && items.iter().all(|i| !i[name].is_object() && short(&i[name]));
    let mut columns: Vec<&str> = first.keys().map(String::as_str).filter(|n| fits(n)).collect();
    // Who reads a list looks for names; ids are there for those without one.
    if columns.contains(&"name") {
        columns.retain(|c| *c != "id");
        columns.sort_by_key(|c| *c != "name");
    }
    columns.truncate(COLUMNS);
    let numbers: Vec<&str> = columns.iter().copied().filter(|c| items.iter().all(|i| i[*c].is_number() || i[*c].is_null())).collect();
    let cells = items.iter().map(|item| columns.iter().map(|c| scalar(&item[*c])).collect()).collect();
    table(&columns, &numbers, cells, paint)
}

fn short(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|i| i.is_string() || i.is_number()) && items.len() <= 5,
        Value::String(text) => text.len() <= 80,
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
    for (name, value) in fields.iter().filter(|(_, v)| !v.is_null()) {
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
        assert_eq!(shown.next().map(|l| l.split_whitespace().collect::<Vec<_>>()), Some(vec!["name", "role", "scopes", "n"]));
        assert!(text.contains("ci") && text.ends_with("more: --cursor abc"), "{text}");
        assert_eq!(human(&json!({"keys": [], "next_cursor": null}), Paint::PLAIN), "no keys");
        let thing = human(&json!({"name": "crm", "enabled": true, "config": {"host": "db"}, "none": null}), Paint::PLAIN);
        assert_eq!(thing, "name: crm\nenabled: yes\nconfig:\n  host: db\n");
    }
}
