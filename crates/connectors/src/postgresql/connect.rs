//! From a config to a session: the socket through the house's network, TLS by libpq's rules, the login, and the settings
//! that make the server's answers the same everywhere. A session that is dropped in the middle is cancelled on the server.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use linkspan_core::{BoxDuplex, Context, Ends, Error, ErrorKind, PoolState, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};
use tokio_postgres::{CancelToken, NoTls, SimpleQueryMessage};

use super::{
    config::{Endpoint, Host},
    errors::{PgResult, of_io},
    sessions::{DESTINATION, Kind, LINGER, Lease, Lingering, PROBE, RESET, SOURCE},
};
use crate::{
    pool::{Idle, Pool, Session, Share},
    tls::{self, SslMode},
};

/// What every session of ours says first: values look the same whatever the server's defaults are, and no limit ends a long read.
pub(super) const SESSION: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; \
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmloption = 'content'; SET standard_conforming_strings = on; \
    SET client_min_messages = 'warning'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
        WHERE name IN ('transaction_timeout', 'idle_session_timeout') AND setting <> '0'";

/// A server as one config names it: how to reach it and to log in. Shared by all sessions of a connector.
pub(super) struct Dialer {
    pub endpoint: Endpoint,
    pub ctx: Context,
}

/// How one attempt treats TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    Plain,
    TlsIfOffered,
    Tls,
}

impl SslMode {
    /// The attempts of a mode, in libpq's order.
    fn attempts(self) -> &'static [Wrap] {
        match self {
            Self::Disable => &[Wrap::Plain],
            Self::Allow => &[Wrap::Plain, Wrap::Tls],
            Self::Prefer => &[Wrap::TlsIfOffered, Wrap::Plain],
            Self::Require | Self::VerifyCa | Self::VerifyFull => &[Wrap::Tls],
        }
    }
}

impl Dialer {
    /// The server as a person would name it: no user, no secret.
    pub fn address(&self) -> String {
        match &self.endpoint.host {
            Host::Tcp(host, port) => format!("{host}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        }
    }

    /// A new session, logged in and set up. `Timeout` when the whole of it takes longer than `connect_timeout`.
    async fn connect(self: &Arc<Self>) -> Result<Client> {
        let dialer = self.clone();
        self.attempt(move |wrap| {
            let dialer = dialer.clone();
            async move { dialer.login(wrap).await }
        })
        .await
    }

    /// Runs the mode's attempts in order, all of them within the connect timeout. A later attempt is made only when an earlier
    /// one failed for its TLS; when all fail, the first answer is the one to tell.
    pub async fn attempt<T, F>(&self, login: impl Fn(Wrap) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let within = self.endpoint.connect_timeout;
        let all = async {
            let mut first: Option<Error> = None;
            for wrap in self.attempts() {
                match login(*wrap).await {
                    Ok(session) => return Ok(session),
                    Err(e) => {
                        let again = another_wrap_may_help(&e);
                        let e = first.take().unwrap_or(e);
                        if !again {
                            return Err(e);
                        }
                        first = Some(e);
                    }
                }
            }
            Err(first.unwrap_or_else(|| Error::new(ErrorKind::Internal, "no way to connect was tried")))
        };
        let done = tokio::time::timeout(within, all).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("the server did not answer within {} s", within.as_secs()))
                .fix("check host, port and firewall: something accepts the connection and stays silent; or raise connect_timeout_seconds"))
        });
        done.map_err(|e| e.with("server", self.address()))
    }

    fn attempts(&self) -> &'static [Wrap] {
        match self.endpoint.host {
            // As in libpq, sslmode means nothing on a Unix socket.
            Host::Unix(_) => &[Wrap::Plain],
            Host::Tcp(..) => self.endpoint.sslmode.attempts(),
        }
    }

    /// A channel on which the PostgreSQL protocol can begin, TLS included.
    pub async fn dial(&self, wrap: Wrap) -> Result<BoxDuplex> {
        let within = self.endpoint.connect_timeout;
        let mut channel = match &self.endpoint.host {
            Host::Tcp(host, port) => self.ctx.net.tcp(host, *port, within).await?,
            Host::Unix(path) => self.ctx.net.unix(path, within).await?,
        };
        if wrap == Wrap::Plain {
            return Ok(channel);
        }
        let mut request = bytes::BytesMut::new();
        postgres_protocol::message::frontend::ssl_request(&mut request);
        channel.write_all(&request).await.map_err(|e| of_io(&e, "asking for TLS"))?;
        match channel.read_u8().await.map_err(|e| of_io(&e, "asking for TLS"))? {
            b'S' => tls::wrap(channel, self.endpoint.tls()).await,
            b'N' if wrap == Wrap::TlsIfOffered => Ok(channel),
            b'N' => Err(tls::not_offered()),
            _ => Err(Error::new(ErrorKind::Unavailable, "what answers there is not a PostgreSQL server").fix("check host and port")),
        }
    }

    async fn login(self: &Arc<Self>, wrap: Wrap) -> Result<Client> {
        let channel = self.dial(wrap).await?;
        let (client, connection) = self.driver_config().connect_raw(Lingering::new(channel), NoTls).await.pg("logging in")?;
        let task = Task(tokio::spawn(async move {
            // An error ends the session; whoever waits for an answer is told by the driver.
            connection.await.ok();
        }));
        let answers = client.simple_query(&format!("{SESSION}; SHOW server_version_num")).await.pg("setting up the session")?;
        let version = answers.iter().rev().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0).and_then(|v| v.parse().ok()),
            _ => None,
        });
        let canceller = Canceller { token: client.cancel_token(), dialer: self.clone(), wrap, used: Arc::default() };
        Ok(Client { driver: client, canceller, version: version.unwrap_or(0), task, lease: None })
    }

    fn driver_config(&self) -> tokio_postgres::Config {
        let e = &self.endpoint;
        let mut config = tokio_postgres::Config::new();
        // TLS is already under the channel: the driver must not ask for it again.
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        config.user(&e.user).dbname(&e.database).application_name(&e.application_name);
        if let Some(password) = &e.password {
            config.password(password.expose());
        }
        if let Some(options) = &e.options {
            config.options(options);
        }
        config
    }
}

