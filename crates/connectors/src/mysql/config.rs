//! What a user writes to name a MySQL or MariaDB server, and the one parsed form of it that the rest of the folder trusts.

use std::{path::PathBuf, time::Duration};

use linkspan_core::{Result, Secret, SecretUrl};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::types::{Choices, OddDates};
use crate::{
    dsn::{Dsn, invalid, named_once, some, timeout_of, unknown_parameter},
    pool::{Limits, max_overflow, pool_recycle, pool_size},
    tls::{self, SslMode},
};

/// How to reach a MySQL or MariaDB server and what to read from it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MysqlConfig {
    /// The server as a URL: `mysql://user:password@host:3306/database?sslmode=require`. Instead of host, port, database, user and password.
    #[serde(default, alias = "dsn", alias = "connection", alias = "connection_string")]
    pub url: Option<SecretUrl>,
    /// The server's name or address, or its Unix socket (a path that starts with `/`).
    #[serde(default)]
    pub host: Option<String>,
    /// The server's port; 3306 when left out.
    #[serde(default)]
    pub port: Option<u16>,
    /// The user to log in as.
    #[serde(default, alias = "username")]
    pub user: Option<String>,
    /// That user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The database; its tables are what is read unless `databases` says more.
    #[serde(default, alias = "dbname")]
    pub database: Option<String>,
    /// How TLS is used: `disable`, `allow`, `prefer` (the default), `require`, `verify-ca` or `verify-full`.
    #[serde(default)]
    pub sslmode: Option<SslMode>,
    /// A PEM file with the certificates to trust; the machine's own when left out. With it, every mode that uses TLS checks the chain.
    #[serde(default)]
    pub sslrootcert: Option<String>,
    /// A PEM file with the server's RSA key (`SHOW STATUS LIKE '%rsa_public_key'`): with it a sha2 login needs no TLS.
    #[serde(default)]
    pub server_public_key: Option<String>,
    /// The databases whose tables are shown. Empty: `database`, else all that the login can read.
    #[serde(default)]
    pub databases: Vec<String>,
    /// A SELECT to read as one stream. `:last_pull` in it is bound to the start of the last successful read.
    #[serde(default)]
    pub query: Option<String>,
    /// The name of the stream that `query` makes; `query` when left out.
    #[serde(default)]
    pub query_name: Option<String>,
    /// How many parts of one big table are read at once; chosen by the table's size when left out.
    #[serde(default)]
    pub slices: Option<u16>,
    /// How far an incremental read looks back behind its cursor for transactions that committed late, in seconds.
    #[serde(default = "late_window")]
    pub late_window_seconds: u32,
    /// What becomes of dates that no calendar has (`0000-00-00`) and of times outside of one day: `null` (recorded as a change), `text` (all dates and times travel as text) or `fail`.
    #[serde(default)]
    pub odd_dates: OddDates,
    /// Whether `tinyint(1)` is read as a boolean; other values than 0 and 1 then become null and are recorded.
    #[serde(default)]
    pub tinyint1_as_boolean: bool,
    /// How long connecting may take, from the first packet to the end of the login, in seconds.
    #[serde(default = "connect_timeout")]
    pub connect_timeout_seconds: u32,
    /// How many idle connections are kept for the next use, 1 to 1000; none with a `query`.
    #[serde(default = "pool_size")]
    #[schemars(range(min = 1, max = 1000))]
    pub pool_size: i64,
    /// How many connections there may be beyond `pool_size`, 0 to 1000: no more than both together are open at once.
    #[serde(default = "max_overflow")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_overflow: i64,
    /// The age in seconds from which a connection is replaced when it would be used next; -1 means never.
    #[serde(default = "pool_recycle")]
    #[schemars(range(min = -1, max = 31_536_000))]
    pub pool_recycle: i64,
}

fn connect_timeout() -> u32 {
    10
}
fn late_window() -> u32 {
    60
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// A parsed config: all that is needed to connect.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub host: Host,
    pub database: Option<String>,
    pub user: String,
    pub password: Option<Secret>,
    pub sslmode: SslMode,
    pub sslrootcert: Option<PathBuf>,
    pub server_public_key: Option<PathBuf>,
    pub connect_timeout: Duration,
    pub limits: Limits,
}

