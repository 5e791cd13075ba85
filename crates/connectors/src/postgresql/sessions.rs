//! The sessions of one connector: statements and bulk readers share one pool and its limits. What a used session is brought back to,
//! and how one ends.

use std::{
    io,
    pin::Pin,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use linkspan_core::BoxDuplex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pool::{Idle, Need, Slot};

/// What is left of a session's use goes, as by DISCARD ALL, which can be part of nothing else. The driver's own prepared statements
/// stay, for it goes on using them; one that a query's text made is told in the last
/// answer, and ends the session.
pub(super) const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); \
    DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES; SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)";
/// How long an idle session may take to answer before it counts as broken.
pub(super) const PROBE: Duration = Duration::from_secs(5);
/// How long the server may take to hang up.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The planner and the holder of the snapshot; one reader a lane.
pub(super) const SOURCE: Need = Need { base: 2, lane: 1 };
/// Looking at tables and publishing; one session a lane.
pub(super) const DESTINATION: Need = Need { base: 1, lane: 1 };

/// Sessions of either kind have nothing in common but the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    Wire,
}

pub(super) type Lease = Slot<Idle<Kind>>;

/// A channel whose shutdown waits until the other side has hung up: only then is the session gone there.
pub(super) struct Lingering {
    channel: BoxDuplex,
    shut: bool,
}

impl Lingering {
    pub fn new(channel: BoxDuplex) -> Self {
        Self { channel, shut: false }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Task<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.channel.as_mut().poll_read(task, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.channel.as_mut().poll_write(task, buf)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, task: &mut Task<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.channel.as_mut().poll_write_vectored(task, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.channel.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        self.channel.as_mut().poll_flush(task)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(self.channel.as_mut().poll_shutdown(task))?;
            self.shut = true;
        }
        let mut rest = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut rest);
            match ready!(self.channel.as_mut().poll_read(task, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
