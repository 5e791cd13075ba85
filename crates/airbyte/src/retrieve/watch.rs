//! A watch over pages: an API that goes round in circles is noticed, in constant memory.

use std::hash::{DefaultHasher, Hash, Hasher};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::answer::Answer;

/// As often an API may answer the very same page, and hand out the very same token with it.
const ROUNDS: u32 = 3;
/// As many pages in a row may be alike when the tokens differ: an API may not know its parameter.
const ALIKE: u32 = 100;

/// Remembers one page at growing distances, and how many alike ones came in a row.
#[derive(Default)]
pub struct Watch {
    kept: Option<u64>,
    since: u64,
    distance: u64,
    rounds: u32,
    last_body: u64,
    alike: u32,
}

impl Watch {
    /// `DataInvalid` when the pages do not get on.
    pub fn see(&mut self, answer: &Answer, token: &Value, has_records: bool) -> Result<()> {
        let body = hash(&answer.body);
        self.alike = if has_records && body == self.last_body { self.alike + 1 } else { 0 };
        self.last_body = body;
        let page = hash(&(body, token.to_string()));
        if self.kept == Some(page) {
            self.rounds += 1;
        }
        if self.kept.is_none() || self.since >= self.distance {
            (self.kept, self.since, self.distance, self.rounds) = (Some(page), 0, self.distance.max(1) * 2, 0);
        }
        self.since += 1;
        if self.rounds >= ROUNDS || self.alike >= ALIKE {
            return Err(Error::new(ErrorKind::DataInvalid, "the API answers the same pages again and again")
                .fix("check the paginator: the parameter that asks for the next page, and its stop condition"));
        }
        Ok(())
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn page(text: &str) -> Answer {
        Answer::new(StatusCode::OK, HeaderMap::new(), "", Bytes::copy_from_slice(text.as_bytes()))
    }
    fn pages_until_noticed(pages: impl Iterator<Item = (String, Value)>) -> Option<usize> {
        let mut watch = Watch::default();
        pages.enumerate().find(|(_, (body, token))| watch.see(&page(body), token, true).is_err()).map(|(at, _)| at)
    }

    #[test]
    fn circles_are_noticed_however_long_they_are() {
        for length in [1, 2, 7, 1000] {
            let circle = (0..20_000).map(|n| (format!("page {}", n % length), Value::from(n % length)));
            assert!(pages_until_noticed(circle).is_some_and(|at| at < 12 * length + 20), "{length}");
        }
        let deaf = (0..1000).map(|n| ("all alike".to_owned(), Value::from(n)));
        assert_eq!(pages_until_noticed(deaf), Some(100));
    }

    #[test]
    fn pages_that_get_on_are_left_alone() {
        let scroll = (0..5_000).map(|n| (format!("page {n}"), Value::from("one scroll id")));
        assert_eq!(pages_until_noticed(scroll), None);
        let few_kinds = (0..5_000).map(|n| (format!("page {}", n % 2), Value::from(n)));
        assert_eq!(pages_until_noticed(few_kinds), None);
    }
}
