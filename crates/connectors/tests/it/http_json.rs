//! JSON over HTTP, from a server of the test's own.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use linkspan_connectors::http_json;
use linkspan_core::{ConnectorType, Context, ErrorKind, StreamName};
use linkspan_http::{Policy, Timeouts, client_with};
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    source::{Mutated, Mutation, SourceHarness, suite},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Pages = Arc<Mutex<BTreeMap<String, String>>>;

/// Answers `/name` with that page; `/401` with that status.
struct Web {
    address: SocketAddr,
    pages: Pages,
    hole: TcpListener,
    work: tokio::task::JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Web {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, pages) = (listener.local_addr().unwrap(), Pages::default());
        let served = pages.clone();
        let work = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 8192];
                    let mut n = 0;
                    while !head[..n].windows(4).any(|w| w == b"\r\n\r\n") {
                        match socket.read(&mut head[n..]).await {
                            Ok(more @ 1..) => n += more,
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head[..n]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
                    let page = served.lock().unwrap().get(&path).cloned();
                    let (status, body) = match (path.parse::<u16>(), page) {
                        (Ok(status), _) => (status, String::new()),
                        (_, Some(page)) => (200, page),
                        _ => (404, String::new()),
                    };
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                    socket.write_all(answer.as_bytes()).await.ok();
                });
            }
        });
        Self { address, pages, hole: TcpListener::bind("127.0.0.1:0").unwrap(), work }
    }
    fn put(&self, name: &str, rows: &[Value]) {
        self.pages.lock().unwrap().insert(name.into(), json!(rows).to_string());
    }
    fn one(&self, path: &str) -> Value {
        json!({"streams": {"s": format!("http://{}/{path}", self.address)}, "key": ["id"]})
    }
}

fn object(row: &StandardRow) -> Value {
    let amount: f64 = row.amount().parse().unwrap();
    json!({"id": row.id, "name": row.name, "amount": amount, "flag": row.flag, "updated_at": row.updated_at_text()})
}

#[async_trait]
impl SourceHarness for Web {
    fn connector_type(&self) -> ConnectorType {
        http_json::connector_type()
    }
    fn config(&self) -> Value {
        let names: Vec<String> = self.pages.lock().unwrap().keys().cloned().collect();
        let streams: BTreeMap<&String, String> = names.iter().map(|n| (n, format!("http://{}/{n}", self.address))).collect();
        json!({"streams": streams, "key": ["id"]})
    }
    fn context(&self) -> Context {
        let context = Context::real();
        let timeouts = Timeouts { connect: Duration::from_secs(2), answer: Duration::from_secs(2), idle: Duration::from_secs(2) };
        Context { http: client_with(Policy::Open, context.clock.clone(), timeouts), ..context }
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(None, stream)
    }
    fn cursor(&self) -> Option<&'static str> {
        None
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        self.put(stream, &rows.iter().map(object).collect::<Vec<_>>());
    }
    async fn mutate(&self, _: &str, _: Mutation) -> Mutated {
        Mutated::Unsupported
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        vec![
            BadConfig::new(Case::WrongPassword, self.one("401")),
            BadConfig::new(Case::NoRights, self.one("403")),
            BadConfig::new(Case::Missing, self.one("nowhere")),
            BadConfig::new(Case::Unreachable, json!({"streams": {"s": "http://127.0.0.1:1/s"}})),
            BadConfig::new(Case::BlackHole, json!({"streams": {"s": format!("http://{}/s", self.hole.local_addr().unwrap())}})),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_json_is_a_well_behaved_source() {
    suite(Web::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_array_of_objects_is_named_and_not_shown() {
    let web = Web::start().await;
    for page in ["{\"canary\": 1}", "[1, \"canary\"]", "<html>canary</html>", "[{\"a\": 1}, {\"a\": {\"canary\": 2}}]", ""] {
        web.pages.lock().unwrap().insert("page".into(), page.into());
        let e = http_json::connector_type().open(web.one("page"), web.context()).unwrap().check().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DataInvalid, "{page}: {e:?}");
        assert!(e.suggested_fix().is_some() && !format!("{e:?} {:?}", e.causes()).contains("canary"), "{page}: {e:?}");
    }
}
