//! The app on a data dir, as the server and the commands that need no server open it.

use std::{path::PathBuf, sync::Arc};

use linkspan_app::{App, Mode, Settings};
use linkspan_core::{Context, Result, Secret};
use linkspan_store::Store;

use crate::{ends, sync};

/// An open data dir.
pub struct House {
    pub app: Arc<App>,
    store: Store,
}

impl House {
    /// As the data dir's owner, or through the one that it has.
    pub async fn open(asked: Option<&PathBuf>, context: Context) -> Result<Self> {
        let store = Store::open(&sync::data_dir(asked)?, &context).await?;
        Self::on(store, context, Mode::Development).await
    }
    pub async fn on(store: Store, context: Context, mode: Mode) -> Result<Self> {
        let admin_key = std::env::var("LINKSPAN_ADMIN_KEY").ok().filter(|k| !k.is_empty()).map(Secret::new);
        let settings = Settings { mode, version: env!("CARGO_PKG_VERSION"), admin_key };
        match App::open(store.clone(), ends::registry(), context, settings).await {
            Ok(app) => Ok(Self { app, store }),
            Err(e) => {
                store.close().await;
                Err(e)
            }
        }
    }
    pub async fn close(&self) {
        self.store.close().await;
    }
}
