//! Rows made to fit: each column in the form that its table column takes, and what cannot fit settled by the plan's policy.
//! Pure; it never sees a connection.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema};
use linkspan_core::{
    Change, ChangeKind, Changes, Error, ErrorKind, Misfit as Policy, Reason, Result, is_feed_column, native, rows::Rejected,
};

use super::{
    destination_shape::Table,
    encode::{Column, Fitted, Sent},
    encode_fit::{Fit, Misfit, sent_for},
    session_copy::Format,
};

/// What the session does with every batch of a stream, until the next schema.
#[derive(Clone, Debug)]
pub(super) struct Fits {
    pub columns: Vec<Fit>,
    pub format: Format,
    policy: Policy,
    server_version: u32,
}

type Misfits = Vec<(usize, Misfit)>;

/// Rows ready to encode, and what had to be changed for that.
pub(super) struct Settled {
    /// The rows that are left, as they came.
    pub rows: RecordBatch,
    pub columns: Vec<Fitted>,
    pub changes: Changes,
}

impl Settled {
    pub(super) fn columns(&self) -> Result<Vec<Column<'_>>> {
        self.columns.iter().map(Fitted::column).collect()
    }
}

/// Whether `_ls_op` and its kin are columns of the table (append keeps the feed as it is) or instructions (merge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedColumns {
    Kept,
    Obeyed,
}

