//! Keys that turn while everything runs, and are killed while they turn.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use linkspan_app::{App, Settings, secrets::Key};
use linkspan_core::{Context, Failpoints, Secret};
use linkspan_store::{Change, Document, DocumentFilter, Edit, Store};
use serde_json::json;
use uuid::Uuid;

use crate::rig::types;

const DIR: &str = "LINKSPAN_APP_TEST_DIR";
const KEYS: &str = "LINKSPAN_APP_TEST_KEYS";

async fn app(dir: &Path, keys: &str, failpoints: Failpoints) -> Arc<App> {
    let context = Context::with_failpoints(failpoints);
    let store = Store::open(dir, &context).await.unwrap();
    App::open(store, types(), context, Settings { encryption_key: Some(Secret::new(keys)), ..Settings::default() }).await.unwrap()
}

async fn plant(app: &App, count: usize) -> Vec<Uuid> {
    plant_from(app, 0, count).await
}

async fn plant_from(app: &App, first: usize, count: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    let mut change = Change::new(1);
    for n in first..first + count {
        let document = Document::new("connector", "default", Some(&format!("c{n}")), json!({}), 1);
        let values = serde_json::Map::from_iter([("api_key".to_owned(), json!(format!("secret-{}", document.id)))]);
        let sealing = app.vault.seal(document.id, &values, 1).await.unwrap();
        ids.push(document.id);
        change.edits.push(sealing.stands);
        change.edits.push(Edit::Insert { document, links: vec![], secret: Some(sealing.sealed) });
    }
    app.store.change(change).await.unwrap();
    ids
}

async fn all_readable(app: &App, ids: &[Uuid]) {
    for id in ids {
        assert_eq!(app.vault.values(*id).await.unwrap()["api_key"], format!("secret-{id}"));
    }
}

async fn data_keys(app: &App) -> usize {
    app.store.documents(DocumentFilter::of("data_key", "")).await.unwrap().len()
}

fn key() -> String {
    Key::generate().unwrap().expose().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_moves_every_secret_while_others_read_and_write() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (key(), key());
    let before = app(dir.path(), &old, Failpoints::default()).await;
    let ids = plant(&before, 1200).await;
    before.store.close().await;

    let owner = app(dir.path(), &format!("{new},{old}"), Failpoints::default()).await;
    // A second process's view of the same data dir, which knows the data keys of before.
    let other = app(dir.path(), &format!("{new},{old}"), Failpoints::default()).await;
    all_readable(&other, &ids[..5]).await;
    let reader = tokio::spawn({
        let (other, ids) = (other.clone(), ids.clone());
        async move {
            for _ in 0..3 {
                all_readable(&other, &ids).await;
            }
        }
    });
    let writer = tokio::spawn({
        let other = other.clone();
        async move {
            let context = linkspan_app::CallContext::local();
            for n in 0..40 {
                let body = json!({"name": format!("w{n}"), "type": "vendor", "config": {"api_key": "good-key-0123456789"}});
                let all = linkspan_app::operations();
                let create = all.iter().find(|o| o.name == "connectors.create").unwrap();
                create.call(other.clone(), context.clone(), body).await.unwrap();
            }
        }
    });
    let mut rotated = 0;
    for _ in 0..3 {
        rotated += linkspan_app::secrets::rotate(&owner.vault, &owner.context.failpoints, 2).await.unwrap().rotated;
    }
    reader.await.unwrap();
    writer.await.unwrap();
    assert!(rotated >= 3600, "{rotated}");
    let last = linkspan_app::secrets::rotate(&owner.vault, &owner.context.failpoints, 3).await.unwrap();
    assert_eq!((last.rotated, last.unreadable), (1240, 0));
    assert_eq!(data_keys(&owner).await, 1);
    all_readable(&owner, &ids).await;
    other.store.close().await;
    owner.store.close().await;

    // The old key is needed no more.
    let after = app(dir.path(), &new, Failpoints::default()).await;
    all_readable(&after, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_fails_at_any_step_is_simply_run_again() {
    for point in ["vault.rotate.key=error", "vault.rotate.page=error@1", "vault.rotate.page=error@2", "vault.rotate.retire=error"] {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path(), &key(), Failpoints::default()).await;
        let ids = plant(&app, 700).await;
        let failing = Failpoints::parse(point).unwrap();
        assert!(linkspan_app::secrets::rotate(&app.vault, &failing, 2).await.is_err(), "{point}");
        all_readable(&app, &ids).await;
        let again = linkspan_app::secrets::rotate(&app.vault, &failing, 3).await.unwrap();
        assert_eq!((again.unreadable, data_keys(&app).await), (0, 1), "{point}");
        all_readable(&app, &ids).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_key_opens_stays_as_it_is_and_the_rest_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let lost = app(dir.path(), &key(), Failpoints::default()).await;
    let lost_ids = plant(&lost, 3).await;
    lost.store.close().await;
    let keys = key();
    let app = app(dir.path(), &keys, Failpoints::default()).await;
    let document = Document::new("connector", "default", Some("mine"), json!({}), 1);
    let progress = linkspan_app::secrets::rotate(&app.vault, &Failpoints::default(), 2).await.unwrap();
    assert_eq!((progress.rotated, progress.unreadable, progress.retired), (0, 3, 0));
    let values = serde_json::Map::from_iter([("api_key".to_owned(), json!("x"))]);
    let sealing = app.vault.seal(document.id, &values, 1).await.unwrap();
    let insert = Edit::Insert { document: document.clone(), links: vec![], secret: Some(sealing.sealed) };
    app.store.change(Change::new(1).edit(insert)).await.unwrap();
    let progress = linkspan_app::secrets::rotate(&app.vault, &Failpoints::default(), 3).await.unwrap();
    assert_eq!((progress.rotated, progress.unreadable, progress.retired), (1, 3, 1));
    assert!(app.vault.values(lost_ids[0]).await.is_err());
    assert_eq!(app.vault.values(document.id).await.unwrap()["api_key"], "x");
}

/// Not a test of its own: the process that [`a_rotation_survives_kill_nine_at_any_moment`] kills.
#[tokio::test(flavor = "multi_thread")]
async fn rotates_for_its_parent() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let app = app(Path::new(&dir), &std::env::var(KEYS).unwrap(), Failpoints::default()).await;
    #[allow(clippy::print_stdout, reason = "the parent listens")]
    {
        println!("@@ready");
    }
    loop {
        linkspan_app::secrets::rotate(&app.vault, &Failpoints::default(), 2).await.unwrap();
    }
}

/// A number that a full run sets.
fn set(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|k| k.parse().ok()).unwrap_or(usual)
}

