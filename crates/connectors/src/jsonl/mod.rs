//! JSON Lines: one object per row, into a file, a folder of files, or standard output.

mod encode;
mod stdout;

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Destination, Error, ErrorKind, Result, Role, Spec, UrlForm, file_error};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::text_file::{Place, TextFiles};

/// What a path to one file ends with.
const ENDINGS: [&str; 3] = [".jsonl", ".ndjson", ".json"];

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "jsonl".into(),
        title: "JSON Lines".into(),
        docs: include_str!("docs.md").into(),
        aliases: vec!["ndjson".into(), "stdout".into()],
        roles: vec![Role::Destination],
        example: json!({"path": "./out"}),
        url: Some(UrlForm { schemes: &["jsonl", "ndjson", "stdout"], extensions: &[".jsonl", ".ndjson"], config: from_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, Jsonl::open)
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonlConfig {
    /// A file that ends in .jsonl, .ndjson or .json (one stream), a folder (a file per stream), or `-` for standard output.
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
    Files(Arc<TextFiles>),
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
        Ok(Self::Files(Arc::new(TextFiles { place, format: Arc::new(encode::JsonLines), ctx })))
    }
}

#[async_trait]
impl Connector for Jsonl {
    async fn check(&self) -> Result<Checked> {
        let start = Instant::now();
        if let Self::Files(files) = self {
            check_folder(&files.place)?;
        }
        Ok(Checked { latency: start.elapsed(), ..Checked::default() })
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(match self {
            Self::Stdout(stdout) => stdout.clone(),
            Self::Files(files) => files.clone(),
        })
    }
}

/// The folder is there, or can be made in one that is.
pub(crate) fn check_folder(place: &Place) -> Result<()> {
    let folder = place.folder();
    let nearest = if place.is_file() { Some(folder) } else { folder.ancestors().find(|f| f.as_os_str().is_empty() || f.exists()) };
    let nearest = nearest.filter(|f| !f.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let meta = std::fs::metadata(nearest).map_err(|e| file_error("the folder is not there", nearest, e))?;
    if !meta.is_dir() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the path goes through a file")
            .with("path", nearest.display())
            .fix("choose another path"));
    }
    if meta.permissions().readonly() {
        return Err(Error::new(ErrorKind::PermissionDenied, "the folder may not be written")
            .with("path", nearest.display())
            .fix("give this user the right to write there"));
    }
    Ok(())
}
