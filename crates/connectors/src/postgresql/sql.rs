//! SQL text: names and values quoted so that they stay names and values.

use linkspan_core::StreamName;

/// `"name"`, with inner quotes doubled. Any name survives, in its own case.
pub(super) fn ident(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    push_ident(&mut out, name);
    out
}

pub(super) fn push_ident(out: &mut String, name: &str) {
    out.push('"');
    for c in name.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}

/// `'text'` in a form that means the same whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        out.push_str(" E");
    }
    out.push('\'');
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// `"schema"."table"`, or `"table"` without a schema.
pub(super) fn qualified(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(ns) => format!("{}.{}", ident(ns), ident(name)),
        None => ident(name),
    }
}

pub(super) fn stream(name: &StreamName) -> String {
    qualified(name.namespace.as_deref(), &name.name)
}

/// `"a", "b"`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for name in names {
        if !out.is_empty() {
            out.push_str(", ");
        }
        push_ident(&mut out, name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_no_way_out() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(qualified(Some("S p"), "t.x"), "\"S p\".\"t.x\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(list(["a", "B"]), "\"a\", \"B\"");
    }
}
