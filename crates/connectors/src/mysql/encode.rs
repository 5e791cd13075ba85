//! Rows to what the server reads: lines of a file that is loaded, or the values of an INSERT. Before that, values that a column cannot
//! hold are settled by the plan's policy; the server itself never gets to cut or bend one.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, cast::AsArray, types::Float32Type};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use linkspan_core::{Change, ChangeKind, Changes, Error, ErrorKind, Misfit, Reason, Result, rows::Rejected};

use super::{columns::Way, document, record::Column, server::Flavor};
use crate::text::cells::{Cells, strict};

/// 0000-01-01 and 9999-12-31, in days.
const FIRST_DAY: i64 = -719_528;
const LAST_DAY: i64 = 2_932_896;
/// The seconds that a `timestamp` holds.
const EPOCH: std::ops::RangeInclusive<i64> = 1..=2_147_483_647;

pub(super) const FIX: &str = "set the drift policy of this stream to `discard_value` (null, recorded) or `discard_row` (left out, recorded), or \
    read the column as text by a `query` of the source";

/// A column's values, ready to be written.
pub(super) struct Values {
    cells: Cells,
    way: Way,
}

impl Values {
    pub fn of(array: &ArrayRef, column: &Column) -> Result<Self> {
        // The shortest text of a float is not the shortest of the double that the server makes of it first.
        let (array, field) = match column.field.data_type() {
            DataType::Float32 => {
                let wide: arrow_array::Float64Array = array.as_primitive_opt::<Float32Type>().map_or_else(
                    || strict(array, &DataType::Float64).map(|a| a.as_primitive().clone()),
                    |floats| Ok(floats.unary(f64::from)),
                )?;
                (std::sync::Arc::new(wide) as ArrayRef, column.field.clone().with_data_type(DataType::Float64))
            }
            _ => (array.clone(), column.field.clone()),
        };
        Ok(Self { cells: Cells::of(&array, &field)?, way: column.made.way })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.cells.is_null(row)
    }

    /// The value as bytes, without quotes or escapes. Not for nulls.
    fn raw(&self, row: usize, out: &mut Vec<u8>) {
        match (&self.cells, self.way) {
            (Cells::Blob(a), Way::Spatial(srid)) => {
                out.extend_from_slice(&srid.to_le_bytes());
                out.extend_from_slice(a.value(row));
            }
            (Cells::Blob(a), _) => out.extend_from_slice(a.value(row)),
            (Cells::Int(a), Way::Year) => out.extend_from_slice(format!("{:04}", a.value(row)).as_bytes()),
            (Cells::Bool(a), _) => out.push(b'0' + u8::from(a.value(row))),
            // Without an exponent the server reads a decimal, which has no negative zero.
            (Cells::Double(a), _) if a.value(row) == 0.0 => {
                out.extend_from_slice(if a.value(row).is_sign_negative() { b"-0e0" } else { b"0" })
            }
            (Cells::Instant(..), _) => {
                self.cells.write(row, b' ', out);
                // Our sessions are in UTC: what is left says the same.
                if out.last() == Some(&b'Z') {
                    out.pop();
                }
            }
            _ => self.cells.write(row, b' ', out),
        }
    }

    /// One field of a line that `LOAD DATA` reads.
    pub fn line(&self, row: usize, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"\\N");
            return;
        }
        if matches!(self.way, Way::Plain | Way::Flag | Way::Epoch | Way::Bits | Way::Year) && self.cells.text(row).is_none() {
            return self.raw(row, out);
        }
        scratch.clear();
        self.raw(row, scratch);
        let mut rest = scratch.as_slice();
        while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\t' | b'\n' | 0)) {
            out.extend_from_slice(&rest[..at]);
            let escaped = match rest[at] {
                b'\t' => b't',
                b'\n' => b'n',
                0 => b'0',
                other => other,
            };
            out.extend_from_slice(&[b'\\', escaped]);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }

    /// The value as SQL.
    pub fn literal(&self, row: usize, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"NULL");
            return;
        }
        scratch.clear();
        self.raw(row, scratch);
        match &self.cells {
            Cells::Int(_) | Cells::UInt(_) | Cells::Bool(_) | Cells::Float(_) | Cells::Double(_) | Cells::Decimal(..)
                if self.way != Way::Text =>
            {
                out.extend_from_slice(scratch);
            }
            Cells::Blob(_) => {
                out.extend_from_slice(b"X'");
                crate::text::write::hex(out, scratch);
                out.push(b'\'');
            }
            _ => {
                out.push(b'\'');
                for b in scratch.iter() {
                    match b {
                        b'\'' | b'\\' => out.extend_from_slice(&[b'\\', *b]),
                        0 => out.extend_from_slice(b"\\0"),
                        b => out.push(*b),
                    }
                }
                out.push(b'\'');
            }
        }
    }

    /// Why the column cannot hold the value, if so.
    fn misfit(&self, row: usize, most: Option<usize>, flavor: Flavor) -> Option<Reason> {
        if self.is_null(row) {
            return None;
        }
        match &self.cells {
            Cells::Double(a) if !a.value(row).is_finite() => Some(Reason::NotRepresentable),
            Cells::Float(a) if !a.value(row).is_finite() => Some(Reason::NotRepresentable),
            Cells::Date(a, _) => (!(FIRST_DAY..=LAST_DAY).contains(&a.value(row))).then_some(Reason::OutOfRange),
            Cells::Instant(a, unit, ..) => instant_misfit(a.value(row), *unit, self.way),
            Cells::Time(a) => match a.value(row) {
                ticks if !(0..86_400_000_000_000).contains(&ticks) => Some(Reason::OutOfRange),
                ticks => (ticks % 1_000 != 0).then_some(Reason::NotRepresentable),
            },
            Cells::Blob(a) => most.is_some_and(|most| a.value(row).len() > most).then_some(Reason::TooLarge),
            cells => {
                let text = cells.text(row)?;
                // MariaDB keeps the text of a document, MySQL what it understood of it.
                if self.way == Way::Json && flavor == Flavor::Mysql && !document::is_kept(text) {
                    return Some(Reason::NotRepresentable);
                }
                most.is_some_and(|most| text.len() > most && text.chars().count() > most).then_some(Reason::TooLarge)
            }
        }
    }
}

