//! What serde says of a value that does not fit, told so that a person can act on it: which field it is, and what would fit in plain words.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The field whose value is wrong, which serde does not say: without it the complaint is another.
pub fn field_at_fault<'a, T: DeserializeOwned>(input: &'a Value, complaint: &serde_json::Error) -> Option<&'a str> {
    let complaint = complaint.to_string();
    let fields = input.as_object()?;
    let is_at_fault = |name: &&String| {
        let without: Map<String, Value> = fields.iter().filter(|(k, _)| k != name).map(|(k, v)| (k.clone(), v.clone())).collect();
        serde_json::from_value::<T>(Value::Object(without)).err().is_none_or(|e| e.to_string() != complaint)
    };
    fields.keys().find(is_at_fault).map(String::as_str)
}

/// What would fit, out of serde's text about a wrong value. The text may quote the value, which may be a secret: nothing of it is kept.
pub fn expected(text: &str) -> String {
    let what = text.split(" at line").next().unwrap_or_default();
    plainly(what.rsplit_once("expected ").map_or("another kind of value", |(_, x)| x))
}

/// Rust's words in those of JSON.
pub fn plainly(expected: &str) -> String {
    let word = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") || expected.starts_with("internally tagged enum") => "an object",
        "unit" => "null",
        other => other,
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read from JSON")]
    struct Fields {
        name: String,
        port: Option<u16>,
        inner: Option<Box<Fields>>,
    }

    #[test]
    fn the_field_and_what_fits_it_are_told_and_the_value_is_not() {
        for (input, field, fits) in [
            (json!({"name": 7}), "name", "a string"),
            (json!({"name": "a", "port": "canary"}), "port", "a whole number from 0 to 65535"),
            (json!({"name": "a", "port": 70_000}), "port", "a whole number from 0 to 65535"),
            (json!({"name": "a", "inner": "canary"}), "inner", "an object"),
            (json!({"inner": {"name": ["canary"]}, "name": "a"}), "inner", "a string"),
        ] {
            let e = serde_json::from_value::<Fields>(input.clone()).unwrap_err();
            assert_eq!((field_at_fault::<Fields>(&input, &e), expected(&e.to_string()).as_str()), (Some(field), fits), "{e}");
        }
    }
}
