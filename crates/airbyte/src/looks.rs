//! What templates look at, told from their texts: what no template sees need not be read.

/// Whether the template never looks at what lies at this path of the response: each way that it goes leaves the path early.
/// What cannot be told for sure counts as looking.
pub fn avoids(template: &str, path: &[String]) -> bool {
    let mut rest = template;
    while let Some(at) = rest.find("response") {
        let starts_a_name = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        rest = &rest[at + "response".len()..];
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        if !starts_a_name || !leaves(rest, path) {
            return false;
        }
    }
    true
}

/// Follows names behind `response` until one is not the path's.
/// The members of a variable that a template looks at, by name. `None` when it may look at any of them.
pub fn members(template: &str, variable: &str) -> Option<Vec<String>> {
    let (mut found, mut rest) = (Vec::new(), template);
    while let Some(at) = rest.find(variable) {
        let before = &rest[..at];
        let starts_a_name = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        rest = &rest[at + variable.len()..];
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') || before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let (name, _) = starts_a_name.then(|| named(rest)).flatten()?;
        found.push(name.to_owned());
    }
    Some(found)
}

fn leaves(mut rest: &str, path: &[String]) -> bool {
    for step in path {
        let Some((name, after)) = named(rest) else { return false };
        if name != step {
            return true;
        }
        rest = after;
    }
    false
}

/// A step to a name that is written out: `.name`, `['name']`, `.get('name'`.
fn named(rest: &str) -> Option<(&str, &str)> {
    if let Some(inside) = rest.strip_prefix('[') {
        return quoted(inside.trim_start());
    }
    let rest = rest.strip_prefix('.')?;
    if let Some(inside) = rest.strip_prefix("get(") {
        return quoted(inside.trim_start());
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    (!name.is_empty() && !after.trim_start().starts_with('(')).then_some((name, after))
}

/// A quoted name, and what follows behind its bracket; of a default nothing is followed.
fn quoted(inside: &str) -> Option<(&str, &str)> {
    let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (name, after) = inside[1..].split_once(quote)?;
    if name.contains('\\') {
        return None;
    }
    let after = after.trim_start();
    Some((name, after.strip_prefix([']', ')']).unwrap_or(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_looks_elsewhere_looks_away() {
        let path = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (template, names, away) in [
            ("{{ response.next }}", &["data"][..], true),
            ("{{ response['meta']['next'] }}", &["data"], true),
            ("{{ response.get('next', {}).get('data') }}", &["data"], true),
            ("{{ response.data[-1].id }}", &["data"], false),
            ("{{ response['data'] | length }}", &["data"], false),
            ("{{ response.data.next }}", &["data", "items"], true),
            ("{{ response.data }}", &["data", "items"], false),
            ("{{ response | length }}", &["data"], false),
            ("{{ response.values() }}", &["data"], false),
            ("{{ response[config.x] }}", &["data"], false),
            ("{{ not response.get('next') or last_record.response }}", &["data"], false),
            ("{{ headers.link.next.url }}", &["data"], true),
            ("{{ responses.data }}", &["data"], true),
            ("{% set r = response %}{{ r.data }}", &["data"], false),
        ] {
            assert_eq!(avoids(template, &path(names)), away, "{template}");
        }
    }

    #[test]
    fn members_are_known_by_the_names_that_are_written_out() {
        for (template, names) in [
            ("{{ record['a'] > 5 and record.b }}", Some(vec!["a", "b"])),
            ("{{ record.get('a', 1) }}{{ my_record }}{{ records }}", Some(vec!["a"])),
            ("{{ record.a.b['c'] }}", Some(vec!["a"])),
            ("{{ config['record'] }}", None),
            ("{{ 'x' in record }}", None),
            ("{{ record.items() }}", None),
            ("{{ record[config.k] }}", None),
            ("plain", Some(vec![])),
        ] {
            let got = members(template, "record");
            assert_eq!(got.as_ref().map(|n| n.iter().map(String::as_str).collect::<Vec<_>>()), names, "{template}");
        }
    }
}
