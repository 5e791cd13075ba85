//! A change feed as records: the row as it is now, and when it was deleted, in the columns that destinations know from other sources.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use linkspan_core::{Error, ErrorKind, OP_COLUMN, Result, UNSET_COLUMN, is_feed_column};

/// When the row was deleted; absent while it is there.
pub(super) const DELETED_AT: &str = "_ab_cdc_deleted_at";

pub(crate) fn is_feed(schema: &Schema) -> bool {
    schema.field_with_name(OP_COLUMN).is_ok()
}

/// The rows without the feed's own columns. `now` is what a deletion is dated with.
pub(crate) fn records(rows: &RecordBatch, now: &str) -> Result<RecordBatch> {
    if let Some(unset) = rows.column_by_name(UNSET_COLUMN).and_then(|c| c.as_any().downcast_ref::<BinaryArray>())
        && unset.iter().flatten().any(|bits| bits.iter().any(|byte| *byte != 0))
    {
        return Err(Error::new(ErrorKind::Unsupported, "a change leaves out columns that did not change, which a record cannot say")
            .fix("set REPLICA IDENTITY FULL on the table, or read it with full_refresh"));
    }
    build(rows, now).map_err(|e| Error::new(ErrorKind::Internal, "a change feed cannot be told as records").because(e))
}

fn build(rows: &RecordBatch, now: &str) -> std::result::Result<RecordBatch, ArrowError> {
    let schema = rows.schema();
    let kept: Vec<usize> = (0..rows.num_columns()).filter(|i| !is_feed_column(schema.field(*i).name())).collect();
    let ops = rows.column_by_name(OP_COLUMN).and_then(|c| c.as_any().downcast_ref::<StringArray>());
    let is_delete = |row: usize| ops.is_some_and(|ops| ops.is_valid(row) && ops.value(row) == "d");
    let deleted: StringArray = (0..rows.num_rows()).map(|row| is_delete(row).then_some(now)).collect();
    let mut fields: Vec<_> = kept.iter().map(|i| schema.fields()[*i].clone()).collect();
    let mut columns: Vec<ArrayRef> = kept.iter().map(|i| rows.column(*i).clone()).collect();
    // A deleted row may hold its key alone: no column of a record can be required.
    fields.iter_mut().for_each(|f| *f = Arc::new(f.as_ref().clone().with_nullable(true)));
    fields.push(Arc::new(Field::new(DELETED_AT, DataType::Utf8, true)));
    columns.push(Arc::new(deleted));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, cast::AsArray};

    use super::*;

    #[test]
    fn a_deletion_is_a_record_with_its_date_and_the_rest_is_as_it_is() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new(OP_COLUMN, DataType::Utf8, false),
            Field::new(UNSET_COLUMN, DataType::Binary, true),
        ]);
        let rows = |bits: Option<&'static [u8]>| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![1, 2])),
                Arc::new(StringArray::from(vec!["u", "d"])),
                Arc::new(BinaryArray::from(vec![bits, None])),
            ];
            RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap()
        };
        let told = records(&rows(None), "2024-01-01T00:00:00Z").unwrap();
        assert_eq!(told.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["id", DELETED_AT]);
        let deleted = told.column(1).as_string::<i32>();
        assert_eq!((deleted.is_null(0), deleted.value(1)), (true, "2024-01-01T00:00:00Z"));
        assert_eq!(records(&rows(Some(&[1])), "x").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
