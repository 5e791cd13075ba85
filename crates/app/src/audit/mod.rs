//! The audit trail: every mutation and every use of a secret, who and when; never a value.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{AUDIT, Entry, EntryFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::App,
    caller::{Access, CallContext, Reach, Scope},
    moment::moment,
    operation::{Operation, Reply},
    paging::Cursor,
};

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "audit.list",
            "/v1/audit",
            Access::Scoped(Scope::AuditRead),
            "Who changed what and who used which secret, newest first.",
        )
        .cli("audit list", &[])
        .call(list),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The id of one connector, connection, key, ...
    #[serde(default)]
    about: Option<String>,
    /// Of every project, and what belongs to none (users, sign-ins): for admins of the installation.
    #[serde(default)]
    all_projects: bool,
    /// How many at most: 1 to 1000, 100 when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$"))]
    cursor: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Trail {
    entries: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Line {
    at: String,
    project: String,
    /// The id of what it is about.
    about: String,
    /// `{by, operation, ...}`.
    #[serde(flatten)]
    what: serde_json::Map<String, Value>,
}

/// How long the trail is kept.
const KEPT_MS: i64 = 400 * 24 * 3600 * 1000;

/// Forgets what is older than 400 days; answers how many lines went.
pub async fn trim(app: &App) -> Result<u64> {
    app.store.forget_entries(AUDIT, app.now_ms() - KEPT_MS).await
}

async fn list(app: Arc<App>, context: CallContext, which: Which) -> Result<Reply<Trail>> {
    let at = Cursor::of(which.limit, which.cursor.as_deref())?;
    if which.all_projects && context.caller.reach != Reach::Installation {
        return Err(Error::new(ErrorKind::PermissionDenied, "only an admin of the installation sees every project's trail"));
    }
    let project = (!which.all_projects).then(|| context.project.clone());
    let filter = EntryFilter { kind: AUDIT.into(), project, about: which.about, before: at.seq, limit: Some(at.fetch()) };
    let page = at.cut(app.store.entries(filter).await?, |e| e.seq);
    Ok(Reply::ok(Trail { entries: page.items.into_iter().map(line).collect(), next_cursor: page.next }))
}

fn line(entry: Entry) -> Line {
    let what = match entry.body {
        Value::Object(what) => what,
        _ => serde_json::Map::new(),
    };
    Line { at: moment(entry.at_ms), project: entry.project, about: entry.about, what }
}
