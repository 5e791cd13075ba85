//! The catalog's entry, and an open connector.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use linkspan_core::{
    Checked, Connector, ConnectorType, Context, Destination, Error, ErrorKind, Result, Role, Source, Spec, UrlForm, file_error,
};
use serde_json::json;

use crate::{
    config::{ParquetConfig, config_of_url},
    destination::ParquetDestination,
    source::ParquetSource,
    storage::{Depth, Local, Storage},
};

pub(crate) fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "parquet".into(),
        title: "Parquet files".into(),
        docs: include_str!("docs.md").into(),
        aliases: vec!["s3_parquet".into()],
        roles: vec![Role::Source, Role::Destination],
        is_queryable: true,
        example: json!({"path": "./out"}),
        url: Some(UrlForm { schemes: &["parquet", "s3"], extensions: &[".parquet"], config: config_of_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Parquet::open)
}

pub(crate) struct Parquet {
    config: Arc<ParquetConfig>,
    storage: Arc<Storage>,
    ctx: Context,
}

impl Parquet {
    pub(crate) fn open(config: ParquetConfig, ctx: Context) -> Result<Self> {
        config.validate()?;
        let storage = Storage::new(&config, &ctx)?;
        Ok(Self { config: Arc::new(config), storage, ctx })
    }
}

#[async_trait]
impl Connector for Parquet {
    /// A folder that does not exist yet is well, as long as it can be made; a bucket must answer.
    async fn check(&self) -> Result<Checked> {
        let began = Instant::now();
        let streams = match &*self.storage {
            Storage::Local(local) => check_folder(local)?,
            Storage::S3(s3) => {
                s3.list("", Depth::One).await?;
                None
            }
        };
        Ok(Checked { server_version: None, database: Some(self.storage.describe()), streams, latency: began.elapsed() })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(ParquetSource::new(self.storage.clone())))
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(ParquetDestination::new(self.config.clone(), self.storage.clone(), self.ctx.clone())))
    }
}

fn check_folder(local: &Local) -> Result<Option<usize>> {
    let root = local.root();
    if root.is_file() {
        return Ok(Some(1));
    }
    let standing = root.ancestors().map(|p| if p.as_os_str().is_empty() { std::path::Path::new(".") } else { p }).find(|p| p.exists());
    let Some(standing) = standing else {
        return Err(Error::new(ErrorKind::NotFound, "the folder's path leads nowhere").with("path", root.display()).fix("check the path"));
    };
    if !standing.is_dir() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a file is in the way of the folder")
            .with("path", standing.display())
            .fix("choose another folder"));
    }
    std::fs::read_dir(standing).map_err(|e| file_error("the folder cannot be read", standing, e))?;
    Ok(None)
}
