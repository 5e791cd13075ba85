//! What the tests of MySQL and MariaDB need of a server: a database of their own, statements, and both families at once. The tests
//! of the whole program take it in, too.

use std::collections::BTreeSet;

use async_trait::async_trait;
use linkspan_connectors::mysql::{MysqlConfig, Statements};
use linkspan_core::Context;
use linkspan_testkit::{
    Table,
    servers::{Dialect, TestDatabase, required},
};
use serde_json::json;

/// MySQL's own words. Statements are separated by a semicolon at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Mysql,
    Mariadb,
}

pub(crate) type Database = TestDatabase<Family>;

#[async_trait]
impl Dialect for Family {
    async fn run(&self, url: &str, sql: &str) -> Result<Table, String> {
        let config: MysqlConfig = serde_json::from_value(json!({ "url": url })).map_err(|e| e.to_string())?;
        let mut session = Statements::open(&config, Context::real()).await.map_err(|e| format!("{e:?}"))?;
        let mut table = Table::default();
        for statement in sql.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            let answer = session.run(statement).await.map_err(|e| format!("{statement}: {e:?}"))?;
            table = Table { columns: answer.columns, rows: answer.rows };
        }
        session.close().await;
        Ok(table)
    }
    fn create_database(&self, name: &str) -> String {
        format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    }
    fn drop_database(&self, name: &str) -> String {
        format!("DROP DATABASE IF EXISTS `{name}`")
    }
}

impl Family {
    pub async fn database(self) -> Option<Database> {
        let url = match self {
            Self::Mysql => required("LINKSPAN_TEST_MYSQL_URL")?,
            Self::Mariadb => required("LINKSPAN_TEST_MARIADB_URL")?,
        };
        Some(TestDatabase::create_on(self, url).await)
    }
}

/// The sessions in a database, by the server's own numbers. The server refuses to show the list while somebody's statement holds bytes
/// that are no text: then it is asked again.
pub(crate) async fn sessions(family: Family, database: &Database) -> BTreeSet<String> {
    let elsewhere = database.url.replace(&database.name, "mysql");
    let sql = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}'", database.name);
    loop {
        match family.run(&elsewhere, &sql).await {
            Ok(table) => return table.rows.into_iter().map(|row| row[0].clone().unwrap()).collect(),
            Err(e) => assert!(e.contains("code=3854"), "{e}"),
        }
    }
}

/// A database on each of the servers that are there.
pub(crate) async fn databases() -> Vec<(Family, Database)> {
    let mut found = Vec::new();
    for family in [Family::Mysql, Family::Mariadb] {
        if let Some(database) = family.database().await {
            found.push((family, database));
        }
    }
    found
}
