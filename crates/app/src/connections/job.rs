//! What running a connection needs: both ends, ready to be opened, and what moves between them.

use linkspan_core::{Result, Role};
use linkspan_store::Document;

use super::{
    ends,
    kept::{Kept, run_name},
};
use crate::{app::App, run::Job, secrets::Redactor};

/// For rows in flight, in MB.
const MEMORY: u32 = 64;

/// Reads the connectors as they are now. The redactors take their secrets out of whatever is told about the run.
pub async fn job(app: &App, document: &Document, kept: &Kept) -> Result<(Job, Vec<Redactor>)> {
    let (from, mut redactors) = ends::opened(app, &document.project, kept.from, Role::Source).await.map(|(e, r)| (e, vec![r]))?;
    let (to, more) = ends::written_to(app, &document.project, &kept.to).await?;
    redactors.extend(more);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let job = Job {
        name: run_name(&document.project, document.name.as_deref().unwrap_or_default()),
        id: document.id,
        id_is_declared: true,
        from,
        to,
        request: kept.request.clone(),
        policies: kept.policies.clone(),
        concurrency: kept.concurrency.map_or(cores.clamp(2, 8), |lanes| lanes as usize),
        memory: u64::from(kept.memory.unwrap_or(MEMORY)) << 20,
        folder: app.store.dir().to_owned(),
    };
    Ok((job, redactors))
}
