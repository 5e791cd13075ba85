//! Keys in a short form that can be compared across files.

use std::collections::HashSet;

use arrow_array::{Array, RecordBatch, new_null_array};
use arrow_cast::cast;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, SchemaRef};
use linkspan_core::{Error, ErrorKind, Result, fold};

use super::unfit;

/// A key, or as much of it as tells it from every other: sixteen bytes.
pub(super) type Mark = u128;

/// How a table's keys are made marks, whatever older files hold them as.
pub(super) struct Keys {
    columns: Vec<(String, DataType)>,
    converter: RowConverter,
}

impl Keys {
    pub fn new(schema: &SchemaRef, key: &[String]) -> Result<Self> {
        let column = |name: &String| match schema.field_with_name(name) {
            Ok(field) => Ok((name.clone(), field.data_type().clone())),
            Err(_) => Err(Error::new(ErrorKind::DataInvalid, "the key column is not in the rows").with("column", name)),
        };
        let columns = key.iter().map(column).collect::<Result<Vec<_>>>()?;
        let fields = columns.iter().map(|(_, data_type)| SortField::new(data_type.clone())).collect();
        let converter =
            RowConverter::new(fields).map_err(|e| Error::new(ErrorKind::DataInvalid, "the key's type cannot be compared").because(e))?;
        Ok(Self { columns, converter })
    }

    /// Whether marks are ordered as their keys are: those of one column of whole numbers or times.
    pub fn are_ordered(&self) -> bool {
        let is_ordered = |data_type: &DataType| {
            use DataType::{Date32, Date64, Time32, Time64, Timestamp};
            data_type.is_integer() || matches!(data_type, Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..))
        };
        matches!(self.columns.as_slice(), [(_, data_type)] if is_ordered(data_type))
    }

    /// One mark for each row. Two rows have the same one if their keys are equal.
    pub fn marks(&self, rows: &RecordBatch) -> Result<Vec<Mark>> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (name, data_type) in &self.columns {
            columns.push(match rows.column_by_name(name) {
                Some(column) if column.data_type() == data_type => column.clone(),
                Some(column) => cast(column, data_type).map_err(unfit)?,
                None => new_null_array(data_type, rows.num_rows()),
            });
        }
        let rows = self.converter.convert_columns(&columns).map_err(unfit)?;
        Ok(rows.iter().map(|row| mark(row.as_ref())).collect())
    }
}

/// A short key is its own mark, with its length in front.
fn mark(key: &[u8]) -> Mark {
    let mut bytes = [0; 16];
    match key.len() {
        len @ ..=15 => {
            bytes[0] = len as u8;
            bytes[1..=len].copy_from_slice(key);
        }
        // The first byte says that it is none of the short ones.
        _ => {
            bytes.copy_from_slice(&blake3::hash(key).as_bytes()[..16]);
            bytes[0] |= 0x80;
        }
    }
    Mark::from_be_bytes(bytes)
}

/// Keys that are looked for, in their order.
pub(super) struct Sorted(Vec<Mark>);

impl Sorted {
    pub fn of(wanted: &HashSet<Mark>) -> Self {
        let mut marks: Vec<Mark> = wanted.iter().copied().collect();
        marks.sort_unstable();
        Self(marks)
    }
    /// Whether one of them lies between these two, or is one of them.
    pub fn has_between(&self, least: Mark, most: Mark) -> bool {
        let at = self.0.partition_point(|mark| *mark < least);
        self.0.get(at).is_some_and(|mark| *mark <= most)
    }
}

/// In which of so many parts a key is.
pub(super) fn part_of(mark: Mark, parts: usize) -> usize {
    let mixed = ((mark >> 64) as u64 ^ mark as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(mixed) * parts as u128) >> 64) as usize
}

/// Refuses a row that nobody could find again.
pub(super) fn refuse_nulls(rows: &RecordBatch, key: &[String]) -> Result<()> {
    let is_null = |name: &&String| rows.column_by_name(name).is_some_and(|column| column.null_count() > 0);
    match key.iter().find(is_null) {
        Some(name) => Err(fold::null_key(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn a_key_has_one_mark_whatever_a_file_holds_it_as_and_two_keys_have_two() {
        let schema: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, false)]));
        let keys = Keys::new(&schema, &["id".into()]).unwrap();
        let narrow = keys.marks(&rows(vec![("id", Arc::new(Int32Array::from(vec![1, -1, 70_000])))])).unwrap();
        let wide = keys.marks(&rows(vec![("id", Arc::new(Int64Array::from(vec![1, -1, 70_000])))])).unwrap();
        assert_eq!(narrow, wide);
        let both = Keys::new(&schema, &["id".into(), "name".into()]).unwrap();
        let ids = Int64Array::from_iter_values((0..1_000).map(|n| n / 10));
        let names = StringArray::from_iter_values((0..1_000).map(|n| "x".repeat(n % 10)));
        let marks = both.marks(&rows(vec![("id", Arc::new(ids)), ("name", Arc::new(names))])).unwrap();
        assert_eq!(marks.iter().collect::<HashSet<_>>().len(), 1_000);
    }

    #[test]
    fn marks_of_numbers_are_ordered_as_the_numbers_and_others_do_not_say_so() {
        let of = |data_type: DataType| {
            let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", data_type, false)]));
            Keys::new(&schema, &["id".into()]).unwrap()
        };
        let numbers = of(DataType::Int64);
        assert!(numbers.are_ordered() && !of(DataType::Utf8).are_ordered() && !of(DataType::Float64).are_ordered());
        let marks =
            numbers.marks(&rows(vec![("id", Arc::new(Int64Array::from(vec![i64::MIN, -70_000, -1, 0, 1, 256, i64::MAX])))])).unwrap();
        assert!(marks.is_sorted(), "{marks:?}");
        let wanted = Sorted::of(&[marks[1], marks[4]].into());
        let between = |least: usize, most: usize| wanted.has_between(marks[least], marks[most]);
        assert!(between(0, 1) && between(1, 1) && between(2, 4) && between(0, 6));
        assert!(!between(0, 0) && !between(2, 3) && !between(5, 6));
    }

    #[test]
    fn parts_are_about_as_large_as_each_other() {
        let mut counts = [0; 7];
        for n in 0..70_000u64 {
            counts[part_of(mark(&n.to_be_bytes()), 7)] += 1;
        }
        assert!(counts.iter().all(|n| (8_000..12_000).contains(n)), "{counts:?}");
    }
}
