//! Arrow rows into a table: one prepared statement per kind of row, values bound without a copy of ours.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray, UInt64Array, cast::AsArray,
};
use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::{
    Error, ErrorKind, OP_COLUMN, Result, UNSET_COLUMN,
    fold::Op,
    is_feed_column,
    native::{self, INFINITY},
};
use rusqlite::{
    CachedStatement, Connection,
    types::{Null, ToSqlOutput, ValueRef},
};

use super::{
    columns::strict,
    ddl::NO_COLUMNS,
    file::{quoted, sql_error},
    tables::Table,
};
use crate::text::write::{self, Zone};

/// The statements that put one batch's columns into a table.
pub(super) struct Inserter {
    table: String,
    /// For each bound column: its ordinal in the batch, its stored name, the table's field.
    columns: Vec<(usize, String, Field)>,
    /// Positions in `columns`; empty for an append.
    key: Vec<usize>,
}

impl Inserter {
    /// Every row becomes one more row.
    pub fn append(table: &Table, rows: &RecordBatch) -> Result<Self> {
        Self::new(table, rows, &[])
    }
    /// Rows replace the row of their key, or delete it.
    pub fn merge(table: &Table, rows: &RecordBatch, key: &[String]) -> Result<Self> {
        Self::new(table, rows, key)
    }
    fn new(table: &Table, rows: &RecordBatch, key: &[String]) -> Result<Self> {
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (ordinal, field) in rows.schema_ref().fields().iter().enumerate() {
            match table.column(field.name()) {
                Some(column) => columns.push((ordinal, column.stored.clone(), column.field.clone())),
                None if is_feed_column(field.name()) => {}
                None => {
                    return Err(Error::new(ErrorKind::Internal, "the rows have a column that was not planned").with("column", field.name()));
                }
            }
        }
        let at = |name: &String| {
            columns
                .iter()
                .position(|(_, _, field)| field.name() == name)
                .ok_or_else(|| Error::new(ErrorKind::DataInvalid, "the key column is not in the rows").with("column", name))
        };
        let key: Result<Vec<usize>> = key.iter().map(at).collect();
        Ok(Self { table: quoted(&table.name), key: key?, columns })
    }
    /// Writes the rows in order; how many there were.
    pub fn run(&self, db: &Connection, rows: &RecordBatch) -> Result<u64> {
        let cells: Result<Vec<Cells>> = self.columns.iter().map(|(at, _, field)| Cells::of(rows.column(*at), field)).collect();
        let cells = cells?;
        if self.key.is_empty() {
            let mut insert = db.prepare_cached(&self.insert_sql()).map_err(sql_error)?;
            let mut scratch = Vec::new();
            for row in 0..rows.num_rows() {
                self.bind_all(&mut insert, &cells, row, &mut scratch).and_then(|()| insert.raw_execute()).map_err(sql_error)?;
            }
        } else {
            self.apply(db, rows, &cells)?;
        }
        Ok(rows.num_rows() as u64)
    }
    fn apply(&self, db: &Connection, rows: &RecordBatch, cells: &[Cells]) -> Result<()> {
        let ops: Option<&StringArray> = rows.column_by_name(OP_COLUMN).and_then(|c| c.as_string_opt());
        let unset: Option<&BinaryArray> = rows.column_by_name(UNSET_COLUMN).and_then(|c| c.as_binary_opt());
        let ordinals = self.data_ordinals(rows);
        let mut upsert = db.prepare_cached(&self.upsert_sql()).map_err(sql_error)?;
        let mut delete = db.prepare_cached(&self.delete_sql()).map_err(sql_error)?;
        let mut scratch = Vec::new();
        for row in 0..rows.num_rows() {
            if ops.map_or(Ok(Op::Upsert), |o| Op::parse(o.value(row)))? == Op::Delete {
                self.bind_key(&mut delete, cells, row, 0, &mut scratch).and_then(|()| delete.raw_execute()).map_err(sql_error)?;
                continue;
            }
            let bits = unset.filter(|u| !u.is_null(row)).map_or(&[][..], |u| u.value(row));
            if bits.iter().any(|b| *b != 0) {
                self.apply_partial(db, cells, row, &mut upsert, |i| is_set(bits, ordinals[i]), &mut scratch)?;
                continue;
            }
            self.bind_all(&mut upsert, cells, row, &mut scratch).and_then(|()| upsert.raw_execute()).map_err(sql_error)?;
        }
        Ok(())
    }
    /// A change that was sent without some columns: they keep what they hold, or are null in a row that is new.
    fn apply_partial(
        &self,
        db: &Connection,
        cells: &[Cells],
        row: usize,
        upsert: &mut CachedStatement<'_>,
        set: impl Fn(usize) -> bool,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        if self.update_set(db, cells, row, &set, scratch)? {
            return Ok(());
        }
        for (i, column) in cells.iter().enumerate() {
            let column = if set(i) || self.key.contains(&i) { column } else { &Cells::Null };
            column.bind(upsert, i + 1, row, scratch).map_err(sql_error)?;
        }
        upsert.raw_execute().map(drop).map_err(sql_error)
    }
    /// Sets only the columns that were sent. False when there is no row of that key.
    fn update_set(&self, db: &Connection, cells: &[Cells], row: usize, set: impl Fn(usize) -> bool, scratch: &mut Vec<u8>) -> Result<bool> {
        let sent: Vec<usize> = (0..self.columns.len()).filter(|i| set(*i) && !self.key.contains(i)).collect();
        let assigned: Vec<String> = sent.iter().enumerate().map(|(n, i)| format!("{} = ?{}", quoted(&self.columns[*i].1), n + 1)).collect();
        // A change of nothing still asks whether the row is there.
        let assigned = if assigned.is_empty() { format!("{0} = {0}", quoted(&self.columns[self.key[0]].1)) } else { assigned.join(", ") };
        let sql = format!("UPDATE {} SET {assigned} WHERE {}", self.table, self.key_condition(sent.len()));
        let mut update = db.prepare_cached(&sql).map_err(sql_error)?;
        for (n, i) in sent.iter().enumerate() {
            cells[*i].bind(&mut update, n + 1, row, scratch).map_err(sql_error)?;
        }
        self.bind_key(&mut update, cells, row, sent.len(), scratch).map_err(sql_error)?;
        Ok(update.raw_execute().map_err(sql_error)? > 0)
    }
    /// For each bound column, its ordinal among the batch's data columns, as `_ls_unset` counts them.
    fn data_ordinals(&self, rows: &RecordBatch) -> Vec<usize> {
        let fields = rows.schema_ref().fields();
        self.columns.iter().map(|(at, _, _)| fields[..*at].iter().filter(|f| !is_feed_column(f.name())).count()).collect()
    }
    fn bind_all(&self, statement: &mut CachedStatement<'_>, cells: &[Cells], row: usize, scratch: &mut Vec<u8>) -> rusqlite::Result<()> {
        for (i, cells) in cells.iter().enumerate() {
            cells.bind(statement, i + 1, row, scratch)?;
        }
        Ok(())
    }
    fn bind_key(
        &self,
        statement: &mut CachedStatement<'_>,
        cells: &[Cells],
        row: usize,
        after: usize,
        scratch: &mut Vec<u8>,
    ) -> rusqlite::Result<()> {
        for (n, i) in self.key.iter().enumerate() {
            cells[*i].bind(statement, after + n + 1, row, scratch)?;
        }
        Ok(())
    }
    fn insert_sql(&self) -> String {
        if self.columns.is_empty() {
            return format!("INSERT INTO {} ({NO_COLUMNS}) VALUES (NULL)", self.table);
        }
        let names: Vec<String> = self.columns.iter().map(|(_, stored, _)| quoted(stored)).collect();
        let places: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
        format!("INSERT INTO {} ({}) VALUES ({})", self.table, names.join(", "), places.join(", "))
    }
    fn upsert_sql(&self) -> String {
        let key: Vec<String> = self.key.iter().map(|i| quoted(&self.columns[*i].1)).collect();
        let rest: Vec<String> = (0..self.columns.len())
            .filter(|i| !self.key.contains(i))
            .map(|i| format!("{0} = excluded.{0}", quoted(&self.columns[i].1)))
            .collect();
        let action = if rest.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", rest.join(", ")) };
        format!("{} ON CONFLICT ({}) DO {action}", self.insert_sql(), key.join(", "))
    }
    fn delete_sql(&self) -> String {
        format!("DELETE FROM {} WHERE {}", self.table, self.key_condition(0))
    }
    fn key_condition(&self, after: usize) -> String {
        let parts = self.key.iter().enumerate().map(|(n, i)| format!("{} = ?{}", quoted(&self.columns[*i].1), after + n + 1));
        parts.collect::<Vec<_>>().join(" AND ")
    }
}

