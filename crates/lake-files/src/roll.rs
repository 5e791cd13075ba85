//! Rolling forward: what the log decided becomes what readers see. Every step may be done already; doing it again changes nothing.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use linkspan_core::{ConnectionId, Context, Result};

use crate::{
    log::{Log, Rolling},
    place,
    storage::{Depth, Storage},
};

/// Requests to an object store at once.
const AT_ONCE: usize = 8;

/// Rolls every entry forward of which this process does not know that it was.
pub(crate) async fn roll_all(storage: &Storage, log: &Log, ctx: &Context) -> Result<()> {
    let pending: Vec<(u64, Rolling)> = log.ledger().rolling.iter().map(|(n, r)| (*n, r.clone())).collect();
    if pending.is_empty() {
        return Ok(());
    }
    let folders = pending.iter().flat_map(|(_, r)| r.shows.iter().chain(&r.discards)).map(|p| parent(p.temp.witness())).collect();
    let waiting = waiting(storage, folders).await?;
    for (number, mut rolling) in pending {
        rolling.shows.retain(|part| waiting.contains(part.temp.witness()));
        rolling.discards.retain(|part| waiting.contains(part.temp.witness()));
        roll(storage, ctx, &rolling).await?;
        log.ledger().rolling.remove(&number);
    }
    Ok(())
}

/// Rolls the entry forward that this process has just added.
pub(crate) async fn roll_own(storage: &Storage, log: &Log, ctx: &Context, number: u64) -> Result<()> {
    let Some(rolling) = log.ledger().rolling.get(&number).cloned() else { return Ok(()) };
    roll(storage, ctx, &rolling).await?;
    log.ledger().rolling.remove(&number);
    Ok(())
}

async fn roll(storage: &Storage, ctx: &Context, rolling: &Rolling) -> Result<()> {
    let at_once = if matches!(storage, Storage::Local(_)) { 1 } else { AT_ONCE };
    // New files come before old ones go: a reader in between may see both, but never misses a row.
    let show = stream::iter(rolling.shows.clone()).map(|part| async move {
        storage.show(&part).await?;
        ctx.failpoints.hit("parquet.rename.mid").await
    });
    show.buffer_unordered(at_once).try_collect::<()>().await?;
    let shown: Vec<String> = rolling.shows.iter().flat_map(|p| [parent(p.temp.witness()), parent(&p.name)]).collect();
    storage.sync_folders(shown).await?;
    ctx.failpoints.hit("parquet.rename.after").await?;
    let remove = stream::iter(rolling.removes.clone()).map(|path| async move {
        storage.delete(&path).await?;
        ctx.failpoints.hit("parquet.remove.mid").await
    });
    remove.buffer_unordered(at_once).try_collect::<()>().await?;
    let emptied: Vec<String> = rolling.removes.iter().map(|path| parent(path)).collect();
    storage.sync_folders(emptied).await?;
    for part in &rolling.discards {
        storage.discard(part).await?;
    }
    Ok(())
}

/// The witnesses of unfinished parts that are in these folders.
async fn waiting(storage: &Storage, folders: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut waiting = BTreeSet::new();
    for folder in folders {
        waiting.extend(storage.list(&folder, Depth::One).await?.into_iter().map(|item| item.path));
    }
    Ok(waiting)
}

/// Whether a commit that has not rolled yet will put a file into this folder.
pub(crate) async fn is_coming(storage: &Storage, log: &Log, folder: &str) -> Result<bool> {
    let coming: Vec<String> = {
        let ledger = log.ledger();
        let parts = ledger.rolling.values().flat_map(|r| &r.shows).filter(|part| parent(&part.name) == folder);
        parts.map(|part| part.temp.witness().to_owned()).collect()
    };
    let waiting = waiting(storage, coming.iter().map(|witness| parent(witness)).collect()).await?;
    Ok(coming.iter().any(|witness| waiting.contains(witness)))
}

/// Throws away what runs below this fence left unfinished and no log entry counts on.
pub(crate) async fn sweep(storage: &Storage, log: &Log, connection: ConnectionId, fence: u64) -> Result<()> {
    let awaited = log.ledger().awaited();
    for item in storage.list(&place::temp_folder(connection), Depth::One).await? {
        let older = place::fence_of_temp(&item.path).is_some_and(|f| f < fence);
        if older && !awaited.contains(&item.path) {
            storage.discard_orphan(&item.path).await?;
        }
    }
    Ok(())
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}
