//! Folders of Parquet as a destination: what the log says is true, the files follow it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Atomic, Cadence, Capability, ConnectionId, Context, Destination, Error, ErrorKind, Load, LoadStream, Publish, Recall, Result, Session,
    TableShape, Target, Visible, WriteMode,
};
use uuid::Uuid;

use crate::{
    config::ParquetConfig,
    house::House,
    log::{Entry, Event, Ledger, Log},
    place, roll, schema,
    session::ParquetSession,
    source::footer_schema,
    storage::{Depth, Storage},
};

pub(crate) struct ParquetDestination(Arc<House>);

impl ParquetDestination {
    pub fn new(config: Arc<ParquetConfig>, storage: Arc<Storage>, ctx: Context) -> Self {
        let log = Log::new(storage.clone(), ctx.clone());
        Self(Arc::new(House { config, storage, log, ctx }))
    }
}

fn refuse_merge_without_key(stream: &LoadStream) -> Result<()> {
    if stream.write != WriteMode::Merge || !stream.key.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "a merge needs a key").with("stream", &stream.stream).fix("name its columns with --key"))
}

#[async_trait]
impl Destination for ParquetDestination {
    fn capability(&self) -> Capability {
        Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace, WriteMode::Merge],
            atomic: Atomic::Session,
            transactional_ddl: false,
            commit_visible: Visible::Rolling,
            fences: true,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: false,
            deletes: true,
            parallel: true,
            // Rows in memory are about four times as large as in a file: this makes files of about 64 MB.
            advice: Cadence { rows: u64::MAX, bytes: 256 << 20, age: Duration::from_secs(60) },
        }
    }

    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        let House { storage, log, .. } = &*self.0;
        self.0.refuse_single_file()?;
        log.refresh().await?;
        let folder = place::table_folder(target);
        let known = log.ledger().tables.get(&folder).cloned();
        let files = storage.list(&folder, Depth::One).await?;
        let first = files.iter().find(|i| i.path.ends_with(".parquet"));
        match (known, first) {
            (None, None) => Ok(None),
            // A table whose files were all taken away by hand is no table any more.
            (Some(_), None) if !roll::is_coming(storage, log, &folder).await? => Ok(None),
            (Some(table), _) => Ok(Some(TableShape { schema: schema::of_text(&table.schema)?, key: table.key, ours: true })),
            (None, Some(foreign)) => {
                let schema = footer_schema(storage, foreign).await?;
                Ok(Some(TableShape { schema, key: Vec::new(), ours: false }))
            }
        }
    }

    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        let House { storage, log, ctx, .. } = &*self.0;
        self.0.refuse_single_file()?;
        log.refresh().await?;
        roll::roll_all(storage, log, ctx).await?;
        let recall = log.ledger().recall(connection);
        Ok(recall)
    }

    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        let House { storage, log, ctx, .. } = &*self.0;
        self.0.refuse_single_file()?;
        load.streams.iter().try_for_each(refuse_merge_without_key)?;
        log.refresh().await?;
        roll::roll_all(storage, log, ctx).await?;
        let drops = {
            let ledger = log.ledger();
            ledger.check_fence(load.connection, load.fence)?;
            ledger.stale_staging(load.connection, &load.streams)
        };
        let raises = log.ledger().connections.get(&load.connection).is_none_or(|k| k.fence < load.fence);
        if raises || !drops.is_empty() {
            let entry = Entry { id: Uuid::new_v4(), connection: load.connection, fence: load.fence, event: Event::Open { drops } };
            ctx.failpoints.hit("parquet.open.before").await?;
            let number = log.append(&entry, |ledger| ledger.check_fence(load.connection, load.fence)).await?;
            ctx.failpoints.hit("parquet.open.after").await?;
            self.0.settle(number).await?;
        }
        if raises {
            roll::sweep(storage, log, load.connection, load.fence).await?;
        }
        Ok(Box::new(ParquetSession::new(self.0.clone(), load)))
    }

    async fn publish(&self, publish: &Publish) -> Result<()> {
        let Publish { connection, fence, stream } = publish;
        let house = &*self.0;
        let done = |ledger: &Ledger| {
            ledger.connections.get(connection).and_then(|k| k.published.get(&stream.stream)).is_some_and(|g| *g >= stream.generation)
        };
        house.log.refresh().await?;
        roll::roll_all(&house.storage, &house.log, &house.ctx).await?;
        house.log.ledger().check_fence(*connection, *fence)?;
        if done(&house.log.ledger()) {
            return Ok(());
        }
        house.ctx.failpoints.hit("parquet.publish.before").await?;
        let folder = place::table_folder(&stream.target);
        let number = house
            .append_over(
                std::slice::from_ref(&folder),
                |ledger, mut present| {
                    let staged = ledger.staged(*connection, &stream.stream, stream.generation);
                    let event = Event::Publish {
                        stream: stream.stream.clone(),
                        folder: folder.clone(),
                        generation: stream.generation,
                        schema: staged.schema,
                        files: staged.files,
                        removes: present.pop().unwrap_or_default(),
                    };
                    Entry { id: Uuid::new_v4(), connection: *connection, fence: *fence, event }
                },
                |ledger| ledger.check_fence(*connection, *fence),
            )
            .await?;
        house.ctx.failpoints.hit("parquet.publish.after").await?;
        house.settle(number).await
    }

    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        let log = &self.0.log;
        log.refresh().await?;
        roll::roll_all(&self.0.storage, log, &self.0.ctx).await?;
        let Some(fence) = log.ledger().connections.get(&connection).map(|k| k.fence) else { return Ok(()) };
        let entry = Entry { id: Uuid::new_v4(), connection, fence, event: Event::Forget };
        let number = log.append(&entry, |_| Ok(())).await?;
        self.0.settle(number).await
    }
}
