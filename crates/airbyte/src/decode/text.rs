//! Texts in the encodings that manifests and headers name.

use linkspan_core::{Error, ErrorKind, Result};

use crate::{answer::Answer, component::Component};

/// An encoding by one of the names that Python knows it by.
#[derive(Clone, Copy)]
pub enum Encoding {
    /// Every byte is the character of that number.
    Latin1,
    /// A mark at the start says in which order bytes come.
    Utf16,
    /// A mark at the start is left out.
    Utf8Marked,
    Named(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// The `encoding` of a component; UTF-8 where there is none.
    pub fn of(component: &Component<'_>) -> Result<Self> {
        let name = component.text("encoding")?.unwrap_or("utf-8");
        Self::named(name).ok_or_else(|| component.error("not a known encoding").with("encoding", name))
    }

    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase().replace('_', "-");
        Some(match name.as_str() {
            "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "8859" | "cp819" | "l1" => Self::Latin1,
            "utf-16" | "utf16" | "u16" => Self::Utf16,
            "utf-8-sig" => Self::Utf8Marked,
            "utf-8" | "utf8" | "u8" | "ascii" | "us-ascii" => Self::Named(encoding_rs::UTF_8),
            "cp1250" | "cp1251" | "cp1252" | "cp1253" | "cp1254" | "cp1255" | "cp1256" | "cp1257" | "cp1258" => {
                Self::Named(encoding_rs::Encoding::for_label(format!("windows-{}", &name[2..]).as_bytes())?)
            }
            other => Self::Named(encoding_rs::Encoding::for_label(other.as_bytes())?),
        })
    }

    /// The text of these bytes; `DataInvalid` when they are none in this encoding.
    pub fn decoded(self, bytes: &[u8]) -> Result<String> {
        let found = match self {
            Self::Latin1 => Some(bytes.iter().map(|b| char::from(*b)).collect()),
            Self::Utf16 => {
                let (encoding, bytes) = match bytes {
                    [0xFE, 0xFF, rest @ ..] => (encoding_rs::UTF_16BE, rest),
                    [0xFF, 0xFE, rest @ ..] => (encoding_rs::UTF_16LE, rest),
                    all => (encoding_rs::UTF_16LE, all),
                };
                strict(encoding, bytes)
            }
            Self::Utf8Marked => strict(encoding_rs::UTF_8, bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)),
            Self::Named(encoding) => strict(encoding, bytes),
        };
        found.ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the answer is no text in its encoding").fix("set the decoder's encoding"))
    }
}

fn strict(encoding: &'static encoding_rs::Encoding, bytes: &[u8]) -> Option<String> {
    encoding.decode_without_bom_handling_and_without_replacement(bytes).map(Into::into)
}

/// An answer's text in the encoding that its header names, or UTF-8; what fits neither is replaced.
pub fn of(answer: &Answer) -> String {
    let charset = answer.header("content-type").and_then(|kind| kind.split(';').find_map(|p| p.trim().strip_prefix("charset=")));
    let encoding = charset.map(|c| c.trim_matches(['"', '\''])).and_then(Encoding::named);
    encoding.and_then(|e| e.decoded(&answer.body).ok()).unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned())
}
