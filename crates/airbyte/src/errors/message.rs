//! The message of a failed answer, wherever an API puts it.

use serde_json::Value;

use crate::{answer::Answer, truth::is_true};

const KEYS: [&str; 12] =
    ["message", "messages", "error", "errors", "failures", "failure", "detail", "err", "error_message", "msg", "reason", "status_message"];

/// What the answer says went wrong; its whole text when it is no JSON. Only for comparing: it may hold anything.
pub fn of(answer: &Answer) -> Option<String> {
    match answer.json() {
        Some(value) => found(value),
        None => String::from_utf8(answer.body.to_vec()).ok(),
    }
}

fn found(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(found).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let mut named = KEYS.iter().filter_map(|key| map.get(*key));
            named.find(|v| is_true(v)).and_then(found)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_key_that_says_something_is_asked() {
        assert_eq!(found(&json!({"message": "", "errors": [{"detail": "a"}, {"msg": "b"}, 5]})).as_deref(), Some("a, b"));
        assert_eq!(found(&json!({"error": {"code": 5}})), None);
        assert_eq!(found(&json!({"message": 5, "error": "x"})), None, "the first one decides, whatever it is");
    }
}
