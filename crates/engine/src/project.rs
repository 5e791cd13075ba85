//! Projection: rows as the source sends them become rows as the plan wants them. A schema that already fits costs nothing per
//! row; a cast is exact, or what did not fit is refused or recorded. No value changes silently.

mod casts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions, builder::BinaryBuilder, cast::AsArray};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use linkspan_core::{
    Change, ChangeKind, Changes, Error, ErrorKind, Misfit, OP_COLUMN, Reason, Result, SchemaPlan, UNSET_COLUMN, is_feed_column,
    rows::Rejected,
};

use casts::Cast;

/// How rows of one schema become rows of a plan. Made once per schema, used for every batch.
#[derive(Debug)]
pub struct Projection {
    from: SchemaRef,
    to: SchemaRef,
    misfit: Misfit,
    columns: Vec<Column>,
    /// Columns that the plan left out and that are not to be dropped unseen: a row that holds a value there is left out.
    refused: Vec<usize>,
    /// New ordinals of the data columns in `_ls_unset`, where they are not the old ones.
    unset: Option<Unset>,
    same: bool,
}

#[derive(Debug)]
struct Column {
    index: usize,
    cast: Option<Cast>,
    required: bool,
}

#[derive(Debug)]
struct Unset {
    column: usize,
    /// For each data column that is sent: its ordinal in the source's rows.
    old_ordinals: Vec<usize>,
}

impl Projection {
    /// `plan.schema` must name columns of `from` only.
    pub fn new(from: &SchemaRef, plan: &SchemaPlan) -> Result<Self> {
        let to = plan.schema.clone();
        // A change feed's deletes and unset values are null without being misfits.
        let feed = from.field_with_name(OP_COLUMN).is_ok();
        let mut columns = Vec::with_capacity(to.fields().len());
        for field in to.fields() {
            let index = from.index_of(field.name()).map_err(|e| unknown_column(field.name()).because(e))?;
            let standing = from.field(index);
            let cast = Cast::between(standing, field)?;
            columns.push(Column { index, cast, required: !field.is_nullable() && !feed });
        }
        let refused = match plan.misfit {
            Misfit::Reject => (0..from.fields().len()).filter(|i| columns.iter().all(|c| c.index != *i)).collect(),
            _ => Vec::new(),
        };
        let unset = Unset::remapped(from, &columns);
        let in_place = columns.iter().enumerate().all(|(i, c)| c.index == i && c.cast.is_none());
        let same = in_place && columns.len() == from.fields().len() && unset.is_none();
        Ok(Self { from: from.clone(), to, misfit: plan.misfit, columns, refused, unset, same })
    }

    pub fn misfit(&self) -> Misfit {
        self.misfit
    }

    /// The columns of the source that are not sent.
    pub fn left_out(&self) -> Vec<&str> {
        let sent = |i: &usize| self.columns.iter().any(|c| c.index == *i);
        (0..self.from.fields().len()).filter(|i| !sent(i)).map(|i| self.from.field(i).name().as_str()).collect()
    }

