//! Paths into values as the language's extractors use them: names, indices, and the patterns `*`, `?`, `[..]` and `**`.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// One step of a path. A step that reads as a number addresses places of lists only, as in the reference.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Name(String),
    Index(i64),
    Pattern(String),
    /// `**`: any number of steps.
    Any,
}

impl Step {
    pub fn of(value: &Value) -> Self {
        match value {
            Value::String(text) if text == "**" => Self::Any,
            Value::String(text) if text.contains(['*', '?', '[']) => Self::Pattern(text.clone()),
            Value::String(text) => Self::Name(text.clone()),
            Value::Number(n) => n.as_i64().map_or_else(|| Self::Name(n.to_string()), Self::Index),
            other => Self::Name(other.to_string()),
        }
    }
    /// The step as a key.
    pub fn shown(&self) -> String {
        match self {
            Self::Name(name) | Self::Pattern(name) => name.clone(),
            Self::Index(at) => at.to_string(),
            Self::Any => "**".into(),
        }
    }
    fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_) | Self::Any)
    }
    fn takes_key(&self, key: &str) -> bool {
        match self {
            Self::Name(name) => name == key,
            Self::Pattern(pattern) => fits(pattern.as_bytes(), key.as_bytes()),
            Self::Index(_) => false,
            Self::Any => true,
        }
    }
    fn takes_index(&self, at: usize, len: usize) -> bool {
        let at = at as i64;
        match self {
            Self::Name(name) => name.parse::<i64>().is_ok_and(|n| n == at),
            Self::Index(n) => *n == at || (*n < 0 && len as i64 + n == at),
            Self::Pattern(pattern) => fits(pattern.as_bytes(), at.to_string().as_bytes()),
            Self::Any => true,
        }
    }
}

/// Whether a text fits a shell pattern: `*`, `?`, `[a-z]`, `[!x]`.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Without recursion over stars: the last star is where a mismatch goes back to.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'[') => {
                if let Some((yes, next)) = class(&pattern[p..], text[t]) {
                    if yes {
                        (p, t) = (p + next, t + 1);
                        continue;
                    }
                } else if text[t] == b'[' {
                    (p, t) = (p + 1, t + 1);
                    continue;
                }
            }
            Some(b'?') => {
                // One character, not one byte.
                let width = 1 + text[t + 1..].iter().take_while(|b| **b & 0xC0 == 0x80).count();
                (p, t) = (p + 1, t + width);
                continue;
            }
            Some(byte) if *byte == text[t] => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            _ => {}
        }
        let Some((sp, st)) = star else { return false };
        star = Some((sp, st + 1));
        (p, t) = (sp + 1, st + 1);
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// A class at the head of `pattern`: whether it takes the byte, and its length. `None` when it is not closed.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let not = pattern.get(at) == Some(&b'!');
    at += usize::from(not);
    let first = at;
    let mut found = false;
    loop {
        match *pattern.get(at)? {
            b']' if at > first => return Some((found != not, at + 1)),
            low => match (pattern.get(at + 1), pattern.get(at + 2)) {
                (Some(b'-'), Some(high)) if *high != b']' => {
                    found |= (low..=*high).contains(&byte);
                    at += 3;
                }
                _ => {
                    found |= low == byte;
                    at += 1;
                }
            },
        }
    }
}

/// All places that the path leads to, in the order of a walk that names a level before it goes deeper.
pub fn values<'a>(root: &'a Value, path: &[Step]) -> Vec<&'a Value> {
    let mut found = Vec::new();
    collect(root, path, &mut found);
    found
}

fn collect<'a>(node: &'a Value, path: &[Step], found: &mut Vec<&'a Value>) {
    let Some((step, rest)) = path.split_first() else { return found.push(node) };
    if *step == Step::Any {
        // Each way to the end is taken once: either nothing is skipped here, or one level is.
        if !rest.is_empty() {
            collect(node, rest, found);
        }
        for child in children(node) {
            if rest.is_empty() {
                found.push(child);
            }
            collect(child, path, found);
        }
        return;
    }
    match node {
        Value::Object(map) => match step {
            Step::Name(name) => {
                if let Some(child) = map.get(name) {
                    collect(child, rest, found);
                }
            }
            _ => map.iter().filter(|(key, _)| step.takes_key(key)).for_each(|(_, child)| collect(child, rest, found)),
        },
        Value::Array(list) => {
            let len = list.len();
            list.iter().enumerate().filter(|(at, _)| step.takes_index(*at, len)).for_each(|(_, child)| collect(child, rest, found));
        }
        _ => {}
    }
}

