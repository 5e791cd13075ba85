//! Names of folders and files below the root. Pure; every path is relative, with `/` between its parts.

use linkspan_core::{ConnectionId, Target};
use uuid::Uuid;

/// What is ours alone; readers of tables skip names that start with an underscore.
pub(crate) const HOUSE: &str = "_linkspan";
pub(crate) const LOG: &str = "_linkspan/log";

/// The longest folder name that every file system and object store takes, with room to spare.
const LONGEST: usize = 200;

/// The folder of a target: `namespace/name`, or `name`.
pub(crate) fn table_folder(target: &Target) -> String {
    match &target.namespace {
        Some(ns) => format!("{}/{}", folder_name(ns), folder_name(&target.name)),
        None => folder_name(&target.name),
    }
}

/// Letters, digits, `-`, `_` and `.` stay; all else is percent-encoded, and so are a leading `_` or `.` (readers skip such folders).
/// An empty name is `%`.
pub(crate) fn folder_name(name: &str) -> String {
    if name.is_empty() {
        return "%".into();
    }
    let mut out = String::with_capacity(name.len());
    for (i, c) in name.chars().enumerate() {
        if c.is_alphanumeric() || c == '-' || (i > 0 && matches!(c, '_' | '.')) {
            out.push(c);
        } else {
            let mut buffer = [0u8; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if out.len() > LONGEST {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let mut end = LONGEST - 20;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push('~');
        out.push_str(&hash[..16]);
    }
    out
}

/// The name that a folder was made from. Cut names stay as they are.
pub(crate) fn name_of_folder(folder: &str) -> String {
    if folder == "%" {
        return String::new();
    }
    percent_encoding::percent_decode_str(folder).decode_utf8().map_or_else(|_| folder.to_owned(), |n| n.into_owned())
}

/// A data file's name. Ids that grow with time keep a listing in the order of writing.
pub(crate) fn part_name(folder: &str, id: Uuid) -> String {
    format!("{folder}/part-{}.parquet", id.simple())
}

/// Whether a file is one that we named.
pub(crate) fn is_part(file_name: &str) -> bool {
    file_name.strip_prefix("part-").and_then(|n| n.strip_suffix(".parquet")).is_some_and(|id| Uuid::try_parse(id).is_ok())
}

/// Where a connection's unfinished files (or the notes on its unfinished uploads) are.
pub(crate) fn temp_folder(connection: ConnectionId) -> String {
    format!("{HOUSE}/tmp/{connection}")
}

/// An unfinished file's name says under which fence it was begun.
pub(crate) fn temp_name(connection: ConnectionId, fence: u64, id: Uuid, ending: &str) -> String {
    format!("{}/{fence:020}-{}.{ending}", temp_folder(connection), id.simple())
}

/// The name of a file that is unlinked as soon as it is made; whoever was killed in between leaves it to the next run's clean-up.
pub(crate) fn spill_name(fence: u64, id: Uuid) -> String {
    format!("{fence:020}-{}.spill", id.simple())
}

/// The fence in a temp file's name.
pub(crate) fn fence_of_temp(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.split('-').next()?.parse().ok()
}

pub(crate) fn entry_name(number: u64) -> String {
    format!("{LOG}/{number:020}.json")
}

pub(crate) fn checkpoint_name(number: u64) -> String {
    format!("{LOG}/{number:020}.checkpoint.json")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFile {
    Entry(u64),
    Checkpoint(u64),
    /// What a writer that was killed left of its try to put this number.
    Litter(u64),
}

/// What a file in the log's folder is; other files there are not ours to read.
pub(crate) fn log_file(path: &str) -> Option<LogFile> {
    let name = path.rsplit('/').next()?;
    if let Some(hidden) = name.strip_prefix('.') {
        return hidden.split('.').next()?.parse().ok().map(LogFile::Litter);
    }
    let name = name.strip_suffix(".json")?;
    match name.strip_suffix(".checkpoint") {
        Some(number) => number.parse().ok().map(LogFile::Checkpoint),
        None => name.parse().ok().map(LogFile::Entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_folder_and_gets_it_back() {
        for name in ["orders", "Mixed Case", "a/b", "..", "_hidden", ".dot", "", "日本", "x=1", "50%", "a\"b", "con\nrol"] {
            let folder = folder_name(name);
            assert!(!folder.contains('/') && !folder.starts_with(['_', '.']) && !folder.contains('='), "{folder}");
            assert_eq!(name_of_folder(&folder), name);
        }
        assert!(folder_name(&"é".repeat(300)).len() <= LONGEST);
        assert_ne!(folder_name(&"a".repeat(300)), folder_name(&"a".repeat(301)));
    }

    #[test]
    fn log_files_are_told_apart() {
        assert_eq!(log_file(&entry_name(7)), Some(LogFile::Entry(7)));
        assert_eq!(log_file(&checkpoint_name(100)), Some(LogFile::Checkpoint(100)));
        assert_eq!(log_file("_linkspan/log/.00000000000000000001.json.5bc"), Some(LogFile::Litter(1)));
        assert_eq!(log_file("_linkspan/log/notes.txt"), None);
    }
}
