//! What a read has said of each stream, and what it says next: statuses once and in order, states behind the records they stand for.

use std::{collections::BTreeMap, io::Write};

use linkspan_core::{Error, Position, Result, Scope, State, Stream, StreamName, advance};

use super::position;
use crate::protocol::{Descriptor, Failure, Level, Lines, StreamStatus, SyncMode};

/// The one mouth of a read. It is held for whole messages only.
pub(super) struct Voice<W> {
    pub lines: Lines<W>,
    books: BTreeMap<StreamName, Book>,
    shared: Position,
    /// States are told for all streams at once, because a part of them is shared.
    global: bool,
}

struct Book {
    descriptor: Descriptor,
    sync: SyncMode,
    position: Position,
    /// Rows and bytes.
    estimate: (Option<u64>, Option<u64>),
    started: bool,
    running: bool,
    /// A state was told, and nothing since.
    told: bool,
    failed: bool,
}

impl<W: Write> Voice<W> {
    pub(super) fn new(lines: Lines<W>) -> Self {
        Self { lines, books: BTreeMap::new(), shared: Position::new(), global: false }
    }

    pub(super) fn expect(&mut self, stream: &Stream, sync: SyncMode, from: &Position) {
        let mine = from.iter().filter(|(scope, _)| scope.stream() == Some(&stream.name));
        let position: Position = mine.map(|(scope, state)| (scope.clone(), state.clone())).collect();
        let descriptor = position::descriptor(&stream.name);
        // What a source knows is the size of all; nobody knows how much of it is new.
        let estimate = if position.is_empty() { (stream.estimated_rows, stream.estimated_bytes) } else { (None, None) };
        let book = Book { descriptor, sync, position, estimate, started: false, running: false, told: false, failed: false };
        self.books.insert(stream.name.clone(), book);
    }
    /// Streams share a part of their position.
    pub(super) fn share(&mut self, from: &Position) {
        self.global = true;
        self.shared = from.iter().filter(|(scope, _)| **scope == Scope::Shared).map(|(s, state)| (s.clone(), state.clone())).collect();
    }

    pub(super) fn start(&mut self, stream: &StreamName) -> Result<()> {
        let Some(book) = self.books.get_mut(stream) else { return Ok(()) };
        if std::mem::replace(&mut book.started, true) {
            return Ok(());
        }
        self.lines.status(&book.descriptor, StreamStatus::Started)?;
        match book.estimate {
            (None, None) => Ok(()),
            (rows, bytes) => self.lines.estimate(&book.descriptor, rows, bytes),
        }
    }

    /// Records of a stream, each one object.
    pub(super) fn records<'a>(&mut self, stream: &StreamName, records: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let Some(book) = self.books.get_mut(stream) else { return Ok(()) };
        if !std::mem::replace(&mut book.running, true) {
            self.lines.status(&book.descriptor, StreamStatus::Running)?;
        }
        book.told = false;
        self.lines.records(&book.descriptor, records)
    }

    pub(super) fn checkpoint(&mut self, scope: &Scope, state: State) -> Result<()> {
        let delta: Position = [(scope.clone(), state)].into();
        let Some(stream) = scope.stream() else {
            advance(&mut self.shared, &delta);
            self.global = true;
            return self.tell_all();
        };
        let Some(book) = self.books.get_mut(stream) else { return Ok(()) };
        advance(&mut book.position, &delta);
        match book.sync {
            SyncMode::FullRefresh => Ok(()),
            SyncMode::Incremental if self.global => self.tell_all(),
            SyncMode::Incremental => {
                book.told = true;
                self.lines.state(&book.descriptor, &position::state(&book.position))
            }
        }
    }

    /// One state for all streams, with what they share.
    fn tell_all(&mut self) -> Result<()> {
        let states = self.books.values_mut().map(|book| {
            book.told = true;
            let is_full = book.sync == SyncMode::FullRefresh;
            (book.descriptor.clone(), if is_full { position::none() } else { position::state(&book.position) })
        });
        let body = position::global(&self.shared, states);
        self.lines.global(body)
    }

    pub(super) fn fail(&mut self, stream: &StreamName, error: &Error) -> Result<()> {
        self.start(stream)?;
        let Some(book) = self.books.get_mut(stream) else { return Ok(()) };
        book.failed = true;
        self.lines.error(&Failure::of(error, Some(book.descriptor.clone())))
    }

    /// The stream waits for a quota; it still runs.
    pub(super) fn waits(&mut self, stream: &StreamName) -> Result<()> {
        self.start(stream)?;
        let Some(book) = self.books.get_mut(stream) else { return Ok(()) };
        book.running = true;
        self.lines.rate_limited(&book.descriptor, None)
    }

    pub(super) fn log(&mut self, level: Level, text: &str) -> Result<()> {
        self.lines.log(level, text)
    }

    /// No lane of the stream will come any more: its last state, and how it ended. Whether it was read to its end.
    pub(super) fn close(&mut self, stream: &StreamName) -> Result<bool> {
        self.start(stream)?;
        let Some(book) = self.books.get_mut(stream) else { return Ok(true) };
        if book.failed {
            self.lines.status(&book.descriptor, StreamStatus::Incomplete)?;
            return Ok(false);
        }
        if !std::mem::replace(&mut book.told, true) && !self.global {
            let state = match book.sync {
                SyncMode::FullRefresh => position::none(),
                SyncMode::Incremental => position::state(&book.position),
            };
            self.lines.state(&book.descriptor, &state)?;
        }
        self.lines.status(&book.descriptor, StreamStatus::Complete)?;
        Ok(true)
    }

    /// Streams that were not read whole, where nothing better is known of them.
    pub(super) fn fail_rest(&mut self, error: &Error) -> Result<()> {
        let open: Vec<StreamName> = self.books.iter().filter(|(_, b)| !b.failed).map(|(s, _)| s.clone()).collect();
        open.iter().try_for_each(|stream| self.fail(stream, error))
    }
}
