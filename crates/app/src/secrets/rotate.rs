//! Rotation: every secret under a new data key, which the keyring's first key wraps. Online, resumable, and safe to be killed
//! anywhere: a secret is always under exactly one data key that stands.

use linkspan_core::{ErrorKind, Failpoints, Result};
use linkspan_store::{Change, DocumentFilter, Edit, Sealed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::vault::{DATA_KEY, Vault, opened, sealed};

/// Secrets turned in one transaction.
const PAGE: u32 = 500;

/// What a rotation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Secrets that lie under the new key now.
    pub rotated: u64,
    /// Secrets that no key of this process opens; they stay as they are, with their data key.
    pub unreadable: u64,
    /// Data keys that nothing needed any more.
    pub retired: u64,
}

/// Draws a new data key and moves every secret under it. One that was interrupted is simply run again: it draws another key, and
/// what lies under any other is moved.
pub async fn rotate(vault: &Vault, failpoints: &Failpoints, now_ms: i64) -> Result<Progress> {
    let target = vault.make_data_key(now_ms).await?;
    vault.set_current(target).await;
    failpoints.hit("vault.rotate.key").await?;
    let mut progress = Progress::default();
    let old = vault.store.documents(DocumentFilter { limit: Some(1000), ..DocumentFilter::of(DATA_KEY, "") }).await?;
    for document in old.iter().filter(|d| d.id != target) {
        while turn_all(vault, document.id, target, failpoints, now_ms, &mut progress).await? == 0 {
            failpoints.hit("vault.rotate.retire").await?;
            match vault.store.change(Change { erase: true, ..Change::new(now_ms).edit(Edit::delete(document)) }).await {
                // Somebody sealed under it since the last page: that one is moved too.
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                done => {
                    done?;
                    progress.retired += 1;
                    break;
                }
            }
        }
    }
    vault.forget_all_but(target);
    Ok(progress)
}

/// How many could not be turned.
async fn turn_all(vault: &Vault, from: Uuid, target: Uuid, failpoints: &Failpoints, now_ms: i64, progress: &mut Progress) -> Result<u64> {
    let to = vault.data_key(target).await?;
    let from_key = vault.data_key(from).await.ok();
    let (mut after, mut left) = (None, 0);
    loop {
        let page = vault.store.sealed_under(from, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.0);
        let mut turns = Vec::new();
        for (document, was) in page {
            let values = from_key.as_ref().and_then(|key| opened(key, document, &was.token).ok());
            match values {
                Some(values) => {
                    let secret = Sealed { data_key: target, token: sealed(&to, document, &values, now_ms)? };
                    turns.push(Edit::Turn { id: document, was: was.token, secret });
                }
                None => left += 1,
            }
        }
        let count = turns.len() as u64;
        // Another rotation may have retired the target: then nothing is moved under it.
        let change = Change { edits: turns, ..Change::new(now_ms) }.edit(Edit::Expect { id: target, version: 1 });
        vault.store.change(change).await?;
        progress.rotated += count;
        failpoints.hit("vault.rotate.page").await?;
    }
    progress.unreadable = progress.unreadable.max(left);
    Ok(left)
}
