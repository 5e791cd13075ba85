//! The API's budget: how many calls may be made in which time, by the manifest and by what the API says.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, SpanRelativeTo, Timestamp};
use linkspan_core::{Error, Result};
use regex::Regex;
use serde_json::Value;

use crate::{answer::Answer, component::Component, python::text, template::Scope};

pub struct Budget {
    policies: Vec<Policy>,
    reset_header: String,
    remaining_header: String,
    hit_codes: Vec<u16>,
}

/// A request, as far as matchers look at it.
pub struct Call<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(String, String)],
}

struct Policy {
    matchers: Vec<Matcher>,
    rule: Rule,
}

enum Rule {
    Unlimited,
    Fixed { limit: i64, period: SignedDuration, window: Mutex<Window> },
    Moving { rates: Vec<(i64, SignedDuration)>, calls: Mutex<VecDeque<(Timestamp, i64)>> },
}

struct Window {
    resets: Timestamp,
    used: i64,
}

/// Which requests are meant.
pub(crate) struct Matcher {
    method: Option<String>,
    base: Option<String>,
    path: Option<Regex>,
    parameters: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    weight: i64,
}

impl Budget {
    pub fn build(component: &Component<'_>, scope: &Scope<'_>) -> Result<Self> {
        let codes = component.field("status_codes_for_ratelimit_hit").and_then(Value::as_array);
        let codes: Vec<u16> = codes.into_iter().flatten().filter_map(Value::as_u64).filter_map(|c| c.try_into().ok()).collect();
        Ok(Self {
            policies: component.children("policies")?.iter().map(|c| Policy::build(c, scope)).collect::<Result<_>>()?,
            reset_header: component.text("ratelimit_reset_header")?.unwrap_or("ratelimit-reset").to_owned(),
            remaining_header: component.text("ratelimit_remaining_header")?.unwrap_or("ratelimit-remaining").to_owned(),
            hit_codes: if codes.is_empty() { vec![429] } else { codes },
        })
    }

    /// Takes the call's weight out of the budget; otherwise says how long to wait before asking again.
    pub fn take(&self, call: &Call<'_>, now: Timestamp) -> Result<Option<SignedDuration>> {
        let Some((policy, weight)) = self.matching(call) else { return Ok(None) };
        match &policy.rule {
            Rule::Unlimited => Ok(None),
            Rule::Fixed { limit, period, window } => {
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                window.turn(now, *period);
                if weight > *limit {
                    return Err(too_heavy());
                }
                if window.used + weight > *limit {
                    return Ok(Some(window.resets.duration_since(now).max(SignedDuration::from_millis(1))));
                }
                window.used += weight;
                Ok(None)
            }
            Rule::Moving { rates, calls } => {
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                moving(rates, &mut calls, weight, now)
            }
        }
    }

    /// What the answer says about the budget.
    pub fn learn(&self, call: &Call<'_>, answer: &Answer, now: Timestamp) {
        let Some((policy, _)) = self.matching(call) else { return };
        let number = |name: &str| answer.header(name).and_then(|v| v.trim().parse::<i64>().ok());
        let left = number(&self.remaining_header).or_else(|| self.hit_codes.contains(&answer.status.as_u16()).then_some(0));
        let resets = number(&self.reset_header).and_then(|s| Timestamp::from_second(s).ok());
        match &policy.rule {
            Rule::Unlimited => {}
            Rule::Fixed { limit, period, window } => {
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                window.turn(now, *period);
                if let Some(left) = left.filter(|left| limit - window.used > *left) {
                    window.used = limit - left;
                }
                if let Some(resets) = resets {
                    window.resets = resets;
                }
            }
            Rule::Moving { rates, calls } => {
                if left == Some(0) && resets.is_none() {
                    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                    let free = rates.iter().map(|(limit, interval)| limit - within(&calls, now, *interval)).min().unwrap_or(0);
                    if free > 0 {
                        calls.push_back((now, free));
                    }
                }
            }
        }
    }

    fn matching(&self, call: &Call<'_>) -> Option<(&Policy, i64)> {
        self.policies.iter().find_map(|policy| {
            if policy.matchers.is_empty() {
                return Some((policy, 1));
            }
            policy.matchers.iter().find(|m| m.fits(call)).map(|m| (policy, m.weight))
        })
    }
}

