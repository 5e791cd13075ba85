//! What people make and keep by name (connectors, connections, users, keys, ...) as the store sees it: a JSON body under a kind, a
//! project and a name. What a body means is the app's matter.

use linkspan_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

/// Entries of this kind stay when the document they are about is deleted.
pub const AUDIT: &str = "audit";

/// A JSON text. Whoever knows what it is parses it, once; on its way from the database to them nobody does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::value::to_raw_value(value)
            .map(Self)
            .map_err(|e| Error::new(ErrorKind::Internal, "a document could not be encoded").because(e))
    }
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
    pub fn into_string(self) -> String {
        Box::<str>::from(self.0).into()
    }
    /// As whatever it is. The error quotes nothing of it but what was expected and where.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.as_str())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self(RawValue::from_string(value.to_string()).expect("a value's text is JSON"))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub id: Uuid,
    /// Rises with every document of the store; pages are cut by it. 0 until it is stored.
    pub seq: i64,
    /// `connector`, `connection`, `user`, ...
    pub kind: String,
    /// Empty for what belongs to the whole installation.
    pub project: String,
    /// Unique in (kind, project) when there is one.
    pub name: Option<String>,
    /// One word to filter and count by, such as a direction; empty when there is none.
    pub facet: String,
    /// 1 for a new one; raised by every update.
    pub version: u64,
    /// What was asked for, without secrets.
    pub body: Json,
    /// What was seen of it (health, counts): an object that is written without raising the version.
    pub observed: Value,
    /// Whether a sealed secret lies beside it.
    pub has_secret: bool,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

impl Document {
    /// A new one, not stored yet.
    pub fn new(kind: &str, project: &str, name: Option<&str>, body: Value, now_ms: i64) -> Self {
        Self {
            id: Uuid::now_v7(),
            seq: 0,
            kind: kind.to_owned(),
            project: project.to_owned(),
            name: name.map(str::to_owned),
            facet: String::new(),
            version: 1,
            body: body.into(),
            observed: Value::Object(Map::new()),
            has_secret: false,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        }
    }
    /// The body as the kind's own type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.body.parse().map_err(|e| {
            Error::new(ErrorKind::DataInvalid, "the store holds a document that this version cannot read")
                .with("kind", &self.kind)
                .with("id", self.id)
                .fix("use the version of linkspan that wrote this data dir last")
                .because(e)
        })
    }
    /// The same document with another body, one version later.
    pub fn revised<T: Serialize>(mut self, body: &T, now_ms: i64) -> Result<Self> {
        self.body = Json::of(body)?;
        self.version += 1;
        self.updated_at_ms = now_ms;
        Ok(self)
    }
}

/// Says that a document needs another: a connection its connectors. The other one may be deleted; the link stays and dangles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `from`, `to`, `schedule`, ...
    pub role: String,
    pub to: Uuid,
}

/// Who points at a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    pub to: Uuid,
    pub role: String,
    pub by: Uuid,
    pub by_kind: String,
    pub by_name: Option<String>,
}

/// A secret as it rests beside its document: a token that only the named data key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub data_key: Uuid,
    pub token: String,
}

/// Which documents to list, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentFilter {
    pub kind: String,
    /// All projects when not said.
    pub project: Option<String>,
    pub facet: Option<String>,
    /// The `seq` of the last document of the page before.
    pub after: Option<i64>,
    /// At most 1,000; 100 when not said.
    pub limit: Option<u32>,
}

impl DocumentFilter {
    pub fn of(kind: &str, project: &str) -> Self {
        Self { kind: kind.to_owned(), project: Some(project.to_owned()), ..Self::default() }
    }
}

/// A page of a project's documents with what a list of them shows beside: all as it stood at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentPage {
    pub documents: Vec<Document>,
    /// Who points at them.
    pub linked: Vec<Linked>,
    /// How many the whole project has, by facet.
    pub facets: Vec<(String, u64)>,
}

/// One line of a history: of the audit trail, of a connector's tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Rises with every entry; pages are cut by it.
    pub seq: i64,
    pub kind: String,
    pub project: String,
    /// What it is about: mostly a document's id.
    pub about: String,
    pub at_ms: i64,
    pub body: Value,
}

/// Which entries to list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EntryFilter {
    pub kind: String,
    pub project: Option<String>,
    pub about: Option<String>,
    /// The `seq` of the last entry of the page before.
    pub before: Option<i64>,
    /// At most 1,000; 50 when not said.
    pub limit: Option<u32>,
}
