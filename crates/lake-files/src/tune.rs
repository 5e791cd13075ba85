//! How columns are encoded, decided by looking at the first rows of a file: dictionaries where values repeat, differences for other
//! whole numbers, no compression where nothing is won by it. Measured with `examples/encode_lineitem.rs`.

use std::{collections::HashSet, hash::BuildHasher};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::{DataType, SchemaRef};
use parquet::{
    basic::{Compression as Codec, Encoding, GzipLevel, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    schema::types::ColumnPath,
};

use crate::config::{Compression, ParquetConfig};

/// Rows looked at; spread evenly over the batch.
const SAMPLE: usize = 2048;
/// A page is held uncompressed until it is full, one per column: small pages keep many columns cheap in memory, and they stay in the
/// cache while they are filled and compressed, which saves a quarter of the CPU.
const PAGE: usize = 128 << 10;
/// A column of such values gets neither dictionary nor statistics: both would copy them.
const LONG: usize = 256;
/// A value of this size in a batch makes its column long, even in the middle of a file.
const HUGE: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    /// So few different values that a dictionary pays.
    repeats: bool,
    /// Values so long that they are not to be copied.
    long: bool,
    /// Random bytes.
    dense: bool,
}

/// What the first rows told about each column.
pub(crate) struct Profile(Vec<Column>);

impl Profile {
    pub fn of(schema: &SchemaRef, sample: Option<&RecordBatch>) -> Self {
        let Some(rows) = sample.filter(|r| r.num_rows() > 0) else { return Self(vec![Column::default(); schema.fields().len()]) };
        Self(rows.columns().iter().map(look).collect())
    }

    /// False when a column that was taken for short holds a huge value.
    pub fn suits(&self, rows: &RecordBatch) -> bool {
        rows.columns().iter().zip(&self.0).all(|(column, known)| known.long || longest(column) < HUGE)
    }

    pub fn properties(&self, schema: &SchemaRef, config: &ParquetConfig) -> WriterProperties {
        let codec = codec(config.compression);
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("linkspan ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(codec)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(None)
            .set_data_page_row_count_limit(usize::MAX)
            .set_data_page_size_limit(PAGE)
            .set_write_batch_size(4096);
        for (field, column) in schema.fields().iter().zip(&self.0) {
            properties = apply(properties, field.name(), field.data_type(), column);
        }
        properties.build()
    }
}

fn apply(mut properties: WriterPropertiesBuilder, name: &str, data_type: &DataType, column: &Column) -> WriterPropertiesBuilder {
    if data_type.is_nested() {
        return properties;
    }
    let path = ColumnPath::new(vec![name.to_owned()]);
    if column.repeats {
        properties = properties.set_column_dictionary_enabled(path.clone(), true);
    } else if is_whole_number(data_type) {
        properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
    }
    if column.long || is_bytes(data_type) {
        properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
    }
    if column.dense {
        properties = properties.set_column_compression(path, Codec::UNCOMPRESSED);
    }
    properties
}

/// Types that a file holds as 32 or 64-bit integers. Their differences are shorter than they are, and cheaper to compress.
fn is_whole_number(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Decimal128(..=18, _)
        )
}

/// Types whose bounds cost more to find than they save: text is seldom sorted, and comparing it costs as much as writing it.
fn is_bytes(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()),
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::None => Codec::UNCOMPRESSED,
    }
}

fn look(column: &ArrayRef) -> Column {
    if column.data_type().is_nested() || matches!(column.data_type(), DataType::Boolean | DataType::Null) {
        return Column::default();
    }
    let (average, longest) = (average_length(column), longest(column));
    if average >= LONG || longest >= HUGE {
        return Column { long: true, ..Column::default() };
    }
    let (seen, distinct) = count(column);
    let dense = matches!(column.data_type(), DataType::FixedSizeBinary(16..)) && distinct * 10 > seen * 9;
    // A dictionary is given up by the writer once it is too large, and all its work was for nothing: so only clear cases.
    Column { repeats: seen >= 64 && distinct * 4 <= seen, long: false, dense }
}

