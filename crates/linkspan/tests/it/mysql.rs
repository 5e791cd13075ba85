//! Kill -9 with MySQL and MariaDB as source and destination, while the source changes: after the last run both sides are equal and
//! nothing is left over. The server commits with every change of a table, so a crash may fall between any two statements.

use std::{collections::BTreeMap, time::Instant};

use linkspan_testkit::{Table, process::Process, servers::TestDatabase};

use crate::{
    killing::{LONG, kill_at_random},
    mysql_server::{Database, Family},
    program::Place,
};

/// One end of a sync, with its table `items`.
enum Side {
    /// A schema of a database.
    Postgres(TestDatabase, &'static str),
    Mysql(Database),
}

const ROWS_OF_POSTGRES: &str =
    "SELECT id, concat_ws('|', name, amount, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')) FROM";
const ROWS_OF_MYSQL: &str = "SELECT id, CONCAT_WS('|', name, amount, DATE_FORMAT(updated_at, '%Y-%m-%d %H:%i:%s.%f')) FROM items";
const ITEMS: usize = 16_000;

impl Side {
    async fn postgres(schema: &'static str) -> Option<Self> {
        Some(Self::Postgres(TestDatabase::create().await?, schema))
    }
    async fn of(family: Family) -> Option<Self> {
        Some(Self::Mysql(family.database().await?))
    }
    fn url(&self) -> &str {
        match self {
            Self::Postgres(d, _) => &d.url,
            Self::Mysql(d) => &d.url,
        }
    }
    /// The table's name there.
    fn items(&self) -> String {
        match self {
            Self::Postgres(_, schema) => format!("{schema}.items"),
            Self::Mysql(d) => format!("{}.items", d.name),
        }
    }
    async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(d, _) => d.execute(sql).await,
            Self::Mysql(d) => d.execute(sql).await,
        }
    }
    async fn fill(&self) {
        match self {
            Self::Postgres(..) => {
                self.execute(&format!(
                    "CREATE TABLE {0} (id bigint PRIMARY KEY, name text, amount numeric(12, 2), \
                     updated_at timestamptz NOT NULL DEFAULT clock_timestamp()); CREATE INDEX ON {0} (updated_at); \
                     INSERT INTO {0} SELECT i, 'item ' || i, i + 0.01 FROM generate_series(0, {ITEMS} - 1) i",
                    self.items()
                ))
                .await;
            }
            Self::Mysql(_) => {
                let values = (0..1000).map(|i| format!("({i}, 'item {i}', {i}.01)")).collect::<Vec<_>>().join(", ");
                let mut sql = format!(
                    "CREATE TABLE items (id bigint PRIMARY KEY, name varchar(60), amount decimal(12, 2), \
                     updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), KEY (updated_at));\n\
                     INSERT INTO items (id, name, amount) VALUES {values};\n"
                );
                for i in 0..4 {
                    sql += &format!("INSERT INTO items (id, name, amount) SELECT id + {}, name, amount FROM items;\n", 1000 << i);
                }
                self.execute(&sql).await;
            }
        }
    }
    /// One transaction of new and changed rows.
    async fn change(&self, round: usize) {
        let first = 10_000_000 + round * 100;
        let new = (first..first + 20).map(|i| format!("({i}, 'new', 1)")).collect::<Vec<_>>().join(", ");
        let (table, touched) = match self {
            Self::Postgres(..) => (self.items(), ", updated_at = clock_timestamp()"),
            Self::Mysql(_) => ("items".to_owned(), ""),
        };
        self.execute(&format!(
            "START TRANSACTION;\nINSERT INTO {table} (id, name, amount) VALUES {new};\n\
             UPDATE {table} SET name = CONCAT(LEFT(name, 40), '+'){touched} WHERE id % 97 = {};\nCOMMIT",
            round % 97
        ))
        .await;
    }
    async fn rows(&self) -> BTreeMap<String, String> {
        match self {
            Self::Postgres(d, _) => {
                let table = self.items();
                let there = d.query(&format!("SELECT 1 FROM pg_class WHERE oid = to_regclass('{table}')")).await;
                if there.is_empty() {
                    return BTreeMap::new();
                }
                listed(d.query(&format!("{ROWS_OF_POSTGRES} {table}")).await)
            }
            // A list of tables may be made between the two halves of a rename; a reader of the table waits for its end.
            Self::Mysql(d) => listed(d.query(ROWS_OF_MYSQL).await),
        }
    }
    async fn left_over(&self) -> Vec<Vec<Option<String>>> {
        match self {
            Self::Postgres(d, _) => {
                d.query("SELECT relname FROM pg_class WHERE relname LIKE E'\\\\_ls\\\\_%' AND relkind IN ('r', 'p')").await.rows
            }
            Self::Mysql(d) => d.query("SHOW TABLES LIKE '\\_ls\\_%'").await.rows,
        }
    }
}

