//! What a connector offers: its streams, kept for an hour.

use linkspan_core::{Cursor, Error, ErrorKind, Result, Stream};
use linkspan_store::{Change, Document, Edit, NewEntry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    Connector,
    endpoint::{Opened, open},
};
use crate::{app::App, caller::CallContext, commit::audit_line, moment::moment};

pub(super) const KIND: &str = "discovery";
const FRESH_MS: i64 = 3600 * 1000;

/// A stream as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamShown {
    pub name: String,
    pub namespace: Option<String>,
    /// The columns that identify a row.
    pub key: Vec<String>,
    pub cursor: CursorShown,
    pub estimated_rows: Option<u64>,
    pub estimated_bytes: Option<u64>,
    pub columns: Vec<ColumnShown>,
}

/// How a stream can be read incrementally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CursorShown {
    /// `none`, `columns` or `source_defined`.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnShown {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
    /// The system's own type.
    pub native: Option<String>,
}

/// What was discovered, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiscoveredStreams {
    pub connector: String,
    pub streams: Vec<StreamShown>,
    pub discovered_at: String,
    /// Whether it was known from before.
    pub cached: bool,
}

/// As it is stored: with the version of the connector that was asked.
#[derive(Serialize, Deserialize)]
struct Known {
    at_ms: i64,
    of_version: u64,
    streams: Vec<StreamShown>,
}

/// Whether an hour-old answer will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Cached,
    Fresh,
}

/// The streams of a connector: the known ones when they are younger than an hour and of the same config.
pub async fn discovered(app: &App, context: &CallContext, document: Document, connector: Connector, age: Age) -> Result<DiscoveredStreams> {
    let name = document.name.clone().unwrap_or_default();
    let key = document.id.to_string();
    let stored = app.store.document(KIND, &document.project, &key).await?;
    let now = app.now_ms();
    // One that may not be used any more offers nothing, whatever is known of it.
    let opened = open(app, document, connector).await?;
    if let (Some(stored), Age::Cached) = (&stored, age)
        && let Ok(known) = stored.read::<Known>()
        && known.of_version == opened.document.version
        && now.abs_diff(known.at_ms) < FRESH_MS.unsigned_abs()
    {
        return Ok(DiscoveredStreams { connector: name, streams: known.streams, discovered_at: moment(known.at_ms), cached: true });
    }
    let streams = ask(app, &opened).await?;
    let line = opened.document.has_secret.then(|| {
        let what = json!({ "kind": opened.document.kind, "name": opened.document.name, "secret": "used" });
        audit_line(context, &key, what)
    });
    let known = Known { at_ms: now, of_version: opened.document.version, streams };
    keep(app, &opened.document, stored, &known, line).await?;
    Ok(DiscoveredStreams { connector: name, streams: known.streams, discovered_at: moment(now), cached: false })
}

/// What a run found at its source is known from then on, as if somebody had asked.
pub(crate) async fn found(app: &App, source: &Document, streams: &[Stream]) -> Result<()> {
    let stored = app.store.document(KIND, &source.project, &source.id.to_string()).await?;
    let now = app.now_ms();
    let known = stored.as_ref().and_then(|stored| stored.read::<Known>().ok());
    if known.is_some_and(|known| known.of_version == source.version && now.abs_diff(known.at_ms) < FRESH_MS.unsigned_abs()) {
        return Ok(());
    }
    let known = Known { at_ms: now, of_version: source.version, streams: streams.iter().map(shown).collect() };
    keep(app, source, stored, &known, None).await
}

async fn keep(app: &App, source: &Document, stored: Option<Document>, known: &Known, line: Option<NewEntry>) -> Result<()> {
    let body = serde_json::to_value(known).map_err(|e| Error::new(ErrorKind::Internal, "streams could not be encoded").because(e))?;
    let edit = match stored {
        Some(stored) => Edit::update(stored.revised(&body, known.at_ms)?),
        None => Edit::insert(Document::new(KIND, &source.project, Some(&source.id.to_string()), body, known.at_ms)),
    };
    let mut change = Change::new(known.at_ms).edit(edit);
    change.entries.extend(line);
    match app.store.change(change).await {
        // Somebody else discovered at the same time: one answer is as good as the other.
        Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(()),
        done => done.map(drop),
    }
}

/// What is known of a connector's streams, however old; also of one that was deleted, as long as a connection needs it.
pub(crate) async fn last_known(app: &App, project: &str, connector: Uuid) -> Result<Option<(Vec<StreamShown>, String)>> {
    let Some(stored) = app.store.document(KIND, project, &connector.to_string()).await? else { return Ok(None) };
    let known: Known = stored.read()?;
    Ok(Some((known.streams, moment(known.at_ms))))
}

async fn ask(app: &App, opened: &Opened) -> Result<Vec<StreamShown>> {
    let clean = |e: Error| opened.redactor.error(&e);
    let source = opened.endpoint.open_source(app.context.clone()).map_err(clean)?;
    let streams = source.discover().await.map_err(clean)?;
    Ok(streams.iter().map(shown).collect())
}

fn shown(stream: &Stream) -> StreamShown {
    let fields = stream.schema.fields().iter().filter(|f| !linkspan_core::is_feed_column(f.name()));
    let columns = fields.map(|f| ColumnShown {
        name: f.name().clone(),
        data_type: f.data_type().to_string(),
        nullable: f.is_nullable(),
        native: linkspan_core::native::native_of(f).map(|n| n.type_name.to_string()),
    });
    let (kind, cursor) = match &stream.cursor {
        Cursor::None => ("none", vec![]),
        Cursor::SourceDefined => ("source_defined", vec![]),
        Cursor::Columns(columns) => ("columns", columns.clone()),
    };
    StreamShown {
        name: stream.name.to_string(),
        namespace: stream.name.namespace.as_ref().map(ToString::to_string),
        key: stream.key.clone(),
        cursor: CursorShown { kind: kind.to_owned(), columns: cursor },
        estimated_rows: stream.estimated_rows,
        estimated_bytes: stream.estimated_bytes,
        columns: columns.collect(),
    }
}

/// What is known of a connector that nobody needs any more.
pub(super) async fn forget(app: &App, connector: &Document) -> Result<Option<Edit>> {
    let stored = app.store.document(KIND, &connector.project, &connector.id.to_string()).await?;
    Ok(stored.map(|d| Edit::Delete { id: d.id, if_version: None }))
}