    /// The rows in the plan's schema. What could not travel is added to `changes`, whose row numbers follow rows that are left out.
    pub fn apply(&self, rows: RecordBatch, changes: &mut Changes) -> Result<RecordBatch> {
        if self.same && self.nothing_missing(&rows) {
            return self.relabel(rows);
        }
        let mut bad = Bad::default();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.to.fields()) {
            let array = rows.column(column.index);
            let array = match &column.cast {
                Some(cast) => self.settle(cast.apply(array)?, field.name(), column.required, &mut bad, changes)?,
                None => array.clone(),
            };
            if column.required && array.null_count() > 0 {
                self.forbid_nulls(&array, field.name(), &mut bad)?;
            }
            columns.push(array);
        }
        for index in &self.refused {
            bad.refuse_set(rows.column(*index), self.from.field(*index).name());
        }
        if let Some(unset) = &self.unset {
            unset.remap(&rows, &self.to, &mut columns)?;
        }
        self.without(bad, columns, rows.num_rows(), changes)
    }

    fn nothing_missing(&self, rows: &RecordBatch) -> bool {
        self.columns.iter().all(|c| !c.required || rows.column(c.index).null_count() == 0)
    }

    /// The same columns under the plan's schema: no value is touched.
    fn relabel(&self, rows: RecordBatch) -> Result<RecordBatch> {
        if Arc::ptr_eq(rows.schema_ref(), &self.to) {
            return Ok(rows);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let (_, columns, _) = rows.into_parts();
        RecordBatch::try_new_with_options(self.to.clone(), columns, &options).map_err(internal)
    }

    /// Applies the misfit rule to what a cast could not carry over.
    fn settle(&self, cast: casts::Outcome, column: &str, required: bool, bad: &mut Bad, changes: &mut Changes) -> Result<ArrayRef> {
        let casts::Outcome { array, misfits } = cast;
        let Some(misfits) = misfits else { return Ok(array) };
        match self.misfit {
            Misfit::Fail => {
                let row = misfits.iter().position(|m| m == Some(true)).unwrap_or(0);
                Err(does_not_fit(column, array.data_type()).with("row_of_batch", row))
            }
            Misfit::Null if !required => {
                let rows = misfits.iter().enumerate().filter(|(_, m)| *m == Some(true));
                changes.changed.extend(rows.map(|(row, _)| Change {
                    row: row as u32,
                    field: column.to_owned(),
                    kind: ChangeKind::Nulled,
                    reason: Reason::DriftPolicy,
                }));
                arrow_select::nullif::nullif(&array, &misfits).map_err(internal)
            }
            Misfit::Null | Misfit::Reject => {
                bad.add(&misfits, column, "a value does not fit its column");
                // The rows go, so what stands in them no longer matters.
                Ok(array)
            }
        }
    }

    fn forbid_nulls(&self, array: &ArrayRef, column: &str, bad: &mut Bad) -> Result<()> {
        if self.misfit == Misfit::Fail {
            return Err(Error::new(ErrorKind::DataInvalid, "a null in a column that forbids it")
                .with("column", column)
                .fix("set the drift policy of this stream to `discard_row`, or allow nulls in the table; a key cannot hold nulls"));
        }
        let nulls = BooleanArray::from_iter((0..array.len()).map(|i| Some(array.is_null(i))));
        bad.add(&nulls, column, "a null in a column that forbids it");
        Ok(())
    }

    fn without(&self, bad: Bad, columns: Vec<ArrayRef>, len: usize, changes: &mut Changes) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let Some(out) = bad.rows else {
            return RecordBatch::try_new_with_options(self.to.clone(), columns, &options).map_err(internal);
        };
        // A rejected row may hold nulls where none are allowed until it is taken out.
        let loose: Vec<_> = self.to.fields().iter().map(|f| linkspan_core::nullable(f)).collect();
        let all = RecordBatch::try_new_with_options(Arc::new(Schema::new(loose)), columns, &options).map_err(internal)?;
        let keep = BooleanArray::from_iter(out.iter().map(|o| Some(o.is_none())));
        changes.rejected.extend(out.iter().enumerate().filter_map(|(row, why)| {
            why.as_ref().map(|(column, why)| Rejected { place: format!("row {row} of its batch, column {column}"), reason: (*why).into() })
        }));
        renumber(changes, &out);
        let kept = filter_record_batch(&all, &keep).map_err(internal)?;
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        RecordBatch::try_new_with_options(self.to.clone(), kept.columns().to_vec(), &options).map_err(internal)
    }
}

/// Row numbers of recorded changes count the rows that are left.
fn renumber<T>(changes: &mut Changes, out: &[Option<T>]) {
    let mut left = 0u32;
    let new: Vec<Option<u32>> = out
        .iter()
        .map(|o| {
            let number = o.is_none().then_some(left);
            left += u32::from(o.is_none());
            number
        })
        .collect();
    changes.changed.retain_mut(|change| match new.get(change.row as usize) {
        Some(Some(row)) => {
            change.row = *row;
            true
        }
        _ => false,
    });
}

