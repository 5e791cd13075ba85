//! One lane's way into text files: rows are encoded as they come and kept aside, then appended and recorded by the commit.

use std::{collections::BTreeMap, sync::Arc};

use arrow_schema::{Field, SchemaRef};
use async_trait::async_trait;
use linkspan_core::{Batch, Commit, Error, ErrorKind, Load, Result, Rows, SchemaPlan, Session, StreamName, WriteStats};

use super::{
    TextFiles,
    log::{FileEntry, Locked},
    spool::Spool,
};
use crate::blocking::blocking;

pub(super) struct TextSession {
    files: TextFiles,
    load: Arc<Load>,
    /// One per stream of the load; taken while a commit runs, gone after an error.
    lines: Option<Vec<Line>>,
    stats: BTreeMap<StreamName, WriteStats>,
}

/// What a stream's next commit does to its file.
struct Line {
    /// The file's columns, as the rows in the spool are encoded; `None` before the first plan.
    columns: Option<Vec<Field>>,
    schema: Option<SchemaRef>,
    truncate: bool,
    spool: Spool,
    /// Something is to be written, be it only an empty file.
    touched: bool,
}

impl TextSession {
    pub fn new(files: TextFiles, load: Load, entries: Vec<Option<FileEntry>>) -> Result<Self> {
        let line = |entry: Option<FileEntry>| {
            let columns = entry.map(|e| e.fields()).transpose()?;
            Ok(Line { columns, schema: None, truncate: false, spool: Spool::default(), touched: false })
        };
        let lines: Result<Vec<Line>> = entries.into_iter().map(line).collect();
        Ok(Self { files, load: Arc::new(load), lines: Some(lines?), stats: BTreeMap::new() })
    }
    fn line(&mut self, stream: &StreamName) -> Result<&mut Line> {
        let at = self.load.streams.iter().position(|s| s.stream == *stream);
        let lines = self.lines.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "the session is dead after an error"))?;
        at.and_then(|at| lines.get_mut(at))
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the session was not opened for this stream").with("stream", stream))
    }
}

#[async_trait]
impl Session for TextSession {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let format = self.files.format.clone();
        let folder = self.files.place.folder().to_owned();
        let line = self.line(stream)?;
        let old = line.columns.clone().unwrap_or_default();
        let new = united(&old, plan.schema.fields().iter().map(AsRef::as_ref));
        if format.positional() && old.len() != new.len() && !line.spool.is_empty() {
            line.spool = moved(&mut line.spool, format.as_ref(), &old, &new, &folder)?;
        }
        line.touched |= line.columns.as_ref() != Some(&new);
        (line.columns, line.schema) = (Some(new), Some(plan.schema.clone()));
        Ok(())
    }
    async fn write(&mut self, rows: Batch) -> Result<()> {
        self.stats.entry(rows.stream.clone()).or_default().rejected += rows.changes.rejected.len() as u64;
        let format = self.files.format.clone();
        let folder = self.files.place.folder().to_owned();
        let line = self.line(&rows.stream)?;
        let (Some(columns), Some(schema)) = (&line.columns, &line.schema) else {
            return Err(Error::new(ErrorKind::Internal, "rows came before their schema").with("stream", &rows.stream));
        };
        let arrow = match rows.rows {
            Rows::Arrow(arrow) => arrow,
            Rows::Json(json) => json.to_arrow(schema)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows of this form cannot be written here").fix("update Linkspan")),
        };
        format.encode(&arrow, columns, line.spool.buffer())?;
        line.touched = true;
        line.spool.settle(&folder)?;
        self.stats.entry(rows.stream).or_default().written += arrow.num_rows() as u64;
        drop(rows.lease);
        Ok(())
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        let line = self.line(stream)?;
        (line.truncate, line.touched, line.spool) = (true, true, Spool::default());
        Ok(())
    }
    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        self.files.ctx.failpoints.hit("text.commit.before").await?;
        let mut lines = self.lines.take().ok_or_else(|| Error::new(ErrorKind::Internal, "the session is dead after an error"))?;
        let (files, load, commit) = (self.files.clone(), self.load.clone(), commit.clone());
        let lines = blocking(move || {
            let mut locked = Locked::open(&files.place, &files.ctx)?;
            let new = lines.iter().zip(&load.streams).filter(|(l, _)| l.touched);
            let new: Result<Vec<_>> =
                new.map(|(_, s)| Ok((files.place.written_name(load.connection, s)?, FileEntry::new(&s.target, &[])))).collect();
            locked.books.check(&commit)?;
            locked.announce(new?.into_iter())?;
            locked.books.advance(&commit);
            for (line, stream) in lines.iter_mut().zip(&load.streams).filter(|(l, _)| l.touched) {
                let name = files.place.written_name(load.connection, stream)?;
                line.apply(&mut locked, &files, &name, &FileEntry::new(&stream.target, &[]))
                    .map_err(|e| e.with("stream", &stream.stream))?;
            }
            files.ctx.failpoints.hit_sync("text.synced")?;
            locked.save()?;
            Ok(lines)
        })
        .await?;
        self.lines = Some(lines);
        self.files.ctx.failpoints.hit("text.commit.after").await?;
        Ok(std::mem::take(&mut self.stats))
    }
}

