//! Which local files a config may name when the caller is not the person at this machine.

use std::path::{Component, Path, PathBuf};

use linkspan_core::{ConnectorType, Error, ErrorKind, Result};
use serde_json::Value;

use crate::{app::LocalFiles, caller::DEFAULT_PROJECT};

/// Under the folder of all, where the other projects' own folders are.
const PROJECTS: &str = ".projects";

/// Makes the config's path absolute under the folder that callers of the project reach; refuses one that leads out of it.
pub fn fence(kind: &ConnectorType, config: &mut Value, files: &LocalFiles, project: &str) -> Result<()> {
    if kind.names_files() { fenced(config, files, project) } else { Ok(()) }
}

fn fenced(config: &mut Value, files: &LocalFiles, project: &str) -> Result<()> {
    let LocalFiles::Under(root) = files else { return Ok(()) };
    let others = root.join(PROJECTS);
    let root = &if project == DEFAULT_PROJECT { root.clone() } else { others.join(project) };
    let signs = ["access_key_id", "secret_access_key"].iter().all(|f| config.get(f).is_some_and(|v| !v.is_null()));
    let Some(Value::String(path)) = config.get_mut("path") else { return Ok(()) };
    if path.starts_with("s3://") && !signs {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a server lends its own credentials to no connector")
            .with("field", "access_key_id")
            .fix("give access_key_id and secret_access_key"));
    }
    if path.starts_with("s3://") {
        return Ok(());
    }
    if let Some(local) = path.strip_prefix("file://") {
        *path = local.to_owned();
    }
    if let Some((scheme, _)) = path.split_once("://") {
        let e = Error::new(ErrorKind::ConfigInvalid, "files are local or behind s3://").with("field", "path").with("scheme", scheme);
        return Err(e.fix(format!("put the files under {} and name them from there, or use s3://bucket/prefix", root.display())));
    }
    if path.as_str() == "-" || path.starts_with("stdout:") {
        return Err(outside().fix("a server's connector has no standard output; name a file"));
    }
    let wanted = flat(&root.join(Path::new(path.as_str())));
    let foreign = |w: &Path| project == DEFAULT_PROJECT && w.starts_with(&others);
    let inside = wanted.filter(|w| w.starts_with(root) && real(w).starts_with(real(root)) && !foreign(w) && !foreign(&real(w)));
    let inside = inside.ok_or_else(|| outside().fix(format!("put the files under {} and name them from there", root.display())))?;
    *path = inside.display().to_string();
    Ok(())
}

fn outside() -> Error {
    Error::new(ErrorKind::PermissionDenied, "the path lies outside of the folder that connectors of this server may use")
        .with("field", "path")
}

/// Without `.`; nothing when a `..` is in it.
fn flat(path: &Path) -> Option<PathBuf> {
    let clean = path.components().filter(|c| *c != Component::CurDir);
    clean.map(|c| (c != Component::ParentDir).then_some(c)).collect()
}

/// Where it really is: links followed as far as it exists. A pattern does not exist, its folder does.
fn real(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        if let Ok(found) = there.canonicalize() {
            return rest.iter().rev().fold(found, |path, part| path.join(part));
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else { return path.to_owned() };
        rest.push(name);
        there = parent;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Else the machine's own `AWS_*` variables would sign requests to an endpoint of the caller's choice.
    #[test]
    fn an_object_store_is_asked_with_the_callers_own_keys() {
        let files = LocalFiles::Under("/srv/files".into());
        let fenced = |mut config: Value, files: &LocalFiles| super::fenced(&mut config, files, "default");
        let bare = || json!({"path": "s3://bucket/x", "endpoint": "https://elsewhere.example"});
        assert_eq!(fenced(bare(), &files).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        let half = json!({"path": "s3://bucket/x", "access_key_id": "a", "secret_access_key": null});
        assert!(fenced(half, &files).is_err());
        let own = json!({"path": "s3://bucket/x", "access_key_id": "a", "secret_access_key": "b"});
        assert!(fenced(own, &files).is_ok());
        assert!(fenced(bare(), &LocalFiles::Anywhere).is_ok(), "a person's own command may use the person's credentials");
    }

    #[test]
    fn a_path_stays_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("files");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        let files = LocalFiles::Under(root.clone());
        let fenced = |path: &str| {
            let mut config = json!({"path": path});
            super::fenced(&mut config, &files, "default").map(|()| config["path"].as_str().unwrap().to_owned())
        };
        for (path, inside) in [("a.csv", "a.csv"), ("./new/*.csv", "new/*.csv"), (root.join("b").to_str().unwrap(), "b")] {
            assert_eq!(fenced(path).unwrap(), root.join(inside).display().to_string());
        }
        for path in ["/etc/passwd", "../linkspan.db", "a/../../x", "out/linkspan.db", "-", "stdout:x", "/", "file:///etc/passwd"] {
            assert_eq!(fenced(path).unwrap_err().kind(), ErrorKind::PermissionDenied, "{path}");
        }
        assert_eq!(fenced("file://a.csv").unwrap(), root.join("a.csv").display().to_string());
        assert_eq!(fenced("x://a.csv").unwrap_err().kind(), ErrorKind::ConfigInvalid);
        let theirs = root.join(".projects/b/x.csv").display().to_string();
        assert_eq!(fenced(&theirs).unwrap_err().kind(), ErrorKind::PermissionDenied);
        for (path, good) in [("x.csv", true), (theirs.as_str(), true), ("../a/x.csv", false), (root.join("a.csv").to_str().unwrap(), false)]
        {
            let mut config = json!({"path": path});
            assert_eq!(super::fenced(&mut config, &files, "b").is_ok(), good, "{path}");
            assert!(!good || config["path"] == theirs);
        }
        let mut any = json!({"path": "/etc/passwd"});
        assert!(super::fenced(&mut any, &LocalFiles::Anywhere, "default").is_ok());
    }
}
