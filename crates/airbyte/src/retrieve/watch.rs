//! A watch over pages: an API that goes round in circles is noticed, in constant memory.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::answer::Answer;

/// As often an API may answer the very same page, and hand out the very same token with it.
const ROUNDS: u32 = 3;
/// As many pages in a row may be alike when the tokens differ: an API may not know its parameter.
const ALIKE: u32 = 100;
/// As many pages in a row may hold nothing, each with the token of another one.
const EMPTY: u32 = 10_000;

/// Remembers one page at growing distances, and how many alike ones came in a row.
#[derive(Default)]
pub struct Watch {
    kept: Option<u64>,
    since: u64,
    distance: u64,
    rounds: u32,
    last_body: u64,
    alike: u32,
    empty: u32,
}

impl Watch {
    /// `DataInvalid` when the pages do not get on.
    pub fn see(&mut self, answer: &Answer, token: &Value, has_records: bool) -> Result<()> {
        let body = hash(&answer.body);
        self.alike = if has_records && body == self.last_body { self.alike + 1 } else { 0 };
        self.last_body = body;
        self.empty = if has_records { 0 } else { self.empty + 1 };
        let page = body ^ hash(token.to_string().as_bytes()).rotate_left(1);
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
        if self.empty >= EMPTY {
            return Err(Error::new(ErrorKind::DataInvalid, "the API hands out page after page without a record")
                .with("pages", EMPTY)
                .fix("check the paginator's stop condition and the extractor's field_path"));
        }
        Ok(())
    }
}

/// Eight bytes at a step: pages are long, and this runs over every one of them.
fn hash(text: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut chunks = text.chunks_exact(8);
    let mut lanes = [text.len() as u64, ODD];
    for (at, chunk) in chunks.by_ref().enumerate() {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        let lane = &mut lanes[at & 1];
        *lane = (lane.rotate_left(23) ^ word).wrapping_mul(ODD);
    }
    for byte in chunks.remainder() {
        lanes[0] = (lanes[0].rotate_left(9) ^ u64::from(*byte)).wrapping_mul(ODD);
    }
    let mixed = lanes[0] ^ lanes[1].rotate_left(31);
    mixed ^ mixed >> 29
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
    fn pages_without_a_record_have_an_end() {
        let mut watch = Watch::default();
        let noticed = (0..20_000).find(|n| watch.see(&page(&format!("nothing {n}")), &Value::from(*n), false).is_err());
        assert_eq!(noticed, Some(9_999));
        let mut watch = Watch::default();
        let sparse = (0..50_000).all(|n| watch.see(&page(&format!("page {n}")), &Value::from(n), n % 5_000 == 0).is_ok());
        assert!(sparse, "a record now and then is enough");
    }

    #[test]
    fn pages_that_get_on_are_left_alone() {
        let scroll = (0..5_000).map(|n| (format!("page {n}"), Value::from("one scroll id")));
        assert_eq!(pages_until_noticed(scroll), None);
        let few_kinds = (0..5_000).map(|n| (format!("page {}", n % 2), Value::from(n)));
        assert_eq!(pages_until_noticed(few_kinds), None);
    }
}
