//! A session: one connection, one transaction per commit interval, rows copied as they come, the position committed with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use linkspan_core::{
    Batch, Changes, Commit, Error, ErrorKind, Failpoints, Load, LoadStream, Result, Retry, Rows, SchemaPlan, Scope, Session, StreamName,
    WriteMode, WriteStats,
};

use super::{
    connect::Server,
    destination_book::{self as book, Book},
    session_link::Link,
    session_rows::{FeedColumns, Fits},
    session_stream::{Loading, Merging},
    session_table::{Made, Making, Place},
};

/// Whatever fails, or is dropped in the middle, takes the link with it: the socket closes and the server rolls back.
pub(super) struct PgSession {
    server: Arc<Server>,
    link: Option<Link>,
    work: Work,
    changes: Changes,
}

/// What the session is about, apart from its connection.
struct Work {
    load: Load,
    /// Where a stream without a namespace goes.
    namespace: String,
    streams: BTreeMap<StreamName, Loading>,
    /// Replaces that keep one row per key.
    folding: BTreeSet<StreamName>,
    failpoints: Failpoints,
}

impl PgSession {
    pub(super) fn new(server: Arc<Server>, link: Link, load: Load, namespace: String) -> Self {
        let work = Work { load, namespace, streams: BTreeMap::new(), folding: BTreeSet::new(), failpoints: server.ctx.failpoints.clone() };
        Self { server, link: Some(link), work, changes: Changes::default() }
    }

    /// Keeps the link after a success; ends it after a failure.
    async fn settle<T>(&mut self, link: Link, done: Result<T>) -> Result<T> {
        let e = match done {
            Ok(value) => {
                self.link = Some(link);
                return Ok(value);
            }
            Err(e) => e,
        };
        let book = link.book.clone();
        drop(link);
        // A newer run ends the sessions of older ones: to those the connection just breaks.
        if e.kind() == ErrorKind::Unavailable && self.was_overtaken(&book).await {
            return Err(book::overtaken(self.work.load.fence).because(e));
        }
        Err(e)
    }

    async fn was_overtaken(&self, book: &Book) -> bool {
        let Ok(client) = self.server.connect().await else { return false };
        let recalled = book.recall(&client, self.work.load.connection).await;
        recalled.ok().flatten().is_some_and(|r| r.fence > self.work.load.fence)
    }

    fn take_link(&mut self) -> Result<Link> {
        self.link.take().ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "this session failed before")
                .retry(Retry::Backoff)
                .fix("open a new session and go on from the destination's record")
        })
    }
}

impl Drop for PgSession {
    fn drop(&mut self) {
        // After its last commit the connection is as good as new; what is not committed goes with it.
        if let Some(link) = self.link.take().filter(Link::is_idle) {
            link.client.leave();
        }
    }
}

#[async_trait]
impl Session for PgSession {
    async fn fold(&mut self, stream: &StreamName) -> Result<()> {
        self.work.folding.insert(stream.clone());
        Ok(())
    }

    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let mut link = self.take_link()?;
        let done = self.work.schema(&mut link, stream, plan).await.map_err(|e| e.with("stream", stream));
        self.settle(link, done).await
    }

    async fn write(&mut self, batch: Batch) -> Result<()> {
        let mut link = self.take_link()?;
        let Batch { stream, rows, lease, .. } = batch;
        let done = self.work.write(&mut link, &stream, rows).await.map_err(|e| e.with("stream", &stream));
        drop(lease);
        self.changes = self.settle(link, done).await?;
        Ok(())
    }

    fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        let mut link = self.take_link()?;
        let done = self.work.truncate(&mut link, stream).await.map_err(|e| e.with("stream", stream));
        self.settle(link, done).await
    }

    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        let mut link = self.take_link()?;
        // A merge may run for long: nobody wants its result once nobody waits for it.
        let running = link.client.cancel_on_drop();
        let done = self.work.commit(&mut link, commit).await;
        running.disarm();
        self.settle(link, done).await
    }
}

impl Work {
    fn load_stream(&self, stream: &StreamName) -> Result<LoadStream> {
        let found = self.load.streams.iter().find(|s| s.stream == *stream);
        found.cloned().ok_or_else(|| Error::new(ErrorKind::Internal, "a stream that this session was not opened for"))
    }

