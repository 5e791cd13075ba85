//! A server that is killed or stopped while a run goes, what the next one makes of it, and what `/metrics` says of real runs.

use std::time::{Duration, Instant};

use linkspan_testkit::process::Signal;
use serde_json::Value;

use crate::{
    hub::{Answer, Hub},
    program::Place,
};

/// The longest that a run may lie dead after a restart.
const RECOVERY: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);

/// A server whose admin calls it.
struct Owned {
    hub: Hub,
    key: String,
}

impl Owned {
    fn start(place: &Place) -> Self {
        let hub = Hub::start(place);
        let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
        Self { hub, key: format!("Bearer {}", key.trim()) }
    }
    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let answer = self.hub.call(method, path, &[("Authorization", &self.key), ("Content-Type", "application/json")], body);
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer
    }
    /// A copy of so many made-up customers into `files/shop.db`, and its first run.
    fn copy(&self, rows: u64) -> String {
        self.call("POST", "/v1/connectors", &format!(r#"{{"name": "made", "type": "faker", "config": {{"customers": {rows}}}}}"#));
        self.call("POST", "/v1/connectors", r#"{"name": "shop", "type": "sqlite", "config": {"path": "shop.db"}}"#);
        let connection = r#"{"name": "copy", "from": "made", "streams": ["customers"], "dest": "shop", "mode": "full", "write": "replace",
            "retry": {"attempts": 5}}"#;
        self.call("POST", "/v1/connections", connection);
        self.run()
    }
    fn run(&self) -> String {
        self.call("POST", "/v1/connections/copy/run", "").json()["id"].as_str().unwrap().to_owned()
    }
    fn see(&self, run: &str) -> Value {
        self.call("GET", &format!("/v1/runs/{run}"), "").json()
    }
    /// Looks at the run until it is as wanted.
    fn until(&self, run: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let seen = self.see(run);
            if wanted(&seen) {
                return seen;
            }
            assert!(started.elapsed() < within, "the run is still {seen:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    fn metrics(&self) -> String {
        self.call("GET", "/metrics", "").text
    }
}

fn is_over(run: &Value) -> bool {
    matches!(run["status"].as_str(), Some("completed" | "failed" | "cancelled"))
}

/// The value of a sample, by its name and labels as they stand in the text.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn interrupted(signal: Signal) {
    const ROWS: u64 = 60_000;
    let place = Place::new();
    let mut first = Owned::start(&place);
    let run = first.copy(ROWS);
    first.until(&run, LONG, |seen| seen["status"] == "running");
    first.hub.process.signal(signal);
    let ended = first.hub.process.wait(RECOVERY + Duration::from_secs(5));
    if signal == Signal::Terminate {
        assert_eq!(ended.code(), Some(0), "{}", first.hub.process.text());
    }
    drop(first);

    let next = Owned::start(&place);
    let back = next.until(&run, RECOVERY, |seen| seen["status"] == "running" || is_over(seen));
    let over = next.until(&run, LONG, is_over);
    assert_eq!(over["status"], "completed", "{back:#}\n{over:#}");
    if signal == Signal::Kill {
        assert_eq!(over["attempt"], 2, "it was killed while it ran: {over:#}");
    }
    drop(next);
    assert_eq!(place.sqlite("data/files/shop.db", "select count(*), count(distinct id) from customers"), format!("{ROWS}|{ROWS}"));
}

#[test]
fn a_run_of_a_killed_server_goes_on_in_the_next_and_its_rows_are_whole() {
    interrupted(Signal::Kill);
}

#[test]
fn a_run_of_a_stopped_server_goes_on_in_the_next_and_its_rows_are_whole() {
    interrupted(Signal::Terminate);
}

#[test]
fn metrics_say_what_runs_did_and_name_nobody() {
    let place = Place::new();
    let hub = Owned::start(&place);
    let run = hub.copy(500);
    assert_eq!(hub.until(&run, LONG, is_over)["status"], "completed");
    let metrics = hub.metrics();
    for (name, value) in [
        ("linkspan_run_attempts_total{status=\"completed\"}", 1.0),
        ("linkspan_rows_total{fate=\"read\"}", 500.0),
        ("linkspan_rows_total{fate=\"written\"}", 500.0),
        ("linkspan_rows_total{fate=\"rejected\"}", 0.0),
        ("linkspan_run_lag_seconds_count", 1.0),
        ("linkspan_queue_depth", 0.0),
        ("linkspan_http_requests_total{operation=\"connectors.create\",status=\"2xx\"}", 2.0),
    ] {
        assert_eq!(sample(&metrics, name), Some(value), "{name}\n{metrics}");
    }
    assert!(sample(&metrics, "linkspan_bytes_read_total").unwrap() > 500.0, "{metrics}");
    let again = hub.run();
    assert_eq!(hub.until(&again, LONG, is_over)["status"], "completed");
    let metrics = hub.metrics();
    assert_eq!(sample(&metrics, "linkspan_rows_total{fate=\"read\"}"), Some(1000.0), "{metrics}");
    assert_eq!(sample(&metrics, "linkspan_run_attempts_total{status=\"completed\"}"), Some(2.0));
    assert_eq!(sample(&metrics, "linkspan_runs_active"), Some(0.0));
    for name in ["copy", "shop", "made", "customers"] {
        assert!(!metrics.contains(name), "{name}\n{metrics}");
    }
    assert_eq!(hub.hub.get("/metrics").status, 401);
}

/// A machine that slept: what came due meanwhile is started once at most, what comes due afterwards is started, and nobody takes the data
/// dir over while its owner still holds it.
#[test]
fn a_frozen_server_goes_on_and_no_tick_fires_twice() {
    let place = Place::new();
    let mut hub = Owned::start(&place);
    hub.call("POST", "/v1/connectors", r#"{"name": "made", "type": "faker", "config": {"customers": 1}}"#);
    hub.call("POST", "/v1/connectors", r#"{"name": "shop", "type": "sqlite", "config": {"path": "shop.db"}}"#);
    let connection = r#"{"name": "often", "from": "made", "streams": ["customers"], "dest": "shop", "mode": "full", "write": "replace",
        "schedule": "every 1s"}"#;
    hub.call("POST", "/v1/connections", connection);
    let done = |hub: &Owned| {
        let all = hub.call("GET", "/v1/runs?limit=1000", "").json();
        let ticks = all["runs"].as_array().unwrap().iter().filter(|r| r["status"] == "completed");
        ticks.map(|r| r["scheduled_for"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let until = |hub: &Owned, count: usize| {
        let began = Instant::now();
        while done(hub).len() < count {
            assert!(began.elapsed() < LONG, "{:?}", done(hub));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(&hub, 2);
    hub.hub.process.signal(Signal::Stop);
    std::thread::sleep(Duration::from_secs(3));
    let mut second = linkspan_testkit::process::Process::start(&mut place.command(&["serve", "--port", "0"]));
    // Nobody knows whether the owner will wake: that it does not answer is all that can be said.
    let refused = second.wait(Duration::from_secs(60));
    assert!(refused.code() == Some(5) && second.text().contains("does not answer"), "{}", second.text());
    drop(second);
    hub.hub.process.signal(Signal::Continue);
    let before = done(&hub).len();
    until(&hub, before + 3);
    let mut ticks = done(&hub);
    let all = ticks.len();
    ticks.sort();
    ticks.dedup();
    assert_eq!(ticks.len(), all, "a tick fired twice");
}

/// A source that never answers cannot keep a server from ending; its run goes on in the next one.
#[test]
fn a_server_that_is_told_to_stop_does_not_wait_for_a_source_that_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/rows", silent.local_addr().unwrap());
    let place = Place::new();
    let started = || {
        let hub = Hub::started(place.command(&["serve", "--port", "0", "--output", "json"]).env("LINKSPAN_EGRESS_ALLOW", "127.0.0.0/8"));
        let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
        Owned { hub, key: format!("Bearer {}", key.trim()) }
    };
    let mut first = started();
    first.call("POST", "/v1/connectors", &format!(r#"{{"name": "mute", "type": "http_json", "config": {{"url": "{url}"}}}}"#));
    first.call("POST", "/v1/connectors", r#"{"name": "shop", "type": "sqlite", "config": {"path": "shop.db"}}"#);
    first.call("POST", "/v1/connections", r#"{"name": "copy", "from": "mute", "streams": ["*"], "dest": "shop", "mode": "full"}"#);
    let run = first.run();
    first.until(&run, LONG, |seen| seen["status"] == "running");
    let began = Instant::now();
    first.hub.process.signal(Signal::Terminate);
    let ended = first.hub.process.wait(RECOVERY + Duration::from_secs(15));
    assert_eq!(ended.code(), Some(0), "{}", first.hub.process.text());
    assert!(began.elapsed() < RECOVERY + Duration::from_secs(10), "{:?}", began.elapsed());
    drop(first);
    let next = started();
    next.until(&run, RECOVERY, |seen| seen["status"] == "running" || is_over(seen));
}