fn another_wrap_may_help(e: &Error) -> bool {
    let has = |key: &str, value: &str| e.context().iter().any(|(k, v)| *k == key && v == value);
    has("tls", "handshake") || has("sqlstate", "28000")
}

/// A server and the sessions that one connector has there.
pub(super) struct Server {
    pub dialer: Arc<Dialer>,
    pool: Pool<Idle<Kind>>,
    /// What is set aside for the run that this is lent to.
    share: Option<Share>,
}

impl Deref for Server {
    type Target = Dialer;
    fn deref(&self) -> &Dialer {
        &self.dialer
    }
}

impl Server {
    pub fn new(endpoint: Endpoint, ctx: Context) -> Arc<Self> {
        let pool = Pool::new(endpoint.limits);
        Arc::new(Self { dialer: Arc::new(Dialer { endpoint, ctx }), pool, share: None })
    }

    /// The right to one more session.
    pub async fn lease(&self) -> Result<Lease> {
        let lease = match &self.share {
            Some(share) => self.pool.slot_of(share).await,
            None => self.pool.slot().await,
        };
        lease.map_err(|e| e.with("server", self.address()))
    }

    pub fn pool(&self) -> PoolState {
        self.pool.state()
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The same server for both ends of a run, with what was set aside for each, and for how many lanes that is.
    pub async fn for_run(&self, ends: Ends, lanes: usize) -> Result<(Arc<Self>, Arc<Self>, usize)> {
        let shares = self.pool.share(ends, SOURCE, DESTINATION, lanes).await.map_err(|e| e.with("server", self.address()))?;
        let of = |share| Arc::new(Self { dialer: self.dialer.clone(), pool: self.pool.clone(), share });
        Ok((of(shares.source), of(shares.destination), shares.lanes))
    }
}

impl Server {
    /// A session, logged in and set up: one that lies idle and still answers, else a new one.
    pub async fn connect(&self) -> Result<Client> {
        let mut lease = self.lease().await?;
        while let Some(idle) = lease.reuse(Kind::Client).await {
            if let Some(client) = idle.session::<Client>()
                && let Some(client) = client.renewed().await
            {
                return Ok(Client { lease: Some(lease), ..client });
            }
            lease.doubt().await;
        }
        lease.room().await;
        let client = self.dialer.connect().await?;
        Ok(Client { lease: Some(lease), ..client })
    }
}

/// A session. Dropping it closes the socket; see `cancel_on_drop` for work that is still running on the server.
pub(super) struct Client {
    driver: tokio_postgres::Client,
    canceller: Canceller,
    /// `server_version_num`, as in 150018.
    pub version: u32,
    task: Task,
    /// While it is in use.
    lease: Option<Lease>,
}

impl Client {
    /// A guard that cancels what this session does on the server, unless it is disarmed. Hold it over a COPY or a long query.
    pub fn cancel_on_drop(&self) -> CancelGuard {
        CancelGuard(Some(self.canceller.clone()))
    }

