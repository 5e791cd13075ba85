//! A session: the socket through the house's network, TLS inside the protocol, the login, small statements as text, and bulk reads
//! whose rows are decoded where they lie in the read buffer. A session dropped in the middle of a read is cancelled on the server.

use std::{sync::Arc, time::Duration};

use linkspan_core::{BoxDuplex, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    config::{Endpoint, Host},
    errors::{Said, garbled, of_io},
    login::{self, Channel},
    packet::{self, Described, Greeting, LocalFiles, Prepared, can},
    rsa,
    server::{Dialer, Flavor, Lease},
};
use crate::tls::{self, SslMode};

/// The longest payload of one packet; a longer message goes on in the next one.
const FULL: usize = 0xff_ffff;
/// Until the login is done nobody over there has proved anything: a small message is all that is taken.
const MOST_BEFORE_LOGIN: usize = 64 * 1024;
/// The server's own limit of a message.
const MOST: usize = 1 << 30;
/// A server that keeps switching plugins is none.
const ROUNDS: usize = 8;
const INBOX: usize = 256 * 1024;
/// How long the server may take to hang up.
const LINGER: Duration = Duration::from_secs(2);

/// A value as the text protocol answers it.
pub(super) type TextRow = Vec<Option<String>>;
pub(super) type ByteRow = Vec<Option<Vec<u8>>>;

/// Takes the rows of a bulk read.
pub(super) trait Rows {
    /// Whether a row of so many bytes may come now, or what is gathered must go first.
    fn room(&self, bytes: usize) -> bool;
    /// One row of the binary protocol.
    fn row(&mut self, data: &[u8]) -> Result<()>;
}

/// How far a read came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The rows so far must be taken before more can come.
    Full,
    Done,
}

/// A statement that the server knows.
pub(super) struct Statement {
    id: u32,
    pub parameters: usize,
    pub columns: Vec<Described>,
}

pub(super) struct Wire {
    channel: BoxDuplex,
    sequence: u8,
    most: usize,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of a message whose packets are still being joined, behind the header at `start`.
    joined: usize,
    /// A whole message that nobody has taken yet.
    whole: Option<(usize, usize)>,
    dialer: Arc<Dialer>,
    thread: u32,
    busy: bool,
    pub version: String,
    /// While it is in use.
    pub lease: Option<Lease>,
}

/// A session, logged in. `allow` tries without TLS first; `prefer` goes on without it when the handshake fails, never after a
/// rejected login.
pub(super) async fn connect(dialer: &Arc<Dialer>) -> Result<Wire> {
    let endpoint = &dialer.endpoint;
    let (first, second) = match (endpoint.tls(), endpoint.sslmode) {
        (None, _) | (_, SslMode::Disable) => (Encrypt::Never, None),
        (_, SslMode::Allow) => (Encrypt::Never, Some(Encrypt::Always)),
        (_, SslMode::Prefer) => (Encrypt::IfOffered, Some(Encrypt::Never)),
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => (Encrypt::Always, None),
    };
    let error = match (login(dialer, first).await, second) {
        (Ok(wire), _) => return Ok(wire),
        (Err(e), None) => return Err(e),
        (Err(e), Some(_)) if !another_way_may_help(&e, first) => return Err(e),
        (Err(e), Some(_)) => e,
    };
    let second = second.unwrap_or(first);
    login(dialer, second).await.map_err(|_| error)
}

