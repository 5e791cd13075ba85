//! Several tokens for one API, each with quotas of its own: calls go to the one that has some left.

mod quota;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use http::Method;
use jiff::{SignedDuration, SpanRelativeTo, Timestamp};
use linkspan_core::{Error, ErrorKind, Result, Retry};
use serde_json::{Map, Value};

use super::{
    Authenticator,
    call::{self, Call as Question},
};
use crate::{answer::Answer, budget::Call, component::Component, inject::Inject, wiring::Build};
use quota::{Pool, Quota};

/// No wait for a quota is shorter, so that a reset in the past does not become a busy loop.
const SHORTEST: f64 = 5.0;
/// No single call is slowed down longer than this to spare the rest of a quota.
const SLOWEST: f64 = 10.0;
/// A delay below this is none.
const NOTICEABLE: f64 = 0.1;

/// Streams with the same tokens share one, and its counters.
struct Rotating {
    tokens: Vec<String>,
    quotas: Vec<Quota>,
    source: Source,
    /// What stands before the token in its header.
    method: String,
    header: String,
    /// Seconds that one call waits for a quota at most, over all waits.
    longest: f64,
    reserve_fraction: f64,
    least_reserve: f64,
    counts: Mutex<Counts>,
    seeding: tokio::sync::Mutex<()>,
    build: Build,
}

/// Where the quotas stand at the other side.
struct Source {
    url: String,
    method: Method,
    headers: Vec<(String, String)>,
    /// Statuses that mean that the server keeps no quotas.
    unavailable: Vec<u16>,
}

#[derive(Default)]
struct Counts {
    /// By token, then by quota; empty until they are known.
    pools: Vec<Vec<Pool>>,
    active: usize,
}

enum Step {
    /// The call may go out with this token, after so many seconds.
    Go(usize, f64),
    Wait(f64),
}

pub fn rotating(component: &Component<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let scope = build.scope();
    let source = component.required("quota_status_source")?;
    let headers = match source.mapping("request_headers")? {
        Some(headers) => headers.eval(&scope)?.iter().map(|(k, v)| (k.clone(), crate::python::text(v))).collect(),
        None => vec![],
    };
    let codes = source.field("unavailable_status_codes").and_then(Value::as_array);
    let method = source.text("http_method")?.unwrap_or("GET");
    let longest = component.template("max_wait_time")?.map_or_else(|| Ok("PT2H".to_owned()), |t| t.text(&scope))?;
    let quotas = component.children("quotas")?.iter().map(|c| Quota::build(c, &scope)).collect::<Result<Vec<_>>>()?;
    let made = Rotating {
        tokens: tokens(component, build)?,
        source: Source {
            url: source.required_template("url")?.text(&scope)?,
            method: Method::from_bytes(method.as_bytes()).map_err(|_| source.error("not an HTTP method"))?,
            headers,
            unavailable: codes.into_iter().flatten().filter_map(Value::as_u64).filter_map(|c| c.try_into().ok()).collect(),
        },
        method: component.text("auth_method")?.filter(|m| !m.is_empty()).unwrap_or("Bearer").to_owned(),
        header: component.text("header")?.filter(|h| !h.is_empty()).unwrap_or("Authorization").to_owned(),
        longest: seconds_of(&longest)
            .ok_or_else(|| component.error("max_wait_time is a duration of days, hours, minutes and seconds").fix("write it like PT2H"))?,
        reserve_fraction: component.number("budget_reserve_fraction")?.unwrap_or(0.1),
        least_reserve: component.integer("budget_min_reserve")?.unwrap_or(50) as f64,
        quotas,
        counts: Mutex::default(),
        seeding: tokio::sync::Mutex::default(),
        build: build.clone(),
    };
    let mut shared = build.shared.alike.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = shared.entry(made.identity(component)).or_insert_with(|| Arc::new(made)).clone();
    let rotating = shared.downcast::<Rotating>().map_err(|_| component.error("the tokens' counters are something else"))?;
    Ok(rotating)
}

