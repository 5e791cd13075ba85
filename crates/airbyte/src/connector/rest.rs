//! An API described in a few lines, as a manifest.

use linkspan_core::{Error, ErrorKind, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

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

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Auth {
    #[default]
    None,
    /// `Authorization: Bearer <token>`.
    Bearer { token: Secret },
    /// Name and password.
    Basic {
        username: String,
        #[serde(default)]
        password: Secret,
    },
    /// A key in a header (the default) or in a parameter.
    ApiKey {
        key: Secret,
        /// The header's or the parameter's name.
        name: String,
        #[serde(default)]
        place: KeyPlace,
    },
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KeyPlace {
    #[default]
    Header,
    Query,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Pagination {
    /// One request.
    #[default]
    None,
    /// Page numbers.
    Page {
        page_size: u32,
        #[serde(default = "page")]
        param: String,
        /// The parameter of the page's size; not sent without it.
        size_param: Option<String>,
        #[serde(default = "one")]
        first: u32,
    },
    /// How many records to skip.
    Offset {
        page_size: u32,
        #[serde(default = "offset")]
        param: String,
        size_param: Option<String>,
    },
    /// A token in each answer that asks for the next page.
    Cursor {
        /// Where the token is in the answer: names with dots between them.
        token_path: String,
        param: String,
    },
    /// The address of the next page, in each answer.
    NextUrl {
        /// Where the address is in the answer: names with dots between them.
        url_path: String,
    },
    /// The `Link` header's `next`.
    LinkHeader,
}

fn page() -> String {
    "page".into()
}
fn offset() -> String {
    "offset".into()
}
fn one() -> u32 {
    1
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
        let (authenticator, secrets) = self.auth.component();
        let streams = self.streams()?;
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

impl Auth {
    /// The component, and the config with the secrets that its templates name.
    fn component(&self) -> (Value, Value) {
        match self {
            Self::None => (json!({"type": "NoAuth"}), json!({})),
            Self::Bearer { token } => {
                (json!({"type": "BearerAuthenticator", "api_token": "{{ config['token'] }}"}), json!({"token": token.expose()}))
            }
            Self::Basic { username, password } => (
                json!({"type": "BasicHttpAuthenticator", "username": "{{ config['username'] }}", "password": "{{ config['password'] }}"}),
                json!({"username": username, "password": password.expose()}),
            ),
            Self::ApiKey { key, name, place } => {
                let place = match place {
                    KeyPlace::Header => "header",
                    KeyPlace::Query => "request_parameter",
                };
                let option = json!({"type": "RequestOption", "inject_into": place, "field_name": literal(name)});
                (
                    json!({"type": "ApiKeyAuthenticator", "api_token": "{{ config['key'] }}", "inject_into": option}),
                    json!({"key": key.expose()}),
                )
            }
        }
    }
}

fn option(name: &str) -> Value {
    json!({"type": "RequestOption", "inject_into": "request_parameter", "field_name": literal(name)})
}

/// A path into the answer, as an expression.
fn looked_up(path: &str) -> String {
    let keys: String = path.split('.').map(|key| format!(".get({}, {{}})", crate::python::quoted(key))).collect();
    format!("{{{{ response{keys} or '' }}}}")
}

impl Pagination {
    fn component(&self) -> Value {
        let sized = |mut paginator: Value, size_param: &Option<String>| {
            if let Some(name) = size_param {
                paginator["page_size_option"] = option(name);
            }
            paginator
        };
        match self {
            Self::None => json!({"type": "NoPagination"}),
            Self::Page { page_size, param, size_param, first } => {
                let strategy =
                    json!({"type": "PageIncrement", "page_size": page_size, "start_from_page": first, "inject_on_first_request": true});
                sized(json!({"type": "DefaultPaginator", "page_token_option": option(param), "pagination_strategy": strategy}), size_param)
            }
            Self::Offset { page_size, param, size_param } => {
                let strategy = json!({"type": "OffsetIncrement", "page_size": page_size, "inject_on_first_request": true});
                sized(json!({"type": "DefaultPaginator", "page_token_option": option(param), "pagination_strategy": strategy}), size_param)
            }
            Self::Cursor { token_path, param } => json!({
                "type": "DefaultPaginator",
                "page_token_option": option(param),
                "pagination_strategy": {"type": "CursorPagination", "cursor_value": looked_up(token_path)},
            }),
            Self::NextUrl { url_path } => json!({
                "type": "DefaultPaginator",
                "page_token_option": {"type": "RequestPath"},
                "pagination_strategy": {"type": "CursorPagination", "cursor_value": looked_up(url_path)},
            }),
            Self::LinkHeader => json!({
                "type": "DefaultPaginator",
                "page_token_option": {"type": "RequestPath"},
                "pagination_strategy": {"type": "CursorPagination", "cursor_value": "{{ headers.get('link', {}).get('next', {}).get('url', '') }}"},
            }),
        }
    }
}

impl CursorConfig {
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
