//! Zip archives: the files of one, in the order of its directory.

use std::io::Read;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use linkspan_core::Result;

use super::body::{broken, invalid};

/// A file of an archive may grow to this.
const LARGEST: u64 = 512 << 20;
/// So many files of an archive are read.
const MOST_FILES: usize = 10_000;

const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const FILE: &[u8] = b"PK\x03\x04";

struct Entry {
    stored: bool,
    packed: usize,
    at: usize,
}

/// Every file's content, opened as it is pulled. `DataInvalid` when this is no archive.
pub fn files(body: &Bytes) -> Result<impl Iterator<Item = Result<Bytes>> + Send + use<>> {
    let entries = directory(body).ok_or_else(|| invalid("the answer is no zip archive that can be read"))?;
    let body = body.clone();
    Ok(entries.into_iter().map(move |entry| opened(&body, &entry)))
}

fn number(body: &[u8], at: usize, width: usize) -> Option<usize> {
    let bytes = body.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
}

fn directory(body: &[u8]) -> Option<Vec<Entry>> {
    // The end may be followed by a comment of up to 64 KiB.
    let from = body.len().saturating_sub(22 + 65_535);
    let end = from + memchr::memmem::rfind(&body[from..], END)?;
    let (count, mut at) = (number(body, end + 10, 2)?, number(body, end + 16, 4)?);
    if count > MOST_FILES {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        if body.get(at..at + 4)? != ENTRY {
            return None;
        }
        let (flags, method) = (number(body, at + 8, 2)?, number(body, at + 10, 2)?);
        if flags & 1 != 0 || !matches!(method, 0 | 8) {
            return None;
        }
        let lengths = number(body, at + 28, 2)? + number(body, at + 30, 2)? + number(body, at + 32, 2)?;
        entries.push(Entry { stored: method == 0, packed: number(body, at + 20, 4)?, at: number(body, at + 42, 4)? });
        at += 46 + lengths;
    }
    Some(entries)
}

fn opened(body: &Bytes, entry: &Entry) -> Result<Bytes> {
    let bad = || invalid("a file of the answer's archive is damaged");
    let head = body.get(entry.at..).filter(|b| b.starts_with(FILE)).ok_or_else(bad)?;
    let skip = 30 + number(head, 26, 2).ok_or_else(bad)? + number(head, 28, 2).ok_or_else(bad)?;
    let start = entry.at + skip;
    let packed = body.get(start..start + entry.packed).ok_or_else(bad)?;
    if entry.stored {
        return Ok(body.slice(start..start + entry.packed));
    }
    let mut content = Vec::new();
    DeflateDecoder::new(packed).take(LARGEST + 1).read_to_end(&mut content).map_err(broken)?;
    if content.len() as u64 > LARGEST {
        return Err(invalid("a file of the answer's archive is larger than allowed").with("limit_bytes", LARGEST));
    }
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a.txt` deflated, `b.txt` stored.
    fn archive() -> Bytes {
        let packed = {
            use std::io::Write;
            let mut w = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            w.write_all(b"hello hello hello").unwrap();
            w.finish().unwrap()
        };
        let mut out = Vec::new();
        let mut entries = Vec::new();
        for (name, method, content) in [("a.txt", 8_u16, packed.as_slice()), ("b.txt", 0, b"plain")] {
            entries.push((name, method, content.len() as u32, out.len() as u32));
            out.extend_from_slice(FILE);
            out.extend_from_slice(&[20, 0, 0, 0]);
            out.extend_from_slice(&method.to_le_bytes());
            out.extend_from_slice(&[0; 16]);
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(content);
        }
        let start = out.len() as u32;
        for (name, method, packed, at) in entries {
            out.extend_from_slice(ENTRY);
            out.extend_from_slice(&[20, 0, 20, 0, 0, 0]);
            out.extend_from_slice(&method.to_le_bytes());
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&packed.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&at.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        let size = out.len() as u32 - start;
        out.extend_from_slice(END);
        out.extend_from_slice(&[0, 0, 0, 0, 2, 0, 2, 0]);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.into()
    }

    #[test]
    fn files_come_in_the_order_of_the_directory() {
        let got: Vec<Bytes> = files(&archive()).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(got, [&b"hello hello hello"[..], b"plain"]);
    }

    #[test]
    fn a_cut_archive_is_refused_and_never_read_past_its_end() {
        let whole = archive();
        for len in 0..whole.len() {
            let cut = whole.slice(..len);
            if let Ok(files) = files(&cut) {
                drop(files.collect::<Vec<_>>());
            }
        }
        assert!(files(&Bytes::from_static(b"<html>")).is_err());
    }
}
