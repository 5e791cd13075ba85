//! Versions of a stream: a tap that reads a table anew gives its rows a new one, and says which one counts. A version is a generation of
//! the house: its rows are staged until it counts, and then take the place of what stands.

use std::collections::BTreeMap;

use linkspan_core::{Recall, Scope, StreamName};
use serde_json::Value;

use crate::program::write::Kept;

/// What is known of each stream that has versions.
#[derive(Debug, Default)]
pub(super) struct Versions {
    known: BTreeMap<StreamName, Version>,
    highest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The tap's number, while it is known.
    number: Option<i64>,
    /// The house's generation.
    pub generation: u64,
    /// Its rows wait beside the table.
    pub is_staged: bool,
    /// It counts, or will once all of it is there.
    pub is_active: bool,
    /// Rows of it came from this tap.
    has_rows: bool,
}

impl Version {
    fn stands(number: Option<i64>, generation: u64) -> Self {
        Self { number, generation, is_staged: false, is_active: true, has_rows: false }
    }
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: the rows go where rows of the stream go.
    Same,
    /// Something became known that has to be remembered.
    Known,
    /// From this message on the stream's rows are staged, under another generation.
    Staged,
    /// What is staged takes the place of what stands, before the next message.
    Shown,
}

impl Versions {
    pub fn of(recall: Option<&Recall>) -> Self {
        let Some(recall) = recall else { return Self::default() };
        let kept = recall.scopes.get(&Scope::Shared).map(|r| Kept::all(&r.state.value)).unwrap_or_default();
        let generations = recall.published.values().copied().chain(recall.scopes.values().map(|r| r.generation));
        let highest = generations.chain(kept.iter().map(|k| k.ours)).max().unwrap_or(0);
        let version = |kept: Kept| {
            let shown = recall.published.get(&kept.stream).copied().unwrap_or(1);
            let is_staged = kept.ours > shown;
            let version = Version { is_staged, is_active: !is_staged, ..Version::stands(kept.asked, kept.ours) };
            (kept.stream, version)
        };
        let mut known: BTreeMap<StreamName, Version> = kept.into_iter().map(version).collect();
        for (stream, generation) in &recall.published {
            known.entry(stream.clone()).or_insert(Version::stands(None, *generation));
        }
        Self { known, highest }
    }

    pub fn get(&self, stream: &StreamName) -> Version {
        self.known.get(stream).copied().unwrap_or(Version::stands(None, 1))
    }

    /// A record came.
    pub fn record(&mut self, stream: &StreamName, number: Option<i64>) -> Turn {
        let stands = self.get(stream);
        match (number, stands.number) {
            (None, None) => Turn::Same,
            // A row without a version stays whatever is activated: so nothing of this table may go any more.
            (None, Some(_)) if !stands.is_staged => self.put(stream, Version { number: None, ..stands }, Turn::Known),
            (None, Some(_)) => Turn::Same,
            (Some(number), Some(known)) if number > known => self.stage(stream, number, false),
            (Some(_), Some(_)) if stands.has_rows => Turn::Same,
            (Some(_), Some(_)) => self.put(stream, Version { has_rows: true, ..stands }, Turn::Same),
            // Nobody knows what stands there; it stays.
            (Some(number), None) => self.put(stream, Version { number: Some(number), has_rows: true, ..stands }, Turn::Known),
        }
    }

    /// The tap says that this version counts, and none before it.
    pub fn activate(&mut self, stream: &StreamName, number: i64) -> Turn {
        let stands = self.get(stream);
        match stands.number {
            None => self.put(stream, Version { number: Some(number), ..stands }, Turn::Known),
            Some(known) if number > known => self.stage(stream, number, true),
            Some(known) if number < known || !stands.is_staged => Turn::Same,
            // Said before the first row: the rows are still to come.
            Some(_) if !stands.has_rows => self.put(stream, Version { is_active: true, ..stands }, Turn::Same),
            Some(_) => self.put(stream, Version { is_active: true, ..stands }, Turn::Shown),
        }
    }

