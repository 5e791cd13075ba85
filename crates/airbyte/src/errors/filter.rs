//! One rule of an error handler: which answers it is about, and what they mean.

use std::borrow::Cow;

use linkspan_core::Result;
use serde_json::Value;

use super::{
    meaning::{Action, Blame, Came, Resolution},
    message,
};
use crate::{
    answer::Answer,
    component::Component,
    template::{Condition, Scope, Template},
    wiring::Build,
};

pub struct Filter {
    action: Option<Action>,
    blame: Option<Blame>,
    codes: Vec<u16>,
    contains: String,
    predicate: Option<Condition>,
    message: Option<Template>,
}

impl Filter {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let word = |field: &str| component.text(field);
        let action =
            word("action")?.map(|w| Action::of(w).ok_or_else(|| component.error("not an action").with("action", w))).transpose()?;
        let blame = word("failure_type")?
            .map(|w| Blame::of(w).ok_or_else(|| component.error("not a failure type").with("failure_type", w)))
            .transpose()?;
        let codes = component.field("http_codes").and_then(Value::as_array).into_iter().flatten();
        Ok(Self {
            action,
            blame,
            codes: codes.filter_map(Value::as_u64).filter_map(|c| u16::try_from(c).ok()).collect(),
            contains: word("error_message_contains")?.unwrap_or_default().to_owned(),
            predicate: component.condition("predicate")?.filter(|_| component.field("predicate") != Some(&Value::String(String::new()))),
            message: component.template("error_message")?.filter(|t| !t.source().is_empty()),
        })
    }

    /// What the rule says about this answer; `None` when it is not about it. Broken requests are no rule's matter.
    pub fn judge(&self, came: Came<'_>, build: &Build) -> Result<Option<Resolution>> {
        let Came::Answer(answer) = came else { return Ok(None) };
        let Some(action) = self.action else { return Ok(None) };
        if !self.is_about(answer, build)? {
            return Ok(None);
        }
        let known = Resolution::of_status(answer.status.as_u16());
        let message = match &self.message {
            Some(template) => Some(template.text(&scope(&build.config, answer, build))?).filter(|m| !m.is_empty()).map(Cow::Owned),
            None => None,
        };
        let blame = match (self.blame, &known) {
            (Some(blame), _) if action == Action::Fail => Some(blame),
            (_, Some(known)) => known.blame,
            _ => Some(Blame::System),
        };
        Ok(Some(Resolution { action, blame, message: message.or_else(|| known.and_then(|k| k.message)) }))
    }

    fn is_about(&self, answer: &Answer, build: &Build) -> Result<bool> {
        if self.codes.contains(&answer.status.as_u16()) {
            return Ok(true);
        }
        // A predicate sees no config: there it is null, as in the reference.
        if let Some(predicate) = &self.predicate
            && predicate.eval(&scope(&Value::Null, answer, build))?
        {
            return Ok(true);
        }
        Ok(!self.contains.is_empty() && message::of(answer).is_some_and(|text| text.contains(&self.contains)))
    }
}

fn scope<'a>(config: &'a Value, answer: &'a Answer, build: &Build) -> Scope<'a> {
    Scope::new(config, build.clock.now()).response(answer.json_or_empty()).headers(answer.headers_json()).with("request_url", &answer.url)
}
