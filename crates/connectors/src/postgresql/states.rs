//! What a position of this source says, and how the lower bound of the next incremental read is chosen.

use serde::{Deserialize, Serialize};

pub(super) use crate::positions::{SEEN_CAP, load, other_cursor, save};

/// How many earlier reads are kept in mind to choose a bound from.
const HISTORY: usize = 16;

/// How far one part of a table was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PartState {
    /// The table's file: another one means that rows may have moved.
    pub file: u32,
    /// Into how many parts the table was cut, and how many pages it had then.
    pub slices: u16,
    pub pages: u64,
    /// This part's pages: `from..to`, read as far as `next`. A table read in one piece has none.
    pub from: u64,
    pub to: u64,
    pub next: u64,
    /// Rows in `from..next`.
    pub rows: u64,
    pub done: bool,
    /// Rows of transactions below it were seen, and above it those of `seen`.
    pub horizon: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<u32>,
    /// There were too many to list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen_overflow: bool,
    /// The server's text of the snapshot, for people.
    pub snapshot: String,
}

/// Where an incremental read stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum StreamState {
    /// A table whose rows know their transactions.
    Tail(TailState),
    /// A view, a foreign table or a query: only the cursor's values can be looked at.
    Window(WindowState),
    /// A query that bounds itself by `:last_pull`.
    Pull { last_pull: String, seen: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TailState {
    pub cursor: String,
    /// The largest value of the cursor, as text.
    pub value: Option<String>,
    /// The next read looks at rows whose cursor is not below it; everything, when there is none.
    pub low: Option<String>,
    pub horizon: u64,
    pub seen: Vec<u32>,
    pub history: Vec<Mark>,
}

/// An earlier read: when, up to which transaction, up to which value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Microseconds of the server's clock.
    pub at: i64,
    pub xmax: u64,
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WindowState {
    pub cursor: String,
    pub value: Option<String>,
    pub low: Option<String>,
    /// Hashes of the rows at or above `low` that were sent.
    pub seen: Vec<String>,
}

/// The newest earlier read that every transaction still open at `xmin` began after. Older ones are forgotten: they will never be
/// needed again. `before` leaves out reads after that time: a transaction may draw its value before it gets its id.
pub(super) fn settled_mark(history: &mut Vec<Mark>, xmin: u64, before: i64) -> Option<Mark> {
    let at = history.iter().rposition(|m| m.xmax <= xmin && m.at <= before)?;
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
    use linkspan_core::{ErrorKind, State};

    use super::*;

    fn mark(at: i64, xmax: u64) -> Mark {
        Mark { at, xmax, value: Some(at.to_string()) }
    }

    #[test]
    fn the_bound_is_the_newest_read_that_all_open_transactions_began_after() {
        let mut history = vec![mark(10, 100), mark(20, 200), mark(30, 300)];
        assert_eq!(settled_mark(&mut history.clone(), 99, 1000), None);
        assert_eq!(settled_mark(&mut history.clone(), 300, 25).unwrap().at, 20);
        assert_eq!(settled_mark(&mut history, 250, 1000).unwrap().at, 20);
        assert_eq!(history.len(), 2);
    }

    #[test]
    fn the_history_stays_short_and_spread_out() {
        let mut history = Vec::new();
        for i in 0..1000 {
            remember(&mut history, mark(i, i as u64));
        }
        assert_eq!((history.len(), history[0].at, history[15].at), (16, 0, 999));
    }

    #[test]
    fn a_position_of_another_version_is_lost() {
        let state = State::new(9, serde_json::json!({}));
        assert_eq!(load::<StreamState>(&state).unwrap_err().kind(), ErrorKind::PositionLost);
        let state = State::new(1, serde_json::json!({"kind": "soup"}));
        assert_eq!(load::<StreamState>(&state).unwrap_err().kind(), ErrorKind::PositionLost);
    }
}
