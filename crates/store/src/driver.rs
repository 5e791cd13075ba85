//! What a database must bring to be the store: connections that run SQL, a clock, and the few statements of its dialect.

use async_trait::async_trait;
use linkspan_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::request::{Reply, Request};

/// A database that keeps the store.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Answers a request; a change is durable when it is answered.
    async fn ask(&self, request: Request) -> Result<Reply>;
    fn counts(&self) -> Counts;
    /// Answers what was asked, then lets go of the database.
    async fn close(&self);
}

/// What the writer did so far: many requests share a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u64,
    pub commits: u64,
}

/// One transaction's way to the database. Placeholders are `$1, $2, ...` in ascending first use, so that SQLite (where they are
/// names, numbered as they appear) and PostgreSQL (where they are numbers) agree.
#[async_trait]
pub trait Sql: Send {
    async fn query(&mut self, sql: &'static str, params: &[Param]) -> Result<Vec<Row>>;
    /// How many rows it touched.
    async fn execute(&mut self, sql: &'static str, params: &[Param]) -> Result<u64>;
    /// The database's clock, in milliseconds since 1970: leases are judged by it.
    async fn now_ms(&mut self) -> Result<i64>;
    fn dialect(&self) -> &'static Dialect;
}

/// Statements that databases spell differently.
#[derive(Debug)]
pub struct Dialect {
    /// `$1` connection, `$2` saved at, `$3` JSON array of `{scope, stream, generation, number, state}`: insert or overwrite.
    pub put_scopes: &'static str,
    /// `$1` expires at, `$2` JSON array of run ids: renews and returns `run`.
    pub renew: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    Null,
    Int(i64),
    Text(String),
}

impl Param {
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value)
            .map(Self::Text)
            .map_err(|e| Error::new(ErrorKind::Internal, "a record could not be written as JSON").because(e))
    }
}
impl From<i64> for Param {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<u64> for Param {
    /// Counters stay far below 2^63; one that does not is kept at the end instead of turning negative.
    fn from(v: u64) -> Self {
        Self::Int(i64::try_from(v).unwrap_or(i64::MAX))
    }
}
impl From<bool> for Param {
    fn from(v: bool) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<&str> for Param {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}
impl From<String> for Param {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl<T: Into<Param>> From<Option<T>> for Param {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

/// A row of an answer, read by column number.
#[derive(Clone, Debug)]
pub struct Row(pub Vec<Param>);

impl Row {
    pub fn text(&self, i: usize) -> Result<&str> {
        match self.0.get(i) {
            Some(Param::Text(t)) => Ok(t),
            _ => Err(odd(i)),
        }
    }
    pub fn int(&self, i: usize) -> Result<i64> {
        match self.0.get(i) {
            Some(Param::Int(n)) => Ok(*n),
            _ => Err(odd(i)),
        }
    }
    pub fn count(&self, i: usize) -> Result<u64> {
        u64::try_from(self.int(i)?).map_err(|_| odd(i))
    }
    pub fn flag(&self, i: usize) -> Result<bool> {
        Ok(self.int(i)? != 0)
    }
    pub fn is_null(&self, i: usize) -> bool {
        matches!(self.0.get(i), None | Some(Param::Null))
    }
    pub fn json<T: DeserializeOwned>(&self, i: usize) -> Result<T> {
        serde_json::from_str(self.text(i)?).map_err(|e| odd(i).because(e))
    }
    pub fn optional<T>(&self, i: usize, read: impl FnOnce(&Self, usize) -> Result<T>) -> Result<Option<T>> {
        if self.is_null(i) { Ok(None) } else { read(self, i).map(Some) }
    }
}

fn odd(column: usize) -> Error {
    Error::new(ErrorKind::DataInvalid, "the store holds a value that this version cannot read")
        .with("column", column)
        .fix("use the version of linkspan that wrote this data dir last")
}
