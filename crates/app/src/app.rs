//! What every operation works with.

use std::{path::PathBuf, sync::Arc};

use linkspan_core::{ConnectorType, Context, Error, ErrorKind, Result, Secret};
use linkspan_store::{Change, Document, Edit, Store};
use serde_json::json;

use crate::{
    arriving::Arriving,
    caller::DEFAULT_PROJECT,
    desk::Desk,
    identity::Identity,
    keeping::{Courier, Keeping},
    lake::{Lake, LakeHome},
    manifests::{self, REGISTRY, Types},
    registry::Registry,
    secrets::{Elsewhere, Vault, VaultServer},
};

/// Cheap to share: made once by the binary, handed to every operation.
pub struct App {
    pub store: Store,
    pub registry: Registry,
    /// The types of manifests that were opened.
    pub manifests: Types,
    /// Lent to every connector that is opened.
    pub context: Context,
    pub settings: Settings,
    pub identity: Identity,
    pub vault: Arc<Vault>,
    /// What references to secrets reach.
    pub elsewhere: Elsewhere,
    /// The runs that this process carries out, and its schedules.
    pub desk: Desk,
    /// The files that are on their way in.
    pub(crate) arriving: Arriving,
}

/// What the binary decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// `X.Y.Z`, for health.
    pub version: &'static str,
    /// `LINKSPAN_ADMIN_KEY`; without one a key is made in the data dir.
    pub admin_key: Option<Secret>,
    /// `CONNECTOR_ENCRYPTION_KEY`: keys separated by commas, the first one encrypts. Development makes one in the data dir.
    pub encryption_key: Option<Secret>,
    /// Where `vault://` references are read.
    pub vault: Option<VaultServer>,
    pub files: LocalFiles,
    /// How many runs go at the same time; the others wait.
    pub runs_at_once: usize,
    /// Who fetches tokens that are good for one use.
    pub courier: Courier,
    /// Where manifests are fetched by name: a base URL with the public registry's layout below it.
    pub manifest_registry: String,
    pub uploads: UploadLimits,
    /// Where the built-in lake is; a folder of the data dir without it.
    pub lake: Option<LakeHome>,
}

/// How many bytes uploaded files may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// One file.
    pub file: u64,
    /// All files of a project.
    pub project: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { file: 200 << 20, project: 10 << 30 }
    }
}

/// Which of the machine's files a connector's config may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalFiles {
    /// A person's own command may read what the person may read.
    Anywhere,
    /// Callers over the network reach this folder only; relative paths begin there.
    Under(PathBuf),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Development,
            version: env!("CARGO_PKG_VERSION"),
            admin_key: None,
            encryption_key: None,
            vault: None,
            files: LocalFiles::Anywhere,
            runs_at_once: 4,
            courier: Courier::Own,
            manifest_registry: REGISTRY.to_owned(),
            uploads: UploadLimits::default(),
            lake: None,
        }
    }
}

/// Production = a bind beyond loopback or `LINKSPAN_ENV=production`: refuses to start without an encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Development,
    Production,
}

impl App {
    /// A type by name: of the binary, else of the project's own manifests. `otherwise` when there is none.
    pub async fn kind(&self, project: &str, name: &str, otherwise: ErrorKind) -> Result<ConnectorType> {
        let unknown = match self.registry.named(name, otherwise) {
            Ok(kind) => return Ok(kind.clone()),
            Err(e) => e,
        };
        let Some((document, kept)) = manifests::find(&self.store, project, name).await? else { return Err(unknown) };
        let key = (project.to_owned(), document.name.clone().unwrap_or_default());
        let digest = kept.newest()?.digest.clone();
        if let Some(kind) = self.manifests.get(&key, &digest) {
            return Ok(kind);
        }
        let kind = manifests::ready(&self.store, &document, &kept).await?;
        self.manifests.put(key, digest, kind.clone());
        Ok(kind)
    }
    /// Reads or makes the keys of the data dir and the default project.
    pub async fn open(store: Store, registry: Registry, context: Context, settings: Settings) -> Result<Arc<Self>> {
        let identity = Identity::open(store.dir(), settings.admin_key.as_ref().map(Secret::expose))?;
        if settings.mode == Mode::Production && settings.encryption_key.is_none() {
            return Err(no_key());
        }
        let vault = Vault::open(store.clone(), settings.encryption_key.as_ref().map(Secret::expose))?;
        let elsewhere = Elsewhere::new(&store.dir().join("secrets"), settings.vault.clone(), context.clock.clone());
        let app = Arc::new(Self {
            store,
            registry,
            manifests: Types::default(),
            context,
            settings,
            identity,
            vault: Arc::new(vault),
            elsewhere,
            desk: Desk::default(),
            arriving: Arriving::default(),
        });
        app.lake().check()?;
        app.make_default_project().await?;
        Ok(app)
    }
    /// The built-in lake.
    pub(crate) fn lake(&self) -> Lake<'_> {
        Lake { home: self.settings.lake.as_ref(), data_dir: self.store.dir(), registry: &self.registry, context: &self.context }
    }

    /// What keeps tokens that connectors were given in place of older ones.
    pub fn keeping(&self) -> Keeping {
        Keeping::new(self.store.clone(), self.vault.clone(), &self.context, self.settings.courier.clone())
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

fn no_key() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "production needs an encryption key of its own")
        .with("variable", "CONNECTOR_ENCRYPTION_KEY")
        .fix("`linkspan keys generate` makes one; keep it apart from the data dir, for secrets cannot be read without it")
}
