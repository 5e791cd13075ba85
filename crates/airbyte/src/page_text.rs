//! A page of JSON: read whole as the reference's reader does, or cut into the texts of its records without reading them.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use memchr::memchr2;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
    while let Some(found) = quote_or_backslash(&text[at..]) {
        at += found;
        match text[at] {
            b'"' => return at + 1,
            _ => at = (at + 2).min(text.len()),
        }
    }
    text.len()
}

/// Most strings of a page end within a few words, sooner than a vector search begins.
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    const SHORT: usize = 4;
    // The lowest bit that is left marks the first byte that is zero (Hacker's Delight 6-1); those above it may be wrong.
    let zeros = |word: u64| word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080;
    let every = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let (words, _) = text.as_chunks::<8>();
    for (at, word) in words.iter().take(SHORT).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let rest = words.len().min(SHORT) * 8;
    Some(rest + memchr2(b'"', b'\\', &text[rest..])?)
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
    let seed = Descent { path, found: &mut found, page };
    if seed.deserialize(&mut reader).is_err() || reader.end().is_err() {
        return Rows::Unclear;
    }
    found.map_or(Rows::Missing, Rows::Objects)
}

/// Goes down the path; ignores all else.
struct Descent<'a> {
    path: &'a [&'a str],
    found: &'a mut Option<Vec<Range<usize>>>,
    page: &'a [u8],
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
            map.next_value_seed(Descent { path: rest, found: self.found, page: self.page })?;
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.path.is_empty() {
            return Err(A::Error::custom("a list on the way"));
        }
        let mut rows = Vec::new();
        while let Some(row) = list.next_element_seed(Row { page: self.page })? {
            rows.push(row);
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

/// One record: an object whose keys are written plainly and stand there once. Where it lies is known from its members.
struct Row<'a> {
    page: &'a [u8],
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = Range<usize>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Range<usize>, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = Range<usize>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Range<usize>, A::Error> {
        let place = |text: &str| text.as_ptr() as usize - self.page.as_ptr() as usize;
        let mut seen = Seen::default();
        let (mut first, mut end) = (None, 0);
        // A key with an escape is no piece of the page, and so an error here.
        while let Some(key) = map.next_key::<&'de str>()? {
            if seen.again(key.as_bytes()) {
                return Err(A::Error::custom("a key twice"));
            }
            first.get_or_insert_with(|| place(key));
            let value = map.next_value::<&'de RawValue>()?.get();
            end = place(value) + value.len();
        }
        let first = first.ok_or_else(|| A::Error::custom("an empty object"))?;
        let start = self.page[..first].iter().rposition(|b| *b == b'{').ok_or_else(|| A::Error::custom("no start"))?;
        let close = self.page[end..].iter().position(|b| *b == b'}').ok_or_else(|| A::Error::custom("no end"))?;
        Ok(start..end + close + 1)
    }
}

/// The keys of one object so far.
#[derive(Default)]
struct Seen<'k> {
    keys: Vec<&'k [u8]>,
    bloom: u64,
}

impl<'k> Seen<'k> {
    /// Whether the key came before.
    fn again(&mut self, key: &'k [u8]) -> bool {
        let mark = 1_u64 << (fold(key) & 63);
        if self.bloom & mark != 0 && self.keys.contains(&key) {
            return true;
        }
        self.bloom |= mark;
        if self.keys.capacity() == 0 {
            self.keys.reserve(32);
        }
        self.keys.push(key);
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

/// The page as a value, with an empty list in place of the one at the path: what a paginator looks at beside the records.
/// `None` when the page must be read whole.
pub fn outline(page: &[u8], path: &[String]) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(page);
    let value = Outline { path }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

struct Outline<'a> {
    path: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Outline<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        if self.path.is_empty() {
            return IgnoredAny::deserialize(reader).map(|_| Value::Array(Vec::new()));
        }
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Outline<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match self.path.split_first() {
                Some((name, rest)) if *name == key => map.next_value_seed(Outline { path: rest })?,
                _ => map.next_value()?,
            };
            fields.insert(key, value);
        }
        Ok(fields.into())
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
    fn the_first_quote_or_backslash_is_found_wherever_it_is() {
        for length in 0..80 {
            let plain = vec![0xc3; length];
            assert_eq!(quote_or_backslash(&plain), None);
            for at in 0..length {
                for (one, other) in [(b'"', b'\\'), (b'\\', b'"'), (b'"', b'#'), (b'"', b'!')] {
                    let mut text = plain.clone();
                    text[at] = one;
                    text[at + 1..].fill(other);
                    assert_eq!(quote_or_backslash(&text), Some(at), "{at} of {length}");
                }
            }
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
