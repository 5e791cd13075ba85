//! What a user does with a connection that runs: start it, forget its positions, see where it stands.

use std::sync::Arc;

use linkspan_core::{ConnectionId, Error, ErrorKind, Result, Scope as StateScope, StreamName};
use linkspan_engine::plan::matches;
use linkspan_store::{Change, Edit, PositionRecord, ResetOf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    pages::{Runs, page, status},
    queue,
    shown::Shown,
    ticks::waiting,
};
use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    connections::{self, Streams},
    moment::moment,
    operation::{Operation, Reply},
    paging::Cursor,
};

pub(super) fn operations() -> Vec<Operation> {
    let read = Access::Scoped(Scope::SyncsRead);
    let act = Access::Scoped(Scope::SyncsRun);
    let write = Access::Scoped(Scope::ConnectionsWrite);
    vec![
        Operation::post("connections.run", "/v1/connections/{connection}/run", act, "Starts a run as soon as there is room for it.")
            .accepts()
            .cli("connections run", &["connection"])
            .call(run),
        Operation::post(
            "connections.reset",
            "/v1/connections/{connection}/reset",
            write,
            "Forgets positions, of all streams or of those that are named: the next run reads them from the start. Rows stay.",
        )
        .cli("connections reset", &["connection"])
        .call(reset),
        Operation::get("connections.state", "/v1/connections/{connection}/state", read, "Where each stream stands.")
            .cli("connections state", &["connection"])
            .call(state),
        Operation::get("connections.runs", "/v1/connections/{connection}/runs", read, "The runs of a connection, newest first.").call(runs),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Id or name.
    connection: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WhichStreams {
    /// Id or name.
    connection: String,
    /// Names and patterns; all streams when empty.
    #[serde(default)]
    streams: Streams,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunsOf {
    /// Id or name.
    connection: String,
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    #[serde(default)]
    #[schemars(extend("enum" = ["queued", "running", "completed", "failed", "cancelled", null]))]
    status: Option<String>,
    /// How many at most: 1 to 1000, 100 when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$"))]
    cursor: Option<String>,
}

/// Where a connection stands.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct State {
    connection: String,
    positions: Vec<Position>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Position {
    /// Null for a position that all streams share.
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    generation: u64,
    /// How many commits this generation has.
    commits: u64,
    /// As the source wrote it.
    state: Value,
    saved_at: String,
}

/// What was forgotten.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Forgotten {
    connection: String,
    /// The streams that begin anew; null: all of them.
    streams: Option<Vec<String>>,
}

async fn run(app: Arc<App>, context: CallContext, One { connection }: One) -> Result<Reply<Shown>> {
    let (document, kept) = connections::named(&app, &context, &connection).await?;
    connections::expect_ends(&app, &kept).await?;
    queue::put(&app, &context, waiting(&document, &kept)).await
}

async fn reset(app: Arc<App>, context: CallContext, input: WhichStreams) -> Result<Reply<Forgotten>> {
    let (document, _) = connections::named(&app, &context, &input.connection).await?;
    let connection = ConnectionId(document.id);
    let of = if input.streams.0.is_empty() { ResetOf::All } else { ResetOf::Streams(chosen(&app, connection, &input.streams).await?) };
    let streams = match &of {
        ResetOf::All => None,
        ResetOf::Streams(names) => Some(names.iter().map(ToString::to_string).collect()),
    };
    let reply = Reply::ok(Forgotten { connection: document.name.clone().unwrap_or_default(), streams });
    app.commit(&context, Change::new(app.now_ms()).edit(Edit::Reset { connection, of }), reply).await.map_err(connections::busy)
}

/// The streams with a position that the names mean.
async fn chosen(app: &App, connection: ConnectionId, wanted: &Streams) -> Result<Vec<StreamName>> {
    let positions = app.store.positions(connection).await?;
    let mut known: Vec<StreamName> = positions.iter().filter_map(|p| p.scope.stream().cloned()).collect();
    known.sort();
    known.dedup();
    let mut chosen = Vec::new();
    for choice in &wanted.0 {
        let before = chosen.len();
        chosen.extend(known.iter().filter(|s| matches(&choice.name, s)).cloned());
        if chosen.len() == before {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            return Err(Error::new(ErrorKind::NotFound, "no stream of this name has a position")
                .with("stream", &choice.name)
                .fix(format!("those that have one: {}", if names.is_empty() { "none".into() } else { names.join(", ") })));
        }
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

async fn state(app: Arc<App>, context: CallContext, One { connection }: One) -> Result<Reply<State>> {
    let (document, _) = connections::named(&app, &context, &connection).await?;
    let positions = app.store.positions(ConnectionId(document.id)).await?;
    let positions = positions.into_iter().map(position).collect();
    Ok(Reply::ok(State { connection: document.name.unwrap_or_default(), positions }))
}

fn position(record: PositionRecord) -> Position {
    let part = match &record.scope {
        StateScope::Part(_, part) => Some(part.to_string()),
        StateScope::Shared | StateScope::Stream(_) => None,
    };
    Position {
        stream: record.scope.stream().map(ToString::to_string),
        part,
        generation: record.recalled.generation,
        commits: record.recalled.number,
        state: Arc::unwrap_or_clone(record.recalled.state.value),
        saved_at: moment(record.saved_at_ms),
    }
}

async fn runs(app: Arc<App>, context: CallContext, of: RunsOf) -> Result<Reply<Runs>> {
    let (document, _) = connections::named(&app, &context, &of.connection).await?;
    let status = of.status.as_deref().map(status).transpose()?;
    page(&app, &context, Some(ConnectionId(document.id)), status, Cursor::of(of.limit, of.cursor.as_deref())?).await
}
