//! A connection as its document keeps it.

use std::time::Duration;

use jiff::Timestamp;
use linkspan_core::{Error, ErrorKind, Result};
use linkspan_engine::{gate::Policies, plan::Request};
use linkspan_store::{Document, Link, NewConnection};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::schedule::{Entry, Schedule};

/// The kind of its documents.
pub const KIND: &str = "connection";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(default)]
    pub description: Option<String>,
    pub enabled: bool,
    /// The source connector's id.
    pub from: Uuid,
    pub to: To,
    /// Streams, mode, cursor, write, key; the target is the name after the colon of `dest`.
    pub request: Request,
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// Ticks after this moment count.
    #[serde(default)]
    pub scheduled_since_ms: i64,
    #[serde(default)]
    pub policies: Policies,
    #[serde(default)]
    pub retry: RetryPolicy,
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// It was made together with its source connector, whose changes may name its schedule.
    #[serde(default)]
    pub with_source: bool,
    /// Lanes at once.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// For rows in flight, in MB.
    #[serde(default)]
    pub memory: Option<u32>,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    Connector(Uuid),
    /// The built-in lake of the project.
    Lake,
}

/// How often a run is tried, and how long it waits between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The first try included.
    pub attempts: u32,
    pub first: Duration,
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 3, first: Duration::from_secs(10), longest: Duration::from_secs(600) }
    }
}

impl Kept {
    pub fn of(document: &Document) -> Result<Self> {
        document.read()
    }
    /// Says which connectors it needs.
    pub fn links(&self) -> Vec<Link> {
        let from = Link { role: "from".into(), to: self.from };
        let to = match self.to {
            To::Connector(id) => Some(Link { role: "to".into(), to: id }),
            To::Lake => None,
        };
        std::iter::once(from).chain(to).collect()
    }
}

/// The name of the row that runs hang on: unique over projects, and no name that a command line made.
pub fn run_name(project: &str, name: &str) -> String {
    format!("{project}/{name}")
}

/// The row that its runs hang on.
pub(super) fn row(document: &Document, kept: &Kept, (from, to): (&str, &str)) -> Result<NewConnection> {
    let spec =
        serde_json::to_value(&kept.request).map_err(|e| Error::new(ErrorKind::Internal, "a connection could not be encoded").because(e))?;
    let name = run_name(&document.project, document.name.as_deref().unwrap_or_default());
    Ok(NewConnection { name, id: Some(document.id), from: from.to_owned(), to: to.to_owned(), spec })
}

/// Its place in the timetable; nothing for one that does not run by itself.
pub fn schedule_entry(document: &Document, kept: &Kept, last_tick_ms: Option<i64>) -> Option<Entry> {
    let schedule = kept.schedule.clone().filter(|_| kept.enabled)?;
    let since_ms = kept.scheduled_since_ms.max(last_tick_ms.unwrap_or(0));
    Some(Entry { id: document.id, schedule, since: Timestamp::from_millisecond(since_ms).ok()? })
}