impl Window {
    fn turn(&mut self, now: Timestamp, period: SignedDuration) {
        if now > self.resets {
            self.used = 0;
            // Windows that nobody called in are skipped.
            while self.resets < now {
                self.resets = match self.resets.checked_add(period) {
                    Ok(next) if !period.is_zero() => next,
                    _ => Timestamp::MAX,
                };
            }
        }
    }
}

fn moving(
    rates: &[(i64, SignedDuration)],
    calls: &mut VecDeque<(Timestamp, i64)>,
    weight: i64,
    now: Timestamp,
) -> Result<Option<SignedDuration>> {
    let longest = rates.iter().map(|(_, interval)| *interval).max().unwrap_or_default();
    while calls.front().is_some_and(|(at, _)| now.duration_since(*at) >= longest) {
        calls.pop_front();
    }
    for (limit, interval) in rates {
        if weight > *limit {
            return Err(too_heavy());
        }
        let mut over = within(calls, now, *interval) + weight - limit;
        if over <= 0 {
            continue;
        }
        for (at, spent) in calls.iter().filter(|(at, _)| now.duration_since(*at) < *interval) {
            over -= spent;
            if over <= 0 {
                return Ok(Some((*interval - now.duration_since(*at)).max(SignedDuration::from_millis(1))));
            }
        }
    }
    calls.push_back((now, weight));
    Ok(None)
}

fn within(calls: &VecDeque<(Timestamp, i64)>, now: Timestamp, interval: SignedDuration) -> i64 {
    calls.iter().filter(|(at, _)| now.duration_since(*at) < interval).map(|(_, weight)| weight).sum()
}

fn too_heavy() -> Error {
    Error::new(linkspan_core::ErrorKind::ConfigInvalid, "one call weighs more than the API's whole budget")
        .fix("raise the limit or lower the weight")
}

impl Policy {
    fn build(component: &Component<'_>, scope: &Scope<'_>) -> Result<Self> {
        let matchers = component.children("matchers")?.iter().map(|c| Matcher::build(c, scope)).collect::<Result<_>>()?;
        let rule = match component.kind() {
            "UnlimitedCallRatePolicy" => Rule::Unlimited,
            "FixedWindowCallRatePolicy" => {
                let period = duration(component, "period")?;
                let resets = scope.now().checked_add(period).unwrap_or(Timestamp::MAX);
                Rule::Fixed { limit: whole(component, "call_limit", scope)?, period, window: Mutex::new(Window { resets, used: 0 }) }
            }
            "MovingWindowCallRatePolicy" => {
                let rates = component.children("rates")?;
                if rates.is_empty() {
                    return Err(component.error("a moving window needs rates"));
                }
                let rate = |c: &Component<'_>| Ok((whole(c, "limit", scope)?, duration(c, "interval")?));
                Rule::Moving { rates: rates.iter().map(rate).collect::<Result<_>>()?, calls: Mutex::default() }
            }
            _ => return Err(component.unknown_kind()),
        };
        Ok(Self { matchers, rule })
    }
}

fn whole(component: &Component<'_>, field: &str, scope: &Scope<'_>) -> Result<i64> {
    let value = component.required_template(field)?.value(scope)?;
    value.as_i64().ok_or_else(|| component.error("a whole number is expected here").with("field", field))
}

fn duration(component: &Component<'_>, field: &str) -> Result<SignedDuration> {
    let span: jiff::Span = component
        .required_text(field)?
        .parse()
        .map_err(|e: jiff::Error| component.error("not an ISO 8601 duration").with("field", field).because(e))?;
    span.to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|e| component.error("a duration of days and hours is expected here").with("field", field).because(e))
}

impl Matcher {
    pub(crate) fn build(component: &Component<'_>, scope: &Scope<'_>) -> Result<Self> {
        let pairs = |field: &str| -> Vec<(String, String)> {
            let map = component.field(field).and_then(Value::as_object);
            map.into_iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect()
        };
        let path = component
            .text("url_path_pattern")?
            .map(|pattern| Regex::new(pattern).map_err(|e| component.error("url_path_pattern cannot be read").because(e)));
        let weight = if component.field("weight").is_some() { whole(component, "weight", scope)? } else { 1 };
        if weight < 1 {
            return Err(component.error("a call's weight is at least 1"));
        }
        Ok(Self {
            method: component.text("method")?.map(str::to_ascii_uppercase),
            base: component.text("url_base")?.map(|base| base.trim_end_matches('/').to_owned()),
            path: path.transpose()?,
            parameters: pairs("params"),
            headers: pairs("headers").into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect(),
            weight,
        })
    }

