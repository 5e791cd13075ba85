//! The lines that a platform writes to a destination: records, states, and how streams ended.

use linkspan_core::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rows::{Fields, Record};
use crate::protocol::Descriptor;

/// A line that matters here.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    Record {
        stream: Descriptor,
        record: Record<'a>,
    },
    State {
        body: &'a str,
        of: Of,
    },
    Status {
        stream: Descriptor,
        status: Status,
    },
    /// A message of another kind, or no message at all.
    Nothing,
    /// A record that cannot be read; of which stream, if that can.
    Broken {
        stream: Option<Descriptor>,
    },
}

/// Whose state it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Of {
    Stream(Descriptor),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Begun,
    Complete,
    Incomplete,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    trace: Option<&'a RawValue>,
}
#[derive(Deserialize)]
struct Body<'a> {
    stream: String,
    namespace: Option<String>,
    #[serde(borrow)]
    data: Fields<'a>,
    #[serde(default)]
    emitted_at: f64,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}
#[derive(Deserialize)]
struct Named {
    stream: String,
    namespace: Option<String>,
}
#[derive(Deserialize)]
struct StateBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    stream: Option<StateStream>,
}
#[derive(Deserialize)]
struct StateStream {
    stream_descriptor: Descriptor,
}
#[derive(Deserialize)]
struct Trace {
    stream_status: Option<StreamStatus>,
}
#[derive(Deserialize)]
struct StreamStatus {
    stream_descriptor: Descriptor,
    status: String,
}

/// What a line says.
pub(super) fn parse(line: &[u8]) -> Heard<'_> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return Heard::Nothing;
    }
    let Ok(text) = std::str::from_utf8(line) else { return unreadable(line) };
    let Ok(line) = serde_json::from_str::<Line<'_>>(text) else { return unreadable(text.as_bytes()) };
    match line.kind {
        "RECORD" => line.record.map_or(Heard::Broken { stream: None }, record),
        "STATE" => line.state.map_or(Heard::Nothing, state),
        "TRACE" => line.trace.map_or(Heard::Nothing, status),
        _ => Heard::Nothing,
    }
}

fn record(raw: &RawValue) -> Heard<'_> {
    match serde_json::from_str::<Body<'_>>(raw.get()) {
        Ok(Body { stream, namespace, data, emitted_at, meta }) => {
            Heard::Record { stream: Descriptor { name: stream, namespace }, record: Record { data, at: emitted_at as i64, meta } }
        }
        Err(_) => {
            let named = serde_json::from_str::<Named>(raw.get()).ok();
            Heard::Broken { stream: named.map(|n| Descriptor { name: n.stream, namespace: n.namespace }) }
        }
    }
}

fn state(raw: &RawValue) -> Heard<'_> {
    let Ok(body) = serde_json::from_str::<StateBody>(raw.get()) else { return Heard::Nothing };
    let of = match (body.kind.as_deref(), body.stream) {
        (Some("STREAM"), Some(stream)) => Of::Stream(stream.stream_descriptor),
        _ => Of::All,
    };
    Heard::State { body: raw.get(), of }
}

fn status(raw: &RawValue) -> Heard<'_> {
    let Some(status) = serde_json::from_str::<Trace>(raw.get()).ok().and_then(|t| t.stream_status) else { return Heard::Nothing };
    let said = match status.status.as_str() {
        "COMPLETE" => Status::Complete,
        "INCOMPLETE" => Status::Incomplete,
        _ => Status::Begun,
    };
    Heard::Status { stream: status.stream_descriptor, status: said }
}

/// A line that is no JSON: a record that was lost on the way must not go unnoticed, a word that was printed may.
fn unreadable(line: &[u8]) -> Heard<'_> {
    match memchr::memmem::find(line, b"\"RECORD\"") {
        Some(_) => Heard::Broken { stream: None },
        None => Heard::Nothing,
    }
}

/// The input ended in the middle of a line.
pub(super) fn cut() -> Error {
    Error::new(ErrorKind::Unavailable, "the input ended in the middle of a message")
        .fix("run the sync again: it goes on from the last state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_and_a_broken_record_is_not_nothing() {
        let record = br#"{"type":"RECORD","record":{"stream":"a","namespace":"","data":{"id":1,"x\"":[1, 2]},"emitted_at":5,"meta":{"changes":[]}},"more":1}"#;
        let Heard::Record { stream, record } = parse(record) else { panic!("a record") };
        assert_eq!((stream.namespace.as_deref(), record.at), (Some(""), 5));
        let fields: Vec<(&str, &str)> = record.data.0.iter().map(|(k, v)| (k.as_ref(), v.get())).collect();
        assert_eq!(fields, [("id", "1"), ("x\"", "[1, 2]")]);
        let named = br#"{"type":"RECORD","record":{"stream":"a","data":[1],"emitted_at":5}}"#;
        assert!(matches!(parse(named), Heard::Broken { stream: Some(s) } if s.name == "a"));
        for broken in
            [&br#"{"type":"RECORD","record":{"stream":"a","data":{"#[..], br#"{"type":"RECORD"}"#, b"{\"type\":\"RECORD\",\"x\":\"\xff\"}"]
        {
            assert!(matches!(parse(broken), Heard::Broken { stream: None }), "{}", String::from_utf8_lossy(broken));
        }
        for nothing in
            ["", "hello", "{broken", "[1]", "{\"a\":1}", r#"{"type":"LOG","log":{}}"#, r#"{"type":"TRACE","trace":{"type":"ERROR"}}"#]
        {
            assert!(matches!(parse(nothing.as_bytes()), Heard::Nothing), "{nothing}");
        }
    }

    #[test]
    fn a_state_is_of_one_stream_or_of_all_and_is_kept_as_it_is() {
        let stream = r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"a"},"stream_state":{"big":123456789012345678901234}}}}"#;
        let Heard::State { body, of } = parse(stream.as_bytes()) else { panic!("a state") };
        assert!(body.ends_with("123456789012345678901234}}}"), "{body}");
        assert_eq!(of, Of::Stream(Descriptor { name: "a".into(), namespace: None }));
        for all in
            [r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"stream_states":[]}}}"#, r#"{"type":"STATE","state":{"data":{}}}"#]
        {
            assert!(matches!(parse(all.as_bytes()), Heard::State { of: Of::All, .. }));
        }
    }
}
