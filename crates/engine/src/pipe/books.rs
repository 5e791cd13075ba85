//! What the tasks of one run share: who is assigned what, which generation counts, which commits are durable, what was counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow_schema::SchemaRef;
use linkspan_core::{
    Capability, Commit, Error, LoadStream, Position, Recalled, Result, Scope, Selected, StreamName, TableShape, Target, WriteMode,
    WriteStats,
};

use crate::run::{Assignment, Run, StreamEnd, StreamOutcome};

/// One run, as its tasks see it.
pub(super) struct Pipe {
    pub run: Run,
    pub capability: Capability,
    pub assignments: BTreeMap<StreamName, Assignment>,
    books: Mutex<Books>,
    tallies: BTreeMap<StreamName, Tally>,
    commits: AtomicU64,
}

/// Changes as commits become durable.
#[derive(Default)]
struct Books {
    generations: BTreeMap<StreamName, u64>,
    scopes: BTreeMap<Scope, Recalled>,
    durable: Arc<Position>,
    /// Streams that have a table (or staging) of their current generation.
    tables: BTreeSet<StreamName>,
    /// Streams whose generation was drawn in this run.
    drawn: BTreeSet<StreamName>,
    /// Scopes that committed in this run.
    moved: BTreeSet<Scope>,
    /// What stands at the targets, as far as this run asked or committed, so that a thousand lanes of a stream ask once.
    shapes: BTreeMap<StreamName, TableShape>,
    /// The schema of each stream that was last put into its history.
    schemas: BTreeMap<StreamName, SchemaRef>,
    notes: BTreeSet<(StreamName, String)>,
}

#[derive(Default)]
struct Tally {
    read_rows: AtomicU64,
    read_bytes: AtomicU64,
    stats: Mutex<WriteStats>,
}

impl Pipe {
    pub fn new(run: Run, scopes: BTreeMap<Scope, Recalled>, generations: BTreeMap<StreamName, u64>) -> Self {
        let assignments: BTreeMap<_, _> = run.streams.iter().map(|a| (a.selected.stream.name.clone(), a.clone())).collect();
        let tallies = assignments.keys().map(|s| (s.clone(), Tally::default())).collect();
        let of_run = |scope: &Scope| scope.stream().is_none_or(|s| assignments.contains_key(s));
        let scopes: BTreeMap<_, _> = scopes.into_iter().filter(|(scope, _)| of_run(scope)).collect();
        let tables = scopes.keys().filter_map(|s| s.stream().cloned()).collect();
        let live = scopes.iter().filter(|(_, r)| !r.state.is_gone());
        let durable = Arc::new(live.map(|(scope, r)| (scope.clone(), r.state.clone())).collect());
        let books = Mutex::new(Books { generations, scopes, durable, tables, ..Books::default() });
        let capability = run.destination.capability();
        Self { run, capability, assignments, books, tallies, commits: AtomicU64::new(0) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nothing panics while the books are open")
    }

    /// The states that a source goes on from.
    pub fn position(&self) -> Arc<Position> {
        self.books().durable.clone()
    }

    /// The selections of these streams, in their order.
    pub fn selected<'a>(&self, streams: impl IntoIterator<Item = &'a StreamName>) -> Vec<Selected> {
        streams.into_iter().filter_map(|s| self.assignments.get(s)).map(|a| a.selected.clone()).collect()
    }

    pub fn load_stream(&self, stream: &StreamName) -> Option<LoadStream> {
        let assignment = self.assignments.get(stream)?;
        Some(LoadStream {
            stream: stream.clone(),
            target: assignment.target.clone(),
            write: assignment.write,
            generation: self.generation(stream),
            key: assignment.key.clone(),
            swap: assignment.swap,
        })
    }

    pub fn generation(&self, stream: &StreamName) -> u64 {
        self.books().generations.get(stream).copied().unwrap_or(0)
    }

    /// Where a scope stands: its generation and the number of its last commit. The shared scope keeps the generation in which it
    /// first committed; it begins in the newest of its streams.
    pub fn stands(&self, scope: &Scope) -> (u64, u64) {
        let books = self.books();
        let newest = || books.generations.values().copied().max().unwrap_or(0);
        let known = books.scopes.get(scope);
        match scope.stream() {
            Some(stream) => {
                let generation = books.generations.get(stream).copied().unwrap_or(0);
                (generation, known.filter(|r| r.generation == generation).map_or(0, |r| r.number))
            }
            None => known.map_or_else(|| (newest(), 0), |r| (r.generation, r.number)),
        }
    }

    pub fn durable_state(&self, scope: &Scope) -> Option<linkspan_core::State> {
        self.books().scopes.get(scope).map(|r| r.state.clone())
    }

    /// Whether anything of the stream's generation was committed, by lanes of its own or by one that it shares.
    pub fn has_commits(&self, stream: &StreamName) -> bool {
        let books = self.books();
        let is_of = |scope: &Scope| match scope.stream() {
            Some(s) => s == stream,
            None => !books.drawn.contains(stream) || books.tables.contains(stream),
        };
        books.scopes.iter().any(|(scope, r)| r.number > 0 && is_of(scope))
    }

