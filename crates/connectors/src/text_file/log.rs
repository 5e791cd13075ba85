//! The record beside the files: positions, and the committed length of every file. One small document, replaced as a whole by a rename.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use arrow_schema::Field;
use linkspan_core::{Commit, ConnectionId, Context, Error, ErrorKind, Recall, Recalled, Result, Scope, StreamName, Target, file_error};
use serde::{Deserialize, Serialize};

use super::{Format, place::Place, spool::Spool};

const VERSION: u16 = 1;
/// How long another process's commit is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Books {
    version: u16,
    pub connections: BTreeMap<String, Known>,
    pub files: BTreeMap<String, FileEntry>,
    /// Renames that belong to the commit: done again, if need be, by whoever reads this next.
    pending: Vec<(String, String)>,
}

/// What is known of one connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    pub fence: u64,
    scopes: BTreeMap<Scope, Recalled>,
    published: BTreeMap<Scope, u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// The stream's place as it was named, so that two of them never share a file.
    pub target: String,
    /// Bytes that are committed. What follows them is of a commit that never was.
    pub length: u64,
    columns: Vec<ColumnEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ColumnEntry {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl FileEntry {
    pub fn new(target: &Target, fields: &[Field]) -> Self {
        let mut entry = Self { target: target.to_string(), ..Self::default() };
        entry.set_fields(fields);
        entry
    }
    pub fn fields(&self) -> Result<Vec<Field>> {
        let field = |c: &ColumnEntry| {
            let data_type = c.data_type.parse().map_err(|e| damaged().with("column", &c.name).because(e))?;
            Ok(Field::new(&c.name, data_type, c.nullable).with_metadata(c.metadata.clone().into_iter().collect()))
        };
        self.columns.iter().map(field).collect()
    }
    /// Whether anything was ever committed to the file.
    pub fn stands(&self) -> bool {
        self.length > 0 || !self.columns.is_empty()
    }
    pub fn set_fields(&mut self, fields: &[Field]) {
        let entry = |f: &Field| ColumnEntry {
            name: f.name().clone(),
            data_type: f.data_type().to_string(),
            nullable: f.is_nullable(),
            metadata: f.metadata().clone().into_iter().collect(),
        };
        self.columns = fields.iter().map(entry).collect();
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::DataInvalid, "the record beside the files is damaged")
        .fix("restore it from a backup, or move the files away and reset the connection")
}

pub(super) fn stale(stands: u64, ours: u64) -> Error {
    Error::new(ErrorKind::Conflict, "another run of this connection has taken over the destination")
        .with("fence", ours)
        .with("stands", stands)
        .fix("let the newer run finish; start this one again only if it is gone")
}

impl Books {
    pub fn recall(&self, connection: ConnectionId) -> Option<Recall> {
        let known = self.connections.get(&connection.to_string())?;
        let published = known.published.iter().filter_map(|(s, g)| Some((s.stream()?.clone(), *g))).collect();
        Some(Recall { fence: known.fence, scopes: known.scopes.clone(), published })
    }
    pub fn published(&self, connection: ConnectionId, stream: &StreamName) -> u64 {
        let known = self.connections.get(&connection.to_string());
        known.and_then(|k| k.published.get(&Scope::Stream(stream.clone()))).copied().unwrap_or(0)
    }
    pub fn set_published(&mut self, connection: ConnectionId, stream: &StreamName, generation: u64) {
        let known = self.connections.entry(connection.to_string()).or_default();
        known.published.insert(Scope::Stream(stream.clone()), generation);
    }
    /// The fence stays, so that a run from before cannot commit afterwards.
    pub fn forget(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection.to_string()) {
            *known = Known { fence: known.fence, ..Known::default() };
        }
    }
    /// Forgets the positions of a stream's older generations, whose staged rows are dropped with them.
    pub fn drop_older(&mut self, connection: ConnectionId, stream: &StreamName, generation: u64) {
        if let Some(known) = self.connections.get_mut(&connection.to_string()) {
            known.scopes.retain(|scope, r| scope.stream() != Some(stream) || r.generation >= generation);
        }
    }
    /// Compare-and-set: the scope must stand where the commit says it stood, under the fence that its session installed.
    pub fn check(&self, commit: &Commit) -> Result<()> {
        let known = self.connections.get(&commit.connection.to_string());
        let fence = known.map_or(0, |k| k.fence);
        if fence != commit.fence {
            return Err(stale(fence, commit.fence));
        }
        let stands = known.and_then(|k| k.scopes.get(&commit.scope));
        let fits = match stands {
            Some(r) if r.generation == commit.generation => r.number == commit.previous,
            Some(r) if r.generation > commit.generation => false,
            _ => commit.previous == 0,
        };
        if !fits {
            let (generation, number) = stands.map_or((0, 0), |r| (r.generation, r.number));
            return Err(Error::new(ErrorKind::Conflict, "the destination stands at another commit than this run expects")
                .with("scope", &commit.scope)
                .with("stands", format!("generation {generation}, commit {number}"))
                .with("expected", format!("generation {}, commit {}", commit.generation, commit.previous))
                .fix("run it again: it goes on from the destination's own record"));
        }
        Ok(())
    }
    pub fn advance(&mut self, commit: &Commit) {
        let recalled = Recalled { generation: commit.generation, number: commit.number, state: commit.state.clone() };
        let known = self.connections.entry(commit.connection.to_string()).or_default();
        known.scopes.insert(commit.scope.clone(), recalled);
    }
}

