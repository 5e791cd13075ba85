//! MySQL and MariaDB: config, connection and check. There is no reading and no writing yet, so the types are not in the catalog.

mod config;
mod errors;
#[cfg(test)]
mod live;
mod login;
mod packet;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Result, Spec, UrlForm};
use serde_json::json;

pub use config::MysqlConfig;

use config::Endpoint;

/// The entry of MySQL. It joins the catalog with its first role.
pub fn mysql() -> ConnectorType {
    connector_type("mysql", "MySQL", &["mysql"])
}

/// The entry of MariaDB. It joins the catalog with its first role.
pub fn mariadb() -> ConnectorType {
    connector_type("mariadb", "MariaDB", &["mariadb"])
}

fn connector_type(name: &'static str, title: &'static str, schemes: &'static [&'static str]) -> ConnectorType {
    let spec = Spec {
        name: name.into(),
        title: title.into(),
        docs: include_str!("docs.md").into(),
        example: json!({"host": "db.example.com", "port": 3306, "user": "reader", "password": "secret", "database": "shop"}),
        url: Some(UrlForm { schemes, extensions: &[], config: config::of_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Mysql::open)
}

/// An open connector: a checked config and the house it runs in.
struct Mysql {
    endpoint: Endpoint,
    ctx: Context,
}

impl Mysql {
    fn open(config: MysqlConfig, ctx: Context) -> Result<Self> {
        Ok(Self { endpoint: config.endpoint()?, ctx })
    }
}

#[async_trait]
impl Connector for Mysql {
    async fn check(&self) -> Result<Checked> {
        let start = self.ctx.clock.now();
        let mut wire = wire::connect(&self.endpoint, &self.ctx).await?;
        let answer = wire.query("SELECT VERSION(), DATABASE()", "checking the server").await?;
        let latency = start.duration_until(self.ctx.clock.now());
        let mut values = answer.into_iter().next().unwrap_or_default().into_iter();
        let version = values.next().flatten().unwrap_or_else(|| wire.version.clone());
        wire.close().await;
        Ok(Checked {
            server_version: Some(version),
            database: values.next().flatten(),
            streams: None,
            latency: Duration::try_from(latency).unwrap_or_default(),
        })
    }
}
