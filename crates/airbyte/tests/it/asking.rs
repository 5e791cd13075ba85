//! Retrievers beside a real server: what they ask, what they hand on, and what ends them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::StreamExt;
use linkspan_airbyte::{
    component::Component,
    record::Record,
    retrieve::{self, NoSchema, Retriever, Stream, Unordered},
    slice::Slice,
    wiring::{Build, Note, Sleeps},
};
use linkspan_core::{Clock, ErrorKind, Result};
use linkspan_http::Policy;
use serde_json::{Map, Value, json};

use crate::server::{self, Reply, Request, serve};

/// A clock that stands until it is moved.
pub struct Hand(AtomicI64);

impl Hand {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_710_504_000)))
    }
    pub fn move_on(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a year that there is")
    }
    /// Only timeouts wait here: they must not come true.
    async fn sleep(&self, _: std::time::Duration) {
        std::future::pending().await
    }
}

pub fn build(config: Value, clock: Arc<Hand>) -> Build {
    let mut build = Build::new(Arc::new(config), linkspan_http::client(Policy::Open, clock.clone()), clock);
    build.sleeps = Sleeps { scale: 0.0 };
    build
}

pub fn retriever(component: Value, transformations: Value, build: &Build) -> Result<Arc<dyn Retriever>> {
    let stream = json!({"type": "DeclarativeStream", "name": "items", "transformations": transformations});
    let of = Stream {
        name: "items",
        component: &Component::new(&stream, "stream")?,
        order: Arc::new(Unordered),
        schema: Arc::new(NoSchema),
        is_client_side_incremental: false,
        is_data_feed: false,
        has_state: false,
    };
    retrieve::build(&Component::new(&component, "stream.retriever")?, of, build)
}

pub async fn read(retriever: Arc<dyn Retriever>) -> Result<Vec<Record>> {
    let mut pages = retriever.pages(Arc::new(Slice::empty()));
    let mut records = Vec::new();
    while let Some(page) = pages.next().await {
        records.extend(page?);
    }
    Ok(records)
}

fn simple(base: &str, requester: Value, paginator: Value) -> Value {
    let mut made = json!({"type": "HttpRequester", "url_base": base, "path": "items"});
    made.as_object_mut().expect("an object").extend(requester.as_object().cloned().unwrap_or_default());
    json!({
        "type": "SimpleRetriever", "requester": made, "paginator": paginator,
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["data"]}},
    })
}

fn offsets(size: i64) -> Value {
    json!({
        "type": "DefaultPaginator", "pagination_strategy": {"type": "OffsetIncrement", "page_size": size},
        "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "offset"},
        "page_size_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "limit"},
    })
}

fn cursors(stop: Value) -> Value {
    json!({
        "type": "DefaultPaginator",
        "pagination_strategy": {"type": "CursorPagination", "cursor_value": "{{ response.next }}", "stop_condition": stop},
        "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "cursor"},
    })
}

fn numbered(request: &Request, name: &str) -> i64 {
    request.parameter(name).and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn untouched_records_stay_the_text_that_the_api_wrote() {
    let base = serve(|request| async move {
        let offset = numbered(&request, "offset");
        let rows: Vec<String> = (offset..(offset + 2).min(5)).map(|n| format!("{{ \"id\":{n},\"price\" : 1.50, \"x\":null }}")).collect();
        Reply { status: 200, headers: Vec::new(), body: format!("{{\"data\": [{}], \"n\": NULL}}", rows.join(",")).replace("NULL", "1") }
    })
    .await;
    let build = build(json!({}), Hand::new());
    let records = read(retriever(simple(&base, json!({}), offsets(2)), json!([]), &build).unwrap()).await.unwrap();
    assert_eq!(records.len(), 5);
    assert!(records.iter().all(Record::is_raw));
    assert_eq!(&*records[4].text(), br#"{ "id":4,"price" : 1.50, "x":null }"#);
    let added = json!([{"type": "AddFields", "fields": [{"path": ["at", "n"], "value": "{{ record['id'] + 1 }}"}]},
        {"type": "RemoveFields", "field_pointers": [["price"]]}]);
    let records = read(retriever(simple(&base, json!({}), offsets(2)), added, &build).unwrap()).await.unwrap();
    assert_eq!(*records[4].value(), json!({"id": 4, "x": null, "at": {"n": 5}}));
}

#[tokio::test]
async fn an_api_that_goes_round_in_circles_ends_with_an_error() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let base = serve(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let next = if request.parameter("cursor").as_deref() == Some("b") { "a" } else { "b" };
            Reply::json(json!({"data": [{"id": next}], "next": next}))
        }
    })
    .await;
    let build = build(json!({}), Hand::new());
    let circle = read(retriever(simple(&base, json!({}), cursors(Value::Null)), json!([]), &build).unwrap()).await.unwrap_err();
    assert_eq!(circle.kind(), ErrorKind::DataInvalid);
    assert!(asked.swap(0, Ordering::SeqCst) < 50);

    let base = serve(|_| async { Reply::json(json!({"data": [{"id": 1}, {"id": 2}]})) }).await;
    let deaf = read(retriever(simple(&base, json!({}), offsets(2)), json!([]), &build).unwrap()).await.unwrap_err();
    assert!(deaf.message().contains("again and again"), "{deaf}");
    assert!(deaf.suggested_fix().is_some());
}

