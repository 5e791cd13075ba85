//! Messages on their way out. Records are counted as they pass, so that every state says how many it stands for.

use std::{collections::HashMap, io::Write, sync::Arc};

use linkspan_core::{Clock, Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Descriptor, raw};

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StreamStatus {
    Started,
    Running,
    Complete,
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Whose fault a failure is, in the protocol's three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureType {
    SystemError,
    ConfigError,
    TransientError,
}

impl From<ErrorKind> for FailureType {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ConfigInvalid | ErrorKind::AuthFailed | ErrorKind::PermissionDenied | ErrorKind::NotFound => Self::ConfigError,
            ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Unavailable => Self::TransientError,
            _ => Self::SystemError,
        }
    }
}

/// What went wrong, for a user (`message`) and for a developer (`internal`).
#[derive(Clone, Debug)]
pub struct Failure {
    pub message: String,
    pub internal: Option<String>,
    pub kind: FailureType,
    pub stream: Option<Descriptor>,
}

impl Failure {
    pub fn of(error: &Error, stream: Option<Descriptor>) -> Self {
        let message = match error.suggested_fix() {
            Some(fix) => format!("{}: {fix}", error.message()),
            None => error.message().to_owned(),
        };
        Self { message, internal: Some(error.to_string()), kind: error.kind().into(), stream }
    }
}

