//! Handlers: rules in their order, or several handlers one after the other.

use linkspan_core::Result;
use serde_json::Value;

use super::{
    backoff::Backoff,
    filter::Filter,
    meaning::{Came, Resolution},
};
use crate::{component::Component, wiring::Build};

const RETRIES: i64 = 5;

pub enum Handler {
    Rules { filters: Vec<Filter>, backoffs: Vec<Backoff>, retries: i64 },
    Several(Vec<Handler>),
}

impl Handler {
    /// The handler of a requester that names none.
    pub fn standard() -> Self {
        Self::Rules { filters: Vec::new(), backoffs: Vec::new(), retries: RETRIES }
    }

    pub fn build(component: &Component<'_>, build: &Build) -> Result<Self> {
        match component.kind() {
            "DefaultErrorHandler" => Ok(Self::Rules {
                filters: component.children("response_filters")?.iter().map(Filter::build).collect::<Result<_>>()?,
                backoffs: component.children("backoff_strategies")?.iter().map(|c| Backoff::build(c, build)).collect::<Result<_>>()?,
                retries: retries(component, build)?,
            }),
            "CompositeErrorHandler" => {
                let handlers = component.children("error_handlers")?;
                if handlers.is_empty() {
                    return Err(component.error("a composite error handler needs at least one handler"));
                }
                handlers.iter().map(|c| Self::build(c, build)).collect::<Result<_>>().map(Self::Several)
            }
            _ => Err(component.unknown_kind()),
        }
    }

    /// How often a request is sent again at most.
    pub fn retries(&self) -> i64 {
        match self {
            Self::Rules { retries, .. } => *retries,
            Self::Several(handlers) => handlers.first().map_or(RETRIES, Self::retries),
        }
    }

    pub fn judge(&self, came: Came<'_>, build: &Build) -> Result<Resolution> {
        match self {
            Self::Rules { filters, .. } => {
                for filter in filters {
                    if let Some(found) = filter.judge(came, build)? {
                        return Ok(found);
                    }
                }
                Ok(by_default(came))
            }
            Self::Several(handlers) => {
                let mut last = None;
                for handler in handlers {
                    let found = handler.judge(came, build)?;
                    if found.action.ends_composite() {
                        return Ok(found);
                    }
                    last = Some(found);
                }
                Ok(last.unwrap_or_else(|| Resolution::fallback(came)))
            }
        }
    }

    /// The first wait that a strategy names, in seconds; 0 and silence leave it to the next one.
    pub fn wait(&self, came: Came<'_>, attempt: u32, build: &Build) -> Result<Option<f64>> {
        match self {
            Self::Rules { backoffs, .. } => {
                for backoff in backoffs {
                    if let Some(seconds) = backoff.seconds(came, attempt, build)?.filter(|s| *s != 0.0) {
                        return Ok(Some(seconds));
                    }
                }
                Ok(None)
            }
            Self::Several(handlers) => {
                for handler in handlers {
                    if let Some(seconds) = handler.wait(came, attempt, build)? {
                        return Ok(Some(seconds));
                    }
                }
                Ok(None)
            }
        }
    }
}

fn by_default(came: Came<'_>) -> Resolution {
    match came {
        Came::Answer(answer) if answer.is_ok() => Resolution::SUCCESS,
        Came::Answer(answer) => Resolution::of_status(answer.status.as_u16()).unwrap_or_else(|| Resolution::fallback(came)),
        Came::Broken(_) => Resolution::fallback(came),
    }
}

fn retries(component: &Component<'_>, build: &Build) -> Result<i64> {
    let Some(template) = component.template("max_retries")? else { return Ok(RETRIES) };
    let value = template.eval_or(&build.scope(), "5")?;
    let number = match &value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f.trunc() as i64)),
        Value::Bool(b) => Some(i64::from(*b)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| component.error("max_retries is no whole number"))
}
