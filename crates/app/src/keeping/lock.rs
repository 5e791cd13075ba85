//! One at a time over all processes of a data dir. The lock is the kernel's: whoever is killed lets go of it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use linkspan_core::{Clock, Error, ErrorKind, Result, file_error};

/// Longer than any token endpoint may take to answer, tries included.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSES_MS: [u64; 5] = [1, 2, 5, 10, 25];

/// Waits for the lock of this path. `Unavailable` when whoever has it does not let go.
pub async fn locked(path: &Path, clock: &dyn Clock) -> Result<File> {
    let file = opened(path)?;
    let mut waited = Duration::ZERO;
    for turn in 0.. {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < PATIENCE => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Unavailable, "another process has been getting a new token for too long")
                    .with("lock", path.display())
                    .with("after_seconds", PATIENCE.as_secs())
                    .fix("look whether a linkspan process hangs or is stopped, end it, and run this again"));
            }
            Err(TryLockError::Error(e)) => return Err(file_error("the data dir's file system cannot lock files", path, e)),
        }
        let pause = Duration::from_millis(PAUSES_MS.get(turn).copied().unwrap_or(25));
        clock.sleep(pause).await;
        waited += pause;
    }
    unreachable!("the loop ends by itself")
}

fn opened(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| file_error("the folder for locks cannot be made", folder, e))?;
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    open.map_err(|e| file_error("a lock cannot be opened", path, e))
}
