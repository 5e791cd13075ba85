//! Two memories, one truth: what the store remembers and what the destination recalls become the position a run starts from.
//! Pure; CONTRACTS rule 2 is the table.

use std::collections::{BTreeMap, BTreeSet};

use linkspan_core::{Atomic, Error, ErrorKind, Generation, Recall, Recalled, Remembered, Result, Scope, State, StreamName};

use crate::run::Accept;

/// Where a run starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Start {
    /// Every scope that has commits in its current generation.
    pub scopes: BTreeMap<Scope, Recalled>,
    pub generations: BTreeMap<StreamName, Generation>,
    /// What the store must take over before anything else; a scope that starts again has number 0 and a state that is gone.
    pub adopt: Adopt,
    /// The destination is new: every stream needs a new generation.
    pub restart: bool,
    /// The store is new: whether what was staged is still there is known to nobody, so that a replace begins anew.
    pub adopted: bool,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adopt {
    pub scopes: BTreeMap<Scope, Recalled>,
    pub generations: BTreeMap<StreamName, Generation>,
}

impl Adopt {
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.generations.is_empty()
    }
}

/// Decides who is right. `Err` when the user has to decide.
pub(crate) fn reconcile(atomic: Atomic, store: &Remembered, recalled: Option<&Recall>, accept: Accept) -> Result<Start> {
    if atomic == Atomic::None {
        return Ok(trust_store(store, recalled));
    }
    let holds = recalled.filter(|r| !r.scopes.is_empty() || !r.published.is_empty());
    let empty = !store.known && store.generations.is_empty() && store.scopes.is_empty();
    match (recalled, holds) {
        (None, _) if store.known => replaced(store, accept),
        (None, _) => Ok(trust_store(store, None)),
        (Some(_), None) if empty => Ok(Start::default()),
        (Some(_), Some(_)) if empty && !accept.adopt => Err(unknown_to_store()),
        // To a store that saved nothing it is no news that the destination knows more.
        (Some(recall), _) if !store.known && store.scopes.is_empty() => {
            Ok(Start { adopted: empty, notes: Vec::new(), ..trust_destination(store, recall) })
        }
        (Some(recall), _) => Ok(trust_destination(store, recall)),
    }
}

fn unknown_to_store() -> Error {
    Error::new(ErrorKind::Conflict, "the destination already holds rows of this connection, and this data directory does not know it")
        .fix("go on from what the destination remembers with --adopt, or use the data directory of the earlier runs")
}

fn replaced(store: &Remembered, accept: Accept) -> Result<Start> {
    if !accept.replaced_target {
        return Err(Error::new(ErrorKind::Conflict, "the target was replaced: it does not know the commits that this connection made")
            .fix("point the connection at the old target again, or read everything again into this one with --accept (or `reset`)"));
    }
    let mut start = Start { restart: true, generations: store.generations.clone(), ..Start::default() };
    if let Some(shared) = store.scopes.get(&Scope::Shared) {
        start.adopt.scopes.insert(Scope::Shared, nothing(shared.generation));
    }
    start.notes.push("the target was replaced: everything is read again".to_owned());
    Ok(start)
}

/// The destination keeps no record with the rows: the store's copy counts. Only a publish may be known better there.
fn trust_store(store: &Remembered, recalled: Option<&Recall>) -> Start {
    let mut start = Start { generations: store.generations.clone(), ..Start::default() };
    for (scope, at) in &store.scopes {
        if at.number > 0 && at.generation == generation_of(scope, &start.generations).unwrap_or(at.generation) {
            start.scopes.insert(scope.clone(), at.clone());
        }
    }
    for (stream, published) in recalled.iter().flat_map(|r| &r.published) {
        if let Some(generation) = start.generations.get_mut(stream)
            && generation.number == *published
            && !generation.complete
        {
            generation.complete = true;
            start.adopt.generations.insert(stream.clone(), *generation);
        }
    }
    start
}

fn generation_of(scope: &Scope, generations: &BTreeMap<StreamName, Generation>) -> Option<u64> {
    scope.stream().and_then(|s| generations.get(s)).map(|g| g.number)
}

