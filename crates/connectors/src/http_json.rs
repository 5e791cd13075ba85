//! A URL that answers with a JSON array: each element is a record of its one stream, which is read whole.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use http::HeaderMap;
use linkspan_core::{
    Checked, Connector, ConnectorType, Context, Cursor, Error, ErrorKind, Lane, Position, Result, Role, Secret, SecretUrl, Selected,
    Source, Spec, Stream, StreamName, UrlForm,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use url::Url;

use crate::{records, web, whole};

pub fn connector_type() -> ConnectorType {
    let config = |text: &str| Ok(json!({ "url": text.strip_prefix("http_json:").unwrap_or(text) }));
    let spec = Spec {
        name: "http_json".into(),
        title: "JSON array over HTTP".into(),
        docs: include_str!("http_json.md").into(),
        roles: vec![Role::Source],
        example: json!({"url": "https://api.example.com/users.json", "headers": {"Authorization": "Bearer secret"}}),
        url: Some(UrlForm { schemes: &["http_json"], extensions: &[], config }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, HttpJson::open)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpJsonConfig {
    /// Where the array is. The stream is named after the last word of the path.
    url: SecretUrl,
    /// Headers of the request, such as `Authorization`. All values are secret.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// The largest answer that is read, in MiB: 64 by default, 1024 at most. A read needs a few times as much memory.
    max_mb: Option<usize>,
}

#[derive(Clone)]
struct HttpJson {
    url: Url,
    headers: HeaderMap,
    most: usize,
    ctx: Context,
}

impl HttpJson {
    fn open(config: HttpJsonConfig, ctx: Context) -> Result<Self> {
        let wrong = |field: &'static str, fix: &'static str| {
            Err(Error::new(ErrorKind::ConfigInvalid, "the field has a value that cannot be used").with("field", field).fix(fix))
        };
        let Some(url) = Url::parse(config.url.expose()).ok().filter(|u| matches!(u.scheme(), "http" | "https")) else {
            return wrong("url", "write https://host/path");
        };
        match config.max_mb.unwrap_or(64) {
            _ if !url.username().is_empty() || url.password().is_some() => wrong("url", "put the credentials into `headers`"),
            mb @ 1..=1024 => Ok(Self { url, headers: web::headers(&config.headers)?, most: mb << 20, ctx }),
            _ => wrong("max_mb", "give a number from 1 to 1024"),
        }
    }
    /// The elements of the array, each as its text.
    async fn records(&self) -> Result<Vec<Box<RawValue>>> {
        let answer = web::get_json::<Box<RawValue>>(&self.ctx, self.url.as_str(), &self.headers, self.most).await;
        let answer = answer.map_err(|e| match e.suggested_fix() {
            Some(_) => e,
            None if e.context().iter().any(|(key, _)| *key == "limit_bytes") => e.fix("raise `max_mb`, or ask the API for less"),
            None => e.fix("open the URL with a browser: it must answer with a JSON array"),
        })?;
        serde_json::from_str(answer.get()).map_err(|_| {
            Error::new(ErrorKind::DataInvalid, "the answer is JSON, but no array")
                .fix("where the records lie inside of an object, use the type `api_rest` with `record_path`")
        })
    }
    /// The last word of the path, without its ending.
    fn stream_name(&self) -> StreamName {
        let last = self.url.path_segments().and_then(|all| all.rev().find(|s| !s.is_empty())).unwrap_or_default();
        let word = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
        let word = word.split('.').find(|w| !w.is_empty()).unwrap_or("records");
        StreamName::new(None, word)
    }
}

#[async_trait]
impl Connector for HttpJson {
    async fn check(&self) -> Result<Checked> {
        let start = Instant::now();
        let streams = self.discover().await?.len();
        Ok(Checked { streams: Some(streams), latency: start.elapsed(), ..Checked::default() })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Source for HttpJson {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let records = self.records().await?;
        let (name, schema, estimated_rows) = (self.stream_name(), records::schema(&records)?, Some(records.len() as u64));
        Ok(vec![Stream { name, schema, key: vec![], cursor: Cursor::None, estimated_rows, estimated_bytes: None }])
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let lane = move |selected| {
            let this = self.clone();
            whole::lane(selected, &from, |stream| async move { Ok(records::batches(this.records().await?, stream.schema.clone())) })
        };
        futures::stream::iter(selected).map(lane).boxed()
    }
}
