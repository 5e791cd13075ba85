//! One lane's rows on their way into files, and the commit that makes them count.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use linkspan_core::{
    Batch, Commit, Error, ErrorKind, Load, Result, Rows, SchemaPlan, Session, StreamName, WriteMode, WriteStats, is_feed_column,
};
use uuid::Uuid;

use crate::{
    house::House,
    log::{Entry, Event, StreamCommit},
    part::{PartWriter, as_stored},
    place, roll, schema,
    storage::Storage,
    table::{Run, Table, becomes, cannot_fold},
};

/// What the open files of one session may hold in memory together; above it the largest one ends its row group.
const OPEN_BYTES: usize = 48 << 20;

pub(crate) struct ParquetSession {
    house: Arc<House>,
    load: Load,
    streams: BTreeMap<StreamName, Table>,
    /// An error leaves nothing that may be committed.
    dead: bool,
}

impl ParquetSession {
    pub fn new(house: Arc<House>, load: Load) -> Self {
        let run = Run { connection: load.connection, fence: load.fence };
        let streams = load.streams.iter().map(|s| (s.stream.clone(), Table::new(&house, run, s.clone()))).collect();
        Self { house, load, streams, dead: false }
    }
    fn run(&self) -> Run {
        Run { connection: self.load.connection, fence: self.load.fence }
    }

    fn alive(&mut self, stream: &StreamName) -> Result<&mut Table> {
        if self.dead {
            return Err(Error::new(ErrorKind::Internal, "the session failed before; it takes no more rows"));
        }
        self.streams
            .get_mut(stream)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the session was not opened for this stream").with("stream", stream))
    }

