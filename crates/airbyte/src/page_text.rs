//! A page of JSON: read whole as the reference's reader does, or cut into the texts of its records without reading them.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use memchr::memchr2;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};

/// Reads a text as Python's reader does: bare `NaN` and `Infinity` are taken, as null. `None` when it is no JSON.
pub fn parse(text: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Some(value);
    }
    serde_json::from_slice(&without_odd_numbers(text)?).ok()
}

/// The text with null for every bare `NaN`, `Infinity` and `-Infinity`; `None` when there is none of them.
fn without_odd_numbers(text: &[u8]) -> Option<Vec<u8>> {
    memchr2(b'N', b'I', text)?;
    let (mut out, mut at, mut found) = (Vec::with_capacity(text.len()), 0, false);
    while at < text.len() {
        let rest = &text[at..];
        if text[at] == b'"' {
            let end = end_of_string(text, at);
            out.extend_from_slice(&text[at..end]);
            at = end;
            continue;
        }
        let odd = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| rest.starts_with(word));
        match odd {
            Some(word) => {
                out.extend_from_slice(b"null");
                at += word.len();
                found = true;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    found.then_some(out)
}

/// Behind the quote that closes the string at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        match text[at] {
            b'"' => return at + 1,
            _ => at = (at + 2).min(text.len()),
        }
    }
    text.len()
}

/// Deeper than this no page is read.
const DEEPEST: usize = 127;

/// Whether a text is nested deeper than it will be read: that is no broken page, and must not pass for one.
pub fn is_too_deep(text: &[u8]) -> bool {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        match text[at] {
            b'"' => {
                at = end_of_string(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return true;
        }
        at += 1;
    }
    false
}

/// Where the records of a page lie in its text.
#[derive(Debug, PartialEq)]
pub enum Rows {
    /// The place is a list of objects.
    Objects(Vec<Range<usize>>),
    /// The page is fine, and there is no such place in it.
    Missing,
    /// Its records must be read: the place is no list of objects, keys repeat, numbers are odd, the page is no JSON.
    Unclear,
}

/// Finds the list at a path of names, reading no more of the page than its shape.
pub fn rows(page: &Bytes, path: &[&str]) -> Rows {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(page);
    let seed = Descent { path, found: &mut found, base: page.as_ptr() as usize };
    if seed.deserialize(&mut reader).is_err() || reader.end().is_err() {
        return Rows::Unclear;
    }
    found.map_or(Rows::Missing, Rows::Objects)
}

/// Goes down the path; ignores all else.
struct Descent<'a> {
    path: &'a [&'a str],
    found: &'a mut Option<Vec<Range<usize>>>,
    base: usize,
}

impl<'de> DeserializeSeed<'de> for Descent<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Descent<'_> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or a list")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((name, rest)) = self.path.split_first() else { return Err(A::Error::custom("one object")) };
        let mut seen = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != *name {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                return Err(A::Error::custom("a key twice"));
            }
            map.next_value_seed(Descent { path: rest, found: self.found, base: self.base })?;
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.path.is_empty() {
            return Err(A::Error::custom("a list on the way"));
        }
        let mut rows = Vec::new();
        while let Some(item) = list.next_element::<&'de RawValue>()? {
            let text = item.get();
            if !text.starts_with('{') || Members::of(text.as_bytes()).repeat() {
                return Err(A::Error::custom("not a plain object"));
            }
            let start = text.as_ptr() as usize - self.base;
            rows.push(start..start + text.len());
        }
        *self.found = Some(rows);
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(E::custom("a scalar"))
    }
    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(E::custom("a scalar"))
    }
    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(E::custom("a scalar"))
    }
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("a scalar"))
    }
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom("a scalar"))
    }
}

/// The members of an object whose text is known to be valid JSON: key and value as they are written.
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    pub fn of(object: &'a [u8]) -> Self {
        let at = object.iter().position(|b| *b == b'{').map_or(object.len(), |at| at + 1);
        Self { text: object, at }
    }

    /// Whether a key may stand there twice; one with an escape counts as such.
    fn repeat(self) -> bool {
        let mut seen: Vec<&[u8]> = Vec::with_capacity(32);
        let mut bloom = 0_u64;
        for (key, _) in self {
            let mark = 1_u64 << (fold(key) & 63);
            if key.contains(&b'\\') || (bloom & mark != 0 && seen.contains(&key)) {
                return true;
            }
            bloom |= mark;
            seen.push(key);
        }
        false
    }
}

