//! Sending a request until it is answered: each kind of trouble has its own count of tries.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use linkspan_core::{Body, Error, ErrorKind, Result, Retry};
use linkspan_http::{Redirects, Timeouts};

use super::requester::{Asked, Draft, Requester};
use crate::{
    answer::Answer,
    auth::Refresh,
    budget::Call,
    errors::{Action, Blame, Came, Resolution},
    inject::Inject,
    wiring::Note,
};

/// A page is held in memory: larger ones are refused.
const LARGEST_BODY: usize = 256 << 20;
/// Seconds after which no further try of one request is begun.
const LONGEST: f64 = 600.0;
/// Seconds before a request goes out with another token.
const ROTATION: f64 = 0.1;
/// A server that asks for a longer wait than this is not waited for.
const LONGEST_WAIT: f64 = 25.0 * 3600.0;

/// What one attempt led to.
enum Attempt {
    Done(Asked),
    Again { pause: Pause, error: Error },
}

#[derive(Clone, Copy, PartialEq)]
enum Pause {
    /// The handler named the seconds.
    Named(f64),
    /// Another token is asked with.
    Rotated,
    /// A rate limit without a time.
    Limited,
    Standard,
}

/// Tries of one kind: how many are left, and since when.
struct Tries {
    left: i64,
    since: jiff::Timestamp,
    /// Whether the time is bounded too.
    timed: bool,
    doubled: f64,
}

impl Tries {
    fn new(requester: &Requester, timed: bool) -> Self {
        Self { left: requester.handler.retries().max(0), since: requester.build.clock.now(), timed, doubled: 1.0 }
    }
    /// Whether another try may be begun; takes it.
    fn take(&mut self, requester: &Requester) -> bool {
        self.left -= 1;
        self.left >= 0 && !(self.timed && self.elapsed(requester) >= LONGEST)
    }
    fn elapsed(&self, requester: &Requester) -> f64 {
        requester.build.clock.now().duration_since(self.since).as_secs_f64()
    }
    /// 1, 2, 4, … seconds, within the time that is left.
    fn next_wait(&mut self, requester: &Requester) -> f64 {
        let wait = self.doubled;
        self.doubled *= 2.0;
        if self.timed { wait.min(LONGEST - self.elapsed(requester)) } else { wait }
    }
}

/// What is remembered over the attempts of one request.
#[derive(Default)]
struct Course {
    attempts: u32,
    refreshed: Option<bool>,
}

impl Requester {
    pub(super) async fn send(&self, mut draft: Draft) -> Result<Asked> {
        let key = (self.use_cache && draft.method.is_safe()).then(|| fingerprint(&draft));
        if let Some(answer) = key.as_ref().and_then(|key| self.build.shared.cache.get(key)) {
            return Ok(Asked::Answer(Arc::new(answer)));
        }
        let asked = self.persist(&mut draft).await?;
        if let (Some(key), Asked::Answer(answer)) = (key, &asked)
            && answer.status == http::StatusCode::OK
        {
            self.build.shared.cache.put(key, answer);
        }
        Ok(asked)
    }

    /// Three counts, one inside the other, as the reference nests them: a standard pause begins the inner counts anew.
    async fn persist(&self, draft: &mut Draft) -> Result<Asked> {
        let mut course = Course::default();
        let mut standard = Tries::new(self, true);
        loop {
            let mut limited = Tries::new(self, false);
            loop {
                let mut named = Tries::new(self, true);
                let (pause, error) = loop {
                    match self.attempt(draft, &mut course).await? {
                        Attempt::Done(asked) => return Ok(asked),
                        Attempt::Again { pause: Pause::Named(seconds), error } => {
                            if !named.take(self) {
                                return Err(given_up(error));
                            }
                            self.build.wait(seconds + 1.0).await;
                        }
                        Attempt::Again { pause: Pause::Rotated, error } => {
                            if !named.take(self) {
                                return Err(given_up(error));
                            }
                            self.build.wait(ROTATION).await;
                        }
                        Attempt::Again { pause, error } => break (pause, error),
                    }
                };
                if pause != Pause::Limited {
                    if !standard.take(self) {
                        return Err(given_up(error));
                    }
                    self.build.wait(standard.next_wait(self)).await;
                    break;
                }
                if !limited.take(self) {
                    return Err(given_up(error));
                }
                self.build.wait(limited.next_wait(self)).await;
            }
        }
    }

