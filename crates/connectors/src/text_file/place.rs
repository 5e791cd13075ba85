//! Where a destination's files are: one file for one stream, or a folder with a file per stream.

use std::path::{Path, PathBuf};

use linkspan_core::{ConnectionId, Error, ErrorKind, LoadStream, Result, Target, WriteMode, file_error};

/// What our own files that are no data start with.
const OURS: &str = ".linkspan-";

#[derive(Clone, Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    /// The one file, where the path names one.
    file: Option<String>,
    extension: &'static str,
}

impl Place {
    /// A path that ends in one of `endings` is a file; any other is a folder, whose files get `extension`.
    pub fn of(path: &str, endings: &[&str], extension: &'static str) -> Result<Self> {
        let whole = PathBuf::from(path);
        let lower = path.to_ascii_lowercase();
        if path.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the path is empty").with("field", "path").fix("give a file or a folder"));
        }
        if !endings.iter().any(|e| lower.ends_with(e)) {
            return Ok(Self { folder: whole, file: None, extension });
        }
        let name = whole.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let Some(name) = name else {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the file's name is not text")
                .with("field", "path")
                .fix("choose another name"));
        };
        let folder = whole.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Ok(Self { folder, file: Some(name), extension })
    }
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// Whether the path named one file, whose folder the user made.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
    /// The record of what is committed.
    pub fn log(&self) -> PathBuf {
        match &self.file {
            Some(file) => self.folder.join(format!("{file}.linkspan.json")),
            None => self.folder.join("_linkspan.json"),
        }
    }
    /// The name of the target's file, in the folder.
    pub fn name_of(&self, target: &Target) -> Result<String> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => Ok(format!("{}.{}", escaped(&target.to_string())?, self.extension)),
        }
    }
    /// The name of the file that a load's rows go to: a replace stages.
    pub fn written_name(&self, connection: ConnectionId, stream: &LoadStream) -> Result<String> {
        let name = self.name_of(&stream.target)?;
        Ok(match stream.write {
            WriteMode::Replace => format!("{}{}", self.staging_prefix(connection, &name), stream.generation),
            _ => name,
        })
    }
    /// What the names of a file's staged generations start with.
    pub fn staging_prefix(&self, connection: ConnectionId, name: &str) -> String {
        format!("{}{name}.", self.connection_prefix(connection))
    }
    pub fn connection_prefix(&self, connection: ConnectionId) -> String {
        // One folder may hold the logs of several files: their parts must not look like orphans to each other.
        format!("{}{}-", self.own_prefix(), connection.0.simple())
    }
    /// A name for a file that is written aside and renamed over `name` by a commit.
    pub fn aside(&self, name: &str) -> String {
        format!("{}{}-{name}", self.own_prefix(), uuid::Uuid::new_v4().simple())
    }
    /// What the names of parts of this place start with.
    pub fn own_prefix(&self) -> String {
        match &self.file {
            Some(file) => format!("{OURS}{file}-"),
            None => OURS.to_owned(),
        }
    }
}

/// The folder is there, or can be made in one that is.
pub(crate) fn check_folder(place: &Place) -> Result<()> {
    let folder = place.folder();
    let nearest = if place.is_file() { Some(folder) } else { folder.ancestors().find(|f| f.as_os_str().is_empty() || f.exists()) };
    let nearest = nearest.filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let meta = std::fs::metadata(nearest).map_err(|e| file_error("the folder is not there", nearest, e))?;
    if !meta.is_dir() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the path goes through a file")
            .with("path", nearest.display())
            .fix("choose another path"));
    }
    if meta.permissions().readonly() {
        return Err(Error::new(ErrorKind::PermissionDenied, "the folder may not be written")
            .with("path", nearest.display())
            .fix("give this user the right to write there"));
    }
    Ok(())
}

/// A stream's name as a file's: what file systems refuse is percent-encoded, so that different names stay different.
fn escaped(name: &str) -> Result<String> {
    let mut out = String::with_capacity(name.len());
    for (i, c) in name.chars().enumerate() {
        let refused = c.is_control() || "/\\:*?\"<>|%".contains(c) || (i == 0 && matches!(c, '.' | '_'));
        if refused {
            let mut bytes = [0; 4];
            for b in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{b:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    if out.is_empty() {
        out.push('%');
    }
    // Staged names carry some eighty bytes more, and file systems end at 255.
    if out.len() > 150 {
        let mark = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).simple().to_string();
        let cut = (0..=110).rev().find(|i| out.is_char_boundary(*i)).unwrap_or(0);
        out.truncate(cut);
        out.push('~');
        out.push_str(&mark);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_names_stay_different_files() {
        let names = ["a/b", "a%2Fb", "a.b", "", "..", "_linkspan", "x".repeat(300).as_str(), "y".repeat(300).as_str(), "日本"]
            .map(|n| escaped(n).unwrap());
        for (i, a) in names.iter().enumerate() {
            assert!(!a.is_empty() && !a.contains('/') && !a.starts_with('.') && a.len() <= 150, "{a}");
            assert!(names[i + 1..].iter().all(|b| a != b), "{a}");
        }
    }
}
