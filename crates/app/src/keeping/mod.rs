//! Keeps what connectors change in their own configs (tokens that are good for one use) in the vault, before it is used. One process at
//! a time changes a config, and an older value never takes a newer one's place.

pub mod courier;
mod lock;
mod place;

use std::{fs::File, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use linkspan_core::{Clock, Context, Error, ErrorKind, Holding, Http, Keeper, Place, Result};
use linkspan_store::{AUDIT, Change, Document, Edit, NewEntry, SecretEdit, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub use self::courier::Courier;
use crate::secrets::{Reference, Values, Vault};

/// How often a change is decided again when something else was changed under it.
const ATTEMPTS: u32 = 10;
/// The documents of configs that are written down elsewhere: what was kept of them lies in their secret.
const KIND: &str = "kept_config";

/// What keeping needs of a data dir. Cheap to clone.
#[derive(Clone)]
pub struct Keeping {
    store: Store,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    http: Arc<dyn Http>,
    courier: Courier,
}

impl Keeping {
    pub fn new(store: Store, vault: Arc<Vault>, context: &Context, courier: Courier) -> Self {
        Self { store, vault, clock: context.clock.clone(), http: context.http.clone(), courier }
    }
    /// For a connector of the store.
    pub fn stored(self, id: Uuid) -> Arc<dyn Keeper> {
        Arc::new(Kept { keeping: self, whose: Whose::Connector(id) })
    }
    /// For a config that is written down elsewhere, in a project file: what is kept goes over what is given, as long as the place that
    /// was named first holds what it held then.
    pub fn declared(self, kind: &str, given: Value) -> Arc<dyn Keeper> {
        Arc::new(Kept { keeping: self, whose: Whose::Declared { kind: kind.to_owned(), given } })
    }
}

#[derive(Clone)]
enum Whose {
    Connector(Uuid),
    Declared { kind: String, given: Value },
}

struct Kept {
    keeping: Keeping,
    whose: Whose,
}

/// The right to change, and what stood when it was taken.
struct Held {
    keeping: Keeping,
    of: Of,
    stood: Value,
    lock: File,
}

/// One config that is kept.
enum Of {
    Connector(Uuid),
    Declared { id: Uuid, given: Value },
}

/// What lies in the secret of a declared config's document.
#[derive(Default, Serialize, Deserialize)]
struct Overlay {
    kept: Vec<(Place, Value)>,
}

/// What keeping reads of a connector's document.
#[derive(Deserialize)]
struct Body {
    config: Map<String, Value>,
}

#[async_trait]
impl Keeper for Kept {
    async fn hold(&self, places: &[Place]) -> Result<Box<dyn Holding>> {
        let of = match &self.whose {
            Whose::Connector(id) => Of::Connector(*id),
            Whose::Declared { kind, given } => Of::Declared { id: lineage(kind, given, places), given: given.clone() },
        };
        let lock = lock::locked(&self.keeping.file(of.id(), "lock"), self.keeping.clock.as_ref()).await?;
        if let Of::Connector(id) = &of {
            refuse_elsewhere(&self.keeping.connector(*id).await?.1, places)?;
        }
        let stood = of.stands(&self.keeping).await?.0;
        Ok(Box::new(Held { keeping: self.keeping.clone(), of, stood, lock }))
    }
}

/// The same for the same first value, whatever else the user changes.
fn lineage(kind: &str, given: &Value, places: &[Place]) -> Uuid {
    const KEPT: Uuid = Uuid::from_u128(0x6b65_7074_6c69_4e6b_9a61_3f0c_52d8_71be);
    let first = places.first().and_then(|place| place::at(given, place)).unwrap_or(&Value::Null);
    let digest = blake3::hash(first.to_string().as_bytes());
    Uuid::new_v5(&KEPT, format!("{kind}\n{places:?}\n{digest}").as_bytes())
}

/// A secret that is read elsewhere each time cannot be changed here.
fn refuse_elsewhere(config: &Map<String, Value>, places: &[Place]) -> Result<()> {
    for field in places.iter().filter_map(|place| place.first()) {
        if let Some(Value::String(text)) = config.get(field)
            && Reference::parse(text)?.is_some()
        {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a token that changes lies where it cannot be written back")
                .with("field", field)
                .with("reference", text)
                .fix(format!("store the token itself: linkspan connectors credentials NAME --input '{{\"{field}\": ...}}'")));
        }
    }
    Ok(())
}

#[async_trait]
impl Holding for Held {
    fn config(&self) -> &Value {
        &self.stood
    }

    async fn spend(&self, spends: &str, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let path = self.keeping.file(self.of.id(), "answer");
        if let Some(answer) = courier::found(&path, spends, &self.keeping.vault) {
            return Ok(answer);
        }
        courier::forget(&path);
        let now = u64::try_from(self.keeping.clock.now().as_second()).unwrap_or(0);
        let (courier, own) = (&self.keeping.courier, &self.keeping.http);
        courier::send(courier, own, &self.lock, (&path, spends), &self.keeping.vault, now, request).await
    }

    async fn discard(&self) {
        courier::forget(&self.keeping.file(self.of.id(), "answer"));
    }

    async fn keep(&self, changes: &[(Place, Value)]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match self.keep_once(changes).await {
                // Something else of it was changed, or the data key was rotated away.
                Err(e) if is_race(&e) => self.keeping.vault.forget_current().await,
                done => {
                    // Nobody needs the answer any more: it is kept, or somebody signed in anew.
                    if done.as_ref().map_or_else(|e| e.kind() == ErrorKind::Conflict, |()| true) {
                        courier::forget(&self.keeping.file(self.of.id(), "answer"));
                    }
                    return done;
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "a new token could not be kept: the connector changes all the time").fix("run it again"))
    }
}

fn is_race(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::AlreadyExists) && e.context().iter().any(|(k, _)| *k == "id")
}