fn instant_misfit(ticks: i64, unit: TimeUnit, way: Way) -> Option<Reason> {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let seconds = ticks.div_euclid(per_second);
    if !(FIRST_DAY..=LAST_DAY).contains(&seconds.div_euclid(86_400)) || (way == Way::Epoch && !EPOCH.contains(&seconds)) {
        return Some(Reason::OutOfRange);
    }
    (unit == TimeUnit::Nanosecond && ticks.rem_euclid(1_000) != 0).then_some(Reason::NotRepresentable)
}

/// The rows that can be written, and what had to be changed for that. `columns` are those of the batch, by position; `None` where the
/// table has no such column (a feed's own).
pub(super) fn settle(
    rows: RecordBatch,
    columns: &[Option<&Column>],
    key: &[String],
    policy: Misfit,
    flavor: Flavor,
) -> Result<(RecordBatch, Changes)> {
    let mut misfits = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let Some(column) = column else { continue };
        let values = Values::of(rows.column(at), column).map_err(|e| e.with("column", column.field.name()))?;
        let found = (0..rows.num_rows()).filter_map(|row| Some((row, at, values.misfit(row, column.made.most, flavor)?)));
        misfits.extend(found);
    }
    if misfits.is_empty() {
        return Ok((rows, Changes::default()));
    }
    let schema = rows.schema();
    let name = |at: usize| schema.field(at).name().as_str();
    if policy == Misfit::Fail {
        let (row, at, reason) = misfits[0];
        return Err(Error::new(ErrorKind::DataInvalid, describe(reason)).with("column", name(at)).with("row_of_batch", row).fix(FIX));
    }
    let mut changes = Changes::default();
    let mut out: BTreeMap<usize, (usize, Reason)> = BTreeMap::new();
    for (row, at, reason) in misfits {
        // A key that became null could never be found again.
        if policy == Misfit::Null && !key.iter().any(|k| k == name(at)) {
            changes.changed.push(Change { row: row as u32, field: name(at).to_owned(), kind: ChangeKind::Nulled, reason });
        } else {
            out.entry(row).or_insert((at, reason));
        }
    }
    changes.changed.retain(|c| !out.contains_key(&(c.row as usize)));
    changes.changed.sort_by_key(|c| c.row);
    let rejected = |(row, (at, reason)): (&usize, &(usize, Reason))| Rejected {
        place: format!("row {row} of its batch, column {}", name(*at)),
        reason: describe(*reason).to_owned(),
    };
    changes.rejected.extend(out.iter().map(rejected));
    let settled = without(&rows, &changes, &out);
    settled
        .map(|rows| (rows, changes))
        .map_err(|e| Error::new(ErrorKind::Internal, "the rows without misfits could not be built").because(e))
}

fn without(rows: &RecordBatch, changes: &Changes, out: &BTreeMap<usize, (usize, Reason)>) -> Result<RecordBatch, ArrowError> {
    let mut arrays: Vec<ArrayRef> = rows.columns().to_vec();
    let mut fields: Vec<Field> = rows.schema_ref().fields().iter().map(|f| f.as_ref().clone()).collect();
    for (at, field) in fields.iter_mut().enumerate() {
        let mut mask = vec![false; rows.num_rows()];
        changes.changed.iter().filter(|c| c.field == *field.name()).for_each(|c| mask[c.row as usize] = true);
        if mask.contains(&true) {
            arrays[at] = arrow_select::nullif::nullif(&arrays[at], &BooleanArray::from(mask))?;
            *field = field.clone().with_nullable(true);
        }
    }
    let rows = RecordBatch::try_new(Schema::new(fields).into(), arrays)?;
    if out.is_empty() {
        return Ok(rows);
    }
    let keep: BooleanArray = (0..rows.num_rows()).map(|row| Some(!out.contains_key(&row))).collect();
    arrow_select::filter::filter_record_batch(&rows, &keep)
}

fn describe(reason: Reason) -> &'static str {
    match reason {
        Reason::OutOfRange => "a value is outside of what its MySQL column can hold",
        Reason::TooLarge => "a value is longer than its MySQL column",
        Reason::NotRepresentable => {
            "a value cannot be held exactly by its MySQL column (NaN, an infinity, digits that would be rounded, a JSON document with such a number or with two equal keys)"
        }
        Reason::Invalid => "a column that must not be null got a null",
        Reason::DriftPolicy => "a value was refused by the drift policy",
    }
}