fn tokens(component: &Component<'_>, build: &Build) -> Result<Vec<String>> {
    let scope = build.scope();
    let found = match component.field("tokens") {
        Some(Value::String(_)) => {
            let all = component.required_template("tokens")?.text(&scope)?;
            let between = component.text("token_delimiter")?.filter(|d| !d.is_empty()).unwrap_or(",");
            all.split(between).map(str::to_owned).collect()
        }
        _ => component.templates("tokens")?.iter().map(|t| t.text(&scope)).collect::<Result<Vec<_>>>()?,
    };
    let tokens: Vec<String> = found.iter().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
    if tokens.is_empty() {
        return Err(component.error("the config holds no token").fix("store at least one"));
    }
    Ok(tokens)
}

fn seconds_of(duration: &str) -> Option<f64> {
    let span: jiff::Span = duration.parse().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok().map(|d| d.as_secs_f64())
}

impl Rotating {
    /// What makes two of them one: parameters that a stream hands down do not count.
    fn identity(&self, component: &Component<'_>) -> String {
        let mut quotas = component.field("quotas").cloned().unwrap_or_default();
        without_parameters(&mut quotas);
        let parts = [
            format!("{:?}", self.tokens),
            quotas.to_string(),
            format!("{} {} {:?} {:?}", self.source.method, self.source.url, self.source.headers, self.source.unavailable),
            format!("{} {} {} {} {}", self.method, self.header, self.longest, self.reserve_fraction, self.least_reserve),
        ];
        blake3::hash(parts.join("\n").as_bytes()).to_string()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signed(&self, token: &str) -> String {
        format!("{} {token}", self.method).trim().to_owned()
    }

    /// The quota of a call: the first whose matchers fit, else the first without any, else the first.
    fn quota(&self, call: &Call<'_>) -> usize {
        let fitting = self.quotas.iter().position(|q| q.matchers.iter().any(|m| m.fits(call)));
        fitting.or_else(|| self.quotas.iter().position(|q| q.matchers.is_empty())).unwrap_or(0)
    }

    async fn known(&self) -> Result<()> {
        if !self.counts().pools.is_empty() {
            return Ok(());
        }
        let _one_asks = self.seeding.lock().await;
        if self.counts().pools.is_empty() { self.seed().await } else { Ok(()) }
    }

    async fn seed(&self) -> Result<()> {
        let mut pools = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            pools.push(self.fetched(token).await?);
        }
        self.counts().pools = pools;
        Ok(())
    }

    async fn fetched(&self, token: &str) -> Result<Vec<Pool>> {
        let mut headers = self.source.headers.clone();
        headers.push((self.header.clone(), self.signed(token)));
        let question = Question {
            method: self.source.method.clone(),
            url: self.source.url.clone(),
            headers,
            body: String::new(),
            body_type: "application/json",
        };
        let answer = self.asked(&question).await?;
        let now = self.build.clock.now();
        if self.source.unavailable.contains(&answer.status.as_u16()) {
            return Ok(self.quotas.iter().map(|_| Pool::untracked(now)).collect());
        }
        let body = answer.json_or_empty();
        self.quotas.iter().map(|quota| quota.read(body)).collect()
    }

    /// The quota's endpoint is tried as any other: some troubles pass.
    async fn asked(&self, question: &Question) -> Result<Answer> {
        let mut wait = 1.0;
        for attempt in 0.. {
            let came = call::send(question, &self.build).await;
            let status = match &came {
                Ok(answer) => answer.status.as_u16(),
                Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => 0,
                Err(_) => return came,
            };
            let passes = matches!(status, 0 | 408 | 429 | 500 | 502 | 503 | 504) && !self.source.unavailable.contains(&status);
            if !passes || attempt == 5 {
                return came.and_then(|answer| self.accepted(answer));
            }
            self.build.wait(wait).await;
            wait *= 2.0;
        }
        unreachable!("the loop ends by itself")
    }

    fn accepted(&self, answer: Answer) -> Result<Answer> {
        let status = answer.status.as_u16();
        if answer.is_ok() || self.source.unavailable.contains(&status) {
            return Ok(answer);
        }
        let kind = if matches!(status, 401 | 403) { ErrorKind::AuthFailed } else { ErrorKind::DataInvalid };
        Err(Error::new(kind, "the API does not say how much of the tokens' quotas is left")
            .with("status", status)
            .fix("check the tokens, and quota_status_source")
            .retry(Retry::Exhausted))
    }