    /// The use is over: the session is as new for the next one, or ends in good order. Dropping it instead only closes the socket.
    pub async fn close(mut self) {
        match self.lease.take() {
            Some(lease) if self.is_reset().await => lease.give_back(Idle::new(Kind::Client, self)).await,
            _lease => self.hang_up().await,
        }
    }

    /// The same where nobody can wait. It is bounded, and touches nothing that outlives it.
    pub fn leave(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.close());
        }
    }

    /// The same for one in a transaction that wrote nothing.
    pub fn leave_transaction(self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if matches!(tokio::time::timeout(PROBE, self.driver.batch_execute("ROLLBACK")).await, Ok(Ok(()))) {
                self.close().await;
            }
        });
    }

    /// Leaves nothing of what was done in it. A session that something may still cancel is not used again.
    async fn is_reset(&self) -> bool {
        if self.canceller.used.load(Ordering::Acquire) || self.driver.is_closed() {
            return false;
        }
        // There is no transaction here, unless something went wrong: then BEGIN warns, or fails.
        let reset = format!("BEGIN; ROLLBACK; {RESET}");
        let Ok(Ok(answers)) = tokio::time::timeout(PROBE, self.driver.simple_query(&reset)).await else { return false };
        let last = answers.iter().rev().find_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0) } else { None });
        last == Some("f")
    }

    /// Sets an idle session up again; `None` when it does not answer any more.
    async fn renewed(self) -> Option<Self> {
        let set_up = tokio::time::timeout(PROBE, self.driver.simple_query(SESSION)).await;
        matches!(set_up, Ok(Ok(_))).then_some(self)
    }

    async fn hang_up(self) {
        let Self { driver, mut task, .. } = self;
        drop(driver);
        tokio::time::timeout(LINGER, &mut task.0).await.ok();
    }
}

impl Session for Client {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.hang_up())
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;
    fn deref(&self) -> &Self::Target {
        &self.driver
    }
}
impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.driver
    }
}

/// The connection's own task; it ends with its session.
struct Task(JoinHandle<()>);
impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks the server, over a second connection, to stop what a session does.
#[derive(Clone)]
pub(super) struct Canceller {
    token: CancelToken,
    dialer: Arc<Dialer>,
    wrap: Wrap,
    /// A request is on its way, and may come late.
    used: Arc<AtomicBool>,
}

impl Canceller {
    pub async fn cancel(&self) -> Result<()> {
        let ask = async {
            let channel = self.dialer.dial(self.wrap).await?;
            self.token.cancel_query_raw(channel, NoTls).await.pg("cancelling")
        };
        let late = || Error::new(ErrorKind::Timeout, "the server did not take the cancel request");
        tokio::time::timeout(self.dialer.endpoint.connect_timeout, ask).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Cancels on the server when dropped while armed.
pub(super) struct CancelGuard(Option<Canceller>);

impl CancelGuard {
    /// The work is done: nothing is left to cancel.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let Some(canceller) = self.0.take() else { return };
        canceller.used.store(true, Ordering::Release);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // A drop cannot wait. The request is bounded by the connect timeout and touches nothing that outlives it.
        runtime.spawn(async move { canceller.cancel().await.ok() });
    }
}
