//! Names and ids as the tables hold them.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result, Scope, StreamName};
use uuid::Uuid;

/// A stream as a key of the tables: the text of its scope, so that any name survives.
pub(super) fn stream_key(stream: &StreamName) -> String {
    Scope::Stream(stream.clone()).to_string()
}

pub(super) fn stream_of(key: &str) -> Result<StreamName> {
    match key.parse::<Scope>()? {
        Scope::Stream(stream) => Ok(stream),
        _ => Err(Error::new(ErrorKind::DataInvalid, "the store holds a stream name that this version cannot read")),
    }
}

pub(super) fn uuid_of(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|e| Error::new(ErrorKind::DataInvalid, "the store holds an id that is none").because(e))
}

pub(super) fn no_connection(connection: ConnectionId) -> Error {
    Error::new(ErrorKind::NotFound, "no such connection").with("connection_id", connection)
}
