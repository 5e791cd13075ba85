//! One quota of a token: which calls count, and how much is left as the API says it.

use jiff::{SignedDuration, Timestamp};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::{answer::Answer, auth::times, budget::Matcher, component::Component, template::Scope};

/// An answer whose window ends this much earlier still speaks of the window of now.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

pub(super) struct Quota {
    pub(super) name: String,
    pub(super) matchers: Vec<Matcher>,
    remaining: Vec<String>,
    resets: Vec<String>,
    limit: Vec<String>,
    remaining_header: Option<String>,
    reset_header: Option<String>,
    limit_header: Option<String>,
    exhaustion: Vec<u16>,
}

/// What a token has left of a quota.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pool {
    pub(super) remaining: i64,
    pub(super) resets: Timestamp,
    pub(super) limit: i64,
    /// Whether the server keeps count at all.
    pub(super) is_tracked: bool,
}

impl Pool {
    pub(super) fn untracked(now: Timestamp) -> Self {
        Self { remaining: 0, resets: now, limit: 0, is_tracked: false }
    }
}

impl Quota {
    pub(super) fn build(component: &Component<'_>, scope: &Scope<'_>) -> Result<Self> {
        let path =
            |name: &str| -> Result<Vec<String>> { Ok(component.texts(name)?.unwrap_or_default().into_iter().map(str::to_owned).collect()) };
        let header = |name: &str| component.text(name).map(|h| h.filter(|h| !h.is_empty()).map(str::to_owned));
        let codes = component.field("exhaustion_status_codes").and_then(Value::as_array);
        Ok(Self {
            name: component.required_text("name")?.to_owned(),
            matchers: component.children("matchers")?.iter().map(|c| Matcher::build(c, scope)).collect::<Result<_>>()?,
            remaining: path("remaining_path")?,
            resets: path("reset_path")?,
            limit: path("limit_path")?,
            remaining_header: header("remaining_header")?,
            reset_header: header("reset_header")?,
            limit_header: header("limit_header")?,
            exhaustion: codes.into_iter().flatten().filter_map(Value::as_u64).filter_map(|c| c.try_into().ok()).collect(),
        })
    }

    /// The pool as the quota's endpoint describes it.
    pub(super) fn read(&self, body: &Value) -> Result<Pool> {
        let remaining = whole(self.at(body, &self.remaining)?).ok_or_else(|| self.wrong("remaining_path"))?;
        let resets = times::moment(self.at(body, &self.resets)?).ok_or_else(|| self.wrong("reset_path"))?;
        let limit = match &self.limit[..] {
            [] => remaining,
            path => whole(self.at(body, path)?).ok_or_else(|| self.wrong("limit_path"))?,
        };
        Ok(Pool { remaining, resets, limit, is_tracked: true })
    }

    fn at<'a>(&self, body: &'a Value, path: &[String]) -> Result<&'a Value> {
        path.iter().try_fold(body, |value, key| value.as_object()?.get(key)).ok_or_else(|| self.wrong("path"))
    }

    fn wrong(&self, field: &'static str) -> Error {
        Error::new(ErrorKind::DataInvalid, "the answer about the tokens' quotas does not hold what the manifest expects")
            .with("quota", &self.name)
            .with("field", field)
            .fix("check the paths of the quota against what its endpoint answers")
    }

    /// What an answer says about the pool of the token that asked.
    pub(super) fn learn(&self, pool: &mut Pool, answer: &Answer) {
        let number = |name: &Option<String>| name.as_ref().and_then(|n| answer.header(n)).and_then(|v| v.trim().parse::<i64>().ok());
        let is_refused = self.exhaustion.contains(&answer.status.as_u16());
        let remaining = number(&self.remaining_header).or(is_refused.then_some(0));
        let resets = self.reset_header.as_ref().and_then(|n| answer.header(n)).and_then(|v| times::moment(&v.into()));
        let limit = number(&self.limit_header).filter(|limit| *limit > 0);
        if !pool.is_tracked {
            return;
        }
        if let Some(limit) = limit.filter(|_| resets.is_none_or(|r| r >= pool.resets)) {
            pool.limit = limit;
        }
        if let Some(resets) = resets.filter(|r| *r > pool.resets) {
            // Another window: what was counted is gone.
            *pool = Pool { remaining: remaining.unwrap_or(pool.limit), resets, ..pool.clone() };
            return;
        }
        let Some(remaining) = remaining else { return };
        let is_current = resets.is_none_or(|r| r >= pool.resets.checked_sub(SKEW).unwrap_or(Timestamp::MIN));
        if is_current || (remaining <= 0 && is_refused) {
            // Answers come out of order: within a window the estimate only falls.
            pool.remaining = pool.remaining.min(remaining);
        }
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|f| f.is_finite()).map(|f| f.trunc() as i64)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(b) => Some(i64::from(*b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota() -> Quota {
        let component = json!({"name": "core", "remaining_path": ["r"], "reset_path": ["at"], "limit_path": ["l"], "remaining_header": "X-Left",
            "reset_header": "X-Reset", "limit_header": "X-Limit", "exhaustion_status_codes": [403]});
        let config = json!({});
        Quota::build(&Component::new(&component, "quota").unwrap(), &Scope::new(&config, Timestamp::UNIX_EPOCH)).unwrap()
    }
    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let headers = headers.iter().map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v))).collect();
        Answer::new(http::StatusCode::from_u16(status).unwrap(), headers, "", bytes::Bytes::new())
    }

    #[test]
    fn a_pool_is_read_and_follows_the_answers() {
        let quota = quota();
        let mut pool = quota.read(&json!({"r": "10", "at": 1_710_504_000, "l": 60})).unwrap();
        assert_eq!((pool.remaining, pool.limit, pool.is_tracked), (10, 60, true));
        assert!(quota.read(&json!({"r": 10})).is_err());
        quota.learn(&mut pool, &answer(200, &[("x-left", "12")]));
        assert_eq!(pool.remaining, 10, "within a window the count only falls");
        quota.learn(&mut pool, &answer(200, &[("x-left", "3"), ("x-reset", "1710503000")]));
        assert_eq!(pool.remaining, 10, "an older window says nothing");
        quota.learn(&mut pool, &answer(403, &[("x-reset", "1710503000")]));
        assert_eq!(pool.remaining, 0, "a refusal always counts");
        quota.learn(&mut pool, &answer(200, &[("x-reset", "1710507600"), ("x-limit", "50")]));
        assert_eq!((pool.remaining, pool.limit), (50, 50), "a new window is full");
    }
}
