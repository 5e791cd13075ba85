//! Which record of a key is the newest, as far as its cursor tells: an older one that comes later must not take its place.

use std::{cmp::Ordering, collections::HashMap};

use super::kinds::text;

/// Keys that are remembered. Beyond it they are forgotten together, and the order of arrival counts again.
const MOST: usize = 100_000;

/// The cursor of each key that this program has seen.
#[derive(Default)]
pub(super) struct Latest(HashMap<[u8; 16], Box<str>>);

impl Latest {
    /// Whether the record may take the place of what its key had so far. A record without a cursor is not compared.
    pub(super) fn is_news<'a>(&mut self, key: impl Iterator<Item = &'a str>, cursor: Option<&str>) -> bool {
        let Some(cursor) = cursor else { return true };
        let mut hash = blake3::Hasher::new();
        for part in key {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        if self.0.get(&id).is_some_and(|known| order(cursor, known) == Ordering::Less) {
            return false;
        }
        if self.0.len() >= MOST && !self.0.contains_key(&id) {
            self.0.clear();
        }
        self.0.insert(id, cursor.into());
        true
    }
}

/// Numbers by value, moments by when they are, other texts by their letters. What cannot be compared is as good as equal.
fn order(a: &str, b: &str) -> Ordering {
    match (text(a), text(b)) {
        (None, None) => {
            let exact = a.parse::<i64>().ok().zip(b.parse::<i64>().ok()).map(|(a, b)| a.cmp(&b));
            let about = || a.parse::<f64>().ok().zip(b.parse::<f64>().ok()).and_then(|(a, b)| a.partial_cmp(&b));
            exact.or_else(about).unwrap_or(Ordering::Equal)
        }
        (Some(a), Some(b)) => match (a.parse::<jiff::Timestamp>(), b.parse::<jiff::Timestamp>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(&b),
        },
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_record_of_a_key_is_no_news_and_an_equal_one_is() {
        let mut latest = Latest::default();
        let mut news = |key: &[&str], cursor: Option<&str>| latest.is_news(key.iter().copied(), cursor);
        assert!(news(&["1"], Some("10")));
        assert!(!news(&["1"], Some("9")));
        assert!(news(&["1"], Some("10")));
        assert!(news(&["1"], None));
        assert!(news(&["2"], Some("1")));
        // Two parts are not one longer one.
        assert!(news(&["1", "1"], Some("1")) && news(&["11"], Some("0")));
        assert!(news(&["a"], Some("\"2024-01-01T02:00:00+02:00\"")));
        assert!(!news(&["a"], Some("\"2023-12-31T23:00:00Z\"")));
        assert!(news(&["a"], Some("\"2024-01-01T00:30:00Z\"")));
        assert!(news(&["b"], Some("\"b\"")) && !news(&["b"], Some("\"a\"")) && news(&["b"], Some("7")));
    }
}
