//! Tokens that a connector rotates, kept in the vault before they are used. One process at a time changes them.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use linkspan_core::{Clock, Error, ErrorKind, Holding, Keeper, Result, file_error};
use linkspan_store::{Change, Edit, SecretEdit, Store};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Connector, config::whole};
use crate::secrets::{Values, Vault};

/// How often a change is decided again when a data key was rotated under it.
const ATTEMPTS: u32 = 5;

/// What one connector may write back into its config.
pub(super) struct ConnectorKeeper {
    pub store: Store,
    pub vault: Arc<Vault>,
    pub clock: Arc<dyn Clock>,
    pub connector: Uuid,
}

/// The right to change it. The lock is the kernel's: a process that is killed lets go.
struct Held {
    keeper: Arc<Open>,
    stood: Value,
    _lock: File,
}

struct Open {
    store: Store,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    connector: Uuid,
}

#[async_trait]
impl Keeper for ConnectorKeeper {
    async fn hold(&self) -> Result<Box<dyn Holding>> {
        let folder = self.store.dir().join("locks");
        let path = folder.join(format!("{}.lock", self.connector));
        let lock = tokio::task::spawn_blocking(move || locked(folder, &path)).await;
        let lock = lock.map_err(|e| Error::new(ErrorKind::Internal, "waiting for a lock did not end").because(e))??;
        let keeper = Arc::new(Open {
            store: self.store.clone(),
            vault: self.vault.clone(),
            clock: self.clock.clone(),
            connector: self.connector,
        });
        let (_, config) = keeper.stands().await?;
        Ok(Box::new(Held { keeper, stood: config, _lock: lock }))
    }
}

fn locked(folder: PathBuf, path: &std::path::Path) -> Result<File> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|e| file_error("the folder for locks cannot be made", &folder, e))?;
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.map_err(|e| file_error("a connector's lock cannot be opened", path, e))?;
    file.lock().map_err(|e| file_error("the data dir's file system cannot lock files", path, e))?;
    Ok(file)
}

#[async_trait]
impl Holding for Held {
    fn config(&self) -> &Value {
        &self.stood
    }
    async fn keep(&self, changes: &[(Vec<String>, Value)]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.keeper.keep(&self.stood, changes).await? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Conflict, "a rotated token could not be kept: the connector changes all the time"))
    }
}

impl Open {
    async fn stands(&self) -> Result<(Values, Value)> {
        let values = self.vault.values(self.connector).await?;
        let connector: Connector = self.document().await?.read()?;
        let config = whole(&connector.config, &values);
        Ok((values, config))
    }
    async fn document(&self) -> Result<linkspan_store::Document> {
        let found = self.store.document_by_id(self.connector).await?;
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the connector was deleted while it ran").with("connector", self.connector))
    }

    /// Whether it is durable; otherwise it is to be decided again.
    async fn keep(&self, stood: &Value, changes: &[(Vec<String>, Value)]) -> Result<bool> {
        let was = self.store.sealed(self.connector).await?;
        let (mut values, now) = self.stands().await?;
        if changes.iter().any(|(path, _)| at(stood, path) != at(&now, path)) {
            return Err(Error::new(ErrorKind::Conflict, "somebody signed in anew while a token was refreshed: theirs stays")
                .fix("run it again"));
        }
        for (path, value) in changes {
            put(&mut values, &now, path, value.clone());
        }
        let now_ms = self.clock.now().as_millisecond();
        let sealing = self.vault.seal(self.connector, &values, now_ms).await?;
        let token = sealing.sealed.token.clone();
        let edit = match was {
            Some(was) => Edit::Turn { id: self.connector, was: was.token, secret: sealing.sealed },
            None => {
                let document = self.document().await?;
                let if_version = document.version;
                let connector: Connector = document.read()?;
                let document = document.revised(&connector, now_ms)?;
                Edit::Update { document, if_version, links: None, secret: SecretEdit::Set(sealing.sealed) }
            }
        };
        match self.store.change(Change::new(now_ms).edit(sealing.stands).edit(edit)).await {
            Ok(_) => {}
            // The data key was rotated away, or the connector was changed, since it was looked up.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => self.vault.forget_current().await,
            Err(e) => return Err(e),
        }
        Ok(self.store.sealed(self.connector).await?.is_some_and(|sealed| sealed.token == token))
    }
}

fn at<'a>(config: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(config, |value, name| value.get(name))
}

/// Secrets are kept by their top field: what lies below goes into what stands there.
fn put(values: &mut Values, now: &Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    let field = values.entry(first.clone()).or_insert_with(|| now.get(first).cloned().unwrap_or_default());
    let mut node = field;
    for name in rest {
        if !node.is_object() {
            *node = Value::Object(Map::new());
        }
        let Some(fields) = node.as_object_mut() else { return };
        node = fields.entry(name.clone()).or_insert(Value::Null);
    }
    *node = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_goes_beside_what_stands_in_its_field() {
        let now = json!({"credentials": {"id": "i", "refresh": "r0"}, "until": "then"});
        let mut values = Values::from_iter([("credentials".to_owned(), now["credentials"].clone())]);
        put(&mut values, &now, &["credentials".into(), "refresh".into()], "r1".into());
        put(&mut values, &now, &["until".into()], "later".into());
        put(&mut values, &now, &["more".into(), "access".into()], "a".into());
        let want = json!({"credentials": {"id": "i", "refresh": "r1"}, "until": "later", "more": {"access": "a"}});
        assert_eq!(Value::Object(values), want);
        assert_eq!((at(&now, &["credentials".into(), "id".into()]), at(&now, &["x".into()])), (Some(&json!("i")), None));
    }
}
