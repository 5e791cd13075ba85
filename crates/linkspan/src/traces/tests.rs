//! The layer and the exporter against a collector of this process; the whole program against one over HTTP is in `tests/it/traces.rs`.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use linkspan_core::{Body, ErrorKind, Http, Result, SystemClock, TRACES};
use linkspan_server::Spans;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, field::Empty, info_span};
use tracing_subscriber::{Layer as _, filter::filter_fn, layer::SubscriberExt as _};

use super::{
    Layer, Settings,
    export::Exporter,
    span::{Ended, Kind, Place, Sampler, Value},
};

const ALWAYS: Sampler = Sampler { share: 1.0, follows_parent: true };

#[derive(Default)]
struct Collector {
    /// Statuses to come, with `Retry-After`; 200 when there are none.
    answers: Mutex<VecDeque<(u16, Option<&'static str>)>>,
    heard: Mutex<Vec<usize>>,
    credentials: AtomicUsize,
}

#[async_trait]
impl Http for Collector {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        assert_eq!(
            (request.uri().path(), request.headers()["content-type"].as_bytes()),
            ("/v1/traces", b"application/x-protobuf".as_slice())
        );
        self.credentials.fetch_add(usize::from(request.headers().contains_key("x-key")), Ordering::Relaxed);
        let body = request.into_body().bytes(1 << 20).await?;
        self.heard.lock().unwrap().push(body.len());
        let (status, wait) = self.answers.lock().unwrap().pop_front().unwrap_or((200, None));
        let mut answer = Response::builder().status(status);
        if let Some(wait) = wait {
            answer = answer.header("retry-after", wait);
        }
        // One span of a batch was not taken.
        let body = if status == 200 { Bytes::from_static(&[0x0a, 0x02, 0x08, 0x01]) } else { Bytes::new() };
        Ok(answer.body(Body::Full(body)).unwrap())
    }
}

fn settings(vars: &'static [(&'static str, &'static str)]) -> Settings {
    let read = move |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Settings::read(Some("http://collector:4318/"), read).unwrap().unwrap()
}

fn span(n: u8) -> Ended {
    let place = Place { trace: [n; 16], span: [n; 8], told: true };
    let attributes = vec![("n", Value::Whole(i64::from(n)))];
    Ended { place, parent: None, name: "s".into(), kind: Kind::Internal, from: 1, to: 2, attributes, failed: false }
}

