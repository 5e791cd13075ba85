//! `/metrics`: how this process and its store are doing, for Prometheus.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use linkspan_app::{
    Access, App, CallContext, Nothing, Operation, Scope,
    run::{LATE, Pools, Sums},
};
use linkspan_core::{Body, Result};
use schemars::JsonSchema;

use crate::{
    meters::{Meters, Spans, Text},
    seats::Seats,
};

/// The size of a page of memory on every machine we build for.
const PAGE: f64 = 4096.0;

#[derive(JsonSchema)]
#[schemars(extend("contentMediaType" = "text/plain"))]
struct Metrics(#[allow(dead_code, reason = "only its schema is read")] String);

/// What a scrape needs of the door; lies in the request's extensions.
#[derive(Clone, Debug)]
pub struct Seen {
    pub meters: Meters,
    /// Where traces are on.
    pub spans: Option<Arc<Spans>>,
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
        if let Some(spans) = &seen.spans {
            spans.tell(&mut text);
        }
    }
    if let Some(seats) = request.extensions().get::<Seats>() {
        connections(seats, &mut text);
    }
    runs(&app, &mut text).await?;
    pools(&app, &mut text);
    store(&app, &mut text);
    process(&mut text);
    let mut response = Response::new(Body::Full(Bytes::from(text.done())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn connections(seats: &Seats, text: &mut Text) {
    const REFUSED: &str = "linkspan_http_connections_refused_total";
    text.one("linkspan_http_connections", "gauge", "Connections of callers.", seats.taken() as f64);
    text.family(REFUSED, "counter", "Connections that were refused, by the limit they met.");
    seats.refused().iter().for_each(|(limit, count)| text.sample(REFUSED, &[("limit", limit)], *count as f64));
}

/// Sums over all projects: who may scrape this need not see whose they are.
async fn runs(app: &App, text: &mut Text) -> Result<()> {
    let sums = app.desk.sums();
    text.family("linkspan_run_attempts_total", "counter", "Attempts of runs that this process ended, by how.");
    for (how, count) in &sums.ended {
        text.sample("linkspan_run_attempts_total", &[("status", how)], *count as f64);
    }
    text.family("linkspan_run_errors_total", "counter", "Attempts that failed, by the kind of the error.");
    for (kind, count) in &sums.errors {
        text.sample("linkspan_run_errors_total", &[("kind", kind)], *count as f64);
    }
    text.family("linkspan_rows_total", "counter", "Rows that runs read, and what became of them.");
    let rows = [("read", sums.rows_read), ("written", sums.written), ("duplicate", sums.duplicates), ("rejected", sums.rejected)];
    for (fate, count) in rows {
        text.sample("linkspan_rows_total", &[("fate", fate)], count as f64);
    }
    text.one("linkspan_bytes_read_total", "counter", "Bytes that runs read.", sums.bytes_read as f64);
    late(&sums, text);
    text.one("linkspan_runs_active", "gauge", "Runs that this process carries out.", app.desk.all_going().len() as f64);
    text.one("linkspan_runs_at_once", "gauge", "How many it carries out at most.", app.settings.runs_at_once as f64);
    queue(app, text).await
}

fn late(sums: &Sums, text: &mut Text) {
    const NAME: &str = "linkspan_run_lag_seconds";
    text.family(NAME, "histogram", "How long after its time an attempt began.");
    let mut so_far = 0;
    for (end, count) in LATE.iter().zip(sums.late) {
        so_far += count;
        text.sample("linkspan_run_lag_seconds_bucket", &[("le", &end.to_string())], so_far as f64);
    }
    text.sample("linkspan_run_lag_seconds_bucket", &[("le", "+Inf")], sums.begun as f64);
    text.sample("linkspan_run_lag_seconds_sum", &[], sums.late_seconds);
    text.sample("linkspan_run_lag_seconds_count", &[], sums.begun as f64);
}

async fn queue(app: &App, text: &mut Text) -> Result<()> {
    let counts = app.store.count_runs().await?;
    text.one("linkspan_queue_depth", "gauge", "Runs that wait for their turn or their time.", counts.queued as f64);
    let waited = counts.first_due_ms.map_or(0, |due| app.now_ms().saturating_sub(due).max(0));
    text.one("linkspan_queue_oldest_seconds", "gauge", "How long the first of them could have started.", waited as f64 / 1000.0);
    Ok(())
}

/// By type: who may scrape this need not see how the connectors are called.
fn pools(app: &App, text: &mut Text) {
    let pools = app.desk.open.pools();
    type Of = fn(&Pools) -> f64;
    let gauges: [(&str, &str, Of); 6] = [
        ("linkspan_pool_connectors", "Connectors that this process keeps open.", |p| p.connectors as f64),
        ("linkspan_pool_open", "Their connections that are open.", |p| p.sum.open as f64),
        ("linkspan_pool_idle", "Those of them that wait to be used.", |p| p.sum.idle as f64),
        ("linkspan_pool_in_use", "Those of them that are in use.", |p| p.sum.in_use as f64),
        ("linkspan_pool_waiting", "Uses that wait for a connection.", |p| p.sum.waiting as f64),
        ("linkspan_pool_max", "The most that may be open.", |p| p.sum.max as f64),
    ];
    for (name, help, of) in gauges {
        text.family(name, "gauge", help);
        pools.iter().for_each(|(kind, pools)| text.sample(name, &[("type", kind)], of(pools)));
    }
    const TIMEOUTS: &str = "linkspan_pool_timeouts_total";
    text.family(TIMEOUTS, "counter", "Uses that gave up waiting for a connection.");
    pools.iter().for_each(|(kind, pools)| text.sample(TIMEOUTS, &[("type", kind)], pools.sum.timeouts as f64));
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
