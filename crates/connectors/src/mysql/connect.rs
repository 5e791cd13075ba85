//! From a server to a session: logged in, and with the settings that make its answers the same everywhere.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};

use super::{
    server::{Flavor, Server},
    wire::{self, Wire},
};

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
    /// A session, logged in and set up. `Timeout` when the whole of it takes longer than the connect timeout.
    pub async fn connect(self: &Arc<Self>) -> Result<Wire> {
        let within = self.endpoint.connect_timeout;
        let all = async {
            let mut wire = wire::connect(self).await?;
            let own = if wire.flavor() == Flavor::Mariadb { OF_MARIADB } else { OF_MYSQL };
            wire.query(&format!("{SESSION}{own}"), "setting up the session").await?;
            Ok(wire)
        };
        let done = tokio::time::timeout(within, all).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("the server did not answer within {} s", within.as_secs()))
                .fix("check host, port and firewall: something accepts the connection and stays silent; or raise connect_timeout_seconds"))
        });
        done.map_err(|e: Error| e.with("server", self.endpoint.address()))
    }
}
