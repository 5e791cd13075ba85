//! States on their way back to the platform: each waits until all that came before it is durable, and is said in the order in which
//! it came, never before, never twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use linkspan_core::{Position, Result, Scope, State, StreamName};
use serde_json::json;
use uuid::Uuid;

/// The version of the states that this program commits.
const VERSION: u16 = 1;

/// What a state says of the records before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::program) struct Counted {
    pub written: u64,
    pub rejected: u64,
}

/// A state of one stream, or (`None`) of all.
pub(in crate::program) struct Waiting {
    pub of: Option<StreamName>,
    pub body: String,
    pub counted: Counted,
}

/// How a state is told to whoever listens.
pub(in crate::program) type Tell = Box<dyn Fn(&Waiting) -> Result<()> + Send + Sync>;

pub(in crate::program) struct States {
    run: Uuid,
    /// The generations of the streams, as they are to be recalled by a later program.
    generations: Mutex<serde_json::Value>,
    tell: Tell,
    books: Mutex<Books>,
    parked: Arc<Parked>,
}

#[derive(Default)]
struct Books {
    taken: u64,
    waiting: VecDeque<(u64, Waiting)>,
}

/// Streams that were stopped at the gate: their records went nowhere, so that none of their states may be told.
#[derive(Default)]
pub struct Parked(Mutex<BTreeSet<StreamName>>);

impl Parked {
    pub fn park(&self, stream: &StreamName) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(stream.clone());
    }
    fn holds(&self, of: Option<&StreamName>) -> bool {
        let parked = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        of.map_or(!parked.is_empty(), |stream| parked.contains(stream))
    }
}

impl States {
    pub(in crate::program) fn new(run: Uuid, generations: serde_json::Value, parked: Arc<Parked>, tell: Tell) -> Self {
        Self { run, generations: Mutex::new(generations), tell, books: Mutex::default(), parked }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Other generations are to be recalled.
    pub(in crate::program) fn know(&self, generations: serde_json::Value) {
        *self.generations() = generations;
    }
    fn generations(&self) -> MutexGuard<'_, serde_json::Value> {
        self.generations.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a state that all records so far stand before.
    pub(in crate::program) fn take(&self, state: Waiting) {
        let mut books = self.books();
        books.taken += 1;
        let number = books.taken;
        books.waiting.push_back((number, state));
    }

    /// What to commit for: everything that was taken so far.
    pub(in crate::program) fn here(&self, round: u64) -> State {
        let taken = self.books().taken;
        State::new(VERSION, json!({"run": self.run, "round": round, "states": taken, "generations": *self.generations()}))
    }

    /// The same place, with the word that nothing more comes and all is told.
    pub(in crate::program) fn ended(&self, generations: &serde_json::Value) -> State {
        State::new(VERSION, json!({"run": self.run, "ended": true, "generations": generations}))
    }

    /// Tells what has become durable.
    pub(in crate::program) fn durable(&self, position: &Position) -> Result<()> {
        let Some(state) = position.get(&Scope::Shared) else { return Ok(()) };
        if state.value["run"] != json!(self.run) {
            return Ok(());
        }
        let until = state.value["states"].as_u64().unwrap_or_default();
        // Held while telling: two commits must not tell over each other.
        let mut books = self.books();
        while let Some((number, _)) = books.waiting.front() {
            if *number > until {
                break;
            }
            let Some((_, state)) = books.waiting.pop_front() else { break };
            if !self.parked.holds(state.of.as_ref()) {
                (self.tell)(&state)?;
            }
        }
        Ok(())
    }
}

/// Counts of each stream's records since its last state.
#[derive(Default)]
pub(in crate::program) struct Counts(BTreeMap<StreamName, Counted>);

impl Counts {
    pub(in crate::program) fn written(&mut self, stream: &StreamName) {
        self.of(stream).written += 1;
    }
    pub(in crate::program) fn rejected(&mut self, stream: &StreamName) {
        self.of(stream).rejected += 1;
    }
    fn of(&mut self, stream: &StreamName) -> &mut Counted {
        if !self.0.contains_key(stream) {
            self.0.insert(stream.clone(), Counted::default());
        }
        self.0.get_mut(stream).expect("it was put there")
    }
    /// What a state of this stream, or of all, stands for; counting begins anew.
    pub(in crate::program) fn take(&mut self, of: Option<&StreamName>) -> Counted {
        match of {
            Some(stream) => self.0.remove(stream).unwrap_or_default(),
            None => std::mem::take(&mut self.0)
                .into_values()
                .fold(Counted::default(), |a, b| Counted { written: a.written + b.written, rejected: a.rejected + b.rejected }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(of: Option<&str>, body: &str) -> Waiting {
        Waiting { of: of.map(|name| StreamName::new(None, name)), body: body.into(), counted: Counted::default() }
    }

    #[test]
    fn states_are_told_in_order_once_they_are_durable_and_never_for_a_parked_stream() {
        let (told, parked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Parked::default()));
        let says = told.clone();
        let tell: Tell = Box::new(move |state| {
            says.lock().unwrap().push(state.body.clone());
            Ok(())
        });
        let states = States::new(Uuid::new_v4(), json!([]), parked.clone(), tell);
        let durable = |state: State| states.durable(&[(Scope::Shared, state)].into()).unwrap();
        states.take(waiting(Some("a"), "a1"));
        states.take(waiting(Some("b"), "b1"));
        let here = states.here(1);
        states.take(waiting(None, "all"));
        states.take(waiting(Some("a"), "a2"));
        assert!(told.lock().unwrap().is_empty());
        parked.park(&StreamName::new(None, "b"));
        let other = States::new(Uuid::new_v4(), json!([]), parked.clone(), Box::new(|_| Ok(()))).here(1);
        durable(other);
        assert!(told.lock().unwrap().is_empty(), "another program's commit");
        durable(here.clone());
        durable(here);
        assert_eq!(*told.lock().unwrap(), ["a1"]);
        durable(states.here(2));
        assert_eq!(*told.lock().unwrap(), ["a1", "a2"]);
    }
}
