//! Whether a JSON document comes out of MySQL's `json` as it went in. The server parses documents: a number that is no 64-bit integer
//! becomes a 64-bit float, and of two equal keys the last one wins. Layout and the order of keys mean nothing and are not looked at.

use std::{borrow::Cow, collections::HashSet};

/// The server takes no deeper nesting.
const DEEPEST: usize = 100;
/// A decimal of so many digits, and an exponent well inside of what a float has, always finds its way back.
const SHORT: usize = 15;

/// Whether the server would keep all that the document says. What is no JSON the server itself refuses.
pub(super) fn is_kept(text: &str) -> bool {
    let bytes = text.as_bytes();
    // The keys of each object that is open; none for a list.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let (mut at, mut key_is_next) = (0, false);
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' => {
                let end = string_end(bytes, at);
                if let Some(Some(keys)) = open.last_mut().filter(|_| key_is_next) {
                    if !keys.insert(spelt_out(&text[at..end])) {
                        return false;
                    }
                    key_is_next = false;
                }
                at = end;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
                if !number_is_kept(&text[at..at + length]) {
                    return false;
                }
                at += length;
                continue;
            }
            b'{' | b'[' => {
                open.push((b == b'{').then(HashSet::new));
                key_is_next = b == b'{';
                if open.len() > DEEPEST {
                    return false;
                }
            }
            b'}' | b']' => {
                open.pop();
                key_is_next = false;
            }
            b',' => key_is_next = matches!(open.last(), Some(Some(_))),
            _ => {}
        }
        at += 1;
    }
    true
}

/// Behind the closing quote of the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(b) = bytes.get(end) {
        match b {
            b'\\' => end += 2,
            b'"' => return end + 1,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// A key without its quotes and escapes, so that `"a"` and `"\u0061"` are one.
fn spelt_out(quoted: &str) -> Cow<'_, str> {
    match serde_json::from_str(quoted) {
        Ok(key) if quoted.contains('\\') => Cow::Owned(key),
        _ => Cow::Borrowed(quoted.trim_matches('"')),
    }
}

fn number_is_kept(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() < 19 || number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()) {
        return true;
    }
    let Some((significant, exponent)) = scientific(digits) else { return false };
    if significant.len() <= SHORT && (-290..=290).contains(&exponent) {
        return true;
    }
    digits.parse::<f64>().is_ok_and(|float| float.is_finite() && scientific(&format!("{float:e}")) == Some((significant, exponent)))
}

/// The digits that count and the power of ten of the first one: what two spellings of one number share.
fn scientific(number: &str) -> Option<(String, i64)> {
    let (mantissa, power) = match number.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let significant = all.trim_matches('0');
    if significant.is_empty() {
        return Some((String::new(), 0));
    }
    let first = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()? - 1;
    Some((significant.to_owned(), first.checked_add(power)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_float_holds_or_an_integer_is_kept() {
        for kept in [
            "0",
            "-0.0",
            "1.50",
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "0.30000000000000004",
            "1e20",
            "100000000000000000000",
            "1.7976931348623157e308",
            "5e-324",
            "1.0E+2",
            "0e999",
        ] {
            assert!(is_kept(kept), "{kept}");
        }
        for lost in [
            "18446744073709551617",
            "-9223372036854775809",
            "123456789012345678901234567890.123",
            "0.1000000000000000055511151231257827",
            "1e400",
            "1e-400",
            "3e-324",
            "1e99999999999999999999999",
        ] {
            assert!(!is_kept(lost), "{lost}");
            assert!(!is_kept(&format!("{{\"a\": [true, {lost}]}}")), "{lost}");
        }
    }

    #[test]
    fn numbers_in_strings_are_text_and_equal_keys_are_found() {
        for kept in [
            r#"{"a": "1e400", "1e400": "\"1e400"}"#,
            r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}], "c": "a"}"#,
            r#"["a", "a", {"x": "a", "y": "a"}]"#,
            r#"{"a": "\\", "b": 1}"#,
        ] {
            assert!(is_kept(kept), "{kept}");
        }
        for lost in [r#"{"a": 1, "a": 2}"#, r#"{"a": 1, "b": {}, "\u0061": 2}"#, r#"[{"x": {"é": [], "é": 1}}]"#] {
            assert!(!is_kept(lost), "{lost}");
        }
        assert!(is_kept(&format!("{}{}", "[".repeat(100), "]".repeat(100))));
        assert!(!is_kept(&"[".repeat(101)));
    }

    #[test]
    fn what_is_no_document_ends_the_look_and_nothing_else() {
        let whole = r#"{"a\"é": [1.5, -2e-3, {"b": "\\"}], "c": null}"#;
        for (at, _) in whole.char_indices() {
            is_kept(&whole[..at]);
            is_kept(&whole[at..]);
        }
        for odd in ["}", "]]", ",", "\"", "\"\\", "-", "{\"a\",\"b\"}"] {
            is_kept(odd);
        }
    }
}
