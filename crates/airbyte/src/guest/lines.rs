//! The messages that a source program says, one a line. What is no message is nothing.

use linkspan_core::{Error, ErrorKind, Retry};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::protocol::Descriptor;

/// A message that matters here.
#[derive(Debug)]
pub(super) enum Said {
    Record {
        stream: Descriptor,
        data: Value,
    },
    /// What a state file must hold to go on from here.
    State(Value),
    /// Something that cannot be taken.
    Refused(&'static str),
    Catalog(Vec<Value>),
    /// The sync modes that it supports as a destination.
    Spec(Vec<String>),
    /// Why the connection does not work; `None` when it does.
    Status(Option<String>),
    Failed(Failed),
    /// A stream ended, whole or not.
    Ended {
        stream: Descriptor,
        whole: bool,
    },
    Config(Map<String, Value>),
    Log(String),
}

#[derive(Debug)]
pub(super) struct Failed {
    pub message: String,
    kind: FailedBy,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum FailedBy {
    #[serde(rename = "config_error")]
    Config,
    #[serde(rename = "transient_error")]
    Transient,
    #[default]
    #[serde(other)]
    System,
}

impl Failed {
    /// The error, in words that hide what must not be shown.
    pub(super) fn error(&self, message: String) -> Error {
        let text = if message.is_empty() { "the program failed".to_owned() } else { format!("the program failed: {message}") };
        match self.kind {
            FailedBy::Config => Error::new(ErrorKind::ConfigInvalid, text).fix("look into the program's own config"),
            FailedBy::Transient => Error::new(ErrorKind::Unavailable, text).fix("try again later"),
            FailedBy::System => Error::new(ErrorKind::Unavailable, text).retry(Retry::Never).fix("look into its log (-v)"),
        }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    record: Option<Record>,
    state: Option<Value>,
    catalog: Option<Catalog>,
    spec: Option<Spec>,
    #[serde(rename = "connectionStatus")]
    status: Option<Status>,
    trace: Option<Trace>,
    control: Option<Control>,
    log: Option<Log>,
}

#[derive(Deserialize)]
struct Record {
    stream: String,
    namespace: Option<String>,
    data: Value,
}
#[derive(Deserialize)]
struct Catalog {
    streams: Vec<Value>,
}
#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    supported_destination_sync_modes: Option<Vec<String>>,
}
#[derive(Deserialize)]
struct Status {
    status: String,
    message: Option<String>,
}
#[derive(Deserialize)]
struct Trace {
    error: Option<TraceError>,
    stream_status: Option<StreamStatus>,
}
#[derive(Deserialize)]
struct TraceError {
    #[serde(default)]
    message: String,
    failure_type: Option<FailedBy>,
}
#[derive(Deserialize)]
struct StreamStatus {
    stream_descriptor: Descriptor,
    status: String,
}
#[derive(Deserialize)]
struct Control {
    #[serde(rename = "connectorConfig")]
    connector: Option<ConnectorConfig>,
}
#[derive(Deserialize)]
struct ConnectorConfig {
    config: Map<String, Value>,
}
#[derive(Deserialize)]
struct Log {
    #[serde(default)]
    message: String,
}

/// What a line says; `None` for a line that is no message, or one that nobody needs.
pub(super) fn parse(line: &[u8]) -> Option<Said> {
    // A banner, a warning of a library, a print that was forgotten.
    if !line.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    match line.kind.as_str() {
        "RECORD" => line.record.map(|r| Said::Record { stream: Descriptor { name: r.stream, namespace: r.namespace }, data: r.data }),
        "STATE" => line.state.map(|body| Said::State(as_file(body))),
        "SPEC" => line.spec.map(|s| Said::Spec(s.supported_destination_sync_modes.unwrap_or_default())),
        "CATALOG" => line.catalog.map(|c| Said::Catalog(c.streams)),
        "CONNECTION_STATUS" => line.status.map(|s| Said::Status((s.status != "SUCCEEDED").then(|| s.message.unwrap_or_default()))),
        "TRACE" => line.trace.and_then(traced),
        "CONTROL" => line.control.and_then(|c| c.connector).map(|c| Said::Config(c.config)),
        "LOG" => line.log.map(|l| Said::Log(l.message)),
        _ => None,
    }
}

/// A STATE's body as the content of a state file: a list of states, or the bare object of an old program.
fn as_file(body: Value) -> Value {
    match body.get("type").and_then(Value::as_str) {
        Some("STREAM" | "GLOBAL") => {
            let fields = body.as_object().into_iter().flatten().filter(|(key, _)| !key.ends_with("Stats"));
            Value::Array(vec![fields.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into()])
        }
        _ => body.get("data").cloned().unwrap_or(body),
    }
}

fn traced(trace: Trace) -> Option<Said> {
    if let Some(error) = trace.error {
        return Some(Said::Failed(Failed { message: error.message, kind: error.failure_type.unwrap_or_default() }));
    }
    let status = trace.stream_status?;
    let ended = |whole| Some(Said::Ended { stream: status.stream_descriptor.clone(), whole });
    match status.status.as_str() {
        "COMPLETE" => ended(true),
        "INCOMPLETE" => ended(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_nothing() {
        for line in ["", "hello", "{", "[1]", "{\"a\":1}", "{\"type\":\"RECORD\"}", "{\"type\":\"NEWS\",\"news\":{}}", "\u{feff}{}"] {
            assert!(parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn messages_are_told_apart_and_unknown_fields_do_no_harm() {
        let record = br#" {"type":"RECORD","more":1,"record":{"stream":"a","namespace":"","data":{"id":1},"emitted_at":1,"meta":{}}}"#;
        assert!(matches!(parse(record), Some(Said::Record { stream, .. }) if stream.namespace.as_deref() == Some("")));
        let failed =
            br#"{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1.5,"error":{"message":"no","failure_type":"config_error"}}}"#;
        let Some(Said::Failed(failed)) = parse(failed) else { panic!("an error") };
        assert_eq!(failed.error("no".into()).kind(), ErrorKind::ConfigInvalid);
        let odd = br#"{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"no","failure_type":"new_error"}}}"#;
        assert!(matches!(parse(odd), Some(Said::Failed(Failed { kind: FailedBy::System, .. }))));
        let status = br#"{"type":"CONNECTION_STATUS","connectionStatus":{"status":"FAILED","message":"why"}}"#;
        assert!(matches!(parse(status), Some(Said::Status(Some(why))) if why == "why"));
    }
}
