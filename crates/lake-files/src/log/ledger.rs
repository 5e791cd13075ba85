//! What the log's entries add up to. Pure.

use std::collections::{BTreeMap, VecDeque};

use linkspan_core::{Commit, ConnectionId, Error, ErrorKind, LoadStream, Recall, Recalled, Result, Scope, StreamName, WriteMode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{Entry, Event, StreamCommit};
use crate::{schema, storage::PartFile};

/// Enough ids to tell whether an entry that was just added counts.
const RECENT: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// The number of the last entry.
    pub head: u64,
    pub connections: BTreeMap<ConnectionId, Known>,
    /// By folder.
    pub tables: BTreeMap<String, Table>,
    /// Entries whose files may not have their names yet.
    pub rolling: BTreeMap<u64, Rolling>,
    pub recent: VecDeque<Uuid>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub fence: u64,
    pub scopes: BTreeMap<Scope, Recalled>,
    #[serde(with = "pairs")]
    pub published: BTreeMap<StreamName, u64>,
    #[serde(with = "pairs")]
    pub staged: BTreeMap<StreamName, BTreeMap<u64, Staged>>,
}

/// A generation that is not published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staged {
    pub schema: Option<String>,
    pub files: Vec<PartFile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub schema: String,
    /// What the last merge found rows by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
}

/// What is left to do for an entry: all of it may be done already, and doing it again changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rolling {
    /// Parts that get their names.
    pub shows: Vec<PartFile>,
    /// Files that go.
    pub removes: Vec<String>,
    /// Staged parts that nobody will publish.
    pub discards: Vec<PartFile>,
}

impl Rolling {
    fn is_empty(&self) -> bool {
        self.shows.is_empty() && self.removes.is_empty() && self.discards.is_empty()
    }
}

impl Ledger {
    /// Adds the next entry. An entry that is already in it (another task of this process was faster) changes nothing.
    pub fn apply(&mut self, number: u64, entry: &Entry) {
        if number <= self.head {
            return;
        }
        self.head = number;
        self.recent.push_back(entry.id);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let known = self.connections.entry(entry.connection).or_default();
        known.fence = known.fence.max(entry.fence);
        let mut rolling = Rolling::default();
        match &entry.event {
            Event::Open { drops } => {
                for (stream, below) in drops {
                    rolling.discards.extend(known.drop_staged_below(stream, *below));
                    known.outdate(stream, *below);
                }
            }
            Event::Commit { scope, generation, number, state, streams, .. } => {
                if let Some(stream) = scope.stream() {
                    known.outdate(stream, *generation);
                }
                known.scopes.insert(scope.clone(), Recalled { generation: *generation, number: *number, state: state.clone() });
                for stream in streams {
                    add_stream(known, &mut self.tables, stream, &mut rolling);
                }
            }
            Event::Publish { stream, folder, generation, schema, files, removes } => {
                known.published.insert(stream.clone(), *generation);
                let staged = known.staged.get_mut(stream).and_then(|g| g.remove(generation));
                drop(staged);
                rolling.discards.extend(known.drop_staged_below(stream, *generation));
                if let Some(schema) = schema {
                    self.tables.insert(folder.clone(), Table { schema: schema.clone(), key: Vec::new() });
                }
                rolling.shows.extend(files.iter().cloned());
                rolling.removes.extend(removes.iter().cloned());
            }
            Event::Forget => {
                known.scopes.clear();
                known.published.clear();
                let staged = std::mem::take(&mut known.staged);
                rolling.discards.extend(staged.into_values().flat_map(|g| g.into_values()).flat_map(|s| s.files));
            }
        }
        if !rolling.is_empty() {
            self.rolling.insert(number, rolling);
        }
    }

    /// `Conflict` when a newer run has begun.
    pub fn check_fence(&self, connection: ConnectionId, fence: u64) -> Result<()> {
        match self.connections.get(&connection) {
            Some(known) if known.fence > fence => Err(Error::new(ErrorKind::Conflict, "a newer run of this connection has begun")
                .with("fence", fence)
                .with("newer", known.fence)
                .fix("let the newer run go on; nothing of this one was kept")),
            _ => Ok(()),
        }
    }

