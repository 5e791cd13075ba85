//! An app with real connectors, and a way to wait for what its runs do.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use linkspan_app::{CallContext, Operation, Reply, Settings, operations, registry::Registry, runs};
use linkspan_core::{Error, Result};
use serde_json::{Value, json};

use crate::rig::{Rig, Shifted, open};

pub struct Plant {
    pub rig: Rig,
    table: Vec<Operation>,
}

pub fn registry() -> Registry {
    Registry::of([linkspan_connectors::all(), linkspan_lake_files::all()].concat())
}

impl Plant {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }
    /// Runs are carried out, and schedules tick.
    pub async fn with(settings: Settings) -> Self {
        let plant = Self { rig: Rig::with(registry(), settings).await, table: operations() };
        runs::start(&plant.rig.app, runs::Schedules::On).await.unwrap();
        plant
    }
    /// The same data dir in another process, as far as the store can tell.
    pub async fn reopened(self, settings: Settings) -> Self {
        self.rig.app.store.close().await;
        let clock = Arc::new(Shifted::default());
        let app = open(self.rig.dir.path(), clock.clone(), registry(), settings).await.unwrap();
        runs::start(&app, runs::Schedules::On).await.unwrap();
        Self { rig: self.rig.on(app, clock), table: self.table }
    }
    /// The same plant on another app.
    pub fn on(self, app: Arc<linkspan_app::App>, clock: Arc<Shifted>) -> Self {
        Self { rig: self.rig.on(app, clock), table: self.table }
    }
    pub async fn call(&self, context: &CallContext, name: &str, input: Value) -> Result<Reply> {
        let operation = self.table.iter().find(|o| o.name == name).unwrap_or_else(|| panic!("no operation {name}"));
        operation.call(self.rig.app.clone(), context.clone(), input).await
    }
    pub async fn local(&self, name: &str, input: Value) -> Value {
        self.call(&CallContext::local(), name, input).await.unwrap_or_else(|e| panic!("{name}: {e:?}")).body
    }
    pub async fn refused(&self, name: &str, input: Value) -> Error {
        self.call(&CallContext::local(), name, input).await.expect_err(name)
    }
    /// The lines of a run's log until it is over.
    pub async fn log(&self, run: &str) -> Vec<Value> {
        let logs = self.table.iter().find(|o| o.name == "runs.logs").unwrap();
        let lines = logs.watch(self.rig.app.clone(), CallContext::local(), json!({"run": run, "follow": true})).await.unwrap();
        lines.map(|l| l.unwrap()).collect().await
    }
    /// Starts a run of the connection and waits until it is over.
    pub async fn run(&self, connection: &str) -> Value {
        let run = self.local("connections.run", json!({"connection": connection})).await;
        self.over(run["id"].as_str().unwrap()).await
    }
    pub async fn over(&self, run: &str) -> Value {
        self.log(run).await;
        self.local("runs.show", json!({"run": run})).await
    }
    /// Asks until the run looks as wanted.
    pub async fn until(&self, run: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..600 {
            let shown = self.local("runs.show", json!({"run": run})).await;
            if wanted(&shown) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {}", self.local("runs.show", json!({"run": run})).await);
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.rig.dir.path().join(name)
    }
    pub fn sqlite(&self, name: &str) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path(name)).unwrap()
    }
    pub fn count(&self, name: &str, table: &str) -> u64 {
        self.sqlite(name).query_row(&format!("select count(*) from {table}"), [], |r| r.get::<_, i64>(0)).unwrap() as u64
    }
    pub async fn connector(&self, name: &str, kind: &str, config: Value) {
        self.local("connectors.create", json!({"name": name, "type": kind, "config": config})).await;
    }
    /// How many rows there are: none of them twice.
    pub fn distinct(&self, name: &str, table: &str) -> u64 {
        let (all, distinct): (i64, i64) = self
            .sqlite(name)
            .query_row(&format!("select count(*), count(distinct id) from {table}"), [], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap();
        assert_eq!(all, distinct, "a row is there twice");
        all as u64
    }
    /// A SQLite source `shop` with `orders` (id, note, updated_at), and a SQLite destination `copy`.
    pub async fn shop(&self, rows: u32) {
        let db = self.sqlite("shop.db");
        db.execute_batch("create table orders (id integer primary key, note text, updated_at text not null)").unwrap();
        self.orders(1..=rows);
        self.connector("shop", "sqlite", json!({"path": self.path("shop.db")})).await;
        self.connector("copy", "sqlite", json!({"path": self.path("copy.db")})).await;
    }
    pub fn orders(&self, ids: std::ops::RangeInclusive<u32>) {
        let mut db = self.sqlite("shop.db");
        let tx = db.transaction().unwrap();
        for id in ids {
            let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", id / 3600, id / 60 % 60, id % 60);
            tx.execute("insert into orders values (?1, ?2, ?3)", (id, format!("note {id}"), at)).unwrap();
        }
        tx.commit().unwrap();
    }
}