impl Endpoint {
    /// The server as a person would name it: no user, no secret.
    pub fn address(&self) -> String {
        match &self.host {
            Host::Tcp(host, port) => format!("{host}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        }
    }

    /// What is asked of TLS; on a Unix socket nothing is.
    pub fn tls(&self) -> Option<tls::Wanted<'_>> {
        match &self.host {
            Host::Tcp(host, _) => Some(tls::Wanted { host, sslmode: self.sslmode, sslrootcert: self.sslrootcert.as_deref() }),
            Host::Unix(_) => None,
        }
    }
}

impl MysqlConfig {
    /// Checks the config without touching the network.
    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        let Some(url) = &self.url else {
            let parts = Parts {
                host: self.host.clone(),
                port: self.port,
                database: self.database.clone(),
                user: self.user.clone(),
                password: self.password.clone(),
                ..Parts::default()
            };
            return parts.endpoint(self);
        };
        let given = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("database", self.database.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
        ];
        named_once(&given)?;
        Parts::of_url(url.expose())?.endpoint(self)
    }

    /// A query is connected to only while it is pulled.
    fn limits(&self) -> Result<Limits> {
        let limits = Limits::of(self.pool_size, self.max_overflow, self.pool_recycle)?;
        Ok(if self.query.is_some() { limits.keeping_none() } else { limits })
    }

    /// The stream name of `query`.
    pub(super) fn query_stream(&self) -> &str {
        self.query_name.as_deref().unwrap_or("query")
    }

    pub(super) fn choices(&self) -> Choices {
        Choices { odd_dates: self.odd_dates, tinyint1_as_boolean: self.tinyint1_as_boolean }
    }
}

/// The pieces of a URL, or of the separate fields, before defaults.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    sslmode: Option<SslMode>,
    sslrootcert: Option<String>,
    connect_timeout: Option<Duration>,
}

const KNOWN: [&str; 6] = ["sslmode", "ssl-mode", "sslrootcert", "ssl-ca", "connect_timeout", "socket"];

impl Parts {
    fn of_url(url: &str) -> Result<Self> {
        let Some(dsn) = Dsn::parse(url, &["mysql://", "mariadb://"])? else {
            return Err(invalid("not a MySQL URL").fix("write mysql://user:password@host:3306/database"));
        };
        let Dsn { user, password, host, port, database, parameters } = dsn;
        let mut parts = Self { host, port, database, user, password, ..Self::default() };
        parameters.into_iter().try_for_each(|(key, value)| parts.parameter(&key, value))?;
        Ok(parts)
    }

    fn parameter(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "sslmode" => self.sslmode = Some(SslMode::parse(&value)?),
            "ssl-mode" => self.sslmode = Some(vendors_mode(&value)?),
            "sslrootcert" | "ssl-ca" => self.sslrootcert = some(value),
            "socket" => self.host = some(value),
            "connect_timeout" => self.connect_timeout = timeout_of(&value)?,
            key => return Err(unknown_parameter(key, &KNOWN)),
        }
        Ok(())
    }

    fn endpoint(self, config: &MysqlConfig) -> Result<Endpoint> {
        let port = self.port.unwrap_or(3306);
        let host = match self.host {
            Some(path) if path.starts_with('/') => Host::Unix(path.into()),
            Some(host) => Host::Tcp(host, port),
            None if config.url.is_some() => Host::Tcp("localhost".to_owned(), port),
            None => return Err(invalid("the config names no server").with("field", "host").fix("set `url`, or `host` and its neighbours")),
        };
        let user = self.user.ok_or_else(|| {
            invalid("the config names no user")
                .with("field", "user")
                .fix("add the user to log in as: `user`, or mysql://user@host/database")
        })?;
        let within = Duration::from_secs(u64::from(config.connect_timeout_seconds.max(1)));
        let endpoint = Endpoint {
            host,
            database: self.database,
            user,
            password: self.password,
            sslmode: config.sslmode.or(self.sslmode).unwrap_or_default(),
            sslrootcert: config.sslrootcert.clone().or(self.sslrootcert).map(PathBuf::from),
            server_public_key: config.server_public_key.as_ref().map(PathBuf::from),
            connect_timeout: self.connect_timeout.unwrap_or(within),
            limits: config.limits()?,
        };
        endpoint.without_nul()
    }
}

impl Endpoint {
    /// The protocol ends names at a NUL: one inside would cut the name short.
    fn without_nul(self) -> Result<Self> {
        let has = |text: &str| text.contains('\0');
        let password = self.password.as_ref().is_some_and(|p| has(p.expose()));
        if has(&self.user) || password || self.database.as_deref().is_some_and(has) {
            return Err(invalid("user, password or database holds a NUL").fix("remove it; in a URL it is written %00"));
        }
        Ok(self)
    }
}

