//! Arrow rows into a table: one prepared statement per kind of row, values bound without a copy of ours.

use arrow_array::{Array, BinaryArray, RecordBatch, StringArray, cast::AsArray};
use arrow_schema::Field;
use linkspan_core::{Error, ErrorKind, OP_COLUMN, Result, UNSET_COLUMN, fold::Op, is_feed_column};
use rusqlite::{
    CachedStatement, Connection,
    types::{Null, ToSqlOutput, ValueRef},
};

use super::{
    file::{quoted, sql_error},
    tables::{NO_COLUMNS, Table},
};
use crate::text::cells::Cells;

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
            bind(column, upsert, i + 1, row, scratch).map_err(sql_error)?;
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
            bind(&cells[*i], &mut update, n + 1, row, scratch).map_err(sql_error)?;
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
            bind(cells, statement, i + 1, row, scratch)?;
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
            bind(&cells[*i], statement, after + n + 1, row, scratch)?;
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

/// Binds a value in the storage class that its column is declared for.
fn bind(cells: &Cells, s: &mut CachedStatement<'_>, at: usize, row: usize, scratch: &mut Vec<u8>) -> rusqlite::Result<()> {
    if cells.is_null(row) {
        return s.raw_bind_parameter(at, Null);
    }
    match cells {
        Cells::Int(a) => return s.raw_bind_parameter(at, a.value(row)),
        Cells::Bool(a) => return s.raw_bind_parameter(at, a.value(row)),
        // SQLite would store a NaN as NULL: that one is text.
        Cells::Float(a) if !a.value(row).is_nan() => return s.raw_bind_parameter(at, f64::from(a.value(row))),
        Cells::Double(a) if !a.value(row).is_nan() => return s.raw_bind_parameter(at, a.value(row)),
        Cells::Blob(a) => return s.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Blob(a.value(row)))),
        _ => {}
    }
    if let Some(text) = cells.text(row) {
        return s.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())));
    }
    scratch.clear();
    // SQLite's own date functions put a space between date and time.
    cells.write(row, b' ', scratch);
    s.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Text(scratch)))
}