/// The place under its lock: nobody else reads or changes the record meanwhile, in this process or another.
pub(super) struct Locked {
    place: Place,
    ctx: Context,
    pub books: Books,
    /// Held for its lock.
    _lock: File,
}

impl Locked {
    /// Makes the folder if need be, waits for the lock, and carries out the renames of the last commit.
    pub fn open(place: &Place, ctx: &Context) -> Result<Self> {
        if !place.is_file() {
            std::fs::create_dir_all(place.folder()).map_err(|e| file_error("the folder cannot be made", place.folder(), e))?;
        }
        let lock = locked_file(&place.path(&format!("{}lock", place.own_prefix())))?;
        let path = place.log();
        let books = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(|e| e.with("path", path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Books { version: VERSION, ..Books::default() },
            Err(e) => return Err(file_error("the record beside the files cannot be read", &path, e)),
        };
        let mut locked = Self { place: place.clone(), ctx: ctx.clone(), books, _lock: lock };
        locked.roll_forward()?;
        Ok(locked)
    }
    fn roll_forward(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.books.pending);
        let mut renamed = false;
        for (from, to) in pending {
            let (from, to) = (self.place.path(&from), self.place.path(&to));
            if from.exists() {
                self.ctx.files.rename(&from, &to)?;
                renamed = true;
            }
        }
        if renamed { self.ctx.files.sync_dir(self.place.folder()) } else { Ok(()) }
    }
    /// Replaces the record: from here on the commit is, whatever happens. Then does its renames.
    pub fn save(&mut self) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.books)
            .map_err(|e| Error::new(ErrorKind::Internal, "the record cannot be written").because(e))?;
        let temp = self.place.path(&self.place.aside("record"));
        if let Err(e) = self.put_record(&temp, &bytes) {
            std::fs::remove_file(&temp).ok();
            return Err(e);
        }
        self.ctx.files.sync_dir(self.place.folder())?;
        self.roll_forward()
    }
    fn put_record(&self, temp: &Path, bytes: &[u8]) -> Result<()> {
        let fail = |e| file_error("the record beside the files cannot be written", temp, e);
        let mut file = File::create_new(temp).map_err(fail)?;
        file.write_all(bytes).map_err(fail)?;
        self.ctx.files.sync(&file, temp)?;
        self.ctx.failpoints.hit_sync("text.position")?;
        self.ctx.files.rename(temp, &self.place.log())
    }
    /// Puts new files on record, empty, before a byte of theirs is written: after a crash they are known to be ours.
    pub fn announce(&mut self, names: impl Iterator<Item = (String, FileEntry)>) -> Result<()> {
        let mut any = false;
        for (name, entry) in names {
            if !self.books.files.contains_key(&name) {
                self.refuse_foreign(&name)?;
                self.books.files.insert(name, entry);
                any = true;
            }
        }
        if any { self.save() } else { Ok(()) }
    }
    /// A file of that name that is not in the record is somebody else's. An empty one is nobody's.
    pub fn refuse_foreign(&self, name: &str) -> Result<()> {
        let path = self.place.path(name);
        if !self.books.files.contains_key(name) && path.metadata().is_ok_and(|m| m.len() > 0) {
            return Err(Error::new(ErrorKind::AlreadyExists, "a file that Linkspan did not write is in the way")
                .with("path", path.display())
                .fix("choose another path, or move the file away"));
        }
        Ok(())
    }
    /// Cuts what a crash left behind the committed lengths, so that readers see only what is committed.
    pub fn cut_tails(&mut self) -> Result<()> {
        for (name, entry) in &self.books.files {
            let path = self.place.path(name);
            if path.metadata().is_ok_and(|m| m.len() > entry.length) {
                let file = OpenOptions::new().write(true).open(&path).map_err(|e| file_error("the file cannot be opened", &path, e))?;
                file.set_len(entry.length).map_err(|e| file_error("the file cannot be cut", &path, e))?;
                self.ctx.files.sync(&file, &path)?;
            }
        }
        Ok(())
    }
    /// Removes staged generations whose names start with the prefix: those below `keep`, or all.
    pub fn drop_staging(&mut self, prefix: &str, keep: Option<u64>) -> Result<()> {
        let old = |name: &str| name.strip_prefix(prefix).is_some_and(|g| keep.is_none_or(|k| g.parse::<u64>().is_ok_and(|g| g < k)));
        let names: Vec<String> = self.books.files.keys().filter(|n| old(n)).cloned().collect();
        for name in names {
            self.remove(&name)?;
            self.books.files.remove(&name);
        }
        Ok(())
    }
    /// Removes parts that no record mentions: a crash left them.
    pub fn drop_orphans(&mut self) -> Result<()> {
        let prefix = self.place.own_prefix();
        let lock = format!("{prefix}lock");
        let folder = self.place.folder();
        let entries = std::fs::read_dir(folder).map_err(|e| file_error("the folder cannot be read", folder, e))?;
        for entry in entries.filter_map(|e| e.ok()) {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let part = self.is_part(&name, &prefix) && name != lock;
            if part && !self.books.files.contains_key(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
    /// Parts are named by a prefix and 32 hexadecimal digits; a folder's prefix alone would also match those of single files in it.
    fn is_part(&self, name: &str, prefix: &str) -> bool {
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        rest.len() > 33 && rest.as_bytes()[32] == b'-' && rest.bytes().take(32).all(|b| b.is_ascii_hexdigit())
    }
    fn remove(&self, name: &str) -> Result<()> {
        let path = self.place.path(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error("the file cannot be removed", &path, e)),
            _ => Ok(()),
        }
    }
    /// With the next save, `from` takes the place of `to`.
    pub fn rename_with_commit(&mut self, from: &str, to: &str, entry: FileEntry) {
        self.books.pending.push((from.to_owned(), to.to_owned()));
        self.books.files.insert(to.to_owned(), entry);
    }
    /// With the next save, the file holds no rows.
    pub fn empty(&mut self, name: &str, format: &dyn Format) -> Result<()> {
        let Some(entry) = self.books.files.get(name).cloned() else { return Ok(()) };
        let header = format.header(&entry.fields()?);
        let aside = self.place.aside(name);
        let path = self.place.path(&aside);
        let fail = |e| file_error("the file cannot be written", &path, e);
        let mut file = File::create_new(&path).map_err(fail)?;
        file.write_all(&header).map_err(fail)?;
        self.ctx.files.sync(&file, &path)?;
        self.rename_with_commit(&aside, name, FileEntry { length: header.len() as u64, ..entry });
        Ok(())
    }
    /// Appends rows behind the committed length of a file, and makes them durable. The record says so only with the next save.
    pub fn append(&mut self, name: &str, mut entry: FileEntry, header: &[u8], rows: &mut Spool) -> Result<()> {
        self.refuse_foreign(name)?;
        let path = self.place.path(name);
        let fail = |e| file_error("the rows cannot be written", &path, e);
        let stands = path.metadata().map_or(None, |m| Some(m.len()));
        if stands.unwrap_or(0) < entry.length {
            return Err(changed(&path));
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        file.set_len(entry.length).map_err(fail)?;
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        if entry.length == 0 {
            file.write_all(header).map_err(fail)?;
        }
        std::io::copy(&mut rows.reader().map_err(fail)?, &mut file).map_err(fail)?;
        self.ctx.files.sync(&file, &path)?;
        if stands.is_none() {
            self.ctx.files.sync_dir(self.place.folder())?;
        }
        entry.length = file.metadata().map_err(fail)?.len();
        self.books.files.insert(name.to_owned(), entry);
        Ok(())
    }
    /// Writes the file anew, with its old rows under the new columns unless they are to go, and the new rows behind them.
    pub fn rewrite(
        &mut self,
        name: &str,
        old: Option<(&[Field], u64)>,
        entry: FileEntry,
        format: &dyn Format,
        rows: &mut Spool,
    ) -> Result<()> {
        self.refuse_foreign(name)?;
        let columns = entry.fields()?;
        let (path, aside) = (self.place.path(name), self.place.aside(name));
        let temp = self.place.path(&aside);
        let fail = |e| file_error("the rows cannot be written", &temp, e);
        let file = File::create_new(&temp).map_err(fail)?;
        let mut out = std::io::BufWriter::with_capacity(256 << 10, file);
        out.write_all(&format.header(&columns)).map_err(fail)?;
        if let Some((old, length)) = old {
            let mut file = File::open(&path).map_err(|e| file_error("the file cannot be read", &path, e))?;
            if file.metadata().map_err(fail)?.len() < length {
                return Err(changed(&path));
            }
            let header = format.header(old).len() as u64;
            file.seek(SeekFrom::Start(header)).map_err(fail)?;
            format.rewrite(&mut BufReader::new(file.take(length.saturating_sub(header))), old, &columns, &mut out)?;
        }
        std::io::copy(&mut rows.reader().map_err(fail)?, &mut out).map_err(fail)?;
        let file = out.into_inner().map_err(|e| fail(e.into_error()))?;
        self.ctx.files.sync(&file, &temp)?;
        let length = file.metadata().map_err(fail)?.len();
        self.rename_with_commit(&aside, name, FileEntry { length, ..entry });
        Ok(())
    }
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "the file is shorter than what was committed to it: somebody has changed it")
        .with("path", path.display())
        .fix("put the file back, or move it away and reset the connection")
}

fn parse(bytes: &[u8]) -> Result<Books> {
    let books: Books = serde_json::from_slice(bytes).map_err(|e| damaged().because(e))?;
    if books.version != VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "the record beside the files is of another version")
            .with("version", books.version)
            .fix("use the version of Linkspan that wrote it"));
    }
    Ok(books)
}

fn locked_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| file_error("the destination's lock cannot be made", path, e))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(2)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Unavailable, "another process holds the destination's lock")
                    .with("path", path.display())
                    .fix("wait for the other run, or end it"));
            }
            Err(TryLockError::Error(e)) => return Err(file_error("the destination cannot be locked", path, e)),
        }
    }
}
