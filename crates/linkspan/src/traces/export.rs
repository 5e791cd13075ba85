//! Batches of spans to the collector, again after a pause where that can help, dropped where it cannot.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use linkspan_core::{Body, Http};
use linkspan_server::Spans;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{settings::Settings, span::Ended, wire};

/// The first pause before a batch is sent again; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_ANSWER: usize = 64 << 10;
/// Failures are told this often at most.
const TOLD: Duration = Duration::from_secs(60);

pub struct Exporter {
    settings: Settings,
    http: Arc<dyn Http>,
    fates: Arc<Spans>,
    told: Option<Instant>,
}

/// What became of one try.
enum Tried {
    Taken {
        rejected: u64,
    },
    Refused(StatusCode),
    /// Trying again can help, after this pause where the collector says one.
    Busy(Option<Duration>),
}

impl Exporter {
    pub fn new(settings: Settings, http: Arc<dyn Http>, fates: Arc<Spans>) -> Self {
        Self { settings, http, fates, told: None }
    }

    /// Until it is stopped; then what waits is sent without waiting for more.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Ended>, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::new();
        loop {
            self.gather(&mut batch, &mut inbox, &mut stop).await;
            if batch.is_empty() {
                return;
            }
            self.send(&batch, &mut stop).await;
            batch.clear();
        }
    }

    /// A full batch, or what came within the delay; none when it is stopped and nothing waits.
    async fn gather(&self, batch: &mut Vec<Ended>, inbox: &mut mpsc::Receiver<Ended>, stop: &mut watch::Receiver<bool>) {
        let mut due = None;
        while batch.len() < self.settings.batch {
            if *stop.borrow() {
                match inbox.try_recv() {
                    Ok(span) => batch.push(span),
                    Err(_) => return,
                }
                continue;
            }
            tokio::select! {
                biased;
                span = inbox.recv() => match span {
                    Some(span) => batch.push(span),
                    None => return,
                },
                changed = stop.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return,
            }
            due.get_or_insert_with(|| Instant::now() + self.settings.delay);
        }
    }

    async fn send(&mut self, batch: &[Ended], stop: &mut watch::Receiver<bool>) {
        let count = batch.len() as u64;
        let body = Bytes::from(wire::request(&self.settings.resource, batch));
        let (deadline, mut pause) = (Instant::now() + self.settings.patience, PAUSE);
        loop {
            let told = match self.once(body.clone()).await {
                Tried::Taken { rejected } => {
                    let rejected = rejected.min(count);
                    self.fates.exported(count - rejected);
                    self.fates.failed(rejected);
                    return;
                }
                Tried::Refused(status) => Some(status),
                Tried::Busy(wait) => {
                    let wait = wait.unwrap_or(pause);
                    pause *= 2;
                    if Instant::now() + wait < deadline && !*stop.borrow() {
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            _ = stop.changed() => {}
                        }
                        continue;
                    }
                    None
                }
            };
            self.fates.failed(count);
            return self.tell(count, told);
        }
    }

    async fn once(&self, body: Bytes) -> Tried {
        let mut request = Request::post(self.settings.endpoint.clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.settings.headers.clone());
        }
        let Ok(request) = request.body(Body::Full(body)) else { return Tried::Refused(StatusCode::BAD_REQUEST) };
        let Ok(Ok(answer)) = tokio::time::timeout(self.settings.timeout, self.http.send(request)).await else { return Tried::Busy(None) };
        let status = answer.status();
        if status.is_success() {
            let body = answer.into_body().bytes(LONGEST_ANSWER).await.unwrap_or_default();
            return Tried::Taken { rejected: wire::rejected(&body) };
        }
        let wait = answer.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        match status.as_u16() {
            429 | 502 | 503 | 504 => Tried::Busy(wait.map(Duration::from_secs)),
            _ => Tried::Refused(status),
        }
    }

    fn tell(&mut self, spans: u64, refused: Option<StatusCode>) {
        if self.told.is_some_and(|t| t.elapsed() < TOLD) {
            return;
        }
        self.told = Some(Instant::now());
        match refused {
            Some(status) => tracing::warn!(spans, status = status.as_u16(), "the collector refused spans; they are dropped"),
            None => tracing::warn!(spans, "the collector cannot be reached; spans are dropped"),
        }
    }
}
