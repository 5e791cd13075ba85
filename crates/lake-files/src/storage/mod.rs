//! The two kinds of root, behind the few verbs that the log, the parts and the readers need. Paths are relative to the root.

mod local;
mod s3;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use linkspan_core::{Context, Result};
use serde::{Deserialize, Serialize};

pub(crate) use local::Local;
pub(crate) use s3::{S3, Upload, changed_while_read};

use crate::config::{Location, ParquetConfig};

/// Where the files are.
pub(crate) enum Storage {
    Local(Local),
    S3(S3),
}

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub path: String,
    pub size: u64,
    /// Changes when the content does: an etag, or the time of the last write and the inode.
    pub identity: String,
    /// Where the store has one: a read can ask for exactly this content.
    pub etag: Option<String>,
}

/// Whether a name was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    Taken,
}

/// How deep a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Files of this folder only.
    One,
    /// Files of folders below it too, ours (`_...`) and hidden ones left out.
    Tables,
}

/// A finished file of rows that nobody sees yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartFile {
    /// The name it gets.
    pub name: String,
    /// Where it waits.
    pub temp: Temp,
    pub size: u64,
    pub rows: u64,
    pub blake3: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Temp {
    /// A file under another name.
    File { path: String },
    /// A multipart upload that is not completed. `note` is the object that keeps its id until it is.
    Upload { id: String, etags: Vec<String>, note: String },
}

impl Temp {
    /// The file or object that is there as long as the part is unfinished.
    pub fn witness(&self) -> &str {
        match self {
            Self::File { path } => path,
            Self::Upload { note, .. } => note,
        }
    }
}

/// What an upload's note says, so that an upload that no log knows can be aborted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UploadNote {
    pub name: String,
    pub upload: String,
}

impl Storage {
    pub fn new(config: &ParquetConfig, ctx: &Context) -> Result<Arc<Self>> {
        Ok(Arc::new(match config.location()? {
            Location::Local(root) => Self::Local(Local::new(root, ctx.files.clone())),
            Location::S3 { bucket, prefix } => Self::S3(S3::new(config, &bucket, &prefix, ctx.http.clone())?),
        }))
    }
    /// The content, or nothing when there is no such file.
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Local(local) => local.read(path),
            Self::S3(s3) => s3.read(path).await,
        }
    }
    /// Writes a whole new file durably, unless the name is taken.
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<Put> {
        match self {
            Self::Local(local) => local.put_new(path, &bytes),
            Self::S3(s3) => s3.put_new(path, bytes).await,
        }
    }
    /// Deletes; a file that is not there is deleted already.
    pub async fn delete(&self, path: &str) -> Result<()> {
        match self {
            Self::Local(local) => local.delete(path),
            Self::S3(s3) => s3.delete(path).await,
        }
    }
    /// The files in a folder, by name; none when there is no such folder.
    pub async fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Item>> {
        let mut items = match self {
            Self::Local(local) => local.list(folder, depth)?,
            Self::S3(s3) => s3.list(folder, depth).await?,
        };
        items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(items)
    }
    /// Gives a finished part its name. Whoever comes second finds it done.
    pub async fn show(&self, part: &PartFile) -> Result<()> {
        match (self, &part.temp) {
            (Self::Local(local), Temp::File { path }) => local.rename(path, &part.name),
            (Self::S3(s3), Temp::Upload { id, etags, note }) => s3.complete(part, id, etags, note).await,
            _ => Err(foreign_log(&part.name)),
        }
    }
    /// Throws an unfinished part away.
    pub async fn discard(&self, part: &PartFile) -> Result<()> {
        match (self, &part.temp) {
            (Self::Local(local), Temp::File { path }) => local.delete(path),
            (Self::S3(s3), Temp::Upload { id, note, .. }) => s3.abort(&part.name, id, note).await,
            _ => Err(foreign_log(&part.name)),
        }
    }
    /// Throws away whatever an unfinished part's witness stands for, when no log knows it.
    pub async fn discard_orphan(&self, witness: &str) -> Result<()> {
        match self {
            Self::Local(local) => local.delete(witness),
            Self::S3(s3) => s3.abort_noted(witness).await,
        }
    }
    /// Makes the renames and deletions in these folders durable.
    pub async fn sync_folders(&self, folders: Vec<String>) -> Result<()> {
        match self {
            Self::Local(local) => local.sync_folders(folders),
            Self::S3(_) => Ok(()),
        }
    }
    /// The root as a person would write it.
    pub fn describe(&self) -> String {
        match self {
            Self::Local(local) => local.root().display().to_string(),
            Self::S3(s3) => s3.describe(),
        }
    }
}

fn foreign_log(name: &str) -> linkspan_core::Error {
    linkspan_core::Error::new(linkspan_core::ErrorKind::DataInvalid, "the commit log speaks of another kind of store")
        .with("file", name)
        .fix("a folder that was copied out of S3 while a commit was under way cannot be continued: start with an empty folder")
}
