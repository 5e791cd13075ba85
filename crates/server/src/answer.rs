//! How an operation's answer looks on the wire: status, headers, one JSON value or a flow of them.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use linkspan_app::{Done, Json, Reply};
use linkspan_core::Error;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::refusal::Refusal;

/// A proxy that sees nothing for a minute may hang up: something is said more often.
const QUIET: Duration = Duration::from_secs(15);
/// Nothing of an answer may run, be framed or be guessed at in a browser.
const CLOSED: &str = "default-src 'none'; frame-ancestors 'none'";

/// One answer. A reader that already has this version is told so, without the body.
pub fn reply(reply: Reply<Json>, asked: &HeaderMap) -> Response<Body> {
    let (status, place) = match reply.done {
        Done::Ok => (StatusCode::OK, None),
        Done::Created(at) => (StatusCode::CREATED, Some(at)),
        Done::Accepted(at) => (StatusCode::ACCEPTED, Some(at)),
        Done::Empty => (StatusCode::NO_CONTENT, None),
    };
    let seen = status == StatusCode::OK && reply.etag.as_deref().is_some_and(|etag| names(asked, etag));
    let mut response = match (seen, status) {
        (true, _) => bare(StatusCode::NOT_MODIFIED),
        (_, StatusCode::NO_CONTENT) => bare(status),
        _ => json_body(status, reply.body.into_string()),
    };
    put(&mut response, header::ETAG, reply.etag);
    put(&mut response, header::LOCATION, place.filter(|p| !p.is_empty()));
    response
}

fn names(asked: &HeaderMap, etag: &str) -> bool {
    let wanted = asked.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or_default();
    wanted.split(',').map(str::trim).any(|w| w == "*" || w.trim_start_matches("W/") == etag)
}

fn put(response: &mut Response<Body>, name: HeaderName, value: Option<String>) {
    if let Some(value) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
        response.headers_mut().insert(name, value);
    }
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json_body(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub fn refusal(refusal: &Refusal) -> Response<Body> {
    refusal.response().map(Body::from)
}

/// How a flow of answers is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// `data: {...}`; the last event is `end` or `error`.
    Events,
    /// One JSON value a line; an error is the last line, as `{"error": ...}`.
    Lines,
}

impl Flow {
    pub fn asked(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if accept.contains("application/x-ndjson") { Self::Lines } else { Self::Events }
    }
    fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }
    fn item(self, value: &Value) -> Bytes {
        match self {
            Self::Events => format!("data: {value}\n\n"),
            Self::Lines => format!("{value}\n"),
        }
        .into()
    }
    fn error(self, error: Error) -> Bytes {
        let body = Refusal::from(error).body();
        match self {
            Self::Events => format!("event: error\ndata: {body}\n\n").into(),
            Self::Lines => format!("{body}\n").into(),
        }
    }
    fn end(self) -> Option<Bytes> {
        match self {
            Self::Events => Some(Bytes::from_static(b"event: end\ndata: {}\n\n")),
            Self::Lines => None,
        }
    }
    /// A word that means nothing: an SSE comment, an empty line.
    fn quiet(self) -> Bytes {
        match self {
            Self::Events => Bytes::from_static(b": still here\n\n"),
            Self::Lines => Bytes::from_static(b"\n"),
        }
    }
}

/// Items as they come, until they end, one fails, the reader leaves or the server stops.
pub fn flow(items: BoxStream<'static, Result<Value, Error>>, flow: Flow, stop: watch::Receiver<bool>) -> Response<Body> {
    let pieces = stream::unfold(Some((items, stop)), move |state| async move {
        let (mut items, mut stop) = state?;
        let next = tokio::select! {
            next = tokio::time::timeout(QUIET, items.next()) => next,
            _ = stop.wait_for(|stop| *stop) => return flow.end().map(|end| (end, None)),
        };
        match next {
            Err(_) => Some((flow.quiet(), Some((items, stop)))),
            Ok(Some(Ok(value))) => Some((flow.item(&value), Some((items, stop)))),
            Ok(Some(Err(error))) => Some((flow.error(error), None)),
            Ok(None) => flow.end().map(|end| (end, None)),
        }
    });
    let mut response = Response::new(Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(flow.content_type()));
    // A proxy that collects a flow before it hands it on would make it useless.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// What every answer carries, whoever made it.
pub fn sealed(mut response: Response<Body>, request_id: &str) -> Response<Body> {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(CLOSED));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(id) = HeaderValue::try_from(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

/// The answer to a handler that broke: the place is in the log, nothing of it here.
pub fn broken() -> Response<Body> {
    let body = json!({ "error": { "kind": "internal", "message": "something broke in here", "suggested_fix":
        "please report it with the `x-request-id` of this answer", "context": {} } });
    json_body(StatusCode::INTERNAL_SERVER_ERROR, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use linkspan_core::ErrorKind;

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text")
    }
    fn items(items: Vec<Result<Value, Error>>) -> BoxStream<'static, Result<Value, Error>> {
        stream::iter(items).boxed()
    }

    #[tokio::test]
    async fn a_known_version_is_not_sent_again() {
        let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("W/\"3\", \"4\""))]);
        let same = reply(Reply::ok(json!({"a": 1}).into()).version(4), &asked);
        assert_eq!((same.status(), same.headers()["etag"].to_str().expect("ascii")), (StatusCode::NOT_MODIFIED, "\"4\""));
        assert_eq!(text(same).await, "");
        assert_eq!(reply(Reply::ok(json!({}).into()).version(5), &asked).status(), 200);
    }
    #[tokio::test]
    async fn made_things_say_where_they_are() {
        let made = reply(Reply::created("/v1/connectors/1", json!({"id": "1"}).into()), &HeaderMap::new());
        assert_eq!((made.status(), &made.headers()["location"]), (StatusCode::CREATED, &HeaderValue::from_static("/v1/connectors/1")));
        let none = reply(Reply { done: Done::Empty, etag: None, body: Value::Null.into() }, &HeaderMap::new());
        assert_eq!((none.status(), text(none).await.as_str()), (StatusCode::NO_CONTENT, ""));
    }
    #[tokio::test]
    async fn a_flow_ends_with_a_word() {
        let (_keep, stop) = watch::channel(false);
        let whole = flow(items(vec![Ok(json!({"n": 1}))]), Flow::Events, stop.clone());
        assert_eq!(whole.headers()["content-type"], "text/event-stream");
        assert_eq!(text(whole).await, "data: {\"n\":1}\n\nevent: end\ndata: {}\n\n");
        let failed = vec![Ok(json!(1)), Err(Error::new(ErrorKind::Unavailable, "gone").because("secret"))];
        let said = text(flow(items(failed), Flow::Lines, stop)).await;
        assert_eq!(said.lines().count(), 2);
        assert!(said.contains("gone") && !said.contains("secret"), "{said}");
    }
    #[tokio::test(start_paused = true)]
    async fn a_quiet_flow_says_that_it_lives_and_stops_with_the_server() {
        let (halt, stop) = watch::channel(false);
        let response = flow(stream::pending().boxed(), Flow::Events, stop);
        let mut body = response.into_body().into_data_stream();
        assert_eq!(body.next().await.expect("a piece").expect("no error"), ": still here\n\n");
        halt.send_replace(true);
        assert_eq!(body.next().await.expect("a piece").expect("no error"), "event: end\ndata: {}\n\n");
        assert!(body.next().await.is_none());
    }
}
