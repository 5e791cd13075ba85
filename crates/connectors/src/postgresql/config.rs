//! What a user writes to name a PostgreSQL server, and the one parsed form of it that the rest of the folder trusts.

use std::{path::PathBuf, time::Duration};

use linkspan_core::{Error, ErrorKind, Result, Secret, SecretUrl, Swap};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    dsn::{Dsn, invalid, named_once, port_of, some, timeout_of, unknown_parameter},
    pool::{Limits, max_overflow, pool_recycle, pool_size},
    tls::{self, SslMode},
};

/// How to reach a PostgreSQL server and what to read from it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The server as a URL: `postgres://user:password@host:5432/database?sslmode=require`. Instead of host, port, database, username and password.
    #[serde(default, alias = "dsn", alias = "connection", alias = "connection_string")]
    pub url: Option<SecretUrl>,
    /// The server's name or address, or the folder of its Unix socket (a path that starts with `/`).
    #[serde(default)]
    pub host: Option<String>,
    /// The server's port; 5432 when left out.
    #[serde(default)]
    pub port: Option<u16>,
    /// The database; the user's name when left out, as in libpq.
    #[serde(default, alias = "dbname")]
    pub database: Option<String>,
    /// The role to log in as.
    #[serde(default, alias = "user")]
    pub username: Option<String>,
    /// That role's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// How TLS is used, as in libpq: `disable`, `allow`, `prefer` (the default), `require`, `verify-ca` or `verify-full`.
    #[serde(default, alias = "ssl.mode")]
    pub sslmode: Option<SslMode>,
    /// A PEM file with the certificates to trust; the machine's own when left out. With it, every mode that uses TLS checks the chain.
    #[serde(default, alias = "ssl.rootcert")]
    pub sslrootcert: Option<String>,
    /// The schemas whose tables are shown. Empty: the schemas in which the login owns a table, else `public`.
    #[serde(default, alias = "output_schemas")]
    pub schemas: Vec<String>,
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
    /// How a replace becomes visible here: `rename` (a new table takes the name) or `rewrite` (views and grants stay). The connection's own setting when left out.
    #[serde(default)]
    pub swap: Option<Swap>,
}

fn late_window() -> u32 {
    60
}
fn connect_timeout() -> u32 {
    10
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
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub sslmode: SslMode,
    pub sslrootcert: Option<PathBuf>,
    pub application_name: String,
    pub options: Option<String>,
    pub connect_timeout: Duration,
    pub limits: Limits,
}

impl Endpoint {
    /// What is asked of TLS; on a Unix socket nothing is.
    pub fn tls(&self) -> tls::Wanted<'_> {
        let host = match &self.host {
            Host::Tcp(host, _) => host,
            Host::Unix(_) => "",
        };
        tls::Wanted { host, sslmode: self.sslmode, sslrootcert: self.sslrootcert.as_deref() }
    }
}

impl PostgresConfig {
    /// Checks the config without touching the network.
    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        let timeout = Duration::from_secs(u64::from(self.connect_timeout_seconds.max(1)));
        let parts = match &self.url {
            Some(url) => {
                let given = [
                    ("host", self.host.is_some()),
                    ("port", self.port.is_some()),
                    ("database", self.database.is_some()),
                    ("username", self.username.is_some()),
                    ("password", self.password.is_some()),
                ];
                named_once(&given)?;
                Parts::of_url(url.expose())?
            }
            None => self.fields(),
        };
        parts.endpoint(self, timeout)
    }

    /// A query is connected to only while it is pulled.
    fn limits(&self) -> Result<Limits> {
        let limits = Limits::of(self.pool_size, self.max_overflow, self.pool_recycle)?;
        Ok(if self.query.is_some() { limits.keeping_none() } else { limits })
    }

    fn fields(&self) -> Parts {
        Parts {
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            user: self.username.clone(),
            password: self.password.clone(),
            ..Parts::default()
        }
    }

    /// The stream name of `query`.
    pub(super) fn query_stream(&self) -> &str {
        self.query_name.as_deref().unwrap_or("query")
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
    application_name: Option<String>,
    options: Option<String>,
    connect_timeout: Option<Duration>,
}

