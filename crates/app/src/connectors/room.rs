//! Where the files that were uploaded into a connector lie. The store's documents say which files there are and which content each of
//! them has; the folder follows them. A content waits in `incoming` under its own id until a document names it, so that whatever a crash
//! leaves behind is either given its name later or removed, and a reader sees whole files only.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use linkspan_core::{ConnectorType, Error, ErrorKind, Result, file_error};
use linkspan_store::{Document, DocumentFilter, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The kind of the files' documents; their name is `<connector's id>/<file's name>`, their facet the connector's id.
pub(super) const UPLOAD: &str = "upload";
/// In the data dir.
const FOLDER: &str = "uploads";
const PAGE: u32 = 1000;

/// A file as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct UploadedFile {
    /// The content's own id: another one for each that is sent.
    pub content: Uuid,
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
    /// Who sent it.
    pub by: String,
}

/// Whether a connector reads what is uploaded into it: its type can, and its config names no other place.
pub(super) fn holds_files(kind: &ConnectorType, config: &Map<String, Value>) -> bool {
    kind.spec.uploads.is_some() && config.get("path").is_none_or(Value::is_null)
}

/// The name of a file of the connector.
pub(super) fn name_of(document: &Document) -> &str {
    document.name.as_deref().and_then(|name| name.split_once('/')).map_or("", |(_, name)| name)
}

/// The files of a connector, oldest first.
pub(super) async fn files_of(store: &Store, project: &str, connector: Uuid) -> Result<Vec<Document>> {
    documents(store, DocumentFilter { facet: Some(connector.to_string()), ..DocumentFilter::of(UPLOAD, project) }).await
}

/// The bytes of all files of the project.
pub(super) async fn bytes_of(store: &Store, project: &str) -> Result<u64> {
    let all = documents(store, DocumentFilter::of(UPLOAD, project)).await?;
    all.iter().try_fold(0, |sum, document| Ok(sum + document.read::<UploadedFile>()?.bytes))
}

async fn documents(store: &Store, filter: DocumentFilter) -> Result<Vec<Document>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.documents(DocumentFilter { after, limit: Some(PAGE), ..filter.clone() }).await?;
        let whole = page.len() < PAGE as usize;
        after = page.last().map(|d| d.seq);
        all.extend(page);
        if whole {
            return Ok(all);
        }
    }
}

/// The folder of one connector.
#[derive(Clone, Debug)]
pub(super) struct Room {
    dir: PathBuf,
    project: String,
    connector: Uuid,
}

impl Room {
    pub(super) fn of(store: &Store, project: &str, connector: Uuid) -> Self {
        let dir = store.dir().join(FOLDER).join(project).join(connector.to_string());
        Self { dir, project: project.to_owned(), connector }
    }
    /// What the connector reads.
    pub(super) fn files(&self) -> PathBuf {
        self.dir.join("files")
    }
    fn incoming(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    /// An empty content that nobody takes for a dead one as long as the file is open.
    pub(super) fn receive(&self, content: Uuid) -> Result<(PathBuf, File)> {
        for folder in [self.files(), self.incoming()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|e| file_error("the folder for uploaded files cannot be made", &folder, e))?;
        }
        let path = self.incoming().join(content.to_string());
        let failed = |e| file_error("an uploaded file cannot be kept", &path, e);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok((path, file))
    }

    /// Makes the folder what the documents say: contents get their names, what no document names goes. `NotFound` when a content is in
    /// no place. Whoever comes second waits for the first, also in another process.
    pub(super) async fn settle(&self, store: &Store) -> Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        // Which contents nobody writes is looked at before what the documents name: one that is let go of in between was named by then, or
        // is looked at the next time.
        let (lock, dead) = blocking({
            let (path, incoming) = (self.dir.join("lock"), self.incoming());
            move || {
                let lock = locked(&path)?;
                Ok((lock, dead(&incoming)?))
            }
        })
        .await?;
        let mut named = BTreeMap::new();
        for document in files_of(store, &self.project, self.connector).await? {
            named.insert(name_of(&document).to_owned(), document.read::<UploadedFile>()?);
        }
        let (files, incoming) = (self.files(), self.incoming());
        blocking(move || {
            let settled = settle(&files, &incoming, &named, &dead);
            drop(lock);
            settled
        })
        .await
    }

    /// For a connector that is gone.
    pub(super) async fn remove(&self) -> Result<()> {
        let dir = self.dir.clone();
        blocking(move || match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error("uploaded files cannot be removed", &dir, e)),
            _ => Ok(()),
        })
        .await
    }

    /// Every room that there is a folder of.
    pub(super) fn all(store: &Store) -> Vec<Self> {
        let below = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten().filter_map(|e| e.ok());
            entries.filter_map(|e| e.file_name().into_string().ok()).collect::<Vec<_>>()
        };
        let root = store.dir().join(FOLDER);
        let rooms = below(&root).into_iter().flat_map(|project| {
            let ids = below(&root.join(&project)).into_iter().filter_map(|id| Uuid::try_parse(&id).ok());
            ids.map(|id| Self::of(store, &project, id)).collect::<Vec<_>>()
        });
        rooms.collect()
    }
    pub(super) fn connector(&self) -> Uuid {
        self.connector
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, "work on uploaded files did not end").because(e))?
}

