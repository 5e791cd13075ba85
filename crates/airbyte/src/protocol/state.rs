//! The state that a platform hands in: stream messages, or one global message without a shared part.

use std::collections::HashMap;

use linkspan_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A stream's name and namespace; no namespace and the empty one differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Descriptor {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The states handed in, by stream. A later message of a stream replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateInput(HashMap<Descriptor, Map<String, Value>>);

impl StateInput {
    /// Takes what platforms write: a list of states, one state, or either as whole STATE messages. Empty text, `null`, `{}` and
    /// `[]` mean a first sync. A shared state is refused: nothing here ever wrote one, and ignoring it would lose a position.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_str(text).map_err(|e| not_a_state().with("line", e.line()))?;
        let messages = match value {
            Value::Null => vec![],
            Value::Array(messages) => messages,
            Value::Object(one) if one.is_empty() => vec![],
            one => vec![one],
        };
        let mut states = Self::default();
        for (at, message) in messages.into_iter().enumerate() {
            states.take(message).map_err(|e| e.with("message", at))?;
        }
        Ok(states)
    }

    /// The stream's state; empty on a first sync.
    pub fn of(&self, stream: &Descriptor) -> Map<String, Value> {
        self.0.get(stream).cloned().unwrap_or_default()
    }
    /// A stream's state, in place of an earlier one.
    pub fn put(&mut self, stream: Descriptor, state: Map<String, Value>) {
        self.0.insert(stream, state);
    }
    /// The states of streams without a namespace, which is what manifests have, by name.
    pub fn unnamespaced(&self) -> HashMap<String, Map<String, Value>> {
        self.0.iter().filter(|(d, _)| d.namespace.is_none()).map(|(d, state)| (d.name.clone(), state.clone())).collect()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, mut message: Value) -> Result<()> {
        if message["type"] == "STATE" {
            message = message["state"].take();
        }
        match message["type"].as_str() {
            Some("STREAM") => self.stream(message["stream"].take()),
            Some("GLOBAL") => self.global(message["global"].take()),
            Some("LEGACY") | None if !message["data"].is_null() => Err(legacy()),
            _ => Err(not_a_state()),
        }
    }

    fn global(&mut self, mut global: Value) -> Result<()> {
        if global["shared_state"].as_object().is_some_and(|s| !s.is_empty()) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the state has a part that streams share, which no manifest writes")
                .fix("give the state that an earlier run of this manifest printed"));
        }
        match global["stream_states"].take() {
            Value::Array(streams) => streams.into_iter().try_for_each(|s| self.stream(s)),
            _ => Err(not_a_state()),
        }
    }

    fn stream(&mut self, mut stream: Value) -> Result<()> {
        let descriptor = serde_json::from_value(stream["stream_descriptor"].take()).map_err(|_| not_a_state())?;
        let state = match stream["stream_state"].take() {
            Value::Object(state) => state,
            Value::Null => Map::new(),
            _ => return Err(not_a_state()),
        };
        self.0.insert(descriptor, state);
        Ok(())
    }
}

fn not_a_state() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the state cannot be read")
        .fix("give a list of STREAM states as a read printed them: [{\"type\": \"STREAM\", \"stream\": {\"stream_descriptor\": {..}, \"stream_state\": {..}}}]")
}

fn legacy() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the state is a legacy one, which does not say whose it is")
        .fix("give STREAM states, or none to read everything again")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(name: &str) -> Descriptor {
        Descriptor { name: name.into(), namespace: None }
    }
    fn stream(name: &str, at: i64) -> Value {
        json!({"type": "STREAM", "stream": {"stream_descriptor": {"name": name}, "stream_state": {"at": at}}})
    }
    fn parse(value: &Value) -> Result<StateInput> {
        StateInput::parse(&value.to_string())
    }

    #[test]
    fn nothing_in_any_form_is_a_first_sync() {
        for text in ["", "  \n", "null", "[]", "{}"] {
            assert!(StateInput::parse(text).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn states_come_as_a_list_alone_or_in_whole_messages() {
        let (a, b) = (stream("a", 1), stream("b", 2));
        let all = parse(&json!([a, {"type": "STATE", "state": b}])).unwrap();
        assert_eq!((&all.of(&named("a"))["at"], &all.of(&named("b"))["at"]), (&json!(1), &json!(2)));
        assert_eq!(parse(&a).unwrap().of(&named("a")), *all.0.get(&named("a")).unwrap());
        assert_eq!(parse(&json!([a, stream("a", 5)])).unwrap().of(&named("a"))["at"], 5);
        assert!(all.of(&Descriptor { name: "a".into(), namespace: Some(String::new()) }).is_empty());
    }

    #[test]
    fn a_global_state_is_taken_apart_but_never_with_a_shared_part() {
        let streams = json!([{"stream_descriptor": {"name": "a"}, "stream_state": {"at": 1}}, {"stream_descriptor": {"name": "b"}, "stream_state": null}]);
        let global = json!([{"type": "GLOBAL", "global": {"shared_state": {}, "stream_states": streams}}]);
        let states = parse(&global).unwrap();
        assert_eq!(states.of(&named("a"))["at"], 1);
        assert!(states.of(&named("b")).is_empty());
        let shared = json!([{"type": "GLOBAL", "global": {"shared_state": {"lsn": 1}, "stream_states": streams}}]);
        assert_eq!(parse(&shared).unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn what_is_no_state_is_refused_and_never_read_as_a_first_sync() {
        let bad = [json!([1]), json!("x"), json!([{"type": "STREAM"}]), json!([{"data": {"a": 1}}]), json!({"a": {"cursor": 1}})];
        for value in bad {
            assert_eq!(parse(&value).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{value}");
        }
    }
}
