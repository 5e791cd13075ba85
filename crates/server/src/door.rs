//! The way in: what a request passes before an operation sees it, in this order: limits on its head, who calls and how often,
//! whether they may, limits on its body, its input. And the way out: one shape for every answer.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use linkspan_app::{
    Access, App, CallContext, Caller, CallerKind, DEFAULT_PROJECT, Operation, Placeholders, Run,
    auth::{self, PROJECT_HEADER},
};
use linkspan_core::{Error, ErrorKind, TRACES};
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use crate::{
    answer::{self, Flow},
    input::{self, Shape},
    limits::{BodySoFar, KEY_LENGTH, Limits},
    meters::{Meter, Meters, Spans},
    metrics::Seen,
    openapi::Described,
    rates::{Rate, Rates},
    refusal::{Refusal, Result},
};

/// How long a body may take before it must come at [`SLOWEST`].
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes per second below which a body is given up.
const SLOWEST: u64 = 1 << 10;

const CALLERS: Rate = Rate::per_second(4_000, 2_000);
const STRANGERS: Rate = Rate::per_second(200, 100);
/// Wrong credentials from one address: ten, then one every six seconds.
const GUESSES: Rate = Rate { burst: 10, every: Duration::from_secs(6) };
const MOST_CALLERS: usize = 10_000;

/// Where a request came from; lies in its extensions. Calls within the process have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// A caller that needs no credentials: this process itself. Lies in the extensions, where nothing from outside can put it.
#[derive(Clone, Debug)]
pub struct Trusted(pub Caller);

/// One row of the table with what is worked out of it once.
pub struct Row {
    pub operation: Operation,
    shape: OnceLock<Shape>,
    meter: Arc<Meter>,
}

impl Row {
    fn new(operation: Operation, meters: &Meters) -> Self {
        let meter = meters.of(operation.name);
        Self { operation, shape: OnceLock::new(), meter }
    }
    fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::new(self.operation.input(), self.operation.placeholders()))
    }
}

/// What every request passes.
pub struct Door {
    app: Arc<App>,
    limits: Limits,
    callers: Mutex<Rates>,
    strangers: Mutex<Rates>,
    guesses: Mutex<Rates>,
    opened: Instant,
    meters: Meters,
    described: OnceLock<Bytes>,
    spans: OnceLock<Arc<Spans>>,
    halt: watch::Sender<bool>,
}

impl Door {
    pub fn new(app: Arc<App>) -> Arc<Self> {
        Arc::new(Self {
            app,
            limits: Limits::default(),
            callers: Mutex::new(Rates::new(CALLERS, MOST_CALLERS)),
            strangers: Mutex::new(Rates::new(STRANGERS, MOST_CALLERS)),
            guesses: Mutex::new(Rates::new(GUESSES, MOST_CALLERS)),
            opened: Instant::now(),
            meters: Meters::default(),
            described: OnceLock::new(),
            spans: OnceLock::new(),
            halt: watch::Sender::new(false),
        })
    }
    /// The version and the description that the door shows.
    pub fn describe(&self, document: impl FnOnce(&str) -> Bytes) {
        self.described.get_or_init(|| document(self.app.settings.version));
    }
    /// Traces are on: what becomes of their spans is told beside the other counts.
    pub fn traced(&self, spans: Arc<Spans>) {
        self.spans.get_or_init(|| spans);
    }
    /// A row as the door knows it.
    pub fn row(&self, operation: Operation) -> Row {
        Row::new(operation, &self.meters)
    }
    /// Ends the flows that would go on for ever, so that the server can drain.
    pub fn halt(&self) {
        self.halt.send_replace(true);
    }

