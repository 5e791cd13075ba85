//! Errors and messages as they travel through the socket: one JSON text per line.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use linkspan_core::{Error, ErrorKind, Result, Retry};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::request::{Reply, Request};

/// Raised when a request or reply changes its meaning: both ends must agree.
pub(crate) const PROTOCOL: u32 = 3;
/// A position of ten thousand partitions fits many times.
const MAX_LINE: u64 = 256 << 20;

/// The first line, said by both ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub linkspan_store: u32,
    pub pid: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub id: u64,
    pub answer: std::result::Result<Reply, Wire>,
}

/// An error as data.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wire {
    kind: ErrorKind,
    message: String,
    retry: WireRetry,
    fix: Option<String>,
    docs: Option<String>,
    context: Vec<(String, String)>,
    causes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireRetry {
    Never,
    Backoff,
    After(u64),
    Exhausted,
}

impl From<&Error> for Wire {
    fn from(e: &Error) -> Self {
        Self {
            kind: e.kind(),
            message: e.message().to_owned(),
            retry: match e.retry_hint() {
                Retry::Never => WireRetry::Never,
                Retry::Backoff => WireRetry::Backoff,
                Retry::After(d) => WireRetry::After(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
                Retry::Exhausted => WireRetry::Exhausted,
            },
            fix: e.suggested_fix().map(str::to_owned),
            docs: e.docs_url().map(str::to_owned),
            context: e.context().iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            causes: e.causes(),
        }
    }
}

impl From<Wire> for Error {
    fn from(wire: Wire) -> Self {
        let mut e = Error::new(wire.kind, wire.message).retry(match wire.retry {
            WireRetry::Never => Retry::Never,
            WireRetry::Backoff => Retry::Backoff,
            WireRetry::After(ms) => Retry::After(Duration::from_millis(ms)),
            WireRetry::Exhausted => Retry::Exhausted,
        });
        if let Some(fix) = wire.fix {
            e = e.fix(fix);
        }
        if let Some(docs) = wire.docs {
            e = e.docs(docs);
        }
        for (key, value) in wire.context {
            e = e.with(kept(&key), value);
        }
        match wire.causes.into_iter().rev().fold(None, |source, text| Some(Cause { text, source: source.map(Box::new) })) {
            Some(cause) => e.because(cause),
            None => e,
        }
    }
}

#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

/// Context keys are words of our own code and few: each is kept once for the life of the process.
fn kept(key: &str) -> &'static str {
    const MOST: usize = 256;
    static KEYS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut keys = KEYS.lock().expect("no panic while held");
    let keys = keys.get_or_insert_default();
    match keys.get(key) {
        Some(kept) => kept,
        None if keys.len() >= MOST => "detail",
        None => {
            let new: &'static str = Box::leak(key.to_owned().into_boxed_str());
            keys.insert(new);
            new
        }
    }
}

pub(crate) async fn write_line<T: Serialize>(out: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<()> {
    let mut line = serde_json::to_vec(message).map_err(|e| Error::new(ErrorKind::Internal, "a message could not be written").because(e))?;
    line.push(b'\n');
    out.write_all(&line).await.map_err(broken)?;
    out.flush().await.map_err(broken)
}

/// The next message; nothing when the other end closed between two lines. A line cut in half is an error.
pub(crate) async fn read_line<T: DeserializeOwned>(input: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<T>> {
    let mut line = Vec::new();
    input.take(MAX_LINE).read_until(b'\n', &mut line).await.map_err(broken)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(Error::new(ErrorKind::Unavailable, "a message on the store's socket ended in the middle"));
    }
    let message = serde_json::from_slice(&line).map_err(|e| {
        Error::new(ErrorKind::Unsupported, "a message on the store's socket is not understood")
            .fix("use the same version of linkspan in all processes that share a data dir")
            .because(e)
    })?;
    Ok(Some(message))
}

fn broken(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the store's socket broke").because(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_the_same_on_the_other_side() {
        let cause = Error::new(ErrorKind::Timeout, "inner").because(std::io::Error::other("deep"));
        let e = Error::new(ErrorKind::Conflict, "taken").with("holder", "process 7").fix("wait").docs("d").because(cause);
        let text = serde_json::to_string(&Wire::from(&e)).unwrap();
        let there: Error = serde_json::from_str::<Wire>(&text).unwrap().into();
        assert_eq!(there.to_json(), e.to_json());
    }

    #[tokio::test]
    async fn a_line_cut_in_half_is_an_error_and_an_end_is_none() {
        let mut whole = std::io::Cursor::new(b"1\n2".to_vec());
        assert_eq!(read_line::<u8>(&mut whole).await.unwrap(), Some(1));
        assert!(read_line::<u8>(&mut whole).await.is_err());
        assert_eq!(read_line::<u8>(&mut whole).await.unwrap(), None);
    }
}