/// Reads one secret after the other until it is told to stop; none may fail. Answers how many it read.
async fn reads(app: &App, ids: &[Uuid], mut at: usize, stop: &AtomicBool) -> u64 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        at = (at + 7_919) % ids.len();
        assert_eq!(app.vault.values(ids[at]).await.unwrap()["api_key"], format!("secret-{}", ids[at]));
        count += 1;
    }
    count
}

/// The process that rotates owns the store and is killed; another one reads before, during and after, and takes the store over.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_kill_nine_at_any_moment() {
    let (kills, secrets) = (set("LINKSPAN_TEST_KILLS", 20), usize::try_from(set("LINKSPAN_TEST_SECRETS", 1500)).unwrap());
    let spread = set("LINKSPAN_TEST_SPREAD_MS", 400);
    let dir = tempfile::tempdir().unwrap();
    let keys = key();
    let first = app(dir.path(), &keys, Failpoints::default()).await;
    let mut ids = Vec::new();
    while ids.len() < secrets {
        ids.extend(plant_from(&first, ids.len(), (secrets - ids.len()).min(5_000)).await);
    }
    first.store.close().await;
    let mut read = 0;
    for n in 0..kills {
        let me = std::env::current_exe().unwrap();
        let mut child = Command::new(me)
            .args(["rotation::rotates_for_its_parent", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(KEYS, &keys)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ready = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).any(|l| l.contains("@@ready"));
        assert!(ready);
        let app = app(dir.path(), &keys, Failpoints::default()).await;
        let stop = AtomicBool::new(false);
        let killed = async {
            // Spread over the rotation, which takes some tenths of a second with the usual number.
            tokio::time::sleep(Duration::from_millis(n * 37 % spread)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            // The reader has become the owner by the time this is answered.
            app.vault.values(ids[0]).await.unwrap();
            stop.store(true, Ordering::Relaxed);
        };
        let (count, ()) = tokio::join!(reads(&app, &ids, usize::try_from(n).unwrap(), &stop), killed);
        read += count;
        app.store.close().await;
    }
    let last = app(dir.path(), &keys, Failpoints::default()).await;
    let began = std::time::Instant::now();
    let progress = linkspan_app::secrets::rotate(&last.vault, &Failpoints::default(), 9).await.unwrap();
    let took = began.elapsed();
    assert_eq!((progress.unreadable, data_keys(&last).await), (0, 1));
    all_readable(&last, &ids).await;
    #[allow(clippy::print_stdout, reason = "figures of a full run")]
    {
        println!("{kills} kills, {secrets} secrets, {read} reads meanwhile and none failed; a whole rotation took {took:?}");
    }
}
