//! A session that reads rows in bulk: the server's frames are decoded where they lie in the read buffer, without a task or a
//! message in between. It speaks only what a reader needs: login, simple statements, COPY TO STDOUT and bound queries.

use std::sync::Arc;

use bytes::BytesMut;
use futures::future::BoxFuture;
use linkspan_core::{BoxDuplex, Error, ErrorKind, Result, Secret};
use postgres_protocol::{
    IsNull,
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::frontend,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    connect::{Dialer, SESSION, Server, Wrap},
    errors::{Said, of_io},
    sessions::{Kind, LINGER, Lease, PROBE, RESET},
};
use crate::pool::{Idle, Session};

const INBOX: usize = 256 * 1024;

/// A value as the simple protocol answers it.
pub(super) type TextRow = Vec<Option<String>>;

/// Takes the rows of a read. `room` is asked before each row.
pub(super) trait Rows {
    /// Whether a row of so many bytes may come now, or what is gathered must go first.
    fn room(&self, bytes: usize) -> bool;
    /// A piece of a COPY in binary form, as the server cut it.
    fn copied(&mut self, data: &[u8]) -> Result<()>;
    /// One row of a query, in the layout of one COPY tuple.
    fn row(&mut self, data: &[u8]) -> Result<()>;
}

/// How far a read came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The rows so far must be taken before more can come.
    Full,
    Done,
}

/// A reader's session. Dropped in the middle of a read it is cancelled on the server.
pub(super) struct Wire {
    channel: BoxDuplex,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    dialer: Arc<Dialer>,
    wrap: Wrap,
    backend: (i32, i32),
    busy: bool,
    /// The server said that a transaction is open.
    in_transaction: bool,
    failed: Option<Said>,
    /// While it is in use.
    lease: Option<Lease>,
}

impl Wire {
    /// A session for reading: one that lies idle and still answers, else a new one.
    pub async fn connect(server: &Server) -> Result<Self> {
        let mut lease = server.lease().await?;
        while let Some(idle) = lease.reuse(Kind::Wire).await {
            if let Some(wire) = idle.session::<Self>()
                && let Some(mut wire) = wire.renewed().await
            {
                wire.lease = Some(lease);
                return Ok(wire);
            }
            lease.doubt().await;
        }
        lease.room().await;
        let dialer = server.dialer.clone();
        let attempt = server.attempt(move |wrap| {
            let dialer = dialer.clone();
            async move { Self::login(dialer, wrap).await }
        });
        let mut wire = attempt.await?;
        wire.lease = Some(lease);
        Ok(wire)
    }

    async fn login(dialer: Arc<Dialer>, wrap: Wrap) -> Result<Self> {
        let channel = dialer.dial(wrap).await?;
        let mut wire = Self {
            channel,
            inbox: vec![0; INBOX],
            start: 0,
            end: 0,
            dialer,
            wrap,
            backend: (0, 0),
            busy: false,
            in_transaction: false,
            failed: None,
            lease: None,
        };
        wire.start_up().await?;
        wire.authenticate().await?;
        wire.query(SESSION).await?;
        Ok(wire)
    }

    async fn start_up(&mut self) -> Result<()> {
        let e = self.dialer.endpoint.clone();
        let mut parameters = vec![
            ("user", e.user.as_str()),
            ("database", e.database.as_str()),
            ("client_encoding", "UTF8"),
            ("application_name", e.application_name.as_str()),
        ];
        if let Some(options) = &e.options {
            parameters.push(("options", options));
        }
        self.send(|buf| frontend::startup_message(parameters, buf)).await
    }

