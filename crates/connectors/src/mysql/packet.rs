//! The protocol's packets as pure functions: the greeting, our answer to it, and values of a text row. Bytes of the other side
//! are never trusted to be long enough.

/// Flags of what a side can do.
pub(super) mod can {
    pub const LONG_PASSWORD: u32 = 1;
    pub const LONG_FLAG: u32 = 4;
    pub const CONNECT_WITH_DB: u32 = 8;
    pub const LOCAL_FILES: u32 = 0x80;
    pub const PROTOCOL_41: u32 = 0x200;
    pub const SSL: u32 = 0x800;
    pub const TRANSACTIONS: u32 = 0x2000;
    pub const SECURE_CONNECTION: u32 = 0x8000;
    pub const PLUGIN_AUTH: u32 = 0x8_0000;
    pub const PLUGIN_AUTH_LENENC: u32 = 0x20_0000;
}

/// utf8mb4_general_ci: every MySQL since 5.5 and every MariaDB knows it.
const UTF8MB4: u8 = 45;
const MAX_PACKET: u32 = 1 << 30;

/// What the server says first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub version: String,
    /// The session's number at the server.
    pub thread: u32,
    pub capabilities: u32,
    pub nonce: Vec<u8>,
    pub plugin: String,
}

impl Greeting {
    /// `None` when it is not the greeting of protocol 10.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut r = Reader(body);
        if r.take(1)? != [10] {
            return None;
        }
        let version = text(r.until_nul()?);
        let thread = r.take(4)?.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
        let mut nonce = r.take(8)?.to_vec();
        r.take(1)?;
        let low = r.take(2)?;
        r.take(3)?;
        let high = r.take(2)?;
        let capabilities = u32::from_le_bytes([low[0], low[1], high[0], high[1]]);
        let nonce_len = usize::from(r.take(1)?[0]);
        r.take(10)?;
        nonce.extend_from_slice(r.take(nonce_len.saturating_sub(8).max(13))?);
        // The last byte is a NUL that belongs to no nonce.
        nonce.pop();
        let plugin = match capabilities & can::PLUGIN_AUTH {
            0 => "mysql_native_password".to_owned(),
            _ => text(r.until_nul().unwrap_or(r.0)),
        };
        Some(Self { version, thread, capabilities, nonce, plugin })
    }
}

/// Whether the server may ask for the rows of a `LOAD DATA LOCAL`. It is never given a file, and only a writer says that it may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalFiles {
    Refused,
    Sent,
}

/// What both can do and we want.
pub(super) fn capabilities(server: u32, tls: bool, database: bool, files: LocalFiles) -> u32 {
    let mut wanted = can::LONG_PASSWORD
        | can::LONG_FLAG
        | can::PROTOCOL_41
        | can::TRANSACTIONS
        | can::SECURE_CONNECTION
        | can::PLUGIN_AUTH
        | can::PLUGIN_AUTH_LENENC;
    if database {
        wanted |= can::CONNECT_WITH_DB;
    }
    if files == LocalFiles::Sent {
        wanted |= can::LOCAL_FILES;
    }
    // Flags that the server lacks would change how it reads our answer. MariaDB leaves LONG_PASSWORD out to be known by it.
    wanted &= server | can::LONG_PASSWORD;
    if tls { wanted | can::SSL } else { wanted }
}

/// The head of the answer; alone it is the request for TLS.
pub(super) fn response_head(capabilities: u32) -> Vec<u8> {
    let mut out = capabilities.to_le_bytes().to_vec();
    out.extend_from_slice(&MAX_PACKET.to_le_bytes());
    out.push(UTF8MB4);
    out.extend_from_slice(&[0; 23]);
    out
}

pub(super) fn response(capabilities: u32, user: &str, answer: &[u8], database: Option<&str>, plugin: &str) -> Vec<u8> {
    let mut out = response_head(capabilities);
    out.extend_from_slice(user.as_bytes());
    out.push(0);
    push_length(&mut out, answer.len(), capabilities);
    out.extend_from_slice(answer);
    if let Some(database) = database.filter(|_| capabilities & can::CONNECT_WITH_DB != 0) {
        out.extend_from_slice(database.as_bytes());
        out.push(0);
    }
    if capabilities & can::PLUGIN_AUTH != 0 {
        out.extend_from_slice(plugin.as_bytes());
        out.push(0);
    }
    out
}

fn push_length(out: &mut Vec<u8>, len: usize, capabilities: u32) {
    match u8::try_from(len) {
        Ok(len) if len < 251 || capabilities & can::PLUGIN_AUTH_LENENC == 0 => out.push(len),
        _ => {
            out.push(0xfc);
            out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
        }
    }
}

/// A request to log in with another plugin: its name and its nonce.
pub(super) fn switch(body: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut r = Reader(body);
    let plugin = text(r.until_nul()?);
    let nonce = r.0.strip_suffix(&[0]).unwrap_or(r.0).to_vec();
    Some((plugin, nonce))
}

/// The values of one row of a text answer.
pub(super) fn text_row(body: &[u8], columns: usize) -> Option<Vec<Option<Vec<u8>>>> {
    let mut r = Reader(body);
    let row = (0..columns).map(|_| r.value()).collect();
    r.0.is_empty().then_some(row)?
}

/// The count of an answer's columns.
pub(super) fn column_count(body: &[u8]) -> Option<usize> {
    let mut r = Reader(body);
    usize::try_from(r.length()?).ok().filter(|n| *n <= 4096)
}

