//! PostgreSQL as source and destination: binary COPY both ways, sliced snapshots, incremental reads that miss no late commit.

mod catalog;
mod config;
mod connect;
mod cutter;
mod ddl;
mod decode;
mod destination;
mod destination_book;
mod destination_publish;
mod destination_shape;
mod encode;
mod encode_fit;
mod encode_numeric;
mod encode_text;
mod errors;
#[cfg(test)]
mod live;
mod merge;
mod merge_keys;
mod missing;
mod numeric;
mod part;
mod query;
mod reading;
mod session;
mod session_copy;
mod session_link;
mod session_rows;
mod session_stream;
mod session_table;
mod sessions;
mod snapshot;
mod source;
mod sql;
mod states;
mod tail;
mod types;
mod window;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Checked, Connector, ConnectorType, Context, Destination, Ends, PoolState, Reserved, Result, Role, Source, Spec, UrlForm,
};
use serde_json::json;

pub use crate::tls::SslMode;
pub use config::PostgresConfig;

use connect::Server;
use destination::PgDestination;
use errors::PgResult;
use source::PostgresSource;

/// The catalog entry.
pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "postgresql".into(),
        title: "PostgreSQL".into(),
        docs: include_str!("docs.md").into(),
        aliases: ["postgres", "pg", "rds", "rds_postgresql", "aurora_postgresql"].into_iter().map(Into::into).collect(),
        roles: vec![Role::Source, Role::Destination],
        is_queryable: true,
        example: json!({"host": "db.example.com", "port": 5432, "database": "shop", "username": "reader", "password": "secret", "sslmode": "require"}),
        url: Some(UrlForm { schemes: &["postgres", "postgresql"], extensions: &[], config: config::of_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Postgres::open)
}

/// An open connector: a checked config and the house it runs in.
pub(crate) struct Postgres {
    config: Arc<PostgresConfig>,
    server: Arc<Server>,
    /// The same server for what writes; a run sets sessions aside for each end.
    writer: Arc<Server>,
}

impl Postgres {
    fn open(config: PostgresConfig, ctx: Context) -> Result<Self> {
        let server = Server::new(config.endpoint()?, ctx);
        Ok(Self { config: Arc::new(config), writer: server.clone(), server })
    }
}

#[async_trait]
impl Connector for Postgres {
    async fn check(&self) -> Result<Checked> {
        let start = self.server.ctx.clock.now();
        let client = self.server.connect().await?;
        let row = client.query_one("SELECT current_setting('server_version'), current_database()", &[]).await.pg("checking the server")?;
        let latency = start.duration_until(self.server.ctx.clock.now());
        let streams: i64 = client.query_one(&catalog::count(), &[]).await.pg("counting the tables")?.get(0);
        client.close().await;
        Ok(Checked {
            server_version: row.get::<_, Option<&str>>(0).map(product),
            database: row.get(1),
            streams: usize::try_from(streams).ok(),
            latency: Duration::try_from(latency).unwrap_or_default(),
        })
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(PgDestination::new(self.writer.clone(), self.config.swap)))
    }

    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(PostgresSource { server: self.server.clone(), config: self.config.clone() }))
    }

    fn pool(&self) -> Option<PoolState> {
        Some(self.server.pool())
    }

    async fn reserve(&self, ends: Ends, lanes: usize) -> Result<Option<Reserved>> {
        let (server, writer, lanes) = self.server.for_run(ends, lanes).await?;
        Ok(Some(Reserved { connector: Arc::new(Self { config: self.config.clone(), server, writer }), lanes }))
    }

    async fn close(&self) {
        self.server.close().await;
    }
}

/// `PostgreSQL 15.2` of `15.2 (Debian 15.2-1)`: who packaged it says nothing of it.
fn product(version: &str) -> String {
    format!("PostgreSQL {}", version.split(' ').next().unwrap_or(version))
}
