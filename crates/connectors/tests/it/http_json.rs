//! A JSON array over HTTP: the suite of a source against a small server, and every answer that is not the one that was hoped for.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use linkspan_connectors::http_json;
use linkspan_core::{ConnectorType, Context, ErrorKind, MASK, Retry, StreamName, SystemClock};
use linkspan_http::Policy;
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    source::{Mutated, Mutation, SourceHarness},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers every request with what `answer` makes of its head, and hangs up.
async fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await?);
                }
                socket.write_all(&answer(&String::from_utf8_lossy(&head).to_lowercase())).await
            });
        }
    });
    base
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into()
}

fn world(policy: Policy) -> Context {
    Context { http: linkspan_http::client(policy, Arc::new(SystemClock)), ..Context::real() }
}

/// One URL is one stream: whatever the suite seeds takes the place of what was there.
struct Api {
    rows: Arc<Mutex<Vec<StandardRow>>>,
    base: String,
}

impl Api {
    async fn start() -> Self {
        let rows = Arc::<Mutex<Vec<StandardRow>>>::default();
        let served = rows.clone();
        let base = serve(move |head| match head.split(' ').nth(1) {
            Some("/rows.json") if head.contains("\r\nauthorization: bearer right\r\n") => {
                reply("200 OK", "", &array(&served.lock().unwrap()))
            }
            Some("/rows.json") => reply("401 Unauthorized", "", "{}"),
            Some("/forbidden") => reply("403 Forbidden", "", "{}"),
            _ => reply("404 Not Found", "", "{}"),
        });
        Self { rows, base: base.await }
    }
    fn at(base: &str, path: &str, token: &str) -> Value {
        json!({"url": format!("{base}{path}"), "headers": {"Authorization": format!("Bearer {token}")}})
    }
}

fn array(rows: &[StandardRow]) -> String {
    let row = |r: &StandardRow| {
        let name = json!(r.name);
        format!(r#"{{"id":{},"name":{name},"amount":{},"flag":{},"updated_at":"{}"}}"#, r.id, r.amount(), r.flag, r.updated_at_text())
    };
    format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(","))
}

