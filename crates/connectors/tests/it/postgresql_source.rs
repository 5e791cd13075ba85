//! PostgreSQL as a source, against a real server.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use arrow_array::{cast::AsArray, types::Int64Type};
use async_trait::async_trait;
use futures::StreamExt;
use linkspan_connectors::postgresql;
use linkspan_core::{
    ConnectorType, Context, Cursor, Ended, ErrorKind, MemoryBudget, Output, Position, ReadMode, Repeats, Retry, Scope, Selected, Source,
    Stop, Stream, StreamName,
};
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    drive::{Read, Until, read, read_until},
    servers::{TestDatabase, postgres_ca, unique},
    source::{Mutated, Mutation, SourceHarness, suite},
};
use serde_json::{Value, json};

struct Harness {
    database: TestDatabase,
    role: String,
    hole: TcpListener,
}

impl Harness {
    async fn start() -> Option<Self> {
        let database = TestDatabase::create().await?;
        let role = unique("ls_norights");
        let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'none-123456'; REVOKE CONNECT ON DATABASE \"{}\" FROM PUBLIC", database.name);
        database.execute(&sql).await;
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        Some(Self { database, role, hole })
    }
    fn values(rows: &[StandardRow]) -> String {
        let row = |r: &StandardRow| {
            let name = r.name.as_ref().map_or("NULL".into(), |n| format!("'{n}'"));
            format!("({}, {name}, {}, {}, '{}')", r.id, r.amount(), r.flag, r.updated_at_text())
        };
        rows.iter().map(row).collect::<Vec<_>>().join(", ")
    }
}

#[async_trait]
impl SourceHarness for Harness {
    fn connector_type(&self) -> ConnectorType {
        postgresql::connector_type()
    }
    fn config(&self) -> Value {
        json!({"url": self.database.url})
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(Some("public"), stream)
    }
    fn cursor(&self) -> Option<&'static str> {
        Some("updated_at")
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        let mut sql = format!(
            "DROP TABLE IF EXISTS {stream}; CREATE TABLE {stream} (id bigint PRIMARY KEY, name text, amount numeric(12, 2), flag boolean, \
             updated_at timestamptz);"
        );
        if !rows.is_empty() {
            sql += &format!("INSERT INTO {stream} VALUES {}", Self::values(rows));
        }
        self.database.execute(&sql).await;
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        let sql = match mutation {
            Mutation::Insert(rows) => format!("INSERT INTO {stream} VALUES {}", Self::values(&rows)),
            Mutation::Update(rows) => format!(
                "INSERT INTO {stream} VALUES {} ON CONFLICT (id) DO UPDATE SET (name, amount, flag, updated_at) = \
                 (excluded.name, excluded.amount, excluded.flag, excluded.updated_at)",
                Self::values(&rows)
            ),
            Mutation::Delete(ids) => {
                format!("DELETE FROM {stream} WHERE id IN ({})", ids.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
            }
        };
        self.database.execute(&sql).await;
        Mutated::Done
    }
    async fn connections(&self) -> Option<usize> {
        Some(sessions(&self.database).await)
    }
    async fn break_connections(&self) -> bool {
        let sql =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'linkspan'";
        self.database.query(sql).await;
        true
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        let url = &self.database.url;
        let (_, place) = url.rsplit_once('@').unwrap();
        let (authority, _) = place.split_once('/').unwrap();
        let user = |login: &str, database: &str| json!({"url": format!("postgres://{login}@{authority}/{database}")});
        let hole = self.hole.local_addr().unwrap();
        vec![
            BadConfig::new(Case::WrongPassword, user("postgres:wrong-123456", &self.database.name)),
            BadConfig::new(Case::Unreachable, json!({"url": "postgres://u:p@127.0.0.1:1/d"})),
            BadConfig::new(Case::BlackHole, json!({"url": format!("postgres://u:p@{hole}/d"), "connect_timeout_seconds": 1})),
            BadConfig::new(Case::TlsMismatch, json!({"url": url, "sslmode": "verify-full"})),
            BadConfig::new(Case::NoRights, user(&format!("{}:none-123456", self.role), &self.database.name)),
            BadConfig::new(Case::Missing, json!({"url": url.replace(&self.database.name, "no_such_database")})),
        ]
    }
    async fn cleanup(&self) {
        self.database.execute(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.role)).await;
    }
}

