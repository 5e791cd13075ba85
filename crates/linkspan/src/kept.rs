//! Tokens that a connector of a project file or a URL was given in place of older ones: they are kept in the data dir, which is opened
//! when the first one comes.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use linkspan_app::{
    keeping::{Courier, Keeping},
    run::Endpoint,
    secrets::Vault,
};
use linkspan_core::{Context, Holding, Keeper, Place, Result, Secret};
use linkspan_store::Store;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::settings;

/// The data dir of a command, for all of its ends.
#[derive(Clone)]
pub struct DataDir(Arc<Inner>);

struct Inner {
    asked: Option<PathBuf>,
    context: Context,
    keeping: OnceCell<Keeping>,
}

/// One end's config.
struct Declared {
    dir: DataDir,
    kind: String,
    given: Value,
}

impl DataDir {
    pub fn new(asked: Option<&PathBuf>, context: &Context) -> Self {
        Self(Arc::new(Inner { asked: asked.cloned(), context: context.clone(), keeping: OnceCell::new() }))
    }
    /// The same end, whose tokens are kept here.
    pub fn keeps(&self, end: Endpoint) -> Endpoint {
        let keeper = Declared { dir: self.clone(), kind: end.kind.spec.name.to_string(), given: end.config().clone() };
        end.kept(Arc::new(keeper))
    }
    async fn keeping(&self) -> Result<Keeping> {
        let Inner { asked, context, keeping } = &*self.0;
        let opened = keeping.get_or_try_init(async || {
            let store = Store::open(&settings::data_dir(asked.as_ref())?, context).await?;
            let key = std::env::var("CONNECTOR_ENCRYPTION_KEY").ok().filter(|key| !key.is_empty()).map(Secret::new);
            let vault = Vault::open(store.clone(), key.as_ref().map(Secret::expose))?;
            Ok(Keeping::new(store, Arc::new(vault), context, courier(false)))
        });
        opened.await.cloned()
    }
}

#[async_trait]
impl Keeper for Declared {
    async fn hold(&self, places: &[Place]) -> Result<Box<dyn Holding>> {
        self.dir.keeping().await?.declared(&self.kind, self.given.clone()).hold(places).await
    }
}

/// Another process of this program fetches tokens: it goes on when this one is killed.
pub fn courier(guarded: bool) -> Courier {
    // The running program, also when its file was replaced meanwhile.
    let own = PathBuf::from("/proc/self/exe");
    match if own.exists() { Ok(own) } else { std::env::current_exe() } {
        Ok(path) => Courier::Program { path, guarded },
        Err(_) => Courier::Own,
    }
}
