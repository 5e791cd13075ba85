//! Rows that wait for their commit on disk instead of in memory, in a file that has no name and dies with its session.

use std::{
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::ArrowError;
use linkspan_core::{Error, ErrorKind, Result, file_error};

pub(crate) struct Spill {
    /// The folder it lies in, for messages.
    folder: PathBuf,
    file: File,
    end: u64,
}

/// Where in the file a batch lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spilled {
    start: u64,
    len: u64,
}

impl Spill {
    /// In the database's own folder: the rows need that room anyway.
    pub fn beside(database: &Path) -> Result<Self> {
        Self::within(database.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
    pub fn within(folder: &Path) -> Result<Self> {
        let path = folder.join(format!(".linkspan-spill-{}", uuid::Uuid::new_v4().simple()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|e| file_error("the spill file cannot be made", &path, e))?;
        std::fs::remove_file(&path).map_err(|e| file_error("the spill file cannot be unlinked", &path, e))?;
        Ok(Self { folder: folder.to_owned(), file, end: 0 })
    }
    pub fn put(&mut self, rows: &RecordBatch) -> Result<Spilled> {
        let folder = self.folder.clone();
        let fail = |e| file_error("rows could not be spilled", &folder, e);
        self.file.seek(SeekFrom::Start(self.end)).map_err(fail)?;
        // Straight into the file: a second copy of a huge value in memory is one too many.
        let mut out = BufWriter::new(&mut self.file);
        StreamWriter::try_new(&mut out, &rows.schema())
            .and_then(|mut w| w.write(rows).and_then(|()| w.finish()))
            .map_err(|e| if let ArrowError::IoError(_, e) = e { fail(e) } else { unreadable(e) })?;
        out.flush().map_err(fail)?;
        drop(out);
        let end = self.file.stream_position().map_err(fail)?;
        let place = Spilled { start: self.end, len: end - self.end };
        self.end = end;
        Ok(place)
    }
    pub fn get(&mut self, place: Spilled) -> Result<RecordBatch> {
        let folder = self.folder.clone();
        let read = |e| file_error("spilled rows could not be read", &folder, e);
        self.file.seek(SeekFrom::Start(place.start)).map_err(read)?;
        let mut reader = StreamReader::try_new((&mut self.file).take(place.len), None).map_err(unreadable)?;
        reader.next().transpose().map_err(unreadable)?.ok_or_else(|| Error::new(ErrorKind::Internal, "spilled rows are missing"))
    }
    /// Forgets everything spilled.
    pub fn clear(&mut self) -> Result<()> {
        self.end = 0;
        self.file.set_len(0).map_err(|e| file_error("the spill file cannot be emptied", &self.folder, e))
    }
}

fn unreadable(e: ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "rows could not be spilled").because(e)
}
