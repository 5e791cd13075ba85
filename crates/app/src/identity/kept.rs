//! A secret that lies in a file of its own, for this user only: made once, found ever after.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use linkspan_core::{Error, ErrorKind, Result, file_error};
use uuid::Uuid;
use zeroize::Zeroizing;

/// What the file holds; made with 0600 when it is not there. Of two processes that make it at once both get the same. A file that
/// others can read is refused.
pub fn kept_secret(path: &Path, make: impl FnOnce() -> Result<Zeroizing<String>>) -> Result<Zeroizing<String>> {
    if let Some(found) = read(path)? {
        return Ok(found);
    }
    let made = make()?;
    let failed = |e| file_error("a key file cannot be made", path, e);
    let fresh = path.with_extension(format!("{}.new", Uuid::now_v7()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).and_then(|mut file| {
        file.write_all(made.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    // A link never takes the place of a file that appeared meanwhile.
    let linked = written.and_then(|()| fs::hard_link(&fresh, path));
    fs::remove_file(&fresh).ok();
    match linked {
        Ok(()) => {
            sync_folder(path).map_err(failed)?;
            Ok(made)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read(path)?.ok_or_else(|| failed(e)),
        Err(e) => Err(failed(e)),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file_error("a key file cannot be read", path, e)),
    };
    if mode & 0o077 != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied, "a key file can be read by other users")
            .with("path", path.display())
            .fix(format!("chmod 600 {}; if others could have read it, replace the key", path.display())));
    }
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|e| file_error("a key file cannot be read", path, e))?;
    let text = Zeroizing::new(text.trim().to_owned());
    if text.is_empty() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a key file is empty")
            .with("path", path.display())
            .fix("put the key back, or remove the file so that a new one is made"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_secret_is_made_once_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let makers = (0..8).map(|n| {
            let path = path.clone();
            std::thread::spawn(move || kept_secret(&path, || Ok(format!("secret-{n}").into())).unwrap())
        });
        let got: Vec<_> = makers.collect::<Vec<_>>().into_iter().map(|m| m.join().unwrap().to_string()).collect();
        assert!(got.iter().all(|g| *g == got[0]), "{got:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let e = kept_secret(&path, || unreachable!()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    }
}