impl Held {
    async fn keep_once(&self, changes: &[(Place, Value)]) -> Result<()> {
        let id = self.of.id();
        let was = self.keeping.store.sealed(id).await?;
        let (now, mut values) = self.of.stands(&self.keeping).await?;
        if changes.iter().any(|(place, _)| place::at(&self.stood, place) != place::at(&now, place)) {
            return Err(
                Error::new(ErrorKind::Conflict, "somebody signed in anew while a token was fetched: theirs stays").fix("run it again")
            );
        }
        self.of.take(&now, &mut values, changes)?;
        let now_ms = self.keeping.clock.now().as_millisecond();
        let sealing = self.keeping.vault.seal(id, &values, now_ms).await?;
        let edit = match (&self.of, &was) {
            (_, Some(was)) => Edit::Turn { id, was: was.token.clone(), secret: sealing.sealed },
            (Of::Connector(_), None) => {
                let stands = self.keeping.connector(id).await?.0;
                let if_version = stands.version;
                let document = Document { version: if_version + 1, updated_at_ms: now_ms, ..stands };
                Edit::Update { document, if_version, links: None, secret: SecretEdit::Set(sealing.sealed) }
            }
            (Of::Declared { .. }, None) => {
                let document = Document { id, ..Document::new(KIND, "", None, json!({}), now_ms) };
                Edit::Insert { document, links: vec![], secret: Some(sealing.sealed) }
            }
        };
        let mut change = Change::new(now_ms).edit(sealing.stands);
        if self.of.is_connector() || was.is_some() {
            change = change.edit(Edit::ExpectSecret { id, token: was.map(|was| was.token) });
        }
        let mut change = change.edit(edit);
        if let Of::Connector(_) = self.of {
            change = change.entry(self.keeping.line(id).await?);
        }
        self.keeping.store.change(change).await.map(drop)
    }
}

impl Of {
    fn id(&self) -> Uuid {
        match self {
            Self::Connector(id) | Self::Declared { id, .. } => *id,
        }
    }
    fn is_connector(&self) -> bool {
        matches!(self, Self::Connector(_))
    }
    /// The whole config of now, and what of it lies in the vault.
    async fn stands(&self, keeping: &Keeping) -> Result<(Value, Values)> {
        let values = keeping.vault.values(self.id()).await?;
        let config = match self {
            Self::Connector(id) => {
                let mut config = keeping.connector(*id).await?.1;
                config.extend(values.clone());
                config.into()
            }
            Self::Declared { given, .. } => place::over(given, &overlay(&values)?.kept),
        };
        Ok((config, values))
    }
    /// A connector's secrets are kept by their top field: what lies below goes into what stands there.
    fn take(&self, now: &Value, values: &mut Values, changes: &[(Place, Value)]) -> Result<()> {
        if let Self::Declared { .. } = self {
            let mut kept = overlay(values)?.kept;
            kept.retain(|(place, _)| changes.iter().all(|(changed, _)| changed != place));
            kept.extend(changes.iter().cloned());
            let encoded = serde_json::to_value(Overlay { kept });
            *values = encoded.ok().and_then(|v| v.as_object().cloned()).unwrap_or_default();
            return Ok(());
        }
        for (place, value) in changes {
            let Some(first) = place.first() else { continue };
            if let (false, Some(stands)) = (values.contains_key(first), now.get(first)) {
                values.insert(first.clone(), stands.clone());
            }
            place::put(values, place, value.clone());
        }
        Ok(())
    }
}

fn overlay(values: &Values) -> Result<Overlay> {
    if values.is_empty() {
        return Ok(Overlay::default());
    }
    serde_json::from_value(Value::Object(values.clone()))
        .map_err(|e| Error::new(ErrorKind::DataInvalid, "what was kept of a config is of another version of linkspan").because(e))
}

impl Keeping {
    fn file(&self, id: Uuid, ending: &str) -> PathBuf {
        self.store.dir().join("locks").join(format!("{id}.{ending}"))
    }
    /// A stored connector, with its config as it is shown.
    async fn connector(&self, id: Uuid) -> Result<(Document, Map<String, Value>)> {
        let found = self.store.document_by_id(id).await?;
        let gone = || Error::new(ErrorKind::NotFound, "the connector was deleted while it was used").with("connector", id);
        let document = found.ok_or_else(gone)?;
        let body: Body = document.read()?;
        Ok((document, body.config))
    }
    /// For the audit trail: the connector itself did it.
    async fn line(&self, id: Uuid) -> Result<NewEntry> {
        let document = self.connector(id).await?.0;
        let body = json!({
            "by": {"kind": "connector", "id": id, "name": document.name}, "operation": "keep_token",
            "kind": document.kind, "name": document.name, "secret": "rotated",
        });
        Ok(NewEntry { kind: AUDIT.into(), project: document.project, about: id.to_string(), body, keep: None })
    }
}
