//! Where the printed calls are sent: a server of the test's own, and a database as the document names it.

use linkspan_testkit::{
    Table,
    servers::{self, Dialect, Postgres},
};
use serde_json::Value;

use crate::{
    hub::{Answer, Hub},
    program::{Place, Said, said},
};

/// A running server and its admin's key.
pub struct Stage {
    pub place: Place,
    pub hub: Hub,
    pub key: String,
}

impl Stage {
    pub fn new(environment: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let mut command = place.command(&["serve", "--port", "0", "--output", "json"]);
        let hub = Hub::started(command.envs(environment.iter().copied()));
        let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap().trim().to_owned();
        Self { place, hub, key }
    }
    pub fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        self.hub.call(method, path, &[("Authorization", &bearer), ("Content-Type", "application/json")], body)
    }
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let said = self.call("GET", path, "");
        assert_eq!(said.status, 200, "{path}: {said:?}");
        said.json()
    }
    /// A printed `curl` run by a shell, with what has to be put in: answers the status and the body.
    pub fn curl(&self, printed: &str, put_in: &[(&str, &str)]) -> Answer {
        let command = put_in.iter().fold(printed.to_owned(), |c, (old, new)| {
            assert!(c.contains(old), "`{old}` is not printed in {c}");
            c.replace(old, new)
        });
        let script = format!("curl() {{ command curl -sS -w '\\n%{{http_code}}' \"$@\"; }}\n{command}\n");
        let file = self.place.write("printed.sh", script);
        let ran = said(std::process::Command::new("bash").arg(file).env("TOKEN", &self.key)).succeeds();
        let (text, status) = ran.out.rsplit_once('\n').unwrap();
        Answer { status: status.parse().unwrap(), head: String::new(), text: text.to_owned() }
    }
    /// A printed command of another program, which is this program under its name.
    pub fn command(&self, program: &str, printed: &str, put_in: &[(&str, &str)]) -> Said {
        let command = put_in.iter().fold(printed.to_owned(), |c, (old, new)| {
            assert!(c.contains(old), "`{old}` is not printed in {c}");
            c.replace(old, new)
        });
        let link = self.place.path(program);
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_linkspan"), &link).unwrap();
        }
        let path = format!("{}:{}", self.place.path("").display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = self.place.command(&[]);
        let home = shell.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect::<Vec<_>>();
        shell = std::process::Command::new("bash");
        shell.args(["-c", &command]).current_dir(self.place.path(""));
        for (name, value) in home {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        // Whose server it is, says the sign-in; no data dir of one's own is near.
        said(shell.env("PATH", path).env_remove("LINKSPAN_DATA_DIR").env("LINKSPAN_SERVER", format!("http://{}", self.hub.address)))
    }
    /// Whether anything answers at a printed route.
    pub fn has(&self, route: &str) -> bool {
        let (method, path) = route.split_once(' ').unwrap();
        let filled: Vec<&str> = path.split('/').map(|part| if part.starts_with([':', '{']) { "nothing" } else { part }).collect();
        let said = self.call(method, &filled.join("/"), "");
        !(said.status == 405 || said.text.contains("there is no such route"))
    }
    /// The run of a connection, when it is over.
    #[track_caller]
    pub fn run(&self, connection: &str) -> Value {
        let begun = self.call("POST", &format!("/v1/connections/{connection}/run"), "");
        assert_eq!(begun.status, 202, "{begun:?}");
        let id = begun.json()["id"].as_str().unwrap().to_owned();
        let log = self.call("GET", &format!("/v1/runs/{id}/logs?follow=true"), "");
        assert_eq!(log.status, 200, "{log:?}");
        self.get(&format!("/v1/runs/{id}"))
    }
}

/// The PostgreSQL server with a database and a login as a document names them. One test at a time has them: the names are the server's.
pub struct Named {
    admin: String,
    database: &'static str,
    login: &'static str,
    /// The address that stands for the printed host and port.
    pub host: &'static str,
    pub port: String,
    _turn: tokio_postgres::Client,
}

impl Named {
    pub async fn postgres(database: &'static str, login: &'static str, password: &str, tables: &str) -> Option<Self> {
        let admin = servers::postgres_url()?;
        let (turn, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        turn.batch_execute("SELECT pg_advisory_lock(7007)").await.unwrap();
        let port = admin.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
        let named = Self { admin, database, login, host: "127.0.0.1", port, _turn: turn };
        for sql in named.clearing().into_iter().chain([
            format!("CREATE ROLE \"{login}\" LOGIN PASSWORD '{password}'"),
            format!("CREATE DATABASE \"{database}\" TEMPLATE template0"),
        ]) {
            Postgres.run(&named.admin, &sql).await.unwrap();
        }
        named.run(tables).await;
        Some(named)
    }
    /// The databases of all documents: a login cannot go while a test that broke has left one of them behind.
    fn clearing(&self) -> Vec<String> {
        let databases = ["analytics", "db", "products"].map(|name| format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"));
        databases.into_iter().chain([format!("DROP ROLE IF EXISTS \"{}\"", self.login)]).collect()
    }
    /// Statements of the superuser in the database.
    pub async fn run(&self, sql: &str) -> Table {
        let (server, _) = self.admin.rsplit_once('/').unwrap();
        Postgres.run(&format!("{server}/{}", self.database), sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
    /// How many sessions the login has now.
    pub async fn sessions(&self) -> usize {
        let sql = format!("SELECT 1 FROM pg_stat_activity WHERE usename = '{}'", self.login);
        Postgres.run(&self.admin, &sql).await.unwrap().rows.len()
    }
    pub async fn clear(self) {
        for sql in self.clearing() {
            Postgres.run(&self.admin, &sql).await.unwrap();
        }
    }
}

/// The rows that lie in a table of the lake, by this program itself.
pub fn in_the_lake(stage: &Stage, table: &str) -> Vec<Value> {
    let folder = stage.place.path("data/lake/default");
    let from = format!("parquet:{}", folder.display());
    let place = Place::new();
    place.run(&["sync", &from, "stdout:", "--stream", table]).succeeds().lines()
}