    async fn attempt(&self, draft: &mut Draft, course: &mut Course) -> Result<Attempt> {
        course.attempts += 1;
        if course.attempts > 1 {
            self.sign(draft).await?;
        }
        if let Some((name, value)) = self.auth.charge(&call(draft)).await? {
            draft.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(&name));
            draft.signed.retain(|(n, _)| !n.eq_ignore_ascii_case(&name));
            draft.signed.push((name, value));
        }
        let came = self.once(draft).await;
        let came = match came {
            Err(e) if !is_transient(&e) => return Err(e),
            came => came,
        };
        let seen = came.as_ref().map_or_else(Came::Broken, Came::Answer);
        let resolution = self.handler.judge(seen, &self.build)?;
        let status = came.as_ref().ok().map(|a| a.status.as_u16());
        match resolution.action {
            Action::Success | Action::Ignore => Ok(Attempt::Done(self.accepted(came, &resolution))),
            Action::ResetPagination => Ok(Attempt::Done(Asked::ResetPagination)),
            Action::ReducePageSize => Ok(Attempt::Done(Asked::ReducePageSize(resolution.message.map(Into::into)))),
            Action::SplitRequestWindow => Ok(Attempt::Done(Asked::SplitRequestWindow(resolution.message.map(Into::into)))),
            Action::Fail => Err(self.failure(resolution, status, came.err())),
            Action::Retry | Action::RateLimited | Action::RefreshTokenThenRetry => {
                if resolution.action == Action::RateLimited {
                    self.build.note(Note::RateLimited(self.name.clone()));
                }
                if resolution.action == Action::RefreshTokenThenRetry {
                    self.refresh(draft, course).await?;
                }
                if resolution.action == Action::RateLimited && self.auth.has_another(&call(draft), &draft.signed) {
                    return Ok(Attempt::Again { pause: Pause::Rotated, error: self.failure(resolution, status, came.err()) });
                }
                let pause = match self.handler.wait(seen, course.attempts, &self.build)? {
                    Some(seconds) => Pause::Named(bounded(seconds)?),
                    None if resolution.action == Action::RateLimited => Pause::Limited,
                    None => Pause::Standard,
                };
                Ok(Attempt::Again { pause, error: self.failure(resolution, status, came.err()) })
            }
        }
    }

    /// An accepted answer. A broken request that is to be ignored counts as one without records.
    fn accepted(&self, came: Result<Answer>, resolution: &Resolution) -> Asked {
        if resolution.action == Action::Ignore {
            let status = came.as_ref().map_or(0, |a| a.status.as_u16());
            let message = resolution.message.as_deref().unwrap_or("an answer is ignored as the manifest says");
            self.build.note(Note::Info(self.name.clone(), format!("{message} (status {status})")));
        }
        Asked::Answer(Arc::new(
            came.unwrap_or_else(|_| Answer::new(http::StatusCode::SERVICE_UNAVAILABLE, http::HeaderMap::new(), "", Bytes::new())),
        ))
    }

    /// Asks the authenticator again: a token may have been replaced meanwhile.
    async fn sign(&self, draft: &mut Draft) -> Result<()> {
        let fresh = self.auth.options(Inject::Header).await?;
        draft.signed = fresh.iter().map(|(name, value)| (name.clone(), crate::python::text(value))).collect();
        Ok(())
    }

    async fn refresh(&self, draft: &Draft, course: &mut Course) -> Result<()> {
        match course.refreshed {
            Some(true) => {
                return Err(Error::new(ErrorKind::AuthFailed, "the API refuses the token although it was just refreshed")
                    .with("stream", &self.name)
                    .fix("sign in again"));
            }
            Some(false) => {
                return Err(Error::new(ErrorKind::Unavailable, "the API refuses the token, and it could not be refreshed")
                    .with("stream", &self.name)
                    .retry(Retry::Exhausted));
            }
            None => {}
        }
        let sent = draft.signed.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, value)| value.as_str());
        match self.auth.refresh(sent).await {
            Ok(Refresh::Unsupported) => {}
            Ok(Refresh::Done) => course.refreshed = Some(true),
            Err(e) if matches!(e.kind(), ErrorKind::ConfigInvalid | ErrorKind::AuthFailed) => return Err(e),
            Err(_) => course.refreshed = Some(false),
        }
        Ok(())
    }

    /// One request over the wire, its answer read to the end.
    async fn once(&self, draft: &Draft) -> Result<Answer> {
        let request = self.request(draft)?;
        self.afford(draft).await?;
        let (parts, body) = self.build.http.send(request).await?.into_parts();
        let body = body.bytes(LARGEST_BODY).await.map_err(|e| e.with("stream", &self.name))?;
        let answer = Answer::new(parts.status, parts.headers, bare(&draft.url), body);
        if let Some(budget) = &self.build.budget {
            budget.learn(&call(draft), &answer, self.build.clock.now());
        }
        self.auth.learn(&call(draft), &draft.signed, &answer);
        Ok(answer)
    }

    /// Waits until the API's budget has room for the call.
    async fn afford(&self, draft: &Draft) -> Result<()> {
        let Some(budget) = &self.build.budget else { return Ok(()) };
        // A clock that stands still, or waits that are scaled down, must not turn this into a busy loop: what was waited counts.
        let mut waited = jiff::SignedDuration::ZERO;
        while let Some(wait) = budget.take(&call(draft), self.build.clock.now().checked_add(waited).unwrap_or(jiff::Timestamp::MAX))? {
            let seconds = bounded(wait.as_secs_f64())?;
            let before = self.build.clock.now();
            self.build.wait(seconds).await;
            waited += wait.saturating_sub(self.build.clock.now().duration_since(before)).max(jiff::SignedDuration::ZERO);
        }
        Ok(())
    }

    fn request(&self, draft: &Draft) -> Result<Request<Body>> {
        let uri: Uri = draft.url.parse().map_err(|e: http::uri::InvalidUri| {
            Error::new(ErrorKind::ConfigInvalid, "the request's address is none").with("stream", &self.name).because(e)
        })?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "only http and https addresses can be asked").with("stream", &self.name));
        }
        let mut request = Request::new(Body::Full(draft.body.clone()));
        *request.method_mut() = draft.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(kind) = draft.body_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in &draft.headers {
            let (name, value) = header_of(name, value)?;
            headers.insert(name, value);
        }
        for (name, value) in &draft.signed {
            let (name, mut value) = header_of(name, value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        request.extensions_mut().insert(Redirects::Follow(30));
        if let Some(answer) = self.patience {
            request.extensions_mut().insert(Timeouts { answer, ..Timeouts::default() });
        }
        Ok(request)
    }

    fn failure(&self, resolution: Resolution, status: Option<u16>, cause: Option<Error>) -> Error {
        let blame = resolution.blame.unwrap_or(Blame::System);
        let message = resolution.message.unwrap_or("the API's answer is a failure".into());
        let mut error = Error::new(blame.kind(status), message).with("stream", &self.name);
        if let Some(status) = status {
            error = error.with("status", status);
        }
        match cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }
}

