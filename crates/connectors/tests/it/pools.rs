//! The sessions that a connector keeps: what real servers see of them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use linkspan_connectors::{mysql, postgresql};
use linkspan_core::{
    Connector, ConnectorType, Context, Ends, ErrorKind, MemoryBudget, Output, Position, ReadMode, Repeats, Selected, Stop, StreamName,
};
use linkspan_testkit::servers::{Dialect, TestDatabase};
use serde_json::{Value, json};

use super::mysql_server::{Database, Family, databases, sessions};

/// A server with a database of the test's own.
enum System {
    Postgres(TestDatabase),
    Mysql(Family, Database),
}

async fn systems() -> Vec<System> {
    let mut all: Vec<_> = TestDatabase::create().await.map(System::Postgres).into_iter().collect();
    all.extend(databases().await.into_iter().map(|(family, database)| System::Mysql(family, database)));
    all
}

impl System {
    fn kind(&self) -> ConnectorType {
        match self {
            Self::Postgres(_) => postgresql::connector_type(),
            Self::Mysql(Family::Mysql, _) => mysql::mysql(),
            Self::Mysql(Family::Mariadb, _) => mysql::mariadb(),
        }
    }
    fn url(&self) -> &str {
        match self {
            Self::Postgres(database) => &database.url,
            Self::Mysql(_, database) => &database.url,
        }
    }
    fn open(&self, extra: Value) -> Arc<dyn Connector> {
        let mut config = json!({ "url": self.url() });
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.kind().open(config, Context::real()).unwrap()
    }
    async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(database) => database.execute(sql).await,
            Self::Mysql(_, database) => database.execute(sql).await,
        }
    }
    /// The connector's sessions, by the server's own numbers.
    async fn sessions(&self) -> BTreeSet<String> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'linkspan'";
        match self {
            Self::Postgres(database) => database.query(sql).await.rows.into_iter().map(|row| row[0].clone().unwrap()).collect(),
            Self::Mysql(family, database) => sessions(*family, database).await,
        }
    }
    async fn until_sessions(&self, wanted: usize) {
        let began = std::time::Instant::now();
        loop {
            let open = self.sessions().await.len();
            if open == wanted {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{open} sessions instead of {wanted}");
        }
    }
    async fn kill(&self, session: &str) {
        match self {
            Self::Postgres(database) => drop(database.query(&format!("SELECT pg_terminate_backend({session})")).await),
            Self::Mysql(family, database) => drop(family.run(&database.url, &format!("KILL {session}")).await),
        }
    }
    async fn fill(&self, rows: u32) {
        let sql = match self {
            Self::Postgres(_) => format!("CREATE TABLE t AS SELECT i AS id, repeat('x', 500) AS text FROM generate_series(1, {rows}) i"),
            Self::Mysql(..) => {
                let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 \
                    UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
                format!(
                    "CREATE TABLE t (id int PRIMARY KEY, text varchar(500)) AS SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS id, \
                     REPEAT('x', 500) AS text FROM {digits} a, {digits} b, {digits} c, {digits} e LIMIT {rows}"
                )
            }
        };
        self.execute(&sql).await;
    }
    fn stream(&self, name: &str) -> StreamName {
        match self {
            Self::Postgres(_) => StreamName::new(Some("public"), name),
            Self::Mysql(_, database) => StreamName::new(Some(&database.name), name),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_and_discoveries_use_one_session_one_after_the_other() {
    for system in systems().await {
        system.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
        let connector = system.open(json!({}));
        connector.check().await.unwrap();
        let first = system.sessions().await;
        assert_eq!(first.len(), 1);
        for _ in 0..5 {
            assert_eq!(connector.source().unwrap().discover().await.unwrap().len(), 1);
            connector.check().await.unwrap();
            assert_eq!(system.sessions().await, first);
        }
        let state = connector.pool().unwrap();
        assert_eq!((state.open, state.idle, state.in_use, state.max, state.timeouts), (1, 1, 0, 20, 0));
        connector.close().await;
        assert_eq!(system.sessions().await.len(), 0, "a closed session is gone when close returns");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_never_have_more_sessions_than_the_limit() {
    for system in systems().await {
        let system = Arc::new(system);
        system.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
        let connector = system.open(json!({"pool_size": 2, "max_overflow": 1}));
        let over = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn({
            let (system, over) = (system.clone(), over.clone());
            async move {
                let (mut most, mut all, mut looks) = (0, BTreeSet::new(), 0);
                while !over.load(Ordering::Acquire) {
                    let now = system.sessions().await;
                    (most, looks) = (most.max(now.len()), looks + 1);
                    all.extend(now);
                }
                (most, all.len(), looks)
            }
        });
        let uses = (0..64).map(|i| {
            let connector = connector.clone();
            tokio::spawn(async move {
                match i % 2 {
                    0 => connector.check().await.map(drop),
                    _ => connector.source().unwrap().discover().await.map(drop),
                }
            })
        });
        for done in futures::future::join_all(uses).await {
            done.unwrap().unwrap_or_else(|e| panic!("{e:?}"));
        }
        over.store(true, Ordering::Release);
        let (most, all, looks) = watcher.await.unwrap();
        println!("{}: at most {most} at once, {all} in all, looked {looks} times", system.kind().spec.name);
        assert!((1..=3).contains(&most), "{most} sessions");
        assert!(all <= 3, "{all} sessions were opened for 64 uses");
        let state = connector.pool().unwrap();
        assert_eq!((state.in_use, state.waiting, state.timeouts, state.max), (0, 0, 0, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_broke_while_it_lay_idle_is_replaced_without_a_word() {
    for system in systems().await {
        let connector = system.open(json!({}));
        for _ in 0..3 {
            connector.check().await.unwrap_or_else(|e| panic!("{e:?}"));
            let open = system.sessions().await;
            assert_eq!(open.len(), 1);
            system.kill(open.first().unwrap()).await;
            system.until_sessions(0).await;
        }
        connector.source().unwrap().discover().await.unwrap_or_else(|e| panic!("{e:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_query_sessions_are_open_only_while_it_is_read() {
    for system in systems().await {
        system.fill(5_000).await;
        let connector = system.open(json!({"query": "SELECT id, text FROM t", "query_name": "q"}));
        connector.check().await.unwrap();
        system.until_sessions(0).await;
        let source = connector.source().unwrap();
        let stream = source.discover().await.unwrap().into_iter().find(|s| &*s.name.name == "q").unwrap();
        system.until_sessions(0).await;
        let selected = Selected { stream, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
        let mut lanes = source.clone().lanes(vec![selected], Position::new());
        let lane = lanes.next().await.unwrap().unwrap();
        let (mut output, mut inbox) = Output::channel(MemoryBudget::new(64 << 10), 1);
        let reading = tokio::spawn(async move { lane.read(&mut output, &Stop::never()).await });
        inbox.recv().await.unwrap();
        assert!(!system.sessions().await.is_empty(), "it is being read");
        while inbox.recv().await.is_some() {}
        reading.await.unwrap().unwrap();
        drop(lanes);
        system.until_sessions(0).await;
        assert_eq!(connector.pool().unwrap().open, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_finds_what_it_needs_and_readers_are_used_again() {
    for system in systems().await {
        system.fill(3_000).await;
        let connector = system.open(json!({"pool_size": 4, "max_overflow": 2}));
        let reserved = connector.reserve(Ends::Source, 2).await.unwrap().unwrap();
        assert_eq!(reserved.lanes, 2);
        let source = reserved.connector.source().unwrap();
        let stream = connector.source().unwrap().discover().await.unwrap().into_iter().find(|s| s.name == system.stream("t")).unwrap();
        let mut most = 0;
        for _ in 0..4 {
            let selected = Selected { stream: stream.clone(), read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
            let read = linkspan_testkit::drive::read(&source, vec![selected], Position::new()).await.unwrap();
            assert_eq!(read.row_count(), 3_000);
            most = most.max(system.sessions().await.len());
        }
        assert!(most <= 6, "{most} sessions");
    }
}

#[test]
fn the_pool_s_fields_are_in_the_schema_and_a_wrong_one_is_named() {
    for kind in [postgresql::connector_type(), mysql::mysql(), mysql::mariadb()] {
        let schema = kind.config_schema();
        for (field, default) in [("pool_size", 5), ("max_overflow", 15), ("pool_recycle", 1800)] {
            assert_eq!(schema["properties"][field]["default"], default, "{schema}");
            assert_eq!(schema["properties"][field]["type"], "integer");
        }
        for (field, wrong) in [
            ("pool_size", json!(0)),
            ("pool_size", json!(-3)),
            ("max_overflow", json!(-1)),
            ("pool_recycle", json!(0)),
            ("pool_size", json!(1e9)),
            ("max_overflow", json!("many")),
        ] {
            let e = kind.open(json!({"host": "h", "user": "u", field: wrong}), Context::real()).err().unwrap();
            assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
            assert!(e.context().iter().any(|(k, v)| *k == "field" && v == field), "{e:?}");
            assert!(e.suggested_fix().is_some(), "{e:?}");
        }
    }
}
