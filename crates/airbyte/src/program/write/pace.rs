//! When what an input brought is handed on, and when it is committed for.

use std::{sync::Arc, time::Duration};

use linkspan_core::{Clock, Output, Result, Rows, Scope, StreamName};

use super::{
    rows::Gathering,
    states::{States, Waiting},
};

/// Rows of one batch, and bytes: whichever is reached first.
const ROWS: usize = 5_000;
const BYTES: usize = 1 << 20;
/// Bytes that streams may gather together before the largest of them is handed on.
const TOGETHER: usize = 16 << 20;
/// A state is worth a checkpoint this often; a platform may send one behind each record.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long the input may be quiet while nothing waits.
pub(in crate::program) const PATIENCE: Duration = Duration::from_secs(3_600);

/// A stream that the input brings, with the rows that gather for it.
pub(in crate::program) struct Table {
    pub stream: StreamName,
    pub gathering: Gathering,
}

impl Table {
    pub(in crate::program) async fn flush(&mut self, out: &mut Output) -> Result<()> {
        if !self.gathering.has_something() {
            return Ok(());
        }
        let (rows, changes) = self.gathering.finish()?;
        out.batch(&self.stream, Rows::Arrow(rows), changes).await
    }
}

/// The table whose rows are to be handed on now that one came for the table `at`: this one when it is full, the largest when all of
/// them together hold too much.
pub(in crate::program) fn full(tables: &[Table], at: usize) -> Option<usize> {
    let it = &tables[at].gathering;
    if it.rows() >= ROWS || it.bytes() >= BYTES {
        return Some(at);
    }
    if tables.len() == 1 || tables.iter().map(|t| t.gathering.bytes()).sum::<usize>() < TOGETHER {
        return None;
    }
    tables.iter().enumerate().max_by_key(|(_, t)| t.gathering.bytes()).map(|(at, _)| at)
}

/// The checkpoints of an input.
pub(in crate::program) struct Pace {
    states: Arc<States>,
    clock: Arc<dyn Clock>,
    /// A state came and no checkpoint since.
    is_due: bool,
    round: u64,
    last: jiff::Timestamp,
}

impl Pace {
    pub(in crate::program) fn new(states: Arc<States>, clock: Arc<dyn Clock>) -> Self {
        Self { states, is_due: false, round: 0, last: clock.now(), clock }
    }

    /// Takes a state that all records so far stand before.
    pub(in crate::program) fn take(&mut self, state: Waiting) {
        self.states.take(state);
        self.is_due = true;
    }

    /// How long to wait for a line before something else is to be done.
    pub(in crate::program) fn patience(&self) -> Duration {
        if self.is_due { BETWEEN } else { PATIENCE }
    }

    pub(in crate::program) fn is_due(&self) -> bool {
        self.is_due
    }

    /// A state waits, and the last checkpoint is long enough ago.
    pub(in crate::program) fn is_time(&self) -> bool {
        self.is_due && self.last.duration_until(self.clock.now()).unsigned_abs() >= BETWEEN
    }

    /// Hands everything on and asks for a commit.
    pub(in crate::program) async fn checkpoint(&mut self, tables: &mut [Table], out: &mut Output) -> Result<()> {
        for table in tables {
            table.flush(out).await?;
        }
        (self.is_due, self.last) = (false, self.clock.now());
        self.round += 1;
        out.checkpoint(&Scope::Shared, self.states.here(self.round)).await
    }
}
