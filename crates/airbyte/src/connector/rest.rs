//! An API described in a few lines, as a manifest.

mod auth;
mod paging;

use linkspan_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::{auth::Auth, paging::Pagination};
use crate::cursor::Dates;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestConfig {
    /// Where the API is, for instance `https://api.example.com/v1`.
    #[schemars(extend("x-secret" = "password"))]
    base_url: String,
    /// How requests are signed in; not at all by default.
    #[serde(default)]
    auth: Auth,
    /// The path of the records below `base_url`; for an API with one stream.
    #[schemars(extend("x-address" = true))]
    path: Option<String>,
    /// The one stream's name; the last part of `path` by default.
    name: Option<String>,
    /// Where the records are in an answer: names with dots between them. The whole answer by default.
    record_path: Option<String>,
    /// The columns that identify a record.
    #[serde(default)]
    key: Vec<String>,
    /// Parameters of every request.
    #[serde(default)]
    params: Map<String, Value>,
    /// Headers of every request. All values are secret.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    headers: Map<String, Value>,
    /// How further pages are asked for; one page by default.
    #[serde(default)]
    pagination: Pagination,
    /// How only new records are asked for.
    cursor: Option<CursorConfig>,
    /// Several streams, each with what the first ones above say where it says nothing.
    #[serde(default)]
    streams: Vec<StreamConfig>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CursorConfig {
    /// The column whose largest value is where the next run goes on.
    field: String,
    /// The parameter by which the API is asked for newer records. Without one everything is asked for, and only what is new is kept.
    param: Option<String>,
    /// Where the first run starts, in the format below.
    start: String,
    /// How times are written, with Python's directives.
    #[serde(default = "iso")]
    format: String,
}

fn iso() -> String {
    "%Y-%m-%dT%H:%M:%SZ".into()
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StreamConfig {
    name: String,
    /// The path below `base_url`; the name by default.
    path: Option<String>,
    record_path: Option<String>,
    key: Option<Vec<String>>,
    #[serde(default)]
    params: Map<String, Value>,
    pagination: Option<Pagination>,
    cursor: Option<CursorConfig>,
}

impl RestConfig {
    /// The manifest, resolved, and the config whose values its templates name.
    pub(super) fn manifest(self) -> Result<(Value, Value)> {
        let url = url::Url::parse(&self.base_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none() {
            return Err(wrong("base_url is no address of a web server", "base_url").fix("write it like https://api.example.com/v1"));
        }
        let (authenticator, secrets) = self.auth.component()?;
        let streams = self.streams()?;
        for stream in &streams {
            self.judge(stream).map_err(|e| e.with("stream", &stream.name))?;
        }
        let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        let components: Vec<Value> = streams.iter().map(|stream| self.stream(stream, &authenticator)).collect();
        let manifest = json!({
            "type": "DeclarativeSource",
            "check": {"type": "CheckStream", "stream_names": [names[0]]},
            "streams": components,
        });
        Ok((crate::manifest::resolved(&manifest)?, secrets))
    }

    fn streams(&self) -> Result<Vec<StreamConfig>> {
        let single = self.path.clone().map(|path| StreamConfig {
            name: self.name.clone().unwrap_or_else(|| last_part(&path)),
            path: Some(path),
            record_path: None,
            key: None,
            params: Map::new(),
            pagination: None,
            cursor: None,
        });
        let all: Vec<StreamConfig> = single.into_iter().chain(self.streams.iter().cloned()).collect();
        if all.is_empty() {
            return Err(wrong("the config names no records", "path").fix("add `path`, or `streams` with a name and a path each"));
        }
        for (at, stream) in all.iter().enumerate() {
            if stream.name.is_empty() || all[..at].iter().any(|earlier| earlier.name == stream.name) {
                return Err(wrong("two streams have one name, or one has none", "streams")
                    .with("stream", &stream.name)
                    .fix("give each stream a name of its own"));
            }
        }
        Ok(all)
    }

    /// What a config may say wrong that no type of a field shows.
    fn judge(&self, stream: &StreamConfig) -> Result<()> {
        stream.pagination.as_ref().unwrap_or(&self.pagination).judge()?;
        if let Some(cursor) = stream.cursor.as_ref().or(self.cursor.as_ref()) {
            cursor.judge()?;
        }
        let fields = self.params.iter().chain(&self.headers).chain(&stream.params);
        match fields.into_iter().find(|(_, value)| value.is_object() || value.is_array()) {
            Some((name, _)) => Err(wrong("a parameter or header has a value that is no text, number or boolean", "params")
                .with("name", name)
                .fix("write the value as the address or the header shows it")),
            None => Ok(()),
        }
    }

    fn stream(&self, stream: &StreamConfig, authenticator: &Value) -> Value {
        let mut params = self.params.clone();
        params.extend(stream.params.clone());
        let record_path = stream.record_path.as_ref().or(self.record_path.as_ref());
        let cursor = stream.cursor.as_ref().or(self.cursor.as_ref());
        let mut component = json!({
            "type": "DeclarativeStream",
            "name": stream.name,
            "primary_key": stream.key.as_ref().unwrap_or(&self.key),
            "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {}}},
            "retriever": {
                "type": "SimpleRetriever",
                "requester": {
                    "type": "HttpRequester",
                    "url_base": literal(&self.base_url),
                    "path": literal(stream.path.as_ref().unwrap_or(&stream.name)),
                    "http_method": "GET",
                    "request_parameters": texts(&params),
                    "request_headers": texts(&self.headers),
                    "authenticator": authenticator,
                },
                "record_selector": {
                    "type": "RecordSelector",
                    "extractor": {"type": "DpathExtractor", "field_path": record_path.map_or_else(Vec::new, |path| path.split('.').map(literal).collect::<Vec<_>>())},
                },
                "paginator": stream.pagination.as_ref().unwrap_or(&self.pagination).component(),
            },
        });
        component["retriever"]["requester"]["error_handler"] = self.auth.error_handler();
        if let Some(cursor) = cursor {
            component["incremental_sync"] = cursor.component();
        }
        component
    }
}

fn wrong(message: &'static str, field: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with("field", field)
}

fn last_part(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("records").to_owned()
}

/// A user's text is no template.
fn literal(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return text.to_owned();
    }
    format!("{{% raw %}}{text}{{% endraw %}}")
}

fn texts(fields: &Map<String, Value>) -> Value {
    let text = |value: &Value| match value {
        Value::String(text) => literal(text),
        other => other.to_string(),
    };
    fields.iter().map(|(name, value)| (literal(name), Value::from(text(value)))).collect::<Map<_, _>>().into()
}

fn option(name: &str) -> Value {
    json!({"type": "RequestOption", "inject_into": "request_parameter", "field_name": literal(name)})
}

impl CursorConfig {
    fn judge(&self) -> Result<()> {
        if self.field.is_empty() {
            return Err(wrong("the cursor names no field", "cursor.field").fix("name the field of a record that says when it was changed"));
        }
        match Dates::new(&self.format, &[]).read_text(&self.start) {
            Ok(_) => Ok(()),
            Err(_) => Err(wrong("the cursor's start is not written in its format", "cursor.start")
                .with("format", &self.format)
                .fix("write `start` as the API writes times, and `format` with Python's directives, such as %Y-%m-%d or %s")),
        }
    }
    fn component(&self) -> Value {
        let mut component = json!({
            "type": "DatetimeBasedCursor",
            "cursor_field": literal(&self.field),
            "datetime_format": self.format,
            "cursor_datetime_formats": [self.format, "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z"],
            "start_datetime": {"type": "MinMaxDatetime", "datetime": literal(&self.start), "datetime_format": self.format},
        });
        match &self.param {
            Some(name) => component["start_time_option"] = option(name),
            None => component["is_client_side_incremental"] = true.into(),
        }
        component
    }
}
