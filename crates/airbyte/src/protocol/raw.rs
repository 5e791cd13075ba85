//! A record's text on its way to a line: untouched where it can be, without its top-level nulls and line breaks otherwise.

use memchr::{memchr2, memmem};

/// Appends the object `text` (valid JSON) as one line, leaving out top-level members that are null. Nested nulls stay.
pub fn append(out: &mut Vec<u8>, text: &[u8]) {
    let is_clean = memchr2(b'\n', b'\r', text).is_none() && memmem::find(text, b"null").is_none();
    match is_clean {
        true => out.extend_from_slice(text),
        false => append_members(out, text),
    }
}

fn append_members(out: &mut Vec<u8>, text: &[u8]) {
    let inner = text.trim_ascii();
    let inner = inner.strip_prefix(b"{").and_then(|t| t.strip_suffix(b"}")).unwrap_or(inner);
    out.push(b'{');
    let mut is_first = true;
    for member in Members(inner) {
        if is_null(member) {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        let member = member.trim_ascii();
        // A string holds no bare line break, so those that there are stand between tokens.
        match memchr2(b'\n', b'\r', member) {
            None => out.extend_from_slice(member),
            Some(_) => out.extend(member.iter().filter(|b| !matches!(b, b'\n' | b'\r'))),
        }
    }
    out.push(b'}');
}

/// Whether a `"key": value` has the value null.
fn is_null(member: &[u8]) -> bool {
    let Some(key) = member.trim_ascii_end().strip_suffix(b"null") else { return false };
    key.trim_ascii_end().ends_with(b":")
}

/// The members of an object's inside, split at its own commas.
struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.trim_ascii().is_empty() {
            return None;
        }
        let end = end_of_member(self.0);
        let member = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(member)
    }
}

fn end_of_member(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text[at] {
            b'"' => at = end_of_string(text, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The place of the quote that ends the string beginning at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn line(text: &str) -> String {
        let mut out = Vec::new();
        append(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn top_level_nulls_go_and_all_else_stays_as_it_was() {
        let cases = [
            (r#"{"a":1,"b":1.50}"#, r#"{"a":1,"b":1.50}"#),
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":null,"b":[null,{"c":null}],"d":null}"#, r#"{"b":[null,{"c":null}]}"#),
            (r#"{"a":"null","b":"x:null","null":1}"#, r#"{"a":"null","b":"x:null","null":1}"#),
            (r#"{"a\",":"}{,\"","b" : null , "c":"\\"}"#, r#"{"a\",":"}{,\"","c":"\\"}"#),
            ("{\n  \"a\": {\n    \"b\": null\r\n  },\n  \"c\": null\n}", r#"{"a": {    "b": null  }}"#),
            ("{}", "{}"),
            ("{ \n }", "{}"),
        ];
        for (text, wanted) in cases {
            assert_eq!(line(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_written_means_the_same_as_a_parse_without_nulls() {
        let pieces = ["1", "null", "\"nu\\\"ll\"", "[null,1]", "{\"x\":null,\"y\":[]}", "\"\\\\\"", "true", "-0.0", "\"é,}\""];
        let mut seed = 7_u64;
        for _ in 0..5_000 {
            let mut text = String::from("{");
            let mut draw = |n: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % n
            };
            for i in 0..draw(6) {
                let blank = [" ", "", "\n", "\t"][draw(4) as usize];
                let comma = if i == 0 { "" } else { "," };
                text += &format!("{comma}{blank}\"k{i}\"{blank}:{blank}{}{blank}", pieces[draw(pieces.len() as u64) as usize]);
            }
            text.push('}');
            let mut wanted: Value = serde_json::from_str(&text).unwrap();
            wanted.as_object_mut().unwrap().retain(|_, v| !v.is_null());
            let got = line(&text);
            assert!(!got.contains('\n'));
            assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), wanted, "{text:?}");
        }
    }
}
