//! A change of documents: all of it in one transaction, or nothing.

use linkspan_core::ConnectionId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    document::{Document, Link, Sealed},
    record::{NewConnection, ResetOf, RunId, WaitingRun},
};

/// What is to be changed. The app reads, decides without I/O, and says here what it decided and on which versions: `Conflict` when
/// one of them is no longer what stands. Asked twice with the same id it is done once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub id: Uuid,
    pub at_ms: i64,
    pub edits: Vec<Edit>,
    /// Lines for histories, in the same transaction.
    pub entries: Vec<NewEntry>,
    /// The answer that the caller's `Idempotency-Key` gets from now on.
    pub remember: Option<Remember>,
    /// Whether what was deleted or replaced must be gone from the files when this is answered.
    pub erase: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// `AlreadyExists` when the name is taken in its kind and project.
    Insert { document: Document, links: Vec<Link>, secret: Option<Sealed> },
    /// Name, facet and body become what the document says, which carries the version after `if_version`.
    Update { document: Document, if_version: u64, links: Option<Vec<Link>>, secret: SecretEdit },
    /// With its secret and links, and the entries about it that are not audit. A document that is gone is no error.
    Delete { id: Uuid, if_version: Option<u64> },
    /// Merged into `observed` field by field, null removes; the version stays. A document that is gone is left so.
    Observe { id: Uuid, merge: Value },
    /// Nothing changes, but the document must stand at this version.
    Expect { id: Uuid, version: u64 },
    /// The row that runs of a connection hang on; its id is said.
    PutConnection { new: NewConnection },
    /// Forgets it with its runs and positions. `Conflict` while a run is going.
    ForgetConnection { connection: ConnectionId },
    /// `Conflict` when another run of the connection waits or goes.
    QueueRun { run: WaitingRun },
    /// Ends a run that waits; any other is left as it is.
    CancelRun { run: RunId },
    /// As [`Request::Reset`](crate::Request::Reset). `Conflict` while a run is going.
    Reset { connection: ConnectionId, of: ResetOf },
    /// Nothing changes, but the document's secret must be this token, or none.
    ExpectSecret { id: Uuid, token: Option<String> },
    /// The secret under another data key. Skipped when it is no longer the one that was read.
    Turn { id: Uuid, was: String, secret: Sealed },
}

impl Edit {
    pub fn insert(document: Document) -> Self {
        Self::Insert { document, links: vec![], secret: None }
    }
    /// The document as [`Document::revised`] made it; links and secret stay.
    pub fn update(document: Document) -> Self {
        let if_version = document.version.saturating_sub(1);
        Self::Update { document, if_version, links: None, secret: SecretEdit::Keep }
    }
    pub fn delete(document: &Document) -> Self {
        Self::Delete { id: document.id, if_version: Some(document.version) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretEdit {
    Keep,
    Set(Sealed),
    Remove,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewEntry {
    pub kind: String,
    pub project: String,
    pub about: String,
    pub body: Value,
    /// How many of this kind about this are kept; the oldest go.
    pub keep: Option<u32>,
}

/// An `Idempotency-Key` of a caller with the hash of what was asked, and the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remember {
    pub project: String,
    pub caller: String,
    pub key: String,
    pub hash: String,
    /// Without secrets: it is kept for two days.
    pub answer: Value,
}

/// What a key was used for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    pub hash: String,
    pub answer: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// The caller's key was used for the same request before: nothing was changed now, and this is what was answered then.
    Repeated(Value),
}

impl Change {
    pub fn new(at_ms: i64) -> Self {
        Self { id: Uuid::now_v7(), at_ms, edits: vec![], entries: vec![], remember: None, erase: false }
    }
    pub fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }
    pub fn entry(mut self, entry: NewEntry) -> Self {
        self.entries.push(entry);
        self
    }
}
