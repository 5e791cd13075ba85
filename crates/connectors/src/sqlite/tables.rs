//! The tables that Linkspan made: which target each holds, under which name, and the exact Arrow type of every column.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{ConnectionId, Error, ErrorKind, LoadStream, Result, TableShape, Target, suggest};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    books,
    file::{declared_columns, quoted, sql_error},
    types,
};

/// What table names of our own start with.
pub(super) const RESERVED: &str = "_linkspan_";

/// A table needs a column: this one stands in a table whose stream has none.
pub(super) const NO_COLUMNS: &str = "_linkspan_no_columns";

/// A table of ours.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Which target it holds, as the registry keys it.
    pub target: String,
    pub name: String,
    pub key: Vec<String>,
    pub columns: Vec<Column>,
}

/// A column: the stream's field, and the name it is stored under (names that differ only in case cannot stand side by side).
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub field: Field,
    pub stored: String,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.field.name() == name)
    }
    pub fn shape(&self) -> TableShape {
        let fields: Vec<Field> = self.columns.iter().map(|c| c.field.clone()).collect();
        TableShape { schema: Arc::new(Schema::new(fields)), key: self.key.clone(), ours: true }
    }
    /// The stored names of the key, in order.
    pub fn stored_key(&self, key: &[String]) -> Result<Vec<String>> {
        key.iter()
            .map(|name| {
                self.column(name).map(|c| c.stored.clone()).ok_or_else(|| {
                    let known = self.columns.iter().map(|c| c.field.name().as_str());
                    let e = Error::new(ErrorKind::ConfigInvalid, "the key column is not in the table").with("column", name);
                    e.fix(suggest::did_you_mean(name, known).unwrap_or_else(|| "choose a key that the stream has".into()))
                })
            })
            .collect()
    }
    pub fn add(&mut self, field: Field) {
        let taken = |name: &str| self.columns.iter().any(|c| c.stored.eq_ignore_ascii_case(name));
        let field = field.clone().with_data_type(types::kept(field.data_type()));
        let stored = free_name(field.name(), taken);
        self.columns.push(Column { field, stored });
    }
}

/// How the registry keys a target.
pub(super) fn target_key(target: &Target) -> String {
    serde_json::json!([target.namespace, target.name]).to_string()
}

/// The registry key of a replace's staging table.
pub(super) fn staging_key(connection: ConnectionId, stream: &LoadStream) -> String {
    format!("stage {}", staging_name(connection, &stream.target, stream.generation))
}

pub(super) fn staging_name(connection: ConnectionId, target: &Target, generation: u64) -> String {
    format!("{}{generation}", staging_prefix(connection, target))
}

/// What the names of all of a target's staging tables start with.
fn staging_prefix(connection: ConnectionId, target: &Target) -> String {
    let mark = uuid::Uuid::new_v5(&connection.0, target_key(target).as_bytes());
    format!("{}{}_", connection_prefix(connection), &mark.simple().to_string()[..16])
}

fn connection_prefix(connection: ConnectionId) -> String {
    format!("{RESERVED}stage_{}_", connection.0.simple())
}

/// The table that holds the target, if it still stands as we made it.
pub(super) fn find(db: &Connection, target: &str) -> Result<Option<Table>> {
    if !books::present(db)? {
        return Ok(None);
    }
    let found = db
        .prepare_cached("SELECT name, key FROM _linkspan_tables WHERE target = ?1")
        .and_then(|mut s| s.query_row([target], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).optional())
        .map_err(sql_error)?;
    let Some((name, key)) = found else { return Ok(None) };
    let stands: HashMap<String, String> =
        declared_columns(db, &name).map_err(sql_error)?.into_iter().map(|c| (c.name, c.declared)).collect();
    let Some(columns) = columns_of(db, target, &stands)? else { return Ok(None) };
    let key = serde_json::from_str(&key).map_err(damaged)?;
    Ok(Some(Table { target: target.to_owned(), name, key, columns }))
}

/// `None` when somebody has changed the table so that the record is no longer true of it.
fn columns_of(db: &Connection, target: &str, stands: &HashMap<String, String>) -> Result<Option<Vec<Column>>> {
    let sql = "SELECT name, stored, declared, type, nullable, metadata FROM _linkspan_columns WHERE target = ?1 ORDER BY ordinal";
    let mut statement = db.prepare_cached(sql).map_err(sql_error)?;
    let mut rows = statement.query([target]).map_err(sql_error)?;
    let mut columns = Vec::new();
    while let Some(row) = rows.next().map_err(sql_error)? {
        let text = |i| row.get::<_, String>(i).map_err(sql_error);
        let (name, stored, declared) = (text(0)?, text(1)?, text(2)?);
        if stands.get(&stored) != Some(&declared) {
            return Ok(None);
        }
        let data_type: DataType = text(3)?.parse().map_err(damaged)?;
        let metadata: HashMap<String, String> = serde_json::from_str(&text(5)?).map_err(damaged)?;
        let field = Field::new(name, data_type, row.get(4).map_err(sql_error)?).with_metadata(metadata);
        columns.push(Column { field, stored });
    }
    Ok((!columns.is_empty() || !stands.is_empty()).then_some(columns))
}

