//! What each request does to the database, in SQL that all databases share.

mod changes;
mod connections;
mod documents;
mod entries;
mod keys;
mod leases;
mod logs;
mod positions;
mod queue;
mod run_rows;
mod runs;

use linkspan_core::Result;

pub(crate) use self::leases::lost;
use crate::{
    driver::Sql,
    request::{Reply, Request},
};

/// Runs one request inside the caller's transaction. After an error the caller rolls back what it did.
pub(crate) async fn apply(sql: &mut dyn Sql, request: Request) -> Result<Reply> {
    match request {
        Request::PutConnection { new, drawn } => connections::put(sql, new, drawn).await,
        Request::DeleteConnection { connection } => connections::delete(sql, connection).await,
        Request::Connections { after, limit } => connections::list(sql, after, limit).await,
        Request::FindConnection { name } => connections::find(sql, &name).await,
        Request::GetConnection { connection } => connections::get(sql, connection).await,
        Request::Claim { connection, run, new, ttl_ms } => runs::claim(sql, connection, run, new, ttl_ms).await,
        Request::Renew { runs, ttl_ms } => leases::renew(sql, runs, ttl_ms).await,
        Request::QueueRuns { runs } => queue::put(sql, runs).await,
        Request::CancelWaiting { run } => queue::cancel(sql, run).await,
        Request::Requeue { by, after_ms, stats, error, attempt } => queue::requeue(sql, by, after_ms, stats, error, attempt).await,
        Request::Sweep => queue::sweep(sql).await,
        Request::WaitingRuns { limit } => queue::waiting(sql, limit).await,
        Request::CountRuns => queue::count(sql).await,
        Request::LastTicks => queue::last_ticks(sql).await,
        Request::Finish { by, result } => runs::finish(sql, by, result).await,
        Request::Runs { filter } => runs::list(sql, filter).await,
        Request::GetRun { run } => runs::get(sql, run).await,
        Request::DrawGeneration { by, stream, id } => positions::draw_generation(sql, by, &stream, id).await,
        Request::Aim { by, targets } => positions::aim(sql, by, targets).await,
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
        Request::Change(change) => changes::change(sql, *change).await,
        Request::GetDocument { id } => documents::get(sql, id).await,
        Request::FindDocument { kind, project, key } => documents::find(sql, &kind, &project, &key).await,
        Request::Documents { filter } => documents::list(sql, filter).await,
        Request::PageOfDocuments { filter } => documents::page(sql, filter).await,
        Request::CountDocuments { kind, project } => documents::count(sql, &kind, &project).await,
        Request::Linked { to } => documents::linked(sql, to).await,
        Request::Sealed { document } => documents::secret(sql, document).await,
        Request::SealedUnder { data_key, after, limit } => documents::secrets(sql, data_key, after, limit).await,
        Request::Entries { filter } => entries::list(sql, filter).await,
        Request::ForgetEntries { kind, before_ms } => entries::forget(sql, &kind, before_ms).await,
        Request::Remembered { project, caller, key } => changes::remembered(sql, &project, &caller, &key).await,
    }
}