fn locked(path: &Path) -> Result<File> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.map_err(|e| file_error("the folder of uploaded files cannot be locked", path, e))?;
    file.lock().map_err(|e| file_error("the data dir's file system cannot lock files", path, e))?;
    Ok(file)
}

/// Contents that no process has open to write. Whoever writes one holds it; nobody holds what a dead process left.
fn dead(incoming: &Path) -> Result<HashSet<PathBuf>> {
    let free = |path: &PathBuf| File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    Ok(entries(incoming)?.into_iter().filter(free).collect())
}

fn settle(files: &Path, incoming: &Path, named: &BTreeMap<String, UploadedFile>, dead: &HashSet<PathBuf>) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |e| file_error("an uploaded file cannot be put in its place", &path, e)
    };
    let mut moved = false;
    for entry in entries(incoming)? {
        let owner = named.iter().find(|(_, file)| entry.file_name().is_some_and(|n| *n == *file.content.to_string()));
        match owner {
            Some((name, _)) => {
                fs::rename(&entry, files.join(name)).map_err(failed(&entry))?;
                moved = true;
            }
            None if dead.contains(&entry) => fs::remove_file(&entry).map_err(failed(&entry))?,
            None => {}
        }
    }
    for entry in entries(files)? {
        if entry.file_name().and_then(|n| n.to_str()).is_none_or(|name| !named.contains_key(name)) {
            fs::remove_file(&entry).map_err(failed(&entry))?;
        }
    }
    if moved {
        for folder in [files, incoming] {
            File::open(folder).and_then(|f| f.sync_all()).map_err(failed(folder))?;
        }
    }
    match named.iter().find(|(name, file)| fs::metadata(files.join(name)).map(|m| m.len()).ok() != Some(file.bytes)) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(ErrorKind::NotFound, "an uploaded file is no longer in the data dir")
            .with("file", name)
            .fix("upload it again, or delete it")),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = |e| file_error("the folder of uploaded files cannot be read", folder, e);
    match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        read => read.map_err(cannot)?.map(|e| e.map(|e| e.path()).map_err(cannot)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: Uuid, text: &str) -> UploadedFile {
        UploadedFile { content, bytes: text.len() as u64, sha256: String::new(), by: String::new() }
    }

    #[test]
    fn the_folder_follows_the_documents() {
        let dir = tempfile::tempdir().unwrap();
        let (files, incoming) = (dir.path().join("files"), dir.path().join("incoming"));
        for folder in [&files, &incoming] {
            fs::create_dir(folder).unwrap();
        }
        let [committed, abandoned, held] = [1, 2, 3].map(Uuid::from_u128);
        let at = |id: Uuid| incoming.join(id.to_string());
        fs::write(files.join("a.csv"), "old").unwrap();
        fs::write(files.join("deleted.csv"), "x").unwrap();
        fs::write(at(committed), "new one").unwrap();
        fs::write(at(abandoned), "half").unwrap();
        let writing = File::create(at(held)).unwrap();
        writing.lock().unwrap();
        let named = BTreeMap::from([("a.csv".to_owned(), file(committed, "new one"))]);
        let mut free = dead(&incoming).unwrap();
        assert_eq!(free, HashSet::from([at(committed), at(abandoned)]));
        // Let go of after it was looked at: it may be named by now, in a document that was not read.
        let late = at(Uuid::from_u128(4));
        fs::write(&late, "late").unwrap();
        settle(&files, &incoming, &named, &free).unwrap();
        assert!(late.exists());
        free = dead(&incoming).unwrap();
        assert_eq!(fs::read_to_string(files.join("a.csv")).unwrap(), "new one");
        assert!(!files.join("deleted.csv").exists() && !at(abandoned).exists() && !at(committed).exists());
        assert!(at(held).exists(), "somebody still writes it");
        settle(&files, &incoming, &named, &free).unwrap();
        assert!(!late.exists(), "nobody named it");
        fs::remove_file(files.join("a.csv")).unwrap();
        assert_eq!(settle(&files, &incoming, &named, &free).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
