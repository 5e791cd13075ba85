//! SQLite as the store: WAL, synchronous=FULL, one thread that owns the write connection, and readers beside it.

mod migrations;
mod session;
mod writer;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use linkspan_core::{Clock, Context, Error, ErrorKind, Result, file_error};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use self::{
    session::{Session, closed, failed},
    writer::Writer,
};
use crate::{
    driver::{Counts, Driver},
    request::{Reply, Request},
};

const READERS: usize = 4;
const CACHED_STATEMENTS: usize = 64;

/// A SQLite file as the store. Dropped, it answers what was asked and lets the file go.
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
}

impl Sqlite {
    /// Opens or makes the database and brings its tables up to date. `held` is kept until the last change is written and the file
    /// is closed: the owner's lock.
    pub fn open(path: &Path, ctx: &Context, held: impl Send + 'static) -> Result<Self> {
        for_this_user_only(path)?;
        let mut db = open_for_writing(path)?;
        migrations::migrate(&mut db, ctx.clock.now().as_millisecond()).map_err(|e| e.with("path", path.display()))?;
        let session = Session { db, clock: ctx.clock.clone() };
        let writer = Writer::start(session, path.to_owned(), ctx.failpoints.clone(), held)?;
        Ok(Self { writer, readers: Readers::new(path, ctx.clock.clone()) })
    }
}

#[async_trait]
impl Driver for Sqlite {
    async fn ask(&self, request: Request) -> Result<Reply> {
        if request.is_read() { self.readers.ask(request).await } else { self.writer.ask(request).await }
    }
    fn counts(&self) -> Counts {
        self.writer.counts()
    }
    async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }
}

/// SQLite would make the file readable for all; its -wal and -shm follow the file's mode.
fn for_this_user_only(path: &Path) -> Result<()> {
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map(drop).map_err(|e| file_error("the store's database cannot be opened", path, e))
}

fn open_for_writing(path: &Path) -> Result<Connection> {
    let place = |e: Error| e.with("path", path.display());
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failed)
    .map_err(place)?;
    let set_up = || -> rusqlite::Result<()> {
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
        db.pragma_update(None, "synchronous", "full")?;
        db.pragma_update(None, "foreign_keys", true)?;
        // What is deleted is overwritten: the ciphertext of a deleted secret must not stay in a free page.
        db.pragma_update_and_check(None, "secure_delete", true, |row| row.get::<_, i64>(0))?;
        db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(())
    };
    set_up().map_err(failed).map_err(place)?;
    Ok(db)
}

/// A few connections that only read. Each answer sees all that was answered before it was asked.
struct Readers {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    idle: Arc<Mutex<Vec<Connection>>>,
    room: Arc<Semaphore>,
}

impl Readers {
    fn new(path: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { path: path.to_owned(), clock, idle: Arc::default(), room: Arc::new(Semaphore::new(READERS)) }
    }
    async fn ask(&self, request: Request) -> Result<Reply> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| closed())?;
        let (path, clock, idle) = (self.path.clone(), self.clock.clone(), self.idle.clone());
        let read = tokio::task::spawn_blocking(move || {
            let reused = idle.lock().expect("no panic while held").pop();
            let db = match reused {
                Some(db) => db,
                None => open_for_reading(&path)?,
            };
            let mut session = Session { db, clock };
            let reply = session.answer(request).map_err(|e| e.with("path", path.display()));
            idle.lock().expect("no panic while held").push(session.db);
            drop(room);
            reply
        });
        read.await.map_err(|e| Error::new(ErrorKind::Internal, "a reader of the store broke").because(e))?
    }
    fn close(&self) {
        self.room.close();
        self.idle.lock().expect("no panic while held").clear();
    }
}

fn open_for_reading(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kill does not show a missing sync (the system still writes its pages); only this does.
    #[test]
    fn every_commit_is_synced_to_disk_before_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let db = open_for_writing(&dir.path().join("linkspan.db")).unwrap();
        let pragma = |name: &str| -> rusqlite::types::Value { db.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
        assert_eq!(pragma("journal_mode"), rusqlite::types::Value::Text("wal".into()));
        assert_eq!(pragma("synchronous"), rusqlite::types::Value::Integer(2));
        assert_eq!(pragma("foreign_keys"), rusqlite::types::Value::Integer(1));
    }
}
