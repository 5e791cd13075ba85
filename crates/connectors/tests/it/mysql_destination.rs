//! MySQL and MariaDB bring their harness and inherit a destination's behaviour.

use async_trait::async_trait;
use linkspan_core::{ConnectorType, Target};
use linkspan_testkit::{BadConfig, Case, Table, destination::DestinationHarness, servers::Dialect};
use serde_json::{Value, json};

use super::mysql_server::{Database, Family};

struct Server {
    family: Family,
    db: Database,
}

impl Server {
    async fn start(family: Family) -> Option<Self> {
        Some(Self { family, db: family.database().await? })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_a_well_behaved_destination() {
    let Some(server) = Server::start(Family::Mysql).await else { return };
    linkspan_testkit::destination::suite(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_a_well_behaved_destination() {
    let Some(server) = Server::start(Family::Mariadb).await else { return };
    linkspan_testkit::destination::suite(server).await;
}

fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[async_trait]
impl DestinationHarness for Server {
    fn connector_type(&self) -> ConnectorType {
        self.family.connector_type()
    }
    fn config(&self) -> Value {
        json!({ "url": self.db.url })
    }
    fn target(&self, name: &str) -> Target {
        Target { namespace: Some(self.db.name.as_str().into()), name: name.into() }
    }
    async fn read_back(&self, target: &Target) -> Table {
        let text = |s: &str| s.replace('\\', "\\\\").replace('\'', "''");
        let columns = format!(
            "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{}' AND BINARY TABLE_NAME = '{}' \
             ORDER BY ORDINAL_POSITION",
            self.db.name,
            text(&target.name)
        );
        let columns = self.db.query(&columns).await.rows;
        if columns.is_empty() {
            return Table::default();
        }
        // As text a float shows six digits only.
        let shown = columns.iter().map(|row| {
            let name = ident(row[0].as_deref().unwrap());
            if row[1].as_deref() == Some("float") { format!("{name} * 1e0 AS {name}") } else { name }
        });
        let list = shown.collect::<Vec<_>>().join(", ");
        self.db.query(&format!("SELECT {list} FROM {}.{}", ident(&self.db.name), ident(&target.name))).await
    }
    async fn staging_left(&self) -> Vec<String> {
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME LIKE '\\_ls\\_%'",
            self.db.name
        );
        self.db.query(&sql).await.rows.into_iter().flatten().flatten().collect()
    }
    async fn foreign_table(&self, target: &Target) -> bool {
        let columns = "id bigint PRIMARY KEY, name text, amount decimal(12,2), flag boolean, updated_at timestamp(6) NULL";
        self.db.execute(&format!("CREATE TABLE {} ({columns})", ident(&target.name))).await;
        true
    }
    async fn break_connections(&self) -> bool {
        let sql = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}'", self.db.name);
        for row in self.db.query_as_admin(&sql).await.rows {
            let kill = format!("KILL {}", row[0].as_deref().unwrap());
            self.family.run(&self.db.url, &kill).await.ok();
        }
        true
    }
    fn declared_losses(&self) -> Vec<(&'static str, &'static str)> {
        let mut losses = vec![
            ("float_special", "MySQL has no NaN and no infinities: refused with their place, or recorded"),
            ("timestamp_ns", "MySQL keeps microseconds: finer digits are refused with their place, or recorded"),
        ];
        if self.family == Family::Mariadb {
            losses.push(("float32", "MariaDB stores a negative zero as zero"));
        }
        losses
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        let host = self.db.url.split_once('@').unwrap().1;
        vec![
            BadConfig::new(Case::WrongPassword, json!({ "url": format!("mysql://linkspan:wrong@{host}") })),
            BadConfig::new(Case::Unreachable, json!({ "url": "mysql://linkspan:x@127.0.0.1:1/db" })),
        ]
    }
}