fn children(node: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match node {
        Value::Object(map) => Box::new(map.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The one place that the path leads to; `None` when there is none, an error when a pattern fits several.
pub fn get<'a>(root: &'a Value, path: &[Step]) -> Result<Option<&'a Value>> {
    if path.is_empty() {
        return Ok(Some(root));
    }
    if !path.iter().any(Step::is_pattern) {
        return Ok(values(root, path).into_iter().next());
    }
    match values(root, path).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Error::new(ErrorKind::DataInvalid, "a path that must lead to one place leads to several").fix("use `*` as a whole step")),
    }
}

/// Writes a value at a path, making what is missing on the way: lists where the next step is a number, objects otherwise.
pub fn put(root: &mut Value, path: &[Step], value: Value) -> Result<()> {
    let Some((last, way)) = path.split_last() else { return Ok(()) };
    let mut node = root;
    for (at, step) in way.iter().enumerate() {
        node = entered(node, step, path.get(at + 1))?;
    }
    *slot(node, last)? = value;
    Ok(())
}

fn entered<'a>(node: &'a mut Value, step: &Step, next: Option<&Step>) -> Result<&'a mut Value> {
    let is_there = match (&*node, step) {
        (Value::Object(map), _) => map.contains_key(&step.shown()),
        (Value::Array(list), _) => index(step).is_some_and(|at| at < list.len()),
        _ => false,
    };
    let slot = slot(node, step)?;
    if !is_there {
        *slot = if next.and_then(index).is_some() { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
    }
    match slot {
        Value::Object(_) | Value::Array(_) => Ok(slot),
        _ => Err(no_way(step)),
    }
}

/// Longer lists than this are not made by writing into them.
const LONGEST_FILL: usize = 100_000;

fn slot<'a>(node: &'a mut Value, step: &Step) -> Result<&'a mut Value> {
    match node {
        Value::Object(map) => Ok(map.entry(step.shown()).or_insert(Value::Null)),
        Value::Array(list) => {
            let at = index(step).filter(|at| *at < LONGEST_FILL).ok_or_else(|| no_way(step))?;
            if list.len() <= at {
                list.resize(at + 1, Value::Null);
            }
            Ok(&mut list[at])
        }
        _ => Err(no_way(step)),
    }
}

