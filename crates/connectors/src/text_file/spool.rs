//! Encoded rows that wait for their commit: in memory, beyond a few megabytes in a file without a name.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use linkspan_core::{Result, file_error};

const IN_MEMORY: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Spool {
    file: Option<File>,
    /// Bytes that follow those in the file.
    memory: Vec<u8>,
}

impl Spool {
    /// Where to append. Call `settle` afterwards.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }
    /// Moves what is in memory to the file when it is much. `folder` is the destination's: the bytes need that room anyway.
    pub fn settle(&mut self, folder: &Path) -> Result<()> {
        if self.memory.len() < IN_MEMORY {
            return Ok(());
        }
        let fail = |e| file_error("rows could not be spooled", folder, e);
        if self.file.is_none() {
            let path = folder.join(format!(".linkspan-spool-{}", uuid::Uuid::new_v4().simple()));
            let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(fail)?;
            std::fs::remove_file(&path).map_err(fail)?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.memory).map_err(fail)?;
        }
        self.memory.clear();
        self.memory.shrink_to(IN_MEMORY);
        Ok(())
    }
    pub fn is_empty(&self) -> bool {
        self.file.is_none() && self.memory.is_empty()
    }
    /// Everything, from the start.
    pub fn reader(&mut self) -> io::Result<impl io::BufRead> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
        }
        let spilled: Box<dyn Read> = match &self.file {
            Some(file) => Box::new(file),
            None => Box::new(io::empty()),
        };
        Ok(BufReader::with_capacity(256 << 10, spilled.chain(self.memory.as_slice())))
    }
}
