//! What came back for a request: its head, and its body read to the end.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use crate::page_text;

/// Shared by the error handler, the paginator and the extractor; what they ask for is worked out once.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Scheme, host and path of the request; its query may hold credentials and is left out.
    pub url: Value,
    pub body: Bytes,
    json: OnceLock<Option<Value>>,
    shown_headers: OnceLock<Value>,
}

impl Answer {
    pub fn new(status: StatusCode, headers: HeaderMap, url: impl Into<Value>, body: Bytes) -> Self {
        Self { status, headers, url: url.into(), body, json: OnceLock::new(), shown_headers: OnceLock::new() }
    }
    /// The same answer with nothing worked out yet.
    pub fn afresh(&self) -> Self {
        Self::new(self.status, self.headers.clone(), self.url.clone(), self.body.clone())
    }
    /// Below 400, as the reference's client judges.
    pub fn is_ok(&self) -> bool {
        self.status.as_u16() < 400
    }
    /// The body as JSON; `None` when it is none.
    pub fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| page_text::parse(&self.body)).as_ref()
    }
    /// The body as JSON; an empty object when it is none.
    pub fn json_or_empty(&self) -> &Value {
        static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(Map::new()));
        self.json().unwrap_or(&EMPTY)
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
    /// All headers as an object; several of one name are joined.
    pub fn headers_json(&self) -> &Value {
        self.shown_headers.get_or_init(|| {
            let mut shown: Map<String, Value> = Map::new();
            for (name, value) in &self.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                match shown.get_mut(name.as_str()) {
                    Some(Value::String(known)) => {
                        known.push_str(", ");
                        known.push_str(&value);
                    }
                    _ => {
                        shown.insert(name.as_str().to_owned(), value.into());
                    }
                }
            }
            shown.into()
        })
    }
    /// The headers with `link` read into its relations, as paginators see them.
    pub fn headers_with_links(&self) -> Value {
        let mut shown = self.headers_json().clone();
        let links = shown.get("link").and_then(Value::as_str).map(links).unwrap_or_default();
        if let Value::Object(map) = &mut shown {
            map.insert("link".into(), links.into());
        }
        shown
    }
}

/// A Link header: every link by its `rel`, or by its address where it has none.
fn links(header: &str) -> Map<String, Value> {
    let mut found = Map::new();
    for link in split_links(header) {
        let (url, params) = link.split_once(';').unwrap_or((link, ""));
        let url = url.trim_matches(|c: char| matches!(c, '<' | '>' | '\'' | '"' | ' '));
        let mut fields = Map::new();
        fields.insert("url".into(), url.into());
        for param in params.split(';') {
            let Some((key, value)) = param.split_once('=') else { break };
            let trim = |text: &str| text.trim_matches(|c: char| matches!(c, ' ' | '\'' | '"')).to_owned();
            fields.insert(trim(key), trim(value).into());
        }
        let key = fields.get("rel").and_then(Value::as_str).unwrap_or(url).to_owned();
        found.insert(key, fields.into());
    }
    found
}

/// Links part at a comma that is followed by `<`: addresses may hold commas.
fn split_links(header: &str) -> Vec<&str> {
    let header = header.trim_matches(|c: char| matches!(c, '\'' | '"' | ' '));
    let (mut parts, mut start) = (Vec::new(), 0);
    for (at, _) in header.match_indices(',') {
        if header[at + 1..].trim_start().starts_with('<') {
            parts.push(&header[start..at]);
            start = at + 1;
        }
    }
    parts.push(&header[start..]);
    parts.into_iter().filter(|p| !p.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_known_by_their_relation() {
        let got = links(r#"<https://a/x?p=2,3&q=1>; rel="next", <https://a/x>; rel=first; title="a""#);
        assert_eq!(
            Value::from(got),
            serde_json::json!({
                "next": {"url": "https://a/x?p=2,3&q=1", "rel": "next"},
                "first": {"url": "https://a/x", "rel": "first", "title": "a"},
            })
        );
        assert_eq!(links(""), Map::new());
    }
}
