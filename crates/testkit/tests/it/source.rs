//! The source suite against tables in memory, whole and with faults built in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use linkspan_core::{
    Checked, Connector, ConnectorType, Covers, Ended, Error, ErrorKind, Lane, Output, Position, ReadMode, Result, Role, Scope, Selected,
    Source, Spec, State, Stop, Stream, StreamName,
};
use linkspan_testkit::{
    StandardRow,
    rows::{standard_batch, standard_stream},
    source::{Mutated, Mutation, SourceHarness, suite, trial},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const DOCS: &str = "# Tables\n## Setup\nNothing.\n## Limits\nGone with the process.\n";
const BATCH: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Goes on above the cursor's last value: rows of the same value are lost.
    LosesTies,
    /// Reads from the start whatever the state says.
    IgnoresState,
    /// Takes a state it does not know for none.
    TrustsStrangers,
    /// Says nothing after its last rows.
    NoLastCheckpoint,
    /// Sends rows before a checkpoint that claims more than was sent.
    ChecksAhead,
    /// Describes its streams in another order each time.
    Restless,
    /// Sends a stream that nobody selected.
    Chatty,
}

type Tables = Arc<Mutex<BTreeMap<String, Vec<StandardRow>>>>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Memory {
    tables: Tables,
    flaw: Flaw,
}

#[async_trait]
impl SourceHarness for Memory {
    fn connector_type(&self) -> ConnectorType {
        let (tables, flaw) = (self.tables.clone(), self.flaw);
        let spec = Spec {
            name: "tables".into(),
            title: "Tables".into(),
            docs: DOCS.into(),
            roles: vec![Role::Source],
            example: json!({}),
            ..Spec::empty()
        };
        ConnectorType::new(spec, move |_: Config, _| Ok(Opened(Arc::new(TableSource { tables: tables.clone(), flaw }))))
    }
    fn config(&self) -> Value {
        json!({})
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(None, stream)
    }
    fn cursor(&self) -> Option<&'static str> {
        Some("updated_at")
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        self.tables.lock().unwrap().insert(stream.to_owned(), rows.to_vec());
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        let mut tables = self.tables.lock().unwrap();
        let table = tables.get_mut(stream).unwrap();
        match mutation {
            Mutation::Insert(rows) => table.extend(rows),
            Mutation::Update(rows) => {
                table.retain(|r| !rows.iter().any(|n| n.id == r.id));
                table.extend(rows);
            }
            Mutation::Delete(ids) => table.retain(|r| !ids.contains(&r.id)),
        }
        Mutated::Done
    }
}

struct Opened(Arc<TableSource>);

#[async_trait]
impl Connector for Opened {
    async fn check(&self) -> Result<Checked> {
        Ok(Checked::default())
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(self.0.clone())
    }
}

struct TableSource {
    tables: Tables,
    flaw: Flaw,
}

#[async_trait]
impl Source for TableSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let mut all: Vec<Stream> = self.tables.lock().unwrap().keys().map(|n| standard_stream(StreamName::new(None, n))).collect();
        // Counted over all connectors: the suite opens a new one for each call.
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        if self.flaw == Flaw::Restless && CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            all.reverse();
        }
        Ok(all)
    }
    fn lanes(self: Arc<Self>, mut selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        if self.flaw == Flaw::Chatty {
            let names: Vec<String> = self.tables.lock().unwrap().keys().cloned().collect();
            let more = names.iter().map(|n| Selected { stream: standard_stream(StreamName::new(None, n)), ..selected[0].clone() });
            selected = more.collect();
        }
        let lanes = selected.into_iter().map(move |selected| {
            let name = selected.stream.name.clone();
            let from = from.get(&Scope::Stream(name.clone())).cloned();
            Ok(Box::new(TableLane { source: self.clone(), name, mode: selected.read, from }) as Box<dyn Lane>)
        });
        futures::stream::iter(lanes.collect::<Vec<_>>()).boxed()
    }
}

struct TableLane {
    source: Arc<TableSource>,
    name: StreamName,
    mode: ReadMode,
    from: Option<State>,
}

/// The cursor reached, and the ids already sent of that value. A full read counts ids only.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    cursor: i64,
    ids: BTreeSet<i64>,
}

