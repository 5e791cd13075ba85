//! The data dir itself: who may see it, what is wrong with it, and how it is said.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use linkspan_core::{Context, ErrorKind, Failpoints, Fault};
use linkspan_store::{Options, Role, RunFilter, Store};
use rusqlite::Connection;

use crate::desk::{Desk, claimed, commit, named, scope, stream, succeeded, sync};

#[tokio::test]
async fn only_this_user_sees_what_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/data");
    let store = Store::open(&dir, &Context::real()).await.unwrap();
    let (_, claim) = claimed(&store, "x").await;
    store.run_log(&claim).unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["linkspan.db", "linkspan.db-wal", "linkspan.sock", "owner.lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&store.run_log_path(claim.connection(), claim.run_id())), 0o600);
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_reached_all_the_same() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("d".repeat(120)).join("e".repeat(60));
    let owner = Store::open(&dir, &Context::real()).await.unwrap();
    let remote = Store::open(&dir, &Context::real()).await.unwrap();
    assert_eq!((owner.role(), remote.role()), (Some(Role::Owner), Some(Role::Remote)));
    let made = remote.connection(named("x")).await.unwrap();
    assert_eq!(owner.find("x").await.unwrap(), Some(made));
    owner.close().await;
    assert!(remote.find("x").await.unwrap().is_some());
    assert_eq!(remote.role(), Some(Role::Owner));
}

#[tokio::test]
async fn a_closed_owner_hands_over_and_a_stale_socket_is_no_hindrance() {
    let desk = Desk::owner();
    let first = desk.open().await.store;
    let second = Store::open(desk.path(), &Context::real()).await.unwrap();
    let made = second.connection(named("x")).await.unwrap();
    first.close().await;
    assert_eq!(first.find("x").await.unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(second.find("x").await.unwrap(), Some(made.clone()));
    assert_eq!(second.role(), Some(Role::Owner));
    second.close().await;
    assert!(!desk.path().join("linkspan.sock").exists());
    drop(std::os::unix::net::UnixListener::bind(desk.path().join("linkspan.sock")).unwrap());
    let third = Store::open(desk.path(), &Context::real()).await.unwrap();
    assert_eq!((third.role(), third.find("x").await.unwrap()), (Some(Role::Owner), Some(made)));
}

#[tokio::test]
async fn dropping_the_last_handle_lets_go_of_the_data_dir() {
    let desk = Desk::owner();
    drop(desk.open().await.store);
    let again = Store::open(desk.path(), &Context::real()).await.unwrap();
    assert_eq!(again.role(), Some(Role::Owner));
}

#[tokio::test]
async fn a_newer_data_dir_is_refused_and_left_alone() {
    let desk = Desk::owner();
    desk.open().await.store.close().await;
    let db = Connection::open(desk.path().join("linkspan.db")).unwrap();
    db.execute("insert into store_versions values (99, 0)", []).unwrap();
    drop(db);
    let e = Store::open(desk.path(), &Context::real()).await.err().unwrap();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Unsupported, "the data dir was written by a newer version of linkspan"));
    assert!(e.suggested_fix().unwrap().contains("newer version"));
}

/// What version 1 wrote: made once by that version, never edited.
const VERSION_1: &str = include_str!("version1.sql");

#[tokio::test]
async fn a_data_dir_of_version_1_is_upgraded_with_all_it_holds() {
    let desk = Desk::owner();
    let db = Connection::open(desk.path().join("linkspan.db")).unwrap();
    db.execute_batch(VERSION_1).unwrap();
    for word in ["succeeded", "stopped", "partial"] {
        let copy = "insert into runs (id, connection, kind, spec, status, fence, holder, started_at) \
                    select $1, connection, kind, spec, $2, fence, holder, started_at from runs limit 1";
        db.execute(copy, (uuid::Uuid::now_v7().to_string(), word)).unwrap();
    }
    drop(db);
    let store = Store::open(desk.path(), &Context::real()).await.unwrap();
    let connection = store.find("old").await.unwrap().unwrap();
    assert!(connection.known);
    let claim = store.claim(connection.id, sync()).await.unwrap();
    let remembered = claim.memory().load().await.unwrap();
    let at = &remembered.scopes[&scope("orders")];
    assert_eq!((at.generation, at.number, at.state.value["cursor"].as_i64()), (2, 41, Some(1234)));
    assert!(remembered.generations[&stream("orders")].complete);
    assert_eq!(store.schema_history(connection.id, &stream("orders")).await.unwrap().len(), 1);
    store.run_log(&claim).unwrap();
    claim.finish(succeeded()).await.unwrap();
    let words: Vec<&str> = store.runs(RunFilter::default()).await.unwrap().iter().map(|r| r.status.as_str()).collect();
    assert_eq!(words, ["completed", "failed", "cancelled", "completed", "failed"]);
}

