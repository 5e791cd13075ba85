//! Folding: several changes of one key become the one change that has their effect.
//!
//! Changes of a key fold column-wise in `_ls_seq` order (row order where there is none): a set value replaces, an unset one keeps
//! the earlier set value. A delete clears; an insert after a delete sets all. A truncate is a barrier that the caller keeps.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray, UInt32Array, builder::BinaryBuilder, cast::AsArray};
use arrow_row::{RowConverter, SortField};
use arrow_select::take::take;

use crate::{Error, ErrorKind, OP_COLUMN, Result, SEQ_COLUMN, UNSET_COLUMN, is_feed_column};

/// One change as the fold sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Upsert,
    Delete,
}

impl Op {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "i" | "u" => Ok(Self::Upsert),
            "d" => Ok(Self::Delete),
            other => Err(Error::new(ErrorKind::DataInvalid, "a change has an unknown operation").with("op", other)),
        }
    }
}

/// The batch with one row per key, in the order of each key's last change, and how many rows folded away.
/// A null in a key column is `DataInvalid`: such a row can neither be found again nor deleted.
pub fn fold(rows: &RecordBatch, key: &[String]) -> Result<(RecordBatch, u64)> {
    let keys = key_rows(rows, key)?;
    let order = sequence_order(rows);
    let feed = Feed::of(rows)?;
    let data: Vec<usize> = (0..rows.num_columns()).filter(|i| !is_feed_column(rows.schema_ref().field(*i).name())).collect();

    let mut folded: HashMap<arrow_row::Row<'_>, Merged> = HashMap::with_capacity(rows.num_rows());
    for (at, row) in order.iter().copied().enumerate() {
        let op = feed.op(row)?;
        let entry = folded.entry(keys.row(row as usize)).or_insert_with(|| Merged::new(data.len()));
        entry.apply(row, op, at, |ordinal| feed.is_unset(row, ordinal));
    }
    if folded.len() == rows.num_rows() && feed.seq_sorted(&order) {
        return Ok((rows.clone(), 0));
    }
    let mut merged: Vec<Merged> = folded.into_values().collect();
    merged.sort_unstable_by_key(|m| m.at);
    let gone = (rows.num_rows() - merged.len()) as u64;
    Ok((render(rows, &data, &merged)?, gone))
}

/// Where each data column of a folded row comes from.
struct Merged {
    last: u32,
    at: usize,
    op: Op,
    from: Vec<Option<u32>>,
}

impl Merged {
    fn new(columns: usize) -> Self {
        Self { last: 0, at: 0, op: Op::Upsert, from: vec![None; columns] }
    }
    fn apply(&mut self, row: u32, op: Op, at: usize, unset: impl Fn(usize) -> bool) {
        let after_delete = self.op == Op::Delete;
        (self.last, self.at, self.op) = (row, at, op);
        for (ordinal, from) in self.from.iter_mut().enumerate() {
            if op == Op::Delete || after_delete || !unset(ordinal) {
                *from = Some(row);
            }
        }
    }
}

fn render(rows: &RecordBatch, data: &[usize], merged: &[Merged]) -> Result<RecordBatch> {
    let internal = |e| Error::new(ErrorKind::Internal, "the folded rows could not be built").because(e);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(rows.num_columns());
    let last = UInt32Array::from_iter_values(merged.iter().map(|m| m.last));
    for (i, field) in rows.schema_ref().fields().iter().enumerate() {
        let column = rows.column(i);
        columns.push(match data.iter().position(|d| *d == i) {
            Some(ordinal) => {
                // A column unset in every change still needs some index: its value is not read, `_ls_unset` says so.
                let from = UInt32Array::from_iter_values(merged.iter().map(|m| m.from[ordinal].unwrap_or(m.last)));
                take(column, &from, None).map_err(internal)?
            }
            None if field.name() == UNSET_COLUMN => Arc::new(unset_bitmaps(merged)),
            None => take(column, &last, None).map_err(internal)?,
        });
    }
    RecordBatch::try_new(rows.schema(), columns).map_err(internal)
}

fn unset_bitmaps(merged: &[Merged]) -> BinaryArray {
    let mut bitmaps = BinaryBuilder::new();
    for m in merged {
        let mut bits = vec![0u8; m.from.len().div_ceil(8)];
        for (i, _) in m.from.iter().enumerate().filter(|(_, f)| f.is_none()) {
            bits[i / 8] |= 1 << (i % 8);
        }
        bitmaps.append_value(bits);
    }
    bitmaps.finish()
}

/// A feed's own columns, where the batch has them.
struct Feed<'a> {
    op: Option<&'a StringArray>,
    unset: Option<&'a BinaryArray>,
    ordered: bool,
}

impl<'a> Feed<'a> {
    fn of(rows: &'a RecordBatch) -> Result<Self> {
        let wrong = |column: &str| Error::new(ErrorKind::DataInvalid, "a feed column has the wrong type").with("column", column);
        let op = match rows.column_by_name(OP_COLUMN) {
            Some(c) => Some(c.as_string_opt().ok_or_else(|| wrong(OP_COLUMN))?),
            None => None,
        };
        let unset = match rows.column_by_name(UNSET_COLUMN) {
            Some(c) => Some(c.as_binary_opt().ok_or_else(|| wrong(UNSET_COLUMN))?),
            None => None,
        };
        Ok(Self { op, unset, ordered: rows.column_by_name(SEQ_COLUMN).is_some() })
    }
    fn op(&self, row: u32) -> Result<Op> {
        self.op.map_or(Ok(Op::Upsert), |ops| Op::parse(ops.value(row as usize)))
    }
    fn is_unset(&self, row: u32, ordinal: usize) -> bool {
        let Some(unset) = self.unset.filter(|u| !u.is_null(row as usize)) else { return false };
        unset.value(row as usize).get(ordinal / 8).is_some_and(|b| b & (1 << (ordinal % 8)) != 0)
    }
    fn seq_sorted(&self, order: &[u32]) -> bool {
        !self.ordered || order.is_sorted()
    }
}

