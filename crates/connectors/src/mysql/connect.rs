//! From a server to a session: logged in, and with the settings that make its answers the same everywhere.

use futures::future::BoxFuture;
use linkspan_core::{Error, ErrorKind, Result};

use super::{
    server::{Flavor, Lease, PROBE, Server},
    wire::{self, Wire},
};
use crate::pool::{Idle, Session};

/// What every session of ours says first. Values look the same whatever the server's defaults are; strings end where we end them; no
/// limit of the server ends a long read, and a slow destination does not make it hang up. Dates that no calendar has may be read, and
/// nothing that is written is cut or bent to fit.
const SESSION: &str = "SET NAMES utf8mb4, time_zone = '+00:00', \
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', autocommit = 1, \
    net_write_timeout = 31536000, net_read_timeout = 86400, wait_timeout = 86400, sql_safe_updates = 0, sql_select_limit = DEFAULT, \
    sql_big_selects = 1, ";
const OF_MYSQL: &str = "max_execution_time = 0, information_schema_stats_expiry = 0, transaction_isolation = 'REPEATABLE-READ'";
const OF_MARIADB: &str = "max_statement_time = 0, tx_isolation = 'REPEATABLE-READ'";

impl Server {
    /// A session, logged in and set up: one that lies idle and still answers, else a new one. `Timeout` when the whole of it takes
    /// longer than the connect timeout.
    pub async fn connect(&self) -> Result<Wire> {
        let mut lease = self.lease().await?;
        while let Some(idle) = lease.reuse(self.files).await {
            let Some(mut wire) = idle.session::<Wire>() else { continue };
            if matches!(tokio::time::timeout(PROBE, set_up(&mut wire)).await, Ok(Ok(()))) {
                return Ok(wire.leased(lease));
            }
            wire.give_up();
            lease.doubt().await;
        }
        lease.room().await;
        let within = self.endpoint.connect_timeout;
        let all = async {
            let mut wire = wire::connect(&self.dialer).await?;
            set_up(&mut wire).await?;
            Ok(wire)
        };
        let done = tokio::time::timeout(within, all).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("the server did not answer within {} s", within.as_secs()))
                .fix("check host, port and firewall: something accepts the connection and stays silent; or raise connect_timeout_seconds"))
        });
        done.map(|wire| wire.leased(lease)).map_err(|e: Error| e.with("server", self.endpoint.address()))
    }
}

async fn set_up(wire: &mut Wire) -> Result<()> {
    let own = if wire.flavor() == Flavor::Mariadb { OF_MARIADB } else { OF_MYSQL };
    wire.query(&format!("{SESSION}{own}"), "setting up the session").await.map(drop)
}

impl Session for Wire {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.quit())
    }
}

impl Wire {
    /// The use is over: the session is as new for the next one, or ends in good order. Dropping it instead only closes the socket.
    pub async fn close(mut self) {
        match self.lease.take() {
            Some(lease) if self.is_reset().await => lease.give_back(Idle::new(self.files(), self.at_rest())).await,
            _lease => self.quit().await,
        }
    }

    /// The same where nobody can wait. It is bounded, and touches nothing that outlives it.
    pub fn leave(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.close());
        }
    }

    async fn is_reset(&mut self) -> bool {
        matches!(tokio::time::timeout(PROBE, self.reset()).await, Ok(Ok(())))
    }

    fn leased(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }
}
