//! Rotation: every secret under a new data key, which the keyring's first key wraps. Online, resumable, and safe to be killed
//! anywhere: a secret is always under exactly one data key that stands, and what was moved before a kill is not moved again.

use linkspan_core::{Error, ErrorKind, Failpoints, Result};
use linkspan_store::{Change, Document, Edit, Sealed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::vault::{Vault, opened, sealed};

/// Secrets turned in one transaction.
const PAGE: u32 = 500;
/// The document of the rotation under way: there is none, or one.
pub(super) const ROTATION: &str = "rotation";
const UNDER_WAY: &str = "under-way";

/// What a rotation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Secrets that lie under the new key now, those included that an interrupted call had moved.
    pub rotated: u64,
    /// Secrets that no key of this process opens; they stay as they are, with their data key.
    pub unreadable: u64,
    /// Data keys that nothing needed any more.
    pub retired: u64,
    /// How many of `rotated` an interrupted call had moved before this one went on.
    #[serde(default)]
    pub resumed_at: u64,
}

/// What of a rotation is durable: each page of secrets is moved and counted in one transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct UnderWay {
    target: Uuid,
    rotated: u64,
    retired: u64,
}

/// Moves every secret under one new data key. One that was interrupted is asked for again and goes on with its key, unless another
/// key encrypts first since then: a rotation never ends under a key that is to go. `Conflict` while another one is going.
pub async fn rotate(vault: &Vault, failpoints: &Failpoints, now_ms: i64) -> Result<Progress> {
    let _alone = vault.rotating.try_lock().map_err(|_| going_elsewhere())?;
    let mut rotation = Rotation::take_up(vault, failpoints, now_ms).await?;
    vault.set_current(rotation.state.target).await;
    failpoints.hit("vault.rotate.key").await?;
    for key in vault.data_keys().await? {
        if key.id != rotation.state.target {
            rotation.empty(&key).await?;
        }
    }
    rotation.finish().await
}

struct Rotation<'a> {
    vault: &'a Vault,
    failpoints: &'a Failpoints,
    now_ms: i64,
    document: Document,
    state: UnderWay,
    resumed_at: u64,
    unreadable: u64,
}