fn trust_destination(store: &Remembered, recall: &Recall) -> Start {
    let mut start = Start { generations: generations(store, recall), ..Start::default() };
    let shared = shared_generation(store, recall, &start.generations);
    let scopes: BTreeSet<&Scope> = store.scopes.keys().chain(recall.scopes.keys()).collect();
    for scope in scopes {
        let current = generation_of(scope, &start.generations).unwrap_or(shared);
        let published = scope.stream().is_some_and(|s| recall.published.get(s) == Some(&current));
        let stored = store.scopes.get(scope).filter(|s| s.number > 0 && s.generation == current);
        let held = recall.scopes.get(scope).filter(|r| r.number > 0 && r.generation == current);
        match (held, stored) {
            (Some(held), stored) => {
                start.scopes.insert(scope.clone(), held.clone());
                if stored != Some(held) {
                    start.adopt.scopes.insert(scope.clone(), held.clone());
                    start.moved(scope, held.number, stored.map_or(0, |s| s.number));
                }
            }
            // A published generation may have dropped its records; nothing of it is read again.
            (None, Some(stored)) if published => drop(start.scopes.insert(scope.clone(), stored.clone())),
            (None, Some(stored)) => {
                start.adopt.scopes.insert(scope.clone(), nothing(current));
                start.moved(scope, 0, stored.number);
            }
            (None, None) => {}
        }
    }
    for (stream, generation) in &start.generations {
        if store.generations.get(stream) != Some(generation) {
            start.adopt.generations.insert(stream.clone(), *generation);
        }
    }
    start
}

/// The newest generation that either side knows of each stream, complete where it was published or the store says so.
fn generations(store: &Remembered, recall: &Recall) -> BTreeMap<StreamName, Generation> {
    let mut all = store.generations.clone();
    let held = recall.scopes.iter().filter_map(|(scope, r)| Some((scope.stream()?, r.generation)));
    for (stream, number) in held.chain(recall.published.iter().map(|(s, g)| (s, *g))) {
        let known = all.entry(stream.clone()).or_default();
        if known.number < number {
            *known = Generation { number, complete: false };
        }
    }
    for (stream, generation) in &mut all {
        generation.complete |= recall.published.get(stream) == Some(&generation.number);
    }
    all
}

/// The generation in which the shared scope counts: the store's; else that of the streams, of which a reset drew new ones.
fn shared_generation(store: &Remembered, recall: &Recall, generations: &BTreeMap<StreamName, Generation>) -> u64 {
    let held = recall.scopes.get(&Scope::Shared).map_or(0, |r| r.generation);
    let known = match store.scopes.get(&Scope::Shared) {
        Some(stored) => stored.generation,
        None if store.generations.is_empty() => 0,
        None => generations.values().map(|g| g.number).max().unwrap_or(0),
    };
    known.max(held)
}

/// A scope that starts again in its generation.
fn nothing(generation: u64) -> Recalled {
    Recalled { generation, number: 0, state: State::gone() }
}

