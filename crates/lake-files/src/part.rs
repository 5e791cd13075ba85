//! One file of rows under way: encoded as it comes, invisible until its commit.

use std::{fs::File, io, io::Write, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use linkspan_core::{ConnectionId, Context, Error, ErrorKind, Result, file_error};
use parquet::arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions};
use uuid::Uuid;

use crate::{
    errors,
    house::House,
    place, schema,
    storage::{PartFile, Storage, Temp, Upload},
    tune,
};

/// A row group is closed when its encoded pages reach this size, so that memory stays flat however wide the rows are.
const GROUP_BYTES: usize = 6 << 20;

/// Whose file it is, and where it goes.
#[derive(Clone)]
pub(crate) struct Place {
    pub folder: String,
    pub connection: ConnectionId,
    pub fence: u64,
}

pub(crate) struct PartWriter {
    name: String,
    writer: ArrowWriter<Sink>,
    rest: Rest,
    rows: u64,
    group_rows: usize,
    profile: tune::Profile,
}

/// What is needed to finish the file, by kind of store.
enum Rest {
    File { temp: String, path: std::path::PathBuf },
    Upload(Upload),
}

impl PartWriter {
    /// Begins a file whose encoding suits rows like these.
    pub async fn begin(house: &House, place: Place, schema: &SchemaRef, sample: Option<&RecordBatch>) -> Result<Self> {
        let id = Uuid::new_v7(timestamp(&house.ctx));
        let name = place::part_name(&place.folder, id);
        let (sink, rest) = match &*house.storage {
            Storage::Local(local) => {
                let temp = place::temp_name(place.connection, place.fence, id, "part");
                let path = local.at(&temp);
                local.make_folder(path.parent().unwrap_or(local.root()))?;
                let file = File::create_new(&path).map_err(|e| file_error("the file cannot be made", &path, e))?;
                (Sink::new(To::File(file)), Rest::File { temp, path })
            }
            Storage::S3(s3) => {
                let note = place::temp_name(place.connection, place.fence, id, "upload.json");
                (Sink::new(To::Memory(Vec::new())), Rest::Upload(s3.begin(&name, &note).await?))
            }
        };
        let profile = tune::Profile::of(schema, sample);
        let options = ArrowWriterOptions::new()
            .with_properties(profile.properties(schema, &house.config))
            .with_parquet_schema(schema::descriptor(schema)?);
        let writer = ArrowWriter::try_new_with_options(sink, schema.clone(), options).map_err(|e| errors::writing(&name, e))?;
        Ok(Self { name, writer, rest, rows: 0, group_rows: house.config.row_group_rows as usize, profile })
    }

    /// Whether these rows want another encoding than the one this file was begun with.
    pub fn suits(&self, rows: &RecordBatch) -> bool {
        self.profile.suits(rows)
    }

    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < rows.num_rows() {
            let room = self.group_rows - self.writer.in_progress_rows().min(self.group_rows - 1);
            let n = room.min(rows.num_rows() - at);
            self.writer.write(&rows.slice(at, n)).map_err(|e| errors::writing(&self.name, e))?;
            at += n;
            if self.writer.in_progress_rows() >= self.group_rows || self.writer.memory_size() >= GROUP_BYTES {
                self.flush().await?;
            }
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Ends the row group, so that its memory is free.
    pub async fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| errors::writing(&self.name, e))?;
        if let (Rest::Upload(upload), To::Memory(buffer)) = (&mut self.rest, &mut self.writer.inner_mut().to) {
            upload.take_full(buffer).await?;
        }
        Ok(())
    }

    /// Bytes that this file holds in memory.
    pub fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// Stops writing. Answers the witness of what was written, to be thrown away.
    pub fn give_up(self) -> String {
        match self.rest {
            Rest::File { temp, .. } => temp,
            Rest::Upload(upload) => upload.into_note(),
        }
    }

    /// The size that the file would have if it ended now.
    pub fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Ends the file and makes it durable, still invisible.
    pub async fn finish(self, storage: &Storage, ctx: &Context) -> Result<PartFile> {
        let Self { name, writer, rest, rows, .. } = self;
        let sink = writer.into_inner().map_err(|e| errors::writing(&name, e))?;
        let (size, blake3) = (sink.written, sink.hasher.finalize().to_hex().to_string());
        let temp = match (rest, sink.to) {
            (Rest::File { temp, path }, To::File(file)) => {
                let Storage::Local(local) = storage else { return Err(mixed()) };
                let files = local.files().clone();
                // A sync may take seconds; the other tasks of this thread must not wait for it.
                let synced = tokio::task::spawn_blocking(move || files.sync(&file, &path)).await;
                synced.map_err(|e| Error::new(ErrorKind::Internal, "a sync task died").because(e))??;
                Temp::File { path: temp }
            }
            (Rest::Upload(upload), To::Memory(buffer)) => {
                let (id, etags, note) = upload.finish(buffer).await?;
                Temp::Upload { id, etags, note }
            }
            _ => return Err(mixed()),
        };
        ctx.failpoints.hit("parquet.part.synced").await?;
        Ok(PartFile { name, temp, size, rows, blake3 })
    }
}

fn mixed() -> Error {
    Error::new(ErrorKind::Internal, "a file of one store was given to another")
}

fn timestamp(ctx: &Context) -> uuid::Timestamp {
    let now = ctx.clock.now();
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    uuid::Timestamp::from_unix(uuid::NoContext, seconds, u32::try_from(now.subsec_nanosecond()).unwrap_or_default())
}

/// Where encoded bytes go: counted and hashed on their way.
struct Sink {
    to: To,
    written: u64,
    hasher: blake3::Hasher,
}

enum To {
    File(File),
    Memory(Vec<u8>),
}

impl Sink {
    fn new(to: To) -> Self {
        Self { to, written: 0, hasher: blake3::Hasher::new() }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.to {
            To::File(file) => file.write(bytes)?,
            To::Memory(buffer) => buffer.write(bytes)?,
        };
        self.written += n as u64;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::File(file) => file.flush(),
            To::Memory(_) => Ok(()),
        }
    }
}

/// The rows as the file holds them: columns that Parquet lacks a type for become text.
pub(crate) fn as_stored(rows: RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
    let same = rows.schema_ref().fields().len() == stored.fields().len()
        && rows.schema_ref().fields().iter().zip(stored.fields()).all(|(a, b)| a.data_type() == b.data_type());
    let unfit = |e| Error::new(ErrorKind::DataInvalid, "rows do not fit the table's schema").because(e);
    let columns = if same {
        rows.columns().to_vec()
    } else {
        let cast = rows.columns().iter().zip(stored.fields()).map(|(c, f)| arrow_cast::cast(c, f.data_type()));
        cast.collect::<Result<Vec<_>, _>>().map_err(unfit)?
    };
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(stored), columns, &options).map_err(unfit)
}
