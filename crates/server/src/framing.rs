//! Two ways to say where a body ends, in one request, are how requests are smuggled past a proxy. The HTTP library believes one of
//! them and drops the other; so the bytes are watched as they come, and such a request is refused.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

/// The longest head that is watched; a longer one is refused for its length.
const LONGEST: usize = 64 << 10;
/// Who takes nothing of an answer for so long is hung up on.
const STALLED: Duration = Duration::from_secs(60);

/// Whether a request with two ends came in on the connection.
#[derive(Clone, Debug, Default)]
pub struct TwoEnds(Arc<AtomicBool>);

impl TwoEnds {
    pub fn seen(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection whose requests' heads are looked at while they are read.
pub struct Watched {
    stream: TcpStream,
    watch: Watch,
    seen: TwoEnds,
    /// Runs while the other side takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub fn new(stream: TcpStream) -> (Self, TwoEnds) {
        let seen = TwoEnds::default();
        (Self { stream, watch: Watch::default(), seen: seen.clone(), stalled: None }, seen)
    }

    /// An error in the place of a wait that took too long.
    fn unless_stalled(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() && this.watch.take(&buf.filled()[before..]) == Found::TwoEnds {
            this.seen.0.store(true, Ordering::Release);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unless_stalled(cx, written)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.unless_stalled(cx, written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    TwoEnds,
}

/// Where in the flow of requests we are. After a chunked request nothing is watched any more: its answer ends the connection.
#[derive(Debug)]
enum Watch {
    Head(Vec<u8>),
    Body(u64),
    Over,
}

impl Default for Watch {
    fn default() -> Self {
        Self::Head(vec![])
    }
}

impl Watch {
    fn take(&mut self, mut bytes: &[u8]) -> Found {
        while !bytes.is_empty() {
            match self {
                Self::Over => return Found::Nothing,
                Self::Body(left) => {
                    let skipped = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    (*left, bytes) = (*left - skipped as u64, &bytes[skipped..]);
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Head(head) => {
                    let Some(rest) = fill(head, bytes) else { return Found::Nothing };
                    bytes = rest;
                    let ends = Ends::of(head);
                    if ends.chunked && ends.length.is_some() {
                        *self = Self::Over;
                        return Found::TwoEnds;
                    }
                    *self = match (ends.chunked || head.len() > LONGEST, ends.length) {
                        (true, _) => Self::Over,
                        (false, Some(length)) if length > 0 => Self::Body(length),
                        _ => Self::default(),
                    };
                }
            }
        }
        Found::Nothing
    }
}

/// Takes bytes up to the head's end; the rest, once it came.
fn fill<'a>(head: &mut Vec<u8>, bytes: &'a [u8]) -> Option<&'a [u8]> {
    for (i, byte) in bytes.iter().enumerate() {
        head.push(*byte);
        // A lone line feed ends a line too, as lenient readers have it.
        if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") || head.len() > LONGEST {
            return Some(&bytes[i + 1..]);
        }
    }
    None
}

/// What a head says of its body's end.
#[derive(Default)]
struct Ends {
    chunked: bool,
    length: Option<u64>,
}

impl Ends {
    fn of(head: &[u8]) -> Self {
        let mut ends = Self::default();
        for line in head.split(|b| *b == b'\n') {
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            let name = line[..colon].trim_ascii();
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                ends.chunked = true;
            } else if name.eq_ignore_ascii_case(b"content-length") {
                let value = std::str::from_utf8(line[colon + 1..].trim_ascii()).ok().and_then(|v| v.parse().ok());
                ends.length = Some(value.unwrap_or(0));
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 4\r\ntransfer-ENCODING: chunked\r\n\r\n0\r\n\r\n";

    #[test]
    fn two_ends_are_seen_wherever_the_reads_are_cut() {
        for cut in 0..BOTH.len() {
            let mut watch = Watch::default();
            let found = [watch.take(&BOTH[..cut]), watch.take(&BOTH[cut..])];
            assert!(found.contains(&Found::TwoEnds), "{cut}");
        }
    }
    #[test]
    fn they_are_seen_behind_other_requests_and_a_body_is_not_taken_for_a_head() {
        let mut watch = Watch::default();
        let innocent = b"POST / HTTP/1.1\r\nContent-Length: 60\r\n\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n............";
        assert_eq!(watch.take(innocent), Found::Nothing);
        assert_eq!(watch.take(b"GET / HTTP/1.1\r\n\r\n"), Found::Nothing);
        assert_eq!(watch.take(BOTH), Found::TwoEnds);
    }
    #[test]
    fn a_chunked_request_alone_is_fine() {
        let mut watch = Watch::default();
        assert_eq!(watch.take(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"), Found::Nothing);
        assert!(matches!(watch, Watch::Over));
    }
}