struct Rig {
    collector: Arc<Collector>,
    fates: Arc<Spans>,
    to: mpsc::Sender<Ended>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn start(settings: Settings, answers: &[(u16, Option<&'static str>)]) -> Rig {
    let collector = Arc::new(Collector { answers: Mutex::new(answers.iter().copied().collect()), ..Collector::default() });
    let (fates, (to, inbox), (stop, stopped)) = (Arc::new(Spans::default()), mpsc::channel(settings.queue), watch::channel(false));
    let task = tokio::spawn(Exporter::new(settings, collector.clone(), fates.clone()).run(inbox, stopped));
    Rig { collector, fates, to, stop, task }
}

impl Rig {
    async fn until(&self, wanted: impl Fn([u64; 3]) -> bool) {
        while !wanted(self.fates.counts()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    fn requests(&self) -> usize {
        self.collector.heard.lock().unwrap().len()
    }
}

#[tokio::test]
async fn spans_leave_in_batches_when_one_is_full_or_the_delay_is_over() {
    let rig = start(
        settings(&[
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b"),
        ]),
        &[],
    );
    for n in 1..=4 {
        rig.to.send(span(n)).await.unwrap();
    }
    let began = Instant::now();
    rig.until(|fates| fates == [2, 0, 1]).await;
    assert!(began.elapsed() < Duration::from_millis(900), "a full batch waits for nobody; the collector took two of three");
    rig.until(|fates| fates == [2, 0, 2]).await;
    assert!(began.elapsed() > Duration::from_millis(900));
    assert_eq!((rig.requests(), rig.collector.credentials.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn a_busy_collector_is_asked_again_when_it_says_and_a_refusal_is_final() {
    let quick = settings(&[("OTEL_BSP_SCHEDULE_DELAY", "20")]);
    let rig = start(quick, &[(503, Some("1")), (429, None), (200, None), (400, None)]);
    let began = Instant::now();
    rig.to.send(span(1)).await.unwrap();
    rig.to.send(span(2)).await.unwrap();
    rig.until(|fates| fates == [1, 0, 1]).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "1 s as asked, 1 s of our own: {took:?}");
    rig.to.send(span(3)).await.unwrap();
    rig.until(|fates| fates == [1, 0, 2]).await;
    assert_eq!(rig.requests(), 4);
}

#[tokio::test]
async fn what_waits_leaves_when_it_is_stopped_and_a_dead_collector_holds_up_nobody() {
    let rig = start(settings(&[]), &[]);
    (1..=5).for_each(|n| rig.to.try_send(span(n)).unwrap());
    rig.stop.send_replace(true);
    rig.task.await.unwrap();
    assert_eq!((rig.collector.heard.lock().unwrap().len(), rig.fates.counts()), (1, [4, 0, 1]));

    let busy = [(503, Some("20")); 50];
    let rig = start(settings(&[("OTEL_BSP_SCHEDULE_DELAY", "20")]), &busy);
    rig.to.send(span(1)).await.unwrap();
    while rig.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.stop.send_replace(true);
    let began = Instant::now();
    rig.task.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it does not wait as long as the collector would like");
    assert_eq!(rig.fates.counts(), [0, 0, 1]);
}

fn layer(queue: usize) -> (Layer, mpsc::Receiver<Ended>, Arc<Spans>) {
    let ((to, inbox), fates) = (mpsc::channel(queue), Arc::new(Spans::default()));
    (Layer::new(to, fates.clone(), ALWAYS, Arc::new(SystemClock)), inbox, fates)
}

#[tokio::test]
async fn spans_hang_together_and_say_only_what_their_target_says() {
    let (layer, mut inbox, _) = layer(16);
    let is_traced = filter_fn(|m: &tracing::Metadata<'_>| m.target() == TRACES);
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer.with_filter(is_traced)));
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let outer = info_span!(target: TRACES, "request", "otel.name" = "GET /x", "otel.kind" = "server", "traceparent" = caller, "code" = Empty, "error.type" = Empty);
    async {
        // Not ours: neither it nor what it says leaves.
        let other = info_span!("other", secret = "canary");
        async {
            tracing::info!("canary {}", "canary");
            let inner = info_span!(target: TRACES, "commit", "n" = 7_u64, "x" = 0.5, "b" = true);
            async {}.instrument(inner).await;
        }
        .instrument(other)
        .await;
    }
    .instrument(outer.clone())
    .await;
    outer.record("code", 200_u16);
    outer.record("error.type", tracing::field::debug(ErrorKind::AuthFailed));
    drop(outer);
    let (inner, outer) = (inbox.recv().await.unwrap(), inbox.recv().await.unwrap());
    assert_eq!((inner.name.as_str(), outer.name.as_str(), outer.kind, outer.failed), ("commit", "GET /x", Kind::Server, true));
    assert_eq!(inner.attributes, [("n", Value::Whole(7)), ("x", Value::Float(0.5)), ("b", Value::Bool(true))]);
    assert_eq!(outer.attributes, [("code", Value::Whole(200)), ("error.type", Value::Text("auth_failed".into()))]);
    assert_eq!(inner.parent, Some(outer.place.span));
    assert_eq!((outer.parent, outer.place.trace), (Some(Place::of_header(caller).unwrap().span), inner.place.trace));
    assert!(outer.from <= inner.from && inner.to <= outer.to + 1_000_000 && outer.from > 1_000_000_000_000_000_000);
    assert!(inbox.try_recv().is_err());
}

#[test]
fn a_full_queue_drops_and_counts_and_nobody_waits() {
    let (layer, _inbox, fates) = layer(2);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..10 {
            drop(info_span!(target: TRACES, "run"));
        }
        // The caller does not want its trace told.
        drop(info_span!(target: TRACES, "request", "traceparent" = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
    });
    assert_eq!(fates.counts(), [0, 8, 0]);
}

#[test]
fn settings_are_those_of_every_opentelemetry_program() {
    let read = |otlp: Option<&str>, vars: &[(&str, &str)]| {
        Settings::read(otlp, |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    };
    let endpoint = |otlp, vars: &[_]| read(otlp, vars).unwrap().map(|s| s.endpoint.to_string());
    assert_eq!(endpoint(None, &[]), None, "off unless asked for");
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
    assert_eq!(endpoint(None, &[base]).unwrap(), "http://a:4318/v1/traces");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/own");
    assert_eq!(endpoint(None, &[base, traces]).unwrap(), "http://b/own");
    assert_eq!(endpoint(Some("https://c/otlp/"), &[base, traces]).unwrap(), "https://c/otlp/v1/traces");
    assert_eq!(endpoint(None, &[base, ("OTEL_TRACES_EXPORTER", "none")]), None);
    assert_eq!(endpoint(Some("http://c"), &[("OTEL_SDK_DISABLED", "true")]), None);
    let named = read(None, &[base, ("OTEL_SERVICE_NAME", "hub"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,team=a%20b")]);
    let named = named.unwrap().unwrap().resource;
    assert!(named.contains(&("service.name".into(), "hub".into())) && named.contains(&("team".into(), "a b".into())), "{named:?}");
    for (vars, setting) in [
        (&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")][..], "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (&[base, ("OTEL_TRACES_SAMPLER", "jaeger_remote")], "OTEL_TRACES_SAMPLER"),
        (&[base, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")], "OTEL_TRACES_SAMPLER_ARG"),
        (&[base, ("OTEL_BSP_MAX_QUEUE_SIZE", "many")], "OTEL_BSP_MAX_QUEUE_SIZE"),
        (&[base, ("OTEL_EXPORTER_OTLP_HEADERS", "canary")], "OTEL_EXPORTER_OTLP_HEADERS"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "user:canary@a:4318")], "otlp"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://u:canary@a:4318")], "otlp"),
    ] {
        let e = read(None, vars).err().unwrap_or_else(|| panic!("{vars:?}"));
        assert!(e.context().iter().any(|(k, v)| *k == "setting" && v == setting), "{e:?}");
        assert!(!format!("{e:?}{}", e.to_json()).contains("canary"), "{e:?}");
    }
    let some = read(None, &[base, ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.1")]);
    assert_eq!(some.unwrap().unwrap().sampler, Sampler { share: 0.1, follows_parent: true });
}
