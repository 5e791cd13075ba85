//! A session's connection: the transaction it is in, the one COPY that can be open on it, and what its COPYs took in.

use std::collections::BTreeMap;

use linkspan_core::{Error, ErrorKind, Result, Retry, StreamName, WriteStats};

use super::{
    connect::Client,
    destination_book::Book,
    errors::PgResult,
    session_copy::{Copy, Format},
};

pub(super) struct Link {
    pub client: Client,
    pub book: Book,
    pub stats: BTreeMap<StreamName, WriteStats>,
    in_transaction: bool,
    copy: Option<Open>,
}

struct Open {
    stream: StreamName,
    into: Into,
    copy: Copy,
}

/// What a COPY fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    /// The table itself: its rows count as written.
    Table,
    /// The table itself, with rows whose keys are above everything that this session knows of.
    Fresh,
    /// A stage that a merge takes its rows from.
    Stage,
}

impl Link {
    pub(super) fn new(client: Client, book: Book) -> Self {
        Self { client, book, stats: BTreeMap::new(), in_transaction: false, copy: None }
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Nothing is open on it that would have to be rolled back.
    pub(super) fn is_idle(&self) -> bool {
        !self.in_transaction && self.copy.is_none()
    }

    pub(super) async fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.pg("beginning a transaction")?;
            self.in_transaction = true;
        }
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        self.client.batch_execute("COMMIT").await.pg("committing")?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) fn stats(&mut self, stream: &StreamName) -> &mut WriteStats {
        self.stats.entry(stream.clone()).or_default()
    }

    /// The COPY of a stream; another one that is open is finished first.
    pub(super) async fn copy(&mut self, stream: &StreamName, into: Into, statement: &str, format: Format) -> Result<&mut Copy> {
        if !self.copy.as_ref().is_some_and(|open| open.stream == *stream && open.into == into) {
            self.finish_copy().await?;
            let copy = Copy::open(&self.client, statement, format).await?;
            return Ok(&mut self.copy.insert(Open { stream: stream.clone(), into, copy }).copy);
        }
        match &mut self.copy {
            Some(open) => Ok(&mut open.copy),
            None => Err(Error::new(ErrorKind::Internal, "the COPY is not open")),
        }
    }

    /// Ends the open COPY, so that the connection can do other things.
    pub(super) async fn finish_copy(&mut self) -> Result<()> {
        let Some(Open { stream, into, copy }) = self.copy.take() else { return Ok(()) };
        let copied = copy.finish().await.map_err(|e| {
            let e = if into == Into::Fresh { overtaken_by_a_row(e) } else { e };
            e.with("stream", &stream)
        })?;
        if into != Into::Stage {
            let stats = self.stats(&stream);
            stats.written += copied.taken;
            // A trigger of the table's owner may leave rows out.
            stats.rejected += copied.sent.saturating_sub(copied.taken);
        }
        Ok(())
    }
}

/// Somebody else wrote a key that was free when this session looked: the next session finds it there and merges.
fn overtaken_by_a_row(e: Error) -> Error {
    if !e.context().iter().any(|(key, value)| *key == "sqlstate" && value == "23505") {
        return e;
    }
    Error::new(ErrorKind::Conflict, "another writer put a row of the same key into the table meanwhile")
        .retry(Retry::Backoff)
        .fix("run the same command again: it goes on from the last commit and merges with the row")
        .because(e)
}