/// How many rows a statement touched and how many warnings it left, from its answer without the leading 0x00.
pub(super) fn affected(rest: &[u8]) -> Option<(u64, u16)> {
    let mut r = Reader(rest);
    let rows = r.length()?;
    r.length()?;
    r.take(2)?;
    let warnings = r.take(2)?;
    Some((rows, u16::from_le_bytes([warnings[0], warnings[1]])))
}

/// A column of an answer, as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub name: String,
    /// 63 is binary: bytes, not text.
    pub charset: u16,
    /// In bytes of the answer's character set.
    pub length: u32,
    pub kind: u8,
    pub flags: u16,
    pub decimals: u8,
}

impl Described {
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut r = Reader(body);
        for _ in 0..4 {
            r.bytes()?;
        }
        let name = text(r.bytes()?);
        r.bytes()?;
        r.length()?;
        let (charset, length) = (r.take(2)?, r.take(4)?);
        let (kind, flags, decimals) = (r.take(1)?[0], r.take(2)?, r.take(1)?[0]);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let short = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        Some(Self { name, charset: short(charset), length, kind, flags: short(flags), decimals })
    }
}

/// The answer to a prepared statement: its id, its columns, its parameters.
pub(super) struct Prepared {
    pub id: u32,
    pub columns: usize,
    pub parameters: usize,
}

impl Prepared {
    pub fn read(body: &[u8]) -> Option<Self> {
        let body = body.get(..9)?;
        let id = u32::from_le_bytes([body[1], body[2], body[3], body[4]]);
        let count = |at: usize| usize::from(u16::from_le_bytes([body[at], body[at + 1]]));
        (body[0] == 0).then(|| Self { id, columns: count(5), parameters: count(7) })
    }
}

/// The command that runs a prepared statement with these parameters, all given as text, without a server-side cursor.
pub(super) fn execute(id: u32, parameters: &[&str]) -> Vec<u8> {
    const VAR_STRING: [u8; 2] = [0xfd, 0];
    let mut out = vec![0x17];
    out.extend_from_slice(&id.to_le_bytes());
    out.push(0);
    out.extend_from_slice(&1u32.to_le_bytes());
    if parameters.is_empty() {
        return out;
    }
    out.resize(out.len() + parameters.len().div_ceil(8), 0);
    out.push(1);
    parameters.iter().for_each(|_| out.extend_from_slice(&VAR_STRING));
    for parameter in parameters {
        push_length(&mut out, parameter.len(), can::PLUGIN_AUTH_LENENC);
        out.extend_from_slice(parameter.as_bytes());
    }
    out
}

pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn until_nul(&mut self) -> Option<&'a [u8]> {
        let at = self.0.iter().position(|b| *b == 0)?;
        let head = &self.0[..at];
        self.0 = &self.0[at + 1..];
        Some(head)
    }
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.length()?).ok()?;
        self.take(len)
    }
    fn length(&mut self) -> Option<u64> {
        let bytes = match self.take(1)?[0] {
            n @ 0..=250 => return Some(n.into()),
            0xfc => self.take(2)?,
            0xfd => self.take(3)?,
            0xfe => self.take(8)?,
            _ => return None,
        };
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
    /// The outer option: whether it could be read. The inner one: whether it is null.
    #[allow(clippy::option_option, reason = "a null is not a missing value")]
    fn value(&mut self) -> Option<Option<Vec<u8>>> {
        if self.0.first() == Some(&0xfb) {
            self.take(1)?;
            return Some(None);
        }
        Some(Some(self.bytes()?.to_vec()))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Vec<u8> {
        let mut g = b"\x0a9.7.4\0\x01\x00\x00\x00abcdefgh\0\xff\xff\x2d\x02\x00\xff\xdf\x15".to_vec();
        g.extend_from_slice(&[0; 10]);
        g.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password\0");
        g
    }

    #[test]
    fn a_greeting_is_read() {
        let g = Greeting::read(&greeting()).unwrap();
        assert_eq!((g.version.as_str(), g.plugin.as_str()), ("9.7.4", "caching_sha2_password"));
        assert_eq!((g.nonce.as_slice(), g.capabilities), (&b"abcdefghijklmnopqrst"[..], 0xdfff_ffff));
    }

    #[test]
    fn whatever_is_cut_off_nothing_panics() {
        let whole = greeting();
        for n in 0..whole.len() {
            Greeting::read(&whole[..n]);
        }
        let row = b"\x03abc\xfb\xfc\x02\x00xy";
        assert_eq!(text_row(row, 3).unwrap(), [Some(b"abc".to_vec()), None, Some(b"xy".to_vec())]);
        for n in 0..row.len() {
            assert_eq!(text_row(&row[..n], 3), None);
        }
        assert_eq!(text_row(row, 2), None);
        assert_eq!(text_row(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffx", 1), None);
    }

    #[test]
    fn only_what_the_server_knows_is_sent() {
        let old = can::PROTOCOL_41 | can::SECURE_CONNECTION;
        let flags = capabilities(old, false, true, LocalFiles::Refused);
        assert_eq!(flags, old | can::LONG_PASSWORD);
        let packet = response(flags, "u", &[7; 20], Some("d"), "mysql_native_password");
        assert_eq!(packet.len(), 32 + 2 + 1 + 20);
    }
}
