//! Bodies that travel compressed, opened as they come, with an end to how far they may unfold.

use std::io::Write;

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures::{StreamExt, stream::BoxStream};
use http::{HeaderMap, header};
use linkspan_core::{Error, ErrorKind, Result};

/// What is asked for.
pub(crate) const ACCEPTED: &str = "gzip, deflate";
/// A body may always unfold to this much; beyond it, to `RATIO` times what travelled.
const FREE: u64 = 64 << 20;
const RATIO: u64 = 100;

pub(crate) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The one coding of an answer; several, or unknown ones, are left to the reader of the body.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let name = values.next()?.to_str().ok()?.trim().to_ascii_lowercase();
        match (name.as_str(), values.next()) {
            ("gzip" | "x-gzip", None) => Some(Self::Gzip),
            ("deflate", None) => Some(Self::Deflate),
            _ => None,
        }
    }
}

enum Opener {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// The first bytes tell whether it is zlib, as the standard says, or raw deflate, as some servers send.
    Undecided,
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
}

impl Opener {
    fn new(coding: &Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(Vec::new())),
            Coding::Deflate => Self::Undecided,
        }
    }
    fn decide(&mut self, part: &[u8]) {
        if let (Self::Undecided, Some(first)) = (&self, part.first()) {
            *self = if first & 0x0f == 8 { Self::Zlib(ZlibDecoder::new(Vec::new())) } else { Self::Raw(DeflateDecoder::new(Vec::new())) };
        }
    }
    fn push(&mut self, part: &[u8]) -> std::io::Result<Vec<u8>> {
        self.decide(part);
        match self {
            Self::Gzip(d) => d.write_all(part).and_then(|()| d.flush()).map(|()| std::mem::take(d.get_mut())),
            Self::Zlib(d) => d.write_all(part).and_then(|()| d.flush()).map(|()| std::mem::take(d.get_mut())),
            Self::Raw(d) => d.write_all(part).and_then(|()| d.flush()).map(|()| std::mem::take(d.get_mut())),
            Self::Undecided => Ok(Vec::new()),
        }
    }
    fn end(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(d) => d.finish(),
            Self::Zlib(d) => d.finish(),
            Self::Raw(d) => d.finish(),
            Self::Undecided => Ok(Vec::new()),
        }
    }
}

/// How much is handed to the decoder at once: bounds what one step can unfold to (about 1,000 times as much).
const STEP: usize = 16 << 10;

struct Opening {
    body: BoxStream<'static, Result<Bytes>>,
    part: Bytes,
    opener: Option<Opener>,
    taken: u64,
    given: u64,
    free: u64,
}

impl Opening {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.part.is_empty() {
                match self.body.next().await.transpose()? {
                    Some(part) => self.part = part,
                    None => return self.finish(),
                }
            }
            let step = self.part.split_to(self.part.len().min(STEP));
            let Some(opener) = self.opener.as_mut() else { return Ok(None) };
            self.taken += step.len() as u64;
            let out = opener.push(&step).map_err(broken)?;
            self.given += out.len() as u64;
            if self.given > self.free.max(self.taken * RATIO) {
                return Err(Error::new(ErrorKind::DataInvalid, "the answer unfolds to far more than was sent").with("bytes", self.given));
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }
    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(opener) = self.opener.take() else { return Ok(None) };
        if self.taken == 0 {
            return Ok(None);
        }
        let rest = opener.end().map_err(broken)?;
        Ok((!rest.is_empty()).then(|| rest.into()))
    }
}

fn broken(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the compressed answer is broken or was cut off").because(e)
}

/// The body as it was before it was compressed.
pub(crate) fn open(coding: &Coding, body: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    open_within(FREE, coding, body)
}

fn open_within(free: u64, coding: &Coding, body: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let opening = Opening { body, part: Bytes::new(), opener: Some(Opener::new(coding)), taken: 0, given: 0, free };
    futures::stream::try_unfold(opening, |mut opening| async move { Ok(opening.next().await?.map(|out| (out, opening))) }).boxed()
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use futures::TryStreamExt;

    use super::*;

    async fn opened(coding: Coding, sent: Vec<u8>, parts: usize) -> Result<Vec<u8>> {
        let chunks: Vec<_> = sent.chunks(parts).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let whole: Vec<Bytes> = open(&coding, futures::stream::iter(chunks).boxed()).try_collect().await?;
        Ok(whole.concat())
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut e = GzEncoder::new(Vec::new(), Compression::default());
        e.write_all(text).unwrap();
        e.finish().unwrap()
    }

    #[tokio::test]
    async fn every_coding_opens_in_any_cut() {
        let text = b"a page of records ".repeat(500);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(&text).unwrap();
        let (zlib, raw) = (zlib.finish().unwrap(), raw.finish().unwrap());
        for cut in [1, 7, 100_000] {
            assert_eq!(opened(Coding::Gzip, gzip(&text), cut).await.unwrap(), text);
            assert_eq!(opened(Coding::Deflate, zlib.clone(), cut).await.unwrap(), text);
            assert_eq!(opened(Coding::Deflate, raw.clone(), cut).await.unwrap(), text);
        }
        assert_eq!(opened(Coding::Gzip, [gzip(b"two "), gzip(b"members")].concat(), 3).await.unwrap(), b"two members");
        assert_eq!(opened(Coding::Gzip, Vec::new(), 3).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_cut_off_answer_is_no_answer() {
        let mut sent = gzip(&b"something".repeat(1000));
        sent.truncate(sent.len() - 9);
        assert_eq!(opened(Coding::Gzip, sent, 10).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_bomb_ends_before_it_fills_memory() {
        let bomb = Bytes::from(gzip(&vec![0; 4 << 20]));
        let free = 256 << 10;
        let mut body = open_within(free, &Coding::Gzip, futures::stream::iter([Ok(bomb)]).boxed());
        let mut seen = 0;
        let e = loop {
            match body.next().await.unwrap() {
                Ok(part) => seen += part.len() as u64,
                Err(e) => break e,
            }
        };
        assert_eq!(e.kind(), ErrorKind::DataInvalid);
        assert!(seen <= free, "{seen} bytes were handed on");
    }
}