fn is_set(bits: &[u8], ordinal: usize) -> bool {
    bits.get(ordinal / 8).is_none_or(|b| b & (1 << (ordinal % 8)) == 0)
}

/// A column in the form that it is bound from.
enum Cells {
    Null,
    Int(Int64Array),
    UInt(UInt64Array),
    Bool(BooleanArray),
    Real(Float64Array),
    Text(StringArray),
    LargeText(LargeStringArray),
    ViewText(StringViewArray),
    Blob(BinaryArray),
    Decimal(Decimal128Array, i8),
    Wide(Decimal256Array, i8),
    Date(Int64Array, Ends),
    Instant(Int64Array, TimeUnit, Zone, Ends),
    Time(Int64Array),
}

/// Which values stand for the infinities, where the field says that its extremes do.
#[derive(Clone, Copy)]
struct Ends(Option<(i64, i64)>);

impl Ends {
    fn of(field: &Field, low: i64, high: i64) -> Self {
        Self(native::has_mark(field, INFINITY).then_some((low, high)))
    }
    fn name(self, value: i64) -> Option<&'static [u8]> {
        match self.0 {
            Some((low, _)) if value == low => Some(b"-infinity"),
            Some((_, high)) if value == high => Some(b"infinity"),
            _ => None,
        }
    }
}