fn call(draft: &Draft) -> Call<'_> {
    Call { method: draft.method.as_str(), url: &draft.url, headers: &draft.headers }
}

/// Whether the network failed, and not the request itself.
fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

fn bounded(seconds: f64) -> Result<f64> {
    if seconds.is_finite() && seconds <= LONGEST_WAIT {
        return Ok(seconds.max(0.0));
    }
    Err(Error::new(ErrorKind::RateLimited, "the API asks to wait longer than a day").with("seconds", seconds).fix("sync again later"))
}

fn given_up(error: Error) -> Error {
    error.retry(Retry::Exhausted)
}

fn header_of(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let bad = |what: &'static str| Error::new(ErrorKind::ConfigInvalid, what).with("header", name);
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("not a header's name"))?;
    let value = HeaderValue::from_bytes(value.trim_start_matches([' ', '\t']).as_bytes())
        .map_err(|_| bad("a header's value holds what no header can"))?;
    Ok((parsed, value))
}

/// Scheme, host and path.
fn bare(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://").and_then(|(scheme, rest)| rest.split_once('@').map(|(_, host)| (scheme, host))) {
        Some((scheme, host)) => format!("{scheme}://{host}"),
        None => url.to_owned(),
    }
}

/// All that makes a request the same as another one.
fn fingerprint(draft: &Draft) -> Vec<u8> {
    let mut key = format!("{} {}\n", draft.method, draft.url).into_bytes();
    let mut headers: Vec<_> = draft.headers.iter().chain(&draft.signed).collect();
    headers.sort();
    for (name, value) in headers {
        key.extend_from_slice(name.as_bytes());
        key.push(b':');
        key.extend_from_slice(value.as_bytes());
        key.push(b'\n');
    }
    key.extend_from_slice(&draft.body);
    key
}