fn another_way_may_help(e: &Error, tried: Encrypt) -> bool {
    match tried {
        Encrypt::Never => e.kind() == ErrorKind::AuthFailed,
        _ => e.context().iter().any(|(k, v)| *k == "tls" && v == "handshake"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encrypt {
    Never,
    IfOffered,
    Always,
}

async fn login(dialer: &Arc<Dialer>, encrypt: Encrypt) -> Result<Wire> {
    let endpoint = &dialer.endpoint;
    let mut wire = Wire::dial(dialer).await?;
    let greeting = wire.greeting().await?;
    let encrypted = match (greeting.capabilities & can::SSL != 0, encrypt) {
        (_, Encrypt::Never) | (false, Encrypt::IfOffered) => false,
        (false, Encrypt::Always) => return Err(tls::not_offered()),
        (true, _) => true,
    };
    let flags = packet::capabilities(greeting.capabilities, encrypted, endpoint.database.is_some(), dialer.files);
    if let (true, Some(wanted)) = (encrypted, endpoint.tls()) {
        wire.send(&packet::response_head(flags)).await?;
        if wire.start < wire.end {
            // Whatever came before TLS was not protected by it.
            return Err(garbled("greeting the server"));
        }
        let plain = std::mem::replace(&mut wire.channel, Box::pin(tokio::io::empty()));
        wire.channel = tls::wrap(plain, wanted).await?;
    }
    let channel = match (&endpoint.host, encrypted) {
        (Host::Unix(_), _) | (_, true) => Channel::Private,
        _ => Channel::Open,
    };
    wire.authenticate(endpoint, &greeting, flags, channel).await?;
    wire.most = MOST;
    wire.version = greeting.version;
    wire.thread = greeting.thread;
    Ok(wire)
}

impl Wire {
    async fn dial(dialer: &Arc<Dialer>) -> Result<Self> {
        let (ctx, within) = (&dialer.ctx, dialer.endpoint.connect_timeout);
        let channel = match &dialer.endpoint.host {
            Host::Tcp(host, port) => ctx.net.tcp(host, *port, within).await?,
            Host::Unix(path) => ctx.net.unix(path, within).await?,
        };
        Ok(Self {
            channel,
            sequence: 0,
            most: MOST_BEFORE_LOGIN,
            inbox: vec![0; 4096],
            start: 0,
            end: 0,
            joined: 0,
            whole: None,
            dialer: dialer.clone(),
            thread: 0,
            busy: false,
            version: String::new(),
            lease: None,
        })
    }

    pub fn flavor(&self) -> Flavor {
        Flavor::of(&self.version)
    }

    async fn greeting(&mut self) -> Result<Greeting> {
        let body = self.receive("greeting the server").await?;
        match body.split_first() {
            Some((0xff, rest)) => Err(Said::of(rest).into_error("greeting the server")),
            _ => Greeting::read(&body).filter(|g| g.capabilities & can::PROTOCOL_41 != 0).ok_or_else(|| garbled("greeting the server")),
        }
    }

    async fn authenticate(&mut self, endpoint: &Endpoint, greeting: &Greeting, flags: u32, channel: Channel) -> Result<()> {
        const DOING: &str = "logging in";
        let password = endpoint.password.as_ref().map_or("", |p| p.expose());
        let mut plugin = greeting.plugin.clone();
        // The server's default plugin need not be the user's: one that is not spoken here is answered with nothing, and the server
        // names the user's own.
        let first = match self.answer(endpoint, &plugin, &greeting.nonce, channel) {
            Err(e) if e.kind() == ErrorKind::Unsupported => Vec::new(),
            other => other?,
        };
        let mut nonce = greeting.nonce.clone();
        self.send(&packet::response(flags, &endpoint.user, &first, endpoint.database.as_deref(), &plugin)).await?;
        for _ in 0..ROUNDS {
            let body = self.receive(DOING).await?;
            let Some((tag, rest)) = body.split_first() else { return Err(garbled(DOING)) };
            match (*tag, rest) {
                (0x00, _) => return Ok(()),
                (0xff, rest) => return Err(Said::of(rest).into_error(DOING)),
                (0xfe, rest) => {
                    (plugin, nonce) = packet::switch(rest).ok_or_else(|| garbled(DOING))?;
                    let answer = self.answer(endpoint, &plugin, &nonce, channel)?;
                    self.send(&answer).await?;
                }
                // caching_sha2: the fast way succeeded, or the server wants the password itself.
                (0x01, [3]) if plugin == "caching_sha2_password" => {}
                (0x01, [4]) if plugin == "caching_sha2_password" => {
                    let answer = match &endpoint.server_public_key {
                        Some(key) if channel == Channel::Open => rsa::encrypted(password, &nonce, &login::key_file(key)?)?,
                        _ => login::clear(&plugin, password, channel)?,
                    };
                    self.send(&answer).await?;
                }
                _ => return Err(garbled(DOING)),
            }
        }
        Err(garbled(DOING))
    }

    /// The answer to a challenge; a password that nobody may read on the way is for the owner of the configured key alone.
    fn answer(&self, endpoint: &Endpoint, plugin: &str, nonce: &[u8], channel: Channel) -> Result<Vec<u8>> {
        let password = endpoint.password.as_ref().map_or("", |p| p.expose());
        match &endpoint.server_public_key {
            Some(key) if plugin == "sha256_password" && channel == Channel::Open && !password.is_empty() => {
                rsa::encrypted(password, nonce, &login::key_file(key)?)
            }
            _ => login::answer(plugin, password, nonce, channel),
        }
    }

    /// Runs one statement whose answer is small; all its rows, as text.
    pub async fn query(&mut self, sql: &str, doing: &'static str) -> Result<Vec<TextRow>> {
        let (_, rows) = self.ask(sql, doing).await?;
        let text = |value: Option<Vec<u8>>| value.map(|v| String::from_utf8_lossy(&v).into_owned());
        Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
    }

    /// The same with the columns' descriptions, and values as the bytes they are.
    pub async fn ask(&mut self, sql: &str, doing: &'static str) -> Result<(Vec<Described>, Vec<ByteRow>)> {
        self.command(0x03, sql.as_bytes()).await?;
        let head = self.receive(doing).await?;
        let count = match head.split_first() {
            Some((0x00, _)) => return self.idle((Vec::new(), Vec::new())),
            Some((0xff, rest)) => return self.refused(rest, doing),
            // 0xfb asks for a file of this machine: a server that was not told to load one gets none.
            Some((0xfb, _)) | None => return Err(garbled(doing)),
            Some(_) => packet::column_count(&head).ok_or_else(|| garbled(doing))?,
        };
        let columns = self.described(count, doing).await?;
        let mut rows = Vec::new();
        loop {
            let body = self.receive(doing).await?;
            match body.split_first() {
                Some((0xff, rest)) => return self.refused(rest, doing),
                Some((0xfe, _)) if body.len() < 9 => return self.idle((columns, rows)),
                _ => rows.push(packet::text_row(&body, count).ok_or_else(|| garbled(doing))?),
            }
        }
    }

    /// Has the server plan a statement. `close_statement` ends it.
    pub async fn prepare(&mut self, sql: &str, doing: &'static str) -> Result<Statement> {
        self.command(0x16, sql.as_bytes()).await?;
        let body = self.receive(doing).await?;
        if let Some((0xff, rest)) = body.split_first() {
            return self.refused(rest, doing);
        }
        let prepared = Prepared::read(&body).ok_or_else(|| garbled(doing))?;
        for _ in 0..prepared.parameters + usize::from(prepared.parameters > 0) {
            self.receive(doing).await?;
        }
        let columns = self.described(prepared.columns, doing).await?;
        self.idle(Statement { id: prepared.id, parameters: prepared.parameters, columns })
    }

    async fn described(&mut self, count: usize, doing: &'static str) -> Result<Vec<Described>> {
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let body = self.receive(doing).await?;
            columns.push(Described::read(&body).ok_or_else(|| garbled(doing))?);
        }
        if count > 0 {
            self.receive(doing).await?;
        }
        Ok(columns)
    }

    /// Starts a prepared statement with parameters given as text; `pump` reads its rows. The columns of its answer.
    pub async fn execute(&mut self, statement: &Statement, parameters: &[&str], doing: &'static str) -> Result<Vec<Described>> {
        let body = packet::execute(statement.id, parameters);
        self.command(body[0], &body[1..]).await?;
        if self.inbox.len() < INBOX {
            self.inbox.resize(INBOX, 0);
        }
        let head = self.receive(doing).await?;
        match head.split_first() {
            Some((0xff, rest)) => self.refused(rest, doing),
            Some((0x00 | 0xfb, _)) | None => Err(garbled(doing)),
            Some(_) => {
                let count = packet::column_count(&head).ok_or_else(|| garbled(doing))?;
                self.described(count, doing).await
            }
        }
    }

    /// Hands rows over until there is no room for the next, or no next.
    pub async fn pump(&mut self, rows: &mut impl Rows, doing: &'static str) -> Result<Pumped> {
        loop {
            while let Some((a, b)) = self.peek(doing)? {
                let body = &self.inbox[a..b];
                match body.split_first() {
                    Some((0x00, _)) if !rows.room(b - a) => return Ok(Pumped::Full),
                    Some((0x00, _)) => rows.row(body)?,
                    Some((0xfe, _)) if body.len() < 9 => {
                        self.take(b);
                        return self.idle(Pumped::Done);
                    }
                    Some((0xff, rest)) => {
                        let said = Said::of(rest);
                        self.busy = false;
                        return Err(said.into_error(doing));
                    }
                    _ => return Err(garbled(doing)),
                }
                self.take(b);
            }
            self.fill(doing).await?;
        }
    }

    /// Starts a `LOAD DATA LOCAL`: the server asks for the file, and `load` sends it piece by piece. The only place where such a
    /// question is answered.
    pub async fn start_load(&mut self, sql: &str, doing: &'static str) -> Result<()> {
        self.command(0x03, sql.as_bytes()).await?;
        let head = self.receive(doing).await?;
        match head.split_first() {
            Some((0xfb, _)) => Ok(()),
            Some((0xff, rest)) => self.refused(rest, doing),
            _ => Err(garbled(doing)),
        }
    }

    pub async fn load(&mut self, piece: &[u8]) -> Result<()> {
        // An empty piece would be the end.
        for packet in piece.chunks(FULL - 1) {
            self.send(packet).await?;
        }
        Ok(())
    }

    /// Ends the file: how many rows were taken, and how many warnings there are.
    pub async fn finish_load(&mut self, doing: &'static str) -> Result<(u64, u16)> {
        self.send(&[]).await?;
        let body = self.receive(doing).await?;
        match body.split_first() {
            Some((0x00, rest)) => {
                let answer = packet::affected(rest).ok_or_else(|| garbled(doing))?;
                self.idle(answer)
            }
            Some((0xff, rest)) => self.refused(rest, doing),
            _ => Err(garbled(doing)),
        }
    }

    /// Runs one statement without rows, given as bytes: how many rows it touched, and how many warnings there are.
    pub async fn change(&mut self, sql: &[u8], doing: &'static str) -> Result<(u64, u16)> {
        self.command(0x03, sql).await?;
        let body = self.receive(doing).await?;
        match body.split_first() {
            Some((0x00, rest)) => {
                let answer = packet::affected(rest).ok_or_else(|| garbled(doing))?;
                self.idle(answer)
            }
            Some((0xff, rest)) => self.refused(rest, doing),
            _ => Err(garbled(doing)),
        }
    }

    /// Lets the server forget a statement; it does not answer to that.
    pub async fn close_statement(&mut self, statement: &Statement) -> Result<()> {
        self.command(0x19, &statement.id.to_le_bytes()).await?;
        self.idle(())
    }

    /// Has the server forget what was done in the session: its transaction, locks, variables, temporary tables and statements.
    pub async fn reset(&mut self) -> Result<()> {
        const DOING: &str = "resetting the session";
        if self.busy || self.start < self.end {
            return Err(garbled(DOING));
        }
        self.command(0x1f, &[]).await?;
        let body = self.receive(DOING).await?;
        match body.split_first() {
            Some((0x00, _)) => self.idle(()),
            Some((0xff, rest)) => self.refused(rest, DOING),
            _ => Err(garbled(DOING)),
        }
    }

    pub fn files(&self) -> LocalFiles {
        self.dialer.files
    }

    /// What lies idle needs little memory.
    pub fn at_rest(mut self) -> Self {
        (self.inbox, self.start, self.end) = (vec![0; 4096], 0, 0);
        self
    }

    /// Nothing is running that could be cancelled.
    pub fn give_up(mut self) {
        self.busy = false;
    }

    /// Ends the session in good order; at the end the server has hung up. Dropping it instead only closes the socket.
    pub async fn quit(mut self) {
        if self.busy {
            return;
        }
        self.sequence = 0;
        let hung_up = async {
            if self.send(&[0x01]).await.is_ok() {
                self.channel.shutdown().await.ok();
            }
            let mut rest = [0; 1024];
            while self.channel.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        };
        tokio::time::timeout(LINGER, hung_up).await.ok();
    }

    fn idle<T>(&mut self, answer: T) -> Result<T> {
        self.busy = false;
        Ok(answer)
    }

    fn refused<T>(&mut self, rest: &[u8], doing: &'static str) -> Result<T> {
        self.busy = false;
        Err(Said::of(rest).into_error(doing))
    }

    async fn command(&mut self, command: u8, body: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.busy = true;
        let mut whole = Vec::with_capacity(body.len() + 1);
        whole.push(command);
        whole.extend_from_slice(body);
        self.send(&whole).await
    }

    /// Sends one message, cut into packets where it is longer than one.
    async fn send(&mut self, body: &[u8]) -> Result<()> {
        const DOING: &str = "sending to the server";
        let mut rest = body;
        let mut frames = Vec::with_capacity(body.len() + 4);
        loop {
            let (packet, after) = rest.split_at(rest.len().min(FULL));
            let len = packet.len();
            frames.extend_from_slice(&[len as u8, (len >> 8) as u8, (len >> 16) as u8, self.sequence]);
            self.sequence = self.sequence.wrapping_add(1);
            frames.extend_from_slice(packet);
            rest = after;
            if len < FULL {
                break;
            }
        }
        self.channel.write_all(&frames).await.map_err(|e| of_io(&e, DOING))?;
        self.channel.flush().await.map_err(|e| of_io(&e, DOING))
    }

    /// One message, put together from its packets.
    async fn receive(&mut self, doing: &'static str) -> Result<Vec<u8>> {
        loop {
            if let Some((a, b)) = self.peek(doing)? {
                let body = self.inbox[a..b].to_vec();
                self.take(b);
                return Ok(body);
            }
            self.fill(doing).await?;
        }
    }

    /// Where the next whole message lies. The packets of a long one are joined in place.
    fn peek(&mut self, doing: &'static str) -> Result<Option<(usize, usize)>> {
        if self.whole.is_some() {
            return Ok(self.whole);
        }
        loop {
            let header = self.start + if self.joined == 0 { 0 } else { 4 + self.joined };
            let Some([a, b, c, sequence]) = self.inbox[..self.end].get(header..header + 4) else { return Ok(None) };
            let len = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
            if *sequence != self.sequence || self.joined + len > self.most {
                return Err(garbled(doing));
            }
            if header + 4 + len > self.end {
                return Ok(None);
            }
            self.sequence = self.sequence.wrapping_add(1);
            if self.joined > 0 {
                self.inbox.copy_within(header + 4..self.end, header);
                self.end -= 4;
            }
            self.joined += len;
            if len < FULL {
                let body = self.start + 4;
                self.whole = Some((body, body + self.joined));
                return Ok(self.whole);
            }
        }
    }

    fn take(&mut self, end: usize) {
        self.start = end;
        self.joined = 0;
        self.whole = None;
    }

    /// Reads more. A message that is larger than the inbox makes it grow for as long as it is there.
    async fn fill(&mut self, doing: &'static str) -> Result<()> {
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
        let header = if self.joined == 0 { 0 } else { 4 + self.joined };
        let len = self.inbox[..self.end]
            .get(header..header + 3)
            .map_or(0, |h| usize::from(h[0]) | usize::from(h[1]) << 8 | usize::from(h[2]) << 16);
        let need = header + 8 + len;
        if need > self.inbox.len() {
            self.inbox.resize(need, 0);
        }
        let n = self.channel.read(&mut self.inbox[self.end..]).await.map_err(|e| of_io(&e, doing))?;
        if n == 0 {
            self.busy = false;
            return Err(of_io(&std::io::ErrorKind::UnexpectedEof.into(), doing));
        }
        self.end += n;
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.busy || self.thread == 0 {
            return;
        }
        let (dialer, thread) = (self.dialer.clone(), self.thread);
        // What it did runs on until the server has heard of this.
        let lease = self.lease.take();
        // A drop cannot wait. The request is bounded by the connect timeout and touches nothing that outlives it.
        runtime.spawn(async move {
            let _lease = lease;
            let ask = async {
                let mut wire = connect(&dialer).await?;
                wire.query(&format!("KILL QUERY {thread}"), "cancelling").await?;
                wire.quit().await;
                Ok::<_, Error>(())
            };
            tokio::time::timeout(dialer.endpoint.connect_timeout, ask).await.ok();
        });
    }
}
