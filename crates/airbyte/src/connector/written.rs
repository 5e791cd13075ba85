//! The states that lanes write, as they are read again.

use std::borrow::Cow;

use linkspan_core::{Error, ErrorKind, Result, State};
use serde_json::Value;

/// The version of the states that lanes write. Those of version 1 had no parts that are kept as text.
pub(super) const VERSION: u16 = 2;

/// A part of a state that some run wrote: as it is, or read from its text.
pub(super) fn written<'a>(state: &'a State, part: &str) -> Result<Cow<'a, Value>> {
    match state.value.get(part) {
        _ if !(1..=VERSION).contains(&state.version) => Err(foreign()),
        Some(Value::String(text)) => serde_json::from_str(text).map(Cow::Owned).map_err(|e| foreign().because(e)),
        Some(part) => Ok(Cow::Borrowed(part)),
        None => Ok(Cow::Owned(Value::Null)),
    }
}

pub(super) fn foreign() -> Error {
    Error::new(ErrorKind::DataInvalid, "the state is not one of this source").fix("reset the connection")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_of_a_state_is_read_as_a_tree_and_as_text() {
        let part = json!({"use_global_cursor": false, "states": [{"partition": {"id": 1}, "cursor": {"at": "2024-03-01"}}]});
        for stream in [part.clone(), part.to_string().into()] {
            let state = State::new(VERSION, json!({ "stream": stream }));
            assert_eq!(*written(&state, "stream").unwrap(), part);
            assert_eq!(*written(&state, "edge").unwrap(), Value::Null);
        }
        // What an earlier version wrote is read on, what a later one wrote is not.
        assert_eq!(*written(&State::new(1, json!({"stream": {"at": 1}})), "stream").unwrap(), json!({"at": 1}));
        assert!(written(&State::new(VERSION + 1, json!({"stream": {}})), "stream").is_err());
        assert!(written(&State::new(VERSION, json!({"stream": "{"})), "stream").is_err());
    }
}