/// The end of the pipe: every message becomes one line. Secrets that it was told of never leave in a log or a trace.
pub struct Lines<W> {
    out: W,
    clock: Arc<dyn Clock>,
    secrets: Vec<String>,
    counts: HashMap<Descriptor, u64>,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W, clock: Arc<dyn Clock>) -> Self {
        Self { out, clock, secrets: Vec::new(), counts: HashMap::new(), line: Vec::with_capacity(1024) }
    }

    /// Longest first: a secret may be a piece of another one.
    pub fn hide(&mut self, secrets: impl IntoIterator<Item = String>) {
        for secret in secrets.into_iter().filter(|s| !s.is_empty()) {
            // Systems repeat what they were sent as they like: in a URL, in base64.
            self.secrets.extend(linkspan_core::spellings(&secret));
            self.secrets.push(secret);
        }
        self.secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        self.secrets.dedup();
    }

    /// The records of one page, each the text of an object. Nothing is parsed.
    pub fn records<'a>(&mut self, stream: &Descriptor, records: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        self.records_with(stream, records, "")
    }

    /// One record that a file belongs to.
    pub fn record_with_file(&mut self, stream: &Descriptor, record: &[u8], file: &Value) -> Result<()> {
        self.records_with(stream, [record], &format!(",\"file_reference\":{file}"))
    }

    fn records_with<'a>(&mut self, stream: &Descriptor, records: impl IntoIterator<Item = &'a [u8]>, more: &str) -> Result<()> {
        let head = record_head(stream);
        let tail = format!(",\"emitted_at\":{}{more}}}}}\n", self.clock.now().as_millisecond());
        let mut count = 0;
        for record in records {
            self.line.clear();
            self.line.extend_from_slice(head.as_bytes());
            raw::append(&mut self.line, record);
            self.line.extend_from_slice(tail.as_bytes());
            self.out.write_all(&self.line).map_err(closed)?;
            count += 1;
        }
        *self.counts.entry(stream.clone()).or_default() += count;
        Ok(())
    }

    /// A state, with the number of records since the stream's last one. Flushes: what was promised must not wait in a buffer.
    pub fn state(&mut self, stream: &Descriptor, state: &Map<String, Value>) -> Result<()> {
        let count = self.counts.remove(stream).unwrap_or_default() as f64;
        let body = json!({"type": "STREAM", "stream": {"stream_descriptor": stream, "stream_state": state}, "sourceStats": {"recordCount": count}});
        self.message("STATE", "state", body)?;
        self.flush()
    }

    /// One state for all streams, `global` being its body, with the number of all records since the last one.
    pub fn global(&mut self, global: Value) -> Result<()> {
        let count = self.counts.drain().map(|(_, n)| n).sum::<u64>() as f64;
        self.message("STATE", "state", json!({"type": "GLOBAL", "global": global, "sourceStats": {"recordCount": count}}))?;
        self.flush()
    }

    /// A state on its way back: its body as it came, with what became of the records before it. Flushes, for the same reason.
    pub fn echo(&mut self, body: &str, written: u64, rejected: u64) -> Result<()> {
        let mut stats = json!({"recordCount": written as f64});
        if rejected > 0 {
            stats["rejectedRecordCount"] = json!(rejected as f64);
        }
        let body = body.trim_end().strip_suffix('}').unwrap_or(body).trim_end();
        let comma = if body.ends_with('{') { "" } else { "," };
        let line = format!("{{\"type\":\"STATE\",\"state\":{body}{comma}\"destinationStats\":{stats}}}}}\n");
        self.out.write_all(line.as_bytes()).map_err(closed)?;
        self.flush()
    }

    /// A line of another protocol, as it is.
    pub fn plain(&mut self, line: &str) -> Result<()> {
        self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n")).map_err(closed)?;
        self.flush()
    }

    pub fn log(&mut self, level: Level, text: &str) -> Result<()> {
        let message = self.masked(text);
        self.message("LOG", "log", json!({"level": level, "message": message}))
    }

    pub fn status(&mut self, stream: &Descriptor, status: StreamStatus) -> Result<()> {
        self.trace("STREAM_STATUS", "stream_status", json!({"stream_descriptor": stream, "status": status}))?;
        self.flush()
    }

    /// The stream waits for a quota; it still runs.
    pub fn rate_limited(&mut self, stream: &Descriptor, quota_reset: Option<jiff::Timestamp>) -> Result<()> {
        let mut reason = json!({"type": "RATE_LIMITED"});
        if let Some(at) = quota_reset {
            reason["rate_limited"] = json!({"quota_reset": at.as_millisecond()});
        }
        self.trace(
            "STREAM_STATUS",
            "stream_status",
            json!({"stream_descriptor": stream, "status": StreamStatus::Running, "reasons": [reason]}),
        )?;
        self.flush()
    }

    pub fn error(&mut self, failure: &Failure) -> Result<()> {
        let mut error = json!({"message": self.masked(&failure.message)});
        if let Some(internal) = &failure.internal {
            error["internal_message"] = self.masked(internal).into();
        }
        error["failure_type"] = json!(failure.kind);
        if let Some(stream) = &failure.stream {
            error["stream_descriptor"] = json!(stream);
        }
        self.trace("ERROR", "error", error)?;
        self.flush()
    }

    pub fn estimate(&mut self, stream: &Descriptor, rows: Option<u64>, bytes: Option<u64>) -> Result<()> {
        let mut estimate = json!({"name": stream.name, "type": "STREAM"});
        if let Some(namespace) = &stream.namespace {
            estimate["namespace"] = json!(namespace);
        }
        for (field, many) in [("row_estimate", rows), ("byte_estimate", bytes)] {
            if let Some(many) = many {
                estimate[field] = json!(many);
            }
        }
        self.trace("ESTIMATE", "estimate", estimate)
    }

    pub fn spec(&mut self, spec: Value) -> Result<()> {
        self.message("SPEC", "spec", spec)?;
        self.flush()
    }

    pub fn catalog(&mut self, streams: Vec<Value>) -> Result<()> {
        self.message("CATALOG", "catalog", json!({"streams": streams}))?;
        self.flush()
    }

    /// `problem` is why the connection does not work; `None` when it does.
    pub fn connection_status(&mut self, problem: Option<&str>) -> Result<()> {
        let body = match problem {
            None => json!({"status": "SUCCEEDED"}),
            Some(text) => json!({"status": "FAILED", "message": self.masked(text)}),
        };
        self.message("CONNECTION_STATUS", "connectionStatus", body)?;
        self.flush()
    }

    /// A config that changed under way (a rotated token), for the platform to keep. It carries secrets: that is its purpose.
    /// They are hidden from every later line, and the line is out before this returns.
    pub fn control(&mut self, config: &Value, secrets: impl IntoIterator<Item = String>) -> Result<()> {
        self.hide(secrets);
        let body = json!({"type": "CONNECTOR_CONFIG", "emitted_at": self.emitted_at(), "connectorConfig": {"config": config}});
        self.message("CONTROL", "control", body)?;
        self.flush()
    }

    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(closed)
    }

    fn trace(&mut self, kind: &str, field: &str, body: Value) -> Result<()> {
        let trace = json!({"type": kind, "emitted_at": self.emitted_at(), field: body});
        self.message("TRACE", "trace", trace)
    }

    fn message(&mut self, kind: &str, field: &str, body: Value) -> Result<()> {
        let mut text = json!({"type": kind, field: body}).to_string();
        text.push('\n');
        self.out.write_all(text.as_bytes()).map_err(closed)
    }

    /// Milliseconds with a fraction, as traces and controls carry them.
    fn emitted_at(&self) -> f64 {
        self.clock.now().as_microsecond() as f64 / 1000.0
    }

    fn masked(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| if text.contains(secret) { text.replace(secret, "****") } else { text })
    }
}

/// All of a record's line up to its data.
fn record_head(stream: &Descriptor) -> String {
    let name = Value::from(stream.name.as_str());
    let namespace = stream.namespace.as_deref().map(|n| format!(",\"namespace\":{}", Value::from(n))).unwrap_or_default();
    format!("{{\"type\":\"RECORD\",\"record\":{{\"stream\":{name}{namespace},\"data\":")
}

