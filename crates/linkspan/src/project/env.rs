//! `${NAME}` and `${NAME:-default}` in the values of a project file. What a variable holds is never shown.

use linkspan_core::{Error, ErrorKind, Result};

use super::tree::{Node, Place, Text, Tree};

/// Puts variables in place, in every text below the node. `$${` stays a literal `${`.
pub fn substitute(node: &mut Node, file: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    match &mut node.tree {
        Tree::Text(text) if text.text.contains("${") => *text = expand(&text.text, node.place, file, lookup)?,
        Tree::List(items) => items.iter_mut().try_for_each(|i| substitute(i, file, lookup))?,
        Tree::Map(entries) => entries.iter_mut().try_for_each(|e| substitute(&mut e.value, file, lookup))?,
        _ => {}
    }
    Ok(())
}

fn expand(text: &str, place: Place, file: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Text> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut substituted = false;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        out.push_str(&rest[..at]);
        if escaped {
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        let Some(end) = rest[at..].find('}') else {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a `${` is not closed")
                .with("place", place.at(file))
                .fix("write ${NAME} or ${NAME:-default}; a literal `${` is written `$${`"));
        };
        out.push_str(&variable(&rest[at + 2..at + end], place, file, lookup)?);
        substituted = true;
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(Text { text: out, substituted })
}

fn variable(inside: &str, place: Place, file: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let (name, default) = inside.split_once(":-").map_or((inside, None), |(n, d)| (n, Some(d)));
    let valid =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a `${...}` does not name an environment variable")
            .with("place", place.at(file))
            .fix("write ${NAME} or ${NAME:-default}; a literal `${` is written `$${`"));
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Error::new(ErrorKind::ConfigInvalid, format!("the environment variable {name} is not set"))
            .with("variable", name)
            .with("place", place.at(file))
            .fix(format!("set it (`export {name}=...`) or give it a default: ${{{name}:-value}}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::tree::parse, *};

    fn expanded(yaml: &str) -> Result<Value> {
        let mut node = parse(yaml, "p.yaml")?;
        substitute(&mut node, "p.yaml", &|name| (name == "A").then(|| "canary: 1".to_owned()))?;
        Ok(node.to_json(&Value::Null))
    }

    #[test]
    fn variables_stand_for_values_and_never_for_yaml() {
        assert_eq!(expanded("x: ${A}/${B:-b}\ny: $${A}").unwrap(), json!({"x": "canary: 1/b", "y": "${A}"}));
    }

    #[test]
    fn an_unset_variable_is_named_with_its_place() {
        let e = expanded("x:\n  y: pre-${NOPE}").err().unwrap();
        assert!(e.message().contains("NOPE") && e.to_string().contains("p.yaml:2:6"), "{e}");
        assert!(e.suggested_fix().unwrap().contains("export NOPE="));
        assert!(expanded("x: ${").is_err() && expanded("x: ${a b}").is_err());
    }
}
