//! Real servers for tests: their addresses, what happens without them, and a database of one's own.

use async_trait::async_trait;
use tokio_postgres::NoTls;

use crate::Table;

/// The value of a server's variable. Without it the test is skipped with a line, or fails where servers are required (`CI`).
pub fn required(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ if std::env::var_os("CI").is_some() || std::env::var_os("LINKSPAN_TEST_REQUIRE_SERVERS").is_some() => {
            panic!("{variable} is not set, and this run requires every server: start them with ./services.sh or run ./test")
        }
        _ => {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test").to_owned();
            println!("skipped: {test} needs {variable}");
            crate::trial::log("skipped", &format!("{test} needs {variable}"));
            None
        }
    }
}

/// A folder of the material that may lie beside the repository (`LINKSPAN_SHARED`). Without it the test says what it left out and is
/// counted as skipped, also in CI: the material is not part of the repository.
pub fn shared(folder: &str) -> Option<std::path::PathBuf> {
    let named = std::env::var_os("LINKSPAN_SHARED").map(std::path::PathBuf::from);
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let found = named.into_iter().chain([beside]).map(|shared| shared.join(folder)).find(|f| f.is_dir());
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        println!("skipped: {test} needs the folder `{folder}` of LINKSPAN_SHARED");
        crate::trial::log("skipped", &format!("{test} needs the folder {folder} of LINKSPAN_SHARED"));
    }
    found
}

/// A superuser's URL of the PostgreSQL test server.
pub fn postgres_url() -> Option<String> {
    required("LINKSPAN_TEST_POSTGRES_URL")
}

/// The certificate authority of the PostgreSQL test server, a PEM file.
pub fn postgres_ca() -> Option<String> {
    required("LINKSPAN_TEST_POSTGRES_CA")
}

/// An S3 server that checks signatures.
#[derive(Clone, Debug)]
pub struct S3 {
    pub url: String,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: String,
}

pub fn s3() -> Option<S3> {
    Some(S3 {
        url: required("LINKSPAN_TEST_S3_URL")?,
        access_key: required("LINKSPAN_TEST_S3_ACCESS_KEY")?,
        secret_key: required("LINKSPAN_TEST_S3_SECRET_KEY")?,
        bucket: required("LINKSPAN_TEST_S3_BUCKET")?,
    })
}

/// A Python with pyarrow and duckdb, for reading back with somebody else's program.
pub fn python() -> Option<String> {
    required("LINKSPAN_TEST_PYTHON")
}

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

/// How tests speak to one kind of server.
#[async_trait]
pub trait Dialect: Clone + Send + Sync + 'static {
    /// Runs statements in the URL's database and answers the rows of the last, as text: NULL as `None`, bytes in lower-case hex.
    async fn run(&self, url: &str, sql: &str) -> Result<Table, String>;
    fn create_database(&self, name: &str) -> String;
    fn drop_database(&self, name: &str) -> String;
}

/// PostgreSQL, spoken to by a driver of its own.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

#[async_trait]
impl Dialect for Postgres {
    async fn run(&self, url: &str, sql: &str) -> Result<Table, String> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|e| format!("{e:?}"))?;
        let serve = tokio::spawn(connection);
        let messages = client.simple_query(sql).await.map_err(|e| format!("{e:?}"));
        serve.abort();
        let mut table = Table::default();
        for message in messages? {
            match message {
                tokio_postgres::SimpleQueryMessage::RowDescription(columns) => {
                    table = Table::new(columns.iter().map(|c| c.name()));
                }
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    table.rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        Ok(table)
    }
    fn create_database(&self, name: &str) -> String {
        format!("CREATE DATABASE \"{name}\" TEMPLATE template0")
    }
    fn drop_database(&self, name: &str) -> String {
        format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")
    }
}

/// A database of one test's own; dropped with it.
pub struct TestDatabase<D: Dialect = Postgres> {
    dialect: D,
    admin: String,
    pub name: String,
    /// The URL of this database for the superuser.
    pub url: String,
}

impl TestDatabase {
    /// Makes a PostgreSQL database, or answers `None` after a line when there is no server (and none is required).
    pub async fn create() -> Option<Self> {
        Some(Self::create_on(Postgres, postgres_url()?).await)
    }
    /// A client of this database.
    pub async fn client(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }
}

impl<D: Dialect> TestDatabase<D> {
    /// Makes a database on the server of a superuser's URL.
    pub async fn create_on(dialect: D, admin: String) -> Self {
        let name = unique("ls_test");
        run(&dialect, &admin, &dialect.create_database(&name)).await;
        Self { url: with_database(&admin, &name), dialect, admin, name }
    }
    /// Runs statements without an answer.
    pub async fn execute(&self, sql: &str) {
        run(&self.dialect, &self.url, sql).await;
    }
    /// The answer as text.
    pub async fn query(&self, sql: &str) -> Table {
        run(&self.dialect, &self.url, sql).await
    }
    /// The answer of the superuser, who is in another database.
    pub async fn query_as_admin(&self, sql: &str) -> Table {
        run(&self.dialect, &self.admin, sql).await
    }
}

impl<D: Dialect> Drop for TestDatabase<D> {
    fn drop(&mut self) {
        let (dialect, admin, name) = (self.dialect.clone(), self.admin.clone(), self.name.clone());
        // A thread of its own: a drop may be on a runtime's thread, where blocking on another runtime panics.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { dialect.run(&admin, &dialect.drop_database(&name)).await.map_err(std::io::Error::other) })
        });
        dropped.join().ok();
    }
}

async fn run(dialect: &impl Dialect, url: &str, sql: &str) -> Table {
    dialect.run(url, sql).await.unwrap_or_else(|e| panic!("{}: {e}", sql.chars().take(500).collect::<String>()))
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|e| panic!("the PostgreSQL test server cannot be reached: {e:?}"));
    tokio::spawn(connection);
    client
}

/// The same server, another database.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(b, q)| (b, format!("?{q}")));
    let host = base.find("://").map_or(0, |at| at + 3);
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    format!("{}/{database}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_the_rest_of_the_url() {
        assert_eq!(with_database("postgres://u:p@h:1/a?sslmode=require", "b"), "postgres://u:p@h:1/b?sslmode=require");
        assert_eq!(with_database("postgres://h", "b"), "postgres://h/b");
    }

    #[tokio::test]
    async fn a_test_database_is_gone_with_its_owner() {
        let Some(database) = TestDatabase::create().await else { return };
        database.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (NULL)").await;
        assert_eq!(database.query("SELECT a FROM t ORDER BY a").await.rows, [[Some("1".to_owned())].to_vec(), vec![None]]);
        let (admin, name) = (database.admin.clone(), database.name.clone());
        drop(database);
        let left = connect(&admin).await.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await.unwrap();
        assert!(left.is_empty());
    }
}
