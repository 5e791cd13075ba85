//! Times as they are shown and read: RFC 3339 in UTC.

use jiff::Timestamp;
use linkspan_core::{Error, ErrorKind, Result};

/// Milliseconds since 1970 as `2026-03-07T10:00:00Z`, with a fraction where there is one.
pub fn moment(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| t.to_string())
}

/// The milliseconds of such a text; an offset other than `Z` is taken too.
pub fn moment_of(text: &str, field: &'static str) -> Result<i64> {
    text.parse::<Timestamp>()
        .map(Timestamp::as_millisecond)
        .map_err(|_| Error::new(ErrorKind::ConfigInvalid, "this is no time").with("field", field).fix("write it like 2026-03-07T10:00:00Z"))
}
