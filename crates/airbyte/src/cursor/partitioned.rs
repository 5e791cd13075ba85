//! A position for every partition, a common one for those that are new or too many, and how far the parents had been read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use super::{At, Definition, Ranged, Window};
use crate::slice::Slice;

/// More partitions than this share one position.
const OWN_POSITIONS: usize = 10_000;
/// So many positions are kept; the oldest go first.
const KEPT: usize = 25_000;
/// A state of many partitions is large: it is told when the first partition ends, then at most this often.
const TELL_EVERY_SECONDS: i64 = 600;

/// The positions of one stream's partitions.
pub struct Partitioned {
    pub definition: Arc<Definition>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    kept: Kept,
    /// Partitions that were handed out and are not yet read whole.
    open: HashMap<String, Open>,
    /// Numbers of the open ones, in the order they were handed out.
    reading: BTreeSet<usize>,
    handed_out: usize,
    /// Fingerprints of all that were handed out: a partition is read once.
    known: HashSet<u128>,
    /// The parents' states that will hold once every partition up to the number is read.
    parents: VecDeque<(Value, usize)>,
    parent_state: Option<Value>,
    count: usize,
    is_global: bool,
    /// Whether partitions that were read come again, and are read on from where they ended.
    come_again: bool,
    global: Option<String>,
    next_global: Option<String>,
    lookback: i64,
    saw_records: bool,
    started: Option<Instant>,
    told_at: i64,
}

struct Open {
    windows: usize,
    all_handed_out: bool,
    number: usize,
}

/// Positions by partition, in the order they came.
#[derive(Default)]
struct Kept {
    order: BTreeMap<u64, String>,
    by_key: HashMap<String, (u64, Arc<Ranged>)>,
    next: u64,
}

impl Kept {
    fn get(&self, key: &str) -> Option<&Arc<Ranged>> {
        self.by_key.get(key).map(|(_, ranged)| ranged)
    }
    fn insert(&mut self, key: String, ranged: Arc<Ranged>) {
        let at = match self.by_key.get(&key) {
            Some((at, _)) => *at,
            None => {
                self.next += 1;
                self.order.insert(self.next, key.clone());
                self.next
            }
        };
        self.by_key.insert(key, (at, ranged));
    }
    fn forget(&mut self, key: &str) {
        if let Some((at, _)) = self.by_key.remove(key) {
            self.order.remove(&at);
        }
    }
    fn remove(&mut self, at: u64) {
        if let Some(key) = self.order.remove(&at) {
            self.by_key.remove(&key);
        }
    }
    fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Ranged>)> {
        self.order.values().filter_map(|key| self.get(key).map(|ranged| (key, ranged)))
    }
}

/// Whether a partition that was read to its end and comes once more is read on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Yes,
    No,
}

/// A partition that is being handed out: its key, and its windows.
pub struct Opened {
    pub key: String,
    /// Cut as they are pulled.
    pub windows: Box<dyn Iterator<Item = Window> + Send>,
}

impl Partitioned {
    /// `global`: one position for all partitions from the start.
    pub fn new(definition: Arc<Definition>, state: Map<String, Value>, global: bool) -> Result<Self> {
        let this = Self { definition, parts: Mutex::new(Parts { is_global: global, ..Parts::default() }) };
        this.restore(state)?;
        Ok(this)
    }

    fn restore(&self, state: Map<String, Value>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        let mut parts = self.lock();
        if !state.contains_key("states") && !state.contains_key("state") {
            self.set_global(&mut parts, &state)?;
        } else {
            parts.is_global = state.get("use_global_cursor").is_some_and(crate::truth::is_true);
            parts.lookback = state.get("lookback_window").and_then(whole).unwrap_or_default();
            for one in state.get("states").and_then(Value::as_array).into_iter().flatten() {
                let (Some(partition), Some(cursor)) = (one.get("partition"), one["cursor"].as_object()) else { return Err(no_partition()) };
                let ranged = Arc::new(Ranged::new(self.definition.clone(), cursor.clone())?);
                parts.count += 1;
                parts.kept.insert(key_of(partition), ranged);
            }
            if let Some(Value::Object(global)) = state.get("state") {
                self.set_global(&mut parts, global)?;
            }
        }
        parts.parent_state = state.get("parent_state").filter(|s| crate::truth::is_true(s)).cloned();
        Ok(())
    }

    fn set_global(&self, parts: &mut Parts, state: &Map<String, Value>) -> Result<()> {
        let Some(value) = state.get(&self.definition.field) else { return Ok(()) };
        let text = self.definition.dates.write(self.definition.dates.read(value)?);
        parts.global = Some(text.clone());
        parts.next_global = Some(text);
        Ok(())
    }

    /// The clock of the sync starts: how long it takes is the next one's lookback.
    pub fn start(&self) {
        self.lock().started.get_or_insert_with(Instant::now);
    }