    pub(crate) fn fits(&self, call: &Call<'_>) -> bool {
        let (address, query) = call.url.split_once('?').unwrap_or((call.url, ""));
        let host_end = address.find("://").map(|at| address[at + 3..].find('/').map_or(address.len(), |p| at + 3 + p)).unwrap_or(0);
        let (base, path) = address.split_at(host_end);
        let has_parameter =
            |(key, value): &(String, String)| url::form_urlencoded::parse(query.as_bytes()).any(|(k, v)| k == *key && v == *value);
        let has_header = |(key, value): &(String, String)| call.headers.iter().any(|(k, v)| k.eq_ignore_ascii_case(key) && v == value);
        self.method.as_ref().is_none_or(|m| m == call.method)
            && self.base.as_ref().is_none_or(|b| b == base)
            && self.path.as_ref().is_none_or(|p| p.is_match(path.trim_end_matches('/')))
            && self.parameters.iter().all(has_parameter)
            && self.headers.iter().all(has_header)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }
    fn budget(policies: Value) -> Budget {
        let component = json!({ "policies": policies });
        let config = json!({"limit": 2});
        Budget::build(&Component::new(&component, "api_budget").unwrap(), &Scope::new(&config, at(0))).unwrap()
    }
    const CALL: Call<'static> = Call { method: "GET", url: "https://a.com/v1/items/?k=1", headers: &[] };

    #[test]
    fn a_moving_window_lets_calls_through_as_old_ones_leave() {
        let budget = budget(json!([{"type": "MovingWindowCallRatePolicy", "matchers": [],
            "rates": [{"limit": "{{ config['limit'] }}", "interval": "PT10S"}]}]));
        assert_eq!(budget.take(&CALL, at(0)).unwrap(), None);
        assert_eq!(budget.take(&CALL, at(4)).unwrap(), None);
        assert_eq!(budget.take(&CALL, at(5)).unwrap(), Some(SignedDuration::from_secs(5)));
        assert_eq!(budget.take(&CALL, at(10)).unwrap(), None);
        assert_eq!(budget.take(&CALL, at(10)).unwrap(), Some(SignedDuration::from_secs(4)));
    }

    #[test]
    fn a_fixed_window_follows_what_the_api_says() {
        let budget = budget(json!([{"type": "FixedWindowCallRatePolicy", "period": "PT1M", "call_limit": 10, "matchers": []}]));
        assert_eq!(budget.take(&CALL, at(0)).unwrap(), None);
        let mut headers = http::HeaderMap::new();
        headers.insert("ratelimit-remaining", http::HeaderValue::from_static("0"));
        headers.insert("ratelimit-reset", http::HeaderValue::from_static("1000030"));
        budget.learn(&CALL, &Answer::new(http::StatusCode::OK, headers, "", bytes::Bytes::new()), at(1));
        assert_eq!(budget.take(&CALL, at(2)).unwrap(), Some(SignedDuration::from_secs(28)));
        assert_eq!(budget.take(&CALL, at(31)).unwrap(), None);
    }

    #[test]
    fn the_first_policy_that_fits_counts() {
        let matcher =
            json!({"method": "get", "url_base": "https://a.com/", "url_path_pattern": "/items$", "params": {"k": 1}, "weight": 3});
        let budget = budget(json!([
            {"type": "FixedWindowCallRatePolicy", "period": "PT1M", "call_limit": 5, "matchers": [matcher]},
            {"type": "UnlimitedCallRatePolicy", "matchers": []},
        ]));
        assert_eq!(budget.take(&CALL, at(0)).unwrap(), None);
        assert!(budget.take(&CALL, at(0)).unwrap().is_some());
        assert_eq!(budget.take(&Call { url: "https://a.com/v1/items?k=2", ..CALL }, at(0)).unwrap(), None);
        assert_eq!(budget.take(&Call { method: "POST", ..CALL }, at(0)).unwrap(), None);
    }
}
