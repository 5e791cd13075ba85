//! Files of a run: its log and its rejects, as capped NDJSON. A file that cannot be written never fails the run.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use linkspan_core::{Changes, Clock, Result, StreamName, file_error};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What a closed file holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub lines: u64,
    pub bytes: u64,
    pub dropped: u64,
}

/// The log of one run. Cheap to clone; lines are buffered and written at each save and at the end.
#[derive(Clone)]
pub struct RunLog {
    lines: Arc<Mutex<CappedLines>>,
    clock: Arc<dyn Clock>,
}

impl RunLog {
    pub(crate) fn create(path: PathBuf, cap: u64, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self { lines: Arc::new(Mutex::new(CappedLines::create(path, cap)?)), clock })
    }
    /// One line: `{at, level, stream?, message, ...fields}`. Once the file is full, lines are only counted; a tenth of it is kept
    /// for errors. Never hand a secret or a row's values in.
    pub fn write(&self, level: Level, stream: Option<&StreamName>, message: &str, fields: &[(&str, Value)]) {
        let mut line = Map::new();
        line.insert("at".into(), self.clock.now().to_string().into());
        line.insert("level".into(), level.as_str().into());
        if let Some(stream) = stream {
            line.insert("stream".into(), stream.to_string().into());
        }
        line.insert("message".into(), message.into());
        line.extend(fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        let room = if level == Level::Error { Room::Last } else { Room::Common };
        self.lines.lock().expect("no panic while held").push(&Value::Object(line), room);
    }
    pub fn flush(&self) {
        self.lines.lock().expect("no panic while held").flush();
    }
    pub fn path(&self) -> PathBuf {
        self.lines.lock().expect("no panic while held").path.clone()
    }
    /// Lines left out so far.
    pub fn dropped(&self) -> u64 {
        self.lines.lock().expect("no panic while held").dropped
    }
    pub(crate) fn close(&self) -> Written {
        let at = self.clock.now().to_string();
        self.lines.lock().expect("no panic while held").close(
            |dropped| json!({"at": at, "level": "warn", "message": "the log was full: lines are left out of it", "dropped": dropped}),
        )
    }
}

/// Values that were changed and rows that were left out in one run, one line each, without the values themselves.
#[derive(Clone)]
pub struct Rejects {
    lines: Arc<Mutex<CappedLines>>,
}

impl Rejects {
    pub(crate) fn create(path: PathBuf, cap: u64) -> Result<Self> {
        Ok(Self { lines: Arc::new(Mutex::new(CappedLines::create(path, cap)?)) })
    }
    /// `{stream, row, field, kind, reason}` for a change (the row counts within its batch), `{stream, place, reason}` for a row left out.
    pub fn write(&self, stream: &StreamName, changes: &Changes) {
        let stream = stream.to_string();
        let mut lines = self.lines.lock().expect("no panic while held");
        for c in &changes.changed {
            lines.push(&json!({"stream": stream, "row": c.row, "field": c.field, "kind": c.kind, "reason": c.reason}), Room::Common);
        }
        for r in &changes.rejected {
            lines.push(&json!({"stream": stream, "place": r.place, "reason": r.reason}), Room::Common);
        }
    }
    pub fn flush(&self) {
        self.lines.lock().expect("no panic while held").flush();
    }
    pub fn path(&self) -> PathBuf {
        self.lines.lock().expect("no panic while held").path.clone()
    }
    /// All that were handed in, written or not.
    pub fn count(&self) -> u64 {
        let lines = self.lines.lock().expect("no panic while held");
        lines.lines + lines.dropped
    }
    pub(crate) fn close(&self) -> Written {
        self.lines.lock().expect("no panic while held").close(|dropped| json!({"reason": "the file was full", "dropped": dropped}))
    }
}

/// Bytes and lines that earlier attempts of the run left. A line that a killed process did not finish is ended.
fn earlier_attempts(path: &Path) -> std::io::Result<(u64, u64)> {
    let mut bytes = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((0, 0)),
        read => read?,
    };
    if bytes.last().is_some_and(|last| *last != b'\n') {
        OpenOptions::new().append(true).open(path)?.write_all(b"\n")?;
        bytes.push(b'\n');
    }
    Ok((bytes.len() as u64, bytes.iter().filter(|b| **b == b'\n').count() as u64))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// All but the last tenth.
    Common,
    Last,
}

/// Lines up to a number of bytes; what comes later is counted. Space for the closing line is kept back.
struct CappedLines {
    path: PathBuf,
    out: Option<BufWriter<File>>,
    cap: u64,
    bytes: u64,
    lines: u64,
    dropped: u64,
    full: bool,
}

const CLOSING: u64 = 256;

impl CappedLines {
    fn create(path: PathBuf, cap: u64) -> Result<Self> {
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|e| file_error("the folder of run logs cannot be made", folder, e))?;
        }
        let failed = |e| file_error("the run's file cannot be made", &path, e);
        let (bytes, lines) = earlier_attempts(&path).map_err(failed)?;
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        Ok(Self { path, out: Some(BufWriter::with_capacity(32 << 10, file)), cap, bytes, lines, dropped: 0, full: false })
    }
    fn push(&mut self, line: &Value, room: Room) {
        let text = line.to_string();
        let length = text.len() as u64 + 1;
        let cap = self.cap.saturating_sub(CLOSING) / 10 * if room == Room::Last { 10 } else { 9 };
        let fits = self.bytes + length <= cap;
        // A small line after a large one that did not fit would hide the gap.
        if !fits || (self.full && room == Room::Common) {
            self.full = true;
            self.dropped += 1;
            return;
        }
        self.put(&text, length);
    }
    fn put(&mut self, text: &str, length: u64) {
        let Some(out) = self.out.as_mut() else {
            self.dropped += 1;
            return;
        };
        if let Err(e) = writeln!(out, "{text}") {
            return self.give_up(&e);
        }
        self.bytes += length;
        self.lines += 1;
    }
    /// The disk refused: the run goes on without this file.
    fn give_up(&mut self, e: &std::io::Error) {
        tracing::warn!(error = %e, path = %self.path.display(), "the run's file can no longer be written");
        self.dropped += 1;
        if let Some(out) = self.out.take() {
            // `into_parts` forgets the buffer instead of trying to write it again.
            drop(out.into_parts());
        }
    }
    fn flush(&mut self) {
        if let Some(Err(e)) = self.out.as_mut().map(Write::flush) {
            self.give_up(&e);
        }
    }
    fn close(&mut self, closing: impl FnOnce(u64) -> Value) -> Written {
        let (lines, dropped) = (self.lines, self.dropped);
        if dropped > 0 && self.out.is_some() {
            let text = closing(dropped).to_string();
            self.put(&text, text.len() as u64 + 1);
        }
        self.flush();
        self.out = None;
        Written { lines, bytes: self.bytes, dropped }
    }
}

/// A file that is not there is removed already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error("an old run's file cannot be removed", path, e)),
        _ => Ok(()),
    }
}