fn index(step: &Step) -> Option<usize> {
    match step {
        Step::Index(at) => usize::try_from(*at).ok(),
        Step::Name(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn no_way(step: &Step) -> Error {
    Error::new(ErrorKind::DataInvalid, "a path leads through something that is no object and no list").with("step", step.shown())
}

/// Whether a leaf is meant.
pub type Accepts<'a> = &'a dyn Fn(&Value) -> Result<bool>;

/// Removes what the path leads to. In a list only the last item goes, others become null, as in the reference.
/// With `only`, every leaf that it accepts goes, wherever it is. Answers how many went.
pub fn delete(root: &mut Value, path: &[Step], only: Option<Accepts<'_>>) -> Result<usize> {
    let mut doomed: Vec<Vec<Step>> = Vec::new();
    match only {
        None => find(root, path, &mut Vec::new(), &mut doomed),
        Some(accepts) => leaves(root, &mut Vec::new(), &mut |at, leaf| {
            if accepts(leaf)? {
                doomed.push(at.to_vec());
            }
            Ok(())
        })?,
    }
    for at in &doomed {
        remove(root, at);
    }
    Ok(doomed.len())
}

/// Removes the lists that the path leads to, also out of lists.
pub fn remove_lists(node: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match node {
        Value::Object(map) if rest.is_empty() => map.retain(|key, value| !(value.is_array() && step.takes_key(key))),
        Value::Array(list) if rest.is_empty() => {
            let len = list.len();
            let mut at = 0;
            list.retain(|value| {
                at += 1;
                !(value.is_array() && step.takes_index(at - 1, len))
            });
        }
        Value::Object(map) => map.iter_mut().filter(|(key, _)| step.takes_key(key)).for_each(|(_, value)| remove_lists(value, rest)),
        Value::Array(list) => {
            let len = list.len();
            list.iter_mut().enumerate().filter(|(at, _)| step.takes_index(*at, len)).for_each(|(_, value)| remove_lists(value, rest));
        }
        _ => {}
    }
}

fn find(node: &Value, path: &[Step], at: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
    let Some((step, rest)) = path.split_first() else { return };
    let (skips, exact) = match step {
        Step::Any => (true, rest.is_empty()),
        _ => (false, false),
    };
    if skips && !rest.is_empty() {
        find(node, rest, at, out);
    }
    let mut visit = |key: Step, takes: bool, child: &Value| {
        at.push(key);
        if takes && rest.is_empty() && !skips || exact {
            out.push(at.clone());
        } else if skips {
            find(child, path, at, out);
        } else if takes {
            find(child, rest, at, out);
        }
        at.pop();
    };
    match node {
        Value::Object(map) => map.iter().for_each(|(k, v)| visit(Step::Name(k.clone()), step.takes_key(k), v)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| visit(Step::Index(i as i64), step.takes_index(i, list.len()), v)),
        _ => {}
    }
}

fn leaves(node: &Value, at: &mut Vec<Step>, visit: &mut dyn FnMut(&[Step], &Value) -> Result<()>) -> Result<()> {
    match node {
        Value::Object(map) => {
            for (key, child) in map {
                at.push(Step::Name(key.clone()));
                leaves(child, at, visit)?;
                at.pop();
            }
            Ok(())
        }
        Value::Array(list) => {
            for (i, child) in list.iter().enumerate() {
                at.push(Step::Index(i as i64));
                leaves(child, at, visit)?;
                at.pop();
            }
            Ok(())
        }
        leaf if !at.is_empty() => visit(at, leaf),
        _ => Ok(()),
    }
}

fn remove(root: &mut Value, at: &[Step]) {
    let Some((last, way)) = at.split_last() else { return };
    let mut node = root;
    for step in way {
        let next = match (node, step) {
            (Value::Object(map), step) => map.get_mut(&step.shown()),
            (Value::Array(list), Step::Index(i)) => list.get_mut(*i as usize),
            _ => None,
        };
        let Some(next) = next else { return };
        node = next;
    }
    match (node, last) {
        (Value::Object(map), step) => {
            map.shift_remove(&step.shown());
        }
        (Value::Array(list), Step::Index(i)) => {
            let i = *i as usize;
            if i + 1 == list.len() {
                list.pop();
            } else if let Some(item) = list.get_mut(i) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(steps: Value) -> Vec<Step> {
        steps.as_array().unwrap().iter().map(Step::of).collect()
    }

    #[test]
    fn names_indices_and_patterns_lead_where_they_lead_in_the_reference() {
        let root = json!({"a": [{"b": 1}, {"b": 2}], "ab": {"b": 3}, "0": "x"});
        assert_eq!(values(&root, &path(json!(["a", "*", "b"]))), [&json!(1), &json!(2)]);
        assert_eq!(values(&root, &path(json!(["a*", "b"]))), [&json!(3)]);
        assert_eq!(values(&root, &path(json!(["**", "b"]))), [&json!(1), &json!(2), &json!(3)]);
        assert_eq!(get(&root, &path(json!(["a", -1, "b"]))).unwrap(), Some(&json!(2)));
        assert_eq!(get(&root, &path(json!([0]))).unwrap(), None, "a number is no key");
        assert!(get(&root, &path(json!(["a", "?", "b"]))).is_err());
        assert_eq!(get(&root, &path(json!([]))).unwrap(), Some(&root));
    }

    #[test]
    fn shell_patterns_fit_as_fnmatch_has_them() {
        for (pattern, text, fit) in [
            ("a*c", "abbc", true),
            ("a?c", "aéc", true),
            ("[a-c]x", "bx", true),
            ("[!a]x", "ax", false),
            ("[x", "[x", true),
            ("*", "", true),
            ("a*b*c", "a1b2b3c", true),
            ("a", "b", false),
            ("[]]", "]", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), fit, "{pattern} {text}");
        }
    }

    #[test]
    fn writing_makes_what_is_missing() {
        let mut root = json!({"a": 1});
        put(&mut root, &path(json!(["b", "c", 1])), json!("x")).unwrap();
        assert_eq!(root, json!({"a": 1, "b": {"c": [null, "x"]}}));
        assert!(put(&mut root, &path(json!(["a", "b"])), json!(1)).is_err());
        assert!(put(&mut root, &path(json!(["b", "c", 4_000_000_000_u64])), json!(1)).is_err());
    }

    #[test]
    fn deleting_keeps_the_places_of_a_list() {
        let mut root = json!({"a": [1, 2, 3], "b": {"c": 1, "d": null}});
        assert_eq!(delete(&mut root, &path(json!(["a", 0])), None).unwrap(), 1);
        assert_eq!(delete(&mut root, &path(json!(["a", 2])), None).unwrap(), 1);
        assert_eq!(root["a"], json!([null, 2]));
        assert_eq!(delete(&mut root, &path(json!(["x"])), None).unwrap(), 0);
        assert_eq!(delete(&mut root, &path(json!(["b"])), Some(&|v| Ok(v.is_null()))).unwrap(), 2);
        assert_eq!(root, json!({"a": [null, 2], "b": {"c": 1}}));
        assert_eq!(delete(&mut root, &path(json!(["**"])), None).unwrap(), 2);
        assert_eq!(root, json!({}));
    }
}
