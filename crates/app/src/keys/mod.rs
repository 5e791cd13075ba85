//! API keys: `lk_<dev|live>_<id>_<secret>`, shown once, stored as a fingerprint, with a role, scopes and an end.

mod operations;

use linkspan_core::Result;
use linkspan_store::Store;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::operations::operations;
use crate::{
    caller::Role,
    identity::{fingerprint, same},
};

pub const KIND: &str = "key";

/// A key as it is stored; its document's id is part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    pub fingerprint: String,
    /// What stands before the secret: enough to recognise it in a log.
    pub prefix: String,
    pub role: Role,
    /// None: all that the role may.
    pub scopes: Option<Vec<String>>,
    pub expires_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    pub created_by: String,
}

/// A key that is good now.
pub struct Known {
    pub id: Uuid,
    pub name: String,
    pub project: String,
    pub key: Key,
    pub last_used_ms: Option<i64>,
}

/// Nothing for a text that is no key, for an unknown or wrong one, and for one that ended.
pub async fn known(store: &Store, text: &str, now_ms: i64) -> Result<Option<Known>> {
    let Some(id) = id_of(text) else { return Ok(None) };
    let Some(document) = store.document_by_id(id).await?.filter(|d| d.kind == KIND) else { return Ok(None) };
    let key: Key = document.read()?;
    let good =
        same(&fingerprint(text), &key.fingerprint) && key.revoked_at_ms.is_none() && key.expires_at_ms.is_none_or(|end| now_ms < end);
    let last_used_ms = document.observed["last_used_ms"].as_i64();
    Ok(good.then(|| Known { id, name: document.name.unwrap_or_default(), project: document.project, key, last_used_ms }))
}

fn id_of(text: &str) -> Option<Uuid> {
    let mut parts = text.strip_prefix("lk_")?.splitn(3, '_');
    let (_, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    (id.len() == 32 && !secret.is_empty()).then(|| Uuid::try_parse(id).ok())?
}