    /// A partition's windows; `None` for one that is being read, or was read where that counts. `parents` is what the parents had
    /// read when it came.
    pub fn open(&self, partition: &Slice, parents: Option<Value>, again: Again) -> Result<Option<Opened>> {
        let mut parts = self.lock();
        parts.come_again |= again == Again::Yes;
        parts.make_room();
        let key = key_of_map(partition.partition());
        let ranged = match parts.kept.get(&key) {
            Some(ranged) => ranged.clone(),
            None => {
                let ranged = Arc::new(self.fresh(&parts)?);
                parts.count += 1;
                parts.kept.insert(key.clone(), ranged.clone());
                ranged
            }
        };
        let is_new = again == Again::Yes || parts.known.insert(fingerprint(&key));
        if !is_new || parts.open.contains_key(&key) {
            return Ok(None);
        }
        let number = parts.handed_out;
        parts.handed_out += 1;
        parts.reading.insert(number);
        if let Some(parents) = parents.filter(|p| parts.parents.back().is_none_or(|(last, _)| last != p)) {
            parts.parents.push_back((parents, number));
        }
        parts.open.insert(key.clone(), Open { windows: 0, all_handed_out: false, number });
        drop(parts);
        Ok(Some(Opened { key, windows: Box::new(ranged.windows()?) }))
    }

    /// One of its windows is about to be read.
    pub fn hand_out(&self, key: &str, is_last: bool) {
        if let Some(open) = self.lock().open.get_mut(key) {
            open.windows += 1;
            open.all_handed_out |= is_last;
        }
    }

    fn fresh(&self, parts: &Parts) -> Result<Ranged> {
        let mut state = Map::new();
        if let Some(global) = &parts.global {
            state.insert(self.definition.field.clone(), global.as_str().into());
            self.definition.moved_back(&mut state, parts.lookback)?;
        }
        Ranged::new(self.definition.clone(), state)
    }

    /// What the records of a page said; its partition's own position takes it when the window ends.
    pub fn observe(&self, largest: Option<&str>) {
        let Some(text) = largest else { return };
        let mut parts = self.lock();
        parts.saw_records = true;
        parts.advance(text);
    }

    /// A window was read whole. The state to tell, when it is time.
    pub fn close(&self, slice: &Slice, most_recent: Option<At>) -> Result<Option<Map<String, Value>>> {
        let key = key_of_map(slice.partition());
        let window = self.definition.window(slice)?;
        let mut parts = self.lock();
        let open = parts.open.get_mut(&key).ok_or_else(|| Error::new(ErrorKind::Internal, "a partition was closed that is not open"))?;
        open.windows = open.windows.saturating_sub(1);
        let (is_done, number) = (open.windows == 0 && open.all_handed_out, open.number);
        if !parts.is_global {
            let ranged = parts.kept.get(&key).cloned();
            if let Some(ranged) = ranged {
                ranged.close(window, most_recent);
                if let (true, Some(Value::String(text))) = (is_done, ranged.state().get(&self.definition.field)) {
                    parts.advance(text);
                }
            }
        }
        if is_done {
            parts.open.remove(&key);
            parts.reading.remove(&number);
            // Where one position stands for all, nobody asks for its own any more.
            if parts.is_global && !parts.come_again {
                parts.kept.forget(&key);
            }
        }
        parts.settle_parents();
        Ok(self.tell(&mut parts))
    }

    /// The stream's end. Positions that all partitions share move only when every partition was read whole.
    pub fn finish(&self, parents: Option<Value>) {
        let mut parts = self.lock();
        if parts.open.values().all(|open| open.windows == 0) {
            if parts.saw_records {
                parts.global = parts.next_global.clone();
                parts.lookback = parts.started.map_or(0, |at| at.elapsed().as_secs_f64().ceil() as i64);
            }
            parts.parent_state = parents;
        }
    }

    pub fn is_global(&self) -> bool {
        self.lock().is_global
    }

    pub fn state(&self) -> Map<String, Value> {
        self.state_of(&self.lock())
    }

