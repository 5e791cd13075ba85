//! Manifests as connectors of the house: the suite of a source, on an API that a small server speaks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use linkspan_airbyte::connector;
use linkspan_core::{ConnectorType, Context, Cursor, StreamName, SystemClock};
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    source::{Mutated, Mutation, SourceHarness},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

type Tables = Arc<Mutex<BTreeMap<String, Vec<StandardRow>>>>;

const PAGE: usize = 50;

/// `GET /streams`, and `GET /rows/NAME?page=N&since=TIME`.
async fn serve(tables: Tables) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, tables.clone()));
        }
    });
    port
}

async fn answer(socket: TcpStream, tables: Tables) -> std::io::Result<()> {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let target = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let (status, body) = match reply(&target, &tables) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", json!({"error": "no such path"})),
    };
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    write.write_all((head + &body).as_bytes()).await
}

fn reply(target: &str, tables: &Tables) -> Option<Value> {
    let tables = tables.lock().expect("no test panics while it holds the tables");
    if target.starts_with("/streams") {
        return Some(tables.keys().map(|name| json!({"name": name})).collect());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let rows = tables.get(path.strip_prefix("/rows/")?)?;
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(|v| v.replace("%3A", ":"));
    let page: usize = parameter("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let since = parameter("since").unwrap_or_default();
    let mut rows: Vec<&StandardRow> = rows.iter().filter(|row| row.updated_at_text() >= since).collect();
    rows.sort_by_key(|row| (row.updated_at, row.id));
    let amount = |row: &StandardRow| row.amount().parse::<f64>().expect("an amount is a number");
    let shown = |row: &&StandardRow| json!({"id": row.id, "name": row.name, "amount": amount(row), "flag": row.flag, "updated_at": row.updated_at_text()});
    Some(json!({"data": rows.iter().skip((page - 1) * PAGE).take(PAGE).map(shown).collect::<Vec<_>>()}))
}

const MANIFEST: &str = r#"
version: 6.0.0
type: DeclarativeSource
check: {type: CheckDynamicStream, stream_count: 1}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [url]
    properties: {url: {type: string}, token: {type: string, airbyte_secret: true}}
dynamic_streams:
  - type: DynamicDeclarativeStream
    components_resolver:
      type: HttpComponentsResolver
      retriever:
        type: SimpleRetriever
        requester: {type: HttpRequester, url_base: "{{ config['url'] }}", path: /streams, http_method: GET}
        record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
      components_mapping:
        - {type: ComponentMappingDefinition, field_path: [name], value: "{{ components_values['name'] }}"}
        - {type: ComponentMappingDefinition, field_path: [retriever, requester, path], value: "/rows/{{ components_values['name'] }}"}
    stream_template:
      type: DeclarativeStream
      name: ""
      primary_key: [id]
      schema_loader:
        type: InlineSchemaLoader
        schema:
          type: object
          properties:
            id: {type: integer}
            name: {type: [string, "null"]}
            amount: {type: number}
            flag: {type: boolean}
            updated_at: {type: string, format: date-time}
      retriever:
        type: SimpleRetriever
        requester: {type: HttpRequester, url_base: "{{ config['url'] }}", path: "", http_method: GET}
        record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
        paginator:
          type: DefaultPaginator
          page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
          pagination_strategy: {type: PageIncrement, page_size: 50, start_from_page: 1}
      incremental_sync:
        type: DatetimeBasedCursor
        cursor_field: updated_at
        datetime_format: "%Y-%m-%dT%H:%M:%SZ"
        start_datetime: "2000-01-01T00:00:00Z"
        start_time_option: {type: RequestOption, inject_into: request_parameter, field_name: since}
"#;

struct Api {
    folder: tempfile::TempDir,
    tables: Tables,
    port: u16,
}

impl Api {
    async fn start() -> Self {
        let tables = Tables::default();
        let port = serve(tables.clone()).await;
        let folder = tempfile::tempdir().expect("a folder for the test");
        std::fs::write(folder.path().join("manifest.yaml"), MANIFEST).expect("the folder is there");
        Self { folder, tables, port }
    }
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("manifest.yaml")
    }
}

fn world() -> Context {
    let mut context = Context::real();
    context.http = linkspan_http::client(linkspan_http::Policy::Open, Arc::new(SystemClock));
    context
}

#[async_trait]
impl SourceHarness for Api {
    fn connector_type(&self) -> ConnectorType {
        connector::manifest_type()
    }
    fn config(&self) -> Value {
        json!({"path": self.path(), "config": {"url": self.url(), "token": "canary"}})
    }
    fn context(&self) -> Context {
        world()
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(None, stream)
    }
    fn cursor(&self) -> Option<&'static str> {
        Some("updated_at")
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        self.tables.lock().expect("no test panics while it holds the tables").insert(stream.to_owned(), rows.to_vec());
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        let mut tables = self.tables.lock().expect("no test panics while it holds the tables");
        let table = tables.entry(stream.to_owned()).or_default();
        match mutation {
            Mutation::Insert(rows) => table.extend(rows),
            Mutation::Update(rows) => {
                table.retain(|row| rows.iter().all(|new| new.id != row.id));
                table.extend(rows);
            }
            Mutation::Delete(ids) => table.retain(|row| !ids.contains(&row.id)),
        }
        Mutated::Done
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        vec![
            BadConfig::new(Case::Missing, json!({"path": self.folder.path().join("no.yaml"), "config": {"url": self.url()}})),
            BadConfig::new(Case::Unreachable, json!({"path": self.path(), "config": {"url": "http://127.0.0.1:1"}})),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_a_well_behaved_source() {
    let api = Api::start().await;
    api.seed("first", &[]).await;
    linkspan_testkit::source::suite(api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_described_in_a_few_lines_shows_its_columns() {
    let api = Api::start().await;
    api.seed("orders", &StandardRow::range(1..120)).await;
    let config = json!({
        "base_url": api.url(), "path": "/rows/orders", "record_path": "data", "key": ["id"],
        "pagination": {"type": "page", "page_size": 50},
        "cursor": {"field": "updated_at", "param": "since", "start": "2000-01-01T00:00:00Z"},
    });
    let open = connector::rest_type().open(config, world()).unwrap();
    open.check().await.unwrap();
    let streams = open.source().unwrap().discover().await.unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!((&*streams[0].name.name, streams[0].key.as_slice()), ("orders", &["id".to_owned()][..]));
    assert_eq!(streams[0].cursor, Cursor::SourceDefined);
    let columns: Vec<String> = streams[0].schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
    assert_eq!(columns, ["id:Int64", "name:Utf8", "amount:Float64", "flag:Boolean", "updated_at:Utf8"]);
}

#[tokio::test]
async fn python_is_refused_with_its_place_and_no_token_is_spent_where_none_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |text: String| {
        let path = folder.path().join("m.yaml");
        std::fs::write(&path, text).unwrap();
        connector::manifest_type().open(json!({"path": path}), world()).unwrap().check().await.unwrap_err()
    };
    let custom = MANIFEST.replace(
        "{type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}",
        "{type: RecordSelector, extractor: {type: CustomRecordExtractor, class_name: a.B}}",
    );
    let error = check(custom).await;
    assert_eq!(error.kind(), linkspan_core::ErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("dynamic_streams[0].stream_template.retriever.record_selector.extractor"), "{error}");
    let rotating = MANIFEST.replace(
        "http_method: GET}",
        "http_method: GET, authenticator: {type: OAuthAuthenticator, client_id: i, client_secret: s, token_refresh_endpoint: 'http://127.0.0.1:1/', refresh_token_updater: {}}}",
    );
    let path = folder.path().join("m.yaml");
    std::fs::write(&path, rotating).unwrap();
    let config = json!({"path": path, "config": {"url": "http://127.0.0.1:1"}});
    let error = connector::manifest_type().open(config, world()).unwrap().check().await.unwrap_err();
    assert_eq!(error.kind(), linkspan_core::ErrorKind::Unsupported, "{error:?}");
    assert!(error.suggested_fix().unwrap().contains("linkspan connectors create"), "{error:?}");
}
