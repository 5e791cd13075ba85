//! Rows of one schema on disk, in a few parts that are read one at a time. The file has no name: it dies with its process.

use std::{fs::File, path::PathBuf, sync::Arc};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::{concat::concat_batches, take::take_record_batch};
use linkspan_core::{Error, ErrorKind, Result, file_error};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    file::properties::{EnabledStatistics, WriterProperties},
};
use uuid::Uuid;

use super::{
    keys::{Mark, part_of},
    unfit,
};
use crate::{errors, place};

/// Bytes that wait together before they are written, each part's end to end.
const WAITING_BYTES: usize = 8 << 20;
const BATCH_ROWS: usize = 8_192;

/// Where changes spill, and the fence that says so to whoever finds what a killed run left there.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub folder: PathBuf,
    pub fence: u64,
}

pub(super) struct Shelf {
    spot: Spot,
    waiting: Vec<Vec<RecordBatch>>,
    bytes: usize,
    file: Option<File>,
    writer: Option<ArrowWriter<File>>,
    /// Of which part each row group is.
    groups: Vec<usize>,
    footer: Option<ArrowReaderMetadata>,
}

impl Shelf {
    pub fn new(spot: Spot, parts: usize) -> Self {
        let waiting = vec![Vec::new(); parts.max(1)];
        Self { spot, waiting, bytes: 0, file: None, writer: None, groups: Vec::new(), footer: None }
    }
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Takes rows in, each into the part of its mark. A shelf of one part needs no marks.
    pub fn put(&mut self, rows: &RecordBatch, marks: &[Mark]) -> Result<()> {
        let parts = self.count();
        if parts == 1 {
            self.waiting[0].push(rows.clone());
        } else {
            let mut places = vec![Vec::new(); parts];
            marks.iter().zip(0u32..).for_each(|(mark, row)| places[part_of(*mark, parts)].push(row));
            for (part, places) in places.into_iter().enumerate().filter(|(_, places)| !places.is_empty()) {
                self.waiting[part].push(take_record_batch(rows, &UInt32Array::from(places)).map_err(unfit)?);
            }
        }
        self.bytes += rows.get_array_memory_size();
        if self.bytes >= WAITING_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        for part in 0..self.count() {
            let waiting = std::mem::take(&mut self.waiting[part]);
            let Some(first) = waiting.first() else { continue };
            let rows = concat_batches(first.schema_ref(), &waiting).map_err(unfit)?;
            if self.writer.is_none() {
                self.begin(&rows)?;
            }
            let Some(writer) = &mut self.writer else { continue };
            // A row group is what was written until the flush.
            writer.write(&rows).and_then(|()| writer.flush()).map_err(|e| errors::writing("the spill file", e))?;
            self.groups.push(part);
        }
        Ok(())
    }

    fn begin(&mut self, rows: &RecordBatch) -> Result<()> {
        let file = nameless(&self.spot)?;
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(None)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let other = file.try_clone().map_err(|e| file_error("the spill file cannot be shared", &self.spot.folder, e))?;
        let writer = ArrowWriter::try_new(other, rows.schema(), Some(properties)).map_err(|e| errors::writing("the spill file", e))?;
        (self.file, self.writer) = (Some(file), Some(writer));
        Ok(())
    }

    /// No more rows come.
    pub fn seal(&mut self) -> Result<()> {
        self.flush()?;
        let (Some(writer), Some(file)) = (self.writer.take(), &self.file) else { return Ok(()) };
        let unwritten = |e| errors::writing("the spill file", e);
        writer.into_inner().map_err(unwritten)?;
        self.footer = Some(ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(unwritten)?);
        Ok(())
    }

    /// The rows of a part, in the order in which they came.
    pub fn rows(&mut self, part: usize) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        self.seal()?;
        let groups: Vec<usize> = self.groups.iter().enumerate().filter(|(_, of)| **of == part).map(|(at, _)| at).collect();
        let (Some(file), Some(footer), false) = (&self.file, &self.footer, groups.is_empty()) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let file = file.try_clone().map_err(|e| file_error("the spill file cannot be shared", &self.spot.folder, e))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.clone());
        let reader =
            builder.with_row_groups(groups).with_batch_size(BATCH_ROWS).build().map_err(|e| errors::reading("the spill file", e))?;
        // What the file says of itself is not part of the rows' schema.
        let schema = crate::schema::plain(footer.schema());
        Ok(Box::new(reader.map(move |rows| {
            let rows = rows.map_err(|e| Error::new(ErrorKind::Internal, "spilled rows could not be read").because(e))?;
            RecordBatch::try_new(Arc::clone(&schema), rows.columns().to_vec()).map_err(unfit)
        })))
    }
}

/// A file that nobody else can open, and that is gone with its last user.
fn nameless(spot: &Spot) -> Result<File> {
    std::fs::create_dir_all(&spot.folder).map_err(|e| file_error("the folder for changes cannot be made", &spot.folder, e))?;
    let path = spot.folder.join(place::spill_name(spot.fence, Uuid::new_v4()));
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(|e| file_error("the spill file cannot be made", &path, e))?;
    std::fs::remove_file(&path).map_err(|e| file_error("the spill file cannot be unlinked", &path, e))?;
    Ok(file)
}
