//! The store as the house uses it: whoever gets the lock owns the data dir, everybody else asks the owner.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use linkspan_core::{ConnectionId, Context, Error, ErrorKind, Result, StreamName};
use uuid::Uuid;

use crate::{
    claim::Claim,
    data_dir::DataDir,
    driver::Counts,
    lease::Keeper,
    link::{Link, Options, Role, unexpected},
    logs,
    record::{
        ConnectionRecord, NewConnection, NewRun, PositionRecord, Queued, ResetOf, RunCounts, RunFilter, RunId, RunLogRecord, RunRecord,
        SchemaRecord, WaitingRun,
    },
    request::{Reply, Request},
    run_log::{Rejects, RunLog},
};

/// What is remembered in one data dir. Cheap to clone. Works within the tokio runtime it was opened in.
#[derive(Clone)]
pub struct Store {
    link: Arc<Link>,
    keeper: Arc<Keeper>,
}

impl Store {
    /// Whether there is a store at the data dir; nothing is made or opened.
    pub fn stands(dir: &Path) -> bool {
        dir.join(crate::data_dir::DATABASE).exists()
    }
    /// Opens the data dir, making it when it is not there: as its owner, or through the owner's socket.
    pub async fn open(dir: &Path, ctx: &Context) -> Result<Self> {
        Self::open_with(dir, ctx, Options::default()).await
    }
    pub async fn open_with(dir: &Path, ctx: &Context, options: Options) -> Result<Self> {
        let link = Arc::new(Link::open(DataDir::make(dir)?, ctx, options).await?);
        let keeper = Keeper::new(&link);
        Ok(Self { link, keeper })
    }
    /// Answers what was asked, then lets go of the data dir: when this returns, another process may own it.
    pub async fn close(&self) {
        self.link.close().await;
    }
    /// Nothing once it is closed.
    pub fn role(&self) -> Option<Role> {
        self.link.role()
    }
    pub fn dir(&self) -> &Path {
        self.link.dir.root()
    }
    /// What the writer did since this process became the owner; nothing for a remote.
    pub fn counts(&self) -> Counts {
        self.link.counts()
    }
    /// Any request, for faces that speak them as data.
    pub async fn ask(&self, request: Request) -> Result<Reply> {
        self.link.ask(request).await
    }
}

/// Logs and rejects of a connection's runs.
pub struct FilesOfRuns(ConnectionId, Vec<RunLogRecord>);

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
        let files = self.files_of(connection).await?;
        self.ask(Request::DeleteConnection { connection }).await?;
        self.remove_files(files)
    }
    /// The files of the connection's runs, for who forgets it in a change of their own and removes them afterwards.
    pub async fn files_of(&self, connection: ConnectionId) -> Result<FilesOfRuns> {
        Ok(FilesOfRuns(connection, logs::old(&self.link, connection, 0, Duration::ZERO).await?))
    }
    pub fn remove_files(&self, files: FilesOfRuns) -> Result<()> {
        logs::remove(&self.link, &files.1)?;
        std::fs::remove_dir_all(self.link.dir.logs(files.0)).ok();
        Ok(())
    }
}

/// Runs.
impl Store {
    /// The right to run the connection; `Conflict` while another process has it. A run whose process is gone, or whose lease
    /// ran out, is marked as failed and its place taken.
    pub async fn claim(&self, connection: ConnectionId, new: NewRun) -> Result<Claim> {
        Claim::take(&self.link, &self.keeper, connection, RunId(Uuid::now_v7()), new).await
    }
    /// The same for a run that waits: it goes under its own id. `Conflict` when it was cancelled meanwhile.
    pub async fn claim_waiting(&self, waiting: &RunRecord) -> Result<Claim> {
        let new = NewRun::new(waiting.kind.clone(), waiting.spec.clone()).project(waiting.project.clone());
        Claim::take(&self.link, &self.keeper, waiting.connection, waiting.id, new).await
    }
    /// Lets runs wait for their turn; one answer for each.
    pub async fn queue(&self, runs: Vec<WaitingRun>) -> Result<Vec<Queued>> {
        match self.ask(Request::QueueRuns { runs }).await? {
            Reply::Queued(answers) => Ok(answers),
            _ => Err(unexpected()),
        }
    }
    /// Runs that wait, the one that may start first before the others.
    pub async fn waiting(&self, limit: u32) -> Result<Vec<RunRecord>> {
        self.some_runs(Request::WaitingRuns { limit }).await
    }
    /// Ends a run that waits; any other is left as it is. Answers the run.
    pub async fn cancel_waiting(&self, run: RunId) -> Result<RunRecord> {
        self.some_runs(Request::CancelWaiting { run }).await?.into_iter().next().ok_or_else(|| no_run(run))
    }
    /// Takes the leases of processes that are gone or silent. A run that came from the queue waits again while it has attempts;
    /// the others failed. Answers those runs as they are now.
    pub async fn sweep(&self) -> Result<Vec<RunRecord>> {
        self.some_runs(Request::Sweep).await
    }
    /// How many runs wait and go, in every project.
    pub async fn count_runs(&self) -> Result<RunCounts> {
        match self.ask(Request::CountRuns).await? {
            Reply::RunCounts(counts) => Ok(counts),
            _ => Err(unexpected()),
        }
    }
    /// The latest tick that each connection had a run for, in milliseconds since 1970.
    pub async fn last_ticks(&self) -> Result<Vec<(ConnectionId, i64)>> {
        match self.ask(Request::LastTicks).await? {
            Reply::Ticks(ticks) => Ok(ticks),
            _ => Err(unexpected()),
        }
    }
    async fn some_runs(&self, request: Request) -> Result<Vec<RunRecord>> {
        match self.ask(request).await? {
            Reply::Runs(runs) => Ok(runs),
            _ => Err(unexpected()),
        }
    }
    /// Newest first.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.some_runs(Request::Runs { filter }).await
    }
    pub async fn run(&self, run: RunId) -> Result<RunRecord> {
        self.some_runs(Request::GetRun { run }).await?.into_iter().next().ok_or_else(|| no_run(run))
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

fn no_run(run: RunId) -> Error {
    Error::new(ErrorKind::NotFound, "no such run").with("run", run).fix("list the runs of the connection")
}

/// Files of runs. They are written by the process that runs, beside the database.
impl Store {
    /// The run's log, made when first asked for.
    pub fn run_log(&self, claim: &Claim) -> Result<RunLog> {
        claim.log()
    }
    /// Where the run writes down what could not travel as it was. Made when first asked for.
    pub fn rejects(&self, claim: &Claim) -> Result<Rejects> {
        claim.rejects()
    }
    /// What is known of a run's files; nothing while it runs, or when it wrote none.
    pub async fn run_log_record(&self, run: RunId) -> Result<Option<RunLogRecord>> {
        match self.ask(Request::GetRunLog { run }).await? {
            Reply::RunLogs(found) => Ok(found.into_iter().next()),
            _ => Err(unexpected()),
        }
    }
    pub fn run_log_path(&self, connection: ConnectionId, run: RunId) -> PathBuf {
        self.link.dir.log(connection, run)
    }
    pub fn rejects_path(&self, run: RunId) -> PathBuf {
        self.link.dir.rejects(run)
    }
}
