//! How far a request came that failed without an answer: what may be sent again, and by whom.

use std::error::Error as _;

use linkspan_core::{Error, ErrorKind};

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broke {
    /// It was never sent: anybody may send it again.
    Unsent,
    /// The server closed a kept connection before it answered; as a rule it had closed it before the request came.
    Closed,
    /// Nobody knows: only what may happen twice may be sent again.
    Midway,
    /// Nobody answered in time; the same holds.
    Late,
    /// It is the request that is wrong, or not allowed: sending it again changes nothing.
    Never,
}

/// Judges an error of the house's client.
pub fn broke(e: &Error) -> Broke {
    match e.kind() {
        ErrorKind::Timeout => return Broke::Late,
        ErrorKind::Unavailable => {}
        _ => return Broke::Never,
    }
    let mut cause = e.source();
    while let Some(inner) = cause {
        if inner.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return Broke::Unsent;
        }
        if inner.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_closed() || e.is_incomplete_message() || e.is_body_write_aborted()) {
            return Broke::Closed;
        }
        cause = inner.source();
    }
    Broke::Midway
}
