//! How much a request may ask for: checked before anything is allocated for it.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Uri, header, request::Parts};
use linkspan_core::{Error, ErrorKind};
use serde_json::Value;

use crate::refusal::{Refusal, Result};

/// Levels of arrays and objects in a body: the parser's own limit refuses the 128th.
pub const JSON_DEPTH: usize = 127;
/// The most that one page of a list holds.
pub const PAGE_SIZE: u64 = 1_000;
/// The longest `Idempotency-Key`.
pub const KEY_LENGTH: usize = 255;
/// What a page holds when nobody says.
pub const PAGE_SIZE_UNASKED: u64 = 100;

/// The limits of one face; the defaults are the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body_bytes: usize,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 2 << 20, header_bytes: 32 << 10, headers: 100, uri_bytes: 8 << 10 }
    }
}

impl Limits {
    /// Refuses a request by its head alone, before its body is read.
    pub fn head(&self, parts: &Parts) -> Result<()> {
        self.uri(&parts.uri)?;
        self.header_sizes(&parts.headers)?;
        framing(&parts.headers)?;
        declared_length(&parts.headers).map(drop)
    }

    /// Refuses a body by what it says of its own length. Streams that an operation reads itself have limits of their own.
    pub fn declared(&self, headers: &HeaderMap) -> Result<()> {
        match declared_length(headers)? {
            Some(length) if length > self.body_bytes as u64 => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn uri(&self, uri: &Uri) -> Result<()> {
        let length = uri.path_and_query().map_or(0, |p| p.as_str().len());
        if length > self.uri_bytes {
            return Err(refused(StatusCode::URI_TOO_LONG, "the address is too long").with("limit_bytes", self.uri_bytes).into());
        }
        Ok(())
    }

    fn header_sizes(&self, headers: &HeaderMap) -> Result<()> {
        // A header line is `name: value\r\n`.
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if headers.len() > self.headers || bytes > self.header_bytes {
            return Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too many or too large")
                .with("limit_headers", self.headers)
                .with("limit_bytes", self.header_bytes)
                .into());
        }
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
            .with("limit_bytes", self.body_bytes)
            .fix("send less at once; files are uploaded to /v1/connectors/{connector}/files")
            .into()
    }

    /// Takes a body piece by piece; what it says of its own length is not believed.
    pub fn body(&self) -> BodySoFar {
        BodySoFar { limits: *self, bytes: BytesMut::new() }
    }
}

/// A body that is being read and never grows beyond its limit.
#[derive(Debug)]
pub struct BodySoFar {
    limits: Limits,
    bytes: BytesMut,
}

impl BodySoFar {
    pub fn push(&mut self, piece: &[u8]) -> Result<()> {
        if piece.len() > self.limits.body_bytes - self.bytes.len() {
            return Err(self.limits.too_large());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
    pub fn done(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Reads a body as JSON. Of a key that comes twice the last one holds; a number that no double holds is refused. The answer says where
/// the mistake is and never quotes the body.
pub fn json(body: &[u8]) -> Result<Value> {
    if deeper_than(body, JSON_DEPTH) {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the body is nested too deeply")
            .with("limit_levels", JSON_DEPTH)
            .fix("send it flatter: no operation takes more than a few levels")
            .into());
    }
    serde_json::from_slice(body).map_err(|e| {
        let error = Error::new(ErrorKind::ConfigInvalid, "the body is not JSON").with("line", e.line()).with("column", e.column());
        error.fix("look at that place: a quote, a comma or a bracket is missing or too much").into()
    })
}

/// How many a page holds: 0 and more than [`PAGE_SIZE`] are mistakes, not wishes to be bent.
pub fn page_size(asked: Option<u64>) -> Result<u64> {
    match asked {
        None => Ok(PAGE_SIZE_UNASKED),
        Some(n) if (1..=PAGE_SIZE).contains(&n) => Ok(n),
        Some(_) => Err(Error::new(ErrorKind::ConfigInvalid, "`limit` is out of range")
            .fix(format!("ask for 1 to {PAGE_SIZE} and follow `next_cursor`"))
            .into()),
    }
}

/// Two ways to say where a body ends are one too many: a proxy in front may believe the other.
fn framing(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(two_ends());
    }
    Ok(())
}

pub fn two_ends() -> Refusal {
    Error::new(ErrorKind::ConfigInvalid, "Content-Length and Transfer-Encoding exclude each other").into()
}

fn declared_length(headers: &HeaderMap) -> Result<Option<u64>> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let digits = first.to_str().ok().filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    match digits.map(str::parse) {
        Some(Ok(length)) if values.all(|other| other == first) => Ok(Some(length)),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "Content-Length is not one number").into()),
    }
}

fn deeper_than(body: &[u8], limit: usize) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

fn refused(status: StatusCode, message: &'static str) -> Unplaced {
    Unplaced { status, error: Error::new(ErrorKind::ConfigInvalid, message) }
}