type Damage = fn(&Path);

#[tokio::test]
async fn a_damaged_database_is_said_to_be_damaged() {
    let damage: [(&str, Damage); 3] = [
        ("overwritten from the start", |db| fs::write(db, vec![0x5A; 20_000]).unwrap()),
        ("holes in its pages", |db| {
            let mut file = fs::OpenOptions::new().write(true).open(db).unwrap();
            file.seek(SeekFrom::Start(4096)).unwrap();
            file.write_all(&vec![0x5A; 60_000]).unwrap();
        }),
        ("cut", |db| fs::OpenOptions::new().write(true).open(db).unwrap().set_len(5000).unwrap()),
    ];
    for (what, damage) in damage {
        let desk = Desk::owner();
        let store = desk.open().await.store;
        let (_, claim) = claimed(&store, "x").await;
        claim.memory().save(&[commit(&claim, scope("a"), 1, 1, 1)]).await.unwrap();
        claim.finish(succeeded()).await.unwrap();
        store.close().await;
        damage(&desk.path().join("linkspan.db"));
        let used = async {
            let store = Store::open(desk.path(), &Context::real()).await?;
            let connection = store.connection(named("x")).await?;
            store.claim(connection.id, sync()).await?.memory().load().await
        };
        let e = used.await.err().unwrap_or_else(|| panic!("{what}: nobody noticed"));
        assert_eq!((e.kind(), e.message()), (ErrorKind::DataInvalid, "the store's database is damaged"), "{what}: {e:?}");
        assert!(e.suggested_fix().unwrap().contains("--adopt"));
        assert!(e.context().iter().any(|(k, _)| *k == "path"), "{e:?}");
    }
}

#[tokio::test]
async fn a_foreign_database_and_a_folder_without_rights_are_refused() {
    let desk = Desk::owner();
    Connection::open(desk.path().join("linkspan.db")).unwrap().execute_batch("create table customers (id)").unwrap();
    let e = Store::open(desk.path(), &Context::real()).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);

    let file = tempfile::NamedTempFile::new().unwrap();
    let e = Store::open(&file.path().join("below/a/file"), &Context::real()).await.err().unwrap();
    assert!(e.suggested_fix().is_some() && e.to_string().contains("below/a/file"), "{e:?}");
}

#[tokio::test]
async fn a_full_disk_fails_the_save_and_the_next_one_goes_on() {
    let points = Failpoints::default();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path(), &Context::with_failpoints(points.clone()), Options::default()).await.unwrap();
    let (_, claim) = claimed(&store, "x").await;
    let memory = claim.memory();
    memory.save(&[commit(&claim, scope("a"), 1, 1, 1)]).await.unwrap();
    points.arm("store.commit", Fault::Full, 1);
    let e = memory.save(&[commit(&claim, scope("a"), 1, 2, 2)]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::StorageFull);
    assert_eq!(memory.load().await.unwrap().scopes[&scope("a")].number, 1);
    memory.save(&[commit(&claim, scope("a"), 1, 2, 2)]).await.unwrap();
    assert_eq!(memory.load().await.unwrap().scopes[&scope("a")].number, 2);
}

#[tokio::test]
async fn a_database_browser_that_locks_the_file_is_named_as_the_cause() {
    let desk = Desk::owner();
    let seat = desk.open().await;
    let browser = Connection::open(desk.path().join("linkspan.db")).unwrap();
    browser.execute_batch("begin immediate").unwrap();
    let e = seat.store.connection(named("x")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert!(e.suggested_fix().unwrap().contains("close the program"));
    browser.execute_batch("rollback").unwrap();
    seat.store.connection(named("x")).await.unwrap();
}

#[tokio::test]
async fn a_refused_request_is_rolled_back_and_its_neighbours_are_kept() {
    let desk = Desk::owner();
    let store = desk.open().await.store;
    let (connection, claim) = claimed(&store, "x").await;
    let refused = (0..20).map(|_| store.claim(connection.id, sync()));
    let kept = (0..20).map(|i| store.connection(named(&format!("n{i:02}")))).collect::<Vec<_>>();
    let (refused, kept) = futures::join!(futures::future::join_all(refused), futures::future::join_all(kept));
    assert!(refused.iter().all(|r| r.is_err()) && kept.iter().all(|k| k.is_ok()));
    let db = Connection::open(desk.path().join("linkspan.db")).unwrap();
    let fence: i64 = db.query_row("select fence from connections where name = 'x'", [], |r| r.get(0)).unwrap();
    assert_eq!(fence as u64, claim.fence(), "a refused claim draws no fence");
    assert_eq!(store.connections().await.unwrap().len(), 21);
}