fn listed(table: Table) -> BTreeMap<String, String> {
    let count = table.len();
    let rows: BTreeMap<String, String> = table.rows.into_iter().map(|mut r| (r.remove(0).unwrap(), r.remove(0).unwrap())).collect();
    assert_eq!(rows.len(), count, "rows were doubled");
    rows
}

struct Pair {
    from: Side,
    to: Side,
    place: Place,
    how: &'static [&'static str],
}

const MERGE: &[&str] = &["--mode", "incremental", "--cursor", "updated_at", "--write", "merge"];
const REPLACE: &[&str] = &["--mode", "full", "--write", "replace"];

impl Pair {
    async fn new(from: Option<Side>, to: Option<Side>, how: &'static [&'static str]) -> Option<Self> {
        let pair = Self { from: from?, to: to?, place: Place::new(), how };
        pair.from.fill().await;
        Some(pair)
    }
    fn start(&self, failpoints: &str) -> Process {
        let (stream, target) = (self.from.items(), self.to.items());
        let base = ["sync", self.from.url(), self.to.url(), "--stream", &stream, "--target", &target, "--output", "json"];
        let mut command = self.place.command(&[&base, self.how].concat());
        command.env("LINKSPAN_DATA_DIR", self.place.path("data"));
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
    async fn assert_equal(&self, what: &str) {
        let (from, to) = (self.from.rows().await, self.to.rows().await);
        let differ: Vec<_> = from.iter().filter(|(id, row)| to.get(*id) != Some(row)).map(|(id, row)| (id, row, to.get(id))).collect();
        assert!(differ.is_empty(), "{what}: {} rows differ, such as {:?}", differ.len(), &differ[..differ.len().min(3)]);
        assert_eq!(from.len(), to.len(), "{what}: rows that the source does not have");
        assert_eq!(self.to.left_over().await, Vec::<Vec<_>>::new(), "{what}: staging is left");
    }
}

async fn killed_at_random(pair: Option<Pair>) {
    let Some(pair) = pair else { return };
    let started = Instant::now();
    pair.finish("the first run");
    let whole = started.elapsed();
    pair.assert_equal("after the first run").await;
    let look = async |hit| {
        let visible = pair.to.rows().await.len();
        assert!(visible >= ITEMS, "kill {hit}: a reader sees {visible} rows of at least {ITEMS}");
    };
    kill_at_random(whole, || pair.start(""), async |_, round| pair.from.change(round).await, look).await;
    pair.finish("the run after the kills");
    pair.assert_equal("after the kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_postgresql_survives_kill_9_at_any_moment() {
    killed_at_random(Pair::new(Side::of(Family::Mysql).await, Side::postgres("copy").await, MERGE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_to_mysql_survives_kill_9_at_any_moment() {
    killed_at_random(Pair::new(Side::postgres("public").await, Side::of(Family::Mysql).await, MERGE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mysql_survives_kill_9_at_any_moment() {
    killed_at_random(Pair::new(Side::of(Family::Mysql).await, Side::of(Family::Mysql).await, MERGE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mariadb_merging_survives_kill_9_at_any_moment() {
    killed_at_random(Pair::new(Side::of(Family::Mysql).await, Side::of(Family::Mariadb).await, MERGE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_to_mariadb_replacing_survives_kill_9_at_any_moment() {
    killed_at_random(Pair::new(Side::of(Family::Mysql).await, Side::of(Family::Mariadb).await, REPLACE).await).await;
}

/// Crashes at every failpoint of the connector, above all between the rename of a replace and its record.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_every_failpoint_leaves_both_sides_equal() {
    for how in [MERGE, REPLACE] {
        let (from, to) = (Side::of(Family::Mysql).await, Side::of(Family::Mariadb).await);
        let Some(pair) = Pair::new(from, to, how).await else { return };
        let points = ["source.chunk", "commit.before", "commit.sql", "commit.after", "publish.before", "publish.mid", "publish.after"];
        for (round, point) in points.iter().enumerate() {
            pair.from.change(round).await;
            let mut run = pair.start(&format!("mysql.{point}=abort@1"));
            let died = run.wait(LONG).code().is_none();
            assert!(died || how == MERGE, "no run passed {point}:\n{}", run.text());
            pair.finish(&format!("after {point}"));
            pair.assert_equal(&format!("after {point}")).await;
        }
    }
}