#[tokio::test]
async fn every_kind_of_trouble_has_its_tries_and_then_an_end() {
    for (status, handler, requests) in [
        (500, Value::Null, 6),
        (429, Value::Null, 6),
        (404, Value::Null, 1),
        (503, json!({"type": "DefaultErrorHandler", "max_retries": 2}), 3),
        (
            500,
            json!({"type": "DefaultErrorHandler", "backoff_strategies": [{"type": "ConstantBackoffStrategy", "backoff_time_in_seconds": 9}]}),
            6,
        ),
        (
            404,
            json!({"type": "DefaultErrorHandler", "response_filters": [{"type": "HttpResponseFilter", "http_codes": [404], "action": "IGNORE"}]}),
            1,
        ),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let base = serve(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Reply::status(status) }
        })
        .await;
        let is_ignored = handler.to_string().contains("IGNORE");
        let build = build(json!({}), Hand::new());
        let got = read(retriever(simple(&base, json!({"error_handler": handler}), offsets(2)), json!([]), &build).unwrap()).await;
        assert_eq!(got.is_ok(), is_ignored, "{status}");
        assert_eq!(asked.load(Ordering::SeqCst), requests, "{status}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_and_a_host_that_is_not_there_is_no_hang() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let base = serve(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match n {
                0 => Reply::status(server::HANG_UP),
                _ => Reply::json(json!({"data": [{"id": 1}]})),
            }
        }
    })
    .await;
    let build = build(json!({}), Hand::new());
    let records = read(retriever(simple(&base, json!({}), Value::Null), json!([]), &build).unwrap()).await.unwrap();
    assert_eq!((records.len(), asked.load(Ordering::SeqCst)), (1, 2));
    let nobody = read(retriever(simple("http://127.0.0.1:1", json!({}), Value::Null), json!([]), &build).unwrap()).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::DataInvalid, "as the reference blames what it does not know");
}