    /// Whether all that is staged of the stream came with an earlier run, and this one's source neither added to it nor proved it again
    /// (which would have moved its state).
    pub fn is_of_an_earlier_run(&self, stream: &StreamName) -> bool {
        let books = self.books();
        let may_be_of = |scope: &Scope| scope.stream().is_none_or(|s| s == stream);
        !books.drawn.contains(stream) && !books.moved.iter().any(may_be_of)
    }

    /// Whether the stream has a table of its generation, as far as this run knows.
    pub fn has_table(&self, stream: &StreamName) -> bool {
        self.books().tables.contains(stream)
    }

    /// A commit made or kept the stream's table in this shape.
    pub fn made_table(&self, stream: &StreamName, shape: Option<TableShape>) {
        let mut books = self.books();
        books.tables.insert(stream.clone());
        let replaces = self.assignments.get(stream).is_some_and(|a| a.write == WriteMode::Replace);
        if let Some(shape) = shape.filter(|_| !replaces) {
            books.shapes.insert(stream.clone(), shape);
        }
    }

    /// What stands at the stream's target: for a replace the table that will go, else the one that rows are added to.
    pub async fn shape(&self, stream: &StreamName, target: &Target) -> Result<Option<TableShape>> {
        let known = self.books().shapes.get(stream).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let shape = self.run.destination.shape(target).await?;
        if let Some(shape) = &shape {
            self.books().shapes.entry(stream.clone()).or_insert_with(|| shape.clone());
        }
        Ok(shape)
    }

    /// Keeps a schema in the stream's history, unless this run just did.
    pub async fn saw_schema(&self, stream: &StreamName, schema: &SchemaRef) -> Result<()> {
        let is_known = self.books().schemas.get(stream).is_some_and(|s| Arc::ptr_eq(s, schema) || s == schema);
        if !is_known {
            self.run.memory.saw_schema(stream, schema).await?;
            self.books().schemas.insert(stream.clone(), schema.clone());
        }
        Ok(())
    }

    /// Tells something of a stream once, however many lanes it has.
    pub fn note_once(&self, stream: &StreamName, text: String) {
        let is_news = self.books().notes.insert((stream.clone(), text.clone()));
        if is_news {
            self.run.observer.note(Some(stream), &text);
        }
    }

    /// Draws the stream's next generation: its states are forgotten, on disk before here.
    pub async fn draw(&self, stream: &StreamName) -> Result<u64> {
        let number = self.run.memory.draw_generation(stream).await?;
        tracing::debug!(%stream, number, "a generation was drawn");
        self.run.context.failpoints.hit("pipe.generation.drawn").await?;
        let mut books = self.books();
        books.generations.insert(stream.clone(), number);
        books.tables.remove(stream);
        books.drawn.insert(stream.clone());
        books.scopes.retain(|scope, _| scope.stream() != Some(stream));
        Arc::make_mut(&mut books.durable).retain(|scope, _| scope.stream() != Some(stream));
        Ok(number)
    }

    /// The shared position is lost: it counts from nothing, in the generation that was drawn for its streams.
    pub fn forget_shared(&self) {
        let mut books = self.books();
        books.scopes.remove(&Scope::Shared);
        Arc::make_mut(&mut books.durable).remove(&Scope::Shared);
    }

    /// A commit is durable and saved.
    pub fn committed(&self, commit: &Commit, stats: &BTreeMap<StreamName, WriteStats>) -> Arc<Position> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(scope = %commit.scope, generation = commit.generation, number = commit.number, "committed");
        for (stream, stats) in stats {
            if let Some(tally) = self.tallies.get(stream) {
                *tally.stats.lock().expect("no panic while held") += *stats;
                self.run.observer.committed(stream, *stats);
            }
        }
        let recalled = Recalled { generation: commit.generation, number: commit.number, state: commit.state.clone() };
        let mut books = self.books();
        books.moved.insert(commit.scope.clone());
        books.scopes.insert(commit.scope.clone(), recalled);
        linkspan_core::advance(Arc::make_mut(&mut books.durable), &[(commit.scope.clone(), commit.state.clone())].into());
        books.durable.clone()
    }

    pub fn read(&self, stream: &StreamName, rows: u64, bytes: u64) {
        if let Some(tally) = self.tallies.get(stream) {
            tally.read_rows.fetch_add(rows, Ordering::Relaxed);
            tally.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.run.observer.read(stream, rows, bytes);
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub fn outcome(&self, stream: &StreamName, ended: StreamEnd) -> StreamOutcome {
        let tally = self.tallies.get(stream);
        StreamOutcome {
            read_rows: tally.map_or(0, |t| t.read_rows.load(Ordering::Relaxed)),
            read_bytes: tally.map_or(0, |t| t.read_bytes.load(Ordering::Relaxed)),
            stats: tally.map(|t| *t.stats.lock().expect("no panic while held")).unwrap_or_default(),
            generation: self.generation(stream),
            ended,
        }
    }
}

/// The same error for another stream: kind, words and place; its causes as text.
pub(super) fn again(e: &Error) -> Error {
    let mut copy = Error::new(e.kind(), e.message().to_owned()).retry(e.retry_hint());
    if let Some(fix) = e.suggested_fix() {
        copy = copy.fix(fix.to_owned());
    }
    if let Some(url) = e.docs_url() {
        copy = copy.docs(url.to_owned());
    }
    for (key, value) in e.context() {
        copy = copy.with(key, value);
    }
    let causes = e.causes();
    if causes.is_empty() { copy } else { copy.because(causes.join(": ")) }
}
