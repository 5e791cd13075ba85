//! What a position of this source says.

use serde::{Deserialize, Serialize};

pub(super) use crate::positions::{SEEN_CAP, load, other_cursor, save};

/// How many earlier reads are kept in mind to choose a bound from.
const HISTORY: usize = 16;

/// How far one part of a table was read, by the values of one column of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartState {
    /// The column; none for a table that is read in one piece.
    pub by: Option<String>,
    /// The values between the parts, the same in each: a part that has no state yet can be made from another's.
    pub bounds: Vec<String>,
    /// This part's rows lie above `after` and not above `to`, as far as there are such bounds; `after` moves on.
    pub after: Option<String>,
    pub to: Option<String>,
    pub done: bool,
    /// What the server said of the table when the read began.
    pub seen: Standing,
    /// The cursor's value that this part stays below: rows from there on come with the lane behind the parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
}

/// By what a later look can tell that nothing was written since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// When the table was last written, in the server's words; only where that was long enough before the read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// All transactions that the server's log holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<String>,
}

impl Standing {
    /// Whether it is certain that the table is the one that was seen then.
    pub fn is_still(&self, now: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        same(&self.transactions, &now.transactions) || same(&self.written, &now.written)
    }
}

/// Where an incremental read stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum StreamState {
    /// A read that goes on by a cursor column.
    Window(WindowState),
    /// A query that bounds itself by `:last_pull`.
    Pull { last_pull: String, seen: Vec<String> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowState {
    pub cursor: String,
    /// The largest value of the cursor, as text.
    pub value: Option<String>,
    /// The next read looks at rows whose cursor is not below it; everything, when there is none.
    pub low: Option<String>,
    /// Hashes of the rows at or above `low` that were sent.
    pub seen: Vec<String>,
    pub history: Vec<Mark>,
}

/// An earlier read: when, by the server's clock in seconds, and up to which value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub at: i64,
    pub value: Option<String>,
}

/// The newest earlier read at or before that time. Older ones are forgotten: they will never be needed again.
pub(super) fn mark_before(history: &mut Vec<Mark>, before: i64) -> Option<Mark> {
    let at = history.iter().rposition(|m| m.at <= before)?;
    history.drain(..at);
    history.first().cloned()
}

/// Adds a read; when there are too many, the one that leaves the smallest gap goes.
pub(super) fn remember(history: &mut Vec<Mark>, mark: Mark) {
    history.push(mark);
    while history.len() > HISTORY {
        let gap = |i: &usize| history[i + 1].at.abs_diff(history[i - 1].at);
        let smallest = (1..history.len() - 1).min_by_key(gap).unwrap_or(0);
        history.remove(smallest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at: i64) -> Mark {
        Mark { at, value: Some(at.to_string()) }
    }

    #[test]
    fn the_bound_is_the_newest_read_before_the_window() {
        let mut history = vec![mark(10), mark(20), mark(30)];
        assert_eq!(mark_before(&mut history.clone(), 9), None);
        assert_eq!(mark_before(&mut history, 25).unwrap().at, 20);
        assert_eq!(history.len(), 2);
    }

    #[test]
    fn the_history_stays_short_and_spread_out() {
        let mut history = Vec::new();
        (0..1000).for_each(|i| remember(&mut history, mark(i)));
        assert_eq!((history.len(), history[0].at, history[15].at), (16, 0, 999));
    }

    #[test]
    fn a_table_is_still_the_same_only_where_that_is_known() {
        let standing = |w: Option<&str>, t: Option<&str>| Standing { written: w.map(Into::into), transactions: t.map(Into::into) };
        assert!(standing(Some("1"), None).is_still(&standing(Some("1"), Some("x"))));
        assert!(standing(None, Some("x")).is_still(&standing(Some("2"), Some("x"))));
        assert!(!standing(None, None).is_still(&standing(None, None)));
        assert!(!standing(Some("1"), Some("x")).is_still(&standing(Some("2"), Some("y"))));
    }
}
