//! The connections of stored connectors, as the databases count them: through `serve`, and in a command of its own.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use linkspan_testkit::{
    process::Signal,
    servers::{TestDatabase, unique},
};
use serde_json::{Value, json};

use crate::{
    hub::{Answer, Hub},
    mysql_server::{Database, Family, databases, sessions},
    program::{Place, counts},
};

const SOON: Duration = Duration::from_secs(30);

/// A database of the test's own.
enum System {
    Postgres(TestDatabase),
    Mysql(Family, Database),
}

async fn systems() -> Vec<Arc<System>> {
    let mut all: Vec<_> = TestDatabase::create().await.map(|d| Arc::new(System::Postgres(d))).into_iter().collect();
    all.extend(databases().await.into_iter().map(|(family, database)| Arc::new(System::Mysql(family, database))));
    all
}

impl System {
    fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Mysql(Family::Mysql, _) => "mysql",
            Self::Mysql(Family::Mariadb, _) => "mariadb",
        }
    }
    fn config(&self, pool_size: u32, max_overflow: u32) -> Value {
        let url = match self {
            Self::Postgres(d) => &d.url,
            Self::Mysql(_, d) => &d.url,
        };
        json!({"url": url, "pool_size": pool_size, "max_overflow": max_overflow})
    }
    async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(d) => d.execute(sql).await,
            Self::Mysql(_, d) => d.execute(sql).await,
        }
    }
    /// Sessions in this database, but for the one that asks: by the server's own numbers.
    async fn sessions(&self) -> BTreeSet<String> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'linkspan%' \
            AND backend_type = 'client backend'";
        match self {
            Self::Postgres(d) => d.query(sql).await.rows.into_iter().map(|row| row[0].clone().unwrap()).collect(),
            Self::Mysql(family, d) => sessions(*family, d).await,
        }
    }
    async fn until_sessions(&self, wanted: usize) {
        let began = Instant::now();
        loop {
            let open = self.sessions().await;
            if open.len() == wanted {
                return;
            }
            assert!(began.elapsed() < SOON, "{open:?} instead of {wanted}");
        }
    }
    /// A table of some thousand rows that is cut into several parts.
    async fn fill(&self, name: &str) {
        let sql = match self {
            Self::Postgres(_) => format!(
                "CREATE TABLE {name} AS SELECT i AS id, repeat('x', 900) AS text FROM generate_series(1, 20000) i; \
                 ALTER TABLE {name} ADD PRIMARY KEY (id)"
            ),
            Self::Mysql(..) => {
                let mut sql = format!("CREATE TABLE {name} (id int PRIMARY KEY, text varchar(900));\nINSERT INTO {name} VALUES ");
                sql += &(1..=1250).map(|i| format!("({i}, REPEAT('x', 900))")).collect::<Vec<_>>().join(", ");
                for i in 0..4 {
                    sql += &format!(";\nINSERT INTO {name} SELECT id + {}, text FROM {name}", 1250 << i);
                }
                format!("{sql};\nANALYZE TABLE {name}")
            }
        };
        self.execute(&sql).await;
    }
    async fn count(&self, table: &str) -> String {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let table = match self {
            Self::Postgres(d) => d.query(&sql).await,
            Self::Mysql(_, d) => d.query(&sql).await,
        };
        table.rows[0][0].clone().unwrap()
    }
    fn table(&self, name: &str) -> String {
        match self {
            Self::Postgres(_) => format!("public.{name}"),
            Self::Mysql(_, d) => format!("{}.{name}", d.name),
        }
    }
}

/// Counts sessions until it is told to stop: the most at once, and all that were ever seen.
struct Watcher {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(usize, usize)>,
}

impl Watcher {
    fn of(system: &Arc<System>) -> Self {
        let (system, over) = (system.clone(), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let over = over.clone();
            async move {
                let (mut most, mut all) = (0, BTreeSet::new());
                while !over.load(Ordering::Acquire) {
                    let now = system.sessions().await;
                    most = most.max(now.len());
                    all.extend(now);
                }
                (most, all.len())
            }
        });
        Self { over, task }
    }
    async fn stop(self) -> (usize, usize) {
        self.over.store(true, Ordering::Release);
        self.task.await.unwrap()
    }
}

