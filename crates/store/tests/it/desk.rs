//! A store on a data dir of its own, opened the way a test wants it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use linkspan_core::{Clock, Commit, Context, Scope, State, StreamName, SystemClock};
use linkspan_store::{Claim, ConnectionRecord, NewConnection, NewRun, Options, Role, RunResult, RunStatus, Store};
use serde_json::{Value, json};

/// A data dir, and how a test comes to it.
pub struct Desk {
    dir: tempfile::TempDir,
    role: Role,
}

/// A store that a test asks; the owner behind it lives as long.
pub struct Seat {
    pub store: Store,
    pub owner: Store,
    pub clock: Arc<Shifted>,
}

impl Desk {
    pub fn owner() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), role: Role::Owner }
    }
    pub fn remote() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), role: Role::Remote }
    }
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    pub async fn open(&self) -> Seat {
        self.open_with(Options::default()).await
    }
    pub async fn open_with(&self, options: Options) -> Seat {
        let clock = Arc::new(Shifted::default());
        let ctx = Context { clock: clock.clone(), ..Context::real() };
        let owner = Store::open_with(self.path(), &ctx, options.clone()).await.unwrap();
        assert_eq!(owner.role(), Some(Role::Owner));
        let store = match self.role {
            Role::Owner => owner.clone(),
            Role::Remote => Store::open_with(self.path(), &ctx, options).await.unwrap(),
        };
        assert_eq!(store.role(), Some(self.role));
        Seat { store, owner, clock }
    }
}

/// The machine's clock, set forward by a test.
#[derive(Default)]
pub struct Shifted(AtomicI64);

impl Shifted {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Shifted {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now() + jiff::SignedDuration::from_millis(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

pub fn named(name: &str) -> NewConnection {
    NewConnection { name: name.into(), id: None, from: "a:".into(), to: "b:".into(), spec: json!({"n": name}) }
}

pub fn sync() -> NewRun {
    NewRun::new("sync", json!({"mode": "full"}))
}

pub fn succeeded() -> RunResult {
    RunResult { status: RunStatus::Completed, stats: json!({"rows": 1}), error: None }
}

pub async fn claimed(store: &Store, name: &str) -> (ConnectionRecord, Claim) {
    let connection = store.connection(named(name)).await.unwrap();
    let claim = store.claim(connection.id, sync()).await.unwrap();
    (connection, claim)
}

pub fn stream(name: &str) -> StreamName {
    StreamName::new(Some("public"), name)
}

pub fn scope(name: &str) -> Scope {
    Scope::Stream(stream(name))
}

pub fn commit(claim: &Claim, scope: Scope, generation: u64, number: u64, value: impl Into<Value>) -> Commit {
    Commit {
        connection: claim.connection(),
        scope,
        generation,
        fence: claim.fence(),
        previous: number - 1,
        number,
        state: State::new(1, value.into()),
    }
}
