//! From what the server says to what the user can do. Row values never come along: the server's DETAIL, and the messages of
//! conversions and of user code, hold values and are left out.

use std::fmt;

use linkspan_core::{Error, ErrorKind, Result, Retry};
use tokio_postgres::error::DbError;

/// The server's answer, cut down to what may be shown.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub code: String,
    pub message: String,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
}

impl Said {
    fn of(e: &DbError) -> Self {
        Self {
            code: e.code().code().to_owned(),
            message: e.message().to_owned(),
            schema: e.schema().map(str::to_owned),
            table: e.table().map(str::to_owned),
            column: e.column().map(str::to_owned),
            constraint: e.constraint().map(str::to_owned),
        }
    }

    /// Whether the message is about names and rights. Messages of data exceptions (22), of raised exceptions (P0) and of
    /// foreign systems (HV) quote values.
    fn message_is_safe(&self) -> bool {
        !["22", "P0", "HV", "XX"].iter().any(|class| self.code.starts_with(class))
    }

    pub fn into_error(self, doing: &'static str) -> Error {
        let (kind, message, fix) = self.remedy();
        let mut error = Error::new(kind, message).with("doing", doing).with("sqlstate", &self.code);
        if let Some(fix) = fix {
            error = error.fix(fix);
        }
        if matches!(self.code.as_str(), "40001" | "40P01" | "55P03") {
            error = error.retry(Retry::Backoff);
        }
        let places = [("schema", &self.schema), ("table", &self.table), ("column", &self.column), ("constraint", &self.constraint)];
        for (key, value) in places {
            if let Some(value) = value {
                error = error.with(key, value);
            }
        }
        error.because(ServerSaid { text: if self.message_is_safe() { self.message } else { format!("SQLSTATE {}", self.code) } })
    }

    fn remedy(&self) -> (ErrorKind, &'static str, Option<&'static str>) {
        use ErrorKind::*;
        if let Some(remedy) = self.login_remedy() {
            return remedy;
        }
        match self.code.as_str() {
            "3D000" => (NotFound, "the database does not exist", Some("check the database's name in the URL or in `database`")),
            "42P01" | "42704" => {
                (NotFound, "the table or object does not exist", Some("run discover to see what there is; names keep their case"))
            }
            "3F000" => (NotFound, "the schema does not exist", Some("create the schema or name another one")),
            "42703" => (NotFound, "the column does not exist", Some("run discover to see the columns; names keep their case")),
            "42501" => (
                PermissionDenied,
                "the login lacks a right",
                Some("GRANT the right to the login: SELECT to read; CREATE on the schema and INSERT to write"),
            ),
            "25006" => (PermissionDenied, "the server is read-only here", Some("write to the primary, not to a standby")),
            "53100" => (
                StorageFull,
                "the server's disk is full",
                Some("free space on the server; run the same command again afterwards, nothing is lost"),
            ),
            "53200" | "54000" => {
                (StorageFull, "the server ran out of memory or hit a limit", Some("raise the server's limit or send less at once"))
            }
            "53300" | "53400" => {
                (Unavailable, "the server has no connection left", Some("raise max_connections, use fewer lanes, or wait"))
            }
            "57P03" | "57P01" | "57P02" | "57P05" => (
                Unavailable,
                "the server is starting, stopping or ended the session",
                Some("wait until the server is up; run the same command again, nothing is lost"),
            ),
            "57014" => (Unavailable, "somebody cancelled the query on the server", Some("run the same command again, nothing is lost")),
            "40001" | "40P01" | "55P03" => (Conflict, "another transaction was in the way", Some("run the same command again")),
            "23505" => (DataInvalid, "two rows have the same key", Some("choose a key that is unique, or merge instead of append")),
            "23502" => (DataInvalid, "a column that must not be null got a null", Some("allow nulls in the column or choose another key")),
            "22P02" | "22P03" | "22003" | "22007" | "22008" | "22001" => (
                DataInvalid,
                "a value does not fit its column",
                Some("compare the column's type with the data; a wider type or text holds it"),
            ),
            "22021" | "22P05" => (
                DataInvalid,
                "a text holds bytes that the server's encoding lacks",
                Some("PostgreSQL text cannot hold a NUL; use an UTF8 database"),
            ),
            "42P07" | "42P06" | "42710" => {
                (AlreadyExists, "an object of that name is already there", Some("choose another target or remove what is in the way"))
            }
            "42601" => (ConfigInvalid, "the SQL is not understood", Some("check the `query` of the config")),
            "0A000" => (Unsupported, "the server does not support this", Some("see the cause; a newer server or another mode may help")),
            "58P01" | "58030" => (Unavailable, "the server cannot read its own files", Some("look at the server's log")),
            code if code.starts_with("08") => {
                (Unavailable, "the connection to the server broke", Some("run the same command again, nothing is lost"))
            }
            code if code.starts_with("22") => (DataInvalid, "a value does not fit", Some("compare the column's type with the data")),
            code if code.starts_with("23") => {
                (DataInvalid, "a row breaks a constraint of the table", Some("look at the constraint named here"))
            }
            code if code.starts_with("42") => (
                ConfigInvalid,
                "the statement does not fit the database",
                Some("see the cause: a name or a type is not what the config says"),
            ),
            code if code.starts_with("53") => (Unavailable, "the server is out of resources", Some("look at the server's log")),
            _ => (Internal, "the server answered with an error", None),
        }
    }

