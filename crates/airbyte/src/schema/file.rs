//! Schemas in files beside the manifest; what they refer to lies in `schemas/shared`.

use std::path::{Component, Path, PathBuf};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// So deep schemas may refer to each other.
const DEEPEST: usize = 32;
/// All parts of one schema together.
const MOST_PARTS: usize = 10_000;

/// Reads a schema; paths lead nowhere but below the manifest's folder.
pub async fn load(path: &str, folder: Option<&Path>) -> Result<Value> {
    let folder = folder.ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "a schema lies in a file, and this manifest lies in no folder").with("file", path)
    })?;
    let path = path.to_owned();
    let folder = folder.to_path_buf();
    let read = tokio::task::spawn_blocking(move || {
        let relative = inside(&path)?;
        let raw = read(&folder.join(&relative), &path)?;
        // The first step of a longer path is the package; shared parts lie in it.
        let package = relative.parent().and_then(|p| p.components().next()).map(|c| folder.join(c)).unwrap_or(folder);
        let mut references = References { root: &raw, package, left: MOST_PARTS };
        references.resolved(&raw, 0)
    });
    read.await.map_err(|e| Error::new(ErrorKind::Internal, "reading a schema did not end").because(e))?
}

fn inside(path: &str) -> Result<PathBuf> {
    let kept: PathBuf = Path::new(path).components().filter(|c| !matches!(c, Component::CurDir | Component::RootDir)).collect();
    if kept.components().all(|c| matches!(c, Component::Normal(_))) {
        return Ok(kept);
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "a schema's file must lie below the manifest's folder").with("file", path))
}

fn read(file: &Path, shown: &str) -> Result<Value> {
    let text = std::fs::read(file)
        .map_err(|e| Error::new(ErrorKind::NotFound, "the schema's file cannot be read").with("file", shown).because(e))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::new(ErrorKind::ConfigInvalid, "the schema's file is no JSON").with("file", shown).because(e))
}

/// Puts what is referred to in place of the references.
struct References<'a> {
    root: &'a Value,
    package: PathBuf,
    left: usize,
}

impl References<'_> {
    fn resolved(&mut self, value: &Value, depth: usize) -> Result<Value> {
        self.left = self.left.checked_sub(1).filter(|_| depth <= 4 * DEEPEST).ok_or_else(endless)?;
        match value {
            Value::Object(map) => match map.get("$ref").and_then(Value::as_str) {
                Some(reference) => self.referred(reference, depth),
                None => map.iter().map(|(k, v)| Ok((k.clone(), self.resolved(v, depth + 1)?))).collect::<Result<_>>().map(Value::Object),
            },
            Value::Array(items) => items.iter().map(|v| self.resolved(v, depth + 1)).collect::<Result<_>>().map(Value::Array),
            other => Ok(other.clone()),
        }
    }

    fn referred(&mut self, reference: &str, depth: usize) -> Result<Value> {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let missing = || Error::new(ErrorKind::ConfigInvalid, "a schema refers to what is not there").with("ref", reference);
        let mut found = if file.is_empty() {
            let target = self.root.pointer(pointer).ok_or_else(missing)?;
            self.resolved(target, depth + 1)?
        } else {
            let raw = read(&self.package.join("schemas/shared").join(inside(file)?), file)?;
            let mut inner = References { root: &raw, package: self.package.clone(), left: self.left };
            let target = raw.pointer(pointer).ok_or_else(missing)?;
            let found = inner.resolved(target, depth + 1)?;
            self.left = inner.left;
            found
        };
        if let Value::Object(map) = &mut found {
            map.shift_remove("definitions");
        }
        Ok(found)
    }
}

fn endless() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "a schema refers to itself without end").fix("break the circle of references")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn shared_parts_come_in_place_of_references() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("source_x/schemas/shared");
        std::fs::create_dir_all(&shared).unwrap();
        let write = |name: &str, value: Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        write(
            "source_x/schemas/a.json",
            json!({"properties": {"u": {"$ref": "user.json"}, "v": {"$ref": "#/definitions/v"}}, "definitions": {"v": {"type": "string"}}}),
        );
        write("source_x/schemas/shared/user.json", json!({"type": "object", "definitions": {}}));
        write("source_x/schemas/loop.json", json!({"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/a"}}}));
        let got = load("./source_x/schemas/a.json", Some(folder.path())).await.unwrap();
        assert_eq!(got["properties"], json!({"u": {"type": "object"}, "v": {"type": "string"}}));
        assert_eq!(load("./source_x/schemas/loop.json", Some(folder.path())).await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
        assert_eq!(load("../x.json", Some(folder.path())).await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
        assert_eq!(load("none.json", Some(folder.path())).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
