//! PostgreSQL brings its harness and inherits a destination's behaviour.

use async_trait::async_trait;
use linkspan_connectors::postgresql;
use linkspan_core::{ConnectorType, Target};
use linkspan_testkit::{BadConfig, Case, Table, destination::DestinationHarness, servers::TestDatabase};
use serde_json::{Value, json};

struct Server {
    db: TestDatabase,
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_a_well_behaved_destination() {
    let Some(db) = TestDatabase::create().await else { return };
    linkspan_testkit::destination::suite(Server { db }).await;
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn qualified(target: &Target) -> String {
    match &target.namespace {
        Some(namespace) => format!("{}.{}", ident(namespace), ident(&target.name)),
        None => ident(&target.name),
    }
}

#[async_trait]
impl DestinationHarness for Server {
    fn connector_type(&self) -> ConnectorType {
        postgresql::connector_type()
    }
    fn config(&self) -> Value {
        json!({ "url": self.db.url })
    }
    fn target(&self, name: &str) -> Target {
        Target { namespace: Some("suite".into()), name: name.into() }
    }
    async fn read_back(&self, target: &Target) -> Table {
        let client = self.db.client().await;
        let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&qualified(target)]).await.unwrap();
        if !there.get::<_, bool>(0) {
            return Table::default();
        }
        self.db.query(&format!("SET TimeZone = 'UTC'; SELECT * FROM {}", qualified(target))).await
    }
    async fn staging_left(&self) -> Vec<String> {
        // A temporary table ends with its backend, which may outlive its client by a moment.
        let left =
            self.db.query("SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence <> 't' AND relname LIKE '\\_ls\\_%'").await;
        left.rows.into_iter().flatten().flatten().collect()
    }
    async fn foreign_table(&self, target: &Target) -> bool {
        let table = qualified(target);
        let schema = ident(target.namespace.as_deref().unwrap());
        let columns = "id bigint PRIMARY KEY, name text, amount numeric(12,2), flag boolean, updated_at timestamptz";
        self.db.execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {table} ({columns})")).await;
        true
    }
    async fn break_connections(&self) -> bool {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'linkspan%'";
        self.db.query(cut).await;
        true
    }
    fn declared_losses(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("text_nul", "PostgreSQL text cannot hold a NUL: refused with its place, or recorded"),
            ("timestamp_ns", "PostgreSQL keeps microseconds: finer digits are refused with their place, or recorded"),
        ]
    }
    fn bad_configs(&self) -> Vec<BadConfig> {
        let host = self.db.url.split_once('@').unwrap().1;
        vec![
            BadConfig::new(Case::WrongPassword, json!({ "url": format!("postgres://postgres:wrong@{host}") })),
            BadConfig::new(Case::Unreachable, json!({ "url": "postgres://postgres:x@127.0.0.1:1/db" })),
        ]
    }
}
