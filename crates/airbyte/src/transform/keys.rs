//! Keys that are written differently, and objects that become flat.

use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{
    component::Component,
    dpath::{self, Step},
    slice::Slice,
    template::Template,
    truth::is_true,
    wiring::Build,
};

/// Top-level keys in lower case; of two that become one the later stays.
pub fn to_lower(record: &mut Value) {
    let Value::Object(map) = record else { return };
    for key in map.keys().cloned().collect::<Vec<_>>() {
        if let Some(value) = map.shift_remove(&key) {
            map.insert(key.to_lowercase(), value);
        }
    }
}

/// All keys of objects, at every depth that objects alone lead to.
pub fn renamed(value: Value, name: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (name(&key), renamed(value, name))).collect::<Map<_, _>>().into(),
        other => other,
    }
}

/// `HTTPStatus 2x` becomes `http_status_2_x`; letters beyond ASCII become what they sound like.
pub fn snake_case(key: &str) -> String {
    let key = any_ascii::any_ascii(key);
    let mut tokens = tokens(&key);
    if tokens.len() >= 3 {
        let last = tokens.len() - 1;
        tokens =
            tokens.into_iter().enumerate().filter(|(at, token)| *at == 0 || *at == last || !token.is_empty()).map(|(_, t)| t).collect();
    }
    if tokens.first().is_some_and(|t| t.starts_with(|c: char| c.is_ascii_digit())) {
        tokens.insert(0, "");
    }
    tokens.join("_").to_ascii_lowercase()
}

/// Capitals with the small letters behind them, small letters, digits; a stretch of anything else is an empty token.
fn tokens(key: &str) -> Vec<&str> {
    let bytes = key.as_bytes();
    let run = |from: usize, fits: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|b| fits(b)).count();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'A'..=b'Z' => run(run(at, u8::is_ascii_uppercase), u8::is_ascii_lowercase),
            b'a'..=b'z' => run(at, u8::is_ascii_lowercase),
            b'0'..=b'9' => run(at, u8::is_ascii_digit),
            _ => run(at, |b| !b.is_ascii_alphanumeric()),
        };
        tokens.push(if bytes[at].is_ascii_alphanumeric() { &key[at..end] } else { "" });
        at = end;
    }
    tokens
}

/// A piece of every key replaced.
pub struct KeysReplace {
    old: Template,
    new: Template,
}

impl KeysReplace {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        Ok(Self { old: component.required_template("old")?, new: component.required_template("new")? })
    }
    pub fn apply(&self, record: &mut Value, slice: &Slice, build: &Build) -> Result<()> {
        let (old, new) = {
            let scope = build.scope().slice(slice).record(record);
            (self.old.text(&scope)?, self.new.text(&scope)?)
        };
        *record = renamed(record.take(), &|key| key.replace(&old, &new));
        Ok(())
    }
}

/// Every leaf at the top, by its own name, or by its way where that name is taken; behind the first list always by its way.
pub fn flatten(record: Value, flattens_lists: bool) -> Value {
    let mut flat = Map::new();
    let mut by_way = false;
    let mut stack = vec![(record, "_".to_owned())];
    while let Some((value, name)) = stack.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let taken = by_way || flat.contains_key(&key);
                    stack.push((value, if taken { format!("{name}.{key}") } else { key }));
                }
            }
            Value::Array(items) if flattens_lists => {
                for (at, item) in items.into_iter().enumerate() {
                    by_way = true;
                    stack.push((item, format!("{name}.{at}")));
                }
            }
            leaf => {
                flat.insert(name, leaf);
            }
        }
    }
    flat.into()
}

/// The members of one object of the record, moved up.
pub struct DpathFlatten {
    path: Vec<Template>,
    deletes_origin: bool,
    replaces_record: bool,
    prefix: Option<Template>,
    suffix: Option<Template>,
}

impl DpathFlatten {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let keys = component.child("key_transformation")?;
        let part = |name: &str| keys.as_ref().map_or(Ok(None), |k| k.template(name));
        Ok(Self {
            path: component.templates("field_path")?,
            deletes_origin: component.flag("delete_origin_value")?.unwrap_or(false),
            replaces_record: component.flag("replace_record")?.unwrap_or(false),
            prefix: part("prefix")?,
            suffix: part("suffix")?,
        })
    }

    pub fn apply(&self, record: &mut Value, build: &Build) -> Result<()> {
        let scope = build.scope();
        let path = self.path.iter().map(|step| step.value(&scope).map(|v| Step::of(&v))).collect::<Result<Vec<_>>>()?;
        let has_star = path.iter().any(|step| matches!(step, Step::Pattern(p) if p == "*"));
        let found = if has_star { dpath::values(record, &path).into_iter().next() } else { dpath::get(record, &path)? };
        let Some(Value::Object(found)) = found.cloned() else { return Ok(()) };
        let found = self.renamed(found, build)?;
        if self.replaces_record && !found.is_empty() {
            *record = found.into();
            return Ok(());
        }
        let Value::Object(own) = &*record else { return Ok(()) };
        if found.keys().any(|key| own.contains_key(key)) {
            return Ok(());
        }
        if self.deletes_origin {
            dpath::delete(record, &path, None)?;
        }
        if let Value::Object(own) = record {
            own.extend(found);
        }
        Ok(())
    }

    fn renamed(&self, found: Map<String, Value>, build: &Build) -> Result<Map<String, Value>> {
        let part = |template: &Option<Template>| -> Result<String> {
            let value = template.as_ref().map(|t| t.value(&build.scope())).transpose()?.filter(is_true);
            Ok(value.map(|v| crate::python::text(&v)).unwrap_or_default())
        };
        let (prefix, suffix) = (part(&self.prefix)?, part(&self.suffix)?);
        Ok(found.into_iter().map(|(key, value)| (format!("{prefix}{key}{suffix}"), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_in_snake_case_are_the_references() {
        for (key, wanted) in [
            ("FirstName", "first_name"),
            ("HTTPStatus 2x", "httpstatus_2_x"),
            ("2ndPlace", "_2_nd_place"),
            ("_private", "_private"),
            ("end_", "end_"),
            ("a--b", "a_b"),
            ("Größe", "grosse"),
            ("", ""),
            ("already_snake_case", "already_snake_case"),
        ] {
            assert_eq!(snake_case(key), wanted, "{key}");
        }
    }

    #[test]
    fn leaves_come_to_the_top() {
        assert_eq!(flatten(json!({"a": {"b": 1}, "c": {"b": 2}, "d": null}), true), json!({"d": null, "b": 2, "a.b": 1}));
        assert_eq!(flatten(json!({"x": {"y": 1}, "l": [{"z": 1}, 2]}), true), json!({"l.1": 2, "l.0.z": 1, "x.y": 1}));
        assert_eq!(flatten(json!({"l": [1], "e": {}}), false), json!({"l": [1]}));
    }

    #[test]
    fn lower_keys_take_the_place_of_others() {
        let mut record = json!({"A": 1, "b": {"C": 2}});
        to_lower(&mut record);
        assert_eq!(record, json!({"a": 1, "b": {"C": 2}}));
    }
}