/// URL parameters that libpq knows and that change nothing here, so that a vendor's URL works as it is pasted.
const NEUTRAL: [&str; 9] = [
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "fallback_application_name",
    "sslsni",
    "sslnegotiation",
];
const KNOWN: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "application_name",
    "connect_timeout",
    "options",
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "channel_binding",
];

impl Parts {
    fn of_url(url: &str) -> Result<Self> {
        let Some(dsn) = Dsn::parse(url, &["postgres://", "postgresql://"])? else {
            return Err(invalid("not a PostgreSQL URL").fix("write postgres://user:password@host:5432/database"));
        };
        let Dsn { user, password, host, port, database, parameters } = dsn;
        let mut parts = Self { host, port, database, user, password, ..Self::default() };
        parameters.into_iter().try_for_each(|(key, value)| parts.parameter(&key, value))?;
        Ok(parts)
    }

    fn parameter(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "sslmode" => self.sslmode = Some(SslMode::parse(&value)?),
            "sslrootcert" => self.sslrootcert = some(value),
            "application_name" => self.application_name = some(value),
            "options" => self.options = some(value),
            "host" => self.host = some(value),
            "port" => self.port = Some(port_of(&value)?),
            "user" => self.user = some(value),
            "dbname" => self.database = some(value),
            "password" => self.password = Some(Secret::new(value)),
            "connect_timeout" => self.connect_timeout = timeout_of(&value)?,
            "channel_binding" if value == "require" => {
                return Err(Error::new(ErrorKind::Unsupported, "channel_binding=require is not supported")
                    .fix("remove it and use sslmode=verify-full, which proves the server's identity by its certificate"));
            }
            "channel_binding" => {}
            key if NEUTRAL.contains(&key) => {}
            key => return Err(unknown_parameter(key, &KNOWN)),
        }
        Ok(())
    }

    fn endpoint(self, config: &PostgresConfig, timeout: Duration) -> Result<Endpoint> {
        let port = self.port.unwrap_or(5432);
        let host = match self.host {
            Some(dir) if dir.starts_with('/') => Host::Unix(PathBuf::from(dir).join(format!(".s.PGSQL.{port}"))),
            Some(host) => Host::Tcp(host, port),
            None if config.url.is_some() => Host::Tcp("localhost".to_owned(), port),
            None => return Err(invalid("the config names no server").with("field", "host").fix("set `url`, or `host` and its neighbours")),
        };
        let user = self.user.ok_or_else(|| {
            invalid("the config names no user")
                .with("field", "username")
                .fix("add the role to log in as: `username`, or postgres://user@host/db")
        })?;
        Ok(Endpoint {
            host,
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            password: self.password,
            sslmode: config.sslmode.or(self.sslmode).unwrap_or_default(),
            sslrootcert: config.sslrootcert.clone().or(self.sslrootcert).map(PathBuf::from),
            application_name: self.application_name.unwrap_or_else(|| "linkspan".to_owned()),
            options: self.options,
            connect_timeout: self.connect_timeout.unwrap_or(timeout),
            limits: config.limits()?,
        })
    }
}

/// The URL shorthand: the whole text is the `url` field. It is parsed here, so that a wrong one is refused at once.
/// A person who keeps the password out of the command line gives it as libpq's tools take it: in `PGPASSWORD`.
pub(super) fn of_url(url: &str) -> Result<Value> {
    with_password(url, std::env::var("PGPASSWORD").ok())
}

