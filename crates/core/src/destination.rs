//! What a destination promises: sessions whose commits show all of a lane's rows and its position, or none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow_schema::{Field, FieldRef, SchemaRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Batch, Changes, ConnectionId, Result, Scope, State, StreamName};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    Append,
    Replace,
    Merge,
}

/// How much of a lane one commit shows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Atomic {
    /// Rows may be seen before their position; a crash may repeat rows, never lose them.
    None,
    /// Rows of one stream and its position together.
    Stream,
    /// Rows of all streams of the lane and the position together.
    Session,
}

/// What a destination can do; read by the engine, the plan and the suites.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    pub modes: Vec<WriteMode>,
    pub atomic: Atomic,
    /// DDL can be in the transaction of the rows.
    pub transactional_ddl: bool,
    /// A commit's files become visible together, or one after the other.
    pub commit_visible: Visible,
    /// Whether a stale run's commit is refused by the destination itself.
    pub fences: bool,
    pub add_column: bool,
    pub widen_column: bool,
    pub drop_not_null: bool,
    /// A number's own column holds NaN and the infinities: the sibling that says so (`ls.special_of`) is no column here.
    pub specials: bool,
    /// `_ls_op = 'd'` removes the row of that key (merge).
    pub deletes: bool,
    /// Several lanes of one stream may be open at once.
    pub parallel: bool,
    /// When a commit pays off here.
    pub advice: Cadence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Visible {
    Atomic,
    Rolling,
}

/// Commit when any of these is reached at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cadence {
    pub rows: u64,
    pub bytes: u64,
    pub age: Duration,
}

/// Where a stream's rows go: a table, a file, a folder, in the destination's own words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

impl From<&StreamName> for Target {
    fn from(s: &StreamName) -> Self {
        Self { namespace: s.namespace.clone(), name: s.name.clone() }
    }
}
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{ns}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What stands at a target now.
#[derive(Clone, Debug, PartialEq)]
pub struct TableShape {
    pub schema: SchemaRef,
    /// The key the destination enforces or merges by; empty when there is none.
    pub key: Vec<String>,
    /// Made by Linkspan for some connection, or somebody else's table that is in the way.
    pub ours: bool,
}

/// One lane's way into the destination.
#[derive(Clone, Debug)]
pub struct Load {
    pub connection: ConnectionId,
    /// Monotonic per connection; installed by `open` before anything else. A larger one there is `Conflict`.
    pub fence: u64,
    /// Whose commits this session counts.
    pub scope: Scope,
    /// The number of the last commit of this scope and generation that the engine knows of (0: none).
    pub previous: u64,
    pub streams: Vec<LoadStream>,
}

/// One stream of a load.
#[derive(Clone, Debug)]
pub struct LoadStream {
    pub stream: StreamName,
    pub target: Target,
    pub write: WriteMode,
    /// Which read of the stream this is. A replace stages under it; staging of older generations is dropped at `open`.
    pub generation: u64,
    /// Merge key; empty for append and replace of keyless streams.
    pub key: Vec<String>,
    pub swap: Swap,
}

/// How a replace becomes visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Swap {
    /// The staged table takes the old one's name.
    #[default]
    Rename,
    /// The old table is emptied and filled in one transaction: views and grants on it stay.
    Rewrite,
}

/// What the destination itself remembers of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recall {
    pub fence: u64,
    pub scopes: BTreeMap<Scope, Recalled>,
    /// The last published generation of each stream that was ever published.
    pub published: BTreeMap<StreamName, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recalled {
    pub generation: u64,
    pub number: u64,
    pub state: State,
}

/// One durable slice: its number within its scope and generation, and the position it reached.
/// `commit` is compare-and-set: the destination must stand at `previous`, else `Conflict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    pub connection: ConnectionId,
    pub scope: Scope,
    pub generation: u64,
    pub fence: u64,
    pub previous: u64,
    pub number: u64,
    /// The state that `scope` reached.
    pub state: State,
}

/// A change of a table's shape, in the order to apply.
#[derive(Clone, Debug, PartialEq)]
pub enum Alter {
    Create { schema: SchemaRef, key: Vec<String> },
    Add(FieldRef),
    Widen { from: FieldRef, to: FieldRef },
    DropNotNull(FieldRef),
}

