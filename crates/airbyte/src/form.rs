//! Addresses and forms: a base joined with a path, a query added, fields encoded, as the reference's libraries do it.

use serde_json::{Map, Value};

use crate::python::text;

/// The base with the path; a path that is an address of its own replaces the base.
pub fn join(base: &str, path: &str) -> String {
    if path.is_empty() {
        return base.to_owned();
    }
    let base = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
    relative(&base, path)
}

/// What a reference means, seen from a base.
fn relative(base: &str, path: &str) -> String {
    if scheme(path).is_some() {
        return path.to_owned();
    }
    let base = Parts::of(base);
    if let Some(rest) = path.strip_prefix("//") {
        return format!("{}//{rest}", base.scheme);
    }
    let (path, tail) = path.find(['?', '#']).map_or((path, ""), |at| path.split_at(at));
    if path.is_empty() {
        return format!("{}{}{}{tail}", base.scheme, base.host, base.path);
    }
    let mut steps: Vec<&str> = path.split('/').collect();
    if !path.starts_with('/') {
        let mut whole: Vec<&str> = base.path.split('/').collect();
        if whole.last() != Some(&"") {
            whole.pop();
        }
        whole.append(&mut steps);
        let last = whole.len().saturating_sub(1);
        steps =
            whole.into_iter().enumerate().filter(|(at, step)| *at == 0 || *at == last || !step.is_empty()).map(|(_, step)| step).collect();
    }
    let merged = without_dots(&steps);
    let merged = if merged.is_empty() { "/".to_owned() } else { merged };
    let slash = if merged.starts_with('/') || base.host.is_empty() { "" } else { "/" };
    format!("{}{}{slash}{merged}{tail}", base.scheme, base.host)
}

fn without_dots(steps: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::with_capacity(steps.len());
    for step in steps {
        match *step {
            ".." => {
                kept.pop();
            }
            "." => {}
            step => kept.push(step),
        }
    }
    if matches!(steps.last(), Some(&("." | ".."))) {
        kept.push("");
    }
    kept.join("/")
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let fine = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    fine.then_some(scheme)
}

/// `https:`, `//host`, `/path`; query and fragment are left out.
struct Parts<'a> {
    scheme: String,
    host: String,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = match scheme(url) {
            Some(scheme) => (format!("{scheme}:"), &url[scheme.len() + 1..]),
            None => (String::new(), url),
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let Some(after) = rest.strip_prefix("//") else { return Self { scheme, host: String::new(), path: rest } };
        let (host, path) = after.find('/').map_or((after, ""), |at| after.split_at(at));
        Self { scheme, host: format!("//{host}"), path }
    }
}

/// The address with the parameters behind its own query; those that it already holds with the same value are left out.
pub fn with_query(url: &str, params: &Map<String, Value>) -> String {
    let url = url.split('#').next().unwrap_or_default().trim_start();
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let own = own_query(query);
    let added = params.iter().filter(|(key, value)| !own.iter().any(|(k, v)| k == *key && *v == text(value)));
    let added = encoded(added);
    // A host may stand in brackets; elsewhere they are quoted.
    let host_end = path.find("://").map_or(0, |at| path[at + 3..].find('/').map_or(path.len(), |slash| at + 3 + slash));
    let (host, path) = path.split_at(host_end);
    let mut whole = format!("{host}{}", quoted(path));
    if !query.is_empty() || !added.is_empty() {
        whole.push('?');
        whole.push_str(&quoted(query));
    }
    if !query.is_empty() && !added.is_empty() {
        whole.push('&');
    }
    whole.push_str(&added);
    whole
}

/// Names and first values of a query; empty values do not count.
fn own_query(query: &str) -> Vec<(String, String)> {
    let mut own: Vec<(String, String)> = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if !value.is_empty() && !own.iter().any(|(k, _)| *k == key) {
            own.push((key.into_owned(), value.into_owned()));
        }
    }
    own
}

/// Fields as a form: lists repeat their key, nulls are left out.
pub fn encoded<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let mut out = String::new();
    let mut pair = |key: &str, value: &Value| {
        if value.is_null() {
            return;
        }
        if !out.is_empty() {
            out.push('&');
        }
        plus_quoted(&mut out, key);
        out.push('=');
        plus_quoted(&mut out, &text(value));
    };
    for (key, value) in fields {
        match value {
            Value::Array(items) => items.iter().for_each(|item| pair(key, item)),
            // Iterating over an object gives its names.
            Value::Object(map) => map.keys().for_each(|name| pair(key, &Value::from(name.as_str()))),
            one => pair(key, one),
        }
    }
    out
}

fn plus_quoted(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => percent(out, other),
        }
    }
}

/// What may not stand in an address is quoted; what is quoted already stays, unless a bare percent sign shows that nothing is.
fn quoted(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let all_escapes = bytes.iter().enumerate().all(|(at, b)| *b != b'%' || is_escape(at));
    let mut out = String::with_capacity(text.len());
    for byte in bytes {
        match byte {
            b'%' if all_escapes => out.push('%'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(*byte)),
            byte if b"-._~!$&'()*+,;=:@/?".contains(byte) => out.push(char::from(*byte)),
            byte => percent(&mut out, *byte),
        }
    }
    out
}

fn percent(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_joins_its_base_as_the_reference_joins_them() {
        for (base, path, whole) in [
            ("https://x.com/api/", "v1", "https://x.com/api/v1"),
            ("https://x.com/api", "v1/a", "https://x.com/api/v1/a"),
            ("https://x.com", "v1", "https://x.com/v1"),
            ("https://x.com/api", "", "https://x.com/api"),
            ("https://x.com/api", "/v1", "https://x.com/v1"),
            ("https://x.com/api", "https://y.com/z?a=1", "https://y.com/z?a=1"),
            ("https://x.com/api/", "../v2", "https://x.com/v2"),
            ("https://x.com/a//b/", "c//d", "https://x.com/a/b/c/d"),
            ("https://x.com/a", "b/", "https://x.com/a/b/"),
            ("https://x.com/a", "?q=1", "https://x.com/a/?q=1"),
            ("https://x.com/a?k=1", "b?q=1", "https://x.com/b?q=1"),
            ("https://x.com/a", "//y.com/b", "https://y.com/b"),
            ("https://x.com/a", "./b/..", "https://x.com/a/"),
            ("https://x.com/a", "items:search", "items:search"),
        ] {
            assert_eq!(join(base, path), whole, "{base} {path}");
        }
    }

    #[test]
    fn a_query_goes_behind_the_addresses_own() {
        let params = json!({"a": "1", "b": ["x y", "z"], "c": null, "d": true, "é": "&"});
        let params = params.as_object().unwrap();
        assert_eq!(with_query("https://x/p", params), "https://x/p?a=1&b=x+y&b=z&d=True&%C3%A9=%26");
        assert_eq!(with_query("https://x/p?a=1&k=%20#f", params), "https://x/p?a=1&k=%20&b=x+y&b=z&d=True&%C3%A9=%26");
        assert_eq!(with_query("https://x/p?a=2", &json!({"a": 2}).as_object().unwrap().clone()), "https://x/p?a=2");
        assert_eq!(with_query("https://x/a b/{c}", &Map::new()), "https://x/a%20b/%7Bc%7D");
        assert_eq!(with_query("https://x/100%", &Map::new()), "https://x/100%25");
        assert_eq!(with_query("http://[::1]:80/s/['1']?a[]=\u{e9}|", &Map::new()), "http://[::1]:80/s/%5B'1'%5D?a%5B%5D=%C3%A9%7C");
    }
}
