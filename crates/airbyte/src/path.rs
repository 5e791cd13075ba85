//! Paths into JSON as the language writes them: segments are keys, indices, or patterns (`*`, `?`, `[..]`; `**` for any depth).

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// The segments of `a/b/c`.
pub fn split(path: &str) -> Vec<&str> {
    path.trim_start_matches('/').split('/').collect()
}

/// The one value there; `None` when there is none. `DataInvalid` when a pattern fits several.
pub fn get<'a, S: AsRef<str>>(value: &'a Value, path: &[S]) -> Result<Option<&'a Value>> {
    if !path.iter().any(|s| is_pattern(s.as_ref())) {
        return Ok(path.iter().try_fold(value, |value, segment| step(value, segment.as_ref())));
    }
    let mut found = Vec::new();
    collect(value, path, &mut found);
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Error::new(ErrorKind::DataInvalid, "a path fits several values where one is expected").fix("name the key instead of `*`")),
    }
}

/// Puts `new` at every place that is there already and that the path fits. How many there were.
pub fn set<S: AsRef<str>>(value: &mut Value, path: &[S], new: &Value) -> usize {
    let Some((first, rest)) = path.split_first() else { return 0 };
    let first = first.as_ref();
    let mut changed = if first == "**" { set(value, rest, new) } else { 0 };
    let deeper: &[S] = if first == "**" { path } else { rest };
    let mut visit = |key: &str, child: &mut Value| {
        if first != "**" && !fits(key, first) {
            return;
        }
        if rest.is_empty() {
            *child = new.clone();
            changed += 1;
        } else {
            changed += set(child, deeper, new);
        }
    };
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, child)| visit(key, child)),
        Value::Array(items) => items.iter_mut().enumerate().for_each(|(at, child)| visit(&at.to_string(), child)),
        _ => {}
    }
    changed
}

/// Puts `new` at the path, making what is missing on the way. Segments are plain keys here.
pub fn create<S: AsRef<str>>(value: &mut Value, path: &[S], new: Value) -> Result<()> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    let first = first.as_ref();
    let child = match value {
        Value::Array(items) => {
            let at: usize = first.parse().map_err(|_| no_place(first))?;
            if at > items.len() + 10_000 {
                return Err(no_place(first));
            }
            if at >= items.len() {
                items.resize(at + 1, Value::Null);
            }
            &mut items[at]
        }
        Value::Object(fields) => fields.entry(first).or_insert(Value::Null),
        _ => return Err(no_place(first)),
    };
    if rest.is_empty() {
        *child = new;
        return Ok(());
    }
    if child.is_null() {
        let is_index = rest[0].as_ref().bytes().all(|b| b.is_ascii_digit());
        *child = if is_index { Value::Array(vec![]) } else { Value::Object(Map::new()) };
    }
    create(child, rest, new)
}

fn no_place(segment: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, "a field path leads through a value that has no fields").with("segment", segment)
}

fn step<'a>(value: &'a Value, segment: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(segment),
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        _ => None,
    }
}

fn collect<'a, S: AsRef<str>>(value: &'a Value, path: &[S], found: &mut Vec<&'a Value>) {
    let Some((first, rest)) = path.split_first() else {
        found.push(value);
        return;
    };
    let first = first.as_ref();
    if first == "**" {
        collect(value, rest, found);
    }
    let mut visit = |key: &str, child: &'a Value| match first {
        "**" => collect(child, path, found),
        pattern if fits(key, pattern) => collect(child, rest, found),
        _ => {}
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, child)| visit(key, child)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, child)| visit(&at.to_string(), child)),
        _ => {}
    }
}

fn is_pattern(segment: &str) -> bool {
    segment.contains(['*', '?', '['])
}

