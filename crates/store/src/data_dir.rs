//! The data dir: its files, who owns it, and how its socket is reached.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{Read, Seek, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use linkspan_core::{ConnectionId, Error, ErrorKind, Result, file_error};
use tokio::net::{UnixListener, UnixStream};

use crate::record::RunId;

/// The file that makes a folder a data dir.
pub(crate) const DATABASE: &str = "linkspan.db";
/// `sockaddr_un` holds 108 bytes with the closing zero (104 on some systems).
const LONGEST_SOCKET_PATH: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// Held by the one owner; the kernel lets go of it when the process ends, however it ends.
pub(crate) struct OwnerLock {
    #[allow(dead_code, reason = "held for its drop")]
    file: File,
}

impl DataDir {
    /// Makes the folder, for its user only, when it is not there.
    pub(crate) fn make(root: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|e| file_error("the data dir cannot be made", root, e))?;
        Ok(Self { root: root.to_owned() })
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("linkspan.sock")
    }
    pub(crate) fn logs(&self, connection: ConnectionId) -> PathBuf {
        self.root.join("logs").join(connection.to_string())
    }
    pub(crate) fn log(&self, connection: ConnectionId, run: RunId) -> PathBuf {
        self.logs(connection).join(format!("{run}.ndjson"))
    }
    pub(crate) fn rejects(&self, run: RunId) -> PathBuf {
        self.root.join("rejects").join(format!("{run}.ndjson"))
    }

    /// The lock, or nothing when another process holds it.
    pub(crate) fn try_own(&self) -> Result<Option<OwnerLock>> {
        let path = self.root.join("owner.lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(|e| file_error("the owner's lock cannot be opened", &path, e))?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever wonders who it is; the lock is what counts.
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).ok();
                Ok(Some(OwnerLock { file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => {
                Err(file_error("the data dir's file system cannot lock files", &path, e).fix("choose a data dir on a local disk"))
            }
        }
    }
    /// The owner's pid as it wrote it, for messages.
    pub(crate) fn owner(&self) -> String {
        let mut text = String::new();
        let read = File::open(self.root.join("owner.lock")).and_then(|mut f| {
            f.rewind()?;
            f.take(32).read_to_string(&mut text)
        });
        if read.is_err() || text.is_empty() { "another process".into() } else { format!("process {text}") }
    }

    /// Listens on the socket, which only this user may open. The name appears when everything is ready and takes a dead owner's place.
    pub(crate) fn listen(&self) -> Result<UnixListener> {
        let socket = self.socket();
        let failed = |e| file_error("the store's socket cannot be made", &socket, e);
        let room = self.root.join(".socket");
        DirBuilder::new().recursive(true).mode(0o700).create(&room).map_err(failed)?;
        let fresh = room.join("s");
        fs::remove_file(&fresh).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }).map_err(failed)?;
        let listener = Short::of(&fresh)?.map(|short| UnixListener::bind(short)).map_err(failed)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(failed)?;
        fs::rename(&fresh, &socket).map_err(failed)?;
        fs::remove_dir(&room).ok();
        Ok(listener)
    }
    /// The user that made the socket: only that user and root may speak.
    pub(crate) fn socket_user(&self) -> Result<u32> {
        let socket = self.socket();
        fs::metadata(&socket).map(|m| m.uid()).map_err(|e| file_error("the store's socket cannot be seen", &socket, e))
    }
    /// A way to the owner; nothing when nobody listens (yet, or any more).
    pub(crate) async fn reach(&self) -> Result<Option<UnixStream>> {
        let socket = self.socket();
        let short = Short::of(&socket)?;
        match UnixStream::connect(&short.path).await {
            Ok(stream) => Ok(Some(stream)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(file_error("the store's socket cannot be reached", &socket, e))
            }
            // Not there yet, refused, or reset by an owner that dies just now: whoever asks looks again.
            Err(e) => {
                tracing::debug!(error = %e, "nobody listens on the store's socket");
                Ok(None)
            }
        }
    }
}

/// A path that fits a socket's address: a long one is reached through its open folder.
struct Short {
    path: PathBuf,
    #[allow(dead_code, reason = "the path goes through it")]
    folder: Option<File>,
}

impl Short {
    fn of(path: &Path) -> Result<Self> {
        if path.as_os_str().len() <= LONGEST_SOCKET_PATH {
            return Ok(Self { path: path.to_owned(), folder: None });
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the data dir has no socket path").with("path", path.display()));
        };
        let open = File::open(folder).map_err(|e| file_error("the data dir cannot be opened", folder, e))?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        if !through.exists() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the data dir's path is too long for a socket")
                .with("path", path.display())
                .fix("choose a data dir whose path is shorter than 80 bytes"));
        }
        Ok(Self { path: through.join(name), folder: Some(open) })
    }
    fn map<T>(self, with: impl FnOnce(&Path) -> T) -> T {
        with(&self.path)
    }
}
