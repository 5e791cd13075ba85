//! Opening a database file, and what its errors mean for the user.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use linkspan_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};

#[derive(Clone, Debug)]
pub(super) struct Database {
    pub path: PathBuf,
    pub wait: Duration,
}

impl Database {
    /// For reading what is there; never makes the file.
    pub fn reader(&self) -> Result<Connection> {
        if !self.exists()? {
            return Err(Error::new(ErrorKind::NotFound, "the database file is not there")
                .with("path", self.path.display())
                .fix("check the path"));
        }
        let open = |access: OpenFlags| -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(&self.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            self.settle(&connection, "PRAGMA query_only=ON")?;
            Ok(connection)
        };
        match open(OpenFlags::SQLITE_OPEN_READ_ONLY) {
            // A crash left a journal that must be played back before anything can be read; only a writer may do that.
            Err(e) if matches!(e.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)) => {
                open(OpenFlags::SQLITE_OPEN_READ_WRITE)
            }
            opened => opened,
        }
        .map_err(|e| self.error(e))
    }
    /// For writing: makes the file, keeps commits through a power cut.
    pub fn writer(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|e| self.error(e))?;
        let pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA legacy_alter_table=ON; PRAGMA foreign_keys=OFF";
        // Old names in views must not stop the swap of a table; foreign keys of the user's tables are not ours to check.
        self.settle(&connection, pragmas).map_err(|e| self.error(e))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }
    fn settle(&self, connection: &Connection, pragmas: &str) -> rusqlite::Result<()> {
        connection.busy_timeout(self.wait)?;
        connection.execute_batch("PRAGMA cache_size=-16384")?;
        connection.execute_batch(pragmas)?;
        // The first read of the file: anything but a database is found out here.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    }
    pub fn exists(&self) -> Result<bool> {
        self.path.try_exists().map_err(|e| linkspan_core::file_error("the database file cannot be looked at", &self.path, e))
    }
    /// What `count` finds to read; none when the file is still to be made.
    pub fn check(&self, count: impl FnOnce(&Connection) -> rusqlite::Result<usize>) -> Result<usize> {
        if self.exists()? {
            let connection = self.reader()?;
            return count(&connection).map_err(|e| self.error(e));
        }
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match std::fs::metadata(folder) {
            Ok(m) if m.is_dir() => Ok(0),
            Ok(_) => Err(Error::new(ErrorKind::ConfigInvalid, "the file's folder is not a folder")
                .with("path", folder.display())
                .fix("check the path")),
            Err(e) => Err(linkspan_core::file_error("the file's folder is not there", folder, e)),
        }
    }
    /// Changes whenever somebody writes: the sizes and times of the file and of its log.
    pub fn identity(&self) -> Result<String> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let mut identity = String::new();
        for path in [self.path.as_path(), Path::new(&log)] {
            // An empty log is made and removed by mere readers.
            if let Some(m) = std::fs::metadata(path).ok().filter(|m| m.len() > 0) {
                let changed = m.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
                identity.push_str(&format!("{}@{};", m.len(), changed.as_nanos()));
            }
        }
        Ok(identity)
    }
    pub fn error(&self, e: rusqlite::Error) -> Error {
        sql_error(e).with("path", self.path.display())
    }
}

/// SQLite's code as a kind that names the remedy. SQLite's texts name tables and columns, never values.
pub(super) fn sql_error(e: rusqlite::Error) -> Error {
    let (kind, message, fix) = match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            (ErrorKind::DataInvalid, "the file is not a SQLite database", "give another path; an encrypted database cannot be read")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::DataInvalid, "the database file is damaged", "restore it from a backup, or recover it with `sqlite3 FILE .recover`")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "another program holds the database's lock",
            "close the program that writes to the file, or raise lock_wait_seconds",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::StorageFull, "the disk is full", "free space and run the same command again; nothing is lost")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            (ErrorKind::PermissionDenied, "the database may not be written", "give this user the right to write the file and its folder")
        }
        Some(ErrorCode::CannotOpen) => {
            (ErrorKind::NotFound, "the database file cannot be opened", "check that its folder is there and may be read and written")
        }
        Some(ErrorCode::ConstraintViolation) => (
            ErrorKind::DataInvalid,
            "a row breaks a constraint of the table",
            "choose a key that is unique and never NULL, or write with --write append",
        ),
        Some(ErrorCode::TooBig) => (ErrorKind::DataInvalid, "a value is larger than SQLite can hold", "leave the column out"),
        Some(ErrorCode::SystemIoFailure) => {
            (ErrorKind::Unavailable, "the disk failed to read or write", "look at the disk; run the same command again afterwards")
        }
        Some(ErrorCode::OutOfMemory) => {
            (ErrorKind::Unavailable, "SQLite ran out of memory", "close other programs and run the same command again")
        }
        Some(ErrorCode::OperationInterrupted) => (ErrorKind::Canceled, "the statement was stopped", "run it again"),
        _ => (ErrorKind::Internal, "SQLite refused a statement", "report this with the cause below"),
    };
    Error::new(kind, message).fix(fix).because(e)
}

/// A name as SQL spells it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column as its table declares it.
pub(super) struct Declared {
    pub name: String,
    pub declared: String,
    pub not_null: bool,
    /// Its place in the primary key, from 1; 0 outside.
    pub key: i64,
}

pub(super) fn declared_columns(db: &Connection, table: &str) -> rusqlite::Result<Vec<Declared>> {
    let sql = "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
    let mut statement = db.prepare_cached(sql)?;
    statement
        .query_map([table], |row| Ok(Declared { name: row.get(0)?, declared: row.get(1)?, not_null: row.get(2)?, key: row.get(3)? }))?
        .collect()
}

pub(super) fn stands(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE")?.exists([name])
}
