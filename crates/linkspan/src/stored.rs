//! Ends that lie in the data dir: connectors of its hub, by name. Nothing is opened before a name asks for it, and no data dir is made.

use std::path::{Path, PathBuf};

use linkspan_app::{connections, run::Endpoint};
use linkspan_core::{Context, Result};
use linkspan_store::Store;
use tokio::sync::OnceCell;

use crate::{house::House, settings::data_dir};

/// The hub of a data dir, as far as a command needs it.
pub struct Hub {
    asked: Option<PathBuf>,
    context: Context,
    project: String,
    house: OnceCell<House>,
}

impl Hub {
    pub fn new(asked: Option<&PathBuf>, context: &Context, project: &str) -> Self {
        Self { asked: asked.cloned(), context: context.clone(), project: project.to_owned(), house: OnceCell::new() }
    }
    /// The connector of this name; nothing for a text that is no name, or without a hub.
    pub async fn source(&self, text: &str) -> Result<Option<Endpoint>> {
        match self.of(text).await? {
            Some(house) => connections::source_end(&house.app, &self.project, text).await.map(Some),
            None => Ok(None),
        }
    }
    /// The same for `name` and `name:table`, with the table.
    pub async fn destination(&self, text: &str) -> Result<Option<(Endpoint, Option<String>)>> {
        match self.of(text.split(':').next().unwrap_or_default()).await? {
            Some(house) => connections::destination_end(&house.app, &self.project, text).await.map(Some),
            None => Ok(None),
        }
    }
    async fn of(&self, name: &str) -> Result<Option<&House>> {
        let is_name = !name.is_empty() && !name.contains([':', '/', '.', '\\']) && !Path::new(name).exists();
        if !is_name || !Store::stands(&data_dir(self.asked.as_ref())?) {
            return Ok(None);
        }
        self.house.get_or_try_init(|| House::open(self.asked.as_ref(), self.context.clone())).await.map(Some)
    }
    /// What was opened, for whoever goes on with it and closes it.
    pub fn into_house(self) -> Option<House> {
        self.house.into_inner()
    }
}