    /// Answers one request for a row; nothing that goes wrong in a handler leaves in another shape.
    pub async fn answer(self: Arc<Self>, row: Arc<Row>, path: Vec<(String, String)>, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let id = Uuid::now_v7().to_string();
        let name = row.operation.name;
        let span = span(&row.operation, request.headers(), &id);
        let outcome = AssertUnwindSafe(self.pass(&row, path, request)).catch_unwind().instrument(span.clone()).await;
        let response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => {
                if refusal.status.is_server_error() {
                    span.record("error.type", tracing::field::debug(refusal.error.kind()));
                }
                tell_of(&refusal, name, &id);
                answer::refusal(&refusal)
            }
            Err(_) => {
                span.record("error.type", "panic");
                answer::broken()
            }
        };
        span.record("http.response.status_code", response.status().as_u16());
        row.meter.answered(response.status(), started.elapsed());
        tracing::info!(operation = name, status = response.status().as_u16(), ms = started.elapsed().as_millis() as u64, id, "answered");
        answer::sealed(response, &id)
    }
    /// Answers a request that no row fits.
    pub fn unrouted(&self, request: Request<Body>, status: StatusCode) -> Response<Body> {
        let (parts, _) = request.into_parts();
        let refusal = self.entered(&parts).err().unwrap_or_else(|| no_route(&parts, status));
        answer::sealed(answer::refusal(&refusal), &Uuid::now_v7().to_string())
    }

    async fn pass(&self, row: &Row, path: Vec<(String, String)>, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        self.entered(&parts)?;
        idempotency_key(text(&parts.headers, "idempotency-key")?)?;
        let context = self.context(&row.operation, &parts).await?;
        row.operation.admit(&context)?;
        if matches!(row.operation.run, Run::Raw(_)) {
            return self.raw(row, context, path, parts, body).await;
        }
        self.limits.declared(&parts.headers)?;
        let bytes = whole(body, self.limits.body()).await?;
        let body = input::body(&parts.headers, &bytes)?;
        let input = row.shape().input(&path, parts.uri.query(), body)?;
        match row.operation.run {
            Run::Watch(_) => {
                let items = row.operation.watch(self.app.clone(), context, input).await?;
                Ok(answer::flow(items, Flow::asked(&parts.headers), self.halt.subscribe()))
            }
            _ => Ok(answer::reply(row.operation.answer(self.app.clone(), context, input).await?, &parts.headers)),
        }
    }
    /// What is asked of every request, also of those that lead nowhere: a decent head, and patience of strangers.
    fn entered(&self, parts: &Parts) -> Result<()> {
        self.limits.head(parts)?;
        match (parts.extensions.get::<Peer>(), parts.extensions.get::<Trusted>()) {
            (Some(peer), None) if !has_credentials(&parts.headers) => take(&self.strangers, &peer.0.to_string(), self.opened),
            _ => Ok(()),
        }
    }
    async fn raw(
        &self,
        row: &Row,
        context: CallContext,
        path: Vec<(String, String)>,
        mut parts: Parts,
        body: Body,
    ) -> Result<Response<Body>> {
        parts.extensions.insert(Placeholders(path.into_iter().collect()));
        parts.extensions.insert(Described(self.described.get().cloned().unwrap_or_default()));
        parts.extensions.insert(Seen { meters: self.meters.clone(), spans: self.spans.get().cloned(), since: self.opened.elapsed() });
        let request = Request::from_parts(parts, linkspan_core::Body::Stream(paced(body).boxed()));
        let response = row.operation.raw(self.app.clone(), context, request).await?;
        Ok(response.map(|body| match body {
            linkspan_core::Body::Full(bytes) => Body::from(bytes),
            linkspan_core::Body::Stream(pieces) => Body::from_stream(pieces),
        }))
    }
    /// Who calls, about which project, with which preconditions. Health and docs are for everybody: what credentials come along with
    /// a call of them does not matter.
    async fn context(&self, operation: &Operation, parts: &Parts) -> Result<CallContext> {
        if let Some(Trusted(caller)) = parts.extensions.get() {
            let project = text(&parts.headers, PROJECT_HEADER)?.unwrap_or(DEFAULT_PROJECT);
            let mut context = CallContext::new(caller.clone(), project);
            context.if_match = text(&parts.headers, http::header::IF_MATCH.as_str())?.map(str::to_owned);
            context.idempotency_key = text(&parts.headers, "idempotency-key")?.map(str::to_owned);
            return Ok(context);
        }
        if operation.access == Access::Anonymous {
            return Ok(CallContext::anonymous());
        }
        let context = auth::authenticate(&self.app, &parts.headers).await.map_err(|e| self.guessed(parts, e))?;
        if context.caller.kind != CallerKind::Anonymous {
            take(&self.callers, &context.caller.key(), self.opened)?;
        }
        Ok(context)
    }
    /// A wrong credential may be a guess: whoever makes many is told to wait. Right ones pass all the while, so that nobody is locked
    /// out by a neighbour behind the same address.
    fn guessed(&self, parts: &Parts, error: Error) -> Refusal {
        let peer = parts.extensions.get::<Peer>().filter(|_| error.kind() == ErrorKind::AuthFailed);
        let told = peer.map_or(Ok(()), |peer| take(&self.guesses, &peer.0.to_string(), self.opened));
        told.err().unwrap_or_else(|| error.into())
    }
}