impl Cells {
    /// `field` is the table's: rows of another type are cast to it without rounding.
    fn of(array: &ArrayRef, field: &Field) -> Result<Self> {
        use DataType::*;
        let array = if array.data_type() == field.data_type() { array.clone() } else { strict(array, field.data_type())? };
        let long = |a: &ArrayRef| strict(a, &Int64).map(|a| a.as_primitive().clone());
        Ok(match field.data_type() {
            Null => Self::Null,
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Duration(_) => Self::Int(long(&array)?),
            UInt64 => Self::UInt(array.as_primitive().clone()),
            Boolean => Self::Bool(array.as_boolean().clone()),
            Float16 | Float32 | Float64 => Self::Real(strict(&array, &Float64)?.as_primitive().clone()),
            Utf8 => Self::Text(array.as_string().clone()),
            LargeUtf8 => Self::LargeText(array.as_string().clone()),
            Utf8View => Self::ViewText(array.as_string_view().clone()),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Self::Blob(strict(&array, &Binary)?.as_binary().clone()),
            Decimal128(_, scale) => Self::Decimal(array.as_primitive().clone(), *scale),
            Decimal256(_, scale) => Self::Wide(array.as_primitive().clone(), *scale),
            Date32 => Self::Date(long(&strict(&array, &Int32)?)?, Ends::of(field, i64::from(i32::MIN), i64::from(i32::MAX))),
            Date64 => Self::Date(long(&strict(&strict(&array, &Date32)?, &Int32)?)?, Ends(None)),
            Timestamp(unit, zone) => {
                let zone = if zone.is_some() { Zone::Utc } else { Zone::None };
                Self::Instant(long(&array)?, *unit, zone, Ends::of(field, i64::MIN, i64::MAX))
            }
            Time32(_) | Time64(_) => Self::Time(long(&strict(&array, &Time64(TimeUnit::Nanosecond))?)?),
            nested if nested.is_nested() => Self::Text(json_texts(&array)?),
            _ => Self::Text(strict(&array, &Utf8)?.as_string().clone()),
        })
    }
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Int(a) | Self::Date(a, _) | Self::Instant(a, ..) | Self::Time(a) => a.is_null(row),
            Self::UInt(a) => a.is_null(row),
            Self::Bool(a) => a.is_null(row),
            Self::Real(a) => a.is_null(row),
            Self::Text(a) => a.is_null(row),
            Self::LargeText(a) => a.is_null(row),
            Self::ViewText(a) => a.is_null(row),
            Self::Blob(a) => a.is_null(row),
            Self::Decimal(a, _) => a.is_null(row),
            Self::Wide(a, _) => a.is_null(row),
        }
    }
    fn bind(&self, s: &mut CachedStatement<'_>, at: usize, row: usize, scratch: &mut Vec<u8>) -> rusqlite::Result<()> {
        if self.is_null(row) {
            return s.raw_bind_parameter(at, Null);
        }
        scratch.clear();
        match self {
            Self::Null => return s.raw_bind_parameter(at, Null),
            Self::Int(a) => return s.raw_bind_parameter(at, a.value(row)),
            Self::Bool(a) => return s.raw_bind_parameter(at, a.value(row)),
            // SQLite would store a NaN as NULL.
            Self::Real(a) if a.value(row).is_nan() => scratch.extend_from_slice(b"NaN"),
            Self::Real(a) => return s.raw_bind_parameter(at, a.value(row)),
            Self::Text(a) => return bind_text(s, at, a.value(row).as_bytes()),
            Self::LargeText(a) => return bind_text(s, at, a.value(row).as_bytes()),
            Self::ViewText(a) => return bind_text(s, at, a.value(row).as_bytes()),
            Self::Blob(a) => return s.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Blob(a.value(row)))),
            Self::UInt(a) => write::natural(scratch, a.value(row)),
            Self::Decimal(a, scale) => write::decimal(scratch, a.value(row), *scale),
            Self::Wide(a, scale) => write::decimal_text(scratch, &a.value(row).to_string(), *scale),
            Self::Date(a, ends) => match ends.name(a.value(row)) {
                Some(name) => scratch.extend_from_slice(name),
                None => write::date(scratch, a.value(row)),
            },
            Self::Instant(a, unit, zone, ends) => match ends.name(a.value(row)) {
                Some(name) => scratch.extend_from_slice(name),
                None => write::instant(scratch, a.value(row), *unit, b' ', *zone),
            },
            Self::Time(a) => write::time(scratch, a.value(row), TimeUnit::Nanosecond),
        }
        bind_text(s, at, scratch)
    }
}

fn bind_text(s: &mut CachedStatement<'_>, at: usize, text: &[u8]) -> rusqlite::Result<()> {
    s.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Text(text)))
}

/// Lists, structs and maps as JSON documents.
fn json_texts(array: &ArrayRef) -> Result<StringArray> {
    let internal = |e| Error::new(ErrorKind::Internal, "a nested value could not be written as JSON").because(e);
    let field = Arc::new(Field::new("v", array.data_type().clone(), true));
    let options = arrow_json::writer::EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = arrow_json::writer::make_encoder(&field, array.as_ref(), &options).map_err(internal)?;
    let mut texts = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        let mut text = Vec::new();
        if !array.is_null(row) {
            encoder.encode(row, &mut text);
        }
        texts.push((!array.is_null(row)).then(|| String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(StringArray::from(texts))
}