    /// Compare-and-set: the scope must stand where the commit thinks it stands.
    pub fn check_commit(&self, commit: &Commit) -> Result<()> {
        self.check_fence(commit.connection, commit.fence)?;
        let stands = self.connections.get(&commit.connection).and_then(|k| k.scopes.get(&commit.scope));
        let number = match stands {
            Some(r) if r.generation == commit.generation => r.number,
            Some(r) if r.generation > commit.generation => {
                return Err(conflict(commit).with("stands_at_generation", r.generation));
            }
            _ => 0,
        };
        if number != commit.previous {
            return Err(conflict(commit).with("stands_at", number));
        }
        Ok(())
    }

    pub fn recall(&self, connection: ConnectionId) -> Option<Recall> {
        let known = self.connections.get(&connection)?;
        Some(Recall { fence: known.fence, scopes: known.scopes.clone(), published: known.published.clone() })
    }

    /// The load's streams of which an older generation is still staged, with the generation that begins.
    pub fn stale_staging(&self, connection: ConnectionId, streams: &[LoadStream]) -> Vec<(StreamName, u64)> {
        let Some(known) = self.connections.get(&connection) else { return Vec::new() };
        let stale = |s: &&LoadStream| known.staged.get(&s.stream).is_some_and(|g| g.keys().any(|g| *g < s.generation));
        streams.iter().filter(stale).map(|s| (s.stream.clone(), s.generation)).collect()
    }

    /// What is staged of a generation; nothing, when it never had a row.
    pub fn staged(&self, connection: ConnectionId, stream: &StreamName, generation: u64) -> Staged {
        let known = self.connections.get(&connection);
        known.and_then(|k| k.staged.get(stream)?.get(&generation)).cloned().unwrap_or_default()
    }

    /// Every part that some entry still counts on, by its witness.
    pub fn awaited(&self) -> std::collections::BTreeSet<String> {
        let rolling = self.rolling.values().flat_map(|r| &r.shows);
        let staged = self.connections.values().flat_map(|k| k.staged.values()).flat_map(|g| g.values()).flat_map(|s| &s.files);
        rolling.chain(staged).map(|p| p.temp.witness().to_owned()).collect()
    }
}

fn conflict(commit: &Commit) -> Error {
    Error::new(ErrorKind::Conflict, "another run committed in between")
        .with("scope", &commit.scope)
        .with("previous", commit.previous)
        .fix("run again: it goes on where the other one stopped")
}

fn add_stream(known: &mut Known, tables: &mut BTreeMap<String, Table>, stream: &StreamCommit, rolling: &mut Rolling) {
    if stream.write == WriteMode::Replace {
        let staged = known.staged.entry(stream.stream.clone()).or_default().entry(stream.generation).or_default();
        if stream.truncated {
            rolling.discards.append(&mut staged.files);
        }
        let goes = |part: &PartFile| stream.removes.iter().any(|path| path == part.temp.witness());
        let (gone, stay): (Vec<PartFile>, Vec<PartFile>) = std::mem::take(&mut staged.files).into_iter().partition(goes);
        staged.files = stay;
        rolling.discards.extend(gone);
        staged.files.extend(stream.files.iter().cloned());
        if let Some(next) = &stream.schema {
            staged.schema = Some(add_schema(staged.schema.as_deref(), next));
        }
        return;
    }
    if let Some(next) = &stream.schema {
        let stands = tables.get(&stream.folder);
        let schema = add_schema(stands.map(|t| t.schema.as_str()), next);
        let key = stands.map(|t| t.key.clone()).unwrap_or_default();
        tables.insert(stream.folder.clone(), Table { schema, key });
    }
    if let Some(table) = tables.get_mut(&stream.folder).filter(|_| !stream.key.is_empty()) {
        table.key.clone_from(&stream.key);
    }
    rolling.shows.extend(stream.files.iter().cloned());
    rolling.removes.extend(stream.removes.iter().cloned());
}

