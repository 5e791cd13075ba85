//! The content hashes of what a connector's pulls have ingested. Their truth is the destination: hashes of a commit whose fate is not
//! known yet wait beside, and count once the destination is seen to stand behind it.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{ErrorKind as Io, Write},
    path::{Path, PathBuf},
};

use linkspan_core::{Files, Recall, Result, Scope, State, file_error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The hash of a row's content.
pub(super) type Hash = [u8; 16];

/// One pull's view: what was ingested, and what it adds.
pub(super) struct Seen {
    known: HashSet<Hash>,
    /// Added since the last checkpoint.
    fresh: Vec<Hash>,
    waiting: Vec<Segment>,
    folder: PathBuf,
    ingested: PathBuf,
    pending: PathBuf,
    files: Files,
}

/// The hashes of one commit, and the state by which it is known again.
#[derive(Serialize, Deserialize)]
struct Segment {
    scope: String,
    state: Value,
    /// In hexadecimal, one after the other.
    hashes: String,
}

impl Seen {
    /// Reads what is known; what an earlier pull left undecided is judged by where the destination stands.
    pub(super) fn open(data_dir: &Path, connection: Uuid, recall: Option<&Recall>, files: Files) -> Result<Self> {
        let folder = data_dir.join("pulls");
        std::fs::create_dir_all(&folder).map_err(|e| file_error("the folder of pulls cannot be made", &folder, e))?;
        let (ingested, pending) = (folder.join(format!("{connection}.hashes")), folder.join(format!("{connection}.pending")));
        let known = read(&ingested)?.unwrap_or_default().chunks_exact(16).map(|c| c.try_into().expect("16 bytes")).collect();
        let mut seen = Self { known, fresh: Vec::new(), waiting: Vec::new(), folder, ingested, pending, files };
        let left: Vec<Segment> = match read(&seen.pending)? {
            // A file that was cut off belongs to a commit that never began.
            Some(text) => serde_json::from_slice(&text).unwrap_or_default(),
            None => return Ok(seen),
        };
        let landed = left.iter().rposition(|segment| recall.is_some_and(|r| segment.is_where(r))).map_or(0, |at| at + 1);
        seen.waiting = left.into_iter().take(landed).collect();
        for hash in seen.waiting.iter().flat_map(Segment::hashes).collect::<Vec<_>>() {
            seen.known.insert(hash);
        }
        seen.ingested()?;
        Ok(seen)
    }
    /// Whether the row is new; from then on it is known.
    pub(super) fn is_new(&mut self, hash: Hash) -> bool {
        let new = self.known.insert(hash);
        if new {
            self.fresh.push(hash);
        }
        new
    }
    /// Before a commit can be made of what was seen so far: its hashes are on disk, and wait.
    pub(super) fn commits(&mut self, scope: &Scope, state: &State) -> Result<()> {
        let hashes = self.fresh.drain(..).map(|h| format!("{:032x}", u128::from_be_bytes(h))).collect();
        self.waiting.push(Segment { scope: scope.to_string(), state: (*state.value).clone(), hashes });
        let text = serde_json::to_vec(&self.waiting).unwrap_or_default();
        let temp = self.pending.with_extension("part");
        let write = || -> std::io::Result<std::fs::File> {
            let mut file = std::fs::File::create(&temp)?;
            file.write_all(&text)?;
            Ok(file)
        };
        let file = write().map_err(|e| file_error("the hashes of a pull cannot be written", &temp, e))?;
        self.files.sync(&file, &temp)?;
        self.files.rename(&temp, &self.pending)?;
        self.files.sync_dir(&self.folder)
    }
    /// Everything that waits was committed.
    pub(super) fn ingested(&mut self) -> Result<()> {
        let bytes: Vec<u8> = self.waiting.iter().flat_map(Segment::hashes).flatten().collect();
        if !bytes.is_empty() {
            let failed = |e| file_error("the hashes of a pull cannot be written", &self.ingested, e);
            let mut file = OpenOptions::new().create(true).append(true).open(&self.ingested).map_err(failed)?;
            file.write_all(&bytes).map_err(failed)?;
            self.files.sync(&file, &self.ingested)?;
            self.files.sync_dir(&self.folder)?;
        }
        self.waiting.clear();
        match std::fs::remove_file(&self.pending) {
            Err(e) if e.kind() != Io::NotFound => Err(file_error("a file of a pull cannot be removed", &self.pending, e)),
            _ => Ok(()),
        }
    }
}

impl Segment {
    fn is_where(&self, recall: &Recall) -> bool {
        recall.scopes.iter().any(|(scope, at)| scope.to_string() == self.scope && *at.state.value == self.state)
    }
    fn hashes(&self) -> impl Iterator<Item = Hash> + '_ {
        let digits = self.hashes.as_bytes().chunks_exact(32);
        digits.filter_map(|d| Some(u128::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok()?.to_be_bytes()))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == Io::NotFound => Ok(None),
        Err(e) => Err(file_error("what was pulled before cannot be read", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::{Recalled, StreamName};
    use serde_json::json;

    use super::*;

    fn hash(n: u8) -> Hash {
        [n; 16]
    }
    fn scope() -> Scope {
        Scope::Stream(StreamName::new(None, "product"))
    }
    fn stands(n: u64) -> Recall {
        let at = Recalled { generation: 1, number: n, state: State::new(1, json!({ "at": n })) };
        Recall { fence: 1, scopes: [(scope(), at)].into(), published: Default::default() }
    }
    fn open(dir: &Path, recall: Option<&Recall>) -> Seen {
        Seen::open(dir, Uuid::nil(), recall, Files::default()).unwrap()
    }

    #[test]
    fn what_was_ingested_is_known_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = open(dir.path(), None);
        assert!(seen.is_new(hash(1)) && !seen.is_new(hash(1)) && seen.is_new(hash(2)));
        seen.commits(&scope(), &State::new(1, json!({"at": 1}))).unwrap();
        seen.ingested().unwrap();
        let mut seen = open(dir.path(), None);
        assert!(!seen.is_new(hash(1)) && !seen.is_new(hash(2)) && seen.is_new(hash(3)));
    }

    #[test]
    fn after_a_crash_the_destination_says_which_commits_were_made() {
        for (recall, known) in [(None, 0), (Some(stands(9)), 0), (Some(stands(1)), 1), (Some(stands(2)), 2)] {
            let dir = tempfile::tempdir().unwrap();
            let mut seen = open(dir.path(), None);
            for n in 1..=2 {
                seen.is_new(hash(n));
                seen.commits(&scope(), &State::new(1, json!({ "at": n }))).unwrap();
            }
            drop(seen);
            for _ in 0..2 {
                let mut seen = open(dir.path(), recall.as_ref());
                let new: Vec<bool> = (1..=2).map(|n| seen.is_new(hash(n))).collect();
                assert_eq!(new, [known < 1, known < 2], "{recall:?}");
            }
        }
    }
}
