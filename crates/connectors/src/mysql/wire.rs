//! A session: the socket through the house's network, TLS inside the protocol, the login, and small statements.
//! A session that is dropped closes its socket.

use linkspan_core::{BoxDuplex, Context, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    config::{Endpoint, Host},
    errors::{Said, garbled, of_io},
    login::{self, Channel},
    packet::{self, Greeting, can},
};
use crate::tls::{self, SslMode};

/// The longest payload of one packet; a longer message goes on in the next one.
const FULL: usize = 0xff_ffff;
/// Until the login is done nobody over there has proved anything: a small message is all that is taken.
const MOST_BEFORE_LOGIN: usize = 64 * 1024;
/// Small statements have small answers.
const MOST: usize = 16 << 20;
/// A server that keeps switching plugins is none.
const ROUNDS: usize = 8;

/// A value as the text protocol answers it.
pub(super) type TextRow = Vec<Option<String>>;

pub(super) struct Wire {
    channel: BoxDuplex,
    sequence: u8,
    most: usize,
    pub version: String,
}

/// A session, logged in. `Timeout` when the whole of it takes longer than the connect timeout.
pub(super) async fn connect(endpoint: &Endpoint, ctx: &Context) -> Result<Wire> {
    let within = endpoint.connect_timeout;
    let done = tokio::time::timeout(within, attempts(endpoint, ctx)).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("the server did not answer within {} s", within.as_secs()))
            .fix("check host, port and firewall: something accepts the connection and stays silent; or raise connect_timeout_seconds"))
    });
    done.map_err(|e| e.with("server", endpoint.address()))
}