    /// The table that rows of a stream go into: the target, or the generation's staging table beside it.
    fn place(&self, stream: &LoadStream) -> Place {
        let namespace = stream.target.namespace.as_deref().unwrap_or(&self.namespace).to_owned();
        let name = match stream.write {
            WriteMode::Replace => book::stage_name(self.load.connection, &stream.stream, stream.generation),
            WriteMode::Append | WriteMode::Merge => stream.target.name.to_string(),
        };
        Place { namespace, name }
    }

    async fn schema(&mut self, link: &mut Link, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let load = self.load_stream(stream)?;
        if load.write == WriteMode::Merge && load.key.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a merge needs a key").fix("name the key with --key"));
        }
        link.finish_copy().await?;
        if let Some(loading) = self.streams.get_mut(stream) {
            loading.flush(link).await?;
        }
        // Lanes that share a table must not wait for each other's commits, and a staging table is nobody's but ours: those change at
        // once. In the middle of a transaction the table is locked by this very session, and changes with it.
        let is_shared = matches!(self.load.scope, Scope::Part(..)) || load.write == WriteMode::Replace;
        let at_once = is_shared && !link.in_transaction();
        link.begin().await?;
        let loading = self.shape(link, load, plan).await?;
        if at_once {
            link.book.hold_fence(&link.client, self.load.connection, self.load.fence).await?;
            link.commit().await?;
        }
        self.streams.insert(stream.clone(), loading);
        Ok(())
    }

    /// Brings the table to the plan, and matches the rows' columns with its columns.
    async fn shape(&self, link: &Link, load: LoadStream, plan: &SchemaPlan) -> Result<Loading> {
        let place = self.place(&load);
        let making = Making { client: &link.client, place: &place, mode: load.write, key: &load.key };
        let made = making.apply(plan).await?;
        let table = making.table().await?.ok_or_else(|| making.gone())?;
        table.check_kind(&place.sql())?;
        if made == Made::New {
            link.book.own(&link.client, table.oid, self.load.connection, &load.stream).await?;
        }
        let feed = if load.write == WriteMode::Append { FeedColumns::Kept } else { FeedColumns::Obeyed };
        let fits = Fits::of(&plan.schema, &table, feed, plan.misfit, link.client.version).map_err(|e| e.with("table", place.sql()))?;
        let merging = if load.write == WriteMode::Merge || self.folding.contains(&load.stream) {
            making.ensure_key(&table).await?;
            let number = self.load.streams.iter().position(|s| s.stream == load.stream).unwrap_or(0);
            Some(Merging::start(&link.client, &place, &table, &fits, &plan.schema, &load.key, number).await?)
        } else {
            None
        };
        Ok(Loading::new(load.stream, place, plan.schema.clone(), fits, merging))
    }

    fn loading(&mut self, stream: &StreamName) -> Result<&mut Loading> {
        self.streams.get_mut(stream).ok_or_else(|| Error::new(ErrorKind::Internal, "rows came before their schema"))
    }

    async fn write(&mut self, link: &mut Link, stream: &StreamName, rows: Rows) -> Result<Changes> {
        let loading = self.loading(stream)?;
        let rows: RecordBatch = match rows {
            Rows::Arrow(rows) => rows,
            Rows::Json(rows) => rows.to_arrow(&loading.schema)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows come in a form that this version does not know")),
        };
        if rows.num_rows() == 0 {
            return Ok(Changes::default());
        }
        loading.check_schema(&rows)?;
        link.begin().await?;
        loading.write(link, rows).await
    }

    async fn truncate(&mut self, link: &mut Link, stream: &StreamName) -> Result<()> {
        let loading = match self.streams.get_mut(stream) {
            Some(loading) => loading,
            // A log may truncate a table before it ever sent a row of it: a table that is not there is empty.
            None => {
                let place = self.place(&self.load_stream(stream)?);
                link.begin().await?;
                return super::session_stream::truncate(link, &place).await;
            }
        };
        loading.truncate(link).await
    }

    async fn commit(&mut self, link: &mut Link, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        link.finish_copy().await?;
        for (stream, loading) in &mut self.streams {
            loading.flush(link).await.map_err(|e| e.with("stream", stream))?;
        }
        self.failpoints.hit("postgresql.commit.before").await?;
        link.begin().await?;
        link.book.commit(&link.client, commit).await?;
        self.failpoints.hit("postgresql.commit.rows").await?;
        link.commit().await?;
        self.failpoints.hit("postgresql.commit.after").await?;
        Ok(std::mem::take(&mut link.stats))
    }
}
