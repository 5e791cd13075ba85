//! JSON Lines: one object per row, from and into a file or a folder of files, or to standard output.

mod encode;
mod stdout;

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Destination, Error, ErrorKind, Result, Role, Source, Spec, UrlForm};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::text_file::{Place, TextFiles, check_folder};

/// What a path to one file ends with.
const ENDINGS: [&str; 3] = [".jsonl", ".ndjson", ".json"];

/// Rows as JSON objects, one a line: what this type writes.
pub fn json_lines(rows: &arrow_array::RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    encode::objects(rows, None, out)
}

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "jsonl".into(),
        title: "JSON Lines".into(),
        docs: include_str!("docs.md").into(),
        aliases: vec!["ndjson".into(), "stdout".into()],
        roles: vec![Role::Source, Role::Destination],
        example: json!({"path": "./out"}),
        url: Some(UrlForm {
            schemes: &["jsonl", "ndjson", "stdout"],
            extensions: &[".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst"],
            config: from_url,
        }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Jsonl::open)
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonlConfig {
    /// A file that ends in .jsonl, .ndjson or .json (one stream), a folder (a file per stream), or `-` for standard output. A source
    /// also reads gzip, zstd and patterns such as `logs/*.jsonl`.
    path: String,
    /// Standard output only: the field that names each row's stream. Needed as soon as several streams are written there.
    stream_field: Option<String>,
}

/// `stdout:` is `jsonl:-`.
fn from_url(url: &str) -> Result<Value> {
    let mut config = crate::url_config::<JsonlConfig>(url)?;
    if config["path"] == "" && url.starts_with("stdout:") {
        config["path"] = "-".into();
    }
    Ok(config)
}

enum Jsonl {
    Stdout(Arc<stdout::Stdout>),
    Files { files: Arc<TextFiles>, source: Arc<dyn Source> },
}

impl Jsonl {
    fn open(config: JsonlConfig, ctx: Context) -> Result<Self> {
        if config.path == "-" {
            return Ok(Self::Stdout(Arc::new(stdout::Stdout::new(config.stream_field, ctx))));
        }
        if config.stream_field.is_some() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "files hold one stream each: `stream_field` is for standard output")
                .with("field", "stream_field")
                .fix("leave it out, or write to `stdout:`"));
        }
        let place = Place::of(&config.path, &ENDINGS, "jsonl")?;
        let source = crate::csv::json_lines(&config.path)?;
        let packed = [".gz", ".zst", ".zstd"].iter().any(|e| config.path.to_ascii_lowercase().ends_with(e));
        let refusal = packed.then_some(("compressed files are read and not written", "write to a .jsonl file and compress it afterwards"));
        let files = Arc::new(TextFiles { place, format: Arc::new(encode::JsonLines), ctx, refusal });
        Ok(Self::Files { files, source })
    }
}

#[async_trait]
impl Connector for Jsonl {
    async fn check(&self) -> Result<Checked> {
        let start = Instant::now();
        if let Self::Files { files, .. } = self {
            check_folder(&files.place)?;
        }
        Ok(Checked { latency: start.elapsed(), ..Checked::default() })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        match self {
            Self::Stdout(_) => None,
            Self::Files { source, .. } => Some(source.clone()),
        }
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(match self {
            Self::Stdout(stdout) => stdout.clone(),
            Self::Files { files, .. } => files.clone(),
        })
    }
}
