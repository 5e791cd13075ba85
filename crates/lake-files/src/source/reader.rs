//! One Parquet file as it is read: its footer, and its row groups batch by batch.

use std::{fs::File, ops::Range, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use linkspan_core::{
    Error, ErrorKind, Result, file_error,
    native::{self, JSON_TEXT},
};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
            statistics::StatisticsConverter,
        },
        async_reader::{AsyncFileReader, ParquetRecordBatchStream},
    },
    basic::LogicalType,
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::{
    errors,
    storage::{Item, Storage, changed_while_read},
};

/// Rows of one batch take about this much memory.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_ROWS: u64 = 16_384;
/// Read with the last bytes of an object, in the hope that it holds the whole footer.
const FOOTER_GUESS: usize = 64 << 10;

pub(crate) struct DataFile {
    storage: Arc<Storage>,
    item: Item,
    footer: ArrowReaderMetadata,
}

impl DataFile {
    pub async fn open(storage: &Arc<Storage>, item: &Item) -> Result<Self> {
        let name = shown(storage, item);
        let unreadable = |e| errors::reading(&name, e);
        let options = ArrowReaderOptions::new();
        let footer = match &**storage {
            Storage::Local(_) => ArrowReaderMetadata::load(&local_file(storage, item)?, options).map_err(unreadable)?,
            Storage::S3(_) => {
                let mut file = Remote { storage: storage.clone(), item: item.clone() };
                ArrowReaderMetadata::load_async(&mut file, options).await.map_err(unreadable)?
            }
        };
        let wanted = house_types(footer.schema());
        let footer = if *footer.schema() == wanted {
            footer
        } else {
            ArrowReaderMetadata::try_new(footer.metadata().clone(), ArrowReaderOptions::new().with_schema(wanted)).unwrap_or(footer)
        };
        Ok(Self { storage: storage.clone(), item: item.clone(), footer })
    }
    pub fn name(&self) -> String {
        shown(&self.storage, &self.item)
    }
    pub fn schema(&self) -> SchemaRef {
        let types = self.footer.parquet_schema().root_schema().get_fields();
        let fields = house_types(self.footer.schema());
        let marked = fields.fields().iter().zip(types).map(|(field, told)| marked(field, told.get_basic_info().logical_type_ref()));
        Arc::new(Schema::new(marked.collect::<Vec<_>>()))
    }
    pub fn rows(&self) -> u64 {
        self.footer.metadata().file_metadata().num_rows().try_into().unwrap_or(0)
    }
    pub fn groups(&self) -> usize {
        self.footer.metadata().num_row_groups()
    }
    pub fn footer(&self) -> &ArrowReaderMetadata {
        &self.footer
    }

    /// The least and the greatest value of a column in each row group, null where the file does not say; nothing without such a column.
    pub fn ranges(&self, column: &str) -> Option<(ArrayRef, ArrayRef)> {
        let told = StatisticsConverter::try_new(column, self.footer.schema(), self.footer.parquet_schema()).ok()?;
        let groups = self.footer.metadata().row_groups();
        Some((told.row_group_mins(groups).ok()?, told.row_group_maxes(groups).ok()?))
    }
    pub fn rows_of_group(&self, group: usize) -> usize {
        self.footer.metadata().row_group(group).num_rows().try_into().unwrap_or(0)
    }

    /// The rows of one row group.
    pub fn group(&self, group: usize) -> Result<GroupRows> {
        self.read(group, ProjectionMask::all())
    }
    /// Some columns of one row group; those that the file lacks are not among them.
    pub fn columns_of_group(&self, group: usize, names: &[String]) -> Result<GroupRows> {
        let fields = self.footer.schema().fields().iter().enumerate();
        let roots = fields.filter(|(_, field)| names.contains(field.name())).map(|(at, _)| at);
        self.read(group, ProjectionMask::roots(self.footer.parquet_schema(), roots))
    }
    fn read(&self, group: usize, columns: ProjectionMask) -> Result<GroupRows> {
        let meta = self.footer.metadata().row_group(group);
        let (bytes, rows) = (meta.total_byte_size().max(1) as u64, meta.num_rows().max(1) as u64);
        let batch = (BATCH_BYTES / (bytes / rows).max(1)).clamp(1, BATCH_ROWS) as usize;
        let from = match &*self.storage {
            Storage::Local(_) => {
                let file = local_file(&self.storage, &self.item)?;
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone());
                let reader = builder.with_row_groups(vec![group]).with_projection(columns).with_batch_size(batch).build();
                From::Local(reader.map_err(|e| errors::reading(&self.name(), e))?)
            }
            Storage::S3(_) => {
                let file = Remote { storage: self.storage.clone(), item: self.item.clone() };
                let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file, self.footer.clone());
                let stream = builder.with_row_groups(vec![group]).with_projection(columns).with_batch_size(batch).build();
                From::S3(Box::new(stream.map_err(|e| errors::reading(&self.name(), e))?))
            }
        };
        Ok(GroupRows { name: self.name(), from })
    }
}