/// The key columns of all rows in a form that hashes and compares.
pub fn key_rows(rows: &RecordBatch, key: &[String]) -> Result<arrow_row::Rows> {
    let mut columns = Vec::with_capacity(key.len());
    for name in key {
        let column = rows
            .column_by_name(name)
            .ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the key column is not in the rows").with("column", name))?;
        if column.null_count() > 0 {
            return Err(null_key(name));
        }
        columns.push(column.clone());
    }
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let internal = |e| Error::new(ErrorKind::DataInvalid, "the key's type cannot be compared").because(e);
    RowConverter::new(fields).and_then(|c| c.convert_columns(&columns)).map_err(internal)
}

/// The error for a row whose key is null.
pub fn null_key(column: &str) -> Error {
    Error::new(ErrorKind::DataInvalid, "a key column holds NULL")
        .with("column", column)
        .fix("choose a key without NULLs with --key, or write with --write append")
}

/// Row ordinals in `_ls_seq` order; row order where there is none.
fn sequence_order(rows: &RecordBatch) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    if let Some(seq) = rows.column_by_name(SEQ_COLUMN).and_then(|c| c.as_fixed_size_binary_opt()) {
        order.sort_by(|a, b| seq.value(*a as usize).cmp(seq.value(*b as usize)));
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::{FixedSizeBinaryArray, Int64Array, types::Int64Type};
    use arrow_schema::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        id: i64,
        a: Option<Option<i64>>,
        b: Option<Option<i64>>,
        op: Op,
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
            Field::new(OP_COLUMN, DataType::Utf8, false),
            Field::new(SEQ_COLUMN, DataType::FixedSizeBinary(16), false),
            Field::new(UNSET_COLUMN, DataType::Binary, false),
        ]));
        let seqs: Vec<[u8; 16]> = (0..rows.len() as u128).map(u128::to_be_bytes).collect();
        let unset = rows.iter().map(|r| vec![u8::from(r.a.is_none()) << 1 | u8::from(r.b.is_none()) << 2]);
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
                Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.a.flatten()))),
                Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.b.flatten()))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|r| if r.op == Op::Delete { "d" } else { "u" }))),
                Arc::new(FixedSizeBinaryArray::try_from_iter(seqs.iter()).unwrap()),
                Arc::new(BinaryArray::from_iter_values(unset)),
            ],
        )
        .unwrap()
    }

    type Table = BTreeMap<i64, (Option<i64>, Option<i64>)>;

    fn apply(table: &mut Table, rows: &RecordBatch) {
        let column = |i: usize| rows.column(i).as_primitive::<Int64Type>();
        let ops: &StringArray = rows.column(3).as_string();
        let unset: &BinaryArray = rows.column(5).as_binary();
        for i in 0..rows.num_rows() {
            let (id, bits) = (column(0).value(i), unset.value(i).first().copied().unwrap_or(0));
            if ops.value(i) == "d" {
                table.remove(&id);
                continue;
            }
            let entry = table.entry(id).or_default();
            let value = |c: usize| (!column(c).is_null(i)).then(|| column(c).value(i));
            if bits & 2 == 0 {
                entry.0 = value(1);
            }
            if bits & 4 == 0 {
                entry.1 = value(2);
            }
        }
    }

    fn row() -> impl Strategy<Value = Row> {
        let value = || prop_oneof![Just(None), Just(Some(None)), (0..9i64).prop_map(|v| Some(Some(v)))];
        (0..4i64, value(), value(), prop::bool::weighted(0.25)).prop_map(|(id, a, b, delete)| Row {
            id,
            a,
            b,
            op: if delete { Op::Delete } else { Op::Upsert },
        })
    }

    /// A log sends every column of an insert, so a row after a delete, or of an unknown key, has nothing unset.
    fn as_a_log_would(rows: &mut [Row], start: &Table) {
        let mut alive: std::collections::BTreeSet<i64> = start.keys().copied().collect();
        for r in rows {
            if r.op == Op::Delete {
                alive.remove(&r.id);
            } else if alive.insert(r.id) {
                r.a = r.a.or(Some(None));
                r.b = r.b.or(Some(None));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn folding_equals_applying_one_at_a_time(mut rows in prop::collection::vec(row(), 1..40)) {
            let start: Table = [(0, (Some(100), Some(200))), (1, (None, Some(7)))].into();
            as_a_log_would(&mut rows, &start);
            let rows = batch(&rows);
            let (folded, gone) = fold(&rows, &["id".to_owned()]).unwrap();
            let (mut one_by_one, mut at_once) = (start.clone(), start);
            apply(&mut one_by_one, &rows);
            apply(&mut at_once, &folded);
            prop_assert_eq!(one_by_one, at_once);
            prop_assert_eq!(folded.num_rows() as u64 + gone, rows.num_rows() as u64);
        }
    }

    #[test]
    fn a_null_key_is_refused() {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(1), None]))]).unwrap();
        assert_eq!(fold(&rows, &["id".to_owned()]).unwrap_err().kind(), ErrorKind::DataInvalid);
    }
}
