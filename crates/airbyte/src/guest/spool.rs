//! A replace on its way into a program: its rows wait in a file until all of them are there, because a program can be told to
//! overwrite only once. The file is the staging: it is named by the generation, survives a crash and is gone on with.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use linkspan_core::{ConnectionId, Error, ErrorKind, LoadStream, Result, Scope, file_error};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the spools of one connection are.
#[derive(Clone, Debug)]
pub(super) struct Spools(PathBuf);

/// What is known of a spool; replaced as a whole at each commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    generation: u64,
    /// Bytes of rows that are committed.
    length: u64,
    scopes: BTreeMap<Scope, u64>,
    /// The last commit, in case nobody else remembers it.
    last: Option<Last>,
    /// The stream as the program is to be told of it.
    described: Value,
    published: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Last {
    scope: Scope,
    before: u64,
}

/// The rows of one stream's generation.
pub(super) struct Spool {
    rows: PathBuf,
    known_at: PathBuf,
    file: File,
    known: Known,
    length: u64,
}

impl Spools {
    pub(super) fn of(folder: &Path, connection: ConnectionId) -> Self {
        Self(folder.join(format!("linkspan-spool-{connection}")))
    }

    fn place(&self, load: &LoadStream) -> (PathBuf, PathBuf) {
        let name = blake3::hash(Scope::Stream(load.stream.clone()).to_string().as_bytes()).to_hex();
        let name = &name.as_str()[..24];
        (self.0.join(format!("{name}.jsonl")), self.0.join(format!("{name}.json")))
    }

    fn known(&self, load: &LoadStream) -> Result<Option<Known>> {
        let (_, at) = self.place(load);
        match fs::read(&at) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
                Error::new(ErrorKind::DataInvalid, "the record of rows that wait for a program cannot be read")
                    .with("path", at.display())
                    .because(e)
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file_error("the record of rows that wait for a program cannot be read", &at, e)),
        }
    }

    /// Opens the spool of the load's generation where a lane stands at `previous`; what is of an older generation goes.
    pub(super) fn open(&self, load: &LoadStream, scope: &Scope, previous: u64) -> Result<Spool> {
        let known = self.known(load)?.filter(|k| k.generation == load.generation && !k.published);
        let mut known = match known {
            Some(known) => known,
            None if previous > 0 => return Err(lost(load)),
            None => Known { generation: load.generation, ..Known::default() },
        };
        let stands = known.scopes.get(scope).copied().unwrap_or(0);
        match known.last.take() {
            _ if stands == previous => {}
            // The last commit was made here and remembered nowhere: it comes again.
            Some(last) if stands == previous + 1 && last.scope == *scope => {
                known.length = last.before;
                known.scopes.insert(scope.clone(), previous);
            }
            _ => return Err(lost(load)),
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|e| file_error("the folder for rows on their way cannot be made", &self.0, e))?;
        let (rows, known_at) = self.place(load);
        let failed = |e| file_error("the rows that wait for a program cannot be written", &rows, e);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&rows).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() < known.length {
            return Err(lost(load));
        }
        file.set_len(known.length).map_err(failed)?;
        let length = known.length;
        Ok(Spool { rows, known_at, file, known, length })
    }

    /// The rows of a complete generation and what the program is told of them; `None` when it was published before.
    pub(super) fn complete(&self, load: &LoadStream) -> Result<Option<(File, u64, Value)>> {
        let known = self.known(load)?.filter(|k| k.generation == load.generation).ok_or_else(|| lost(load))?;
        if known.published {
            return Ok(None);
        }
        let (rows, _) = self.place(load);
        let file = File::open(&rows).map_err(|e| file_error("the rows that wait for a program cannot be read", &rows, e))?;
        Ok(Some((file, known.length, known.described)))
    }

    /// The program has all of it: the rows go, the word that they were there stays.
    pub(super) fn published(&self, load: &LoadStream) -> Result<()> {
        let (rows, known_at) = self.place(load);
        let known = Known { generation: load.generation, published: true, ..Known::default() };
        write_whole(&known_at, &known)?;
        fs::remove_file(&rows).or_else(gone).map_err(|e| file_error("rows that a program has cannot be removed", &rows, e))
    }

    pub(super) fn forget(&self) -> Result<()> {
        fs::remove_dir_all(&self.0).or_else(gone).map_err(|e| file_error("rows that wait for a program cannot be removed", &self.0, e))
    }
}