fn closed(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Canceled, "nobody reads the messages any more").because(e)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct At(i64);
    #[async_trait::async_trait]
    impl Clock for At {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::from_microsecond(self.0).unwrap()
        }
        async fn sleep(&self, _: Duration) {}
    }

    fn said(speak: impl FnOnce(&mut Lines<&mut Vec<u8>>) -> Result<()>) -> Vec<String> {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, Arc::new(At(1_710_504_000_123_456)));
        speak(&mut lines).unwrap();
        lines.flush().unwrap();
        String::from_utf8(out).unwrap().lines().map(Into::into).collect()
    }
    fn users() -> Descriptor {
        Descriptor { name: "us\"ers".into(), namespace: None }
    }

    #[test]
    fn a_record_is_its_own_text_in_an_envelope() {
        let spaced = Descriptor { name: "a".into(), namespace: Some(String::new()) };
        let got = said(|l| {
            l.records(&users(), [&br#"{"id": 1.50, "n":null}"#[..], br#"{"x":[null]}"#])?;
            l.records(&spaced, [&b"{}"[..]])
        });
        assert_eq!(
            got,
            [
                r#"{"type":"RECORD","record":{"stream":"us\"ers","data":{"id": 1.50},"emitted_at":1710504000123}}"#,
                r#"{"type":"RECORD","record":{"stream":"us\"ers","data":{"x":[null]},"emitted_at":1710504000123}}"#,
                r#"{"type":"RECORD","record":{"stream":"a","namespace":"","data":{},"emitted_at":1710504000123}}"#,
            ]
        );
    }

    #[test]
    fn a_state_counts_the_records_since_the_last_one_of_its_stream() {
        let other = Descriptor { name: "b".into(), namespace: None };
        let state: Map<_, _> = [("at".to_owned(), json!("2024"))].into_iter().collect();
        let got = said(|l| {
            l.records(&users(), [&b"{}"[..], b"{}"])?;
            l.records(&other, [&b"{}"[..]])?;
            l.state(&users(), &state)?;
            l.state(&users(), &state)?;
            l.state(&other, &Map::new())
        });
        let counts: Vec<_> = got.iter().filter_map(|l| l.split_once("\"recordCount\":")).map(|(_, n)| n).collect();
        assert_eq!(counts, ["2.0}}}", "0.0}}}", "1.0}}}"]);
        assert_eq!(
            got[3],
            r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"us\"ers"},"stream_state":{"at":"2024"}},"sourceStats":{"recordCount":2.0}}}"#
        );
    }

    #[test]
    fn statuses_estimates_and_answers_have_the_protocols_casing() {
        let a = Descriptor { name: "a".into(), namespace: None };
        let got = said(|l| {
            l.status(&a, StreamStatus::Complete)?;
            l.rate_limited(&a, Some(jiff::Timestamp::from_second(5).unwrap()))?;
            l.estimate(&a, Some(9), Some(90))?;
            l.connection_status(None)?;
            l.spec(json!({"connectionSpecification": {}}))?;
            l.catalog(vec![])?;
            l.log(Level::Info, "hello")
        });
        let trace = r#"{"type":"TRACE","trace":{"type":"#;
        assert_eq!(
            got,
            [
                format!(
                    r#"{trace}"STREAM_STATUS","emitted_at":1710504000123.456,"stream_status":{{"stream_descriptor":{{"name":"a"}},"status":"COMPLETE"}}}}}}"#
                ),
                format!(
                    r#"{trace}"STREAM_STATUS","emitted_at":1710504000123.456,"stream_status":{{"stream_descriptor":{{"name":"a"}},"status":"RUNNING","reasons":[{{"type":"RATE_LIMITED","rate_limited":{{"quota_reset":5000}}}}]}}}}}}"#
                ),
                format!(
                    r#"{trace}"ESTIMATE","emitted_at":1710504000123.456,"estimate":{{"name":"a","type":"STREAM","row_estimate":9,"byte_estimate":90}}}}}}"#
                ),
                r#"{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}"#.into(),
                r#"{"type":"SPEC","spec":{"connectionSpecification":{}}}"#.into(),
                r#"{"type":"CATALOG","catalog":{"streams":[]}}"#.into(),
                r#"{"type":"LOG","log":{"level":"INFO","message":"hello"}}"#.into(),
            ]
        );
    }

    #[test]
    fn no_line_but_the_control_message_shows_a_secret() {
        let failure =
            Failure::of(&Error::new(ErrorKind::AuthFailed, "refused").with("header", "Bearer canary-2").fix("renew canary"), Some(users()));
        let got = said(|l| {
            l.hide(["canary".into(), "canary-2".into(), String::new()]);
            l.log(Level::Warn, "canary-2 and canary")?;
            l.error(&failure)?;
            l.connection_status(Some("wrong: canary"))?;
            l.control(&json!({"token": "fresh"}), ["fresh".into()])?;
            l.log(Level::Info, "fresh canary")
        });
        assert_eq!(got[0], r#"{"type":"LOG","log":{"level":"WARN","message":"**** and ****"}}"#);
        assert!(got[1].contains(r#""failure_type":"config_error","stream_descriptor":{"name":"us\"ers"}"#), "{}", got[1]);
        assert_eq!(got[3].split_once("\"connectorConfig\":").unwrap().1, r#"{"config":{"token":"fresh"}}}}"#);
        assert_eq!(got[4], r#"{"type":"LOG","log":{"level":"INFO","message":"**** ****"}}"#);
        assert!(!got.concat().contains("canary"));
    }

    #[test]
    fn a_reader_that_left_is_a_cancel() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines::new(Gone, Arc::new(At(0)));
        assert_eq!(lines.log(Level::Info, "x").unwrap_err().kind(), ErrorKind::Canceled);
    }
}
