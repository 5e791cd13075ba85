//! A secret as other systems repeat it: what has to be looked for so that it is nowhere told.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

/// Shorter ones are words of any text.
const SHORTEST: usize = 4;

/// The secret itself, percent-encoded, in base64 behind any user's name, in hex, and as JSON writes it. None for one that is too short
/// to be told from other words.
pub fn spellings(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST {
        return vec![];
    }
    let percent = |keep: fn(u8) -> bool, upper: bool| -> String {
        let spell = |b: u8| match (keep(b), upper) {
            (true, _) => (b as char).to_string(),
            (_, true) => format!("%{b:02X}"),
            (_, false) => format!("%{b:02x}"),
        };
        secret.bytes().map(spell).collect()
    };
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let json = serde_json::to_string(secret).unwrap_or_default();
    let inner = json.strip_prefix('"').and_then(|j| j.strip_suffix('"')).unwrap_or(&json);
    // A text within a text, and what a language's own way to show texts makes of it.
    let twice = serde_json::to_string(inner).unwrap_or_default();
    let twice = twice.strip_prefix('"').and_then(|j| j.strip_suffix('"')).unwrap_or(&twice).to_owned();
    let ascii: String = inner.chars().flat_map(|c| if c.is_ascii() { vec![c] } else { escaped(c) }).collect();
    let mut all = vec![
        secret.to_owned(),
        percent(unreserved, true),
        percent(unreserved, false),
        percent(alphanumeric, true),
        percent(unreserved, true).replace("%20", "+"),
        hex.to_uppercase(),
        hex,
        inner.to_owned(),
        twice,
        ascii,
        secret.escape_debug().to_string(),
    ];
    all.extend((0..3).flat_map(|shift| base64_at(secret, shift)));
    all.retain(|s| s.len() >= SHORTEST);
    all.sort();
    all.dedup();
    all
}

/// `\u00e9`, as JSON of ASCII alone has it.
fn escaped(c: char) -> Vec<char> {
    c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| format!("\\u{unit:04x}").chars().collect::<Vec<_>>()).collect()
}

/// The part of a base64 text that the secret alone decides when it starts `shift` bytes after a group of three: `user:secret` is such.
fn base64_at(secret: &str, shift: usize) -> [String; 2] {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret.as_bytes());
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    [BASE64_STANDARD_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)]
        .map(|text| text.get(first..last).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_secret_is_known() {
        let secret = "p&ss w/rd+\"é\\";
        let all = spellings(secret);
        for expected in [
            secret,
            "p%26ss%20w%2Frd%2B%22%C3%A9%5C",
            "p%26ss+w%2Frd%2B%22%C3%A9%5C",
            "p&ss w/rd+\\\"é\\\\",
            "p&ss w/rd+\\\"\\u00e9\\\\",
            "p&ss w/rd+\\\\\\\"é\\\\\\\\",
            "70267373",
        ] {
            assert!(all.iter().any(|s| s.starts_with(expected)), "{expected}: {all:?}");
        }
        assert!(spellings("abc").is_empty());
    }
}
