//! A stream's one lane: its files in name order, a checkpoint after every chunk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Changes, Covers, Ended, Error, ErrorKind, Lane, Output, ReadMode, Result, Rows, Scope, Selected, State, Stop};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;

use super::{
    column::Column,
    config::CsvConfig,
    files::{self, Identity},
    reader::{Chunk, Place},
    table::{Reader, Table, infer},
};

const VERSION: u16 = 1;

/// What a state holds: each file's identity and how far it was read, and the columns as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    files: Vec<Done>,
    columns: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    path: String,
    identity: Identity,
    offset: u64,
    line: u64,
    complete: bool,
    /// Read to an end without a line end.
    #[serde(default)]
    open: bool,
}

impl Progress {
    /// What is left to read, given what stands on disk now.
    pub fn resume(state: Option<&State>, table: &Table, selected: &Selected, config: &CsvConfig) -> Result<Self> {
        let Some(state) = state else {
            let (columns, _) = infer(table, config)?;
            return Ok(Self { files: vec![], columns: words(&columns) });
        };
        if state.version != VERSION {
            return Err(lost("the position was written by another version", selected));
        }
        let mut progress: Self = state.read().map_err(|e| lost("the position cannot be read", selected).because(e))?;
        let mut kept = Vec::new();
        for mut done in std::mem::take(&mut progress.files) {
            let path = PathBuf::from(&done.path);
            let path = path.as_path();
            if !table.files.iter().any(|f| f == path) {
                // A file that was read and is gone: what it brought stays, unless a full read is to show what is there now.
                if !done.complete || selected.read == ReadMode::Full {
                    return Err(lost("a file that was being read is gone", selected).with("path", &done.path));
                }
                continue;
            }
            let now = Identity::of(path)?;
            if now != done.identity {
                let grew = done.identity.grew_into(&now, path)?;
                let full = selected.read == ReadMode::Full;
                if full || (!grew && !done.complete) {
                    return Err(lost("a file changed while it was being read", selected).with("path", &done.path));
                }
                if !grew {
                    continue; // Another file under the old name: it is new.
                }
                (done.identity, done.complete) = (now, false);
                step_over_line_end(&mut done, path, config, selected)?;
            }
            kept.push(done);
        }
        progress.files = kept;
        Ok(progress)
    }
    fn of(&self, file: &Path) -> Option<usize> {
        self.files.iter().position(|d| Path::new(&d.path) == file)
    }
    fn state(&self) -> State {
        State::new(VERSION, serde_json::to_value(self).unwrap_or_default())
    }
}

/// A file that ended without a line end has grown: the last record was whole only if the new text starts with a line end.
fn step_over_line_end(done: &mut Done, path: &Path, config: &CsvConfig, selected: &Selected) -> Result<()> {
    if !done.open {
        return Ok(());
    }
    let mut next = [0u8; 2];
    let mut text = files::text(path, config, done.offset)?;
    let n = std::io::Read::read(&mut text, &mut next).map_err(|e| linkspan_core::file_error("the file cannot be read", path, e))?;
    let step = match &next[..n] {
        [b'\n', ..] => 1,
        [b'\r', b'\n'] => 2,
        _ => return Err(lost("the last line was read before it was finished", selected).with("path", &done.path)),
    };
    (done.offset, done.line, done.open) = (done.offset + step, done.line + 1, false);
    Ok(())
}

fn words(columns: &[Column]) -> Vec<(String, String)> {
    columns.iter().map(|c| (c.name.clone(), c.type_word())).collect()
}

fn lost(message: &'static str, selected: &Selected) -> Error {
    Error::new(ErrorKind::PositionLost, message).with("stream", &selected.stream.name).fix("run with --reset to read the files again")
}

pub(super) struct FileLane {
    pub table: Table,
    pub config: Arc<CsvConfig>,
    pub progress: Progress,
    /// The schema that discovery announced.
    pub announced: SchemaRef,
}

/// What travels to the blocking thread and back.
struct Work {
    reader: Reader,
    columns: Vec<Column>,
}

impl Work {
    fn next(mut self) -> Result<(Self, Option<Chunk>)> {
        let chunk = self.reader.next(&mut self.columns)?;
        Ok((self, chunk))
    }
}

#[async_trait]
impl Lane for FileLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.table.name.clone()], scope: Scope::Stream(self.table.name.clone()), after: vec![] }
    }

    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let scope = Scope::Stream(self.table.name.clone());
        for file in self.table.files.clone() {
            let at = match self.progress.of(&file) {
                Some(at) => at,
                None => {
                    let done = Done {
                        path: file.to_string_lossy().into_owned(),
                        identity: Identity::of(&file)?,
                        offset: 0,
                        line: 0,
                        complete: false,
                        open: false,
                    };
                    self.progress.files.push(done);
                    self.progress.files.len() - 1
                }
            };
            if !self.progress.files[at].complete && self.file(&file, at, out, stop).await? == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
        }
        out.checkpoint(&scope, self.progress.state()).await?;
        Ok(Ended::Complete)
    }
}

impl FileLane {
    async fn file(&mut self, file: &Path, at: usize, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let scope = Scope::Stream(self.table.name.clone());
        let place =
            Place { offset: self.progress.files[at].offset, line: self.progress.files[at].line, open: self.progress.files[at].open };
        let mut columns: Vec<Column> = self.progress.columns.iter().filter_map(|(n, w)| Column::from_words(n, w)).collect();
        let (path, sheet, config) = (file.to_owned(), self.table.sheet.clone(), self.config.clone());
        let mut work = blocking(move || {
            let reader = Reader::open(path, sheet.as_deref(), &config, place, &mut columns)?;
            Ok(Work { reader, columns })
        })
        .await?;
        loop {
            if stop.requested() {
                return Ok(Ended::Stopped);
            }
            let (back, chunk) = blocking(move || work.next()).await?;
            work = back;
            let place = work.reader.place();
            let done = &mut self.progress.files[at];
            (done.offset, done.line, done.open, done.complete) = (place.offset, place.line, place.open, chunk.is_none());
            self.progress.columns = words(&work.columns);
            let Some(chunk) = chunk else { return Ok(Ended::Complete) };
            if chunk.rows.schema() != self.announced {
                self.announced = chunk.rows.schema();
                out.schema(&self.table.name, self.announced.clone()).await?;
            }
            let changes = Changes { changed: vec![], rejected: chunk.rejected };
            out.batch(&self.table.name, Rows::Arrow(chunk.rows), changes).await?;
            out.checkpoint(&scope, self.progress.state()).await?;
        }
    }
}
