//! SQL text: names and values quoted so that they stay names and values, whatever they hold.

use linkspan_core::StreamName;

/// A name in backquotes, with inner ones doubled. Any name survives, in its own case and in every `sql_mode`.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `'text'`. Our sessions fix the `sql_mode`, so a backslash is always an escape.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

pub(super) fn qualified(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(database) => format!("{}.{}", ident(database), ident(name)),
        None => ident(name),
    }
}

pub(super) fn stream(name: &StreamName) -> String {
    qualified(name.namespace.as_deref(), &name.name)
}

/// What a list is made of, with commas.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_no_way_out() {
        assert_eq!(ident("a`b"), "`a``b`");
        assert_eq!(qualified(Some("S p"), "t.x"), "`S p`.`t.x`");
        assert_eq!(literal("it's \\ \0"), "'it\\'s \\\\ \\0'");
    }
}
