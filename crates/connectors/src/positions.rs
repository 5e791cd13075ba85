//! How a source's positions are written and read back: as JSON, with a version. What they say is each source's own.

use linkspan_core::{Error, ErrorKind, Result, State};
use serde::{Serialize, de::DeserializeOwned};

const VERSION: u16 = 1;
/// Above so many entries a list of what was seen is not kept.
pub(crate) const SEEN_CAP: usize = 10_000;

pub(crate) fn save(state: &impl Serialize) -> Result<State> {
    let value = serde_json::to_value(state).map_err(|e| Error::new(ErrorKind::Internal, "a position could not be written").because(e))?;
    Ok(State::new(VERSION, value))
}

/// Reads a position back. One that this version does not know is lost, never taken for an empty one.
pub(crate) fn load<T: DeserializeOwned>(state: &State) -> Result<T> {
    let lost = || {
        Error::new(ErrorKind::PositionLost, "the position was written by another version or another connector")
            .with("version", state.version)
            .fix("reset the connection: the next run reads everything again")
    };
    if state.version != VERSION {
        return Err(lost());
    }
    state.read().map_err(|e| lost().because(e))
}

pub(crate) fn other_cursor(was: &str, now: &str) -> Error {
    Error::new(ErrorKind::PositionLost, "the position belongs to another cursor column")
        .with("was", was)
        .with("cursor", now)
        .fix("keep the cursor column, or reset the connection to read everything again")
}
