//! The destination's face: what it can do, what it remembers, opening and publishing.

use std::time::Duration;

use async_trait::async_trait;
use linkspan_core::{
    Atomic, Cadence, Capability, ConnectionId, Destination, Error, ErrorKind, Load, Publish, Recall, Result, Session, TableShape, Target,
    Visible, WriteMode,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{Sqlite, books, ddl, discover, session::SqliteSession, tables};
use crate::blocking::blocking;

impl Sqlite {
    /// One transaction under the file's write lock, on a thread that may block.
    async fn write<T: Send + 'static>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static) -> Result<(Connection, T)> {
        let sqlite = self.clone();
        blocking(move || {
            let _turn = sqlite.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut db = sqlite.file.writer()?;
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| sqlite.file.error(e))?;
            let answer = work(&tx).map_err(|e| e.with("path", sqlite.file.path.display()))?;
            tx.commit().map_err(|e| sqlite.file.error(e))?;
            Ok((db, answer))
        })
        .await
    }
    /// Reads what is there; `None` when the file is not.
    async fn look<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<Option<T>> + Send + 'static) -> Result<Option<T>> {
        let file = self.file.clone();
        blocking(move || {
            if !file.exists()? {
                return Ok(None);
            }
            work(&file.reader()?).map_err(|e| e.with("path", file.path.display()))
        })
        .await
    }
}

#[async_trait]
impl Destination for Sqlite {
    fn capability(&self) -> Capability {
        Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace, WriteMode::Merge],
            atomic: Atomic::Session,
            transactional_ddl: true,
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
        let target = target.clone();
        self.look(move |db| discover::shape(db, &target)).await
    }
    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        self.look(move |db| books::recall(db, connection)).await
    }
    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        for stream in &load.streams {
            if stream.target.to_string().starts_with(tables::RESERVED) {
                return Err(Error::new(ErrorKind::ConfigInvalid, "table names that start with _linkspan_ are Linkspan's own")
                    .with("table", &stream.target)
                    .fix("choose another table with --target"));
            }
            if stream.write == WriteMode::Merge && stream.key.is_empty() {
                return Err(Error::new(ErrorKind::ConfigInvalid, "a merge needs a key")
                    .with("stream", &stream.stream)
                    .fix("name the key columns with --key, or write with --write append"));
            }
        }
        let opened = load.clone();
        let (db, ()) = self
            .write(move |tx| {
                books::prepare(tx)?;
                books::install_fence(tx, opened.connection, opened.fence)?;
                for stream in &opened.streams {
                    if stream.write == WriteMode::Replace {
                        books::drop_older(tx, opened.connection, &stream.stream, stream.generation)?;
                    }
                    tables::drop_staging(tx, opened.connection, Some((&stream.target, stream.generation)))?;
                }
                Ok(())
            })
            .await?;
        Ok(Box::new(SqliteSession::new(self.clone(), load, db)))
    }
    async fn publish(&self, publish: &Publish) -> Result<()> {
        self.ctx.failpoints.hit("sqlite.publish.before").await?;
        let publish = publish.clone();
        self.write(move |tx| {
            books::prepare(tx)?;
            // A run that finds every scope complete publishes without having opened a session.
            books::install_fence(tx, publish.connection, publish.fence)?;
            ddl::publish(tx, &publish)
        })
        .await?;
        self.ctx.failpoints.hit("sqlite.publish.after").await
    }
    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        if !self.file.exists()? {
            return Ok(());
        }
        self.write(move |tx| {
            books::prepare(tx)?;
            books::forget(tx, connection)?;
            tables::drop_staging(tx, connection, None)
        })
        .await
        .map(drop)
    }
}