/// Shell patterns over whole keys.
fn fits(key: &str, pattern: &str) -> bool {
    if !is_pattern(pattern) {
        return key == pattern;
    }
    let (key, pattern): (Vec<char>, Vec<char>) = (key.chars().collect(), pattern.chars().collect());
    let (mut k, mut p, mut star) = (0, 0, None);
    while k < key.len() {
        match token(&pattern, p) {
            Some((Token::Any, next)) => {
                star = Some((next, k));
                p = next;
            }
            Some((token, next)) if token.fits(key[k]) => (k, p) = (k + 1, next),
            _ => match star {
                Some((after, from)) => {
                    (k, p) = (from + 1, after);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

enum Token<'a> {
    Any,
    One,
    Set(&'a [char], bool),
    Exactly(char),
}

impl Token<'_> {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Exactly(other) => *other == c,
            Self::Set(set, negated) => {
                let mut at = 0;
                let mut hit = false;
                while at < set.len() {
                    if at + 2 < set.len() && set[at + 1] == '-' {
                        hit |= (set[at]..=set[at + 2]).contains(&c);
                        at += 3;
                    } else {
                        hit |= set[at] == c;
                        at += 1;
                    }
                }
                hit != *negated
            }
        }
    }
}

fn token(pattern: &[char], at: usize) -> Option<(Token<'_>, usize)> {
    match *pattern.get(at)? {
        '*' => Some((Token::Any, at + 1)),
        '?' => Some((Token::One, at + 1)),
        '[' => {
            let negated = pattern.get(at + 1) == Some(&'!');
            let from = at + 1 + usize::from(negated);
            // A bracket that comes first belongs to the set.
            match pattern.get(from + 1..).and_then(|rest| rest.iter().position(|c| *c == ']')) {
                Some(end) => Some((Token::Set(&pattern[from..from + 1 + end], negated), from + 2 + end)),
                None => Some((Token::Exactly('['), at + 1)),
            }
        }
        c => Some((Token::Exactly(c), at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_through_keys_indices_and_patterns() {
        let value = json!({"a": {"b": [10, {"c": 3}]}, "id": 1, "x.y": 2});
        let at = |path: &[&str]| get(&value, path).unwrap().cloned();
        assert_eq!(at(&["a", "b", "1", "c"]), Some(json!(3)));
        assert_eq!(at(&split("a/b/0")), Some(json!(10)));
        assert_eq!(at(&["x.y"]), Some(json!(2)));
        assert_eq!(at(&["a", "*", "0"]), Some(json!(10)));
        assert_eq!(at(&["**", "c"]), Some(json!(3)));
        assert_eq!(at(&["nothing"]), None);
        assert_eq!(at(&["id", "deeper"]), None);
        assert_eq!(get(&value, &["*"]).unwrap_err().kind(), ErrorKind::DataInvalid);
    }

    #[test]
    fn only_what_is_there_is_set_and_what_is_missing_is_made_when_asked() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "list": [{"n": 1}, {"n": 2}]});
        assert_eq!(set(&mut value, &["a", "?"], &json!(0)), 2);
        assert_eq!(set(&mut value, &["list", "*", "n"], &json!(7)), 2);
        assert_eq!(set(&mut value, &["a", "z"], &json!(0)), 0);
        assert_eq!(set(&mut value, &["**", "n"], &json!(8)), 2);
        create(&mut value, &["new", "0", "k"], json!("v")).unwrap();
        assert_eq!(value, json!({"a": {"b": 0, "c": 0}, "list": [{"n": 8}, {"n": 8}], "new": [{"k": "v"}]}));
        assert!(create(&mut value, &["a", "b", "c"], json!(1)).is_err());
        assert!(create(&mut value, &["list", "99999999", "c"], json!(1)).is_err());
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let yes = [
            ("abc", "a*"),
            ("abc", "*c"),
            ("abc", "a?c"),
            ("abc", "[a-c]bc"),
            ("]x", "[]]x"),
            ("abc", "[!x]bc"),
            ("a[", "a["),
            ("", "*"),
            ("aab", "*ab"),
        ];
        let no = [("abc", "a?"), ("abc", "[!a]bc"), ("abc", "*d"), ("", "?")];
        for (key, pattern) in yes {
            assert!(fits(key, pattern), "{key} {pattern}");
        }
        for (key, pattern) in no {
            assert!(!fits(key, pattern), "{key} {pattern}");
        }
    }
}