/// How incoming rows become the table's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaPlan {
    pub ddl: Vec<Alter>,
    /// The schema in which the session's `write` receives rows from now on: names, types and order of the columns that are sent.
    /// Columns that the table has and the stream lacks are not in it; they stay null.
    pub schema: SchemaRef,
    /// What to do with a value that does not fit.
    pub misfit: Misfit,
}

impl SchemaPlan {
    /// The plan for rows that already fit.
    pub fn as_is(schema: SchemaRef) -> Self {
        Self { ddl: Vec::new(), schema, misfit: Misfit::Fail }
    }
}

/// What happens to a value that does not fit its column. Never a silent change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misfit {
    /// The stream stops before anything of the batch is committed.
    #[default]
    Fail,
    /// The value becomes null and a change is recorded.
    Null,
    /// The row is left out and recorded as rejected.
    Reject,
}

/// What a commit did to one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteStats {
    /// Rows that the commit took in (inserted, updated or deleted).
    pub written: u64,
    /// Rows that the commit found already there, or folded into a later one of the same key.
    pub duplicates: u64,
    /// Rows left out by policy. Rows read = written + duplicates + rejected.
    pub rejected: u64,
}

impl std::ops::AddAssign for WriteStats {
    fn add_assign(&mut self, o: Self) {
        self.written += o.written;
        self.duplicates += o.duplicates;
        self.rejected += o.rejected;
    }
}

#[async_trait]
pub trait Destination: Send + Sync {
    fn capability(&self) -> Capability;
    /// What stands at the target, or nothing. Reads only.
    async fn shape(&self, target: &Target) -> Result<Option<TableShape>>;
    /// What the destination remembers of the connection; `None` when it never heard of it (or keeps no record).
    /// A store of files first rolls its last log entry forward.
    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>>;
    /// Installs the fence, drops staging of older generations of the load's streams with what `recall` says of them (a position in
    /// rows that are gone would let a run go on behind them), and opens.
    async fn open(&self, load: Load) -> Result<Box<dyn Session>>;
    /// Shows a complete replace: the swap and the record of it are one step. Idempotent: a second call finds it done.
    async fn publish(&self, publish: &Publish) -> Result<()>;
    /// Forgets a connection's positions and drops its staging (`reset`). Rows stay.
    async fn forget(&self, connection: ConnectionId) -> Result<()>;
}

/// A complete generation that is to become visible.
#[derive(Clone, Debug)]
pub struct Publish {
    pub connection: ConnectionId,
    pub fence: u64,
    pub stream: LoadStream,
}

/// The unit of atomicity: all streams of one lane. Dropped without `commit` it leaves nothing visible.
#[async_trait]
pub trait Session: Send {
    /// A replace whose rows may come more than once: those that share the stream's key are one row, the last that came. Called before
    /// the stream's `schema`, any number of times. A session that cannot do so refuses.
    async fn fold(&mut self, stream: &StreamName) -> Result<()> {
        Err(crate::Error::new(crate::ErrorKind::Unsupported, "this destination cannot keep one row per key while it replaces a table")
            .with("stream", stream))
    }
    /// The shape of the rows that follow; staged until commit. Called once per stream before its first rows, and at each change.
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()>;
    /// Takes rows in and drops the batch's lease once they are flushed, encoded or spilled: a session never holds leases until commit.
    async fn write(&mut self, rows: Batch) -> Result<()>;
    /// What the last `write` itself nulled or left out under the plan's misfit policy (a value that only the destination knows it
    /// cannot hold). Row numbers are those of that batch. Taken once; empty where a destination holds whatever the plan lets through.
    fn take_changes(&mut self) -> Changes {
        Changes::default()
    }
    /// Empties the stream with the commit, before the rows that follow.
    async fn truncate(&mut self, stream: &StreamName) -> Result<()>;
    /// Makes everything since the last commit durable and visible (a replace: staged) with the position. After an error the session is dead.
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>>;
}

/// A nullable copy of a field: what a column added to a table with rows must be.
pub fn nullable(field: &Field) -> Field {
    field.clone().with_nullable(true)
}
