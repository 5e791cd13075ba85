//! JSON arrays from the web: each stream is a URL that answers with one array of objects. Types are inferred from all of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_json::{ReaderBuilder, reader::infer_json_schema_from_iterator};
use arrow_schema::ArrowError;
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Checked, Connector, ConnectorType, Context, Cursor, Error, ErrorKind, Lane, Position, Result, Role, Secret, Selected, Source, Spec,
    Stream, StreamName, UrlForm,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{web, whole};

/// An answer is taken whole: a larger one is refused.
const MOST_BYTES: usize = 64 << 20;
const BATCH_ROWS: usize = 1024;
type Row = Map<String, Value>;

pub fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "http_json".into(),
        title: "JSON over HTTP".into(),
        docs: include_str!("http_json.md").into(),
        roles: vec![Role::Source],
        example: json!({"streams": {"users": "https://api.example.com/users.json"}, "bearer_token": "secret", "key": ["id"]}),
        url: Some(UrlForm { schemes: &["http_json"], extensions: &[], config: of_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, |config: HttpJsonConfig, ctx| Ok(HttpJson { config: Arc::new(config), ctx }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpJsonConfig {
    /// Each stream's name, and the URL that answers with its rows: one JSON array of objects.
    streams: BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer ...`.
    bearer_token: Option<Secret>,
    /// The fields that tell rows apart, where a stream has them.
    #[serde(default)]
    key: Vec<String>,
}

/// `http_json:https://host/path/users.json` is the stream `users`.
fn of_url(url: &str) -> Result<Value> {
    let url = url.trim_start_matches("http_json:");
    let path = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".json");
    Ok(json!({"streams": {name: url}}))
}

#[derive(Clone)]
struct HttpJson {
    config: Arc<HttpJsonConfig>,
    ctx: Context,
}

impl HttpJson {
    async fn rows(&self, name: &str) -> Result<Vec<Row>> {
        let unknown = || Error::new(ErrorKind::NotFound, "the config has no such stream").fix("add it to `streams`");
        let url = self.config.streams.get(name).ok_or_else(unknown)?;
        web::get_json(&self.ctx, url, self.config.bearer_token.as_ref(), MOST_BYTES).await.map_err(|e| e.with("stream", name))
    }
    async fn batches(self, stream: Arc<Stream>) -> Result<Vec<RecordBatch>> {
        let rows = self.rows(&stream.name.name).await?;
        let mut decoder = ReaderBuilder::new(stream.schema.clone()).with_coerce_primitive(true).build_decoder().map_err(misfit)?;
        let batch = |rows: &[Row]| decoder.serialize(rows).and_then(|()| decoder.flush()).map_err(misfit).transpose();
        rows.chunks(BATCH_ROWS).filter_map(batch).collect()
    }
}

fn misfit(_: ArrowError) -> Error {
    Error::new(ErrorKind::DataInvalid, "a field has values of kinds that do not go together").fix("make its values all of one kind")
}

#[async_trait]
impl Connector for HttpJson {
    async fn check(&self) -> Result<Checked> {
        let start = self.ctx.clock.now();
        let streams = self.discover().await?.len();
        let latency = Duration::try_from(start.duration_until(self.ctx.clock.now())).unwrap_or_default();
        Ok(Checked { streams: Some(streams), latency, ..Checked::default() })
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Source for HttpJson {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for name in self.config.streams.keys() {
            let rows = self.rows(name).await?;
            let schema = infer_json_schema_from_iterator(rows.iter().map(|r| Ok(Value::from(r.clone())))).map_err(misfit)?;
            let key = self.config.key.iter().filter(|k| schema.index_of(k).is_ok()).cloned().collect();
            let (name, estimated_rows) = (StreamName::new(None, name), Some(rows.len() as u64));
            streams.push(Stream { name, schema: schema.into(), key, cursor: Cursor::None, estimated_rows, estimated_bytes: None });
        }
        Ok(streams)
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let lane = move |s| {
            whole::lane(s, &from, {
                let this = (*self).clone();
                move |stream| this.batches(stream)
            })
        };
        futures::stream::iter(selected.into_iter().map(lane).collect::<Vec<_>>()).boxed()
    }
}
