//! Text files as tables: CSV, TSV, JSON lines and Excel are read with inferred types that lose nothing; CSV and TSV are written.
// TEAM: helper `files` adds `destination.rs` (csv as a destination) on top of this config; the rest is `lead`'s.

mod column;
mod config;
mod dialect;
mod excel;
mod files;
mod infer;
mod jsonlines;
mod lane;
mod reader;
mod source;
mod split;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Result, Role, Source, Spec, UrlForm};
use serde_json::json;

use self::{config::CsvConfig, source::CsvSource};

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "csv".into(),
        title: "CSV, TSV, JSON lines and Excel files".into(),
        docs: include_str!("docs.md").into(),
        aliases: vec!["tsv".into(), "excel".into(), "xlsx".into()],
        roles: vec![Role::Source],
        example: json!({"path": "./data/*.csv", "delimiter": ";", "bad_rows": "skip"}),
        url: Some(UrlForm {
            schemes: &["csv", "tsv", "excel"],
            extensions: &[".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst", ".xlsx", ".xls", ".ods"],
            config: crate::url_config::<CsvConfig>,
        }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, |config: CsvConfig, context: Context| Csv::open(config, context))
}

struct Csv {
    source: Arc<CsvSource>,
}

impl Csv {
    fn open(config: CsvConfig, context: Context) -> Result<Self> {
        config.validate()?;
        Ok(Self { source: Arc::new(CsvSource::new(config, context)) })
    }
}

#[async_trait]
impl Connector for Csv {
    async fn check(&self) -> Result<Checked> {
        let streams = self.source.discover().await?.len();
        Ok(Checked { streams: Some(streams), ..Checked::default() })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(self.source.clone())
    }
}
