//! The commit log: numbered entries that are put only when the number is free, and the ledger that they add up to.
//!
//! The number is the log's own; a commit's connection, scope and number are inside the entry. Compare-and-set is per scope: whoever
//! wants to add an entry has replayed all before it, and checks the fence and the scope's number against what they add up to. When
//! another writer took the number, the new entries are read and the check is made again.

mod entry;
mod ledger;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::{StreamExt, TryStreamExt, stream};
use linkspan_core::{Context, Error, ErrorKind, Result};

pub(crate) use entry::{Entry, Event, StreamCommit};
pub(crate) use ledger::{Ledger, Rolling};

use crate::{
    place::{self, LogFile},
    storage::{Depth, Put, Storage},
};

/// A snapshot of the ledger is written each time this many entries were added.
const CHECKPOINT_EVERY: u64 = 100;
/// Entries read at once.
const READ_AHEAD: usize = 16;

pub(crate) struct Log {
    storage: Arc<Storage>,
    ctx: Context,
    ledger: Mutex<Ledger>,
    /// The log has one end: the writers of this process queue for it instead of taking numbers from each other.
    turn: tokio::sync::Mutex<()>,
}

impl Log {
    pub fn new(storage: Arc<Storage>, ctx: Context) -> Self {
        Self { storage, ctx, ledger: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
    /// The ledger as this process knows it. Not to be held over an await.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic while held")
    }

    /// Waits until no other task of this process adds an entry.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Reads what others have added.
    pub async fn refresh(&self) -> Result<()> {
        // A second listing is needed only when entries were pruned between the first one and the reading.
        for _ in 0..5 {
            let (entries, checkpoint) = self.listing().await?;
            let head = self.ledger().head;
            let behind = checkpoint.is_some_and(|c| c > head && entries.binary_search(&(head + 1)).is_err());
            let start = match checkpoint {
                Some(number) if behind || (head == 0 && number > 0) => match self.load_checkpoint(number).await? {
                    true => number,
                    false => continue,
                },
                _ => head,
            };
            let wanted: Vec<u64> = entries.into_iter().filter(|n| *n > start).collect();
            if wanted.first().is_some_and(|n| *n != start + 1) || wanted.windows(2).any(|w| w[1] != w[0] + 1) {
                return Err(hole(start));
            }
            if self.read_entries(wanted).await? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the commit log moves faster than it can be read").fix("run again"))
    }

    /// The numbers of the entries that are there, in order, and of the latest checkpoint.
    async fn listing(&self) -> Result<(Vec<u64>, Option<u64>)> {
        let mut entries = Vec::new();
        let mut checkpoint = None;
        for item in self.storage.list(place::LOG, Depth::One).await? {
            match place::log_file(&item.path) {
                Some(LogFile::Entry(n)) => entries.push(n),
                Some(LogFile::Checkpoint(n)) => checkpoint = checkpoint.max(Some(n)),
                Some(LogFile::Litter(_)) | None => {}
            }
        }
        entries.sort_unstable();
        Ok((entries, checkpoint))
    }

    /// False when it was pruned in the meantime.
    async fn load_checkpoint(&self, number: u64) -> Result<bool> {
        let path = place::checkpoint_name(number);
        let Some(text) = self.storage.read(&path).await? else { return Ok(false) };
        let loaded: Ledger = serde_json::from_slice(&text).map_err(|e| damaged(&path).because(e))?;
        let mut ledger = self.ledger();
        if ledger.head < loaded.head {
            *ledger = loaded;
        }
        Ok(true)
    }

    /// False when one of them was pruned in the meantime.
    async fn read_entries(&self, numbers: Vec<u64>) -> Result<bool> {
        let mut read = stream::iter(numbers).map(async |number| Ok::<_, Error>((number, self.entry(number).await?))).buffered(READ_AHEAD);
        while let Some((number, entry)) = read.try_next().await? {
            let Some(entry) = entry else { return Ok(false) };
            self.ledger().apply(number, &entry);
        }
        Ok(true)
    }

    async fn entry(&self, number: u64) -> Result<Option<Entry>> {
        let path = place::entry_name(number);
        match self.storage.read(&path).await? {
            Some(text) => serde_json::from_slice(&text).map(Some).map_err(|e| damaged(&path).because(e)),
            None => Ok(None),
        }
    }

    /// Adds an entry once `check` passes against everything before it. Answers its number.
    pub async fn append(&self, entry: &Entry, check: impl Fn(&Ledger) -> Result<()>) -> Result<u64> {
        let _turn = self.turn().await;
        loop {
            let number = {
                let ledger = self.ledger();
                check(&ledger)?;
                ledger.head + 1
            };
            if self.try_append(number, entry).await? {
                return Ok(number);
            }
            self.refresh().await?;
        }
    }

    /// Adds an entry as this very number. False when the number is taken by another entry.
    pub async fn try_append(&self, number: u64, entry: &Entry) -> Result<bool> {
        let path = place::entry_name(number);
        let text = serde_json::to_vec(entry).map_err(|e| Error::new(ErrorKind::Internal, "the entry cannot be written").because(e))?;
        if self.storage.put_new(&path, text.into()).await? == Put::Taken {
            // A put whose answer was lost is sent again, and then finds its own first try there.
            let ours = self.entry(number).await?.is_some_and(|theirs| theirs.id == entry.id);
            if !ours {
                return Ok(false);
            }
        }
        self.ctx.failpoints.hit("parquet.log.after").await?;
        self.confirm(number, entry).await?;
        Ok(true)
    }

    /// A writer that slept while others went on for hundreds of entries may have found a number free because it was pruned. No
    /// reader ever sees such an entry, since every reader starts at a later checkpoint; the writer learns it here.
    async fn confirm(&self, number: u64, entry: &Entry) -> Result<()> {
        let (_, checkpoint) = self.listing().await?;
        if checkpoint.is_some_and(|c| c >= number) {
            let fresh = Self::new(self.storage.clone(), self.ctx.clone());
            fresh.refresh().await?;
            let fresh = fresh.ledger.into_inner().expect("no panic while held");
            let counts = fresh.recent.contains(&entry.id);
            self.take_over(fresh);
            if !counts {
                self.storage.delete(&place::entry_name(number)).await?;
                return Err(
                    Error::new(ErrorKind::Conflict, "other runs went on while this one slept").fix("run again: it goes on where they are")
                );
            }
        }
        self.ledger().apply(number, entry);
        Ok(())
    }

    fn take_over(&self, fresh: Ledger) {
        let mut ledger = self.ledger();
        if fresh.head >= ledger.head {
            *ledger = fresh;
        }
    }

    /// Writes a checkpoint when one is due, and takes away the entries that no reader needs any more.
    pub async fn tidy(&self, number: u64) -> Result<()> {
        if !number.is_multiple_of(CHECKPOINT_EVERY) {
            return Ok(());
        }
        let (head, text) = {
            let ledger = self.ledger();
            let text =
                serde_json::to_vec(&*ledger).map_err(|e| Error::new(ErrorKind::Internal, "the ledger cannot be written").because(e))?;
            (ledger.head, text)
        };
        self.ctx.failpoints.hit("parquet.checkpoint.before").await?;
        self.storage.put_new(&place::checkpoint_name(head), text.into()).await?;
        self.ctx.failpoints.hit("parquet.checkpoint.after").await?;
        let keep_from = head.saturating_sub(CHECKPOINT_EVERY);
        for item in self.storage.list(place::LOG, Depth::One).await? {
            let old = match place::log_file(&item.path) {
                Some(LogFile::Entry(n) | LogFile::Litter(n)) => n <= keep_from,
                Some(LogFile::Checkpoint(n)) => n < keep_from,
                None => false,
            };
            if old {
                self.storage.delete(&item.path).await?;
            }
        }
        Ok(())
    }
}

fn damaged(path: &str) -> Error {
    Error::new(ErrorKind::DataInvalid, "the commit log is damaged")
        .with("file", path)
        .fix("restore the file from a copy; if there is none, start with an empty folder and `reset` the connection")
}

fn hole(after: u64) -> Error {
    Error::new(ErrorKind::DataInvalid, "an entry of the commit log is missing")
        .with("after", after)
        .fix("restore `_linkspan/log` from a copy; if there is none, start with an empty folder and `reset` the connection")
}