    async fn take_schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let house = self.house.clone();
        let connection = self.load.connection;
        let table = self.alive(stream)?;
        let planned = schema::plain(&plan.schema);
        if table.plan.as_ref().is_some_and(|(stands, _)| *stands == planned) {
            return Ok(());
        }
        let stored = schema::stored(&planned);
        schema::check_writable(&stored).map_err(|e| e.with("stream", stream))?;
        table.files.end(&house).await?;
        let stands = table.stands(&house, connection);
        table.has_file |= stands.is_some();
        let stands = stands.as_deref().map(schema::of_text).transpose()?;
        if table.pending.is_some() && stands.as_ref().is_some_and(|s| s.fields().iter().any(|field| is_feed_column(field.name()))) {
            return Err(holds_changes().with("stream", stream));
        }
        let becomes = becomes(stands.as_ref(), &plan.ddl, &table.own(&stored)).map_err(|e| e.with("stream", stream))?;
        let becomes = table.own(&becomes);
        table.news = if stands.as_ref() == Some(&becomes) { None } else { Some(becomes) };
        table.plan = Some((planned, stored));
        Ok(())
    }

    async fn take_rows(&mut self, batch: Batch) -> Result<()> {
        let house = self.house.clone();
        let run = self.run();
        let Batch { stream, rows, changes, lease } = batch;
        let table = self.alive(&stream)?;
        let (planned, stored) =
            table.plan.clone().ok_or_else(|| Error::new(ErrorKind::Internal, "rows came before their schema").with("stream", &stream))?;
        let rows = match rows {
            Rows::Arrow(rows) => rows,
            Rows::Json(json) => json.to_arrow(&planned)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows of this form cannot be written").with("stream", &stream)),
        };
        table.stats.rejected += changes.rejected.len() as u64;
        if rows.num_rows() > 0 {
            let rows = as_stored(rows, &stored).map_err(|e| e.with("stream", &stream))?;
            table.write(&house, run, &stored, rows).await.map_err(|e| e.with("stream", &stream))?;
        }
        // The rows are encoded, or are few enough to be held aside: their memory may be lent to the next batch.
        drop(lease);
        self.keep_within_memory().await
    }

    async fn keep_within_memory(&mut self) -> Result<()> {
        if self.streams.values().map(Table::memory).sum::<usize>() <= OPEN_BYTES {
            return Ok(());
        }
        match self.streams.values_mut().max_by_key(|table| table.memory()) {
            Some(largest) => largest.let_go().await,
            None => Ok(()),
        }
    }

    async fn take_truncate(&mut self, stream: &StreamName) -> Result<()> {
        let house = self.house.clone();
        let table = self.alive(stream)?;
        table.files.end(&house).await?;
        for part in std::mem::take(&mut table.files.done) {
            house.storage.discard(&part).await?;
        }
        if let Some(pending) = &mut table.pending {
            pending.clear();
        }
        // Rows that came before the truncate in this commit were taken in, and are gone with the rest.
        table.truncated = true;
        Ok(())
    }

    async fn make_durable(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let house = self.house.clone();
        self.check_ours(commit)?;
        let run = self.run();
        let mut streams = Vec::new();
        let mut stats = BTreeMap::new();
        for (name, table) in self.streams.iter_mut().filter(|(_, table)| !table.has_changes()) {
            table.files.end(&house).await?;
            table.show_empty(&house, run).await?;
            stats.insert(name.clone(), std::mem::take(&mut table.stats));
            // From here on the log may know these files: no clean-up touches them.
            streams.extend(table.take_commit()?);
        }
        if streams.iter().any(|s: &StreamCommit| !s.files.is_empty()) {
            house.storage.sync_folders(vec![place::temp_folder(run.connection)]).await?;
        }
        let number = if self.streams.values().any(Table::has_changes) {
            self.append_merged(commit, streams, &mut stats).await?
        } else {
            house.ctx.failpoints.hit("parquet.log.before").await?;
            append(&house, commit, streams).await?
        };
        house.settle(number).await?;
        Ok(stats)
    }

    /// Adds the commit with what its changes make of the tables' files. Everything before it has rolled by then, so that the listing of a
    /// folder is the whole truth about it; when another writer gets in between, all is done again.
    async fn append_merged(
        &mut self,
        commit: &Commit,
        rest: Vec<StreamCommit>,
        stats: &mut BTreeMap<StreamName, WriteStats>,
    ) -> Result<u64> {
        let (house, run) = (self.house.clone(), self.run());
        let _turn = house.log.turn().await;
        loop {
            house.log.refresh().await?;
            roll::roll_all(&house.storage, &house.log, &house.ctx).await?;
            let head = {
                let ledger = house.log.ledger();
                ledger.check_commit(commit)?;
                ledger.head
            };
            let mut streams = rest.clone();
            // A table that is only emptied loses what is there now, too.
            for stream in streams.iter_mut().filter(|s| s.truncated && s.write != WriteMode::Replace) {
                stream.removes = house.present(&stream.folder).await?.into_iter().map(|item| item.path).collect();
            }
            for (name, table) in self.streams.iter_mut().filter(|(_, table)| table.has_changes()) {
                let (merged, done) = table.merge(&house, run).await.map_err(|e| e.with("stream", name))?;
                stats.insert(name.clone(), done);
                streams.push(merged);
            }
            house.storage.sync_folders(vec![place::temp_folder(run.connection)]).await?;
            house.ctx.failpoints.hit("parquet.log.before").await?;
            let made: Vec<_> = streams.iter().skip(rest.len()).flat_map(|stream| stream.files.clone()).collect();
            if house.log.try_append(head + 1, &entry_of(commit, streams)).await? {
                self.streams.values_mut().filter(|table| table.has_changes()).for_each(Table::merged);
                return Ok(head + 1);
            }
            for part in &made {
                house.storage.discard(part).await?;
            }
        }
    }

    /// A newer run sweeps away what this one was writing: then that is why a step failed, and not what the step says.
    async fn overtaken(&mut self) -> Option<Error> {
        let log = &self.house.log;
        log.refresh().await.ok()?;
        log.ledger().check_fence(self.load.connection, self.load.fence).err()
    }

    fn check_ours(&mut self, commit: &Commit) -> Result<()> {
        if self.dead {
            return Err(Error::new(ErrorKind::Internal, "the session failed before; it commits nothing"));
        }
        let Load { connection, fence, scope, .. } = &self.load;
        if (commit.connection, commit.fence, &commit.scope) != (*connection, *fence, scope) || commit.number <= commit.previous {
            return Err(Error::new(ErrorKind::Internal, "the commit is not of this session").with("scope", &commit.scope));
        }
        Ok(())
    }

    /// Remembers that something failed: what was taken in since the last commit is lost to this session.
    fn judge<T>(&mut self, result: Result<T>) -> Result<T> {
        self.dead |= result.is_err();
        result
    }
}