#[tokio::test]
async fn no_error_and_no_note_shows_a_credential() {
    let said = Arc::new(Mutex::new(String::new()));
    let base =
        serve(|_| async { Reply { status: 403, headers: Vec::new(), body: r#"{"error": "token canary-1 is wrong"}"#.into() } }).await;
    let place = |into: &str| json!({"type": "RequestOption", "inject_into": into, "field_name": "key"});
    let mut build = build(json!({"key": "canary-1"}), Hand::new());
    let notes = said.clone();
    build.notes = Arc::new(move |note: Note| notes.lock().unwrap().push_str(&format!("{note:?}")));
    for into in ["request_parameter", "header", "body_json", "body_data"] {
        let auth = json!({"type": "ApiKeyAuthenticator", "api_token": "{{ config['key'] }}", "inject_into": place(into)});
        let requester = json!({"authenticator": auth, "http_method": "POST"});
        let refused = read(retriever(simple(&base, requester, Value::Null), json!([]), &build).unwrap()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert!(!format!("{refused:?}{}", refused.to_json()).contains("canary"), "{refused:?}");
    }
    let bad = json!({"authenticator": {"type": "BearerAuthenticator", "api_token": "canary-1\nx"}});
    let refused = read(retriever(simple(&base, bad, Value::Null), json!([]), &build).unwrap()).await.unwrap_err();
    assert!(!format!("{refused:?}").contains("canary"));
    assert!(!said.lock().unwrap().contains("canary"));
}

#[tokio::test]
async fn jobs_are_started_within_the_budget_polled_fetched_and_tidied_away() {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = log.clone();
    let base = serve(move |request| {
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let polls = {
            let mut lines = lines.lock().unwrap();
            lines.push(format!("{} {path}", request.method));
            lines.iter().filter(|l| **l == format!("GET {path}")).count()
        };
        async move {
            match (request.method.as_str(), path.as_str()) {
                ("POST", "/jobs") => Reply::json(json!({"id": "j1"})),
                ("GET", "/jobs/j1") if polls < 3 => Reply::json(json!({"state": "busy"})),
                ("GET", "/jobs/j1") => Reply::json(json!({"state": "done", "files": ["/f/1", "/f/2"]})),
                ("GET", "/f/1") => Reply { status: 200, headers: Vec::new(), body: "id,n\n1,a\n2,\n".into() },
                ("GET", "/f/2") => Reply { status: 200, headers: Vec::new(), body: "id,n\n3,c\n".into() },
                _ => Reply::status(200),
            }
        }
    })
    .await;
    let asks = |path: &str, method: &str| json!({"type": "HttpRequester", "url_base": base, "path": path, "http_method": method});
    let component = json!({
        "type": "AsyncRetriever",
        "status_mapping": {"running": ["busy"], "completed": ["done"], "failed": ["bad"], "timeout": ["late"]},
        "status_extractor": {"type": "DpathExtractor", "field_path": ["state"]},
        "download_target_extractor": {"type": "DpathExtractor", "field_path": ["files"]},
        "creation_requester": asks("jobs", "POST"),
        "polling_requester": asks("jobs/{{ creation_response['id'] }}", "GET"),
        "download_requester": asks("{{ download_target }}", "GET"),
        "delete_requester": asks("jobs/{{ creation_response['id'] }}", "DELETE"),
        "download_decoder": {"type": "CsvDecoder"},
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": []},
            "record_filter": {"type": "RecordFilter", "condition": "{{ record['id'] != '2' }}"}},
    });
    let build = build(json!({}), Hand::new());
    let retriever = retriever(component, json!([]), &build).unwrap();
    let slices = futures::stream::iter([Ok(Arc::new(Slice::empty()))]).boxed();
    let mut parts = retriever.clone().partitions(slices);
    let mut records = Vec::new();
    while let Some(part) = parts.next().await {
        let mut pages = retriever.clone().pages(part.unwrap());
        while let Some(page) = pages.next().await {
            records.extend(page.unwrap().into_iter().map(Record::into_value));
        }
    }
    assert_eq!(records, [json!({"id": "1", "n": "a"}), json!({"id": "3", "n": "c"})]);
    let log = log.lock().unwrap();
    let wanted = ["POST /jobs", "GET /jobs/j1", "GET /jobs/j1", "GET /jobs/j1", "GET /f/1", "GET /f/2", "DELETE /jobs/j1"];
    assert_eq!(*log, wanted);
    assert!(build.shared.jobs.take(), "the place was given back");
}

#[tokio::test]
async fn jobs_that_fail_are_tried_three_times_and_others_go_on() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let base = serve(move |request| {
        let is_bad = request.target.contains("bad");
        if request.method == "POST" && is_bad {
            count.fetch_add(1, Ordering::SeqCst);
        }
        async move {
            match request.method.as_str() {
                "POST" => Reply::json(json!({"id": if is_bad { "bad" } else { "good" }})),
                _ if request.target.contains("/file") => Reply::json(json!([{"ok": true}])),
                _ => Reply::json(json!({"state": if is_bad { "bad" } else { "done" }})),
            }
        }
    })
    .await;
    let asks = |path: &str, method: &str| json!({"type": "HttpRequester", "url_base": base, "path": path, "http_method": method});
    let component = json!({
        "type": "AsyncRetriever",
        "status_mapping": {"running": [], "completed": ["done"], "failed": ["bad"], "timeout": []},
        "status_extractor": {"type": "DpathExtractor", "field_path": ["state"]},
        "creation_requester": asks("jobs/{{ stream_partition.kind }}", "POST"),
        "polling_requester": asks("jobs/{{ creation_response['id'] }}", "GET"),
        "download_requester": asks("file", "GET"),
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": []}},
    });
    let build = build(json!({}), Hand::new());
    let retriever = retriever(component, json!([]), &build).unwrap();
    let of = |kind: &str| Ok(Arc::new(Slice::of_partition([("kind".to_owned(), kind.into())].into_iter().collect::<Map<_, _>>())));
    let parts: Vec<_> = retriever.clone().partitions(futures::stream::iter([of("bad"), of("good")]).boxed()).collect().await;
    assert_eq!(parts.iter().filter(|p| p.is_ok()).count(), 1);
    assert!(parts.last().is_some_and(|p| p.is_err()), "what failed is told at the end");
    assert_eq!(started.load(Ordering::SeqCst), 3);
}