/// Spreads keys over the bits of a word.
fn fold(key: &[u8]) -> usize {
    let (first, last, middle) = match key {
        [] => return 0,
        key => (key[0], key[key.len() - 1], key[key.len() / 2]),
    };
    (usize::from(first) * 31 + usize::from(middle)) * 17 + usize::from(last) * 7 + key.len()
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let key_at = self.at + self.text.get(self.at..)?.iter().position(|b| matches!(b, b'"' | b'}'))?;
        if self.text[key_at] == b'}' {
            self.at = self.text.len();
            return None;
        }
        let key_end = end_of_string(self.text, key_at);
        let value_at = key_end + self.text[key_end..].iter().position(|b| !matches!(b, b':' | b' ' | b'\t' | b'\n' | b'\r'))?;
        let value_end = end_of_value(self.text, value_at);
        self.at = value_end;
        let value = self.text[value_at..value_end].trim_ascii_end();
        Some((&self.text[key_at + 1..key_end - 1], value))
    }
}

/// The comma or the brace behind the value at `start`.
fn end_of_value(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < text.len() {
        match text[at] {
            b'"' => {
                at = end_of_string(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut(page: &str, path: &[&str]) -> Option<Vec<String>> {
        match rows(&Bytes::copy_from_slice(page.as_bytes()), path) {
            Rows::Objects(rows) => Some(rows.into_iter().map(|r| page[r].to_owned()).collect()),
            Rows::Missing => Some(vec!["missing".into()]),
            Rows::Unclear => None,
        }
    }

    #[test]
    fn records_are_cut_out_of_their_page_as_they_stand() {
        let page = r#"{"n": 2, "data": {"items": [ {"a": 1.50} ,{"b":"]}"}]}, "z": [1]}"#;
        assert_eq!(cut(page, &["data", "items"]).unwrap(), [r#"{"a": 1.50}"#, r#"{"b":"]}"}"#]);
        assert_eq!(cut(r#"[{"a":1}]"#, &[]).unwrap(), [r#"{"a":1}"#]);
        assert_eq!(cut(r#"{"data": []}"#, &["data"]).unwrap(), Vec::<String>::new());
        assert_eq!(cut(r#"{"x": []}"#, &["data"]).unwrap(), ["missing"]);
        assert_eq!(cut(r#"{"data": null}"#, &["data"]).unwrap(), ["missing"]);
    }

    #[test]
    fn what_cannot_be_cut_safely_is_left_to_a_reader() {
        for (page, path) in [
            (r#"{"data": {"a": 1}}"#, &["data"][..]),
            (r#"{"data": [1]}"#, &["data"]),
            (r#"{"data": [{"a": 1, "a": 2}]}"#, &["data"]),
            (r#"{"data": [{"a": 1, "\u0061": 2}]}"#, &["data"]),
            (r#"{"data": [{"a": NaN}]}"#, &["data"]),
            (r#"{"data": [], "data": [{}]}"#, &["data"]),
            (r#"{"data": [{}]"#, &["data"]),
            (r#"{"data": 5}"#, &["data"]),
            (r#"[{"data": [{}]}]"#, &["data"]),
            (r#"{"a": 1}"#, &[]),
            ("<html>", &[]),
        ] {
            assert_eq!(cut(page, path), None, "{page}");
        }
    }

    #[test]
    fn odd_numbers_are_nulls_outside_of_strings() {
        assert_eq!(
            parse(br#"{"a": NaN, "b": [-Infinity, "NaN \" Infinity"], "c": Infinity}"#),
            Some(json!({"a": null, "b": [null, "NaN \" Infinity"], "c": null}))
        );
        assert_eq!(parse(b"{\"a\": Nan}"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn members_stand_as_they_are_written() {
        let got: Vec<_> = Members::of(br#"{ "a" : {"x":"}"} , "b":[1,2],"c": null }"#).collect();
        assert_eq!(got, [(&b"a"[..], &br#"{"x":"}"}"#[..]), (b"b", b"[1,2]"), (b"c", b"null")]);
        assert_eq!(Members::of(b"{ }").count(), 0);
    }
}