impl Fits {
    /// Matches the columns of the rows with the columns of the table by name.
    pub(super) fn of(schema: &Schema, table: &Table, feed: FeedColumns, policy: Policy, server_version: u32) -> Result<Self> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        let is_fed = feed == FeedColumns::Obeyed && schema.fields().iter().any(|f| f.name() == linkspan_core::OP_COLUMN);
        for (index, field) in schema.fields().iter().enumerate() {
            if native::has_mark(field, native::SPECIAL_OF) || (feed == FeedColumns::Obeyed && is_feed_column(field.name())) {
                continue;
            }
            let Some(column) = table.column(field.name()) else {
                return Err(drift("the table lacks a column of the stream", field.name())
                    .fix("let the schema evolve (drift policy `evolve`), or add the column to the table"));
            };
            if column.generated {
                continue;
            }
            let Some((sent, cast)) = sent_for(&column.sent, field.data_type()) else {
                return Err(drift("a column of the table cannot take the stream's values", field.name())
                    .with("table_type", &column.sql_type)
                    .with("stream_type", field.data_type())
                    .fix("change the column's type, or write to another table with --target"));
            };
            columns.push(Fit {
                name: field.name().clone(),
                index,
                sent,
                cast,
                special: special_of(schema, field),
                infinite: native::has_mark(field, native::INFINITY),
                // A delete carries only its key.
                not_null: column.not_null && !is_fed,
            });
        }
        let missing =
            table.columns.iter().find(|c| c.not_null && !c.has_default && !c.generated && !columns.iter().any(|f| f.name == c.name));
        if let Some(missing) = missing {
            return Err(drift("a column of the table must not be null, and the stream does not have it", &missing.name)
                .fix("give the column a default or drop its NOT NULL, or write to another table with --target"));
        }
        let format = if columns.iter().any(|c| c.sent == Sent::Parsed) { Format::Text } else { Format::Binary };
        Ok(Self { columns, format, policy, server_version })
    }

    /// Fits a batch. Under `Fail` the first misfit is an error that names its place; else it is settled and recorded.
    pub(super) fn settle(&self, rows: RecordBatch) -> Result<Settled> {
        let (columns, misfits) = self.apply(&rows)?;
        if misfits.is_empty() {
            return Ok(Settled { rows, columns, changes: Changes::default() });
        }
        let (rows, changes) = self.resolve(rows, &misfits)?;
        let (columns, rest) = self.apply(&rows)?;
        match rest.first() {
            None => Ok(Settled { rows, columns, changes }),
            Some((at, misfit)) => Err(self.refusal(*at, *misfit)),
        }
    }

    /// The columns, and the misfits with the place of their column.
    fn apply(&self, rows: &RecordBatch) -> Result<(Vec<Fitted>, Misfits)> {
        let mut columns = Vec::with_capacity(self.columns.len());
        let mut misfits = Vec::new();
        for (at, fit) in self.columns.iter().enumerate() {
            let (fitted, bad) = fit.apply(rows, self.server_version)?;
            misfits.extend(bad.into_iter().map(|m| (at, m)));
            columns.push(fitted);
        }
        Ok((columns, misfits))
    }

    fn resolve(&self, rows: RecordBatch, misfits: &[(usize, Misfit)]) -> Result<(RecordBatch, Changes)> {
        let mut changes = Changes::default();
        // A value that may not become null takes its row with it.
        let mut out: BTreeMap<usize, (usize, Reason)> = BTreeMap::new();
        for (at, misfit) in misfits {
            match self.policy {
                Policy::Fail => return Err(self.refusal(*at, *misfit)),
                Policy::Null if !self.columns[*at].not_null => changes.changed.push(Change {
                    row: misfit.row as u32,
                    field: self.columns[*at].name.clone(),
                    kind: ChangeKind::Nulled,
                    reason: misfit.reason,
                }),
                Policy::Null | Policy::Reject => {
                    out.entry(misfit.row).or_insert((*at, misfit.reason));
                }
            }
        }
        changes.changed.retain(|c| !out.contains_key(&(c.row as usize)));
        changes.changed.sort_by_key(|c| c.row);
        let rows = self.without_values(rows, &changes).map_err(unbuilt)?;
        let rows = self.without_rows(rows, &out, &mut changes).map_err(unbuilt)?;
        Ok((rows, changes))
    }

    fn without_values(&self, rows: RecordBatch, changes: &Changes) -> Result<RecordBatch, ArrowError> {
        if changes.changed.is_empty() {
            return Ok(rows);
        }
        let mut arrays: Vec<ArrayRef> = rows.columns().to_vec();
        let mut fields: Vec<Field> = rows.schema_ref().fields().iter().map(|f| f.as_ref().clone()).collect();
        for fit in &self.columns {
            let mut mask = vec![false; rows.num_rows()];
            let mut any = false;
            for change in changes.changed.iter().filter(|c| c.field == fit.name) {
                mask[change.row as usize] = true;
                any = true;
            }
            if !any {
                continue;
            }
            let mask = BooleanArray::from(mask);
            for index in [Some(fit.index), fit.special].into_iter().flatten() {
                arrays[index] = arrow_select::nullif::nullif(&arrays[index], &mask)?;
                fields[index] = fields[index].clone().with_nullable(true);
            }
        }
        RecordBatch::try_new(Schema::new(fields).into(), arrays)
    }

    fn without_rows(
        &self,
        rows: RecordBatch,
        out: &BTreeMap<usize, (usize, Reason)>,
        changes: &mut Changes,
    ) -> Result<RecordBatch, ArrowError> {
        if out.is_empty() {
            return Ok(rows);
        }
        changes.rejected.extend(out.iter().map(|(row, (at, reason))| Rejected {
            place: format!("row {row} of its batch, column {}", self.columns[*at].name),
            reason: describe(*reason).to_owned(),
        }));
        let keep: BooleanArray = (0..rows.num_rows()).map(|row| Some(!out.contains_key(&row))).collect();
        arrow_select::filter::filter_record_batch(&rows, &keep)
    }

    fn refusal(&self, at: usize, misfit: Misfit) -> Error {
        Error::new(ErrorKind::DataInvalid, describe(misfit.reason))
            .with("column", &self.columns[at].name)
            .with("row_of_batch", misfit.row)
            .fix("set the drift policy of this stream to `discard_value` (null, recorded) or `discard_row` (left out, recorded), or write the column to a wider type")
    }
}

fn describe(reason: Reason) -> &'static str {
    match reason {
        Reason::OutOfRange => "a value is outside of what its PostgreSQL column can hold",
        Reason::TooLarge => "a text is longer than its PostgreSQL column",
        Reason::NotRepresentable => {
            "a value cannot be held exactly by its PostgreSQL column (a NUL in text, digits that would be rounded, an infinity)"
        }
        Reason::Invalid => "a column that must not be null got a null",
        Reason::DriftPolicy => "a value was refused by the drift policy",
    }
}

fn special_of(schema: &Schema, field: &Field) -> Option<usize> {
    schema.fields().iter().position(|f| f.metadata().get(native::SPECIAL_OF) == Some(field.name()))
}

fn drift(message: &'static str, column: &str) -> Error {
    Error::new(ErrorKind::SchemaDrift, message).with("column", column)
}

fn unbuilt(e: ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "the rows without misfits could not be built").because(e)
}