/// The schema of files of both. Several lanes may bring a new schema at once, so the sum is made here, where order is one.
fn add_schema(stands: Option<&str>, next: &str) -> String {
    let sum = || {
        let stands = schema::of_text(stands?).ok()?;
        schema::to_text(&schema::sum(&stands, &schema::of_text(next).ok()?).ok()?).ok()
    };
    sum().unwrap_or_else(|| next.to_owned())
}

impl Known {
    fn drop_staged_below(&mut self, stream: &StreamName, below: u64) -> Vec<PartFile> {
        let Some(generations) = self.staged.get_mut(stream) else { return Vec::new() };
        let kept = generations.split_off(&below);
        let dropped = std::mem::replace(generations, kept);
        if generations.is_empty() {
            self.staged.remove(stream);
        }
        dropped.into_values().flat_map(|s| s.files).collect()
    }
    /// A stream's scopes of an older generation mean nothing once a newer one has begun.
    fn outdate(&mut self, stream: &StreamName, generation: u64) {
        self.scopes.retain(|s, r| s.stream() != Some(stream) || r.generation >= generation);
    }
}

/// Maps whose keys are no strings, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(map.iter())
    }
    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(d)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::State;
    use serde_json::json;

    use super::*;
    use crate::storage::Temp;

    fn connection() -> ConnectionId {
        ConnectionId(Uuid::from_u128(7))
    }
    fn part(name: &str) -> PartFile {
        PartFile { name: name.into(), temp: Temp::File { path: format!("tmp/{name}") }, size: 1, rows: 1, blake3: String::new() }
    }
    fn entry(event: Event) -> Entry {
        Entry { id: Uuid::new_v4(), connection: connection(), fence: 1, event }
    }
    fn staged(generation: u64, number: u64, file: &str) -> Entry {
        entry(Event::Commit {
            scope: Scope::Stream(StreamName::parse("s.t")),
            generation,
            previous: number - 1,
            number,
            state: State::new(1, json!(number)),
            streams: vec![StreamCommit {
                stream: StreamName::parse("s.t"),
                folder: "s/t".into(),
                write: WriteMode::Replace,
                generation,
                files: vec![part(file)],
                schema: None,
                truncated: false,
                removes: vec![],
                key: vec![],
            }],
        })
    }

    #[test]
    fn staging_of_an_older_generation_is_dropped_and_survives_a_checkpoint() {
        let mut ledger = Ledger::default();
        ledger.apply(1, &staged(1, 1, "a"));
        ledger.apply(2, &staged(1, 2, "b"));
        let text = serde_json::to_string(&ledger).unwrap();
        let mut ledger: Ledger = serde_json::from_str(&text).unwrap();
        assert_eq!(ledger.awaited().len(), 2);
        ledger.apply(3, &entry(Event::Open { drops: vec![(StreamName::parse("s.t"), 2)] }));
        assert_eq!(ledger.rolling[&3].discards.len(), 2);
        assert!(ledger.awaited().is_empty());
    }

    #[test]
    fn a_commit_on_another_number_is_refused() {
        let mut ledger = Ledger::default();
        ledger.apply(1, &staged(1, 1, "a"));
        let commit = |generation, previous, fence| Commit {
            connection: connection(),
            scope: Scope::Stream(StreamName::parse("s.t")),
            generation,
            fence,
            previous,
            number: previous + 1,
            state: State::new(1, json!(0)),
        };
        assert!(ledger.check_commit(&commit(1, 1, 1)).is_ok());
        assert!(ledger.check_commit(&commit(2, 0, 1)).is_ok(), "a new generation counts from 0");
        for stale in [commit(1, 0, 1), commit(1, 2, 1), commit(0, 1, 1), commit(1, 1, 0)] {
            assert_eq!(ledger.check_commit(&stale).unwrap_err().kind(), ErrorKind::Conflict);
        }
    }
}