    fn stage(&mut self, stream: &StreamName, number: i64, is_active: bool) -> Turn {
        self.highest = self.highest.max(1) + 1;
        let version = Version { number: Some(number), generation: self.highest, is_staged: true, is_active, has_rows: false };
        self.put(stream, version, Turn::Staged)
    }
    fn put(&mut self, stream: &StreamName, version: Version, turn: Turn) -> Turn {
        self.known.insert(stream.clone(), version);
        turn
    }

    /// What was staged has taken its place.
    pub fn shown(&mut self, stream: &StreamName) {
        if let Some(version) = self.known.get_mut(stream) {
            (version.is_staged, version.is_active) = (false, true);
        }
    }

    /// What is remembered with the rows.
    pub fn kept(&self) -> Value {
        let kept =
            |(stream, version): (&StreamName, &Version)| Kept { stream: stream.clone(), asked: version.number, ours: version.generation };
        serde_json::to_value(self.known.iter().map(kept).collect::<Vec<_>>()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::{Recalled, State};
    use serde_json::json;

    use super::*;

    fn stream() -> StreamName {
        StreamName::new(None, "s")
    }
    /// What a later program finds.
    fn again(versions: &Versions, published: u64) -> Versions {
        let state = State::new(1, json!({"generations": versions.kept()}));
        let scopes = [(Scope::Shared, Recalled { generation: 1, number: 1, state })].into();
        let published = if published > 0 { [(stream(), published)].into() } else { BTreeMap::new() };
        Versions::of(Some(&Recall { fence: 1, scopes, published }))
    }

    #[test]
    fn the_first_version_is_that_of_what_stands_and_the_next_one_waits_until_it_counts() {
        let (s, mut versions) = (stream(), Versions::default());
        assert_eq!(versions.activate(&s, 10), Turn::Known);
        assert_eq!((versions.record(&s, Some(10)), versions.activate(&s, 10)), (Turn::Same, Turn::Same));
        let mut versions = again(&versions, 0);
        assert_eq!((versions.record(&s, Some(10)), versions.record(&s, Some(9))), (Turn::Same, Turn::Same));
        assert_eq!((versions.record(&s, Some(11)), versions.get(&s).generation), (Turn::Staged, 2));
        assert_eq!(versions.record(&s, Some(11)), Turn::Same);
        // The tap was stopped, and goes on with its version.
        let mut versions = again(&versions, 0);
        assert_eq!((versions.record(&s, Some(11)), versions.get(&s).generation), (Turn::Same, 2));
        assert_eq!((versions.get(&s).is_staged, versions.get(&s).is_active), (true, false));
        assert_eq!(versions.activate(&s, 11), Turn::Shown);
        versions.shown(&s);
        assert_eq!((versions.activate(&s, 11), versions.record(&s, Some(11))), (Turn::Same, Turn::Same));
        let versions = again(&versions, 2);
        assert!(!versions.get(&s).is_staged);
    }

    #[test]
    fn a_version_that_counts_before_its_rows_came_is_shown_when_the_input_ends() {
        let (s, mut versions) = (stream(), Versions::default());
        versions.record(&s, Some(1));
        assert_eq!((versions.activate(&s, 2), versions.activate(&s, 2)), (Turn::Staged, Turn::Same));
        assert_eq!((versions.get(&s).is_staged, versions.get(&s).is_active), (true, true));
        assert_eq!((versions.record(&s, Some(2)), versions.activate(&s, 2)), (Turn::Same, Turn::Shown));
    }

    #[test]
    fn rows_without_a_version_are_never_taken_away() {
        let (s, mut versions) = (stream(), Versions::default());
        assert_eq!(versions.record(&s, None), Turn::Same);
        assert_eq!(versions.activate(&s, 5), Turn::Known);
        assert_eq!(versions.record(&s, None), Turn::Known);
        assert_eq!(versions.activate(&s, 6), Turn::Known);
        assert!(!versions.get(&s).is_staged);
    }
}
