//! Text files as tables: CSV, TSV, JSON lines and Excel are read with inferred types that lose nothing; CSV and TSV are written.

mod arrived;
mod column;
mod config;
mod destination;
mod dialect;
mod excel;
mod files;
mod infer;
mod jsonlines;
mod lane;
mod reader;
mod source;
mod split;
mod table;
mod workbook;

use std::{path::Path, sync::Arc, time::Instant};

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Destination, Error, ErrorKind, Result, Role, Source, Spec, UrlForm};
use serde_json::json;

use self::{config::CsvConfig, source::CsvSource};
use crate::text_file::{TextFiles, check_folder};

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "csv".into(),
        title: "CSV, TSV, JSON lines and Excel files".into(),
        docs: include_str!("docs.md").into(),
        aliases: vec!["tsv".into(), "excel".into(), "xlsx".into()],
        roles: vec![Role::Source, Role::Destination],
        is_queryable: true,
        example: json!({"path": "./data/*.csv", "delimiter": ";", "bad_rows": "skip"}),
        uploads: Some(arrived::UPLOADS),
        url: Some(UrlForm {
            schemes: &["csv", "tsv", "excel"],
            extensions: &[".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst", ".xlsx", ".xls", ".ods"],
            config: crate::url_config::<CsvConfig>,
        }),
    };
    ConnectorType::new(spec, |config: CsvConfig, context: Context| Csv::open(config, context))
}

/// The reader of JSON lines, which the `jsonl` type reads with too: there is one.
pub(crate) fn json_lines(path: &str) -> Result<Arc<dyn Source>> {
    let config = serde_json::from_value::<CsvConfig>(json!({ "path": path, "format": "jsonl" }))
        .map_err(|e| Error::new(ErrorKind::Internal, "the reader's config does not parse").because(e))?;
    config.validate()?;
    Ok(Arc::new(CsvSource::new(config)))
}

struct Csv {
    source: Arc<CsvSource>,
    destination: Arc<TextFiles>,
    path: String,
}

impl Csv {
    fn open(config: CsvConfig, context: Context) -> Result<Self> {
        config.validate()?;
        let destination = Arc::new(destination::open(&config, context.clone())?);
        Ok(Self { path: config.path.clone(), destination, source: Arc::new(CsvSource::new(config)) })
    }
}

#[async_trait]
impl Connector for Csv {
    async fn check(&self) -> Result<Checked> {
        let start = Instant::now();
        let streams = match self.source.discover().await {
            Ok(streams) => streams.len(),
            // A folder without files is a fine place to write to; so is one that can be made.
            Err(e) if e.kind() == ErrorKind::NotFound && !self.destination.place.is_file() && !self.path.contains(['*', '?', '[']) => {
                check_folder(&self.destination.place).map_err(|_| e).map(|()| 0)?
            }
            Err(e) => return Err(e),
        };
        Ok(Checked {
            streams: Some(streams),
            database: Some(Path::new(&self.path).display().to_string()),
            latency: start.elapsed(),
            ..Checked::default()
        })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(self.source.clone())
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(self.destination.clone())
    }
}
