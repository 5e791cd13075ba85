//! How long to wait before a request is sent again.

use linkspan_core::{Error, ErrorKind, Result};
use regex::Regex;
use serde_json::Value;

use super::meaning::Came;
use crate::{
    answer::Answer,
    component::Component,
    template::{Scope, Template},
    wiring::Build,
};

pub enum Backoff {
    Constant {
        seconds: Template,
        jitter: Option<f64>,
    },
    Exponential {
        factor: Template,
        jitter: Option<f64>,
    },
    /// A header says how many seconds.
    FromHeader {
        header: Template,
        regex: Option<Template>,
        most: Option<Template>,
    },
    /// A header says until when.
    UntilHeader {
        header: Template,
        regex: Option<Template>,
        least: Option<Template>,
        most: Option<Template>,
    },
    FromResponse {
        seconds: Template,
        most: Option<Template>,
    },
}

impl Backoff {
    pub fn build(component: &Component<'_>, build: &Build) -> Result<Self> {
        let jitter = component.number("jitter_range_in_seconds")?;
        if jitter.is_some_and(|j| !j.is_finite() || j < 0.0) {
            return Err(component.error("jitter_range_in_seconds must be a number from 0 on"));
        }
        let most = component.template("max_waiting_time_in_seconds")?;
        let header = || component.required_template("header");
        let regex = || component.template("regex");
        let built = match component.kind() {
            "ConstantBackoffStrategy" => Self::Constant { seconds: component.required_template("backoff_time_in_seconds")?, jitter },
            "ExponentialBackoffStrategy" => {
                let factor = component.template("factor")?.map_or_else(|| Template::parse("5", component.parameters()), Ok)?;
                Self::Exponential { factor, jitter }
            }
            "WaitTimeFromHeader" => Self::FromHeader { header: header()?, regex: regex()?, most },
            "WaitUntilTimeFromHeader" => {
                Self::UntilHeader { header: header()?, regex: regex()?, least: component.template("min_wait")?, most }
            }
            "WaitTimeFromResponse" => Self::FromResponse { seconds: component.required_template("wait_time_in_seconds")?, most },
            _ => return Err(component.unknown_kind()),
        };
        // A cap that cannot be read is told before the first request, not at the first error.
        if let Some(most) = built.most() {
            number(most, build)?;
        }
        Ok(built)
    }

    fn most(&self) -> Option<&Template> {
        match self {
            Self::FromHeader { most, .. } | Self::UntilHeader { most, .. } | Self::FromResponse { most, .. } => most.as_ref(),
            _ => None,
        }
    }

    /// Seconds to wait; `None` leaves it to others. An error when the wait is longer than the manifest allows.
    pub fn seconds(&self, came: Came<'_>, attempt: u32, build: &Build) -> Result<Option<f64>> {
        let answer = match came {
            Came::Answer(answer) => Some(answer),
            Came::Broken(_) => None,
        };
        match self {
            Self::Constant { seconds, jitter } => Ok(Some(spread(number(seconds, build)?, *jitter))),
            Self::Exponential { factor, jitter } => {
                let doubled = number(factor, build)? * 2_f64.powi(attempt.min(1000) as i32);
                Ok(Some(spread(doubled, *jitter)))
            }
            Self::FromHeader { header, regex, .. } => {
                let told = answer.map(|a| told(a, header, regex.as_ref(), build)).transpose()?.flatten();
                self.within(told.filter(|t| *t != 0.0), build)
            }
            Self::UntilHeader { header, regex, least, .. } => {
                let until = answer.map(|a| told(a, header, regex.as_ref(), build)).transpose()?.flatten();
                let now = build.clock.now().as_microsecond() as f64 / 1e6;
                let least = least.as_ref().map(|t| number(t, build)).transpose()?.filter(|l| *l != 0.0);
                let wait = match (until.filter(|u| *u != 0.0), least) {
                    (None, least) => least,
                    (Some(until), Some(least)) => Some((until - now).max(least)),
                    (Some(until), None) => Some(until - now).filter(|w| *w >= 0.0),
                };
                self.within(wait, build)
            }
            Self::FromResponse { seconds, .. } => {
                let wait = asked(seconds, answer, build).filter(|w| w.is_finite() && *w >= 0.0);
                self.within(wait, build)
            }
        }
    }

    fn within(&self, wait: Option<f64>, build: &Build) -> Result<Option<f64>> {
        let (Some(wait), Some(most)) = (wait, self.most()) else { return Ok(wait) };
        let most = number(most, build)?;
        if wait > 0.0 && wait >= most {
            return Err(Error::new(ErrorKind::RateLimited, "the API asks to wait longer than the manifest allows")
                .with("seconds", wait)
                .with("most", most)
                .fix("sync again later"));
        }
        Ok(Some(wait))
    }
}

fn spread(seconds: f64, jitter: Option<f64>) -> f64 {
    let Some(range) = jitter.filter(|r| *r > 0.0) else { return seconds };
    // Any spread will do: it only keeps callers from asking in step.
    let drawn = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0_u8) as f64 / u64::MAX as f64;
    seconds + drawn * range * 2.0
}

fn number(template: &Template, build: &Build) -> Result<f64> {
    let value = template.value(&build.scope())?;
    as_number(&value).filter(|n| n.is_finite()).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "a wait is no number").with("template", template.source()).fix("write a number of seconds")
    })
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The number that a header holds, or the part of it that the pattern fits from the start.
fn told(answer: &Answer, header: &Template, regex: Option<&Template>, build: &Build) -> Result<Option<f64>> {
    let Some(text) = answer.header(&build.text(header)?).filter(|t| !t.is_empty()) else { return Ok(None) };
    let Some(pattern) = regex else { return Ok(text.trim().parse().ok()) };
    let pattern = build.text(pattern)?;
    let fitted = Regex::new(&format!("^(?:{pattern})"))
        .map_err(|e| Error::new(ErrorKind::ConfigInvalid, "the backoff's pattern cannot be read").with("regex", &pattern).because(e))?;
    let part = fitted.find(text).map_or(text, |m| m.as_str());
    Ok(part.trim().parse().ok())
}

/// What the expression says about this answer; one that cannot be evaluated on it says nothing.
fn asked(seconds: &Template, answer: Option<&Answer>, build: &Build) -> Option<f64> {
    let empty = Value::Object(serde_json::Map::new());
    let (response, headers) = answer.map_or((&empty, &empty), |a| (a.json_or_empty(), a.headers_json()));
    let scope = Scope::new(&build.config, build.clock.now()).response(response).headers(headers);
    as_number(&seconds.eval(&scope).ok()?)
}