impl Start {
    fn moved(&mut self, scope: &Scope, to: u64, from: u64) {
        let what = scope.stream().map_or_else(|| "the shared position".to_owned(), ToString::to_string);
        if to < from {
            self.notes.push(format!("{what}: the destination stands at commit {to} and not at {from}: what is missing is read again"));
            self.reopen(scope);
        } else {
            self.notes.push(format!("{what}: the destination holds commit {to}, which the store had not saved"));
        }
    }
    /// A generation that lost rows is not complete any more, unless the destination published it.
    fn reopen(&mut self, scope: &Scope) {
        if let Some(generation) = scope.stream().and_then(|s| self.generations.get_mut(s)) {
            generation.complete = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn a() -> StreamName {
        StreamName::parse("a")
    }
    fn scope() -> Scope {
        Scope::Stream(a())
    }
    fn at(generation: u64, number: u64) -> Recalled {
        Recalled { generation, number, state: State::new(1, json!({ "n": number })) }
    }
    fn store(generation: u64, complete: bool, number: Option<u64>) -> Remembered {
        Remembered {
            scopes: number.map(|n| (scope(), at(generation, n))).into_iter().collect(),
            generations: [(a(), Generation { number: generation, complete })].into(),
            known: number.is_some(),
            ..Remembered::default()
        }
    }
    fn recall(held: Option<Recalled>, published: Option<u64>) -> Option<Recall> {
        Some(Recall {
            fence: 1,
            scopes: held.map(|r| (scope(), r)).into_iter().collect(),
            published: published.map(|g| (a(), g)).into_iter().collect(),
        })
    }
    fn decide(store: &Remembered, recall: Option<Recall>) -> Start {
        reconcile(Atomic::Session, store, recall.as_ref(), Accept::default()).unwrap()
    }

    #[test]
    fn the_destinations_record_is_the_truth_within_a_generation() {
        // (name, store generation + number, destination generation + number, where the run starts, whether the store is corrected)
        let table = [
            ("equal", (1, Some(3)), Some(at(1, 3)), Some(3), false),
            ("ahead: the save was lost", (1, Some(3)), Some(at(1, 4)), Some(4), true),
            ("ahead: the first save was lost", (1, None), Some(at(1, 1)), Some(1), true),
            ("behind: restored from a backup", (1, Some(9)), Some(at(1, 3)), Some(3), true),
            ("behind: nothing of it left", (1, Some(9)), None, None, true),
            ("a reset drew a generation", (2, None), Some(at(1, 9)), None, false),
            ("restored to before a reset", (2, Some(4)), Some(at(1, 9)), None, true),
            ("the store is the old one", (1, Some(4)), Some(at(2, 1)), Some(1), true),
        ];
        for (name, (generation, number), held, expected, corrected) in table {
            let start = decide(&store(generation, false, number), recall(held.clone(), None));
            assert_eq!(start.scopes.get(&scope()).map(|r| r.number), expected, "{name}");
            assert_eq!(!start.adopt.is_empty(), corrected, "{name}: {:?}", start.adopt);
            if corrected && expected.is_none() {
                assert_eq!(start.adopt.scopes[&scope()], nothing(generation), "{name}");
            }
        }
    }

    #[test]
    fn an_older_store_takes_over_the_newer_generation() {
        let start = decide(&store(1, true, Some(4)), recall(Some(at(2, 1)), Some(1)));
        assert_eq!(start.generations[&a()], Generation { number: 2, complete: false });
        assert_eq!(start.adopt.generations[&a()], Generation { number: 2, complete: false });
    }

    #[test]
    fn a_publish_that_the_store_did_not_hear_of_completes_the_generation() {
        for atomic in [Atomic::None, Atomic::Stream, Atomic::Session] {
            let start = reconcile(atomic, &store(2, false, Some(3)), recall(None, Some(2)).as_ref(), Accept::default()).unwrap();
            assert!(start.generations[&a()].complete);
            assert!(start.adopt.generations[&a()].complete);
            assert!(start.adopt.scopes.is_empty(), "a published generation is not read again");
        }
    }

    #[test]
    fn a_complete_generation_that_lost_rows_is_not_complete() {
        let start = decide(&store(1, true, Some(9)), recall(Some(at(1, 3)), None));
        assert_eq!(start.generations[&a()], Generation { number: 1, complete: false });
        let start = decide(&store(1, true, Some(9)), recall(Some(at(1, 9)), None));
        assert!(start.generations[&a()].complete);
    }

    #[test]
    fn a_replaced_target_stops_until_the_user_accepts_it() {
        let known = store(1, true, Some(3));
        let e = reconcile(Atomic::Session, &known, None, Accept::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.suggested_fix().unwrap().contains("--accept"));
        let accepted = Accept { replaced_target: true, adopt: false };
        let start = reconcile(Atomic::Session, &known, None, accepted).unwrap();
        assert!(start.restart && start.scopes.is_empty());
        assert!(!reconcile(Atomic::None, &known, None, Accept::default()).unwrap().restart, "a destination without records cannot know");
    }

    #[test]
    fn a_lost_store_adopts_only_when_asked() {
        let nothing_known = Remembered::default();
        let held = recall(Some(at(3, 7)), Some(2));
        let e = reconcile(Atomic::Session, &nothing_known, held.as_ref(), Accept::default()).unwrap_err();
        assert!(e.suggested_fix().unwrap().contains("--adopt"));
        let asked = Accept { replaced_target: false, adopt: true };
        let start = reconcile(Atomic::Session, &nothing_known, held.as_ref(), asked).unwrap();
        assert_eq!((&start.scopes[&scope()], start.adopted), (&at(3, 7), true));
        assert_eq!(start.adopt.generations[&a()], Generation { number: 3, complete: false });
    }

    #[test]
    fn a_first_run_starts_from_nothing_wherever_it_crashed_before() {
        assert_eq!(decide(&Remembered::default(), None), Start::default());
        assert_eq!(decide(&Remembered::default(), recall(None, None)), Start::default(), "only the fence was installed");
        let drawn = store(1, false, None);
        assert_eq!(decide(&drawn, None).generations, drawn.generations);
    }

    #[test]
    fn the_shared_position_survives_a_new_generation_of_one_stream() {
        let mut kept = store(2, false, None);
        kept.scopes.insert(Scope::Shared, at(1, 5));
        kept.known = true;
        let mut held = recall(None, None).unwrap();
        held.scopes.insert(Scope::Shared, at(1, 6));
        assert_eq!(decide(&kept, Some(held)).scopes[&Scope::Shared], at(1, 6));
    }

    #[test]
    fn a_reset_forgets_the_shared_position_too() {
        let mut held = recall(None, None).unwrap();
        held.scopes.insert(Scope::Shared, at(1, 6));
        let mut reset = store(2, false, None);
        reset.known = true;
        assert!(decide(&reset, Some(held)).scopes.is_empty());
    }
}
