//! The store as the house uses it: whoever gets the lock owns the data dir, everybody else asks the owner.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use linkspan_core::{ConnectionId, Context, Error, ErrorKind, Failpoints, Result, StreamName};
use uuid::Uuid;

use crate::{
    Claim, ConnectionRecord, Counts, Driver, LeaseKey, NewConnection, NewRun, PositionRecord, Rejects, Reply, Request, ResetOf, RunFilter,
    RunId, RunLog, RunLogRecord, RunRecord, SchemaRecord, Sqlite, data_dir::DataDir, lease::Keeper, listener::Listener, remote::Remote,
    run_log,
};

/// How a store behaves; the defaults are what the product uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a lease lives without renewal.
    pub lease: Duration,
    /// How long to look for an owner, or for the lock, before giving up.
    pub patience: Duration,
    /// The most that one run's log, or its rejects, may take.
    pub log_bytes: u64,
    /// Logs kept per connection.
    pub keep_logs: u32,
    pub keep_logs_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            patience: Duration::from_secs(20),
            log_bytes: 10 << 20,
            keep_logs: 50,
            keep_logs_for: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// Whether this process owns the data dir or asks the one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    Remote,
}

/// What is remembered in one data dir. Cheap to clone. Works within the tokio runtime it was opened in.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    dir: DataDir,
    ctx: Context,
    options: Options,
    keeper: Arc<Keeper>,
    backing: Mutex<Backing>,
    /// One task at a time looks for the next owner.
    moving: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
enum Backing {
    Owner(Arc<Owner>),
    Remote(Arc<Remote>),
    Closed,
}

/// Dropped in this order: the ear first, then the database with the lock.
struct Owner {
    listener: Mutex<Option<Listener>>,
    driver: Arc<dyn Driver>,
}

impl Store {
    /// Opens the data dir, making it when it is not there: as its owner, or through the owner's socket.
    pub async fn open(dir: &Path, ctx: &Context) -> Result<Self> {
        Self::open_with(dir, ctx, Options::default()).await
    }
    pub async fn open_with(dir: &Path, ctx: &Context, options: Options) -> Result<Self> {
        let dir = DataDir::make(dir)?;
        let backing = settle(&dir, ctx, options.patience).await?;
        let keeper = Keeper::new(options.lease);
        let inner = Inner { dir, ctx: ctx.clone(), options, keeper, backing: Mutex::new(backing), moving: tokio::sync::Mutex::default() };
        Ok(Self(Arc::new(inner)))
    }
    /// Answers what was asked, then lets go of the data dir: when this returns, another process may own it.
    pub async fn close(&self) {
        let backing = std::mem::replace(&mut *self.0.backing.lock().expect("no panic while held"), Backing::Closed);
        if let Backing::Owner(owner) = backing {
            owner.listener.lock().expect("no panic while held").take();
            owner.driver.close().await;
        }
    }
    pub fn role(&self) -> Option<Role> {
        match &*self.0.backing.lock().expect("no panic while held") {
            Backing::Owner(_) => Some(Role::Owner),
            Backing::Remote(_) => Some(Role::Remote),
            Backing::Closed => None,
        }
    }
    pub fn dir(&self) -> &Path {
        self.0.dir.root()
    }
    /// What the writer did since this process became the owner; nothing for a remote.
    pub fn counts(&self) -> Counts {
        match &*self.0.backing.lock().expect("no panic while held") {
            Backing::Owner(owner) => owner.driver.counts(),
            _ => Counts::default(),
        }
    }
    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.0.keeper
    }
    pub(crate) fn failpoints(&self) -> &Failpoints {
        &self.0.ctx.failpoints
    }
    /// Any request, for faces that speak them as data.
    pub async fn ask(&self, request: Request) -> Result<Reply> {
        self.0.ask(request).await
    }
}

