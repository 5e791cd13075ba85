//! Changes in the form of the table: all of its columns, and what of them a change does not bring.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray, cast::AsArray};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use linkspan_core::{OP_COLUMN, Result, SEQ_COLUMN, UNSET_COLUMN, is_feed_column};

use super::{Pending, unfit};
use crate::source::align;

pub(super) struct Form {
    /// The table's.
    table: SchemaRef,
    /// That of a change: the table's columns, and those of a feed where one is needed.
    change: SchemaRef,
    is_feed: bool,
    needs_earlier: bool,
}

impl Form {
    pub fn new(table: &SchemaRef, pending: &Pending) -> Self {
        // A column that the changes lack keeps its value, as one that a change leaves out does.
        let lacks = |schema: &SchemaRef| table.fields().iter().any(|field| schema.field_with_name(field.name()).is_err());
        let needs_earlier = pending.leaves_out() || pending.schemas().any(lacks);
        let is_feed = needs_earlier || pending.schemas().any(|schema| schema.fields().iter().any(|field| is_feed_column(field.name())));
        let mut fields: Vec<Field> = table.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        if is_feed {
            fields.push(Field::new(OP_COLUMN, DataType::Utf8, false));
            fields.push(Field::new(SEQ_COLUMN, DataType::FixedSizeBinary(16), false));
            fields.push(Field::new(UNSET_COLUMN, DataType::Binary, true));
        }
        Self { table: table.clone(), change: Arc::new(Schema::new(fields)), is_feed, needs_earlier }
    }

    /// Whether changes must be laid over the rows that they change.
    pub fn needs_earlier(&self) -> bool {
        self.needs_earlier
    }
    pub fn table(&self) -> &SchemaRef {
        &self.table
    }

    /// Rows as they came, in this form.
    pub fn of_change(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let aligned = align(rows, &self.change_without_feed(), "the changes")?;
        if !self.is_feed {
            return Ok(aligned);
        }
        let many = rows.num_rows();
        let ops = rows.column_by_name(OP_COLUMN).cloned().unwrap_or_else(|| upserts(many));
        let seqs = rows.column_by_name(SEQ_COLUMN).cloned().unwrap_or_else(|| first_of_all(many));
        self.with_feed(&aligned, [ops, seqs, Arc::new(self.unset(rows))])
    }

    /// Rows of the table, as if they came before every change.
    pub fn of_earlier(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let many = rows.num_rows();
        let aligned = align(rows, &self.change_without_feed(), "a file of the table")?;
        self.with_feed(&aligned, [upserts(many), first_of_all(many), Arc::new(BinaryArray::new_null(many))])
    }

    /// What is left of folded changes as rows of the table.
    pub fn remaining(&self, folded: RecordBatch) -> Result<RecordBatch> {
        let stays = match folded.column_by_name(OP_COLUMN).and_then(|ops| ops.as_string_opt::<i32>()) {
            Some(ops) => {
                let stays: BooleanArray = ops.iter().map(|op| Some(op != Some("d"))).collect();
                filter_record_batch(&folded, &stays).map_err(unfit)?
            }
            None => folded,
        };
        align(&stays, &self.table, "the changes")
    }

    fn change_without_feed(&self) -> SchemaRef {
        let fields = self.change.fields().iter().take(self.table.fields().len()).cloned().collect::<Vec<_>>();
        Arc::new(Schema::new(fields))
    }

    fn with_feed(&self, rows: &RecordBatch, feed: [ArrayRef; 3]) -> Result<RecordBatch> {
        let columns = rows.columns().iter().cloned().chain(feed).collect();
        RecordBatch::try_new(self.change.clone(), columns).map_err(unfit)
    }

    /// Which of the table's columns each row leaves out, as bits.
    fn unset(&self, rows: &RecordBatch) -> BinaryArray {
        let sent: Vec<&str> = rows.schema_ref().fields().iter().map(|f| f.name().as_str()).filter(|n| !is_feed_column(n)).collect();
        let places: Vec<Option<usize>> = self.table.fields().iter().map(|f| sent.iter().position(|name| name == f.name())).collect();
        let told = rows.column_by_name(UNSET_COLUMN).and_then(|column| column.as_binary_opt::<i32>());
        let bits = (0..rows.num_rows()).map(|row| {
            let told = told.filter(|told| told.is_valid(row)).map_or(&[][..], |told| told.value(row));
            let is_unset = |place: &Option<usize>| place.is_none_or(|at| told.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0));
            let mut bits = vec![0u8; places.len().div_ceil(8)];
            places.iter().enumerate().filter(|(_, place)| is_unset(place)).for_each(|(at, _)| bits[at / 8] |= 1 << (at % 8));
            bits
        });
        BinaryArray::from_iter_values(bits)
    }
}

fn upserts(many: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n("u", many)))
}

/// Positions before every other; rows that share one stay in the order in which they are.
fn first_of_all(many: usize) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(vec![0u8; many * 16]), None))
}
