//! How the object store's client reaches the network: through the client that the house lends, with its guard and its clock.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{HeaderValue, header};
use http_body::Frame;
use http_body_util::BodyExt;
use linkspan_core::{Body, Error, ErrorKind, Http, Result};
use linkspan_http::{Broke, Timeouts, broke};
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService},
};

/// From a request, its body included, to the head of the answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Hands the lent client to whatever of the object store asks for one, its search for credentials included.
pub(super) struct Lent(pub Arc<dyn Http>);

/// The lent client, for one purpose.
struct Wire {
    http: Arc<dyn Http>,
    scheme: Scheme,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    OnlyTls,
    Any,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the house's client")
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the house's client")
    }
}

impl HttpConnector for Lent {
    /// Of the options only the wish for TLS is asked: time limits are the lent client's, and a guarded one takes no proxy.
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|allowed| allowed == "true");
        Ok(HttpClient::new(Wire { http: self.0.clone(), scheme: if plain { Scheme::Any } else { Scheme::OnlyTls } }))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        if self.scheme == Scheme::OnlyTls && parts.uri.scheme_str() != Some("https") {
            return Err(told(
                Error::new(ErrorKind::ConfigInvalid, "the endpoint has no TLS").fix("use https://, or set `allow_http: true`"),
            ));
        }
        // Objects come as they lie there: an etag and a range speak of those bytes.
        parts.headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        parts.extensions.insert(Timeouts { answer: ANSWER, ..Timeouts::default() });
        let body = body.collect().await?.to_bytes();
        let answer = self.http.send(http::Request::from_parts(parts, Body::Full(body))).await.map_err(told)?;
        let (parts, body) = answer.into_parts();
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Arriving(Mutex::new(body.into_stream())))))
    }
}

/// An answer's body. The lock is never taken: it only says that the stream is polled by one at a time.
struct Arriving(Mutex<BoxStream<'static, Result<Bytes>>>);

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = HttpError;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.poll_next_unpin(cx).map(|part| part.map(|part| part.map(Frame::data).map_err(told)))
    }
}

/// The store's client sends again by this kind what may be sent again.
fn told(e: Error) -> HttpError {
    let kind = match broke(&e) {
        Broke::Unsent => HttpErrorKind::Connect,
        Broke::Closed => HttpErrorKind::Request,
        Broke::Midway => HttpErrorKind::Interrupted,
        Broke::Late => HttpErrorKind::Timeout,
        Broke::Never => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, e)
}
