//! Private keys as texts: PEM.

use base64::{Engine, prelude::BASE64_STANDARD};
use linkspan_core::{Error, ErrorKind, Result};

/// A value of a PEM text.
#[derive(Clone)]
pub struct Pem {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
    /// The cipher and its start, of the older form of keys behind a passphrase.
    pub(super) lock: Option<(String, Vec<u8>)>,
}

/// The first private key of a PEM text; line ends may be written as `\n`.
pub(super) fn pem(text: &str) -> Result<Pem> {
    let text = text.replace("\\n", "\n");
    let (_, rest) = text.split_once("-----BEGIN ").ok_or_else(wrong)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(wrong)?;
    let (body, _) = rest.split_once("-----END").ok_or_else(wrong)?;
    let mut lock = None;
    let mut lines = body.lines().map(str::trim).collect::<Vec<_>>();
    if let Some(end) = lines.iter().rposition(|line| line.contains(':')) {
        for line in lines.drain(..=end) {
            if let Some((cipher, iv)) = line.strip_prefix("DEK-Info:").and_then(|dek| dek.split_once(',')) {
                lock = Some((cipher.trim().to_owned(), hex(iv.trim())?));
            }
        }
    }
    let body: String = lines.concat().chars().filter(|c| !c.is_whitespace()).collect();
    Ok(Pem { label: label.to_owned(), der: BASE64_STANDARD.decode(body).map_err(|_| wrong())?, lock })
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..text.len()).step_by(2).map(|at| digit(at).ok_or_else(wrong)).collect()
}

pub(super) fn wrong() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the private key cannot be read")
        .fix("store a PEM key of the algorithm's kind, and its passphrase if it has one")
}
