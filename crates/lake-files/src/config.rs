//! What a user says about a place of Parquet files, in a config or in a URL.

use linkspan_core::{Error, ErrorKind, Result, Secret};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// A folder (`./out`), one file to read (`./orders.parquet`), or `s3://bucket/prefix`.
    pub path: String,
    /// Where the S3 API answers, when it is not AWS itself (`http://127.0.0.1:9000`). Else `AWS_ENDPOINT_URL`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket's region. Else `AWS_REGION`, else `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// The access key's id. Else `AWS_ACCESS_KEY_ID`, else the machine's own role.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// The access key's secret. Else `AWS_SECRET_ACCESS_KEY`.
    #[serde(default)]
    pub secret_access_key: Option<Secret>,
    /// The token of temporary credentials. Else `AWS_SESSION_TOKEN`.
    #[serde(default)]
    pub session_token: Option<Secret>,
    /// Allows an endpoint without TLS that is not on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// How pages are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Rows in one row group, at most. Wide rows end a group earlier, so that memory stays flat.
    #[serde(default = "ParquetConfig::row_group_rows")]
    pub row_group_rows: u32,
    /// A file that has grown to this size (MB) is closed and another one started.
    #[serde(default = "ParquetConfig::target_file_mb")]
    pub target_file_mb: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard at level 1: small and fast.
    #[default]
    Zstd,
    Snappy,
    Lz4,
    Gzip,
    None,
}

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Local(std::path::PathBuf),
    S3 { bucket: String, prefix: String },
}

const FIELDS: &[&str] = &[
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "allow_http",
    "compression",
    "row_group_rows",
    "target_file_mb",
];

impl ParquetConfig {
    fn row_group_rows() -> u32 {
        131_072
    }
    fn target_file_mb() -> u32 {
        256
    }

    /// Parses the path; asks for nothing.
    pub(crate) fn location(&self) -> Result<Location> {
        if self.path.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the path is empty")
                .with("field", "path")
                .fix("name a folder: `path: ./out`"));
        }
        let Some(rest) = self.path.strip_prefix("s3://") else {
            if let Some((scheme, _)) = self.path.split_once("://").filter(|(s, _)| *s != "file") {
                return Err(Error::new(ErrorKind::Unsupported, "only local folders and s3:// hold Parquet so far")
                    .with("scheme", scheme)
                    .fix("use a folder or s3://bucket/prefix; other stores often answer to the S3 API by `endpoint`"));
            }
            return Ok(Location::Local(self.path.strip_prefix("file://").unwrap_or(&self.path).into()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the S3 URL names no bucket")
                .with("field", "path")
                .fix("write s3://bucket/prefix"));
        }
        Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }

    /// What is wrong with the config whatever the world looks like.
    pub(crate) fn validate(&self) -> Result<()> {
        self.location()?;
        if self.row_group_rows == 0 || self.target_file_mb == 0 {
            let field = if self.row_group_rows == 0 { "row_group_rows" } else { "target_file_mb" };
            return Err(Error::new(ErrorKind::ConfigInvalid, "the field must be at least 1")
                .with("field", field)
                .fix("leave it out for the default"));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let url = Url::parse(endpoint).map_err(|e| {
            Error::new(ErrorKind::ConfigInvalid, "the endpoint is not a URL")
                .with("field", "endpoint")
                .fix("write https://host:port")
                .because(e)
        })?;
        if url.scheme() == "http" && !self.allow_http && !is_loopback(&url) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the endpoint has no TLS")
                .with("field", "endpoint")
                .fix("use https://, or set `allow_http: true` if the network between is yours"));
        }
        Ok(())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// `parquet:./out`, `parquet:s3://bucket/prefix?region=..`, `s3://bucket/prefix`, `./x.parquet` as a config.
pub(crate) fn config_of_url(text: &str) -> Result<Value> {
    let rest = match text.strip_prefix("parquet:") {
        Some(rest) if rest.starts_with("///") => &rest[2..],
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None => text,
    };
    let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    let mut config = Map::new();
    match query {
        // A local file's name may hold a question mark; it is a query only when it sets a field of ours.
        Some(q) if !path.starts_with("s3://") && !q.split('&').all(|pair| FIELDS.contains(&pair.split('=').next().unwrap_or(""))) => {
            config.insert("path".into(), rest.into());
        }
        query => {
            config.insert("path".into(), path.into());
            for pair in query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                config.insert(key.to_owned(), typed(key, value));
            }
        }
    }
    Ok(Value::Object(config))
}

/// Percent-decoded; `+` stays a plus, since access keys hold it and nobody writes blanks there.
fn typed(key: &str, value: &str) -> Value {
    let text = percent_decode_str(value).decode_utf8_lossy().into_owned();
    match key {
        "allow_http" => text.parse::<bool>().map_or(Value::String(text), Value::Bool),
        "row_group_rows" | "target_file_mb" => text.parse::<u32>().map_or(Value::String(text), Value::from),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_url_form_becomes_a_config() {
        assert_eq!(config_of_url("parquet:./out").unwrap(), json!({"path": "./out"}));
        assert_eq!(config_of_url("parquet:/abs").unwrap(), json!({"path": "/abs"}));
        assert_eq!(config_of_url("parquet:///abs").unwrap(), json!({"path": "/abs"}));
        assert_eq!(config_of_url("./x.parquet").unwrap(), json!({"path": "./x.parquet"}));
        assert_eq!(config_of_url("./what?.parquet").unwrap(), json!({"path": "./what?.parquet"}));
        assert_eq!(config_of_url("s3://b/p").unwrap(), json!({"path": "s3://b/p"}));
        assert_eq!(
            config_of_url("parquet:s3://b/p?endpoint=http%3A%2F%2F127.0.0.1:9000&secret_access_key=a/b+c&allow_http=true").unwrap(),
            json!({"path": "s3://b/p", "endpoint": "http://127.0.0.1:9000", "secret_access_key": "a/b+c", "allow_http": true})
        );
    }

    #[test]
    fn a_location_is_a_folder_or_a_bucket() {
        let at = |path: &str| serde_json::from_value::<ParquetConfig>(json!({ "path": path })).unwrap().location();
        assert_eq!(at("./out").unwrap(), Location::Local("./out".into()));
        assert_eq!(at("s3://b/a/c/").unwrap(), Location::S3 { bucket: "b".into(), prefix: "a/c".into() });
        assert_eq!(at("s3:///x").unwrap_err().kind(), ErrorKind::ConfigInvalid);
        assert_eq!(at("gs://b").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn plain_http_needs_loopback_or_a_word() {
        let with = |endpoint: &str| serde_json::from_value::<ParquetConfig>(json!({"path": "s3://b", "endpoint": endpoint})).unwrap();
        assert!(with("http://127.0.0.1:9000").validate().is_ok());
        assert!(with("http://10.0.0.1:9000").validate().is_err());
    }
}