    async fn authenticate(&mut self) -> Result<()> {
        let mut scram = None;
        loop {
            let (tag, a, b) = self.frame().await?;
            let body = self.inbox[a..b].to_vec();
            self.start = b;
            match tag {
                b'R' => self.answer(&body, &mut scram).await?,
                b'K' if body.len() >= 8 => self.backend = (int(&body[..4]), int(&body[4..8])),
                b'E' => return Err(said(&body).into_error("logging in")),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Answers one authentication request.
    async fn answer(&mut self, body: &[u8], scram: &mut Option<ScramSha256>) -> Result<()> {
        let kind = body.get(..4).map_or(-1, int);
        let rest = body.get(4..).unwrap_or_default();
        let refused = |e: std::io::Error| {
            Error::new(ErrorKind::AuthFailed, "the login failed").with("doing", "logging in").fix("check user and password").because(e)
        };
        match kind {
            0 => Ok(()),
            3 => {
                let password = self.password()?;
                self.send(|buf| frontend::password_message(password.expose().as_bytes(), buf)).await
            }
            5 => {
                let salt: [u8; 4] = rest.try_into().map_err(|_| garbled())?;
                let hash = md5_hash(self.dialer.endpoint.user.as_bytes(), self.password()?.expose().as_bytes(), salt);
                self.send(|buf| frontend::password_message(hash.as_bytes(), buf)).await
            }
            10 => {
                let offered = rest.split(|b| *b == 0).any(|m| m == SCRAM_SHA_256.as_bytes());
                if !offered {
                    return Err(unsupported_login());
                }
                let exchange = scram.insert(ScramSha256::new(self.password()?.expose().as_bytes(), ChannelBinding::unsupported()));
                self.send(|buf| frontend::sasl_initial_response(SCRAM_SHA_256, exchange.message(), buf)).await
            }
            11 => {
                let exchange = scram.as_mut().ok_or_else(garbled)?;
                exchange.update(rest).map_err(refused)?;
                self.send(|buf| frontend::sasl_response(exchange.message(), buf)).await
            }
            12 => scram.as_mut().ok_or_else(garbled)?.finish(rest).map_err(refused),
            _ => Err(unsupported_login()),
        }
    }

    fn password(&self) -> Result<Secret> {
        self.dialer.endpoint.password.clone().ok_or_else(|| {
            Error::new(ErrorKind::AuthFailed, "the server asks for a password")
                .with("doing", "logging in")
                .fix("add the password to the config")
        })
    }

    /// Runs statements whose answers are small; all their rows, as text.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.busy = true;
        self.send(|buf| frontend::query(sql, buf)).await?;
        let mut rows = Vec::new();
        loop {
            let (tag, a, b) = self.frame().await?;
            match tag {
                b'D' => rows.push(text_row(&self.inbox[a..b])?),
                b'E' => self.failed = Some(said(&self.inbox[a..b])),
                _ => {}
            }
            self.start = b;
            if tag == b'Z' {
                self.in_transaction = self.inbox[a..b] != *b"I";
                return self.ready("running a statement").map(|()| rows);
            }
        }
    }

    /// Starts `COPY (...) TO STDOUT (FORMAT binary)`; `pump` reads it.
    pub async fn start_copy(&mut self, sql: &str) -> Result<()> {
        self.busy = true;
        self.send(|buf| frontend::query(sql, buf)).await
    }

    /// Starts a query with one bound parameter, given as text; `pump` reads its rows, all in binary form.
    pub async fn start_bound(&mut self, sql: &str, parameter: Option<(u32, &str)>) -> Result<()> {
        self.busy = true;
        self.send(|buf| {
            frontend::parse("", sql, parameter.map(|(oid, _)| oid), buf)?;
            let text = |v: &str, buf: &mut BytesMut| {
                buf.extend_from_slice(v.as_bytes());
                Ok(IsNull::No)
            };
            frontend::bind("", "", parameter.map(|_| 0), parameter.map(|(_, v)| v), text, [1], buf)
                .map_err(|_| std::io::Error::other("the parameter cannot be bound"))?;
            frontend::execute("", 0, buf)?;
            frontend::sync(buf);
            Ok(())
        })
        .await
    }

    /// Hands rows over until there is no room for the next, or no next.
    pub async fn pump(&mut self, rows: &mut impl Rows) -> Result<Pumped> {
        loop {
            while let Some((tag, a, b)) = self.peek()? {
                let frame = &self.inbox[a..b];
                match tag {
                    b'd' | b'D' if !rows.room(b - a) => return Ok(Pumped::Full),
                    b'd' => rows.copied(frame)?,
                    b'D' => rows.row(frame)?,
                    b'E' => self.failed = Some(said(frame)),
                    _ => {}
                }
                self.start = b;
                if tag == b'Z' {
                    self.in_transaction = self.inbox[a..b] != *b"I";
                    return self.ready("reading rows").map(|()| Pumped::Done);
                }
            }
            self.fill().await?;
        }
    }

    /// The use is over: the session is as new for the next one, or ends in good order. Dropping it instead only closes the socket.
    pub async fn close(mut self) {
        let lease = self.lease.take();
        if let Some(lease) = lease
            && self.is_reset().await
        {
            // What lies idle needs no memory.
            (self.inbox, self.start, self.end) = (Vec::new(), 0, 0);
            return lease.give_back(Idle::new(Kind::Wire, self)).await;
        }
        self.hang_up().await;
    }

    async fn is_reset(&mut self) -> bool {
        if self.busy || self.start < self.end {
            return false;
        }
        let first = if self.in_transaction { "ROLLBACK; " } else { "" };
        let reset = tokio::time::timeout(PROBE, self.query(&format!("{first}{RESET}"))).await;
        // The last column of the last row says whether something was kept.
        matches!(reset, Ok(Ok(rows)) if rows.last().and_then(|row| row.last()).and_then(Option::as_deref) == Some("f"))
    }

    /// Sets an idle session up again; `None` when it does not answer any more.
    async fn renewed(mut self) -> Option<Self> {
        self.inbox = vec![0; INBOX];
        let set_up = tokio::time::timeout(PROBE, self.query(SESSION)).await;
        if !matches!(set_up, Ok(Ok(_))) {
            // There is nothing to cancel.
            self.busy = false;
            return None;
        }
        Some(self)
    }

    /// Ends the session in good order; at the end the server has hung up.
    async fn hang_up(mut self) {
        if self.busy {
            return;
        }
        let end = |buf: &mut BytesMut| {
            frontend::terminate(buf);
            Ok(())
        };
        let hung_up = async {
            self.send(end).await.ok();
            self.channel.shutdown().await.ok();
            let mut rest = [0; 1024];
            while self.channel.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        };
        tokio::time::timeout(LINGER, hung_up).await.ok();
    }

    fn ready(&mut self, doing: &'static str) -> Result<()> {
        self.busy = false;
        match self.failed.take() {
            Some(said) => Err(said.into_error(doing)),
            None => Ok(()),
        }
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
        let mut buf = BytesMut::new();
        write(&mut buf).map_err(|e| Error::new(ErrorKind::Internal, "a message could not be written").because(e))?;
        self.channel.write_all(&buf).await.map_err(|e| of_io(&e, "asking the server"))?;
        self.channel.flush().await.map_err(|e| of_io(&e, "asking the server"))
    }

    async fn frame(&mut self) -> Result<(u8, usize, usize)> {
        loop {
            if let Some(frame) = self.peek()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// The next whole frame: its tag and where its body lies.
    fn peek(&self) -> Result<Option<(u8, usize, usize)>> {
        let there = &self.inbox[self.start..self.end];
        let Some(header) = there.get(..5) else { return Ok(None) };
        let len = usize::try_from(int(&header[1..5])).ok().filter(|len| *len >= 4).ok_or_else(garbled)?;
        let frame = (header[0], self.start + 5, self.start + 1 + len);
        Ok((there.len() > len).then_some(frame))
    }

    /// Reads more. A frame that is larger than the inbox makes it grow for as long as it is there.
    async fn fill(&mut self) -> Result<()> {
        let there = self.end - self.start;
        if there == 0 {
            (self.start, self.end) = (0, 0);
            if self.inbox.len() > 4 * INBOX {
                self.inbox = vec![0; INBOX];
            }
        } else if self.start > 0 {
            self.inbox.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, there);
        }
        if there >= 5 {
            let need = usize::try_from(int(&self.inbox[1..5])).map_err(|_| garbled())? + 1;
            if need > self.inbox.len() {
                self.inbox.resize(need, 0);
            }
        }
        let n = self.channel.read(&mut self.inbox[self.end..]).await.map_err(|e| of_io(&e, "reading"))?;
        if n == 0 {
            self.busy = false;
            let said = self.failed.take().unwrap_or_else(|| Said { code: "08006".to_owned(), ..Said::default() });
            return Err(said.into_error("reading"));
        }
        self.end += n;
        Ok(())
    }
}

impl Session for Wire {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.hang_up())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.busy {
            return;
        }
        let (dialer, wrap, (process, key)) = (self.dialer.clone(), self.wrap, self.backend);
        // What it did runs on until the server has heard of this.
        let lease = self.lease.take();
        // A drop cannot wait. The request is bounded by the connect timeout and touches nothing that outlives it.
        runtime.spawn(async move {
            let _lease = lease;
            let within = dialer.endpoint.connect_timeout;
            let ask = async {
                let mut channel = dialer.dial(wrap).await?;
                let mut buf = BytesMut::new();
                frontend::cancel_request(process, key, &mut buf);
                channel.write_all(&buf).await.map_err(|e| of_io(&e, "cancelling"))?;
                channel.flush().await.map_err(|e| of_io(&e, "cancelling"))?;
                channel.read_u8().await.map_err(|e| of_io(&e, "cancelling"))
            };
            tokio::time::timeout(within, ask).await.ok();
        });
    }
}

fn int(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(-1, i32::from_be_bytes)
}

fn garbled() -> Error {
    Error::new(ErrorKind::Unavailable, "the server's answer is not PostgreSQL's protocol").fix("check host and port")
}

fn unsupported_login() -> Error {
    Error::new(ErrorKind::Unsupported, "the server asks for a way to log in that is not supported")
        .fix("use a password (SCRAM-SHA-256, md5) or trust for this user in pg_hba.conf")
}

/// The fields of an ErrorResponse that may be shown.
fn said(body: &[u8]) -> Said {
    let mut said = Said::default();
    for field in body.split(|b| *b == 0).filter(|f| f.len() > 1) {
        let text = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => said.code = text,
            b'M' => said.message = text,
            b's' => said.schema = Some(text),
            b't' => said.table = Some(text),
            b'c' => said.column = Some(text),
            b'n' => said.constraint = Some(text),
            _ => {}
        }
    }
    said
}

fn text_row(body: &[u8]) -> Result<TextRow> {
    let count = body.get(..2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes);
    let mut rest = body.get(2..).unwrap_or_default();
    let mut row = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (len, after) = rest.split_at_checked(4).ok_or_else(garbled)?;
        rest = after;
        match usize::try_from(int(len)) {
            Ok(len) => {
                let (value, after) = rest.split_at_checked(len).ok_or_else(garbled)?;
                row.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = after;
            }
            Err(_) => row.push(None),
        }
    }
    Ok(row)
}