/// Connections.
impl Store {
    /// Found by its id or name and brought up to date, else made. `Conflict` when name and id belong to different connections.
    pub async fn connection(&self, new: NewConnection) -> Result<ConnectionRecord> {
        match self.ask(Request::PutConnection { new, drawn: Uuid::now_v7() }).await? {
            Reply::Connection(record) => Ok(record),
            _ => Err(unexpected()),
        }
    }
    /// All, by name.
    pub async fn connections(&self) -> Result<Vec<ConnectionRecord>> {
        self.connections_after(None, u32::MAX).await
    }
    /// A page of connections by name, after the last name of the page before.
    pub async fn connections_after(&self, after: Option<&str>, limit: u32) -> Result<Vec<ConnectionRecord>> {
        match self.ask(Request::Connections { after: after.map(str::to_owned), limit: Some(limit) }).await? {
            Reply::Connections(all) => Ok(all),
            _ => Err(unexpected()),
        }
    }
    pub async fn find(&self, name: &str) -> Result<Option<ConnectionRecord>> {
        match self.ask(Request::FindConnection { name: name.to_owned() }).await? {
            Reply::Connections(found) => Ok(found.into_iter().next()),
            _ => Err(unexpected()),
        }
    }
    pub async fn get(&self, connection: ConnectionId) -> Result<ConnectionRecord> {
        match self.ask(Request::GetConnection { connection }).await? {
            Reply::Connection(record) => Ok(record),
            _ => Err(unexpected()),
        }
    }
    /// Forgets a connection with its runs, positions, schemas and logs. Rows in destinations stay. `Conflict` while a run is going.
    pub async fn delete_connection(&self, connection: ConnectionId) -> Result<()> {
        let logs = self.old_logs(connection, 0, Duration::ZERO).await?;
        self.ask(Request::DeleteConnection { connection }).await?;
        self.remove_files(&logs)?;
        std::fs::remove_dir_all(self.0.dir.logs(connection)).ok();
        Ok(())
    }
}

/// Runs.
impl Store {
    /// The right to run the connection; `Conflict` while another process has it. A run whose process is gone, or whose lease
    /// ran out, is marked as failed and its place taken.
    pub async fn claim(&self, connection: ConnectionId, new: NewRun) -> Result<Claim> {
        let run = RunId(Uuid::now_v7());
        let ttl_ms = u64::try_from(self.0.options.lease.as_millis()).unwrap_or(u64::MAX);
        let sent = Instant::now();
        let reply = self.ask(Request::Claim { connection, run, new, ttl_ms }).await?;
        let Reply::Claimed { fence, started_at_ms } = reply else { return Err(unexpected()) };
        let lost = self.0.keeper.keep(run, sent, &self.0);
        let claim = Claim::new(self.clone(), LeaseKey { connection, run, fence }, started_at_ms, lost);
        self.failpoints().hit("store.claim.after").await?;
        Ok(claim)
    }
    /// Newest first.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        match self.ask(Request::Runs { filter }).await? {
            Reply::Runs(runs) => Ok(runs),
            _ => Err(unexpected()),
        }
    }
    pub async fn run(&self, run: RunId) -> Result<RunRecord> {
        match self.ask(Request::GetRun { run }).await? {
            Reply::Runs(found) => found
                .into_iter()
                .next()
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "no such run").with("run", run).fix("list the runs of the connection")),
            _ => Err(unexpected()),
        }
    }
    pub async fn positions(&self, connection: ConnectionId) -> Result<Vec<PositionRecord>> {
        match self.ask(Request::Positions { connection }).await? {
            Reply::Positions(all) => Ok(all),
            _ => Err(unexpected()),
        }
    }
    /// Forgets positions and draws new generations, so that the next run reads from the start and what destinations recall of
    /// older generations is ignored. Rows stay. `Conflict` while a run is going.
    pub async fn reset(&self, connection: ConnectionId, of: ResetOf) -> Result<()> {
        self.ask(Request::Reset { connection, of, id: Uuid::now_v7() }).await.map(drop)
    }
    /// Every schema that the stream had, the first one first.
    pub async fn schema_history(&self, connection: ConnectionId, stream: &StreamName) -> Result<Vec<SchemaRecord>> {
        match self.ask(Request::SchemaHistory { connection, stream: stream.clone() }).await? {
            Reply::Schemas(all) => Ok(all),
            _ => Err(unexpected()),
        }
    }
}