/// A table's schema by one of its files.
pub(crate) async fn footer_schema(storage: &Arc<Storage>, item: &Item) -> Result<SchemaRef> {
    DataFile::open(storage, item).await.map(|file| file.schema())
}

fn shown(storage: &Storage, item: &Item) -> String {
    match item.path.as_str() {
        "" => storage.describe(),
        path => format!("{}/{path}", storage.describe().trim_end_matches('/')),
    }
}

fn local_file(storage: &Storage, item: &Item) -> Result<File> {
    let Storage::Local(local) = storage else { return Err(Error::new(ErrorKind::Internal, "an object is no local file")) };
    let path = local.at(&item.path);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(changed_while_read(&path.display().to_string()).because(e)),
        Err(e) => return Err(file_error("the file cannot be opened", &path, e)),
    };
    match local.item(&item.path)? {
        Some(now) if now == *item => Ok(file),
        _ => Err(changed_while_read(&path.display().to_string())),
    }
}

pub(crate) struct GroupRows {
    name: String,
    from: From,
}

enum From {
    Local(ParquetRecordBatchReader),
    S3(Box<ParquetRecordBatchStream<Remote>>),
}

impl GroupRows {
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.from {
            From::Local(reader) => reader.next().transpose().map_err(|e| match e {
                arrow_schema::ArrowError::ExternalError(e) => errors::reading(&self.name, ParquetError::External(e)),
                other => errors::unreadable(&self.name, other),
            }),
            From::S3(stream) => stream.try_next().await.map_err(|e| errors::reading(&self.name, e)),
        }
    }
}

/// An object read by ranges. Every range must come from the object that was listed.
#[derive(Clone)]
struct Remote {
    storage: Arc<Storage>,
    item: Item,
}

impl Remote {
    async fn read(&self, range: Range<u64>) -> parquet::errors::Result<Bytes> {
        let Storage::S3(s3) = &*self.storage else { return Err(ParquetError::General("not an object".into())) };
        let read = s3.read_range(&self.item.path, range, self.item.etag.clone()).await;
        read.map_err(|e| ParquetError::External(Box::new(e)))
    }
}

impl AsyncFileReader for Remote {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.read(range).boxed()
    }
    /// The columns of a row group lie side by side: one request brings them all.
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { object_store::coalesce_ranges(&ranges, |range| self.read(range), object_store::OBJECT_STORE_COALESCE_DEFAULT).await }
            .boxed()
    }
    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.item.size;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_GUESS));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

/// What Parquet itself says of a column, in the house's marks, where another tool wrote the file.
fn marked(field: &Field, told: Option<&LogicalType>) -> Field {
    match told {
        Some(LogicalType::Uuid) if native::native_of(field).is_none() => native::with_native(field.clone(), "parquet", "uuid"),
        Some(LogicalType::Json) if !native::has_mark(field, JSON_TEXT) => native::with_mark(field.clone(), JSON_TEXT, ""),
        _ => field.clone(),
    }
}

/// The types that the house uses for what a file holds: dictionaries and wide or viewed variants are another tool's business.
fn house_types(schema: &SchemaRef) -> SchemaRef {
    fn field_of(field: &Field) -> Field {
        field.clone().with_data_type(house_type(field.data_type()))
    }
    fn house_type(data_type: &DataType) -> DataType {
        match data_type {
            DataType::Dictionary(_, values) => house_type(values),
            DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
            DataType::List(f) | DataType::LargeList(f) => DataType::List(Arc::new(field_of(f))),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| field_of(f)).collect()),
            other => other.clone(),
        }
    }
    let fields: Vec<Field> = schema.fields().iter().map(|f| field_of(f)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The rows in another schema: columns by name, cast where the schema is wider, null where the file has none.
pub(crate) fn align(rows: &RecordBatch, wanted: &SchemaRef, file: &str) -> Result<RecordBatch> {
    let unfit = |e| {
        Error::new(ErrorKind::DataInvalid, "the file's rows do not fit the stream's schema")
            .with("file", file)
            .fix("discover the stream again: the file is not like the others")
            .because(e)
    };
    let columns = wanted.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => widened(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(unfit)?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options).map_err(unfit)
}

fn widened(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let options = arrow_cast::CastOptions { safe: false, ..arrow_cast::CastOptions::default() };
    arrow_cast::cast_with_options(column, to, &options)
}
