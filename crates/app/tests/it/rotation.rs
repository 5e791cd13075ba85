//! Keys that turn while everything runs, and are killed while they turn.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use linkspan_app::{App, Settings, secrets::Key};
use linkspan_core::{Context, ErrorKind, Failpoints, Secret};
use linkspan_store::{Change, Document, DocumentFilter, Edit, Store};
use linkspan_testkit::chaos::mix;
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

/// The rotation that stands: its data key, and how many secrets it has moved.
async fn under_way(app: &App) -> Option<(Uuid, u64)> {
    let document = app.store.document("rotation", "", "under-way").await.unwrap()?;
    let state: serde_json::Value = document.read().unwrap();
    Some((state["target"].as_str().unwrap().parse().unwrap(), state["rotated"].as_u64().unwrap()))
}

async fn count_under(app: &App, data_key: Uuid) -> u64 {
    let (mut count, mut after) = (0, None);
    loop {
        let page = app.store.sealed_under(data_key, after, 10_000).await.unwrap();
        let Some(last) = page.last() else { return count };
        (count, after) = (count + page.len() as u64, Some(last.0));
    }
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
        let moved = under_way(&app).await.map_or(0, |(_, moved)| moved);
        let again = linkspan_app::secrets::rotate(&app.vault, &failing, 3).await.unwrap();
        assert_eq!((again.rotated, again.resumed_at, again.retired, again.unreadable), (700, moved, 1, 0), "{point}");
        assert_eq!((data_keys(&app).await, under_way(&app).await), (1, None), "{point}");
        all_readable(&app, &ids).await;
        let next = linkspan_app::secrets::rotate(&app.vault, &failing, 4).await.unwrap();
        assert_eq!((next.rotated, next.resumed_at), (700, 0), "{point}: the next one begins anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rotation_never_goes_on_under_a_key_that_is_to_go() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (key(), key());
    let first = app(dir.path(), &old, Failpoints::default()).await;
    let ids = plant(&first, 700).await;
    let failing = Failpoints::parse("vault.rotate.page=error@1").unwrap();
    assert!(linkspan_app::secrets::rotate(&first.vault, &failing, 2).await.is_err());
    first.store.close().await;
    let both = app(dir.path(), &format!("{new},{old}"), Failpoints::default()).await;
    let progress = linkspan_app::secrets::rotate(&both.vault, &failing, 3).await.unwrap();
    assert_eq!((progress.rotated, progress.resumed_at, progress.retired), (700, 0, 2));
    both.store.close().await;
    let after = app(dir.path(), &new, Failpoints::default()).await;
    all_readable(&after, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_at_once_one_is_told_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let keys = key();
    let here = app(dir.path(), &keys, Failpoints::default()).await;
    let there = app(dir.path(), &keys, Failpoints::default()).await;
    let ids = plant(&here, 1200).await;
    let slow = Failpoints::parse("vault.rotate.page=delay:2000@1").unwrap();
    let going = tokio::spawn({
        let here = here.clone();
        async move { linkspan_app::secrets::rotate(&here.vault, &slow, 2).await }
    });
    while under_way(&here).await.is_none_or(|(_, moved)| moved == 0) {
        tokio::task::yield_now().await;
    }
    let same = linkspan_app::secrets::rotate(&here.vault, &Failpoints::default(), 3).await.unwrap_err();
    assert_eq!(same.kind(), ErrorKind::Conflict);
    // Another process takes it up; the one that slept sees that it lost it and touches nothing more.
    let taken = linkspan_app::secrets::rotate(&there.vault, &Failpoints::default(), 3).await.unwrap();
    assert_eq!((taken.rotated, taken.resumed_at, taken.retired), (1200, 500, 1));
    assert_eq!(going.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(data_keys(&there).await, 1);
    all_readable(&here, &ids).await;
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

/// Not a test of its own: the process that [`a_rotation_survives_kill_nine_at_any_moment`] kills. It says each page that it moved.
#[tokio::test(flavor = "multi_thread")]
async fn rotates_for_its_parent() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let app = app(Path::new(&dir), &std::env::var(KEYS).unwrap(), Failpoints::default()).await;
    say("@@ready");
    let points = Failpoints::default();
    points.record();
    let pages = tokio::spawn({
        let points = points.clone();
        async move {
            let mut said = 0;
            loop {
                let moved = points.seen().iter().find(|(name, _)| *name == "vault.rotate.page").map_or(0, |(_, n)| *n);
                (said..moved).for_each(|_| say("@@page"));
                said = moved;
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    });
    loop {
        linkspan_app::secrets::rotate(&app.vault, &points, 2).await.unwrap();
        assert!(!pages.is_finished());
    }
}

#[allow(clippy::print_stdout, reason = "the parent listens")]
fn say(line: &str) {
    println!("{line}");
}

/// A number that a full run sets.
fn set(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|k| k.parse().ok()).unwrap_or(usual)
}

/// Kills and secrets: 20 and 4,000, or 200 and 100,000 where `LINKSPAN_TEST_SCALE` is `full`.
fn scale() -> (u64, usize) {
    let (kills, secrets) = if std::env::var("LINKSPAN_TEST_SCALE").as_deref() == Ok("full") { (200, 100_000) } else { (20, 4_000) };
    (set("LINKSPAN_TEST_KILLS", kills), usize::try_from(set("LINKSPAN_TEST_SECRETS", secrets)).unwrap())
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

/// A process that rotates, and what it says.
struct Rotating {
    child: Child,
    lines: std::sync::mpsc::Receiver<Instant>,
}

impl Rotating {
    fn start(dir: &Path, keys: &str) -> Self {
        let me = std::env::current_exe().unwrap();
        let mut child = Command::new(me)
            .args(["rotation::rotates_for_its_parent", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .env(KEYS, keys)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|l| l.contains("@@ready")));
        let (tell, lines) = std::sync::mpsc::sync_channel(100_000);
        std::thread::spawn(move || said.filter(|l| l.contains("@@page")).all(|_| tell.send(Instant::now()).is_ok()));
        Self { child, lines }
    }
    /// Kill -9 some pages later, and a part of a page after that.
    fn kill(mut self, pages: u64, part: f64) {
        let mut last = Instant::now();
        let mut page = Duration::from_millis(5);
        for _ in 0..pages {
            let Ok(at) = self.lines.recv_timeout(Duration::from_secs(60)) else { break };
            page = at - last;
            last = at;
        }
        std::thread::sleep(page.mul_f64(part));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The process that rotates owns the store and is killed; another one reads before, during and after, and takes the store over. The
/// next process goes on where the killed one stood: nothing is moved twice, and never are there more than two data keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_kill_nine_at_any_moment() {
    let (kills, secrets) = scale();
    let mut seed = set("LINKSPAN_TEST_SEED", Uuid::new_v4().as_u64_pair().0);
    say(&format!("LINKSPAN_TEST_SEED={seed}"));
    let dir = tempfile::tempdir().unwrap();
    let keys = key();
    let first = app(dir.path(), &keys, Failpoints::default()).await;
    let mut ids = Vec::new();
    while ids.len() < secrets {
        ids.extend(plant_from(&first, ids.len(), (secrets - ids.len()).min(5_000)).await);
    }
    first.store.close().await;
    let (mut read, mut stood, mut tenths, mut whole) = (0, None, [0_u32; 11], 0);
    for n in 0..kills {
        let child = Rotating::start(dir.path(), &keys);
        let app = app(dir.path(), &keys, Failpoints::default()).await;
        let stop = AtomicBool::new(false);
        seed = mix(seed);
        let (pages, part) = (seed % 3, (seed >> 8) as u8 as f64 / 200.0);
        let killed = async {
            tokio::task::spawn_blocking(move || child.kill(pages, part)).await.unwrap();
            // The reader has become the owner by the time this is answered.
            app.vault.values(ids[0]).await.unwrap();
            stop.store(true, Ordering::Relaxed);
        };
        let (count, ()) = tokio::join!(reads(&app, &ids, usize::try_from(n).unwrap(), &stop), killed);
        read += count;
        let now = under_way(&app).await;
        if let Some((target, moved)) = now {
            assert_eq!(moved, count_under(&app, target).await, "what is counted is what lies there");
            match stood {
                Some((was, before)) if was == target => assert!(moved >= before, "{before} were moved, and now {moved}"),
                _ => whole += 1,
            }
            tenths[usize::try_from(moved * 10 / secrets as u64).unwrap()] += 1;
        }
        stood = now;
        assert!(data_keys(&app).await <= 2, "a rotation began anew");
        app.store.close().await;
    }
    let last = app(dir.path(), &keys, Failpoints::default()).await;
    let resumed_at = under_way(&last).await.map_or(0, |(_, moved)| moved);
    let progress = linkspan_app::secrets::rotate(&last.vault, &Failpoints::default(), 9).await.unwrap();
    assert_eq!((progress.rotated, progress.resumed_at, progress.unreadable), (secrets as u64, resumed_at, 0));
    assert_eq!((data_keys(&last).await, under_way(&last).await), (1, None));
    all_readable(&last, &ids).await;
    say(&format!("{kills} kills over {whole} rotations of {secrets} secrets, by tenth {tenths:?}; {read} reads meanwhile, none failed"));
    assert!(tenths.iter().filter(|n| **n > 0).count() >= 3, "the kills met only one part of a rotation: {tenths:?}");
}