    /// The state, from so many positions on as its text: as a tree it would take twenty times the room.
    pub fn kept(&self, many: usize) -> Value {
        let parts = self.lock();
        if parts.is_global || parts.kept.order.len() < many {
            return self.state_of(&parts).into();
        }
        let mut text = String::with_capacity(parts.kept.order.len() * 96);
        text.push_str("{\"use_global_cursor\":false,\"states\":[");
        for (at, (key, ranged)) in parts.kept.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // The key is the partition's own text.
            let _ = write!(text, "{comma}{{\"partition\":{key},\"cursor\":{}}}", Value::Object(ranged.state()));
        }
        text.push(']');
        for (name, value) in self.rest_of(&parts) {
            let _ = write!(text, ",\"{name}\":{value}");
        }
        text.push('}');
        text.into()
    }

    fn tell(&self, parts: &mut Parts) -> Option<Map<String, Value>> {
        let now = self.definition.clock.now().as_second();
        if now - parts.told_at <= TELL_EVERY_SECONDS {
            return None;
        }
        parts.told_at = now;
        let has_parents = parts.parent_state.as_ref().is_some_and(crate::truth::is_true);
        (!parts.is_global || has_parents).then(|| self.state_of(parts))
    }

    fn state_of(&self, parts: &Parts) -> Map<String, Value> {
        let mut state = Map::new();
        state.insert("use_global_cursor".into(), parts.is_global.into());
        if !parts.is_global {
            let own = |(key, ranged): (&String, &Arc<Ranged>)| {
                let partition: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                fitting([("partition", fitting(partition)), ("cursor", fitting(ranged.state()))])
            };
            state.insert("states".into(), parts.kept.iter().map(own).collect());
        }
        state.extend(self.rest_of(parts));
        state
    }

    /// What a state holds beside the positions of partitions.
    fn rest_of(&self, parts: &Parts) -> Map<String, Value> {
        let mut state = Map::new();
        if let Some(global) = &parts.global {
            state.insert("state".into(), json!({self.definition.field.as_str(): global}));
        }
        state.insert("lookback_window".into(), parts.lookback.into());
        if let Some(parents) = &parts.parent_state {
            state.insert("parent_state".into(), parents.clone());
        }
        state
    }

    pub fn is_due(&self, value: Option<&Value>, slice: &Slice) -> Result<bool> {
        let ranged = {
            let parts = self.lock();
            let own = if parts.is_global { None } else { parts.kept.get(&key_of_map(slice.partition())).cloned() };
            match own {
                Some(ranged) => ranged,
                None => Arc::new(self.fresh(&parts)?),
            }
        };
        ranged.is_due(value)
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Parts {
    fn advance(&mut self, text: &str) {
        if self.next_global.as_deref().is_none_or(|known| known < text) {
            self.next_global = Some(text.to_owned());
        }
    }

    /// The parents' state moves to the latest before which no partition is open.
    fn settle_parents(&mut self) {
        let first_open = self.reading.first().copied().unwrap_or(usize::MAX);
        while self.parents.front().is_some_and(|(_, number)| first_open > *number) {
            self.parent_state = self.parents.pop_front().map(|(state, _)| state);
        }
    }

    fn make_room(&mut self) {
        if !self.is_global && self.count > OWN_POSITIONS {
            self.is_global = true;
            let done = self.kept.by_key.keys().filter(|key| !self.come_again && !self.open.contains_key(*key));
            for key in done.cloned().collect::<Vec<_>>() {
                self.kept.forget(&key);
            }
        }
        while self.kept.order.len() >= KEPT {
            let finished = self.kept.order.iter().find(|(_, key)| !self.open.contains_key(*key)).map(|(at, _)| *at);
            match finished.or(self.kept.order.keys().next().copied()) {
                Some(at) => self.kept.remove(at),
                None => return,
            }
        }
    }
}

/// An object with no room to spare: there are thousands of them in one state.
fn fitting<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value), IntoIter: ExactSizeIterator>) -> Value {
    let pairs = pairs.into_iter();
    let mut fields = Map::with_capacity(pairs.len());
    fields.extend(pairs.map(|(key, value)| (key.into(), value)));
    Value::Object(fields)
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).or_else(|| value.as_str()?.trim().parse().ok())
}

fn no_partition() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the state lists a partition without its cursor")
        .fix("give the state that an earlier run printed, or reset the stream")
}

/// The partition with sorted keys, as one text.
fn key_of(partition: &Value) -> String {
    sorted(partition).to_string()
}

fn key_of_map(partition: &Map<String, Value>) -> String {
    Value::Object(sorted_map(partition)).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(sorted_map(fields)),
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn sorted_map(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut keys: Vec<_> = fields.iter().collect();
    keys.sort_by(|a, b| a.0.cmp(b.0));
    keys.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
}

fn fingerprint(key: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, key).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::{super::build, *};
    use crate::{component::Component, cursor::Asked};

    #[test]
    fn the_text_of_a_state_is_the_state() {
        let sync = json!({
            "type": "DatetimeBasedCursor", "cursor_field": "at", "datetime_format": "%Y-%m-%d", "start_datetime": "2024-01-01",
        });
        let states: Vec<_> = (0..20).map(|n| json!({"partition": {"b": n, "a": "ü\"\\"}, "cursor": {"at": "2024-02-01"}})).collect();
        let before = json!({"use_global_cursor": false, "states": states, "state": {"at": "2024-01-15"}, "lookback_window": 3, "parent_state": {"p": {"x": [1]}}});
        let asked = Asked {
            stream: "s",
            is_partitioned: true,
            is_grouped: false,
            state: before.as_object().unwrap().clone(),
            catalog: None,
            config: Arc::new(json!({})),
            clock: Arc::new(linkspan_core::SystemClock),
        };
        let super::super::Cursor::Partitioned(parts) = build(Some(&Component::new(&sync, "sync").unwrap()), asked).unwrap() else {
            panic!()
        };
        let tree = Value::Object(parts.state());
        assert_eq!(parts.kept(21), tree);
        let Value::String(text) = parts.kept(20) else { panic!() };
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), tree);
        assert_eq!(text, tree.to_string());
    }
}