impl Spool {
    /// The stream as the program is to be told of it, from here on.
    pub(super) fn describe(&mut self, described: Value) {
        self.known.described = described;
    }
    pub(super) fn write(&mut self, objects: &[u8]) -> Result<()> {
        self.file.write_all(objects).map_err(|e| file_error("the rows that wait for a program cannot be written", &self.rows, e))?;
        self.length += objects.len() as u64;
        Ok(())
    }
    pub(super) fn commit(&mut self, scope: &Scope, number: u64) -> Result<()> {
        self.file.sync_all().map_err(|e| file_error("the rows that wait for a program cannot be written", &self.rows, e))?;
        self.known.last = Some(Last { scope: scope.clone(), before: self.known.length });
        self.known.length = self.length;
        self.known.scopes.insert(scope.clone(), number);
        write_whole(&self.known_at, &self.known)
    }
}

fn gone(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

/// The file as a whole or as it was, also after a power cut.
fn write_whole(path: &Path, known: &Known) -> Result<()> {
    let beside = path.with_extension("part");
    let write = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(known)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|e| file_error("the record of rows that wait for a program cannot be written", path, e))
}

fn lost(load: &LoadStream) -> Error {
    Error::new(ErrorKind::PositionLost, "the rows that waited for the program are gone").with("stream", &load.stream)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use linkspan_core::{StreamName, Swap, Target, WriteMode};

    use super::*;

    fn load(generation: u64) -> LoadStream {
        let stream = StreamName::new(Some("a/b"), "c");
        LoadStream { target: Target::from(&stream), stream, write: WriteMode::Replace, generation, key: vec![], swap: Swap::Rename }
    }
    fn content(spools: &Spools, load: &LoadStream) -> Option<String> {
        let (file, length, _) = spools.complete(load).unwrap()?;
        let mut text = String::new();
        file.take(length).read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn what_is_committed_stays_and_what_is_not_comes_again() {
        let folder = tempfile::tempdir().unwrap();
        let spools = Spools::of(folder.path(), ConnectionId(uuid::Uuid::nil()));
        let (load, scope) = (load(3), Scope::Shared);
        let mut spool = spools.open(&load, &scope, 0).unwrap();
        spool.write(b"1\n").unwrap();
        spool.commit(&scope, 1).unwrap();
        spool.write(b"lost\n").unwrap();
        drop(spool);
        // A crash: what was behind the commit is gone.
        let mut spool = spools.open(&load, &scope, 1).unwrap();
        spool.write(b"2\n").unwrap();
        spool.commit(&scope, 2).unwrap();
        drop(spool);
        assert_eq!(content(&spools, &load).unwrap(), "1\n2\n");
        // Nobody remembers the second commit: it is written again.
        let mut spool = spools.open(&load, &scope, 1).unwrap();
        spool.write(b"2\n").unwrap();
        spool.commit(&scope, 2).unwrap();
        assert_eq!(content(&spools, &load).unwrap(), "1\n2\n");
        assert_eq!(spools.open(&load, &scope, 7).err().unwrap().kind(), ErrorKind::PositionLost);
        spools.published(&load).unwrap();
        assert!(content(&spools, &load).is_none());
        assert_eq!(spools.open(&load, &scope, 2).err().unwrap().kind(), ErrorKind::PositionLost);
        spools.forget().unwrap();
        spools.forget().unwrap();
        assert_eq!(spools.complete(&load).err().unwrap().kind(), ErrorKind::PositionLost);
    }
}
