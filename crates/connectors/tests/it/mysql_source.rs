//! MySQL and MariaDB as sources, against real servers.

use std::{net::TcpListener, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use linkspan_connectors::mysql::{mariadb, mysql};
use linkspan_core::{
    ConnectorType, Context, MemoryBudget, Output, Position, ReadMode, Repeats, Selected, Source, Stop, Stream, StreamName,
};
use linkspan_testkit::{
    BadConfig, Case, StandardRow,
    drive::read,
    servers::unique,
    source::{Mutated, Mutation, SourceHarness, suite},
};
use serde_json::{Value, json};

use super::mysql_server::{Database, Family, databases};

impl Family {
    pub fn connector_type(self) -> ConnectorType {
        match self {
            Self::Mysql => mysql(),
            Self::Mariadb => mariadb(),
        }
    }
}

struct Harness {
    family: Family,
    database: Database,
    user: String,
    hole: TcpListener,
}

impl Harness {
    async fn start(family: Family) -> Option<Self> {
        let database = family.database().await?;
        let user = unique("ls_u");
        database.execute(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'none-123456'")).await;
        Some(Self { family, database, user, hole: TcpListener::bind("127.0.0.1:0").unwrap() })
    }
    fn values(rows: &[StandardRow]) -> String {
        let row = |r: &StandardRow| {
            let name = r.name.as_ref().map_or("NULL".into(), |n| format!("'{n}'"));
            let at = r.updated_at_text().replace('T', " ").replace('Z', "");
            format!("({}, {name}, {}, {}, '{at}')", r.id, r.amount(), r.flag)
        };
        rows.iter().map(row).collect::<Vec<_>>().join(", ")
    }
    fn sessions(&self) -> String {
        format!("FROM information_schema.PROCESSLIST WHERE DB = '{}'", self.database.name)
    }
}

#[async_trait]
impl SourceHarness for Harness {
    fn connector_type(&self) -> ConnectorType {
        self.family.connector_type()
    }
    fn config(&self) -> Value {
        json!({"url": self.database.url, "slices": 3})
    }
    fn stream_name(&self, stream: &str) -> StreamName {
        StreamName::new(Some(&self.database.name), stream)
    }
    fn cursor(&self) -> Option<&'static str> {
        Some("updated_at")
    }
    async fn seed(&self, stream: &str, rows: &[StandardRow]) {
        let mut sql = format!(
            "DROP TABLE IF EXISTS {stream};\nCREATE TABLE {stream} (id bigint PRIMARY KEY, name text, amount decimal(12, 2), flag boolean, \
             updated_at timestamp(6) NULL);\n"
        );
        if !rows.is_empty() {
            sql += &format!("INSERT INTO {stream} VALUES {}", Self::values(rows));
        }
        self.database.execute(&sql).await;
    }
    async fn mutate(&self, stream: &str, mutation: Mutation) -> Mutated {
        let sql = match mutation {
            Mutation::Insert(rows) => format!("INSERT INTO {stream} VALUES {}", Self::values(&rows)),
            Mutation::Update(rows) => format!("REPLACE INTO {stream} VALUES {}", Self::values(&rows)),
            Mutation::Delete(ids) => {
                format!("DELETE FROM {stream} WHERE id IN ({})", ids.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
            }
        };
        self.database.execute(&sql).await;
        Mutated::Done
    }
    async fn connections(&self) -> Option<usize> {
        let count = self.database.query_as_admin(&format!("SELECT COUNT(*) {}", self.sessions())).await;
        count.rows[0][0].as_ref()?.parse().ok()
    }
    async fn break_connections(&self) -> bool {
        for row in self.database.query_as_admin(&format!("SELECT ID {}", self.sessions())).await.rows {
            // One that ended by itself in the meantime is broken, too.
            let kill = format!("KILL {}", row[0].as_deref().unwrap());
            linkspan_testkit::servers::Dialect::run(&self.family, &self.database.url, &kill).await.ok();
        }
        true
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        let url = &self.database.url;
        let (_, place) = url.rsplit_once('@').unwrap();
        let (authority, _) = place.split_once('/').unwrap();
        let user = |login: &str, database: &str| json!({"url": format!("mysql://{login}@{authority}/{database}?sslmode=require")});
        let hole = self.hole.local_addr().unwrap();
        vec![
            BadConfig::new(Case::WrongPassword, user("linkspan:wrong-123456", &self.database.name)),
            BadConfig::new(Case::Unreachable, json!({"url": "mysql://u:p@127.0.0.1:1/d"})),
            BadConfig::new(Case::BlackHole, json!({"url": format!("mysql://u:p@{hole}/d"), "connect_timeout_seconds": 1})),
            BadConfig::new(Case::TlsMismatch, json!({"url": url, "sslmode": "verify-full"})),
            BadConfig::new(Case::NoRights, user(&format!("{}:none-123456", self.user), &self.database.name)),
            BadConfig::new(Case::Missing, json!({"url": url.replace(&self.database.name, "no_such_database")})),
        ]
    }
    async fn cleanup(&self) {
        self.database.execute(&format!("DROP USER {}", self.user)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_a_well_behaved_source() {
    let Some(harness) = Harness::start(Family::Mysql).await else { return };
    suite(harness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_a_well_behaved_source() {
    let Some(harness) = Harness::start(Family::Mariadb).await else { return };
    suite(harness).await;
}

pub(crate) fn open(family: Family, database: &Database, extra: Value) -> Arc<dyn Source> {
    let mut config = json!({"url": database.url});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    family.connector_type().open(config, Context::real()).unwrap().source().unwrap()
}

pub(crate) async fn stream(source: &Arc<dyn Source>, name: &str) -> Stream {
    let all = source.discover().await.unwrap();
    let names: Vec<_> = all.iter().map(|s| s.name.to_string()).collect();
    all.into_iter().find(|s| *s.name.name == *name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

pub(crate) async fn full(source: &Arc<dyn Source>, name: &str) -> Selected {
    Selected { stream: stream(source, name).await, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_a_stream() {
    for (family, database) in databases().await {
        database.execute("CREATE TABLE t (id int PRIMARY KEY);\nINSERT INTO t VALUES (1), (2)").await;
        let source = open(family, &database, json!({"query": "SELECT id, id * 1.5 AS x FROM t WHERE '?' <> '' -- the end"}));
        let selected = full(&source, "query").await;
        let name = selected.stream.name.clone();
        let rows = read(&source, vec![selected], Position::new()).await.unwrap().table(&name);
        assert_eq!(rows.rows, [[Some("1".to_owned()), Some("1.5".to_owned())].to_vec(), [Some("2".into()), Some("3.0".into())].to_vec()]);
    }
}

/// A read that is dropped while the server works on without sending anything ends on the server, as long as the source lives: nobody
/// waits for the end of a statement that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_read_is_cancelled_on_the_server() {
    for (family, database) in databases().await {
        let digits = (0..10).map(|n| format!("({n})")).collect::<Vec<_>>().join(", ");
        let cross = "SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n FROM d a, d b, d c, d, d e";
        database
            .execute(&format!(
                "CREATE TABLE d (n int);\nINSERT INTO d VALUES {digits};\nCREATE TABLE big (id int PRIMARY KEY);\nINSERT INTO big {cross}"
            ))
            .await;
        let source = open(family, &database, json!({"query": "SELECT id, IF(id >= 90000, SLEEP(60), 0) AS wait FROM big ORDER BY id"}));
        let selected = full(&source, "query").await;
        let lane = source.clone().lanes(vec![selected], Position::new()).next().await.unwrap().unwrap();
        let (mut out, mut inbox) = Output::channel(MemoryBudget::new(64 << 20), 1);
        let reading = tokio::spawn(async move { lane.read(&mut out, &Stop::never()).await });
        inbox.recv().await.unwrap();
        let sql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND COMMAND <> 'Sleep'", database.name);
        let working = async || -> usize { database.query_as_admin(&sql).await.rows[0][0].as_ref().unwrap().parse().unwrap() };
        assert!(working().await > 0, "{family:?}: nothing is being read");
        reading.abort();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while working().await > 0 {
            assert!(std::time::Instant::now() < until, "{family:?} still works for a read that was dropped");
            tokio::task::yield_now().await;
        }
        drop(source);
    }
}
