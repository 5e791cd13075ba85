//! What all sessions of a destination share: its settings, its storage, its log.

use std::sync::Arc;

use linkspan_core::{Context, Error, ErrorKind, Result};

use crate::{
    config::ParquetConfig,
    log::{Entry, Ledger, Log},
    place, roll,
    storage::{Depth, Item, Storage},
};

/// What all sessions of a destination share.
pub(crate) struct House {
    pub config: Arc<ParquetConfig>,
    pub storage: Arc<Storage>,
    pub log: Log,
    pub ctx: Context,
}

impl House {
    /// Adds an entry that takes the present files of some tables away. Everything before it has rolled by then, so that the listing
    /// of a folder is the whole truth about it; when another writer gets in between, the listing is made again.
    pub async fn append_over(
        &self,
        folders: &[String],
        make: impl Fn(&Ledger, Vec<Vec<String>>) -> Entry,
        check: impl Fn(&Ledger) -> Result<()>,
    ) -> Result<u64> {
        let _turn = self.log.turn().await;
        loop {
            self.log.refresh().await?;
            roll::roll_all(&self.storage, &self.log, &self.ctx).await?;
            let head = {
                let ledger = self.log.ledger();
                check(&ledger)?;
                ledger.head
            };
            let mut present = Vec::with_capacity(folders.len());
            for folder in folders {
                present.push(self.present(folder).await?.into_iter().map(|item| item.path).collect());
            }
            let entry = make(&self.log.ledger(), present);
            if self.log.try_append(head + 1, &entry).await? {
                return Ok(head + 1);
            }
        }
    }

    /// The files that are ours in a table's folder.
    pub async fn present(&self, folder: &str) -> Result<Vec<Item>> {
        let mut items = self.storage.list(folder, Depth::One).await?;
        items.retain(|item| item.path.rsplit('/').next().is_some_and(place::is_part));
        Ok(items)
    }

    /// After an entry is in: roll it forward, and tidy the log when it is time.
    pub async fn settle(&self, number: u64) -> Result<()> {
        roll::roll_own(&self.storage, &self.log, &self.ctx, number).await?;
        self.log.tidy(number).await
    }

    pub fn refuse_single_file(&self) -> Result<()> {
        match &*self.storage {
            Storage::Local(local) if local.root().is_file() => {
                Err(Error::new(ErrorKind::ConfigInvalid, "a destination is a folder, and this is a file")
                    .with("path", local.root().display())
                    .fix("name a folder: each table becomes a folder of files in it"))
            }
            _ => Ok(()),
        }
    }
}
