//! What each request does to the database, in SQL that all databases share.

mod connections;
mod logs;
mod positions;
mod runs;

use linkspan_core::{ConnectionId, Error, ErrorKind, Result, Scope, StreamName};
use uuid::Uuid;

use crate::{LeaseKey, Reply, Request, RunId, Sql};

/// Runs one request inside the caller's transaction. After an error the caller rolls back what it did.
pub(crate) async fn apply(sql: &mut dyn Sql, request: Request) -> Result<Reply> {
    match request {
        Request::PutConnection { new, drawn } => connections::put(sql, new, drawn).await,
        Request::DeleteConnection { connection } => connections::delete(sql, connection).await,
        Request::Connections { after, limit } => connections::list(sql, after, limit).await,
        Request::FindConnection { name } => connections::find(sql, &name).await,
        Request::GetConnection { connection } => connections::get(sql, connection).await,
        Request::Claim { connection, run, new, ttl_ms } => runs::claim(sql, connection, run, new, ttl_ms).await,
        Request::Renew { runs, ttl_ms } => runs::renew(sql, runs, ttl_ms).await,
        Request::Finish { by, result } => runs::finish(sql, by, result).await,
        Request::Runs { filter } => runs::list(sql, filter).await,
        Request::GetRun { run } => runs::get(sql, run).await,
        Request::DrawGeneration { by, stream, id } => positions::draw_generation(sql, by, &stream, id).await,
        Request::Save { by, commits } => positions::save(sql, by, commits).await,
        Request::Complete { by, stream, generation } => positions::complete(sql, by, &stream, generation).await,
        Request::Adopt { by, scopes, generations } => positions::adopt(sql, by, scopes, generations).await,
        Request::SawSchema { by, stream, schema } => positions::saw_schema(sql, by, &stream, schema).await,
        Request::Reset { connection, of, id } => positions::reset(sql, connection, of, id).await,
        Request::Load { connection } => positions::load(sql, connection).await,
        Request::Positions { connection } => positions::list(sql, connection).await,
        Request::SchemaHistory { connection, stream } => positions::schema_history(sql, connection, &stream).await,
        Request::PutRunLog { log } => logs::put(sql, log).await,
        Request::ForgetRunLogs { runs } => logs::forget(sql, runs).await,
        Request::GetRunLog { run } => logs::get(sql, run).await,
        Request::OldRunLogs { connection, keep, max_age_ms } => logs::old(sql, connection, keep, max_age_ms).await,
    }
}

/// A stream as a key of the tables: the text of its scope, so that any name survives.
fn stream_key(stream: &StreamName) -> String {
    Scope::Stream(stream.clone()).to_string()
}

fn stream_of(key: &str) -> Result<StreamName> {
    match key.parse::<Scope>()? {
        Scope::Stream(stream) => Ok(stream),
        _ => Err(Error::new(ErrorKind::DataInvalid, "the store holds a stream name that this version cannot read")),
    }
}

fn uuid_of(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|e| Error::new(ErrorKind::DataInvalid, "the store holds an id that is none").because(e))
}

fn no_connection(connection: ConnectionId) -> Error {
    Error::new(ErrorKind::NotFound, "no such connection").with("connection_id", connection)
}

/// Every change made by a run passes here: only the fence that holds the connection now may write.
async fn check_lease(sql: &mut dyn Sql, by: LeaseKey) -> Result<()> {
    const HELD: &str = "select run, fence from leases where connection = $1";
    let rows = sql.query(HELD, &[by.connection.to_string().into()]).await?;
    let held = match rows.first() {
        Some(row) => row.text(0)? == by.run.to_string() && row.count(1)? == by.fence,
        None => false,
    };
    if held { Ok(()) } else { Err(lost(by.run)) }
}

/// The answer to a run that was overtaken.
pub(crate) fn lost(run: RunId) -> Error {
    Error::new(ErrorKind::Conflict, "this run lost its lease: another run of the connection may have started")
        .with("run", run)
        .fix("run the same command again: it goes on from what is committed")
}
