//! Pages of lists: a size, and a cursor that says nothing to whom it is shown.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use linkspan_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const USUAL: u32 = 100;
const MOST: u32 = 1000;

/// The fields of a list's input. Flattening and unknown fields do not go together in serde, so lists repeat them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// How many at most: 1 to 1000, 100 when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$"))]
    pub cursor: Option<String>,
}

/// Where a page begins, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The `seq` of the last one of the page before.
    pub seq: Option<i64>,
    pub limit: u32,
}

impl Page {
    pub fn begin(&self) -> Result<Cursor> {
        Cursor::of(self.limit, self.cursor.as_deref())
    }
}

impl Cursor {
    pub fn of(limit: Option<u32>, cursor: Option<&str>) -> Result<Self> {
        let limit = limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a page has 1 to 1000 entries").with("field", "limit").fix("ask for fewer"));
        }
        let seq = cursor.map(|text| decode(text).ok_or_else(bad_cursor)).transpose()?;
        Ok(Self { seq, limit })
    }
    /// One more than the page, which tells whether there is another.
    pub fn fetch(self) -> u32 {
        (self.limit + 1).min(MOST)
    }
    /// Cuts what was fetched to the page; with the cursor of the next one.
    pub fn cut<T>(self, mut all: Vec<T>, seq: impl Fn(&T) -> i64) -> PageOf<T> {
        let full = all.len() > self.limit as usize || (self.limit == MOST && all.len() == MOST as usize);
        all.truncate(self.limit as usize);
        let next = all.last().filter(|_| full).map(|last| encode(seq(last)));
        PageOf { items: all, next }
    }
}

/// A page and the way to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

fn encode(seq: i64) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(seq.to_be_bytes())
}

fn decode(text: &str) -> Option<i64> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(i64::from_be_bytes)
}

fn bad_cursor() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "this is no cursor of this list")
        .with("field", "cursor")
        .fix("send the `next_cursor` of the page before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_where_there_is_no_more() {
        let page = Cursor::of(Some(2), None).unwrap();
        assert_eq!(page.fetch(), 3);
        let first = page.cut(vec![1i64, 2, 3], |n| *n);
        assert_eq!(first.items, [1, 2]);
        let next = Cursor::of(Some(2), first.next.as_deref()).unwrap();
        assert_eq!(next.seq, Some(2));
        assert_eq!(next.cut(vec![3i64, 4], |n| *n).next, None);
        for (limit, cursor) in [(Some(0), None), (Some(1001), None), (None, Some("x")), (None, Some("AAAA"))] {
            assert_eq!(Cursor::of(limit, cursor).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        }
    }
}
