//! What every operation works with.

use std::sync::Arc;

use linkspan_core::{Context, ErrorKind, Result, Secret};
use linkspan_store::{Change, Document, Edit, Store};
use serde_json::json;

use crate::{caller::DEFAULT_PROJECT, identity::Identity, registry::Registry};

/// Cheap to share: made once by the binary, handed to every operation.
pub struct App {
    pub store: Store,
    pub registry: Registry,
    /// Lent to every connector that is opened.
    pub context: Context,
    pub settings: Settings,
    pub identity: Identity,
}

/// What the binary decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// `X.Y.Z`, for health.
    pub version: &'static str,
    /// `LINKSPAN_ADMIN_KEY`; without one a key is made in the data dir.
    pub admin_key: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: Mode::Development, version: env!("CARGO_PKG_VERSION"), admin_key: None }
    }
}

/// Production = a bind beyond loopback or `LINKSPAN_ENV=production`: refuses to start without an encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Development,
    Production,
}

impl App {
    /// Reads or makes the keys of the data dir and the default project.
    pub async fn open(store: Store, registry: Registry, context: Context, settings: Settings) -> Result<Arc<Self>> {
        let identity = Identity::open(store.dir(), settings.admin_key.as_ref().map(Secret::expose))?;
        let app = Arc::new(Self { store, registry, context, settings, identity });
        app.make_default_project().await?;
        Ok(app)
    }
    pub fn now_ms(&self) -> i64 {
        self.context.clock.now().as_millisecond()
    }
    async fn make_default_project(&self) -> Result<()> {
        if self.store.document("project", "", DEFAULT_PROJECT).await?.is_some() {
            return Ok(());
        }
        let now = self.now_ms();
        let project = Document::new("project", "", Some(DEFAULT_PROJECT), json!({}), now);
        match self.store.change(Change::new(now).edit(Edit::insert(project))).await {
            // Another process was first.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop),
        }
    }
}
