//! A body as a stream of bytes, and what can go wrong with one.

use std::io::{BufRead, Read};

use linkspan_core::{Error, ErrorKind, Result};

/// What is read whole may grow to this.
pub const LARGEST: u64 = 512 << 20;

pub type Source<'a> = Box<dyn BufRead + Send + 'a>;

pub fn whole(source: Source<'_>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut text).map_err(broken)?;
    if text.len() as u64 > LARGEST {
        return Err(invalid("the answer is larger than allowed").with("limit_bytes", LARGEST));
    }
    Ok(text)
}

pub fn broken(e: std::io::Error) -> Error {
    invalid("the answer cannot be unpacked").because(e)
}

pub fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::DataInvalid, message)
}