/// A refusal whose places are still being named.
struct Unplaced {
    status: StatusCode,
    error: Error,
}
impl Unplaced {
    fn with(mut self, key: &'static str, value: usize) -> Self {
        self.error = self.error.with(key, value);
        self
    }
    fn fix(mut self, fix: &'static str) -> Self {
        self.error = self.error.fix(fix);
        self
    }
}
impl From<Unplaced> for Refusal {
    fn from(it: Unplaced) -> Self {
        Self::new(it.status, it.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(Request::builder().uri("/v1/connectors")).body(()).expect("a request").into_parts().0
    }
    fn status(result: Result<()>) -> u16 {
        result.expect_err("refused").status.as_u16()
    }
    fn nested(levels: usize) -> Vec<u8> {
        [vec![b'['; levels], vec![b']'; levels]].concat()
    }

    #[test]
    fn an_ordinary_request_passes() {
        Limits::default().head(&head(|r| r.header("content-length", "17").header("accept", "*/*"))).expect("passes");
    }
    #[test]
    fn a_long_address_is_refused_at_the_first_byte_too_many() {
        let path = |length: usize| format!("/{}", "a".repeat(length - 1));
        let limits = Limits::default();
        limits.head(&head(|r| r.uri(path(8 << 10)))).expect("just fits");
        assert_eq!(status(limits.head(&head(|r| r.uri(path((8 << 10) + 1))))), 414);
    }
    #[test]
    fn many_headers_and_large_ones_are_refused() {
        let limits = Limits::default();
        let many = |n: usize| head(|r| (0..n).fold(r, |r, i| r.header(format!("x-{i}"), "1")));
        limits.head(&many(100)).expect("just fits");
        assert_eq!(status(limits.head(&many(101))), 431);
        assert_eq!(status(limits.head(&head(|r| r.header("x", "a".repeat(32 << 10))))), 431);
    }
    #[test]
    fn a_body_that_admits_to_be_too_large_is_refused_unread() {
        let limits = Limits::default();
        let declared = |length: &str| limits.declared(&head(|r| r.header("content-length", length)).headers);
        declared("2097152").expect("just fits");
        assert_eq!(status(declared("2097153")), 413);
    }
    #[test]
    fn a_body_that_lies_about_its_length_is_cut_off() {
        let mut body = Limits { body_bytes: 10, ..Limits::default() }.body();
        body.push(b"12345").expect("fits");
        body.push(b"67890").expect("just fits");
        assert_eq!(status(body.push(b"1")), 413);
        assert_eq!(body.done(), "1234567890");
    }
    #[test]
    fn two_ends_of_one_body_are_refused() {
        let both = head(|r| r.header("content-length", "4").header("transfer-encoding", "chunked"));
        assert_eq!(status(Limits::default().head(&both)), 400);
        for lengths in [&["4", "5"][..], &["+4"], &["4, 5"], &[""], &["99999999999999999999999"]] {
            let parts = head(|r| lengths.iter().fold(r, |r, l| r.header("content-length", *l)));
            assert_eq!(status(Limits::default().head(&parts)), 400, "{lengths:?}");
        }
    }
    #[test]
    fn json_is_refused_at_the_128th_level_and_read_above_it() {
        json(&nested(127)).expect("read");
        for levels in [128, 129, 1_000_000] {
            let refusal = json(&nested(levels)).expect_err("refused");
            assert_eq!(refusal.status, 400);
            assert_eq!(refusal.error.message(), "the body is nested too deeply");
        }
    }
    #[test]
    fn brackets_in_a_text_are_no_levels() {
        let text = format!(r#"{{"a": "\"{}\\", "b": [1]}}"#, "[".repeat(500));
        assert_eq!(json(text.as_bytes()).expect("read")["b"][0], 1);
    }
    #[test]
    fn numbers_and_keys_have_one_meaning() {
        assert_eq!(json(br#"{"n":1e400}"#).expect_err("no infinity").status, 400);
        assert_eq!(json(br#"{"a":1,"a":2}"#).expect("read")["a"], 2);
        assert_eq!(json(br#"{"s":"a\u0000b"}"#).expect("read")["s"], "a\0b");
    }
    #[test]
    fn a_broken_body_is_placed_and_not_quoted() {
        let refusal = json(b"{\"password\": \"hunter2\",\n oops}").expect_err("refused");
        let text = refusal.body().to_string();
        assert!(text.contains(r#""line":"2""#) && !text.contains("hunter2") && !text.contains("oops"), "{text}");
        assert_eq!(json(b"").expect_err("refused").status, 400);
        assert_eq!(json(b"\"\xff\"").expect_err("refused").status, 400);
    }
    #[test]
    fn a_page_holds_one_to_a_thousand() {
        assert_eq!(page_size(None).expect("a page"), 100);
        assert_eq!(page_size(Some(1)).expect("a page"), 1);
        assert_eq!(page_size(Some(1_000)).expect("a page"), 1_000);
        for n in [0, 1_001, u64::MAX] {
            assert_eq!(page_size(Some(n)).expect_err("refused").status, 400);
        }
    }
}