fn with_password(url: &str, ambient: Option<String>) -> Result<Value> {
    let named = Parts::of_url(url)?.password.is_some();
    let url = match ambient.filter(|p| !named && !p.is_empty()) {
        Some(password) => {
            let joint = if url.contains('?') { '&' } else { '?' };
            format!("{url}{joint}password={}", utf8_percent_encode(&password, NON_ALPHANUMERIC))
        }
        None => url.to_owned(),
    };
    Ok(json!({ "url": url }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(config: Value) -> Result<Endpoint> {
        serde_json::from_value::<PostgresConfig>(config).expect("the shape is right").endpoint()
    }

    #[test]
    fn a_url_without_a_password_takes_the_environments() {
        let with = |url: &str| endpoint(with_password(url, Some("p&w=%".into())).unwrap()).unwrap().password;
        for url in ["postgres://u@h/db", "postgres://u@h/db?sslmode=require"] {
            assert_eq!(with(url).unwrap().expose(), "p&w=%");
        }
        assert_eq!(with("postgres://u:own@h/db").unwrap().expose(), "own");
        assert_eq!(with("postgres://u@h/db?password=own").unwrap().expose(), "own");
        assert!(endpoint(with_password("postgres://u@h/db", None).unwrap()).unwrap().password.is_none());
    }

    #[test]
    fn a_url_names_everything() {
        let e = endpoint(json!({"url": "postgres://us%40er:p%2Fw@db.example:6432/my%20db?sslmode=verify-full&sslrootcert=%2Fca.pem&connect_timeout=3&options=-c%20x%3D1"})).unwrap();
        assert_eq!(e.host, Host::Tcp("db.example".into(), 6432));
        assert_eq!((e.user.as_str(), e.database.as_str(), e.password.unwrap().expose()), ("us@er", "my db", "p/w"));
        assert_eq!((e.sslmode, e.connect_timeout), (SslMode::VerifyFull, Duration::from_secs(3)));
        assert_eq!((e.sslrootcert, e.options.as_deref()), (Some("/ca.pem".into()), Some("-c x=1")));
    }

    #[test]
    fn a_url_may_leave_things_out() {
        let e = endpoint(json!({"dsn": "postgresql://me@h"})).unwrap();
        assert_eq!((e.host, e.database.as_str(), e.sslmode), (Host::Tcp("h".into(), 5432), "me", SslMode::Prefer));
        let e = endpoint(json!({"url": "postgres://me@[::1]:6000/d"})).unwrap();
        assert_eq!(e.host, Host::Tcp("::1".into(), 6000));
        let e = endpoint(json!({"url": "postgres://me@/d?host=/var/run/postgresql&port=5433"})).unwrap();
        assert_eq!(e.host, Host::Unix("/var/run/postgresql/.s.PGSQL.5433".into()));
    }

    #[test]
    fn a_pasted_password_with_an_at_or_a_slash_still_works() {
        let e = endpoint(json!({"url": "postgres://u:a/b@c@h/db"})).unwrap();
        assert_eq!((e.host, e.password.unwrap().expose(), e.database.as_str()), (Host::Tcp("h".into(), 5432), "a/b@c", "db"));
    }

    #[test]
    fn both_forms_at_once_are_refused_and_wrong_words_are_named() {
        let twice = endpoint(json!({"url": "postgres://u@h/d", "host": "x"})).unwrap_err();
        assert_eq!((twice.kind(), twice.suggested_fix()), (ErrorKind::ConfigInvalid, Some("remove `url` or remove `host`")));
        let typo = endpoint(json!({"url": "postgres://u@h/d?ssl_mode=require"})).unwrap_err();
        assert_eq!(typo.suggested_fix(), Some("did you mean \"sslmode\"?"));
        assert_eq!(endpoint(json!({"url": "mysql://u@h/d"})).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        assert_eq!(endpoint(json!({"host": "h"})).unwrap_err().context()[0].1, "username");
        assert_eq!(endpoint(json!({"url": "postgres://u@h/d", "sslmode": "disable"})).unwrap().sslmode, SslMode::Disable);
    }
}
