//! The tables, version by version. A version that was released is never edited: add the next one.

use linkspan_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::session::failed;

/// `MIGRATIONS[n]` brings version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    include_str!("v1.sql"),
    include_str!("v2.sql"),
    include_str!("v3.sql"),
    include_str!("v4.sql"),
    include_str!("v5.sql"),
    include_str!("v6.sql"),
];

/// The version that this binary writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the database to this binary's version: all steps in one transaction, or none.
pub(super) fn migrate(db: &mut Connection, now_ms: i64) -> Result<()> {
    migrate_to(db, VERSION, now_ms)
}

pub(super) fn migrate_to(db: &mut Connection, target: i64, now_ms: i64) -> Result<()> {
    if version(db)? == Some(target) {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let stands = match version(&tx)? {
        Some(stands) => stands,
        None if is_empty(&tx)? => 0,
        None => return Err(not_ours()),
    };
    if stands > target {
        return Err(newer(stands, target));
    }
    if stands == 0 {
        tx.execute_batch("create table store_versions (version bigint primary key, applied_at bigint not null)").map_err(failed)?;
    }
    for next in stands..target {
        let step = usize::try_from(next).ok().and_then(|n| MIGRATIONS.get(n)).ok_or_else(|| newer(next, VERSION))?;
        tx.execute_batch(step).map_err(failed)?;
        tx.execute("insert into store_versions (version, applied_at) values ($1, $2)", (next + 1, now_ms)).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}

/// The newest version applied; nothing when there is no table of versions.
pub(super) fn version(db: &Connection) -> Result<Option<i64>> {
    let table = "select 1 from sqlite_schema where type = 'table' and name = 'store_versions'";
    if db.query_row(table, [], |_| Ok(())).optional().map_err(failed)?.is_none() {
        return Ok(None);
    }
    db.query_row("select max(version) from store_versions", [], |row| row.get(0)).map_err(failed)
}

fn is_empty(db: &Connection) -> Result<bool> {
    let tables: i64 = db.query_row("select count(*) from sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    Ok(tables == 0)
}

fn not_ours() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the data dir holds a database that is not a Linkspan store")
        .fix("choose another data dir, or move that file away")
}

fn newer(stands: i64, knows: i64) -> Error {
    Error::new(ErrorKind::Unsupported, "the data dir was written by a newer version of linkspan")
        .with("data_version", stands)
        .with("binary_version", knows)
        .fix("use that newer version, or another data dir; nothing was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn every_version_is_upgraded_and_a_second_call_changes_nothing() {
        for first in 1..=VERSION {
            let mut db = memory();
            migrate_to(&mut db, first, 1).unwrap();
            migrate(&mut db, 2).unwrap();
            migrate(&mut db, 3).unwrap();
            assert_eq!(version(&db).unwrap(), Some(VERSION));
            let applied: i64 = db.query_row("select count(*) from store_versions", [], |r| r.get(0)).unwrap();
            assert_eq!(applied, VERSION);
        }
    }

    #[test]
    fn a_newer_database_and_a_foreign_one_are_refused_untouched() {
        let mut db = memory();
        migrate(&mut db, 1).unwrap();
        db.execute("insert into store_versions values ($1, 1)", [VERSION + 1]).unwrap();
        let e = migrate(&mut db, 2).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.suggested_fix().unwrap().contains("newer"), "{e:?}");

        let mut db = memory();
        db.execute_batch("create table customers (id)").unwrap();
        assert_eq!(migrate(&mut db, 1).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        assert_eq!(version(&db).unwrap(), None);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before() {
        let mut db = memory();
        migrate_to(&mut db, 1, 1).unwrap();
        db.execute_batch("create table run_logs (in_the_way)").unwrap();
        assert!(migrate(&mut db, 2).is_err());
        assert_eq!(version(&db).unwrap(), Some(1));
        assert!(db.is_autocommit());
    }
}
