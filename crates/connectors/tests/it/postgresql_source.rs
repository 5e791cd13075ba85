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
    ConnectorType, Context, ErrorKind, MemoryBudget, Output, Position, ReadMode, Repeats, Retry, Selected, Source, Stop, Stream, StreamName,
};
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    drive::{Read, read},
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
    sessions_that(database, "true").await
}

async fn sessions_that(database: &TestDatabase, condition: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'linkspan' AND {condition}"
    );
    database.query(&sql).await.rows[0][0].as_ref().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_a_well_behaved_source() {
    let Some(harness) = Harness::start().await else { return };
    suite(harness).await;
}

pub(crate) fn open(database: &TestDatabase, extra: Value) -> Arc<dyn Source> {
    let mut config = json!({"url": database.url});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    postgresql::connector_type().open(config, Context::real()).unwrap().source().unwrap()
}

pub(crate) async fn stream(source: &Arc<dyn Source>, name: &str) -> Stream {
    let all = source.discover().await.unwrap();
    let names: Vec<_> = all.iter().map(|s| s.name.to_string()).collect();
    all.into_iter().find(|s| s.name.to_string() == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

pub(crate) async fn full(source: &Arc<dyn Source>, name: &str) -> Selected {
    Selected { stream: stream(source, name).await, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept }
}

pub(crate) async fn incremental(source: &Arc<dyn Source>, name: &str, cursor: &str) -> Selected {
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
async fn what_a_replace_left_half_filled_is_no_stream_and_a_table_of_the_users_own_is() {
    let Some(database) = TestDatabase::create().await else { return };
    let staging = "_ls_0a1b2c3d_17_00112233445566ff";
    database
        .execute(&format!("CREATE TABLE {staging} (id bigint); CREATE TABLE _ls_mine (id bigint); CREATE TABLE orders (id bigint)"))
        .await;
    let connector = postgresql::connector_type().open(json!({"url": database.url}), Context::real()).unwrap();
    let streams = connector.source().unwrap().discover().await.unwrap();
    let names: Vec<String> = streams.iter().map(|s| s.name.to_string()).collect();
    assert_eq!(names, ["public._ls_mine", "public.orders"]);
    assert_eq!(connector.check().await.unwrap().streams, Some(2));
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
    // While the source lives, so that it is the dropped read that ends the work. What lies idle for the next use ends with the source.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while sessions_that(&database, "state <> 'idle'").await > 0 {
        assert!(std::time::Instant::now() < until, "the server still works for a read that was dropped");
        tokio::task::yield_now().await;
    }
    drop(source);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_a_host_too() {
    let Some(database) = TestDatabase::create().await else { return };
    let dir = database.query("SELECT split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')").await.rows;
    let (Some(dir), Some(port)) = (&dir[0][0], &dir[0][1]) else { return };
    if !std::path::Path::new(dir).join(format!(".s.PGSQL.{port}")).exists() {
        // A server in a container keeps its socket to itself.
        return;
    }
    let (login, _) = database.url.rsplit_once('@').unwrap();
    let url = format!("{login}@/{}?host={dir}&port={port}&sslmode=verify-full", database.name);
    let connector = postgresql::connector_type().open(json!({"url": url}), Context::real()).unwrap();
    assert_eq!(connector.check().await.unwrap().database.as_deref(), Some(database.name.as_str()));
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
