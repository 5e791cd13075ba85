//! What is in a database: tables and views, their columns, keys and the order in which they can be read again.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{TableShape, Target};
use rusqlite::{Connection, Result, types::ValueRef};

use super::{
    file::{Declared, declared_columns, quoted, sql_error, stands},
    tables::{self, Column, RESERVED},
    types::{self, Sampled},
};
use crate::text::parse;

/// How many rows are looked at to find the types of a foreign table.
const SAMPLE: usize = 1_000;

/// Something that rows can be read from.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub name: String,
    pub columns: Vec<Column>,
    pub key: Vec<String>,
    pub order: Order,
}

/// The order in which a relation's rows can be read, and read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By rowid, under the one of its names that no column hides.
    Rowid(&'static str),
    /// By the primary key's stored columns.
    Key(Vec<String>),
    /// A view has no order: it is read in one go.
    None,
}

impl Relation {
    pub fn fields(&self) -> Vec<Field> {
        self.columns.iter().map(|c| c.field.clone()).collect()
    }
}

/// Tables and views that are the user's or hold synced rows, by name.
pub(super) fn relations(db: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = db.prepare(sql)?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    Ok(names.into_iter().filter(|n| !n.starts_with(RESERVED)).collect())
}

/// Columns with types, key and order. Types come from the registry for a table of ours, else from declarations and a sample.
pub(super) fn describe(db: &Connection, name: &str) -> Result<Relation> {
    let declared = declared_columns(db, name)?;
    let order = order(db, name, &declared)?;
    if let Ok(Some(table)) = tables::find_named(db, name) {
        return Ok(Relation { name: table.name, columns: table.columns, key: table.key, order });
    }
    let sampled = sample(db, name, &declared)?;
    let key_of = |nth: i64| declared.iter().find(move |c| c.key == nth);
    let key: Vec<String> = (1..).map_while(key_of).map(|c| c.name.clone()).collect();
    let rowid_alias = key.len() == 1 && declared.iter().any(|c| c.key == 1 && c.declared.eq_ignore_ascii_case("INTEGER"));
    let columns = declared
        .iter()
        .zip(&sampled)
        .map(|(c, seen)| {
            let nullable = !(c.not_null || (c.key > 0 && (rowid_alias || matches!(order, Order::Key(_)))));
            Column { field: types::foreign(&c.name, &c.declared, nullable, seen), stored: c.name.clone() }
        })
        .collect();
    Ok(Relation { name: name.to_owned(), columns, key, order })
}

/// What stands at the target: our table, or somebody else's in its place.
pub(super) fn shape(db: &Connection, target: &Target) -> linkspan_core::Result<Option<TableShape>> {
    if let Some(table) = tables::find(db, &tables::target_key(target))? {
        return Ok(Some(table.shape()));
    }
    let name = tables::name_for(db, target)?;
    if !stands(db, &name).map_err(sql_error)? {
        return Ok(None);
    }
    let relation = describe(db, &name).map_err(sql_error)?;
    Ok(Some(TableShape { schema: Arc::new(Schema::new(relation.fields())), key: relation.key, ours: false }))
}

/// Whether SQLite orders the stored values as the values themselves are ordered. Decimals and unsigned 64-bit numbers of ours are text.
pub(super) fn orders(field: &Field) -> bool {
    use DataType::*;
    matches!(
        field.data_type(),
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Float32 | Float64 | Utf8 | Date32 | Timestamp(..) | Time32(_) | Time64(_)
    )
}

fn order(db: &Connection, name: &str, columns: &[Declared]) -> Result<Order> {
    let sql = "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
    let (kind, without_rowid) = db.query_row(sql, [name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    if kind != "table" {
        return Ok(Order::None);
    }
    if without_rowid {
        let mut key: Vec<&Declared> = columns.iter().filter(|c| c.key > 0).collect();
        key.sort_by_key(|c| c.key);
        return Ok(Order::Key(key.into_iter().map(|c| c.name.clone()).collect()));
    }
    let hidden = |alias: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(alias));
    // A column named `id INTEGER PRIMARY KEY` is the rowid under a further name; a column named `rowid` may be anything.
    Ok(["rowid", "_rowid_", "oid"].into_iter().find(|a| !hidden(a)).map_or(Order::None, Order::Rowid))
}

fn sample(db: &Connection, name: &str, columns: &[Declared]) -> Result<Vec<Sampled>> {
    let mut seen = vec![Sampled::default(); columns.len()];
    if columns.is_empty() {
        return Ok(seen);
    }
    let list: Vec<String> = columns.iter().map(|c| quoted(&c.name)).collect();
    let mut statement = db.prepare(&format!("SELECT {} FROM {} LIMIT {SAMPLE}", list.join(", "), quoted(name)))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for (i, seen) in seen.iter_mut().enumerate() {
            match row.get_ref(i)? {
                ValueRef::Null => {}
                ValueRef::Integer(n) => {
                    seen.classes.integer = true;
                    seen.booleans &= n == 0 || n == 1;
                }
                ValueRef::Real(_) => seen.classes.real = true,
                ValueRef::Text(text) => {
                    seen.classes.text = true;
                    seen.dates &= plain_date(text).is_some();
                    seen.instants &= plain_instant(text).is_some();
                }
                ValueRef::Blob(_) => seen.classes.blob = true,
            }
        }
    }
    Ok(seen)
}

/// A date as other programs write it, in the range that Arrow's dates hold.
pub(super) fn plain_date(text: &[u8]) -> Option<i32> {
    (text.len() == 10).then(|| parse::date(text)).flatten().and_then(|d| i32::try_from(d).ok())
}

/// A local date and time as other programs write it, in microseconds.
pub(super) fn plain_instant(text: &[u8]) -> Option<i64> {
    parse::instant(text).filter(|i| !i.zoned).and_then(|i| i.ticks(arrow_schema::TimeUnit::Microsecond))
}