    fn step(&self, quota: usize, now: Timestamp, left: f64) -> Result<Step> {
        let mut counts = self.counts();
        loop {
            let active = counts.active;
            let pool = &mut counts.pools[active][quota];
            if !pool.is_tracked {
                // Without counters nothing tells the tokens apart: they take turns.
                counts.active = (active + 1) % self.tokens.len();
                return Ok(Step::Go(active, 0.0));
            }
            if pool.remaining > 0 {
                pool.remaining -= 1;
                return Ok(Step::Go(active, self.delay(&counts, quota, now)));
            }
            if counts.pools.iter().any(|pools| pools[quota].remaining > 0 || !pools[quota].is_tracked) {
                counts.active = (active + 1) % self.tokens.len();
                continue;
            }
            let resets = counts.pools.iter().map(|pools| pools[quota].resets.duration_since(now)).min().unwrap_or(SignedDuration::ZERO);
            let wait = resets.as_secs_f64();
            if left <= 0.0 || wait >= left {
                return Err(Error::new(ErrorKind::RateLimited, "the quotas of all tokens are spent, and the wait would be too long")
                    .with("quota", &self.quotas[quota].name)
                    .fix("sync again later, add a token, or raise max_wait_time")
                    .retry(Retry::Exhausted));
            }
            return Ok(Step::Wait(wait.max(SHORTEST).min(left)));
        }
    }

    /// The last calls of a quota are spread over the time until it is full again.
    fn delay(&self, counts: &Counts, quota: usize, now: Timestamp) -> f64 {
        let pools = || counts.pools.iter().map(|pools| &pools[quota]);
        let is_low = |pool: &Pool| pool.remaining as f64 <= self.least_reserve.max(pool.limit as f64 * self.reserve_fraction);
        if !pools().all(|pool| pool.is_tracked && is_low(pool)) {
            return 0.0;
        }
        let left: i64 = pools().map(|pool| pool.remaining.max(0)).sum();
        let resets = counts.pools[counts.active][quota].resets.duration_since(now).as_secs_f64();
        if left <= 0 || resets <= 0.0 { 0.0 } else { (resets / left as f64).min(SLOWEST) }
    }

    async fn seed_where_spent(&self, quota: usize) -> Result<()> {
        let _one_asks = self.seeding.lock().await;
        let is_spent = self.counts().pools.iter().all(|pools| pools[quota].is_tracked && pools[quota].remaining <= 0);
        if is_spent { self.seed().await } else { Ok(()) }
    }

    fn sender(&self, signed: &[(String, String)]) -> Option<usize> {
        let value = signed.iter().find(|(name, _)| name.eq_ignore_ascii_case(&self.header)).map(|(_, value)| value)?;
        self.tokens.iter().position(|token| self.signed(token) == *value)
    }
}

fn without_parameters(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.shift_remove("$parameters");
            fields.values_mut().for_each(without_parameters);
        }
        Value::Array(items) => items.iter_mut().for_each(without_parameters),
        _ => {}
    }
}

#[async_trait]
impl Authenticator for Rotating {
    async fn options(&self, _: Inject) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }

    async fn charge(&self, call: &Call<'_>) -> Result<Option<(String, String)>> {
        self.known().await?;
        let quota = self.quota(call);
        let mut waited = 0.0;
        loop {
            match self.step(quota, self.build.clock.now(), self.longest - waited)? {
                Step::Go(token, delay) => {
                    if delay >= NOTICEABLE {
                        self.build.wait(delay).await;
                    }
                    return Ok(Some((self.header.clone(), self.signed(&self.tokens[token]))));
                }
                Step::Wait(seconds) => {
                    self.build.wait(seconds).await;
                    waited += seconds;
                    self.seed_where_spent(quota).await?;
                }
            }
        }
    }

    fn learn(&self, call: &Call<'_>, signed: &[(String, String)], answer: &Answer) {
        let quota = self.quota(call);
        let Some(sender) = self.sender(signed) else { return };
        if let Some(pool) = self.counts().pools.get_mut(sender).map(|pools| &mut pools[quota]) {
            self.quotas[quota].learn(pool, answer);
        }
    }

    fn has_another(&self, call: &Call<'_>, signed: &[(String, String)]) -> bool {
        let quota = self.quota(call);
        let Some(sender) = self.sender(signed) else { return false };
        let counts = self.counts();
        let Some(own) = counts.pools.get(sender).map(|pools| &pools[quota]) else { return false };
        own.is_tracked && own.remaining <= 0 && counts.pools.iter().enumerate().any(|(at, p)| at != sender && p[quota].remaining > 0)
    }
}
