//! A folder on a local disk. Every verb is durable when it returns, except deletions, which may come back after a power cut.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use linkspan_core::{ErrorKind, Files, Result, file_error};

use super::{Depth, Item, Put};

pub(crate) struct Local {
    root: PathBuf,
    files: Files,
}

impl Local {
    pub fn new(root: PathBuf, files: Files) -> Self {
        Self { root, files }
    }
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
    pub fn files(&self) -> &Files {
        &self.files
    }
    /// Makes a folder and all above it, durably.
    pub fn make_folder(&self, folder: &Path) -> Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.make_folder(parent)?;
        }
        match std::fs::create_dir(folder) {
            Ok(()) => self.files.sync_dir(parent.unwrap_or(Path::new("."))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            Err(e) => Err(file_error("the folder cannot be made", folder, e)),
        }
    }
    pub fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let path = self.at(path);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file_error("the file cannot be read", &path, e)),
        }
    }
    pub fn put_new(&self, path: &str, bytes: &[u8]) -> Result<Put> {
        let path = self.at(path);
        self.make_folder(path.parent().unwrap_or(&self.root))?;
        match self.files.put_if_absent(&path, bytes) {
            Ok(()) => Ok(Put::Done),
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(Put::Taken),
            Err(e) => Err(e),
        }
    }
    pub fn delete(&self, path: &str) -> Result<()> {
        let path = self.at(path);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error("the file cannot be deleted", &path, e)),
            _ => Ok(()),
        }
    }
    /// A temp that is gone was renamed before: only a rename takes away what the log knows.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.at(from), self.at(to));
        self.make_folder(to.parent().unwrap_or(&self.root))?;
        match self.files.rename(&from, &to) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
    pub fn sync_folders(&self, folders: impl IntoIterator<Item = String>) -> Result<()> {
        let folders: BTreeSet<String> = folders.into_iter().collect();
        for folder in folders {
            let folder = self.at(&folder);
            if folder.is_dir() {
                self.files.sync_dir(&folder)?;
            }
        }
        Ok(())
    }
    pub fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        self.list_into(folder, depth, 0, &mut items)?;
        Ok(items)
    }
    /// One file as a listing would show it; nothing when it is not there.
    pub fn item(&self, path: &str) -> Result<Option<Item>> {
        let at = self.at(path);
        match std::fs::metadata(&at) {
            Ok(meta) => Ok(Some(item_of(path.to_owned(), &meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file_error("the file cannot be read", &at, e)),
        }
    }
    fn list_into(&self, folder: &str, depth: Depth, level: usize, items: &mut Vec<Item>) -> Result<()> {
        let at = self.at(folder);
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(file_error("the folder cannot be read", &at, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| file_error("the folder cannot be read", &at, e))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            // A file may go while the folder is listed; then it is not listed.
            let Ok(meta) = std::fs::metadata(entry.path()) else { continue };
            if meta.is_dir() {
                if depth == Depth::Tables && level < 2 && !name.starts_with(['_', '.']) {
                    self.list_into(&path, depth, level + 1, items)?;
                }
            } else {
                items.push(item_of(path, &meta));
            }
        }
        Ok(())
    }
}

fn item_of(path: String, meta: &std::fs::Metadata) -> Item {
    let identity = format!("{}.{}-{}", meta.mtime(), meta.mtime_nsec(), meta.ino());
    Item { path, size: meta.len(), identity, etag: None }
}
