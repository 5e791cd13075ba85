//! `/metrics`: how this process and its store are doing, for Prometheus.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use linkspan_app::{Access, App, CallContext, Nothing, Operation, Scope};
use linkspan_core::{Body, Result};
use schemars::JsonSchema;

use crate::meters::{Meters, Text};

/// The size of a page of memory on every machine we build for.
const PAGE: f64 = 4096.0;

#[derive(JsonSchema)]
#[schemars(extend("contentMediaType" = "text/plain"))]
struct Metrics(#[allow(dead_code, reason = "only its schema is read")] String);

/// What a scrape needs of the door; lies in the request's extensions.
#[derive(Clone, Debug)]
pub struct Seen {
    pub meters: Meters,
    pub since: Duration,
}

pub fn operation() -> Operation {
    Operation::get("metrics", "/metrics", Access::Scoped(Scope::MetricsRead), "Counts and sizes for Prometheus.")
        .raw::<Nothing, Metrics, _>(scrape)
}

async fn scrape(app: Arc<App>, _: CallContext, request: Request<Body>) -> Result<Response<Body>> {
    let mut text = Text::default();
    text.family("linkspan_build_info", "gauge", "The version that runs.");
    text.sample("linkspan_build_info", &[("version", app.settings.version)], 1.0);
    if let Some(seen) = request.extensions().get::<Seen>() {
        text.one("linkspan_uptime_seconds", "gauge", "Since this process serves.", seen.since.as_secs_f64());
        seen.meters.tell(&mut text);
    }
    store(&app, &mut text);
    process(&mut text);
    let mut response = Response::new(Body::Full(Bytes::from(text.done())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn store(app: &App, text: &mut Text) {
    let counts = app.store.counts();
    text.one("linkspan_store_requests_total", "counter", "Writes asked of the store.", counts.requests as f64);
    text.one("linkspan_store_commits_total", "counter", "Commits that answered them.", counts.commits as f64);
}

/// What the kernel says of this process; nothing where it says it elsewhere.
fn process(text: &mut Text) {
    let resident = std::fs::read_to_string("/proc/self/statm").ok();
    if let Some(pages) = resident.and_then(|s| s.split(' ').nth(1)?.parse::<f64>().ok()) {
        text.one("process_resident_memory_bytes", "gauge", "Memory in use.", pages * PAGE);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.one("process_open_fds", "gauge", "Open files and sockets.", open.count() as f64);
    }
}
