//! Lines from a pipe, read by a thread of their own: a read that nobody can break off must not hold the process's end.

use std::{io::Read, time::Duration};

use linkspan_core::{Error, ErrorKind, Result};
use memchr::{memchr, memrchr};
use tokio::sync::mpsc;

/// What is asked of the pipe at once.
const CHUNK: usize = 1 << 18;
/// Blocks between the thread and whoever takes the lines.
const DEPTH: usize = 4;
/// The longest line that is taken.
const LONGEST: usize = 64_000_000;

/// Whole lines in one piece; only the last one may lack its end.
type Block = Result<Vec<u8>>;

pub(in crate::program) struct Input {
    blocks: mpsc::Receiver<Block>,
    block: Vec<u8>,
    at: usize,
    /// Where the line began that was taken last.
    last: usize,
    number: u64,
}

/// One step of the input.
pub(in crate::program) enum Next {
    /// A line, to be taken.
    Line,
    /// Nothing came for a while.
    Quiet,
    End,
}

impl Input {
    pub(in crate::program) fn start(mut from: impl Read + Send + 'static) -> Self {
        let (send, blocks) = mpsc::channel(DEPTH);
        std::thread::spawn(move || pump(&mut from, &send));
        Self { blocks, block: Vec::new(), at: 0, last: 0, number: 0 }
    }

    /// Goes to the next line. May be dropped at any time: nothing is lost.
    pub(in crate::program) async fn next(&mut self, patience: Duration) -> Result<Next> {
        if self.at >= self.block.len() {
            match tokio::time::timeout(patience, self.blocks.recv()).await {
                Err(_) => return Ok(Next::Quiet),
                Ok(None) => return Ok(Next::End),
                Ok(Some(block)) => {
                    self.block = block?;
                    self.at = 0;
                }
            }
        }
        self.number += 1;
        Ok(Next::Line)
    }

    /// The line that `next` went to, taken once; and whether it had no end: whoever wrote it stopped in the middle.
    pub(in crate::program) fn take(&mut self) -> (&[u8], bool) {
        let rest = &self.block[self.at..];
        let end = memchr(b'\n', rest);
        let (length, start) = (end.unwrap_or(rest.len()), self.at);
        self.last = start;
        self.at += length + 1;
        (&self.block[start..start + length], end.is_none())
    }

    /// Puts the line back that was taken last: the next one is this one again.
    pub(in crate::program) fn back(&mut self) {
        self.at = self.last;
        self.number -= 1;
    }

    /// The number of the line that `next` went to.
    pub(in crate::program) fn number(&self) -> u64 {
        self.number
    }
}

fn pump(from: &mut impl Read, to: &mpsc::Sender<Block>) {
    let mut kept: Vec<u8> = Vec::new();
    loop {
        let had = kept.len();
        kept.resize(had + CHUNK, 0);
        let read = match from.read(&mut kept[had..]) {
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                kept.truncate(had);
                continue;
            }
            Err(e) => {
                let _ = to.blocking_send(Err(Error::new(ErrorKind::Unavailable, "the input cannot be read").because(e)));
                return;
            }
        };
        kept.truncate(had + read);
        if read == 0 {
            if !kept.is_empty() {
                let _ = to.blocking_send(Ok(kept));
            }
            return;
        }
        let Some(end) = memrchr(b'\n', &kept[had..]) else {
            if kept.len() > LONGEST {
                let _ = to.blocking_send(Err(Error::new(ErrorKind::DataInvalid, "a line of the input is longer than it may be")
                    .with("bytes", LONGEST)
                    .fix("see that every message is one line")));
                return;
            }
            continue;
        };
        let rest = kept.split_off(had + end + 1);
        if to.blocking_send(Ok(std::mem::replace(&mut kept, rest))).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a text in pieces of a few bytes.
    struct Drops(&'static [u8]);
    impl Read for Drops {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(3);
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[tokio::test]
    async fn lines_come_whole_and_the_last_one_may_lack_its_end() {
        let mut input = Input::start(Drops(b"one\n\ntwo is longer\nthree"));
        let mut lines = Vec::new();
        while let Next::Line = input.next(Duration::from_secs(5)).await.unwrap() {
            let (line, is_cut) = input.take();
            let line = String::from_utf8_lossy(line).into_owned();
            lines.push((line, input.number(), is_cut));
        }
        let all: Vec<(&str, u64, bool)> = lines.iter().map(|(l, n, cut)| (l.as_str(), *n, *cut)).collect();
        assert_eq!(all, [("one", 1, false), ("", 2, false), ("two is longer", 3, false), ("three", 4, true)]);
    }
}