/// Rows that have to go, each with the first reason found.
#[derive(Default)]
struct Bad {
    rows: Option<Vec<Option<(String, &'static str)>>>,
}

impl Bad {
    fn add(&mut self, mask: &BooleanArray, column: &str, why: &'static str) {
        let rows = self.rows.get_or_insert_with(|| vec![None; mask.len()]);
        for (row, _) in mask.iter().enumerate().filter(|(_, m)| *m == Some(true)) {
            rows[row].get_or_insert_with(|| (column.to_owned(), why));
        }
    }
    fn refuse_set(&mut self, array: &ArrayRef, column: &str) {
        if array.null_count() < array.len() {
            let set = BooleanArray::from_iter((0..array.len()).map(|i| Some(array.is_valid(i))));
            self.add(&set, column, "a value in a column that the table lacks");
        }
    }
}

impl Unset {
    /// Only where the data columns are not sent in their old order and number.
    fn remapped(from: &SchemaRef, columns: &[Column]) -> Option<Self> {
        from.index_of(UNSET_COLUMN).ok()?;
        let column = columns.iter().position(|c| from.field(c.index).name() == UNSET_COLUMN)?;
        let data: Vec<usize> = (0..from.fields().len()).filter(|i| !is_feed_column(from.field(*i).name())).collect();
        let sent = columns.iter().filter(|c| !is_feed_column(from.field(c.index).name()));
        let old_ordinals: Vec<usize> = sent.filter_map(|c| data.iter().position(|d| *d == c.index)).collect();
        let unmoved = old_ordinals.iter().enumerate().all(|(new, old)| new == *old);
        (!unmoved).then_some(Self { column, old_ordinals })
    }

    fn remap(&self, rows: &RecordBatch, to: &SchemaRef, columns: &mut [ArrayRef]) -> Result<()> {
        let Some(bitmaps) = rows.column_by_name(UNSET_COLUMN).and_then(|c| c.as_binary_opt::<i32>()) else {
            return Err(Error::new(ErrorKind::DataInvalid, "a feed column has the wrong type").with("column", UNSET_COLUMN));
        };
        debug_assert_eq!(to.field(self.column).name(), UNSET_COLUMN);
        columns[self.column] = Arc::new(self.remapped_bitmaps(bitmaps));
        Ok(())
    }

    fn remapped_bitmaps(&self, bitmaps: &BinaryArray) -> BinaryArray {
        let mut out = BinaryBuilder::with_capacity(bitmaps.len(), bitmaps.value_data().len());
        let mut bits = Vec::new();
        for bitmap in bitmaps {
            let Some(bitmap) = bitmap else {
                out.append_null();
                continue;
            };
            bits.clear();
            bits.resize(self.old_ordinals.len().div_ceil(8), 0u8);
            for (new, old) in self.old_ordinals.iter().enumerate() {
                if bitmap.get(old / 8).is_some_and(|b| b & (1 << (old % 8)) != 0) {
                    bits[new / 8] |= 1 << (new % 8);
                }
            }
            out.append_value(&bits);
        }
        out.finish()
    }
}

fn internal(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "the rows could not be built in the planned schema").because(e)
}

fn unknown_column(name: &str) -> Error {
    Error::new(ErrorKind::Internal, "the plan names a column that the stream lacks").with("column", name)
}

fn does_not_fit(column: &str, data_type: &arrow_schema::DataType) -> Error {
    Error::new(ErrorKind::DataInvalid, "a value does not fit its column")
        .with("column", column)
        .with("type", data_type)
        .fix("choose a drift policy for this stream: `discard_value` (null, recorded) or `discard_row` (left out, recorded)")
}
