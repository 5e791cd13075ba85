//! MySQL and MariaDB as source and destination: binary rows straight into Arrow, slices by key under one view, incremental reads that
//! find late commits; rows and position in one transaction. One folder and two catalog entries: the families differ in their catalogs
//! and settings, not in their protocol.

mod books;
mod catalog;
mod columns;
mod config;
mod connect;
mod cutter;
mod ddl;
mod decode;
mod destination;
mod document;
mod ed25519;
mod encode;
mod errors;
mod insert;
mod keys;
#[cfg(test)]
mod live;
mod login;
mod packet;
mod part;
mod publish;
mod pull;
mod query;
mod reading;
mod record;
mod rsa;
mod server;
mod session;
mod source;
mod sql;
mod statements;
mod states;
mod tables;
mod types;
mod values;
mod view;
mod window;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Checked, Connector, ConnectorType, Context, Destination, Ends, PoolState, Reserved, Result, Role, Source, Spec, UrlForm,
};
use serde_json::json;

pub use config::MysqlConfig;
pub use statements::{Answer, Statements};
pub use types::OddDates;

use destination::MysqlDestination;
use server::Server;
use source::MysqlSource;

/// The entry of MySQL.
pub fn mysql() -> ConnectorType {
    connector_type("mysql", "MySQL", &["mysql"])
}

/// The entry of MariaDB.
pub fn mariadb() -> ConnectorType {
    connector_type("mariadb", "MariaDB", &["mariadb"])
}

fn connector_type(name: &'static str, title: &'static str, schemes: &'static [&'static str]) -> ConnectorType {
    let spec = Spec {
        name: name.into(),
        title: title.into(),
        docs: include_str!("docs.md").into(),
        roles: vec![Role::Source, Role::Destination],
        is_queryable: true,
        example: json!({"host": "db.example.com", "port": 3306, "user": "reader", "password": "secret", "database": "shop"}),
        url: Some(UrlForm { schemes, extensions: &[], config: config::of_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Mysql::open)
}

/// An open connector: a checked config and the house it runs in.
struct Mysql {
    config: Arc<MysqlConfig>,
    server: Arc<Server>,
    /// The same server for what writes; a run sets sessions aside for each end.
    writer: Arc<Server>,
}

impl Mysql {
    fn open(config: MysqlConfig, ctx: Context) -> Result<Self> {
        let server = Server::new(config.endpoint()?, ctx);
        Ok(Self { config: Arc::new(config), writer: server.clone(), server })
    }

    fn reader(&self) -> MysqlSource {
        MysqlSource { server: self.server.clone(), config: self.config.clone() }
    }
}

#[async_trait]
impl Connector for Mysql {
    async fn check(&self) -> Result<Checked> {
        let clock = &self.server.ctx.clock;
        let start = clock.now();
        let mut wire = self.server.connect().await?;
        let answer = wire.query("SELECT VERSION(), DATABASE()", "checking the server").await?;
        let latency = start.duration_until(clock.now());
        let mut values = answer.into_iter().next().unwrap_or_default().into_iter();
        let version = values.next().flatten().unwrap_or_else(|| wire.version.clone());
        let streams = self.reader().count(&mut wire).await?;
        wire.close().await;
        Ok(Checked {
            server_version: Some(product(&version)),
            database: values.next().flatten(),
            streams,
            latency: Duration::try_from(latency).unwrap_or_default(),
        })
    }

    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(MysqlDestination::new(&self.writer)))
    }

    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.reader()))
    }

    fn pool(&self) -> Option<PoolState> {
        Some(self.server.pool())
    }

    async fn reserve(&self, ends: Ends, lanes: usize) -> Result<Option<Reserved>> {
        let (server, writer, lanes) = self.server.for_run(ends, lanes).await?;
        Ok(Some(Reserved { connector: Arc::new(Self { config: self.config.clone(), server, writer }), lanes }))
    }

    async fn close(&self) {
        self.server.close_idle().await;
    }
}

/// `MariaDB 11.8.3` of `11.8.3-MariaDB-0+deb13u1`, `MySQL 8.4.6` of `8.4.6-0ubuntu1`: who packaged it says nothing of it.
fn product(version: &str) -> String {
    let name = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    format!("{name} {}", version.split('-').next().unwrap_or(version))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_version_says_the_product_and_not_the_package() {
        for (version, said) in [("11.8.3-MariaDB-0+deb13u1", "MariaDB 11.8.3"), ("8.4.6-0ubuntu1", "MySQL 8.4.6"), ("9.5.0", "MySQL 9.5.0")]
        {
            assert_eq!(super::product(version), said);
        }
    }
}