impl TableLane {
    fn start(&self) -> Result<At> {
        let flaw = self.source.flaw;
        let Some(state) = self.from.as_ref().filter(|_| flaw != Flaw::IgnoresState) else {
            return Ok(At { cursor: i64::MIN, ids: BTreeSet::new() });
        };
        let known = (state.version == 1).then(|| state.read().ok()).flatten();
        match known {
            Some(at) => Ok(at),
            None if flaw == Flaw::TrustsStrangers => Ok(At { cursor: i64::MIN, ids: BTreeSet::new() }),
            None => Err(Error::new(ErrorKind::PositionLost, "a state of another make").fix("reset")),
        }
    }
    fn cursor(&self, row: &StandardRow) -> i64 {
        if self.mode == ReadMode::Full { row.id } else { row.updated_at }
    }
    /// The next batch, in cursor order.
    fn next(&self, at: &At) -> Vec<StandardRow> {
        let tables = self.source.tables.lock().unwrap();
        let mut rows: Vec<StandardRow> = tables[&*self.name.name]
            .iter()
            .filter(|r| {
                let cursor = self.cursor(r);
                cursor > at.cursor || (cursor == at.cursor && !at.ids.contains(&r.id) && self.source.flaw != Flaw::LosesTies)
            })
            .cloned()
            .collect();
        rows.sort_by_key(|r| (self.cursor(r), r.id));
        rows.truncate(BATCH);
        rows
    }
    fn state(at: &At) -> State {
        State::new(1, serde_json::to_value(at).unwrap())
    }
}

#[async_trait]
impl Lane for TableLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.name.clone()], scope: Scope::Stream(self.name.clone()), after: vec![] }
    }
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let scope = Scope::Stream(self.name.clone());
        let mut at = self.start()?;
        loop {
            if stop.requested() {
                return Ok(Ended::Stopped);
            }
            let rows = self.next(&at);
            let Some(last) = rows.last().map(|r| self.cursor(r)) else { break };
            if last > at.cursor {
                at = At { cursor: last, ids: BTreeSet::new() };
            }
            at.ids.extend(rows.iter().filter(|r| self.cursor(r) == last).map(|r| r.id));
            if self.source.flaw == Flaw::ChecksAhead {
                out.checkpoint(&scope, Self::state(&at)).await?;
                out.rows(&self.name, standard_batch(&rows)).await?;
                continue;
            }
            out.rows(&self.name, standard_batch(&rows)).await?;
            if self.source.flaw != Flaw::NoLastCheckpoint {
                out.checkpoint(&scope, Self::state(&at)).await?;
            }
        }
        if self.source.flaw != Flaw::NoLastCheckpoint {
            out.checkpoint(&scope, Self::state(&at)).await?;
        }
        Ok(Ended::Complete)
    }
}

fn memory(flaw: Flaw) -> Memory {
    Memory { tables: Tables::default(), flaw }
}

#[tokio::test]
async fn a_good_source_passes() {
    suite(memory(Flaw::None)).await;
}

async fn fails_with(flaw: Flaw, name: &str) {
    let panic = std::panic::AssertUnwindSafe(trial(memory(flaw), name)).catch_unwind().await;
    let panic = panic.expect_err("the suite passes a broken source");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(&format!("tables/source/{name}")), "{flaw:?} is not found by {name}:\n{text}");
}

#[tokio::test]
async fn lost_ties_are_found() {
    fails_with(Flaw::LosesTies, "ties_on_the_cursor_are_neither_lost_nor_endless").await;
}

#[tokio::test]
async fn an_ignored_state_is_found() {
    fails_with(Flaw::IgnoresState, "a_second_incremental_read_is_empty").await;
    fails_with(Flaw::IgnoresState, "resumes_from_every_checkpoint").await;
}

#[tokio::test]
async fn a_silent_full_read_is_found() {
    fails_with(Flaw::TrustsStrangers, "a_state_that_makes_no_sense_is_never_a_silent_full_read").await;
}

#[tokio::test]
async fn a_missing_checkpoint_is_found() {
    fails_with(Flaw::NoLastCheckpoint, "reads_every_row_once_and_ends_with_a_checkpoint").await;
}

#[tokio::test]
async fn a_checkpoint_ahead_of_its_rows_is_found() {
    fails_with(Flaw::ChecksAhead, "resumes_from_every_checkpoint").await;
}

#[tokio::test]
async fn a_restless_discover_is_found() {
    fails_with(Flaw::Restless, "discovers_the_same_twice").await;
}

#[tokio::test]
async fn an_unselected_stream_is_found() {
    fails_with(Flaw::Chatty, "an_unselected_stream_is_never_sent").await;
}