/// (values looked at, different ones among them)
fn count(column: &ArrayRef) -> (usize, usize) {
    let state = std::collections::hash_map::RandomState::new();
    let step = (column.len() / SAMPLE).max(1);
    let at: Vec<usize> = (0..column.len()).step_by(step).filter(|i| column.is_valid(*i)).collect();
    let mut hashes = HashSet::with_capacity(at.len());
    for i in &at {
        hashes.insert(with_bytes(column, *i, |bytes| state.hash_one(bytes)));
    }
    (at.len(), hashes.len())
}

/// The value's bytes, for counting; nothing for types that are not counted.
fn with_bytes<R>(column: &ArrayRef, i: usize, f: impl FnOnce(&[u8]) -> R) -> R {
    match column.data_type() {
        DataType::Utf8 => f(column.as_string::<i32>().value(i).as_bytes()),
        DataType::LargeUtf8 => f(column.as_string::<i64>().value(i).as_bytes()),
        DataType::Utf8View => f(column.as_string_view().value(i).as_bytes()),
        DataType::Binary => f(column.as_binary::<i32>().value(i)),
        DataType::LargeBinary => f(column.as_binary::<i64>().value(i)),
        DataType::BinaryView => f(column.as_binary_view().value(i)),
        DataType::FixedSizeBinary(_) => f(column.as_fixed_size_binary().value(i)),
        other => match other.primitive_width() {
            Some(width) => {
                let data = column.to_data();
                let start = (data.offset() + i) * width;
                f(&data.buffers()[0].as_slice()[start..start + width])
            }
            None => f(&i.to_le_bytes()),
        },
    }
}

fn average_length(column: &ArrayRef) -> usize {
    let bytes = match column.data_type() {
        DataType::Utf8 => span(column.as_string::<i32>().value_offsets()),
        DataType::Binary => span(column.as_binary::<i32>().value_offsets()),
        DataType::LargeUtf8 => span(column.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => span(column.as_binary::<i64>().value_offsets()),
        _ => return 0,
    };
    bytes / column.len().max(1)
}

/// The longest text or binary value; 0 for other types. Looks closer only when the whole column is large.
fn longest(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8 => longest_of(column.as_string::<i32>().value_offsets()),
        DataType::Binary => longest_of(column.as_binary::<i32>().value_offsets()),
        DataType::LargeUtf8 => longest_of(column.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => longest_of(column.as_binary::<i64>().value_offsets()),
        DataType::FixedSizeBinary(n) => usize::try_from(*n).unwrap_or_default(),
        _ => 0,
    }
}

fn span<O: arrow_array::OffsetSizeTrait>(offsets: &[O]) -> usize {
    match offsets {
        [first, .., last] => last.as_usize() - first.as_usize(),
        _ => 0,
    }
}

fn longest_of<O: arrow_array::OffsetSizeTrait>(offsets: &[O]) -> usize {
    if span(offsets) < HUGE {
        return 0;
    }
    offsets.windows(2).map(|w| w[1].as_usize() - w[0].as_usize()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_dictionary_is_for_values_that_repeat() {
        let flags: ArrayRef = Arc::new(StringArray::from_iter_values((0..4096).map(|i| ["A", "N", "R"][i % 3])));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4096));
        assert!(look(&flags).repeats);
        assert!(!look(&ids).repeats);
        assert!(!look(&ids.slice(0, 10)).repeats, "ten rows tell nothing");
    }

    #[test]
    fn one_huge_value_makes_its_column_long() {
        let huge = "x".repeat(HUGE);
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a", huge.as_str(), "b"]));
        assert!(look(&column).long);
        assert!(!look(&column.slice(2, 1)).long);
    }
}