async fn sessions(database: &TestDatabase) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'linkspan'";
    database.query(sql).await.rows[0][0].as_ref().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_a_well_behaved_source() {
    let Some(harness) = Harness::start().await else { return };
    suite(harness).await;
}

fn open(database: &TestDatabase, extra: Value) -> Arc<dyn Source> {
    let mut config = json!({"url": database.url});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    postgresql::connector_type().open(config, Context::real()).unwrap().source().unwrap()
}

async fn stream(source: &Arc<dyn Source>, name: &str) -> Stream {
    let all = source.discover().await.unwrap();
    let names: Vec<_> = all.iter().map(|s| s.name.to_string()).collect();
    all.into_iter().find(|s| s.name.to_string() == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

async fn full(source: &Arc<dyn Source>, name: &str) -> Selected {
    Selected { stream: stream(source, name).await, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept }
}

async fn incremental(source: &Arc<dyn Source>, name: &str, cursor: &str) -> Selected {
    let stream = stream(source, name).await;
    Selected { stream, read: ReadMode::Incremental, cursor: Some(cursor.into()), repeats: Repeats::Kept }
}

fn sum(read: &Read, name: &StreamName, column: usize) -> i64 {
    read.batches(name).flat_map(|b| b.column(column).as_primitive::<Int64Type>().values().to_vec()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_one_table_see_one_moment_while_others_write() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute(
            "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL, filler text); \
        INSERT INTO account SELECT g, 1000, repeat('x', 200) FROM generate_series(1, 40000) g",
        )
        .await;
    let client = Arc::new(database.client().await);
    let writer = {
        let client = client.clone();
        tokio::spawn(async move {
            for i in 0i64.. {
                let sql = format!(
                    "BEGIN; UPDATE account SET balance = balance - 7 WHERE id = {}; UPDATE account SET balance = balance + 7 WHERE id = {}; COMMIT",
                    i * 7919 % 40_000 + 1,
                    i * 104_729 % 40_000 + 1
                );
                if client.batch_execute(&sql).await.is_err() {
                    return;
                }
            }
        })
    };
    let source = open(&database, json!({"slices": 4}));
    for _ in 0..5 {
        let selected = full(&source, "public.account").await;
        let name = selected.stream.name.clone();
        let result = read(&source, vec![selected], Position::new()).await.unwrap();
        assert_eq!((result.ended.len(), result.row_count()), (4, 40_000));
        assert_eq!(sum(&result, &name, 1), 40_000_000, "money was made or lost");
    }
    writer.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_goes_on_from_every_checkpoint_of_a_quiet_table() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, v bigint, filler text); ALTER TABLE t SET (autovacuum_enabled = off); \
        INSERT INTO t SELECT g, g, repeat('x', 1800) FROM generate_series(1, 40000) g",
        )
        .await;
    let source = open(&database, json!({"slices": 2}));
    let selected = full(&source, "public.t").await;
    let name = selected.stream.name.clone();
    let whole = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert!(whole.checkpoints() >= 4, "{} checkpoints", whole.checkpoints());
    for k in 1..=whole.checkpoints() {
        let (before, at) = whole.until_checkpoint(k, &name, &Position::new());
        let rest = read(&source, vec![selected.clone()], at).await.unwrap();
        let mut both = [before, rest.ids(&name)].concat();
        both.sort_unstable();
        assert_eq!(both, (1..=40_000).collect::<Vec<i64>>(), "checkpoint {k}");
    }
    // A change behind the read is found out: the engine starts a new generation.
    let (_, at) = whole.until_checkpoint(1, &name, &Position::new());
    database.execute("UPDATE t SET v = 0 WHERE id = 1").await;
    let lost = read(&source, vec![selected.clone()], at.clone()).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PositionLost, "{lost:?}");
    // Where rows fold by key, the changed row is sent again instead.
    let folded = Selected { repeats: Repeats::Folded, ..selected };
    let rest = read(&source, vec![folded], at).await.unwrap();
    assert!(rest.ids(&name).contains(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initial_load_that_broke_off_loses_and_doubles_nothing_under_changes() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), filler text); \
        INSERT INTO t SELECT g, '2024-01-01', repeat('x', 1800) FROM generate_series(1, 40000) g",
        )
        .await;
    let source = open(&database, json!({"slices": 2}));
    let selected = incremental(&source, "public.t", "updated_at").await;
    let name = selected.stream.name.clone();
    let first = read_until(&source, vec![selected.clone()], Position::new(), Until::Checkpoints(1)).await.unwrap();
    let (mut ids, position) = first.until_checkpoint(1, &name, &Position::new());
    database.execute("UPDATE t SET updated_at = clock_timestamp() WHERE id IN (1, 39999); INSERT INTO t VALUES (40001)").await;
    let second = read(&source, vec![selected.clone()], position).await.unwrap();
    ids.extend(second.ids(&name));
    let third = read(&source, vec![selected], second.position).await.unwrap();
    assert_eq!(third.row_count(), 0);
    ids.sort_unstable();
    // Row 1 may have been sent before it changed and after; row 39999 only after, for its page had not been read.
    if ids[1] == 1 {
        ids.remove(0);
    }
    assert_eq!(ids, (1..=40_001).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_missed() {
    let Some(database) = TestDatabase::create().await else { return };
    for cursor in ["updated_at", "id"] {
        database
            .execute(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id bigserial PRIMARY KEY, updated_at timestamptz NOT NULL, n int); \
            INSERT INTO t (updated_at, n) VALUES ('2024-01-01', 1)",
            )
            .await;
        let source = open(&database, json!({}));
        let selected = incremental(&source, "public.t", cursor).await;
        let name = selected.stream.name.clone();
        let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
        let late = database.client().await;
        // One row in the transaction itself, one in a subtransaction that has ended: the server's snapshot does not list those.
        late.batch_execute(
            "BEGIN; INSERT INTO t (updated_at, n) VALUES ('2024-01-02', 2); SAVEPOINT a; \
            INSERT INTO t (updated_at, n) VALUES ('2024-01-02', 3); RELEASE a",
        )
        .await
        .unwrap();
        for round in 0..3 {
            database.execute("INSERT INTO t (updated_at, n) VALUES ('2024-03-01', 4)").await;
            let next = read(&source, vec![selected.clone()], position).await.unwrap();
            assert_eq!(next.ids(&name), [4 + round], "others' rows come at once, each once (cursor {cursor})");
            position = next.position;
        }
        late.batch_execute("COMMIT").await.unwrap();
        let next = read(&source, vec![selected.clone()], position).await.unwrap();
        assert_eq!(next.ids(&name), [2, 3], "the late rows (cursor {cursor})");
        assert_eq!(read(&source, vec![selected], next.position).await.unwrap().row_count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_during_the_initial_load_is_not_missed() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT '2024-01-01')").await;
    let late = database.client().await;
    late.batch_execute("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2); RELEASE a").await.unwrap();
    database.execute("INSERT INTO t SELECT g FROM generate_series(3, 10) g").await;
    let source = open(&database, json!({}));
    let selected = incremental(&source, "public.t", "updated_at").await;
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), (3..=10).collect::<Vec<i64>>());
    late.batch_execute("COMMIT").await.unwrap();
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [1, 2]);
    assert_eq!(read(&source, vec![selected], second.position).await.unwrap().row_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_cursor_value_and_infinite_ones_are_not_lost() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute("CREATE TABLE t (id bigint, at timestamptz); INSERT INTO t VALUES (1, NULL), (2, 'infinity'), (3, '2024-01-01')")
        .await;
    let source = open(&database, json!({}));
    let selected = incremental(&source, "public.t", "at").await;
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), [1, 2, 3]);
    database.execute("INSERT INTO t VALUES (4, NULL), (5, 'infinity'), (6, '2024-01-02')").await;
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [4, 5, 6]);
    assert_eq!(read(&source, vec![selected], second.position).await.unwrap().row_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables_are_one_stream_read_leaf_by_leaf() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute(
            "CREATE TABLE p (id bigint, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); \
        CREATE TABLE p_a PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2024-02-01'); \
        CREATE TABLE p_b PARTITION OF p FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') PARTITION BY LIST (id); \
        CREATE TABLE p_b_rest PARTITION OF p_b DEFAULT; CREATE TABLE p_rest PARTITION OF p DEFAULT; \
        INSERT INTO p SELECT g, date '2024-01-01' + (g % 100)::int FROM generate_series(1, 1000) g; ANALYZE p",
        )
        .await;
    let source = open(&database, json!({}));
    let names: Vec<String> = source.discover().await.unwrap().iter().map(|s| s.name.to_string()).collect();
    assert_eq!(names, ["public.p"]);
    let selected = incremental(&source, "public.p", "day").await;
    let name = selected.stream.name.clone();
    assert_eq!(selected.stream.key, ["id", "day"]);
    assert_eq!(selected.stream.estimated_rows, Some(1000));
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), (1..=1000).collect::<Vec<i64>>());
    let parts: Vec<String> = first.ended.iter().map(|(c, _)| c.scope.to_string()).collect();
    assert_eq!(parts.len(), 4, "{parts:?}");
    database.execute("INSERT INTO p VALUES (1001, '2024-12-01')").await;
    let second = read(&source, vec![selected], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [1001]);
    // A login that may read the parent alone reads through it.
    let role = unique("ls_parent");
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x-123456'; GRANT SELECT ON p TO {role}")).await;
    let url = with_login(&database.url, &role, "x-123456");
    let source = postgresql::connector_type().open(json!({"url": url}), Context::real()).unwrap().source().unwrap();
    let selected = full(&source, "public.p").await;
    assert_eq!(read(&source, vec![selected], Position::new()).await.unwrap().row_count(), 1001);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

