//! Positions of the house as a platform's states, and back. What is inside is for nobody but the connector that wrote it.

use linkspan_core::{Error, ErrorKind, Position, Result, Scope, StreamName};
use serde_json::{Map, Value, json};

use crate::protocol::Descriptor;

/// The field of a state that holds the position.
const FIELD: &str = "position";

pub(super) fn descriptor(stream: &StreamName) -> Descriptor {
    Descriptor { name: stream.name.to_string(), namespace: stream.namespace.as_deref().map(Into::into) }
}

/// The state of one stream, or of what streams share.
pub(super) fn state(position: &Position) -> Map<String, Value> {
    let value = serde_json::to_value(position).unwrap_or_default();
    [(FIELD.to_owned(), value)].into_iter().collect()
}

/// What a full read says when it is over: there is nothing to go on from.
pub(super) fn none() -> Map<String, Value> {
    [("__ab_no_cursor_state_message".to_owned(), Value::Bool(true))].into_iter().collect()
}

/// Everything that a platform handed in. Empty text, `null`, `{}` and `[]` are a first sync; anything that is no state of this
/// connector is refused, because to ignore it would be to read everything again, or too little.
pub(super) fn parse(text: &str) -> Result<Position> {
    if text.trim().is_empty() {
        return Ok(Position::new());
    }
    let value = serde_json::from_str(text).map_err(|e| not_ours().with("line", e.line()))?;
    let messages = match value {
        Value::Null => vec![],
        Value::Array(messages) => messages,
        Value::Object(one) if one.is_empty() => vec![],
        one => vec![one],
    };
    let mut position = Position::new();
    for (at, mut message) in messages.into_iter().enumerate() {
        if message["type"] == "STATE" {
            message = message["state"].take();
        }
        take(&message, &mut position).map_err(|e| e.with("message", at))?;
    }
    Ok(position)
}

fn take(message: &Value, position: &mut Position) -> Result<()> {
    match message["type"].as_str() {
        Some("STREAM") => merge(&message["stream"]["stream_state"], Some(&message["stream"]["stream_descriptor"]), position),
        Some("GLOBAL") => {
            let global = &message["global"];
            merge(&global["shared_state"], None, position)?;
            let streams = global["stream_states"].as_array().into_iter().flatten();
            streams.into_iter().try_for_each(|s| merge(&s["stream_state"], Some(&s["stream_descriptor"]), position))
        }
        _ => Err(not_ours()),
    }
}

fn merge(state: &Value, of: Option<&Value>, position: &mut Position) -> Result<()> {
    let Value::Object(fields) = state else { return if state.is_null() { Ok(()) } else { Err(not_ours()) } };
    if fields.is_empty() || *fields == none() {
        return Ok(());
    }
    let scopes: Position = fields.get(FIELD).cloned().and_then(|p| serde_json::from_value(p).ok()).ok_or_else(not_ours)?;
    let of: Option<Descriptor> = of.map(|d| serde_json::from_value(d.clone())).transpose().map_err(|_| not_ours())?;
    let fits = |scope: &Scope| scope.stream().map(descriptor) == of;
    if !scopes.keys().all(fits) {
        return Err(not_ours());
    }
    position.extend(scopes);
    Ok(())
}

fn not_ours() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the state is not one that this program wrote")
        .fix("give the STATE messages of an earlier read as a JSON list, or none to read everything again")
}

/// The body of a GLOBAL state.
pub(super) fn global(shared: &Position, streams: impl IntoIterator<Item = (Descriptor, Map<String, Value>)>) -> Value {
    let streams: Vec<Value> =
        streams.into_iter().map(|(descriptor, state)| json!({"stream_descriptor": descriptor, "stream_state": state})).collect();
    json!({"shared_state": state(shared), "stream_states": streams})
}

#[cfg(test)]
mod tests {
    use linkspan_core::State;

    use super::*;

    fn at(n: u64) -> State {
        State::new(2, json!({"n": n}))
    }

    #[test]
    fn what_was_written_is_read_again_whatever_the_names() {
        let (a, b) = (StreamName::new(Some(""), "a\"b"), StreamName::new(None, "b"));
        let parts: Position = [(Scope::Part(a.clone(), "1/2".into()), at(1)), (Scope::Stream(a.clone()), at(2))].into();
        let message = json!([{"type": "STREAM", "stream": {"stream_descriptor": descriptor(&a), "stream_state": state(&parts)}}]);
        assert_eq!(parse(&message.to_string()).unwrap(), parts);
        let shared: Position = [(Scope::Shared, at(7))].into();
        let of_b: Position = [(Scope::Stream(b.clone()), at(3))].into();
        let whole = json!({"type": "STATE", "state": {"type": "GLOBAL", "global": global(&shared, [(descriptor(&b), state(&of_b))])}});
        assert_eq!(parse(&whole.to_string()).unwrap().len(), 2);
    }

    #[test]
    fn a_state_of_somebody_else_is_refused_and_never_a_first_sync() {
        for text in ["", " ", "null", "{}", "[]"] {
            assert!(parse(text).unwrap().is_empty());
        }
        let stream = |state: Value| json!([{"type": "STREAM", "stream": {"stream_descriptor": {"name": "a"}, "stream_state": state}}]);
        assert!(parse(&stream(json!(none())).to_string()).unwrap().is_empty());
        let others: Position = [(Scope::Stream(StreamName::new(None, "b")), at(1))].into();
        for bad in [stream(json!({"cursor": 3})), stream(json!(state(&others))), json!([{"data": {}}]), json!("x"), stream(json!(4))] {
            assert_eq!(parse(&bad.to_string()).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{bad}");
        }
    }
}
