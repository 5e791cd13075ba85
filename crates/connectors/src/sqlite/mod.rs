//! SQLite files as source and destination. One file, one writer at a time; rows and position are one transaction.

mod books;
mod columns;
mod ddl;
mod destination;
mod discover;
mod file;
mod insert;
mod lane;
mod session;
mod source;
mod tables;
mod types;

use std::{
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Destination, Error, ErrorKind, Result, Role, Source, Spec, UrlForm};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::blocking::blocking;

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "sqlite".into(),
        title: "SQLite".into(),
        docs: include_str!("docs.md").into(),
        aliases: vec!["sqlite3".into()],
        roles: vec![Role::Source, Role::Destination],
        is_queryable: true,
        example: json!({"path": "./shop.db"}),
        url: Some(UrlForm {
            schemes: &["sqlite", "sqlite3"],
            extensions: &[".db", ".sqlite", ".sqlite3"],
            config: crate::url_config::<SqliteConfig>,
        }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Sqlite::open)
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SqliteConfig {
    /// The database file. A destination makes it when it is not there.
    path: String,
    /// How many seconds to wait for another writer's lock before giving up.
    #[serde(default = "SqliteConfig::lock_wait_seconds")]
    lock_wait_seconds: u32,
    /// How many rows a batch holds when reading; a read can be resumed after every batch.
    #[serde(default = "SqliteConfig::batch_rows")]
    batch_rows: NonZeroU32,
}

impl SqliteConfig {
    fn lock_wait_seconds() -> u32 {
        30
    }
    fn batch_rows() -> NonZeroU32 {
        NonZeroU32::new(8_192).expect("not zero")
    }
}

/// An opened connector: nothing but its settings until it is used.
#[derive(Clone)]
struct Sqlite {
    file: file::Database,
    batch_rows: usize,
    ctx: Context,
    /// Held by the one session that writes. Its holders never await.
    writer: Arc<Mutex<()>>,
}

impl Sqlite {
    fn open(config: SqliteConfig, ctx: Context) -> Result<Self> {
        if config.path.is_empty() || config.path == ":memory:" {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the path names no file")
                .with("field", "path")
                .fix("give a path like ./shop.db"));
        }
        let wait = std::time::Duration::from_secs(u64::from(config.lock_wait_seconds));
        Ok(Self {
            file: file::Database { path: PathBuf::from(config.path), wait },
            batch_rows: config.batch_rows.get() as usize,
            ctx,
            writer: Arc::default(),
        })
    }
}

#[async_trait]
impl Connector for Sqlite {
    /// A file that is not there yet is fine when its folder is: a destination makes it.
    async fn check(&self) -> Result<Checked> {
        let start = std::time::Instant::now();
        let file = self.file.clone();
        let streams = blocking(move || file.check(|db| Ok(discover::relations(db)?.len()))).await?;
        Ok(Checked {
            server_version: Some(format!("SQLite {}", rusqlite::version())),
            database: Some(self.file.path.display().to_string()),
            streams: Some(streams),
            latency: start.elapsed(),
        })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.clone()))
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(self.clone()))
    }
}
