//! The app on a data dir, as the server and the commands that need no server open it.

use std::{path::PathBuf, sync::Arc};

use linkspan_app::{App, LakeHome, LocalFiles, Mode, Settings, UploadLimits, secrets::VaultServer};
use linkspan_core::{Context, Error, ErrorKind, Result, Secret};
use linkspan_store::Store;

use crate::{ends, kept, settings};

/// An open data dir.
pub struct House {
    pub app: Arc<App>,
    store: Store,
}

impl House {
    /// For a person's own command: as the data dir's owner, or through the one that it has.
    pub async fn open(asked: Option<&PathBuf>, context: Context) -> Result<Self> {
        let store = Store::open(&settings::data_dir(asked)?, &context).await?;
        Self::on(store, context, Mode::Development, LocalFiles::Anywhere).await
    }
    pub async fn on(store: Store, context: Context, mode: Mode, files: LocalFiles) -> Result<Self> {
        let settings = Settings {
            mode,
            version: env!("CARGO_PKG_VERSION"),
            admin_key: secret("LINKSPAN_ADMIN_KEY"),
            encryption_key: secret("CONNECTOR_ENCRYPTION_KEY"),
            vault: vault(),
            courier: kept::courier(matches!(files, LocalFiles::Under(_))),
            files,
            runs_at_once: runs_at_once()?,
            uploads: uploads()?,
            lake: lake(),
            manifest_registry: text("LINKSPAN_MANIFEST_REGISTRY").unwrap_or_else(|| Settings::default().manifest_registry),
        };
        match App::open(store.clone(), ends::served(), context, settings).await {
            Ok(app) => Ok(Self { app, store }),
            Err(e) => {
                store.close().await;
                Err(e)
            }
        }
    }
    pub fn store(&self) -> Store {
        self.store.clone()
    }
    pub async fn close(&self) {
        self.app.desk.open.close_all().await;
        self.store.close().await;
    }
}

/// `LINKSPAN_RUNS_AT_ONCE`: how many runs go at the same time.
fn runs_at_once() -> Result<usize> {
    let Some(given) = text("LINKSPAN_RUNS_AT_ONCE") else { return Ok(Settings::default().runs_at_once) };
    given.parse().ok().filter(|n| (1..=1_024).contains(n)).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "the number of runs at once is from 1 to 1024")
            .with("setting", "LINKSPAN_RUNS_AT_ONCE")
            .fix("set it to a number, such as 4")
    })
}

/// Where the operator put the built-in lake.
fn lake() -> Option<LakeHome> {
    Some(LakeHome {
        url: text("LINKSPAN_LAKE_URL")?,
        endpoint: text("LINKSPAN_LAKE_ENDPOINT"),
        region: text("LINKSPAN_LAKE_REGION"),
        access_key_id: text("LINKSPAN_LAKE_ACCESS_KEY_ID"),
        secret_access_key: secret("LINKSPAN_LAKE_SECRET_ACCESS_KEY"),
        session_token: secret("LINKSPAN_LAKE_SESSION_TOKEN"),
        allow_http: text("LINKSPAN_LAKE_ALLOW_HTTP").is_some_and(|v| matches!(v.as_str(), "1" | "true" | "yes")),
    })
}

/// `LINKSPAN_UPLOAD_MAX_MB` of a file, `LINKSPAN_UPLOAD_QUOTA_MB` of a project.
fn uploads() -> Result<UploadLimits> {
    let usual = UploadLimits::default();
    let megabytes = |name: &'static str, usual: u64| match text(name) {
        None => Ok(usual),
        Some(given) => given.parse::<u64>().ok().filter(|n| (1..=1 << 20).contains(n)).map(|n| n << 20).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "a size of uploads is from 1 to 1048576 MB")
                .with("setting", name)
                .fix("set it to a number, such as 200")
        }),
    };
    Ok(UploadLimits {
        file: megabytes("LINKSPAN_UPLOAD_MAX_MB", usual.file)?,
        project: megabytes("LINKSPAN_UPLOAD_QUOTA_MB", usual.project)?,
    })
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn secret(name: &str) -> Option<Secret> {
    text(name).map(Secret::new)
}

/// Where `vault://` references lead, by the variables that every tool of it reads.
fn vault() -> Option<VaultServer> {
    let (address, token) = (text("VAULT_ADDR")?, secret("VAULT_TOKEN")?);
    Some(VaultServer { address, token, namespace: text("VAULT_NAMESPACE") })
}