    /// Errors of the login, where the same code has several causes.
    fn login_remedy(&self) -> Option<(ErrorKind, &'static str, Option<&'static str>)> {
        let plain = self.message.contains("no encryption") || self.message.contains("SSL off");
        match self.code.as_str() {
            "28P01" => Some((
                ErrorKind::AuthFailed,
                "the server rejected the password",
                Some("check user and password; save the connector's credentials again"),
            )),
            "28000" if self.message.contains("pg_hba.conf") && plain => {
                Some((ErrorKind::AuthFailed, "the server refuses a login without TLS", Some("use sslmode=require (or verify-full)")))
            }
            "28000" if self.message.contains("pg_hba.conf") => Some((
                ErrorKind::AuthFailed,
                "the server allows no login of this user from here",
                Some("add a line to the server's pg_hba.conf, or try another sslmode"),
            )),
            "28000" => Some((ErrorKind::AuthFailed, "the server rejected the login", Some("check that the role exists and may log in"))),
            _ => None,
        }
    }
}

/// A cause without values.
#[derive(Debug)]
struct ServerSaid {
    text: String,
}
impl fmt::Display for ServerSaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl std::error::Error for ServerSaid {}

/// Maps a driver's error; `doing` says what was tried, in a few words.
pub(super) fn of_driver(e: tokio_postgres::Error, doing: &'static str) -> Error {
    if let Some(said) = e.as_db_error() {
        return Said::of(said).into_error(doing);
    }
    if e.is_closed() {
        return broken(doing);
    }
    let text = e.to_string();
    if text.contains("password missing") || text.contains("invalid configuration") {
        return Error::new(ErrorKind::AuthFailed, "the server asks for a password")
            .with("doing", doing)
            .fix("add the password to the config or the URL; with a URL on the command line, PGPASSWORD is read too");
    }
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&e);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return of_io(io, doing);
        }
        cause = inner.source();
    }
    if text.contains("authentication") {
        return Error::new(ErrorKind::AuthFailed, "the login failed").with("doing", doing).fix("check user and password").because(e);
    }
    Error::new(ErrorKind::Internal, "the PostgreSQL driver failed").with("doing", doing).because(e)
}

/// A broken socket in the middle of things.
pub(super) fn of_io(e: &std::io::Error, doing: &'static str) -> Error {
    broken(doing).because(std::io::Error::new(e.kind(), e.to_string()))
}

fn broken(doing: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the server broke")
        .with("doing", doing)
        .fix("check that the server is up; run the same command again, nothing is lost")
}

/// `?` for the driver's results.
pub(super) trait PgResult<T> {
    fn pg(self, doing: &'static str) -> Result<T>;
}
impl<T> PgResult<T> for std::result::Result<T, tokio_postgres::Error> {
    fn pg(self, doing: &'static str) -> Result<T> {
        self.map_err(|e| of_driver(e, doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str) -> Error {
        Said { code: code.into(), message: message.into(), ..Said::default() }.into_error("reading")
    }

    #[test]
    fn a_code_becomes_a_remedy() {
        for (code, kind) in [
            ("28P01", ErrorKind::AuthFailed),
            ("3D000", ErrorKind::NotFound),
            ("42P01", ErrorKind::NotFound),
            ("42501", ErrorKind::PermissionDenied),
            ("53100", ErrorKind::StorageFull),
            ("57P01", ErrorKind::Unavailable),
            ("08006", ErrorKind::Unavailable),
            ("40P01", ErrorKind::Conflict),
            ("42703", ErrorKind::NotFound),
        ] {
            let e = said(code, "x");
            assert_eq!(e.kind(), kind, "{code}");
            assert!(e.suggested_fix().is_some(), "{code}");
        }
        assert_eq!(said("40001", "x").retry_hint(), Retry::Backoff);
        let tls = said("28000", "no pg_hba.conf entry for host \"1.2.3.4\", user \"u\", database \"d\", no encryption");
        assert_eq!(tls.suggested_fix(), Some("use sslmode=require (or verify-full)"));
    }

    #[test]
    fn no_row_value_is_in_an_error() {
        let e = said("22P02", "invalid input syntax for type integer: \"canary\"");
        assert!(!format!("{e:?} {}", e.to_json()).contains("canary"));
        let e = said("P0001", "canary raised by a trigger");
        assert!(!format!("{e:?} {}", e.to_json()).contains("canary"));
    }
}