/// Files of runs. They are written by the process that runs, beside the database.
impl Store {
    /// The run's log, made when first asked for.
    pub fn run_log(&self, claim: &Claim) -> Result<RunLog> {
        if let Some(log) = claim.logs().log.get() {
            return Ok(log.clone());
        }
        let path = self.0.dir.log(claim.connection(), claim.run_id());
        let log = RunLog::create(path, self.0.options.log_bytes, self.0.ctx.clock.clone())?;
        Ok(claim.logs().log.get_or_init(|| log).clone())
    }
    /// Where the run writes down what could not travel as it was. Made when first asked for.
    pub fn rejects(&self, claim: &Claim) -> Result<Rejects> {
        if let Some(rejects) = claim.logs().rejects.get() {
            return Ok(rejects.clone());
        }
        let rejects = Rejects::create(self.0.dir.rejects(claim.run_id()), self.0.options.log_bytes)?;
        Ok(claim.logs().rejects.get_or_init(|| rejects).clone())
    }
    /// What is known of a run's files; nothing while it runs, or when it wrote none.
    pub async fn run_log_record(&self, run: RunId) -> Result<Option<RunLogRecord>> {
        match self.ask(Request::GetRunLog { run }).await? {
            Reply::RunLogs(found) => Ok(found.into_iter().next()),
            _ => Err(unexpected()),
        }
    }
    pub fn run_log_path(&self, connection: ConnectionId, run: RunId) -> PathBuf {
        self.0.dir.log(connection, run)
    }
    pub fn rejects_path(&self, run: RunId) -> PathBuf {
        self.0.dir.rejects(run)
    }
    /// Removes the files of runs beyond the newest ones that are kept, then their rows.
    pub(crate) async fn prune_logs(&self, connection: ConnectionId) -> Result<()> {
        let old = self.old_logs(connection, self.0.options.keep_logs, self.0.options.keep_logs_for).await?;
        if old.is_empty() {
            return Ok(());
        }
        self.remove_files(&old)?;
        self.ask(Request::ForgetRunLogs { runs: old.iter().map(|log| log.run).collect() }).await.map(drop)
    }
    async fn old_logs(&self, connection: ConnectionId, keep: u32, max_age: Duration) -> Result<Vec<RunLogRecord>> {
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        match self.ask(Request::OldRunLogs { connection, keep, max_age_ms }).await? {
            Reply::RunLogs(old) => Ok(old),
            _ => Err(unexpected()),
        }
    }
    fn remove_files(&self, logs: &[RunLogRecord]) -> Result<()> {
        for log in logs {
            run_log::remove(&self.0.dir.log(log.connection, log.run))?;
            run_log::remove(&self.0.dir.rejects(log.run))?;
        }
        Ok(())
    }
}

impl Inner {
    /// Asks the owner, whoever it is by now. Every request may be asked twice, so one that was under way when the owner died is
    /// simply asked again.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply> {
        loop {
            let backing = self.backing.lock().expect("no panic while held").clone();
            match backing {
                Backing::Owner(owner) => return owner.driver.ask(request).await,
                Backing::Closed => return Err(Error::new(ErrorKind::Canceled, "the store is closed")),
                Backing::Remote(remote) => match remote.ask(request.clone()).await {
                    Ok(reply) => return reply,
                    Err(crate::remote::Gone) => self.move_on(&remote).await?,
                },
            }
        }
    }
    /// The owner went away: takes its place, or finds who did.
    async fn move_on(&self, gone: &Arc<Remote>) -> Result<()> {
        let _one = self.moving.lock().await;
        let still = matches!(&*self.backing.lock().expect("no panic while held"), Backing::Remote(r) if Arc::ptr_eq(r, gone));
        if !still {
            return Ok(());
        }
        let next = settle(&self.dir, &self.ctx, self.options.patience).await?;
        let mut backing = self.backing.lock().expect("no panic while held");
        if !matches!(&*backing, Backing::Closed) {
            *backing = next;
        }
        Ok(())
    }
}

/// Owner or remote, whichever comes first.
async fn settle(dir: &DataDir, ctx: &Context, patience: Duration) -> Result<Backing> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(lock) = dir.try_own()? {
            return own(dir, ctx, lock).await;
        }
        if let Some(remote) = Remote::connect(dir).await? {
            return Ok(Backing::Remote(Arc::new(remote)));
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Unavailable, "another process owns the data dir but does not listen")
                .with("owner", dir.owner())
                .with("path", dir.root().display())
                .fix("wait for that process to start or end, or choose another data dir"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

async fn own(dir: &DataDir, ctx: &Context, lock: crate::data_dir::OwnerLock) -> Result<Backing> {
    let (path, context) = (dir.database(), ctx.clone());
    let open = tokio::task::spawn_blocking(move || Sqlite::open(&path, &context, lock));
    let sqlite = open.await.map_err(|e| Error::new(ErrorKind::Internal, "the store could not be opened").because(e))??;
    let driver: Arc<dyn Driver> = Arc::new(sqlite);
    let listener = Listener::start(dir, driver.clone())?;
    Ok(Backing::Owner(Arc::new(Owner { listener: Mutex::new(Some(listener)), driver })))
}

pub(crate) fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the store gave another kind of answer than was asked for")
}
