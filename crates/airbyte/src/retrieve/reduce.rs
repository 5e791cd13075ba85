//! Smaller pages for an API that refuses large ones.

use linkspan_core::{Error, ErrorKind, Result};

use crate::component::Component;

/// How pages are made smaller.
pub struct Reduction {
    factor: f64,
    least: i64,
    attempts: u32,
    seconds: f64,
    retries_at_least: u32,
    failure_message: String,
    restores: bool,
}

impl Reduction {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let built = Self {
            factor: component.number("reduction_factor")?.unwrap_or(2.0),
            least: component.integer("minimum_page_size")?.unwrap_or(1),
            attempts: component.integer("max_attempts")?.unwrap_or(5).try_into().unwrap_or(0),
            seconds: component.number("backoff_seconds")?.unwrap_or(0.5),
            retries_at_least: component.integer("retries_at_minimum_page_size")?.unwrap_or(0).try_into().unwrap_or(0),
            failure_message: component.text("failure_message")?.unwrap_or_default().trim().to_owned(),
            restores: component.text("reset_policy")? == Some("AFTER_SUCCESSFUL_PAGE"),
        };
        let is_fine = built.factor > 1.0 && built.least >= 1 && built.attempts >= 1 && built.seconds >= 0.0;
        if is_fine { Ok(built) } else { Err(component.error("a page size cannot be reduced like this")) }
    }
}

/// The page size of one slice's reading.
#[derive(Default)]
pub struct Reducer {
    pub size: Option<i64>,
    attempts: u32,
    retries: u32,
}

impl Reducer {
    /// The wait before the same page is asked for again, with the size that is set then.
    pub fn reduce(&mut self, by: &Reduction, configured: Option<i64>) -> Result<f64> {
        let configured = configured.ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "a page size is to be reduced, and none is asked for")
                .fix("set page_size and page_size_option")
        })?;
        let current = self.size.unwrap_or(configured);
        let reduced = by.least.max((current as f64 / by.factor).floor() as i64);
        if reduced >= current {
            return self.again(by, current);
        }
        self.attempts += 1;
        if self.attempts > by.attempts {
            return Err(refused("the API refuses pages of every size", by));
        }
        self.size = Some(reduced);
        Ok(by.seconds * f64::from(self.attempts))
    }

    fn again(&mut self, by: &Reduction, current: i64) -> Result<f64> {
        if self.retries < by.retries_at_least {
            self.retries += 1;
            return Ok(by.seconds * f64::from(self.retries));
        }
        if self.size.is_none() && by.least > 1 {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the page size is not above the least one, so it cannot be reduced")
                .with("page_size", current)
                .fix("raise page_size or lower minimum_page_size"));
        }
        Err(refused("the API refuses pages of the least size", by).with("page_size", current))
    }

    pub fn succeeded(&mut self, by: &Reduction) {
        self.attempts = 0;
        self.retries = 0;
        if by.restores {
            self.size = None;
        }
    }
}

fn refused(message: &str, by: &Reduction) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{message} {}", by.failure_message).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reduction(fields: serde_json::Value) -> Reduction {
        Reduction::build(&Component::new(&fields, "page_size_reduction").unwrap()).unwrap()
    }

    #[test]
    fn pages_get_smaller_until_the_least_size() {
        let by = reduction(json!({"minimum_page_size": 20, "max_attempts": 3, "backoff_seconds": 1, "retries_at_minimum_page_size": 1}));
        let mut reducer = Reducer::default();
        assert_eq!((reducer.reduce(&by, Some(100)).unwrap(), reducer.size), (1.0, Some(50)));
        assert_eq!((reducer.reduce(&by, Some(100)).unwrap(), reducer.size), (2.0, Some(25)));
        assert_eq!((reducer.reduce(&by, Some(100)).unwrap(), reducer.size), (3.0, Some(20)));
        assert_eq!((reducer.reduce(&by, Some(100)).unwrap(), reducer.size), (1.0, Some(20)));
        assert_eq!(reducer.reduce(&by, Some(100)).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(Reducer::default().reduce(&by, None).unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn a_page_that_succeeds_may_bring_the_size_back() {
        let by = reduction(json!({"reset_policy": "AFTER_SUCCESSFUL_PAGE"}));
        let mut reducer = Reducer::default();
        reducer.reduce(&by, Some(8)).unwrap();
        reducer.succeeded(&by);
        assert_eq!(reducer.size, None);
    }
}
