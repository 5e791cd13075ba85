//! Kill -9, crashes at every failpoint, and a process frozen past its lease; PostgreSQL to PostgreSQL while the source changes.
//! After the last run both sides are equal and nothing is left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use linkspan_testkit::{
    chaos::mix,
    process::{Process, Signal},
    scale,
    servers::TestDatabase,
    waivers::repository,
};

use crate::{
    killing::{LONG, kill_at_random, seed},
    program::Place,
};

/// What is synced, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    IncrementalMerge,
    FullReplace,
}

/// Source and destination as two schemas of one database, so that `EXCEPT` can compare them.
struct Pair {
    database: TestDatabase,
    place: Place,
    how: How,
}

impl Pair {
    async fn new(how: How, items: u32) -> Option<Self> {
        let database = TestDatabase::create().await?;
        let pair = Self { database, place: Place::new(), how };
        pair.database
            .execute(&format!(
                "CREATE SCHEMA shop;
                 CREATE TABLE shop.items (id bigint PRIMARY KEY, name text, amount numeric(12, 2), note text,
                   updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
                 CREATE INDEX ON shop.items (updated_at);
                 CREATE TABLE shop.orders (region text, id int, total double precision,
                   updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (region, id));
                 INSERT INTO shop.items SELECT i, 'item ' || i, i * 1.01, CASE WHEN i % 3 = 0 THEN repeat('x', i % 200) END FROM generate_series(1, {items}) i;
                 INSERT INTO shop.orders SELECT 'r' || i % 7, i, i / 7.0 FROM generate_series(1, 2000) i;"
            ))
            .await;
        Some(pair)
    }
    fn command(&self, data_dir: &str, more: &[&str]) -> std::process::Command {
        let url = &self.database.url;
        let how: &[&str] = match self.how {
            How::IncrementalMerge => &["--mode", "incremental", "--cursor", "updated_at", "--write", "merge"],
            How::FullReplace => &["--mode", "full", "--write", "replace"],
        };
        let base = ["sync", url, url, "--stream", "shop.*", "--target", "copy", "--output", "json"];
        let mut command = self.place.command(&[&base, how, more].concat());
        command.env("LINKSPAN_DATA_DIR", self.place.path(data_dir));
        command
    }
    fn start(&self, failpoints: &str) -> Process {
        let mut command = self.command("data", &[]);
        if !failpoints.is_empty() {
            command.env("LINKSPAN_FAILPOINTS", failpoints);
        }
        Process::start(&mut command)
    }
    /// A run that nobody disturbs.
    #[track_caller]
    fn finish(&self, what: &str) {
        let mut run = self.start("");
        let status = run.wait(LONG);
        assert!(status.success(), "{what}: the run ended with {status}:\n{}", run.text());
    }
    async fn count(&self, sql: &str) -> i64 {
        self.database.query(sql).await.rows[0][0].as_deref().and_then(|n| n.parse().ok()).expect("a number")
    }
    /// Both ways empty, and nothing left over.
    async fn assert_equal(&self, what: &str) {
        for table in ["items", "orders"] {
            for (more, less) in [("shop", "copy"), ("copy", "shop")] {
                let sql = format!("SELECT * FROM {more}.{table} EXCEPT ALL SELECT * FROM {less}.{table}");
                let differ = self.database.query(&sql).await;
                let some: Vec<_> = differ.rows.iter().take(3).collect();
                assert!(differ.is_empty(), "{what}: {} rows of {more}.{table} are not in {less}.{table}, such as {some:?}", differ.len());
            }
        }
        let left = self.database.query("SELECT relname FROM pg_class WHERE relname LIKE E'\\\\_ls\\\\_%' AND relkind IN ('r', 'p')").await;
        assert!(left.is_empty(), "{what}: staging is left: {:?}", left.rows);
    }
    /// Something for the next run to move. The lock keeps it out of a deadlock with the live load.
    async fn change(&self, round: i64) {
        let first = 10_000_000 + round * 100;
        self.database
            .execute(&format!(
                "BEGIN;
                 LOCK TABLE shop.items, shop.orders IN SHARE ROW EXCLUSIVE MODE;
                 INSERT INTO shop.items SELECT i, 'new ' || i, 1, NULL FROM generate_series({first}, {first} + 49) i;
                 UPDATE shop.items SET name = name || '+', updated_at = clock_timestamp() WHERE id % 97 = {round} % 97;
                 UPDATE shop.orders SET total = total + 1, updated_at = clock_timestamp() WHERE id % 11 = {round} % 11;
                 COMMIT"
            ))
            .await;
    }
    /// Inserts and updates without a pause until told to stop; every third transaction commits late.
    fn live(&self) -> Live {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, asked) = (self.database.url.clone(), stop.clone());
        let work = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let mut round = 0_i64;
                while !asked.load(Ordering::SeqCst) {
                    round += 1;
                    let wait = if round % 3 == 0 { "0.03" } else { "0.004" };
                    client
                        .batch_execute(&format!(
                            "BEGIN;
                             INSERT INTO shop.items SELECT 1000000 + {round} * 3 + i, 'live', {round}, NULL FROM generate_series(0, 2) i;
                             UPDATE shop.items SET amount = {round}, updated_at = clock_timestamp() WHERE id % 4999 = {round} % 4999;
                             UPDATE shop.orders SET total = {round}, updated_at = clock_timestamp() WHERE id = {round} % 2000;
                             SELECT pg_sleep({wait});
                             COMMIT"
                        ))
                        .await
                        .unwrap();
                }
            });
        });
        Live { stop, work: Some(work) }
    }
}