fn damaged(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::DataInvalid, "the record of the table's columns is damaged")
        .fix("restore `_linkspan_columns`, or drop the table and reset the connection")
        .because(e)
}

/// The table of that name, if it is ours.
pub(super) fn find_named(db: &Connection, name: &str) -> Result<Option<Table>> {
    if !books::present(db)? {
        return Ok(None);
    }
    let sql = "SELECT target FROM _linkspan_tables WHERE name = ?1";
    match db.query_row(sql, [name], |row| row.get::<_, String>(0)).optional().map_err(sql_error)? {
        Some(target) => find(db, &target),
        None => Ok(None),
    }
}

/// Writes the record of a table, as it is now.
pub(super) fn record(db: &Connection, table: &Table) -> Result<()> {
    let internal = |e: serde_json::Error| Error::new(ErrorKind::Internal, "the table's record cannot be written").because(e);
    let key = serde_json::to_string(&table.key).map_err(internal)?;
    db.execute("INSERT OR REPLACE INTO _linkspan_tables VALUES (?1, ?2, ?3)", params![table.target, table.name, key]).map_err(sql_error)?;
    db.execute("DELETE FROM _linkspan_columns WHERE target = ?1", [&table.target]).map_err(sql_error)?;
    for (ordinal, Column { field, stored }) in table.columns.iter().enumerate() {
        let metadata = serde_json::to_string(field.metadata()).map_err(internal)?;
        let row = params![
            table.target,
            ordinal as i64,
            field.name(),
            stored,
            types::declared(field),
            field.data_type().to_string(),
            field.is_nullable(),
            metadata
        ];
        db.execute("INSERT INTO _linkspan_columns VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row).map_err(sql_error)?;
    }
    Ok(())
}

/// Drops a table of ours with its record. Nothing happens when it is not there.
pub(super) fn drop(db: &Connection, target: &str, name: &str) -> Result<()> {
    db.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(name))).map_err(sql_error)?;
    unrecord(db, target)
}

pub(super) fn unrecord(db: &Connection, target: &str) -> Result<()> {
    db.execute("DELETE FROM _linkspan_tables WHERE target = ?1", [target]).map_err(sql_error)?;
    db.execute("DELETE FROM _linkspan_columns WHERE target = ?1", [target]).map(std::mem::drop).map_err(sql_error)
}

/// Drops staging tables of the connection: of one target below a generation, or all.
pub(super) fn drop_staging(db: &Connection, connection: ConnectionId, below: Option<(&Target, u64)>) -> Result<()> {
    let prefix = below.map_or_else(|| connection_prefix(connection), |(target, _)| staging_prefix(connection, target));
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, length(?1)) = ?1";
    let mut statement = db.prepare(sql).map_err(sql_error)?;
    let names: Vec<String> = statement.query_map([&prefix], |row| row.get(0)).and_then(Iterator::collect).map_err(sql_error)?;
    for name in names {
        let generation = name[prefix.len()..].parse::<u64>().unwrap_or(0);
        if below.is_none_or(|(_, keep)| generation < keep) {
            drop(db, &format!("stage {name}"), &name)?;
        }
    }
    Ok(())
}

/// The name that a target's table has, or would get.
pub(super) fn name_for(db: &Connection, target: &Target) -> Result<String> {
    let plain = plain_name(target);
    if !books::present(db)? {
        return Ok(plain);
    }
    let sql = "SELECT target FROM _linkspan_tables WHERE name = ?1 AND target <> ?2";
    let mut holder = db.prepare(sql).map_err(sql_error)?;
    let key = target_key(target);
    let taken = |name: &str| holder.exists([name, &key]).unwrap_or(false);
    Ok(free_name(&plain, taken))
}

/// SQLite has no schemas: `schema.table` is one name. Names that start with `sqlite_` belong to SQLite.
fn plain_name(target: &Target) -> String {
    let name = target.to_string();
    if name.get(..7).is_some_and(|p| p.eq_ignore_ascii_case("sqlite_")) { format!("_{name}") } else { name }
}

/// The name, or the first of `name__2`, `name__3`, ... that is not taken.
fn free_name(name: &str, mut taken: impl FnMut(&str) -> bool) -> String {
    let mut free = name.to_owned();
    let mut n = 2;
    while taken(&free) {
        free = format!("{name}__{n}");
        n += 1;
    }
    free
}
