//! What is counted while requests are answered, and how it is told to Prometheus. Labels are names of the table: nothing that a
//! caller sends becomes one.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;

/// Upper ends of the buckets, in microseconds.
const BUCKETS: [u64; 10] = [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000, 10_000_000];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One row's counts.
#[derive(Debug, Default)]
pub struct Meter {
    by_class: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BUCKETS.len()],
    micros: AtomicU64,
}

impl Meter {
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.by_class[class].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        if let Some(bucket) = BUCKETS.iter().position(|end| micros <= *end) {
            self.buckets[bucket].fetch_add(1, Relaxed);
        }
    }
    fn total(&self) -> u64 {
        self.by_class.iter().map(|n| n.load(Relaxed)).sum()
    }
}

/// The counts of every row. Cheap to share.
#[derive(Clone, Debug, Default)]
pub struct Meters(Arc<Mutex<Vec<Named>>>);

type Named = (&'static str, Arc<Meter>);

impl Meters {
    pub fn of(&self, operation: &'static str) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.0.lock().expect("no panic while held").push((operation, meter.clone()));
        meter
    }
    /// The requests as text.
    pub fn tell(&self, text: &mut Text) {
        let rows = self.0.lock().expect("no panic while held").clone();
        let used: Vec<_> = rows.iter().filter(|(_, m)| m.total() > 0).collect();
        text.family("linkspan_http_requests_total", "counter", "Requests answered, by operation and class of status.");
        for (operation, meter) in &used {
            for (class, count) in CLASSES.iter().zip(&meter.by_class).filter(|(_, n)| n.load(Relaxed) > 0) {
                text.sample("linkspan_http_requests_total", &[("operation", operation), ("status", class)], count.load(Relaxed) as f64);
            }
        }
        text.family("linkspan_http_request_seconds", "histogram", "How long answers took, until their first byte.");
        for (operation, meter) in &used {
            let mut so_far = 0;
            for (end, count) in BUCKETS.iter().zip(&meter.buckets) {
                so_far += count.load(Relaxed);
                let le = (*end as f64 / 1e6).to_string();
                text.sample("linkspan_http_request_seconds_bucket", &[("operation", operation), ("le", &le)], so_far as f64);
            }
            let total = meter.total() as f64;
            text.sample("linkspan_http_request_seconds_bucket", &[("operation", operation), ("le", "+Inf")], total);
            text.sample("linkspan_http_request_seconds_sum", &[("operation", operation)], meter.micros.load(Relaxed) as f64 / 1e6);
            text.sample("linkspan_http_request_seconds_count", &[("operation", operation)], total);
        }
    }
}

/// What became of the spans that the process had to tell of.
#[derive(Debug, Default)]
pub struct Spans {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Spans {
    /// The collector has them.
    pub fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Relaxed);
    }
    /// There was no room for them.
    pub fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Relaxed);
    }
    /// The collector did not take them.
    pub fn failed(&self, count: u64) {
        self.failed.fetch_add(count, Relaxed);
    }
    /// Exported, dropped and failed.
    pub fn counts(&self) -> [u64; 3] {
        [&self.exported, &self.dropped, &self.failed].map(|n| n.load(Relaxed))
    }
    pub fn tell(&self, text: &mut Text) {
        const NAME: &str = "linkspan_trace_spans_total";
        text.family(NAME, "counter", "Spans of traces that ended, by what became of them.");
        for (fate, count) in ["exported", "dropped", "failed"].into_iter().zip(self.counts()) {
            text.sample(NAME, &[("fate", fate)], count as f64);
        }
    }
}

/// Prometheus' text format, as it grows.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
    /// A family of one sample.
    pub fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
    pub fn done(self) -> String {
        self.0
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_unused_rows_are_left_out() {
        let meters = Meters::default();
        let (meter, _unused) = (meters.of("a.list"), meters.of("b.list"));
        meter.answered(StatusCode::OK, Duration::from_micros(900));
        meter.answered(StatusCode::NOT_FOUND, Duration::from_millis(3));
        meter.answered(StatusCode::OK, Duration::from_secs(60));
        let mut text = Text::default();
        meters.tell(&mut text);
        let text = text.done();
        for line in [
            "linkspan_http_requests_total{operation=\"a.list\",status=\"2xx\"} 2",
            "linkspan_http_requests_total{operation=\"a.list\",status=\"4xx\"} 1",
            "linkspan_http_request_seconds_bucket{operation=\"a.list\",le=\"0.001\"} 1",
            "linkspan_http_request_seconds_bucket{operation=\"a.list\",le=\"0.005\"} 2",
            "linkspan_http_request_seconds_bucket{operation=\"a.list\",le=\"10\"} 2",
            "linkspan_http_request_seconds_bucket{operation=\"a.list\",le=\"+Inf\"} 3",
            "linkspan_http_request_seconds_count{operation=\"a.list\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("b.list"));
    }

    #[test]
    fn a_label_cannot_break_out() {
        let mut text = Text::default();
        text.sample("x", &[("name", "a\"b\\c\nd")], 1.0);
        assert_eq!(text.done(), "x{name=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