/// The modes in the words of the vendor's own clients.
fn vendors_mode(text: &str) -> Result<SslMode> {
    let mode = match text.to_ascii_uppercase().as_str() {
        "DISABLED" => SslMode::Disable,
        "PREFERRED" => SslMode::Prefer,
        "REQUIRED" => SslMode::Require,
        "VERIFY_CA" => SslMode::VerifyCa,
        "VERIFY_IDENTITY" => SslMode::VerifyFull,
        _ => {
            return Err(invalid("not an ssl-mode")
                .with("ssl-mode", text)
                .fix("use DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"));
        }
    };
    Ok(mode)
}

/// The URL shorthand: the whole text is the `url` field. It is parsed here, so that a wrong one is refused at once.
pub(super) fn of_url(url: &str) -> Result<Value> {
    Parts::of_url(url)?;
    Ok(json!({ "url": url }))
}

#[cfg(test)]
mod tests {
    use linkspan_core::ErrorKind;

    use super::*;

    fn endpoint(config: Value) -> Result<Endpoint> {
        serde_json::from_value::<MysqlConfig>(config).expect("the shape is right").endpoint()
    }

    #[test]
    fn the_fields_that_the_documents_print_name_a_server() {
        let e = endpoint(json!({"host": "h", "port": 3306, "user": "u", "password": "p", "database": "d"})).unwrap();
        assert_eq!((e.host, e.user.as_str(), e.database.as_deref()), (Host::Tcp("h".into(), 3306), "u", Some("d")));
        assert_eq!((e.password.unwrap().expose(), e.sslmode), ("p", SslMode::Prefer));
    }

    #[test]
    fn a_url_names_everything() {
        let url = "mysql://us%40er:p%2Fw@db.example:3307/my%20db?ssl-mode=VERIFY_IDENTITY&ssl-ca=%2Fca.pem&connect_timeout=3";
        let e = endpoint(json!({ "url": url })).unwrap();
        assert_eq!((e.host, e.user.as_str()), (Host::Tcp("db.example".into(), 3307), "us@er"));
        assert_eq!((e.database.as_deref(), e.password.unwrap().expose()), (Some("my db"), "p/w"));
        assert_eq!((e.sslmode, e.sslrootcert), (SslMode::VerifyFull, Some("/ca.pem".into())));
        assert_eq!(e.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn a_url_may_leave_things_out_and_name_a_socket() {
        let e = endpoint(json!({"dsn": "mariadb://me@h"})).unwrap();
        assert_eq!((e.host, e.database), (Host::Tcp("h".into(), 3306), None));
        assert_eq!(endpoint(json!({"url": "mysql://me@[::1]:6000/d"})).unwrap().host, Host::Tcp("::1".into(), 6000));
        assert_eq!(endpoint(json!({"url": "mysql://me@/d?socket=/run/m.sock"})).unwrap().host, Host::Unix("/run/m.sock".into()));
    }

    #[test]
    fn a_pasted_password_with_an_at_or_a_slash_still_works() {
        let e = endpoint(json!({"url": "mysql://u:a/b@c@h/db"})).unwrap();
        assert_eq!((e.host, e.password.unwrap().expose()), (Host::Tcp("h".into(), 3306), "a/b@c"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let twice = endpoint(json!({"url": "mysql://u@h/d", "host": "x"})).unwrap_err();
        assert_eq!((twice.kind(), twice.suggested_fix()), (ErrorKind::ConfigInvalid, Some("remove `url` or remove `host`")));
        let typo = endpoint(json!({"url": "mysql://u@h/d?ssl_mode=require"})).unwrap_err();
        assert!(typo.suggested_fix().unwrap().contains("did you mean"), "{typo:?}");
        assert_eq!(endpoint(json!({"host": "h"})).unwrap_err().context()[0].1, "user");
        for bad in [
            "postgres://u@h/d",
            "mysql://u@h:99999/d",
            "mysql://u@a,b/d",
            "mysql://a%00b@h/d",
            "mysql://u@h/?sslmode=on",
            "mysql://u@h/?ssl-mode=on",
        ] {
            let e = endpoint(json!({ "url": bad })).unwrap_err();
            assert!(e.suggested_fix().is_some() && matches!(e.kind(), ErrorKind::ConfigInvalid | ErrorKind::Unsupported), "{bad}: {e:?}");
        }
    }
}