/// Adds the commit to the log: the one moment at which rows and position count.
async fn append(house: &House, commit: &Commit, streams: Vec<StreamCommit>) -> Result<u64> {
    let emptied = |s: &StreamCommit| s.truncated && s.write != WriteMode::Replace;
    if !streams.iter().any(emptied) {
        return house.log.append(&entry_of(commit, streams), |ledger| ledger.check_commit(commit)).await;
    }
    let folders: Vec<String> = streams.iter().filter(|s| emptied(s)).map(|s| s.folder.clone()).collect();
    let make = |_: &_, present: Vec<Vec<String>>| {
        let mut streams = streams.clone();
        for (stream, removes) in streams.iter_mut().filter(|s| emptied(s)).zip(present) {
            stream.removes = removes;
        }
        entry_of(commit, streams)
    };
    house.append_over(&folders, make, |ledger| ledger.check_commit(commit)).await
}

fn entry_of(commit: &Commit, streams: Vec<StreamCommit>) -> Entry {
    Entry {
        id: Uuid::new_v4(),
        connection: commit.connection,
        fence: commit.fence,
        event: Event::Commit {
            scope: commit.scope.clone(),
            generation: commit.generation,
            previous: commit.previous,
            number: commit.number,
            state: commit.state.clone(),
            streams,
        },
    }
}

fn holds_changes() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the table holds every change as a row, as an append of a change feed writes it: nothing can be merged into that",
    )
    .fix("merge into another table, or go on with --write append")
}

#[async_trait]
impl Session for ParquetSession {
    async fn fold(&mut self, stream: &StreamName) -> Result<()> {
        let (house, run) = (self.house.clone(), self.run());
        if !matches!(&*house.storage, Storage::Local(_)) {
            return Err(cannot_fold().with("stream", stream));
        }
        let table = self.alive(stream)?;
        if table.pending.is_none() {
            table.fold(&house, run);
        }
        Ok(())
    }
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let result = self.take_schema(stream, plan).await;
        self.judge(result)
    }
    async fn write(&mut self, rows: Batch) -> Result<()> {
        let result = self.take_rows(rows).await;
        self.judge(result)
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        let result = self.take_truncate(stream).await;
        self.judge(result)
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let result = match self.make_durable(commit).await {
            Err(e) if e.kind() != ErrorKind::Conflict => Err(self.overtaken().await.unwrap_or(e)),
            result => result,
        };
        self.judge(result)
    }
}

impl Drop for ParquetSession {
    /// Gives back what no commit will ever use. What this cannot reach, or a crash leaves, the next run's `open` sweeps away.
    fn drop(&mut self) {
        let tables = self.streams.values_mut();
        let witnesses: Vec<String> = tables
            .flat_map(|table| {
                let open = table.files.writer.take().map(PartWriter::give_up);
                table.files.done.drain(..).map(|part| part.temp.witness().to_owned()).chain(open).collect::<Vec<_>>()
            })
            .collect();
        if witnesses.is_empty() {
            return;
        }
        match &*self.house.storage {
            Storage::Local(local) => witnesses.iter().for_each(|temp| drop(local.delete(temp))),
            Storage::S3(_) => {
                let (Ok(runtime), storage) = (tokio::runtime::Handle::try_current(), self.house.storage.clone()) else { return };
                // Nobody can wait for it, and nobody needs to: it only makes the sweep's work less.
                runtime.spawn(async move {
                    for note in witnesses {
                        storage.discard_orphan(&note).await.ok();
                    }
                });
            }
        }
    }
}