#[async_trait]
impl SourceHarness for Api {
    fn connector_type(&self) -> ConnectorType {
        http_json::connector_type()
    }
    fn config(&self) -> Value {
        Self::at(&self.base, "/rows.json", "right")
    }
    fn context(&self) -> Context {
        world(Policy::Open)
    }
    fn stream_name(&self, _: &str) -> StreamName {
        StreamName::new(None, "rows")
    }
    fn has_key(&self) -> bool {
        false
    }
    fn cursor(&self) -> Option<&'static str> {
        None
    }
    async fn seed(&self, _: &str, rows: &[StandardRow]) {
        *self.rows.lock().unwrap() = rows.to_vec();
    }
    async fn mutate(&self, _: &str, mutation: Mutation) -> Mutated {
        let Mutation::Insert(rows) = mutation else { return Mutated::Unsupported };
        self.rows.lock().unwrap().extend(rows);
        Mutated::Done
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        vec![
            BadConfig::new(Case::WrongPassword, Self::at(&self.base, "/rows.json", "wrong")),
            BadConfig::new(Case::NoRights, Self::at(&self.base, "/forbidden", "right")),
            BadConfig::new(Case::Missing, Self::at(&self.base, "/nowhere.json", "right")),
            BadConfig::new(Case::Unreachable, json!({"url": "http://127.0.0.1:1/rows.json"})),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_json_is_a_well_behaved_source() {
    linkspan_testkit::source::suite(Api::start().await).await;
}

#[tokio::test]
async fn every_wrong_answer_says_what_it_is_and_what_to_do() {
    let secret = "hunter2-canary";
    let base = serve(move |head| match head.split(' ').nth(1).unwrap_or_default().trim_start_matches("/x/") {
        "500" => reply("500 Internal Server Error", "", secret),
        "429" => reply("429 Too Many Requests", "", secret),
        "html" => reply("200 OK", "content-type: text/html\r\n", "<!doctype html><p>hunter2-canary"),
        "object" => reply("200 OK", "", r#"{"data":[{"id":"hunter2-canary"}]}"#),
        "number" => reply("200 OK", "", r#"[{"id":1},"hunter2-canary"]"#),
        "empty" => reply("200 OK", "", ""),
        "cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n[{\"id\":\"hunter2-canary\"".to_vec(),
        "cut-without-length" => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[{\"id\":\"hunter2-canary\"".to_vec(),
        "huge" => reply("200 OK", "", &format!("[\"{}\"]", "x".repeat(1 << 20))),
        "inside" => reply("302 Found", "location: http://10.0.0.1/hunter2-canary\r\n", ""),
        "endless" => reply("302 Found", "location: endless\r\n", ""),
        "nowhere" => reply("302 Found", "", ""),
        other => panic!("{other} was not asked for"),
    })
    .await;
    let guarded = world(Policy::Guarded { allow: vec!["127.0.0.0/8".parse().unwrap()] });
    use ErrorKind::*;
    for (path, kind, retry, words) in [
        ("500", Unavailable, Retry::Backoff, "run again later"),
        ("429", RateLimited, Retry::Backoff, "read less often"),
        ("html", DataInvalid, Retry::Never, "browser"),
        ("object", DataInvalid, Retry::Never, "record_path"),
        ("number", DataInvalid, Retry::Never, "must be an object"),
        ("empty", Unavailable, Retry::Backoff, "run again later"),
        ("cut", Unavailable, Retry::Backoff, "try again later"),
        ("cut-without-length", Unavailable, Retry::Backoff, "run again later"),
        ("huge", DataInvalid, Retry::Never, "max_mb"),
        ("inside", PermissionDenied, Retry::Never, "public host"),
        ("endless", Unavailable, Retry::Backoff, "browser"),
        ("nowhere", Unavailable, Retry::Backoff, "check the URL"),
    ] {
        let config = json!({"url": format!("{base}/x/{path}"), "max_mb": 1, "headers": {"X-Key": secret}});
        let e = http_json::connector_type().open(config, guarded.clone()).unwrap().check().await.unwrap_err();
        assert_eq!((e.kind(), e.retry_hint()), (kind, retry), "{path}: {e:?}");
        assert!(e.suggested_fix().is_some_and(|fix| fix.contains(words)), "{path}: {e:?}");
        assert!(!format!("{e:?} {:?} {}", e.causes(), e.to_json()).contains(secret), "{path}: {e:?}");
    }
}

#[tokio::test]
async fn headers_stay_with_their_host_when_a_redirect_is_followed() {
    let other = serve(|head| reply("200 OK", "", if head.contains("x-key") { "[{\"leaked\":1}]" } else { "[{\"kept\":1}]" })).await;
    let base = serve(move |_| reply("301 Moved Permanently", &format!("location: {other}/users.json\r\n"), "")).await;
    let config = json!({"url": base, "headers": {"X-Key": "k"}});
    let source = http_json::connector_type().open(config, world(Policy::Open)).unwrap().source().unwrap();
    assert_eq!(source.discover().await.unwrap()[0].schema.field(0).name(), "kept");
}

#[tokio::test]
async fn a_stream_has_the_last_word_of_its_url() {
    let base = serve(|_| reply("200 OK", "", "[]")).await;
    for (path, name) in [
        ("/users.json", "users"),
        ("/v1/users/?page=1&of=a/b.c", "users"),
        ("/v1/all%20users.v2.json", "all users"),
        ("/.json", "json"),
        ("", "records"),
    ] {
        let kind = http_json::connector_type();
        let config = (kind.spec.url.unwrap().config)(&format!("http_json:{base}{path}")).unwrap();
        let streams = kind.open(config, world(Policy::Open)).unwrap().source().unwrap().discover().await.unwrap();
        assert_eq!(streams.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(), [name], "{path}");
    }
}

#[test]
fn a_wrong_config_is_refused_when_it_is_opened_and_shows_no_header() {
    let kind = http_json::connector_type();
    let url = "https://h/a.json";
    for (config, field) in [
        (json!({"url": "users.json"}), "url"),
        (json!({"url": "ftp://h/a.json"}), "url"),
        (json!({"url": "https://u:canary@h/a.json"}), "url"),
        (json!({"url": url, "max_mb": 0}), "max_mb"),
        (json!({"url": url, "headers": {"X-Key": "canary\n"}}), "headers"),
        (json!({"url": url, "headers": {"canary: 1": ""}}), "headers"),
    ] {
        let e = kind.open(config, Context::real()).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
        assert!(e.context().iter().any(|(k, v)| *k == "field" && v == field) && e.suggested_fix().is_some(), "{e:?}");
        assert!(!format!("{e:?} {:?}", e.causes()).contains("canary"), "{e:?}");
    }
    assert_eq!(kind.redact(&json!({"url": url, "headers": {"X-Key": "canary"}}))["headers"], MASK);
}