/// What a trace says of a request: words of the table, never its path, its query or its body.
fn span(operation: &Operation, headers: &HeaderMap, id: &str) -> Span {
    let parent = headers.get("traceparent").and_then(|v| v.to_str().ok()).unwrap_or_default();
    tracing::info_span!(
        target: TRACES, "request", "otel.name" = %format_args!("{} {}", operation.method, operation.path), "otel.kind" = "server",
        "http.request.method" = %operation.method, "http.route" = operation.path, "linkspan.operation" = operation.name,
        "linkspan.request.id" = id, "traceparent" = parent, "http.response.status_code" = Empty, "error.type" = Empty
    )
}

fn has_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::AUTHORIZATION) || headers.contains_key("x-api-key")
}

fn take(rates: &Mutex<Rates>, caller: &str, since: Instant) -> Result<()> {
    rates.lock().expect("no panic while held").take(caller, since.elapsed())
}

/// All of a body, or a refusal as soon as it is too large or too slow.
async fn whole(mut body: Body, mut so_far: BodySoFar) -> Result<Bytes> {
    let started = Instant::now();
    let mut taken: u64 = 0;
    loop {
        let deadline = started + PATIENCE + Duration::from_secs(taken / SLOWEST);
        let frame = tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { return Ok(so_far.done()) };
        let frame = frame.map_err(|e| Error::new(ErrorKind::ConfigInvalid, "the body broke off or is framed wrongly").because(e))?;
        if let Some(piece) = frame.data_ref() {
            taken += piece.len() as u64;
            so_far.push(piece)?;
        }
    }
}

fn too_slow() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, slow())
}

fn slow() -> Error {
    Error::new(ErrorKind::Timeout, "the body came too slowly").with("least_bytes_per_s", SLOWEST)
}

/// A body's pieces for a handler that reads them itself. A sender who is too slow ends it with an error: the time that the handler takes
/// for itself does not count.
fn paced(body: Body) -> impl Stream<Item = linkspan_core::Result<Bytes>> + Send {
    let state = Some((body.into_data_stream(), Duration::ZERO, 0));
    stream::unfold(state, |state| async move {
        let (mut pieces, mut waited, mut taken): (_, Duration, u64) = state?;
        let (patience, began) = (PATIENCE + Duration::from_secs(taken / SLOWEST), Instant::now());
        let next = tokio::time::timeout(patience.saturating_sub(waited), pieces.next()).await;
        waited += began.elapsed();
        match next {
            Err(_) => Some((Err(slow()), None)),
            Ok(None) => None,
            Ok(Some(Ok(piece))) => {
                taken += piece.len() as u64;
                Some((Ok(piece), Some((pieces, waited, taken))))
            }
            Ok(Some(Err(e))) => Some((Err(Error::new(ErrorKind::Unavailable, "the body broke off").because(e)), None)),
        }
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| Error::new(ErrorKind::ConfigInvalid, "a header is not plain text").with("header", name).into())
}

fn idempotency_key(key: Option<&str>) -> Result<()> {
    let fits = |key: &str| (1..=KEY_LENGTH).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if key.is_some_and(|key| !fits(key)) {
        let error = Error::new(ErrorKind::ConfigInvalid, "the Idempotency-Key is empty, too long or has blanks in it")
            .with("limit_bytes", KEY_LENGTH);
        return Err(error.fix("send a UUID, a new one for each new wish").into());
    }
    Ok(())
}

fn no_route(parts: &Parts, status: StatusCode) -> Refusal {
    let error = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            Error::new(ErrorKind::Unsupported, "the route does not know this method").fix("use one of those in the `Allow` header")
        }
        _ => Error::new(ErrorKind::NotFound, "there is no such route").fix("see /docs, or /v1/openapi.json for programs"),
    };
    Refusal::new(status, error.with("method", &parts.method))
}

/// What the caller is not told stands in the log, under the same id.
fn tell_of(refusal: &Refusal, operation: &'static str, id: &str) {
    let (status, error) = (refusal.status.as_u16(), &refusal.error);
    if refusal.status.is_server_error() {
        tracing::error!(operation, status, id, error = ?error, "failed");
    } else {
        tracing::debug!(operation, status, id, kind = ?error.kind(), message = error.message(), "refused");
    }
}
