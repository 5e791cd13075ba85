//! Traces of the whole program at a collector: what hangs below what, what they say, and that nobody waits for them.

use std::time::{Duration, Instant};

use linkspan_testkit::process::Signal;

use crate::{
    collector::{Collector, Received},
    hub::Hub,
    program::{Place, said},
};

const LONG: Duration = Duration::from_secs(60);
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn attribute<'a>(span: &'a Received, name: &str) -> Option<&'a str> {
    span.attributes.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
}

fn named<'a>(spans: &'a [Received], name: &str) -> Vec<&'a Received> {
    spans.iter().filter(|s| s.name == name).collect()
}

#[test]
fn a_servers_requests_tests_and_runs_are_traced_and_the_last_spans_leave_when_it_ends() {
    let (place, collector) = (Place::new(), Collector::start());
    let mut command = place.command(&["serve", "--port", "0", "--output", "json", "--otlp", &collector.url]);
    command.env("LINKSPAN_ADMIN_KEY", "admin-key-0123456789-0123456789-0123456789").env("OTEL_SERVICE_NAME", "hub-of-test");
    let mut hub = Hub::started(&mut command);
    let headers = [
        ("Authorization", "Bearer admin-key-0123456789-0123456789-0123456789"),
        ("Content-Type", "application/json"),
        ("traceparent", CALLER),
    ];
    let call = |method: &str, path: &str, body: &str| {
        let answer = hub.call(method, path, &headers, body);
        assert!(answer.status < 300, "{answer:?}");
        answer.json()
    };
    call("POST", "/v1/connectors", r#"{"name": "made", "type": "faker", "config": {"customers": 300}}"#);
    call("POST", "/v1/connectors", r#"{"name": "shop", "type": "sqlite", "config": {"path": "shop.db"}}"#);
    call("POST", "/v1/connectors/made/test", "");
    call("POST", "/v1/connections", r#"{"name": "copy", "from": "made", "streams": ["customers"], "dest": "shop", "mode": "full"}"#);
    let run = call("POST", "/v1/connections/copy/run", "")["id"].as_str().unwrap().to_owned();
    let began = Instant::now();
    while call("GET", &format!("/v1/runs/{run}"), "")["status"] != "completed" {
        assert!(began.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(hub.call("GET", "/metrics", &headers, "").text.contains("linkspan_trace_spans_total{fate=\"dropped\"} 0"));
    hub.process.signal(Signal::Terminate);
    assert_eq!(hub.process.wait(LONG).code(), Some(0));

    let spans = collector.spans();
    let heard = collector.heard();
    assert!(heard[0].head.starts_with("POST /v1/traces HTTP/1.1") && String::from_utf8_lossy(&heard[0].body).contains("hub-of-test"));
    let created = named(&spans, "POST /v1/connectors");
    assert_eq!((created.len(), created[0].kind), (2, 2), "{spans:#?}");
    for (name, value) in
        [("http.route", "/v1/connectors"), ("http.response.status_code", "201"), ("linkspan.operation", "connectors.create")]
    {
        assert_eq!(attribute(created[0], name), Some(value));
    }
    assert!(created.iter().all(|s| s.trace[0] == 0x0a && s.parent[7] == 0x31 && s.from <= s.to), "below the caller's span");
    let test = named(&spans, "connector test")[0];
    assert_eq!(test.parent, named(&spans, "POST /v1/connectors/{connector}/test")[0].id);
    let (attempt, run_span) = (named(&spans, "attempt")[0], named(&spans, "run")[0]);
    assert_eq!((attribute(attempt, "linkspan.run.id"), attribute(attempt, "linkspan.run.status")), (Some(run.as_str()), Some("completed")));
    assert_eq!((&run_span.parent, &run_span.trace), (&attempt.id, &attempt.trace));
    assert_eq!((attribute(run_span, "linkspan.rows.read"), attribute(run_span, "linkspan.rows.written")), (Some("300"), Some("300")));
    let lanes = named(&spans, "lane");
    let commits = named(&spans, "commit");
    assert!(!lanes.is_empty() && lanes.iter().all(|l| l.parent == run_span.id && !l.failed), "{lanes:#?}");
    assert!(!commits.is_empty() && commits.iter().all(|c| lanes.iter().any(|l| l.id == c.parent)), "{commits:#?}");
    let written: u64 = commits.iter().filter_map(|c| attribute(c, "linkspan.rows.written")?.parse::<u64>().ok()).sum();
    assert_eq!(written, 300);
}

#[test]
fn a_sync_is_traced_too_and_what_failed_says_its_kind() {
    let (place, collector) = (Place::new(), Collector::start());
    let sync = ["sync", "faker:?customers=50", "sqlite:./shop.db", "--stream", "customers"];
    said(place.command(&sync).env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)).succeeds();
    let spans = collector.spans();
    let run = named(&spans, "run")[0];
    assert_eq!((attribute(run, "linkspan.rows.written"), run.failed), (Some("50"), false));

    let mut failing = place.command(&sync);
    failing.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url).env("LINKSPAN_FAILPOINTS", "pipe.commit.before=full");
    assert_ne!(said(&mut failing).code, 0);
    let spans = collector.spans();
    for name in ["run", "lane", "commit"] {
        let last = *named(&spans, name).last().unwrap();
        assert!(last.failed && attribute(last, "error.type") == Some("storage_full"), "{last:?}");
    }
}

#[test]
fn a_collector_that_is_not_there_or_never_answers_costs_a_run_nothing_but_its_traces() {
    let place = Place::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (n, address) in [silent.local_addr().unwrap(), gone].into_iter().enumerate() {
        let url = format!("http://{address}");
        let began = Instant::now();
        place.run(&["sync", "faker:?customers=50", &format!("sqlite:./{n}.db"), "--stream", "customers", "--otlp", &url]).succeeds();
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!(place.sqlite(&format!("{n}.db"), "select count(*) from customers"), "50");
    }
}

#[test]
fn a_wrong_setting_is_named_before_anything_is_done() {
    let place = Place::new();
    let wrong = place.run(&["sync", "faker:", "sqlite:./x.db", "--otlp", "collector:4318"]);
    wrong.refuses(2, &["the address for traces is no URL"]);
    let mut grpc = place.command(&["sync", "faker:", "sqlite:./x.db"]);
    let grpc = grpc.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    said(grpc).refuses(2, &["OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"]);
    assert!(!place.path("x.db").exists());
}