fn with_login(url: &str, user: &str, password: &str) -> String {
    let (_, place) = url.rsplit_once('@').unwrap();
    format!("postgres://{user}:{password}@{place}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_whose_snapshot_is_gone_is_worth_another_try() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 1000)").await;
    let source = open(&database, json!({"slices": 2}));
    let selected = full(&source, "public.t").await;
    let lane = source.clone().lanes(vec![selected], Position::new()).next().await.unwrap().unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'linkspan'";
    database.query(sql).await;
    while sessions(&database).await > 0 {
        tokio::task::yield_now().await;
    }
    let (mut out, _inbox) = Output::channel(MemoryBudget::new(64 << 20), 10);
    let e = lane.read(&mut out, &Stop::never()).await.unwrap_err();
    assert_eq!((e.kind(), e.retry_hint()), (ErrorKind::Unavailable, Retry::Backoff), "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_does_not_hold_up_discovery() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t").await;
    let other = database.client().await;
    other.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let found = stream(&open(&database, json!({})), "public.t").await;
    assert_eq!((found.estimated_rows, found.estimated_bytes.map(|b| b > 0)), (Some(1000), Some(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_any_ordered_type_moves_on() {
    let Some(database) = TestDatabase::create().await else { return };
    for (kind, first, second) in [
        ("smallint", "-5", "7"),
        ("integer", "1", "2"),
        ("bigint", "9007199254740993", "9223372036854775807"),
        ("date", "'0044-03-15 BC'", "'2024-02-29'"),
        ("timestamp", "'1969-12-31 23:59:59.999999'", "'2024-01-01 00:00:00.000001'"),
        ("timestamptz", "'-infinity'", "'2024-01-01 00:00:00.000001+02'"),
        ("numeric(20, 3)", "1.5", "'NaN'"),
        ("numeric", "1e50", "'Infinity'"),
        ("double precision", "1.5", "'NaN'"),
        ("text", "'a''b'", "'b\\c'"),
        ("uuid", "'00000000-0000-7000-8000-000000000000'", "'ffffffff-0000-7000-8000-000000000000'"),
    ] {
        database.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint, c {kind}); INSERT INTO t VALUES (1, {first})")).await;
        let source = open(&database, json!({"late_window_seconds": 0}));
        let selected = incremental(&source, "public.t", "c").await;
        let name = selected.stream.name.clone();
        let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
        for (id, value) in [(2, first), (3, second), (4, second)] {
            database.execute(&format!("INSERT INTO t VALUES ({id}, {value})")).await;
            let next = read(&source, vec![selected.clone()], position).await.unwrap_or_else(|e| panic!("{kind}: {e:?}"));
            assert_eq!(next.ids(&name), [id], "{kind} {value}");
            position = next.position;
        }
        assert_eq!(read(&source, vec![selected], position).await.unwrap().row_count(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quoted_and_mixed_case_names_stay_as_they_are() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE SCHEMA \"Sales\"\" 2024\"; CREATE TABLE \"Sales\"\" 2024\".\"Ünï.Ord'er\" (\"Id\" bigint PRIMARY KEY, \"the Time\\\" timestamptz, \"a\"\"b\" text); \
        INSERT INTO \"Sales\"\" 2024\".\"Ünï.Ord'er\" VALUES (1, '2024-01-01', 'x')").await;
    let source = open(&database, json!({}));
    let name = StreamName::new(Some("Sales\" 2024"), "Ünï.Ord'er");
    let found = source.discover().await.unwrap().into_iter().find(|s| s.name == name).unwrap();
    let columns: Vec<&str> = found.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(columns, ["Id", "the Time\\", "a\"b"]);
    for read_mode in [ReadMode::Full, ReadMode::Incremental] {
        let selected = Selected { stream: found.clone(), read: read_mode, cursor: Some("the Time\\".into()), repeats: Repeats::Kept };
        assert_eq!(read(&source, vec![selected], Position::new()).await.unwrap().row_count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_and_materialized_views_are_read_by_value() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, secret text); INSERT INTO t VALUES (1, '2024-01-01'), (2, '2024-01-01 00:01'); \
        CREATE VIEW v AS SELECT id, at FROM t; CREATE MATERIALIZED VIEW m AS SELECT id, at FROM t").await;
    let source = open(&database, json!({}));
    for (name, rows) in [("public.v", 2), ("public.m", 3)] {
        let selected = full(&source, name).await;
        assert_eq!(read(&source, vec![selected], Position::new()).await.unwrap().row_count(), rows);
        let selected = incremental(&source, name, "at").await;
        let stream = selected.stream.name.clone();
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
        assert_eq!(first.row_count(), rows);
        let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
        assert_eq!(second.row_count(), 0);
        database.execute("INSERT INTO t SELECT max(id) + 1, '2024-01-01 00:00:30' FROM t; REFRESH MATERIALIZED VIEW m").await;
        let third = read(&source, vec![selected], second.position).await.unwrap();
        assert_eq!(third.ids(&stream).len(), 1, "a row that came late, within the window of {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_pull_is_bound_and_moves_on() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint, at timestamptz, price numeric(8, 2)); INSERT INTO t VALUES (1, '2024-01-01', 1.5)").await;
    let config = json!({"query": "SELECT id, at AS \"when\", price, ':last_pull' AS word FROM t WHERE at >= :last_pull -- since", "query_name": "news"});
    let source = open(&database, config);
    let found = stream(&source, "news").await;
    assert_eq!(found.cursor, Cursor::SourceDefined);
    let selected = Selected { stream: found, read: ReadMode::Incremental, cursor: None, repeats: Repeats::Kept };
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(
        first.table(&name).rows,
        [[Some("1".to_owned()), first.table(&name).rows[0][1].clone(), Some("1.50".into()), Some(":last_pull".into())]]
    );
    database.execute("INSERT INTO t VALUES (2, '2024-01-02', NULL), (3, now(), NULL)").await;
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [3]);
    // The late window brings the row again; it is kept in mind.
    let third = read(&source, vec![selected.clone()], second.position).await.unwrap();
    assert_eq!(third.ids(&name), Vec::<i64>::new());
    let selected = Selected { read: ReadMode::Full, ..selected };
    let whole = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(whole.row_count(), 3);
    let again = read(&source, vec![selected], whole.position).await.unwrap();
    assert_eq!((again.row_count(), again.ended[0].1), (0, Ended::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_a_cursor_reads_only_what_is_new() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let source = open(&database, json!({"query": "SELECT id, v FROM t;"}));
    let selected = incremental(&source, "query", "id").await;
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), [1, 2]);
    database.execute("INSERT INTO t VALUES (2, 'tie'), (3, 'c')").await;
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [2, 3]);
    assert_eq!(read(&source, vec![selected], second.position).await.unwrap().row_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_cursors_are_refused_before_any_row_and_the_right_one_is_named() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, updated_at timestamptz, doc jsonb, ok boolean, b bytea)").await;
    let source = open(&database, json!({}));
    for (cursor, fix) in [
        ("updatd_at", "did you mean \"updated_at\"?"),
        ("zzz", "use \"updated_at\""),
        ("doc", "use \"updated_at\""),
        ("ok", "use \"updated_at\""),
        ("b", "use \"updated_at\""),
    ] {
        let selected = incremental(&source, "public.t", cursor).await;
        let e = read(&source, vec![selected], Position::new()).await.unwrap_err();
        assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some(fix)), "{e:?}");
        assert!(e.to_string().contains("stream=public.t"), "{e}");
    }
    let mut selected = incremental(&source, "public.t", "id").await;
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    selected.cursor = Some("updated_at".into());
    let e = read(&source, vec![selected], first.position).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_forbidden_is_said_with_a_fix() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE orders (id bigint)").await;
    let source = open(&database, json!({}));
    let mut selected = full(&source, "public.orders").await;
    let name = selected.stream.name.clone();
    selected.stream.name = StreamName::new(Some("public"), "order");
    let e = read(&source, vec![selected.clone()], Position::new()).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::NotFound, Some("did you mean \"public.orders\"?")), "{e:?}");
    let role = unique("ls_none");
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x-123456'")).await;
    let url = with_login(&database.url, &role, "x-123456");
    let poor = postgresql::connector_type().open(json!({"url": url}), Context::real()).unwrap().source().unwrap();
    assert!(poor.discover().await.unwrap().is_empty());
    selected.stream.name = name;
    let e = read(&poor, vec![selected], Position::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
    assert!(e.suggested_fix().unwrap().contains("GRANT"), "{e:?}");
    database.execute(&format!("DROP ROLE {role}")).await;
    let source = open(&database, json!({"schemas": ["pubic"]}));
    let e = source.discover().await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::NotFound, Some("did you mean \"public\"?")), "{e:?}");
    let source = open(&database, json!({"query": "SELEC 1"}));
    assert_eq!(source.discover().await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
    let source = open(&database, json!({"query": "SELECT 1 AS a, 2 AS a"}));
    assert_eq!(source.discover().await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_from_another_server_is_lost_and_not_taken_for_empty() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint); INSERT INTO t VALUES (1)").await;
    let source = open(&database, json!({}));
    let selected = incremental(&source, "public.t", "id").await;
    let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
    let scope = Scope::Stream(selected.stream.name.clone());
    position.get_mut(&scope).unwrap().value["horizon"] = json!(1u64 << 40);
    let e = read(&source, vec![selected], position).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_read_is_cancelled_on_the_server() {
    let Some(database) = TestDatabase::create().await else { return };
    // The view sends a row, then works on for a minute without sending anything: a closed socket alone would go unnoticed.
    database.execute("CREATE VIEW slow AS SELECT g::bigint AS id, CASE WHEN g > 70000 THEN pg_sleep(60)::text END AS wait FROM generate_series(1, 70001) g").await;
    let source = open(&database, json!({}));
    let selected = full(&source, "public.slow").await;
    let lane = source.clone().lanes(vec![selected], Position::new()).next().await.unwrap().unwrap();
    let (mut out, mut inbox) = Output::channel(MemoryBudget::new(64 << 20), 1);
    let reading = tokio::spawn(async move { lane.read(&mut out, &Stop::never()).await });
    inbox.recv().await.unwrap();
    reading.abort();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while sessions(&database).await > 0 {
        assert!(std::time::Instant::now() < until, "a session is left");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_in_one_value_travel_alone() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint, big text); INSERT INTO t VALUES (1, 'a'), (2, repeat('é', 50000000)), (3, 'b')").await;
    let source = open(&database, json!({}));
    let selected = full(&source, "public.t").await;
    let name = selected.stream.name.clone();
    let result = read(&source, vec![selected], Position::new()).await.unwrap();
    let sizes: Vec<usize> = result.batches(&name).map(|b| b.num_rows()).collect();
    assert_eq!(sizes, [1, 1, 1]);
    assert_eq!(result.batches(&name).nth(1).unwrap().column(1).as_string::<i32>().value(0).len(), 100_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_does_what_libpq_does() {
    let Some(database) = TestDatabase::create().await else { return };
    let Some(ca) = postgres_ca() else { return };
    let tls = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let (_, port) = database.url.rsplit_once("127.0.0.1:").unwrap();
    let by_name = |host: &str| database.url.replace("127.0.0.1", host);
    assert!(!port.is_empty());
    for (mode, rootcert, encrypted) in [
        ("disable", None, "false"),
        ("allow", None, "false"),
        ("prefer", None, "true"),
        ("require", None, "true"),
        ("require", Some(&ca), "true"),
        ("verify-ca", Some(&ca), "true"),
        ("verify-full", Some(&ca), "true"),
    ] {
        let source = open_url(&by_name("localhost"), mode, rootcert, tls);
        let found = stream(&source, "query").await;
        let selected = Selected { stream: found, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
        let name = selected.stream.name.clone();
        let result = read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("{mode}: {e:?}"));
        assert_eq!(result.table(&name).rows[0][0].as_deref(), Some(encrypted), "{mode}");
    }
    for (mode, url) in [("verify-ca", by_name("localhost")), ("verify-full", by_name("localhost"))] {
        let e = open_url(&url, mode, None, tls).discover().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConfigInvalid, "{mode}: {e:?}");
        assert!(e.suggested_fix().unwrap().contains("sslrootcert"), "{mode}: {e:?}");
    }
}

/// A server that answers the first packet with these bytes and nothing more.
fn answering(bytes: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut request = [0; 8];
            if socket.read_exact(&mut request).is_ok() {
                socket.write_all(bytes).ok();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_server_without_tls_and_what_is_no_server_are_told_apart() {
    for (answer, mode, kind, fix) in [
        (&b"N"[..], "require", ErrorKind::ConfigInvalid, "sslmode=prefer"),
        (b"N", "verify-full", ErrorKind::ConfigInvalid, "sslmode=prefer"),
        (b"N", "prefer", ErrorKind::Unavailable, "server is up"),
        (b"S", "require", ErrorKind::Unavailable, "TLS settings"),
        (b"HTTP/1.1 400 Bad Request", "prefer", ErrorKind::Unavailable, "host and port"),
    ] {
        let config = json!({"url": format!("postgres://u:p@{}/d", answering(answer)), "sslmode": mode, "connect_timeout_seconds": 5});
        let connector = postgresql::connector_type().open(config, Context::real()).unwrap();
        let e = connector.check().await.unwrap_err();
        assert_eq!(e.kind(), kind, "{mode}: {e:?}");
        assert!(e.suggested_fix().unwrap().contains(fix), "{mode}: {e:?}");
    }
}

fn open_url(url: &str, mode: &str, rootcert: Option<&String>, query: &str) -> Arc<dyn Source> {
    let config = json!({"url": url, "sslmode": mode, "sslrootcert": rootcert, "query": query});
    postgresql::connector_type().open(config, Context::real()).unwrap().source().unwrap()
}