/// `allow` tries without TLS first; `prefer` goes on without it when the handshake fails, never after a rejected login.
async fn attempts(endpoint: &Endpoint, ctx: &Context) -> Result<Wire> {
    let (first, second) = match (endpoint.tls(), endpoint.sslmode) {
        (None, _) | (_, SslMode::Disable) => (Encrypt::Never, None),
        (_, SslMode::Allow) => (Encrypt::Never, Some(Encrypt::Always)),
        (_, SslMode::Prefer) => (Encrypt::IfOffered, Some(Encrypt::Never)),
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => (Encrypt::Always, None),
    };
    let error = match (login(endpoint, ctx, first).await, second) {
        (Ok(wire), _) => return Ok(wire),
        (Err(e), None) => return Err(e),
        (Err(e), Some(_)) if !another_way_may_help(&e, first) => return Err(e),
        (Err(e), Some(_)) => e,
    };
    let second = second.unwrap_or(first);
    login(endpoint, ctx, second).await.map_err(|_| error)
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

async fn login(endpoint: &Endpoint, ctx: &Context, encrypt: Encrypt) -> Result<Wire> {
    let within = endpoint.connect_timeout;
    let channel = match &endpoint.host {
        Host::Tcp(host, port) => ctx.net.tcp(host, *port, within).await?,
        Host::Unix(path) => ctx.net.unix(path, within).await?,
    };
    let mut wire = Wire { channel, sequence: 0, most: MOST_BEFORE_LOGIN, version: String::new() };
    let greeting = wire.greeting().await?;
    let encrypted = match (greeting.capabilities & can::SSL != 0, encrypt) {
        (_, Encrypt::Never) | (false, Encrypt::IfOffered) => false,
        (false, Encrypt::Always) => return Err(tls::not_offered()),
        (true, _) => true,
    };
    let flags = packet::capabilities(greeting.capabilities, encrypted, endpoint.database.is_some());
    if let (true, Some(wanted)) = (encrypted, endpoint.tls()) {
        wire.send(&packet::response_head(flags)).await?;
        wire.channel = tls::wrap(wire.channel, wanted).await?;
    }
    let channel = match (&endpoint.host, encrypted) {
        (Host::Unix(_), _) | (_, true) => Channel::Private,
        _ => Channel::Open,
    };
    wire.authenticate(endpoint, &greeting, flags, channel).await?;
    wire.most = MOST;
    wire.version = greeting.version;
    Ok(wire)
}

impl Wire {
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
        let first = match login::answer(&plugin, password, &greeting.nonce, channel) {
            Err(e) if e.kind() == ErrorKind::Unsupported => Vec::new(),
            other => other?,
        };
        self.send(&packet::response(flags, &endpoint.user, &first, endpoint.database.as_deref(), &plugin)).await?;
        for _ in 0..ROUNDS {
            let body = self.receive(DOING).await?;
            let Some((tag, rest)) = body.split_first() else { return Err(garbled(DOING)) };
            match (*tag, rest) {
                (0x00, _) => return Ok(()),
                (0xff, rest) => return Err(Said::of(rest).into_error(DOING)),
                (0xfe, rest) => {
                    let (other, nonce) = packet::switch(rest).ok_or_else(|| garbled(DOING))?;
                    plugin = other;
                    let answer = login::answer(&plugin, password, &nonce, channel)?;
                    self.send(&answer).await?;
                }
                // caching_sha2: the fast way succeeded, or the server wants the password itself.
                (0x01, [3]) if plugin == "caching_sha2_password" => {}
                (0x01, [4]) if plugin == "caching_sha2_password" => {
                    let answer = login::clear(&plugin, password, channel)?;
                    self.send(&answer).await?;
                }
                _ => return Err(garbled(DOING)),
            }
        }
        Err(garbled(DOING))
    }

    /// Runs one statement whose answer is small; all its rows, as text.
    pub async fn query(&mut self, sql: &str, doing: &'static str) -> Result<Vec<TextRow>> {
        self.sequence = 0;
        let mut command = vec![0x03];
        command.extend_from_slice(sql.as_bytes());
        self.send(&command).await?;
        let head = self.receive(doing).await?;
        let columns = match head.split_first() {
            Some((0x00, _)) => return Ok(Vec::new()),
            Some((0xff, rest)) => return Err(Said::of(rest).into_error(doing)),
            // 0xfb asks for a file of this machine: a server that was not told to load one gets none.
            Some((0xfb, _)) | None => return Err(garbled(doing)),
            Some(_) => packet::column_count(&head).ok_or_else(|| garbled(doing))?,
        };
        for _ in 0..=columns {
            self.receive(doing).await?;
        }
        let mut rows = Vec::new();
        loop {
            let body = self.receive(doing).await?;
            match body.split_first() {
                Some((0xff, rest)) => return Err(Said::of(rest).into_error(doing)),
                Some((0xfe, _)) if body.len() < 9 => return Ok(rows),
                _ => rows.push(packet::text_row(&body, columns).ok_or_else(|| garbled(doing))?),
            }
        }
    }

    /// Ends the session in good order. Dropping it instead only closes the socket.
    pub async fn close(mut self) {
        self.sequence = 0;
        if self.send(&[0x01]).await.is_ok() {
            self.channel.shutdown().await.ok();
        }
    }

    async fn send(&mut self, body: &[u8]) -> Result<()> {
        const DOING: &str = "sending to the server";
        if body.len() >= FULL {
            return Err(Error::new(ErrorKind::Unsupported, "the statement is longer than one packet").fix("make the statement shorter"));
        }
        let len = u32::try_from(body.len()).map_err(|_| garbled(DOING))?.to_le_bytes();
        let mut frame = vec![len[0], len[1], len[2], self.sequence];
        self.sequence = self.sequence.wrapping_add(1);
        frame.extend_from_slice(body);
        self.channel.write_all(&frame).await.map_err(|e| of_io(&e, DOING))?;
        self.channel.flush().await.map_err(|e| of_io(&e, DOING))
    }

    /// One message, put together from its packets.
    async fn receive(&mut self, doing: &'static str) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut head = [0; 4];
            self.channel.read_exact(&mut head).await.map_err(|e| of_io(&e, doing))?;
            let len = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
            if head[3] != self.sequence || body.len() + len > self.most {
                return Err(garbled(doing));
            }
            self.sequence = self.sequence.wrapping_add(1);
            let start = body.len();
            body.resize(start + len, 0);
            self.channel.read_exact(&mut body[start..]).await.map_err(|e| of_io(&e, doing))?;
            if len < FULL {
                return Ok(body);
            }
        }
    }
}
