//! The vault: a document's secrets in one token beside it, under a data key that the keyring wraps. Only tokens reach the store.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
};

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{Change, Document, DocumentFilter, Edit, Sealed, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    fernet::{Expiry, Key, unreadable},
    keyring::{Keyring, Turned},
};
use crate::identity::kept_secret;

/// The documents that hold wrapped data keys.
pub const DATA_KEY: &str = "data_key";

/// Secret fields by name.
pub type Values = Map<String, Value>;

/// Seals and opens. Cheap to share; never printed.
pub struct Vault {
    pub(super) store: Store,
    pub(super) keyring: Keyring,
    known: Mutex<HashMap<Uuid, Arc<Key>>>,
    current: tokio::sync::Mutex<Option<Uuid>>,
    /// Held while this process turns the keys.
    pub(super) rotating: tokio::sync::Mutex<()>,
}

/// What makes a secret durable: the token, and the edit that proves in the same transaction that its data key still stands.
pub struct Sealing {
    pub sealed: Sealed,
    pub stands: Edit,
}

#[derive(Serialize, Deserialize)]
struct Wrapped {
    wrapped: String,
}

/// The inside of a token. The document's id is in it, so that a token moved to another document opens nothing.
#[derive(Serialize, Deserialize)]
struct Inside {
    document: Uuid,
    values: Values,
}

impl Vault {
    /// `given`: `CONNECTOR_ENCRYPTION_KEY`. Without it a key is made in the data dir; one that was made there before still opens.
    pub fn open(store: Store, given: Option<&str>) -> Result<Self> {
        let file = store.dir().join("encryption.key");
        let keyring = match given {
            None => Keyring::parse(&kept_secret(&file, || Ok(Key::generate()?.expose()))?)?,
            Some(given) => Keyring::parse(&with_file(given, &file)?)?,
        };
        Ok(Self {
            store,
            keyring,
            known: Mutex::default(),
            current: tokio::sync::Mutex::default(),
            rotating: tokio::sync::Mutex::default(),
        })
    }