/// A hub, and its key.
struct Keyed {
    hub: Hub,
    bearer: String,
    _place: Place,
}

impl Keyed {
    fn start() -> Arc<Self> {
        let place = Place::new();
        let hub = Hub::start(&place);
        let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
        Arc::new(Self { hub, bearer: format!("Bearer {}", key.trim()), _place: place })
    }
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Authorization", self.bearer.as_str()), ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.hub.call(method, path, &headers, &body)
    }
    #[track_caller]
    fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, &body);
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }
    fn connector(&self, name: &str, system: &System, config: Value) {
        self.done("POST", "/v1/connectors", json!({"name": name, "type": system.kind(), "config": config}));
    }
    fn tested(&self, name: &str) {
        let tested = self.done("POST", &format!("/v1/connectors/{name}/test"), Value::Null);
        assert_eq!(tested["ok"], true, "{tested}");
    }
    fn discovered(&self, name: &str) {
        self.done("POST", &format!("/v1/connectors/{name}/discover?refresh=true"), Value::Null);
    }
    fn metric(&self, name: &str, kind: &str) -> Option<f64> {
        let text = self.call("GET", "/metrics", &Value::Null).text;
        let start = format!("linkspan_pool_{name}{{type=\"{kind}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&start)).and_then(|v| v.parse().ok())
    }
    fn run(&self, connection: &str) -> String {
        let run = self.done("POST", &format!("/v1/connections/{connection}/run"), json!({}));
        run["id"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned()
    }
    fn ended(&self, run: &str) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.done("GET", &format!("/v1/runs/{run}"), Value::Null);
            if !matches!(shown["status"].as_str(), Some("queued" | "running")) {
                return shown;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_uses_share_one_connection_and_metrics_tell_of_it() {
    let hub = Keyed::start();
    for system in systems().await {
        let name = system.kind();
        hub.connector(name, &system, system.config(5, 15));
        assert_eq!(system.sessions().await.len(), 0, "creating connects to nothing");
        hub.tested(name);
        let first = system.sessions().await;
        assert_eq!(first.len(), 1);
        for _ in 0..4 {
            hub.discovered(name);
            hub.tested(name);
            hub.done("GET", &format!("/v1/connectors/{name}/models?refresh=true"), Value::Null);
            assert_eq!(system.sessions().await, first);
        }
        for (metric, value) in
            [("connectors", 1.0), ("open", 1.0), ("idle", 1.0), ("in_use", 0.0), ("waiting", 0.0), ("max", 20.0), ("timeouts_total", 0.0)]
        {
            assert_eq!(hub.metric(metric, name), Some(value), "{name} {metric}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_at_once_keep_to_the_maximum() {
    let hub = Keyed::start();
    for system in systems().await {
        let name = system.kind();
        hub.connector(name, &system, system.config(2, 1));
        let watcher = Watcher::of(&system);
        let requests = (0..64).map(|i| {
            let hub = hub.clone();
            tokio::task::spawn_blocking(move || if i % 2 == 0 { hub.tested(name) } else { hub.discovered(name) })
        });
        for request in futures::future::join_all(requests).await {
            request.unwrap();
        }
        let (most, all) = watcher.stop().await;
        println!("{name}: at most {most} at once, {all} in all");
        assert!(most <= 3 && all <= 3, "{most} at once, {all} in all");
        assert_eq!(hub.metric("timeouts_total", name), Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_config_a_disabled_and_a_deleted_connector_close_their_connections() {
    let hub = Keyed::start();
    for system in systems().await {
        let name = system.kind();
        let at = format!("/v1/connectors/{name}");
        hub.connector(name, &system, system.config(5, 15));
        hub.tested(name);
        let first = system.sessions().await;
        hub.done("PATCH", &at, json!({"description": "only words"}));
        hub.tested(name);
        assert_eq!(system.sessions().await, first, "words change no connection");
        hub.done("PATCH", &at, json!({"config": {"max_overflow": 3}}));
        assert_eq!(system.sessions().await.len(), 0);
        hub.tested(name);
        assert_eq!(hub.metric("max", name), Some(8.0));
        let second = system.sessions().await;
        assert!(second.len() == 1 && second.is_disjoint(&first));
        hub.done("POST", &format!("{at}/disable"), Value::Null);
        assert_eq!(system.sessions().await.len(), 0);
        assert_eq!(hub.metric("open", name).unwrap_or(0.0), 0.0);
        hub.done("POST", &format!("{at}/enable"), Value::Null);
        hub.tested(name);
        assert_eq!(system.sessions().await.len(), 1);
        hub.done("DELETE", &at, Value::Null);
        assert_eq!(system.sessions().await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_credentials_make_another_pool() {
    let Some(database) = TestDatabase::create().await else { return };
    let role = unique("ls_rotated");
    database
        .execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'canary-one-1'; GRANT CONNECT ON DATABASE \"{}\" TO {role}", database.name))
        .await;
    let place = database.url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let (host, port) = place.split_once(':').unwrap();
    let (system, hub) = (Arc::new(System::Postgres(database)), Keyed::start());
    let System::Postgres(database) = &*system else { return };
    let config = json!({"host": host, "port": port.parse::<u16>().unwrap(), "database": database.name, "username": role, "password": "canary-one-1"});
    hub.connector("rotated", &system, config);
    hub.tested("rotated");
    let first = system.sessions().await;
    database.execute(&format!("ALTER ROLE {role} PASSWORD 'canary-two-2'")).await;
    hub.tested("rotated");
    assert_eq!(system.sessions().await, first, "a session that is open needs no password");
    hub.done("PUT", "/v1/connectors/rotated/credentials", json!({"password": "canary-two-2"}));
    assert_eq!(system.sessions().await.len(), 0);
    hub.tested("rotated");
    let second = system.sessions().await;
    assert!(second.len() == 1 && second.is_disjoint(&first));
    hub.done("PUT", "/v1/connectors/rotated/credentials", json!({"password": "canary-wrong"}));
    let refused = hub.done("POST", "/v1/connectors/rotated/test", Value::Null);
    assert_eq!(refused["error"]["kind"], "auth_failed", "an old session is no way around a wrong password: {refused}");
    assert!(!hub.hub.process.text().contains("canary"), "{}", hub.hub.process.text());
    hub.done("DELETE", "/v1/connectors/rotated", Value::Null);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_many_parts_on_one_connector_keeps_to_the_maximum_and_never_waits_for_itself() {
    let hub = Keyed::start();
    for system in systems().await {
        let name = system.kind();
        system.fill("a").await;
        system.fill("b").await;
        // The least that a run with both ends on one connector needs.
        let least = if name == "postgresql" { 5 } else { 7 };
        let mut config = system.config(2, least - 2);
        config["slices"] = json!(6);
        hub.connector(name, &system, config);
        let connection = json!({"name": name, "from": name, "streams": [system.table("a"), system.table("b")], "dest": format!("{name}:{}", unique("ls_copy")),
            "concurrency": 6, "memory": 32});
        let made = hub.done("POST", "/v1/connections", connection);
        assert_eq!((&made["concurrency"], &made["memory"]), (&json!(6), &json!(32)));
        let watcher = Watcher::of(&system);
        let run = hub.run(name);
        let run = hub.ended(&run);
        let (most, all) = watcher.stop().await;
        println!("{name}: at most {most} at once, {all} in all, limit {least}");
        assert_eq!((run["status"].as_str(), run["rows_written"].as_u64()), (Some("completed"), Some(40_000)), "{run}");
        assert!(most <= least as usize, "{most} at once, {least} allowed");
        let log = hub.call("GET", &format!("/v1/runs/{}/logs", run["id"].as_str().unwrap()), &Value::Null).text;
        assert!(log.contains("1 of 6 lanes go at once"), "{log}");

        // With one less it can never run, and says so at once.
        hub.done("PATCH", &format!("/v1/connectors/{name}"), json!({"config": {"max_overflow": least - 3}}));
        let refused = hub.ended(&hub.run(name));
        assert_eq!(refused["error"]["kind"], "config_invalid", "{refused}");
        assert!(refused["error"]["suggested_fix"].as_str().is_some_and(|f| f.contains("max_overflow")), "{refused}");
        if let System::Mysql(_, d) = &*system {
            let target = made["dest"].as_str().unwrap().rsplit_once(':').unwrap().1;
            d.execute(&format!("DROP DATABASE IF EXISTS {target}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_cross_each_other_all_complete() {
    let (Some(one), Some(two)) = (TestDatabase::create().await, TestDatabase::create().await) else { return };
    let (one, two) = (Arc::new(System::Postgres(one)), Arc::new(System::Postgres(two)));
    let hub = Keyed::start();
    for (name, system) in [("one", &one), ("two", &two)] {
        system.fill(name).await;
        hub.connector(name, system, system.config(1, 3));
    }
    let mut runs = Vec::new();
    for i in 0..3 {
        for (from, to) in [("one", "two"), ("two", "one")] {
            let name = format!("{from}-{i}");
            let body = json!({"name": name, "from": from, "streams": [format!("public.{from}")], "dest": format!("{to}:copy_{i}"), "concurrency": 4});
            hub.done("POST", "/v1/connections", body);
            runs.push(hub.run(&name));
        }
    }
    let watchers = [Watcher::of(&one), Watcher::of(&two)];
    for run in &runs {
        let run = hub.ended(run);
        assert_eq!(run["status"], "completed", "{run}");
    }
    for watcher in watchers {
        let (most, _) = watcher.stop().await;
        assert!(most <= 4, "{most} at once");
    }
    assert_eq!((two.count("copy_0").await, one.count("copy_2").await), ("20000".into(), "20000".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_with_a_query_is_connected_to_only_while_it_is_pulled() {
    let Some(database) = TestDatabase::create().await else { return };
    let (system, hub) = (Arc::new(System::Postgres(database)), Keyed::start());
    system.execute("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 100) i").await;
    let query = "SELECT id, pg_sleep(0.02)::text AS slept FROM t";
    hub.done(
        "POST",
        "/v1/connectors",
        json!({"name": "pulled", "type": "postgresql", "config": system.config(5, 15), "query": query, "vertical": "v", "entity_type": "e"}),
    );
    hub.tested("pulled");
    system.until_sessions(0).await;
    let watcher = Watcher::of(&system);
    let pulled = hub.done("POST", "/v1/connectors/pulled/pull", Value::Null);
    assert_eq!(pulled["records_ingested"], 100, "{pulled}");
    let (during, _) = watcher.stop().await;
    assert!(during >= 1);
    system.until_sessions(0).await;
    assert_eq!(hub.metric("open", "postgresql").unwrap_or(0.0), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_closes_all_its_connections() {
    let mut hub = Keyed::start();
    let systems = systems().await;
    for system in &systems {
        hub.connector(system.kind(), system, system.config(5, 15));
        hub.tested(system.kind());
        assert_eq!(system.sessions().await.len(), 1);
    }
    let hub = Arc::get_mut(&mut hub).unwrap();
    hub.hub.process.signal(Signal::Terminate);
    assert_eq!(hub.hub.process.wait(SOON).code(), Some(0));
    for system in &systems {
        assert_eq!(system.sessions().await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_command_line_has_the_same_limits() {
    for system in systems().await {
        let place = Place::new();
        system.fill("a").await;
        let most = if system.kind() == "postgresql" { 6 } else { 8 };
        let mut config = system.config(3, most - 3);
        config["slices"] = json!(4);
        let target = unique("ls_copied");
        let project = json!({
            "connectors": {"db": {"type": system.kind(), "config": config}},
            "connections": {"copy": {"from": "db", "to": "db", "streams": [system.table("a")], "target": target, "concurrency": 4}},
        });
        // JSON is YAML, too.
        place.write("p.yaml", project.to_string());
        let watcher = Watcher::of(&system);
        let said = tokio::task::spawn_blocking(move || place.run(&["sync", "-f", "p.yaml", "--output", "json"])).await.unwrap();
        let (at_once, _) = watcher.stop().await;
        assert_eq!(counts(&said.succeeds().summary(), &system.table("a")), (20_000, 20_000));
        assert!(at_once <= most as usize, "{at_once} at once");
        system.until_sessions(0).await;
        assert_eq!(system.count(&target).await, "20000");
    }
}
