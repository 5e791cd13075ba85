//! The client itself: reqwest, made when the first request is sent.

use std::{
    error::Error as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{Request, Response, header, request::Parts};
use linkspan_core::{Body, Clock, Error, ErrorKind, Http, Result};
use url::Url;

use crate::{
    guard::{GuardedResolver, Policy, Refused},
    redirect::{self, FinalUrl, Redirects},
    unzip::{self, Coding},
};

/// How long a silent server is waited for. A request may carry its own in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request to the head of its answer.
    pub answer: Duration,
    /// Between two parts of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), answer: Duration::from_secs(300), idle: Duration::from_secs(60) }
    }
}

/// The house's client. It does nothing, reads no certificate and opens no socket before its first request.
pub fn client(policy: Policy, clock: Arc<dyn Clock>) -> Arc<dyn Http> {
    client_with(policy, clock, Timeouts::default())
}

pub fn client_with(policy: Policy, clock: Arc<dyn Clock>, timeouts: Timeouts) -> Arc<dyn Http> {
    Arc::new(Client { policy, clock, timeouts, inner: OnceLock::new() })
}

struct Client {
    policy: Policy,
    clock: Arc<dyn Clock>,
    timeouts: Timeouts,
    inner: OnceLock<reqwest::Client>,
}

#[async_trait]
impl Http for Client {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (mut parts, mut body) = request.into_parts();
        let mut url = Url::parse(&parts.uri.to_string()).map_err(|e| Error::new(ErrorKind::ConfigInvalid, "not a URL").because(e))?;
        let mut hops = match parts.extensions.get() {
            Some(Redirects::Follow(most)) => *most,
            Some(Redirects::Refused) | None => 0,
        };
        let opens = !parts.headers.contains_key(header::ACCEPT_ENCODING);
        loop {
            let kept = if hops > 0 { body.try_clone() } else { None };
            let answer = self.hop(&parts, body, &url, opens).await?;
            let follows = parts.extensions.get::<Redirects>().is_some_and(|r| *r != Redirects::Refused);
            let next = if follows { redirect::target(answer.status(), answer.headers().get(header::LOCATION), &url)? } else { None };
            let Some(next) = next else { return Ok(self.received(answer, url, opens)) };
            if hops == 0 {
                return Err(Error::new(ErrorKind::Unavailable, "the server redirects without end").with("host", host_of(&url)));
            }
            hops -= 1;
            body = kept.ok_or_else(|| Error::new(ErrorKind::Unsupported, "a streamed body cannot follow a redirect"))?;
            redirect::turn(&mut parts, &mut body, answer.status(), &url, &next);
            url = next;
        }
    }
}

impl Client {
    fn inner(&self) -> Result<&reqwest::Client> {
        if let Some(inner) = self.inner.get() {
            return Ok(inner);
        }
        let made = build(&self.policy, &self.timeouts)
            .map_err(|e| Error::new(ErrorKind::Internal, "the HTTP client cannot be made").because(e.without_url()))?;
        Ok(self.inner.get_or_init(|| made))
    }
    async fn hop(&self, parts: &Parts, body: Body, url: &Url, opens: bool) -> Result<reqwest::Response> {
        self.policy.check(url)?;
        let mut request = reqwest::Request::new(parts.method.clone(), url.clone());
        *request.headers_mut() = parts.headers.clone();
        if opens {
            request.headers_mut().insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static(unzip::ACCEPTED));
        }
        match body {
            Body::Full(bytes) if bytes.is_empty() => {}
            Body::Full(bytes) => *request.body_mut() = Some(bytes.into()),
            Body::Stream(stream) => *request.body_mut() = Some(reqwest::Body::wrap_stream(stream)),
        }
        let within = parts.extensions.get().unwrap_or(&self.timeouts).answer;
        tokio::select! {
            biased;
            answer = self.inner()?.execute(request) => answer.map_err(|e| failure(e, url)),
            () = self.clock.sleep(within) => Err(silent(within, url)),
        }
    }
    fn received(&self, answer: reqwest::Response, url: Url, opens: bool) -> Response<Body> {
        let coding = Coding::of(answer.headers()).filter(|_| opens);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.version_mut() = answer.version();
        *response.headers_mut() = answer.headers().clone();
        let body = self.watched(answer, url.clone());
        *response.body_mut() = Body::Stream(match coding {
            Some(coding) => {
                response.headers_mut().remove(header::CONTENT_ENCODING);
                response.headers_mut().remove(header::CONTENT_LENGTH);
                unzip::open(&coding, body)
            }
            None => body,
        });
        response.extensions_mut().insert(FinalUrl(url));
        response
    }
    /// The body, given up when nothing comes for too long.
    fn watched(&self, answer: reqwest::Response, url: Url) -> BoxStream<'static, Result<Bytes>> {
        let (clock, idle) = (self.clock.clone(), self.timeouts.idle);
        futures::stream::try_unfold((answer, clock, url), move |(mut answer, clock, url)| async move {
            let part = tokio::select! {
                biased;
                part = answer.chunk() => part.map_err(|e| failure(e, &url))?,
                () = clock.sleep(idle) => return Err(silent(idle, &url)),
            };
            Ok(part.map(|part| (part, (answer, clock, url))))
        })
        .boxed()
    }
}

fn build(policy: &Policy, timeouts: &Timeouts) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .tcp_nodelay(true)
        .user_agent(concat!("linkspan/", env!("CARGO_PKG_VERSION")));
    match policy {
        Policy::Open => builder.build(),
        // A proxy would resolve names itself, behind the guard's back.
        Policy::Guarded { .. } => builder.no_proxy().dns_resolver(Arc::new(GuardedResolver(policy.clone()))).build(),
    }
}

fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

fn silent(within: Duration, url: &Url) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {} s", within.as_secs_f32()))
        .with("host", host_of(url))
        .fix("check that the server is up; try again later")
}

/// A client's error without its URL: a query may hold credentials.
fn failure(e: reqwest::Error, url: &Url) -> Error {
    let e = e.without_url();
    let mut cause = e.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return refused.error();
        }
        cause = inner.source();
    }
    let (kind, message, fix) = if e.is_timeout() {
        (ErrorKind::Timeout, "no connection in time", "check host, port and firewall")
    } else if e.is_connect() {
        (ErrorKind::Unavailable, "the host cannot be reached", "check that host and port are right and that the server is up")
    } else if e.is_builder() {
        (ErrorKind::ConfigInvalid, "the request cannot be made", "check the URL and the headers")
    } else {
        (ErrorKind::Unavailable, "the connection broke before the answer was whole", "try again later")
    };
    Error::new(kind, message).with("host", host_of(url)).fix(fix).because(e)
}