    /// A token for a document's secrets. It counts once a change with both parts of it is durable.
    pub async fn seal(&self, document: Uuid, values: &Values, now_ms: i64) -> Result<Sealing> {
        let mut id = self.current(now_ms).await?;
        let key = match self.data_key(id).await {
            // Rotated away by another process since it was looked up.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.forget_current().await;
                id = self.current(now_ms).await?;
                self.data_key(id).await
            }
            found => found,
        }?;
        let sealed = Sealed { data_key: id, token: sealed(&key, document, values, now_ms)? };
        Ok(Sealing { sealed, stands: Edit::Expect { id, version: 1 } })
    }

    /// The secrets of a document; none when it has none. `DataInvalid` with a fix when no key of this process opens them.
    pub async fn values(&self, document: Uuid) -> Result<Values> {
        // A rotation may take the data key away between the two reads: then the secret lies under the next one.
        for _ in 0..3 {
            let Some(sealed) = self.store.sealed(document).await? else { return Ok(Values::new()) };
            match self.data_key(sealed.data_key).await {
                Ok(key) => return opened(&key, document, &sealed.token),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Err(unreadable())
    }

    /// A key of somebody else's for a while, under the first key of the keyring.
    pub fn wrap(&self, key: &[u8], now: u64) -> Result<String> {
        self.keyring.seal(key, now)
    }
    pub fn unwrap(&self, wrapped: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.keyring.open(wrapped, Expiry::Never).map(|opened| opened.plain)
    }

    /// The data key that seals: the newest; made when there is none. Forgotten by [`Vault::forget_current`].
    async fn current(&self, now_ms: i64) -> Result<Uuid> {
        let mut current = self.current.lock().await;
        if let Some(id) = *current {
            return Ok(id);
        }
        let id = match self.data_keys().await?.last().map(|d| d.id) {
            // One that this keyring cannot unwrap seals nothing: what lies under it waits for its key.
            Some(id) if !self.data_key(id).await.is_err_and(|e| e.kind() == ErrorKind::DataInvalid) => id,
            _ => self.make_data_key(now_ms).await?,
        };
        *current = Some(id);
        Ok(id)
    }
    /// Somebody else rotated: look again which data key is the newest.
    pub async fn forget_current(&self) {
        *self.current.lock().await = None;
    }
    pub(super) async fn set_current(&self, id: Uuid) {
        *self.current.lock().await = Some(id);
    }

    async fn make_data_key(&self, now_ms: i64) -> Result<Uuid> {
        let (document, key) = self.drawn_data_key(now_ms)?;
        let id = document.id;
        self.store.change(Change::new(now_ms).edit(Edit::insert(document))).await?;
        self.remember(id, key);
        Ok(id)
    }
    /// A new one, wrapped by the first key of the keyring; it counts once its document is durable.
    pub(super) fn drawn_data_key(&self, now_ms: i64) -> Result<(Document, Arc<Key>)> {
        let key = Key::generate()?;
        let wrapped = self.keyring.seal(key.expose().as_bytes(), seconds(now_ms))?;
        let body = serde_json::to_value(Wrapped { wrapped })
            .map_err(|e| Error::new(ErrorKind::Internal, "a key could not be encoded").because(e))?;
        Ok((Document::new(DATA_KEY, "", None, body, now_ms), Arc::new(key)))
    }
    /// Whether the data key stands and the key that encrypts now wraps it.
    pub(super) async fn is_wrapped_by_first(&self, id: Uuid) -> Result<bool> {
        let Some(document) = self.data_key_document(id).await? else { return Ok(false) };
        let wrapped: Wrapped = document.read()?;
        Ok(self.keyring.turn(&wrapped.wrapped).is_ok_and(|turned| turned == Turned::Current))
    }
    /// All that stand, the newest one last.
    pub(super) async fn data_keys(&self) -> Result<Vec<Document>> {
        const PAGE: u32 = 1000;
        let mut all: Vec<Document> = Vec::new();
        loop {
            let after = all.last().map(|d| d.seq);
            let filter = DocumentFilter { after, limit: Some(PAGE), ..DocumentFilter::of(DATA_KEY, "") };
            let page = self.store.documents(filter).await?;
            let whole = page.len() < PAGE as usize;
            all.extend(page);
            if whole {
                return Ok(all);
            }
        }
    }
    async fn data_key_document(&self, id: Uuid) -> Result<Option<Document>> {
        Ok(self.store.document_by_id(id).await?.filter(|d| d.kind == DATA_KEY))
    }

    pub(super) async fn data_key(&self, id: Uuid) -> Result<Arc<Key>> {
        if let Some(key) = self.known.lock().expect("no panic while held").get(&id) {
            return Ok(key.clone());
        }
        let document =
            self.data_key_document(id).await?.ok_or_else(|| Error::new(ErrorKind::NotFound, "the data key of a secret is gone"))?;
        let wrapped: Wrapped = document.read()?;
        let plain = self.keyring.open(&wrapped.wrapped, Expiry::Never)?.plain;
        let key = Arc::new(Key::parse(std::str::from_utf8(&plain).map_err(|_| unreadable())?)?);
        self.remember(id, key.clone());
        Ok(key)
    }
    pub(super) fn remember(&self, id: Uuid, key: Arc<Key>) {
        self.known.lock().expect("no panic while held").insert(id, key);
    }
    pub(super) fn forget_all_but(&self, id: Uuid) {
        self.known.lock().expect("no panic while held").retain(|known, _| *known == id);
    }
}

/// The key of the data dir comes last, so that what it sealed before the variable was set still opens.
fn with_file(given: &str, file: &Path) -> Result<Zeroizing<String>> {
    if !file.exists() {
        return Ok(Zeroizing::new(given.to_owned()));
    }
    let kept = kept_secret(file, || Ok(Zeroizing::new(String::new())))?;
    Ok(Zeroizing::new(format!("{given},{}", *kept)))
}

pub(super) fn seconds(ms: i64) -> u64 {
    u64::try_from(ms / 1000).unwrap_or(0)
}

pub(super) fn sealed(key: &Key, document: Uuid, values: &Values, now_ms: i64) -> Result<String> {
    let inside = Inside { document, values: values.clone() };
    let plain = serde_json::to_vec(&inside).map(Zeroizing::new);
    let plain = plain.map_err(|e| Error::new(ErrorKind::Internal, "secrets could not be encoded").because(e))?;
    key.seal(&plain, seconds(now_ms))
}

pub(super) fn opened(key: &Key, document: Uuid, token: &str) -> Result<Values> {
    let plain = key.open(token, Expiry::Never)?.plain;
    let inside: Inside = serde_json::from_slice(&plain).map_err(|_| unreadable())?;
    if inside.document != document {
        return Err(unreadable());
    }
    Ok(inside.values)
}