impl<'a> Rotation<'a> {
    /// The one that was interrupted, else a new one with a key of its own, which becomes durable with it.
    async fn take_up(vault: &'a Vault, failpoints: &'a Failpoints, now_ms: i64) -> Result<Self> {
        let stands = vault.store.document(ROTATION, "", UNDER_WAY).await?;
        if let Some(document) = stands.as_ref() {
            let state: UnderWay = document.read()?;
            if vault.is_wrapped_by_first(state.target).await? {
                let (document, resumed_at) = (document.clone(), state.rotated);
                tracing::info!(resumed_at, "an interrupted rotation goes on");
                return Ok(Self { vault, failpoints, now_ms, document, state, resumed_at, unreadable: 0 });
            }
        }
        let (key_document, key) = vault.drawn_data_key(now_ms)?;
        let state = UnderWay { target: key_document.id, rotated: 0, retired: 0 };
        let (document, edit) = match stands {
            Some(document) => {
                let document = document.revised(&state, now_ms)?;
                (document.clone(), Edit::update(document))
            }
            None => {
                let document = Document::new(ROTATION, "", Some(UNDER_WAY), encoded(&state)?, now_ms);
                (document.clone(), Edit::insert(document))
            }
        };
        let change = Change::new(now_ms).edit(Edit::insert(key_document)).edit(edit);
        match vault.store.change(change).await {
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::NotFound) => {
                return Err(going_elsewhere());
            }
            done => done?,
        };
        vault.remember(state.target, key);
        Ok(Self { vault, failpoints, now_ms, document, state, resumed_at: 0, unreadable: 0 })
    }

    /// Moves what lies under the key, then lets go of the key. What cannot be opened stays, and its key with it.
    async fn empty(&mut self, key: &Document) -> Result<()> {
        loop {
            let left = self.turn_all(key.id).await?;
            if left > 0 {
                self.unreadable += left;
                return Ok(());
            }
            self.failpoints.hit("vault.rotate.retire").await?;
            let next = UnderWay { retired: self.state.retired + 1, ..self.state.clone() };
            let change = Change { erase: true, ..Change::new(self.now_ms) }.edit(Edit::delete(key));
            match self.save(change, next).await {
                // Somebody sealed under it since the last page: that one is moved too.
                Err(e) if e.kind() == ErrorKind::Conflict && self.still_ours().await? => {}
                Err(e) if e.kind() == ErrorKind::Conflict => return Err(going_elsewhere()),
                done => return done,
            }
        }
    }

    /// How many could not be turned.
    async fn turn_all(&mut self, from: Uuid) -> Result<u64> {
        let to = self.vault.data_key(self.state.target).await?;
        let from_key = self.vault.data_key(from).await.ok();
        let (mut after, mut left) = (None, 0);
        loop {
            let page = self.vault.store.sealed_under(from, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(left) };
            after = Some(last.0);
            let mut turns = Vec::new();
            for (document, was) in page {
                let values = from_key.as_ref().and_then(|key| opened(key, document, &was.token).ok());
                match values {
                    Some(values) => {
                        let secret = Sealed { data_key: self.state.target, token: sealed(&to, document, &values, self.now_ms)? };
                        turns.push(Edit::Turn { id: document, was: was.token, secret });
                    }
                    None => left += 1,
                }
            }
            self.move_page(turns).await?;
            self.failpoints.hit("vault.rotate.page").await?;
        }
    }

    async fn move_page(&mut self, turns: Vec<Edit>) -> Result<()> {
        if turns.is_empty() {
            return Ok(());
        }
        let next = UnderWay { rotated: self.state.rotated + turns.len() as u64, ..self.state.clone() };
        // Another rotation may have retired the target: then nothing is moved under it.
        let stands = Edit::Expect { id: self.state.target, version: 1 };
        let change = Change { edits: turns, ..Change::new(self.now_ms) }.edit(stands);
        match self.save(change, next).await {
            Err(e) if e.kind() == ErrorKind::Conflict => Err(going_elsewhere()),
            done => done,
        }
    }

    /// The change, and how far the rotation is with it, in one transaction.
    async fn save(&mut self, change: Change, next: UnderWay) -> Result<()> {
        let document = self.document.clone().revised(&next, self.now_ms)?;
        match self.vault.store.change(change.edit(Edit::update(document.clone()))).await {
            // Another process took the rotation up and finished it.
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(going_elsewhere()),
            done => done?,
        };
        (self.document, self.state) = (document, next);
        Ok(())
    }
    async fn still_ours(&self) -> Result<bool> {
        let stands = self.vault.store.document_by_id(self.document.id).await?;
        Ok(stands.is_some_and(|d| d.version == self.document.version))
    }

    async fn finish(self) -> Result<Progress> {
        self.failpoints.hit("vault.rotate.finish").await?;
        match self.vault.store.change(Change::new(self.now_ms).edit(Edit::delete(&self.document))).await {
            Err(e) if e.kind() == ErrorKind::Conflict => return Err(going_elsewhere()),
            done => done?,
        };
        self.vault.forget_all_but(self.state.target);
        let UnderWay { rotated, retired, .. } = self.state;
        Ok(Progress { rotated, retired, unreadable: self.unreadable, resumed_at: self.resumed_at })
    }
}

fn encoded(state: &UnderWay) -> Result<serde_json::Value> {
    serde_json::to_value(state).map_err(|e| Error::new(ErrorKind::Internal, "a rotation could not be encoded").because(e))
}

fn going_elsewhere() -> Error {
    Error::new(ErrorKind::Conflict, "the keys are being turned already").fix("wait until that is done; ask again if it was interrupted")
}
