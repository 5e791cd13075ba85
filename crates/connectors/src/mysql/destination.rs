//! MySQL and MariaDB as a destination: rows and position in one transaction, a replace staged beside its target and renamed in one
//! step, stale runs fenced off.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Atomic, Cadence, Capability, ConnectionId, Destination, Error, ErrorKind, Load, Publish, Recall, Result, Session, TableShape, Target,
    Visible, WriteMode,
};

use super::{
    books::Books,
    insert,
    publish::Publishing,
    server::Server,
    session::{MysqlSession, lock, place, unlock},
    tables,
    wire::Wire,
};

/// No lock is waited for longer than this, in seconds; then an error says so.
const LOCK_WAIT: u32 = 60;

pub(super) struct MysqlDestination {
    server: Arc<Server>,
}

impl MysqlDestination {
    pub fn new(server: &Server) -> Self {
        Self { server: server.writer() }
    }

    /// The record is in the database that the config names.
    fn books(&self) -> Result<Books> {
        let database = self.server.endpoint.database.clone().ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "a destination needs a database: the positions are kept in it")
                .with("field", "database")
                .fix("name the database in the URL (mysql://user@host/database) or in `database`")
        })?;
        Ok(Books { database })
    }

    async fn connect(&self) -> Result<Wire> {
        let mut wire = self.server.connect().await?;
        // A commit reads what others have committed, and locks no gaps between keys.
        let waits = format!("SET lock_wait_timeout = {LOCK_WAIT}, innodb_lock_wait_timeout = {LOCK_WAIT}");
        for setting in ["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", &waits] {
            wire.query(setting, "setting up the session").await?;
        }
        Ok(wire)
    }

    async fn drop_old_stages(&self, wire: &mut Wire, books: &Books, load: &Load) -> Result<()> {
        for stream in &load.streams {
            let target = place(books, &stream.target);
            let prefix = tables::staging_prefix(load.connection, &target);
            if stream.write == WriteMode::Replace {
                // The positions that speak of those rows go first: a store that was set back must not go on behind rows that are gone.
                books.drop_older(wire, load.connection, &stream.stream, stream.generation).await?;
            }
            for old in tables::named_like(wire, &prefix).await? {
                let generation = old.name[prefix.len()..].parse::<u64>().unwrap_or(0);
                if generation < stream.generation || stream.write != WriteMode::Replace {
                    tables::drop_table(wire, books, &old).await?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Destination for MysqlDestination {
    fn capability(&self) -> Capability {
        Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace, WriteMode::Merge],
            atomic: Atomic::Session,
            transactional_ddl: false,
            commit_visible: Visible::Atomic,
            fences: true,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: false,
            deletes: true,
            parallel: true,
            advice: Cadence { rows: 200_000, bytes: 32 << 20, age: Duration::from_secs(1) },
        }
    }

    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        let books = self.books()?;
        let mut wire = self.connect().await?;
        let shape = tables::shape(&mut wire, &books, &place(&books, target)).await?;
        wire.close().await;
        Ok(shape)
    }

    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        let books = self.books()?;
        let mut wire = self.connect().await?;
        let recall = if books.present(&mut wire).await? { books.recall(&mut wire, connection).await? } else { None };
        wire.close().await;
        Ok(recall)
    }

    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        for stream in &load.streams {
            tables::refuse_reserved(&stream.target)?;
            if stream.write == WriteMode::Merge && stream.key.is_empty() {
                return Err(Error::new(ErrorKind::ConfigInvalid, "a merge needs a key")
                    .with("stream", &stream.stream)
                    .fix("name the key columns with --key, or write with --write append"));
            }
        }
        let books = self.books()?;
        let mut wire = self.connect().await?;
        let path = insert::path(&mut wire).await?;
        books.make(&mut wire).await?;
        books.install_fence(&mut wire, load.connection, load.fence).await?;
        lock(&mut wire, &books).await?;
        self.drop_old_stages(&mut wire, &books, &load).await?;
        unlock(&mut wire, &books).await?;
        Ok(Box::new(MysqlSession::new(self.server.clone(), books, load, wire, path)))
    }

    async fn publish(&self, publish: &Publish) -> Result<()> {
        let books = self.books()?;
        let mut wire = self.connect().await?;
        let mut guard = self.connect().await?;
        books.make(&mut wire).await?;
        Publishing { ctx: &self.server.ctx, books: &books, request: publish }.run(&mut wire, &mut guard).await?;
        guard.close().await;
        wire.close().await;
        Ok(())
    }

    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        let books = self.books()?;
        let mut wire = self.connect().await?;
        if books.present(&mut wire).await? {
            books.forget(&mut wire, connection).await?;
            for stage in tables::named_like(&mut wire, &tables::connection_prefix(connection)).await? {
                tables::drop_table(&mut wire, &books, &stage).await?;
            }
        }
        wire.close().await;
        Ok(())
    }
}