impl Line {
    /// Brings the file to where this line wants it; `fresh` is the entry of a file that is not there yet.
    fn apply(&mut self, locked: &mut Locked, files: &TextFiles, name: &str, fresh: &FileEntry) -> Result<()> {
        let stands = locked.books.files.get(name).cloned();
        if let Some(stands) = stands.as_ref().filter(|s| s.target != fresh.target) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "one file holds one stream, and this file holds another")
                .with("path", files.place.path(name).display())
                .with("holds", &stands.target)
                .fix("give a folder instead of a file, or another file"));
        }
        let format = files.format.as_ref();
        let old = stands.as_ref().map(FileEntry::fields).transpose()?.unwrap_or_default();
        // Another lane of the stream may have added columns meanwhile.
        let mine = self.columns.clone().unwrap_or_default();
        let columns = united(&old, mine.iter());
        if format.positional() && !same_names(&mine, &columns) {
            self.spool = moved(&mut self.spool, format, &mine, &columns, files.place.folder())?;
        }
        let mut entry = stands.clone().unwrap_or_else(|| fresh.clone());
        entry.set_fields(&columns);
        let keep = stands.as_ref().filter(|_| !self.truncate).map(|s| (old.as_slice(), s.length));
        let anew = entry.length > 0 && (self.truncate || (format.positional() && !same_names(&old, &columns)));
        if anew {
            locked.rewrite(name, keep, entry, format, &mut self.spool)?;
        } else {
            locked.append(name, entry, &format.header(&columns), &mut self.spool)?;
        }
        (self.spool, self.truncate, self.touched, self.columns) = (Spool::default(), false, false, Some(columns));
        Ok(())
    }
}

fn same_names(a: &[Field], b: &[Field]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name())
}

/// The file's columns, with newer types where the rows have them, and new ones behind.
fn united<'a>(stands: &[Field], next: impl Iterator<Item = &'a Field>) -> Vec<Field> {
    let mut columns = stands.to_vec();
    for field in next {
        match columns.iter_mut().find(|c| c.name() == field.name()) {
            Some(column) => *column = field.clone().with_nullable(field.is_nullable() || column.is_nullable()),
            None => columns.push(field.clone().with_nullable(field.is_nullable() || !stands.is_empty())),
        }
    }
    columns
}

/// The spooled rows under other columns.
fn moved(from: &mut Spool, format: &dyn super::Format, old: &[Field], new: &[Field], folder: &std::path::Path) -> Result<Spool> {
    let mut to = Spool::default();
    let mut reader = from.reader().map_err(|e| linkspan_core::file_error("spooled rows cannot be read", folder, e))?;
    format.rewrite(&mut reader, old, new, &mut Settling { spool: &mut to, folder })?;
    drop(reader);
    Ok(to)
}

/// A spool as a writer.
struct Settling<'a> {
    spool: &'a mut Spool,
    folder: &'a std::path::Path,
}

impl std::io::Write for Settling<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.spool.buffer().extend_from_slice(bytes);
        self.spool.settle(self.folder).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
