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
    "about",
    "is_queryable",
    "started_at",
    "ended_at",
    "estimated_bytes",
    "direction",
    "swap",
    "event_count",
];
/// What says again what stands beside it.
const SAID_ALREADY: &[(&str, &str)] = &[("kind", "type"), ("created_at_ms", "created_at"), ("connection_id", "connection")];

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
    let fits = |name: &str| !UNSHOWN.contains(&name) && items.iter().all(|i| cell(&i[name]).is_some_and(|text| text.len() <= 80));
    let empty = |name: &str| items.iter().all(|i| cell(&i[name]).is_some_and(|text| text.is_empty()));
    // An item may have what the first one has not.
    let mut columns: Vec<&str> = first.keys().map(String::as_str).collect();
    for key in items.iter().filter_map(Value::as_object).flat_map(|o| o.keys()) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    columns.retain(|name| fits(name) && !empty(name));
    // Who reads a list looks for names; ids are there for those without one.
    if columns.contains(&"name") {
        columns.retain(|c| *c != "id");
        columns.sort_by_key(|c| *c != "name");
    }
    columns.truncate(COLUMNS);
    let numbers: Vec<&str> = columns.iter().copied().filter(|c| items.iter().all(|i| i[*c].is_number() || i[*c].is_null())).collect();
    let cells = items.iter().map(|item| columns.iter().map(|c| cell(&item[*c]).unwrap_or_default()).collect()).collect();
    let spaced = |all: &[&str]| all.iter().map(|c| c.replace('_', " ")).collect::<Vec<_>>();
    let (heads, right) = (spaced(&columns), spaced(&numbers));
    table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &right.iter().map(String::as_str).collect::<Vec<_>>(), cells, paint)
}

/// A value as it stands in a table, where it can be said in a word.
fn cell(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) if items.iter().any(Value::is_object) => Some(items.len().to_string()),
        Value::Array(items) if items.len() > 5 => None,
        Value::Object(fields) => word(fields),
        value => Some(scalar(value)),
    }
}

/// What an object is about: an error's message, somebody's name, a schedule, a kind.
fn word(fields: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    if let Some(known) = text("message").or_else(|| text("name")).or_else(|| text("cron")) {
        return Some(known.to_owned());
    }
    match (text("every"), text("kind"), fields.get("columns")) {
        (Some(every), ..) => Some(format!("every {every}")),
        (_, Some("none"), _) => Some(String::new()),
        (_, Some("source_defined"), _) => Some("(its own)".into()),
        (_, Some(_), Some(columns)) => Some(scalar(columns)),
        (_, Some(kind), None) => Some(kind.replace('_', " ")),
        _ => None,
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
    let again = |name: &str| SAID_ALREADY.iter().any(|(field, by)| *field == name && fields.get(*by).is_some_and(Value::is_string));
    for (name, value) in fields.iter().filter(|(name, v)| !v.is_null() && !again(name)) {
        let label = paint.dim(&format!("{}:", name.replace('_', " ")));
        match value {
            Value::Object(below) if below.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(below) if name == "error" && below.contains_key("message") => text += &error(below, &indent, paint),
            Value::Object(below) => text += &format!("{indent}{label}\n{}", lines(below, depth + 1, paint)),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text += &format!("{indent}{label}\n{}\n", rows(items, paint));
            }
            value => text += &format!("{indent}{label} {}\n", scalar(value)),
        }
    }
    text
}

/// As an error of the program's own is said.
fn error(fields: &Map<String, Value>, indent: &str, paint: Paint) -> String {
    let word = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut text = format!("{indent}{} {}\n", paint.bad("error:"), word("message"));
    for (key, value) in fields.get("context").and_then(Value::as_object).into_iter().flatten() {
        text += &format!("{indent}  {} {}\n", paint.dim(&format!("{key}:")), scalar(value));
    }
    if !word("suggested_fix").is_empty() {
        text += &format!("{indent}  fix: {}\n", word("suggested_fix"));
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

    #[test]
    fn what_can_be_said_in_a_word_is_a_cell() {
        let error =
            json!({"kind": "unavailable", "message": "the host cannot be reached", "suggested_fix": "start it", "context": {"host": "db"}});
        let list = json!({"items": [
            {"at": "1", "ok": true, "by": {"kind": "user", "name": "ada"}, "schedule": {"cron": "0 2 * * *", "timezone": "UTC"}},
            {"at": "2", "ok": false, "error": error, "cursor": {"kind": "columns", "columns": ["a", "b"]}, "columns": [{}, {}], "config": {"x": 1}},
        ]});
        let text = human(&list, Paint::PLAIN);
        let head: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["at", "ok", "by", "schedule", "error", "cursor", "columns"]);
        for word in ["ada", "0 2 * * *", "the host cannot be reached", "a, b", "2"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let failed = human(&json!({"type": "pg", "kind": "pg", "pipelines": [], "error": error}), Paint::PLAIN);
        assert_eq!(failed, "type: pg\nerror: the host cannot be reached\n  host: db\n  fix: start it\n");
    }
}