/// The load on the source; ends with its drop.
struct Live {
    stop: Arc<AtomicBool>,
    work: Option<std::thread::JoinHandle<()>>,
}
impl Live {
    fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.work.take().expect("ended once").join().expect("the load on the source failed");
    }
}
impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn killed_at_random(how: How) {
    let Some(pair) = Pair::new(how, 20_000).await else { return };
    pair.finish("the first run");
    let (items, live) = (pair.count("SELECT count(*) FROM copy.items").await, pair.live());
    let started = Instant::now();
    pair.finish("the second run");
    let change = async |hit, round| {
        if hit % 5 == 0 {
            pair.change(round as i64).await;
        }
    };
    let look = async |hit| {
        let visible = pair.count("SELECT count(*) FROM copy.items").await;
        assert!(visible >= items, "kill {hit}: a reader sees {visible} rows of at least {items}");
    };
    kill_at_random(started.elapsed(), || pair.start(""), change, look).await;
    live.end();
    pair.finish("the run after the kills");
    pair.assert_equal("after the kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_merge_survives_kill_9_at_any_moment() {
    killed_at_random(How::IncrementalMerge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replace_survives_kill_9_at_any_moment() {
    killed_at_random(How::FullReplace).await;
}

/// The very first load, killed over and over: the table must be whole once it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_survives_kill_9() {
    let Some(pair) = Pair::new(How::IncrementalMerge, 60_000).await else { return };
    let mut seed = seed();
    for _ in 0..(scale().kills / 4).max(5) {
        seed = mix(seed);
        let mut run = pair.start("");
        run.wait_at_most(Duration::from_millis(50 + seed % 900));
        run.signal(Signal::Kill);
        run.wait(LONG);
    }
    pair.finish("the run after the kills");
    pair.assert_equal("after the kills").await;
}

/// What a kill costs: the rows that were on their way, and none that a commit had made safe. The table is large enough for several
/// commits of several slices, and holds still.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_costs_no_committed_row_a_second_read() {
    const ROWS: i64 = 400_000;
    let Some(pair) = Pair::new(How::IncrementalMerge, 10).await else { return };
    pair.database
        .execute(&format!(
            "CREATE TABLE shop.big AS SELECT i::bigint AS id, md5(i::text) AS a, md5((-i)::text) AS b, now() AS updated_at
             FROM generate_series(1, {ROWS}) i; ANALYZE shop.big"
        ))
        .await;
    let url = &pair.database.url;
    let args = ["sync", url, url, "--stream", "shop.big", "--target", "copy.big", "--write", "append", "--output", "json"];
    let (mut seed, mut costly) = (seed(), 0);
    let rounds = (scale().kills / 10).max(3);
    // Parts that commit at the same moment leave nothing to read again: then a few rounds more.
    for round in 0..5 * rounds {
        if round >= rounds && costly > 0 {
            break;
        }
        pair.database.execute("DROP SCHEMA IF EXISTS copy CASCADE; DROP SCHEMA IF EXISTS _linkspan CASCADE").await;
        let start = |failpoints: &str| {
            let mut command = pair.place.command(&args);
            command.env("LINKSPAN_DATA_DIR", pair.place.path(&format!("costs_{round}"))).env("LINKSPAN_FAILPOINTS", failpoints);
            Process::start(&mut command)
        };
        seed = mix(seed);
        // Crashed at a commit, before or after it took effect; else killed while rows are on their way to the next one.
        let nth = 1 + (seed >> 8) % 3;
        let mut run = match round % 3 {
            0 => start("pipe.commit.after=abort@1"),
            1 => start(&format!("pipe.commit.before=abort@{nth}")),
            _ => start(""),
        };
        run.wait_at_most(Duration::from_millis(if round % 3 == 2 { 1_000 + (seed >> 16) % 2_000 } else { 60_000 }));
        run.signal(Signal::Kill);
        run.wait(LONG);
        let is_there = pair.count("SELECT count(*) FROM pg_class WHERE oid = to_regclass('copy.big')").await == 1;
        let safe = if is_there { pair.count("SELECT count(*) FROM copy.big").await } else { 0 };
        if safe == ROWS {
            continue;
        }
        let mut again = start("");
        let status = again.wait(LONG);
        assert!(status.success(), "round {round}: {status}\n{}", again.text());
        let summary =
            again.text().lines().filter_map(|l| serde_json::from_str(l).ok()).rfind(|l: &serde_json::Value| l["event"] == "summary");
        let (read, _) = crate::program::counts(&summary.expect("a summary"), "shop.big");
        assert_eq!(safe + read as i64, ROWS, "round {round}: {safe} rows were safe, and {read} were read to complete them");
        assert_eq!(pair.count("SELECT count(*) - count(DISTINCT id) FROM copy.big").await, 0, "round {round}: rows were doubled");
        costly += i64::from(safe > 0);
    }
    assert!(costly > 0, "no kill met a load that had committed something");
}

/// Every failpoint that a sync of PostgreSQL passes, as the sources have them: a new one is found without a word here.
fn failpoints() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for room in ["engine/src", "store/src", "connectors/src/postgresql"] {
        collect(&repository().join("crates").join(room), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, found);
            continue;
        }
        let text = std::fs::read_to_string(&entry).unwrap_or_default();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["hit(\"", "hit_sync(\""] {
            let names = code.split(call).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// Crashes at the first and the second arrival at every point: in a first load, then in a run that moves changes.
async fn crashed_everywhere(how: How) -> BTreeSet<String> {
    let mut struck = BTreeSet::new();
    let Some(pair) = Pair::new(how, 3_000).await else { return failpoints() };
    for (round, point) in failpoints().iter().enumerate() {
        for nth in [1, 2] {
            pair.change((round * 2 + nth) as i64).await;
            let mut run = pair.start(&format!("{point}=abort@{nth}"));
            let status = run.wait(LONG);
            if !status.success() {
                assert!(status.code().is_none(), "{point}@{nth} did not die by the failpoint:\n{}", run.text());
                struck.insert(point.clone());
            }
            if round % 6 == 5 {
                pair.finish(&format!("after {point}@{nth}"));
                pair.assert_equal(&format!("after {point}@{nth}")).await;
            }
        }
    }
    pair.finish("the last run");
    pair.assert_equal("after every failpoint").await;
    // The first load too, each in a database of its own state: the destination is emptied and the data dir is new.
    let mut first_loads = BTreeMap::new();
    for (round, point) in failpoints().iter().enumerate() {
        pair.database.execute("DROP SCHEMA IF EXISTS copy CASCADE; DROP SCHEMA IF EXISTS _linkspan CASCADE").await;
        let dir = format!("data_{round}");
        let mut run = Process::start(pair.command(&dir, &[]).env("LINKSPAN_FAILPOINTS", format!("{point}=abort@1")));
        let died = run.wait(LONG).code().is_none();
        let mut again = Process::start(&mut pair.command(&dir, &[]));
        let status = again.wait(LONG);
        assert!(status.success(), "a first load after {point}: {status}\n{}", again.text());
        pair.assert_equal(&format!("a first load after {point}")).await;
        first_loads.insert(point.clone(), died);
    }
    struck.extend(first_loads.into_iter().filter(|(_, died)| *died).map(|(point, _)| point));
    struck
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_every_failpoint_leaves_both_sides_equal() {
    let merge = crashed_everywhere(How::IncrementalMerge).await;
    let replace = crashed_everywhere(How::FullReplace).await;
    let never: Vec<String> = failpoints().into_iter().filter(|p| !merge.contains(p) && !replace.contains(p)).collect();
    assert!(never.is_empty(), "no run passed these failpoints: {never:?}");
}

/// A process is frozen in the middle of its work for longer than its lease. Meanwhile another one, with a data dir of its own,
/// takes the connection over. When the first one wakes up it must not commit anything more.
async fn frozen(how: How) {
    let Some(pair) = Pair::new(how, 20_000).await else { return };
    pair.finish("the first run");
    pair.change(1).await;
    let mut run = pair.start("pipe.commit.before=delay:1500");
    std::thread::sleep(Duration::from_millis(700));
    run.signal(Signal::Stop);
    assert!(run.wait_at_most(Duration::ZERO).is_none(), "the run ended before it could be frozen:\n{}", run.text());
    pair.change(2).await;
    let mut other = Process::start(&mut pair.command("other", &["--adopt"]));
    let status = other.wait(LONG);
    assert!(status.success(), "the run that takes over: {status}\n{}", other.text());
    pair.assert_equal("after the run that took over").await;
    std::thread::sleep(Duration::from_secs(31));
    pair.change(3).await;
    run.signal(Signal::Continue);
    let status = run.wait(LONG);
    assert!(!status.success(), "a run that lost its lease and its fence ended well:\n{}", run.text());
    let mut other = Process::start(&mut pair.command("other", &[]));
    let status = other.wait(LONG);
    assert!(status.success(), "the run after the frozen one: {status}\n{}", other.text());
    pair.assert_equal("after the frozen one woke up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_frozen_past_its_lease_commits_nothing_more() {
    frozen(How::IncrementalMerge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replace_frozen_past_its_lease_publishes_nothing_more() {
    frozen(How::FullReplace).await;
}
