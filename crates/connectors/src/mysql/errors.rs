//! From what the server says to what the user can do. The server's own words stay out: its messages quote values.

use std::fmt;

use linkspan_core::{Error, ErrorKind, Retry};

/// The numbers of an error packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub code: u16,
    pub sqlstate: String,
}

impl Said {
    /// Reads an error packet without its leading 0xff. Before the login there may be no SQLSTATE in it.
    pub fn of(body: &[u8]) -> Self {
        let code = body.get(..2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let sqlstate = match body.get(2..8) {
            Some([b'#', state @ ..]) => String::from_utf8_lossy(state).into_owned(),
            _ => String::new(),
        };
        Self { code, sqlstate }
    }

    pub fn into_error(self, doing: &'static str) -> Error {
        let (kind, message, fix) = self.remedy();
        let mut error = Error::new(kind, message).with("doing", doing).with("code", self.code);
        if let Some(fix) = fix {
            error = error.fix(fix);
        }
        if matches!(self.code, 1205 | 1213) {
            error = error.retry(Retry::Backoff);
        }
        error.because(self)
    }

    fn remedy(&self) -> (ErrorKind, &'static str, Option<&'static str>) {
        use ErrorKind::*;
        match self.code {
            1045 | 1698 => (
                AuthFailed,
                "the server rejected the login",
                Some("check user and password; the user must be allowed from this machine's address, and may need sslmode=require"),
            ),
            1130 => {
                (AuthFailed, "the server allows no login from this machine", Some("create the user for this address: 'user'@'address'"))
            }
            1129 => (Unavailable, "the server blocks this machine after failed connections", Some("run FLUSH HOSTS on the server")),
            3159 => (AuthFailed, "the server refuses a login without TLS", Some("use sslmode=require (or verify-full)")),
            3118 | 4151 => (AuthFailed, "the account is locked", Some("ALTER USER ... ACCOUNT UNLOCK on the server")),
            1820 | 1862 => (AuthFailed, "the password has expired", Some("log in with a client once and set a new password")),
            1044 | 1142 | 1143 | 1227 => {
                (PermissionDenied, "the login lacks a right", Some("GRANT the right to the login: SELECT to read"))
            }
            1049 => (NotFound, "the database does not exist", Some("check the database's name in the URL or in `database`")),
            1146 => (NotFound, "the table does not exist", Some("names may keep their case on this server")),
            1040 | 1203 | 1226 => {
                (Unavailable, "the server has no connection left", Some("raise max_connections, use fewer lanes, or wait"))
            }
            1053 | 1927 | 4031 => (Unavailable, "the server is stopping or ended the session", Some("run the same command again")),
            1062 | 1586 => (DataInvalid, "two rows have the same key", Some("choose a key that is unique, with --key")),
            1048 | 1264 | 1265 | 1292 | 1366 | 1406 | 1441 | 1690 | 3140 | 3141 | 3155 | 3157 | 4025 => (
                DataInvalid,
                "a value does not fit its column",
                Some("read the column as text by a `query` of the source, or write to another target"),
            ),
            1153 | 1301 => (DataInvalid, "a row is longer than the server takes", Some("raise max_allowed_packet on the server")),
            1071 | 1170 => (DataInvalid, "the key is too long for an index", Some("choose a shorter key with --key")),
            1117 | 1118 => {
                (Unsupported, "the table has too many or too wide columns for the server", Some("leave columns out of the stream"))
            }
            1059 | 1102 | 1103 | 1166 => (ConfigInvalid, "the server does not take that name", Some("choose another name with --target")),
            3750 => (
                ConfigInvalid,
                "the server makes no table without a primary key",
                Some("write with --write merge and a --key, or let an administrator set sql_require_primary_key = OFF"),
            ),
            1148 | 3948 | 4166 => (
                Unsupported,
                "the server takes no rows as a file from this session, though local_infile is on",
                Some("set local_infile = 0 on the server: the rows then travel as INSERTs"),
            ),
            1836 | 1290 => (PermissionDenied, "the server is read-only", Some("connect to the primary server")),
            1412 => (PositionLost, "the table was rewritten while it was being read", Some("run again: the table is read from its start")),
            1060 => (ConfigInvalid, "two columns have the same name", Some("give each column of the query its own name with AS")),
            1054 => (NotFound, "a column does not exist", Some("run discover to see the columns")),
            1295 => (Unsupported, "the statement cannot be read as a query", Some("use a SELECT")),
            3024 | 1969 => (Timeout, "the server ended the statement for its time limit", Some("raise the server's limit for this login")),
            1317 => (Canceled, "the statement was cancelled", None),
            1205 | 1213 => (Conflict, "another transaction was in the way", Some("run the same command again")),
            1021 | 1114 | 3675 => (StorageFull, "the server has no room", Some("free space on the server; run the same command again")),
            1064 => (ConfigInvalid, "the SQL is not understood", Some("try the query with a client first")),
            1251 | 2059 => (Unsupported, "the server asks for a way to log in that is not supported", Some(super::login::PLUGINS)),
            _ => (Internal, "the server answered with an error", Some("look the code up in the server's documentation, or in its log")),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sqlstate.as_str() {
            "" => write!(f, "server error {}", self.code),
            state => write!(f, "server error {} ({state})", self.code),
        }
    }
}
impl std::error::Error for Said {}

/// A broken socket in the middle of things.
pub(super) fn of_io(e: &std::io::Error, doing: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the server broke")
        .with("doing", doing)
        .fix("check that the server is up; run the same command again, nothing is lost")
        .because(std::io::Error::new(e.kind(), e.to_string()))
}

/// An answer that is not the protocol.
pub(super) fn garbled(doing: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "what answers there does not speak the MySQL protocol")
        .with("doing", doing)
        .fix("check host and port: they must be those of a MySQL or MariaDB server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_becomes_a_remedy_and_the_servers_words_stay_out() {
        for (code, kind) in [
            (1045_u16, ErrorKind::AuthFailed),
            (1044, ErrorKind::PermissionDenied),
            (1049, ErrorKind::NotFound),
            (1040, ErrorKind::Unavailable),
            (1213, ErrorKind::Conflict),
            (1114, ErrorKind::StorageFull),
        ] {
            let mut body = code.to_le_bytes().to_vec();
            body.extend_from_slice(b"#HY000a canary in the text");
            let e = Said::of(&body).into_error("reading");
            assert_eq!(e.kind(), kind, "{code}");
            assert!(e.suggested_fix().is_some());
            assert!(!format!("{e:?} {}", e.to_json()).contains("canary"));
        }
    }

    #[test]
    fn a_short_or_early_error_packet_is_read() {
        assert_eq!(Said::of(&[]), Said { code: 0, sqlstate: String::new() });
        let early = Said::of(b"\x10\x04Too many connections");
        assert_eq!((early.code, early.sqlstate.as_str()), (1040, ""));
    }
}
