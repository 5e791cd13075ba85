//! The tables that Linkspan made: which target each holds, and the exact Arrow type of every column. A table carries a token in its
//! comment: one that somebody dropped and made again is not ours.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{ConnectionId, Error, ErrorKind, Result, TableShape, Target, suggest};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    books::{Books, RESERVED, text},
    catalog::{self, Wanted},
    columns::{SqlType, sql_type},
    server::Flavor,
    sql::{literal, qualified},
    types::Choices,
    wire::Wire,
};

/// A table needs a column: this one stands in a table whose stream has none.
pub(super) const NO_COLUMNS: &str = "_linkspan_no_columns";
/// How the comment of a table of ours begins.
pub(super) const TOKEN: &str = "linkspan ";
const DOING: &str = "reading the record of tables";

/// Where a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub database: String,
    pub name: String,
}

impl Place {
    pub fn sql(&self) -> String {
        qualified(Some(&self.database), &self.name)
    }
    fn literals(&self) -> String {
        format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(&self.database), literal(&self.name))
    }
}

/// A table of ours.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub place: Place,
    pub token: String,
    pub key: Vec<String>,
    pub columns: Vec<Column>,
}

/// A column: the stream's field, the name it is stored under (names that differ only in case cannot stand side by side), its type.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub field: Field,
    pub stored: String,
    pub made: SqlType,
}

/// How the record says it.
#[derive(Serialize, Deserialize)]
struct Record {
    place: Place,
    token: String,
    key: Vec<String>,
    columns: Vec<ColumnRecord>,
}

#[derive(Serialize, Deserialize)]
struct ColumnRecord {
    name: String,
    stored: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
    metadata: HashMap<String, String>,
    made: SqlType,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.field.name() == name)
    }
    pub fn shape(&self) -> TableShape {
        let fields: Vec<Field> = self.columns.iter().map(|c| c.field.clone()).collect();
        TableShape { schema: Arc::new(Schema::new(fields)), key: self.key.clone(), ours: true }
    }
    /// The key's columns, in order.
    pub fn key_columns(&self, key: &[String]) -> Result<Vec<&Column>> {
        let column = |name: &String| {
            self.column(name).ok_or_else(|| {
                let known = self.columns.iter().map(|c| c.field.name().as_str());
                let e = Error::new(ErrorKind::ConfigInvalid, "the key column is not in the table").with("column", name);
                e.fix(suggest::did_you_mean(name, known).unwrap_or_else(|| "choose a key that the stream has".into()))
            })
        };
        key.iter().map(column).collect()
    }
    /// Adds a column for the field, under a name that is free.
    pub fn add(&mut self, field: &Field, flavor: Flavor) {
        let field = field.clone().with_data_type(kept(field.data_type()));
        let taken = |name: &str| self.columns.iter().any(|c| c.stored.to_lowercase() == name.to_lowercase());
        let mut stored = field.name().clone();
        let mut n = 2;
        while taken(&stored) {
            stored = format!("{}__{n}", field.name());
            n += 1;
        }
        let made = self.type_of(&field, flavor);
        self.columns.push(Column { field, stored, made });
    }
    pub fn type_of(&self, field: &Field, flavor: Flavor) -> SqlType {
        let in_key = self.key.contains(field.name()).then_some(self.key.len());
        sql_type(field, flavor, in_key)
    }
}

/// The type that a stored column is read back as.
pub(super) fn kept(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => kept(values),
        other => other.clone(),
    }
}

/// What the record keys a table by.
fn id(place: &Place) -> uuid::Uuid {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, json!([place.database, place.name]).to_string().as_bytes())
}

/// The staging table of one generation of a target: within 64 characters whatever the names are.
pub(super) fn staging(connection: ConnectionId, target: &Place, generation: u64) -> Place {
    Place { database: target.database.clone(), name: format!("{}{generation}", staging_prefix(connection, target)) }
}

pub(super) fn staging_prefix(connection: ConnectionId, target: &Place) -> String {
    let mark = uuid::Uuid::new_v5(&connection.0, id(target).as_bytes()).simple().to_string();
    format!("{}{}_", connection_prefix(connection), &mark[..12])
}

/// How every staging table of a connection begins.
pub(super) fn connection_prefix(connection: ConnectionId) -> String {
    format!("_ls_{}_", &connection.0.simple().to_string()[..12])
}

/// What the old table of a replace is called until it is dropped.
pub(super) fn old_name(stage: &Place) -> Place {
    Place { database: stage.database.clone(), name: format!("{}_old", stage.name) }
}

/// The table at that place, if it stands there as we made it.
pub(super) async fn find(wire: &mut Wire, books: &Books, place: &Place) -> Result<Option<Table>> {
    if !books.present(wire).await? {
        return Ok(None);
    }
    let sql = format!("SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE {}", place.literals());
    let comment = wire.query(&sql, DOING).await?.first().map(|row| text(row, 0).to_owned());
    let Some(token) = comment.filter(|c| c.starts_with(TOKEN)) else { return Ok(None) };
    let table = match recorded(wire, books, place).await?.filter(|t| t.token == token) {
        Some(table) => table,
        // A crash between the rename of a replace and its record: what is recorded of the staged table is true of this one.
        None => match recorded_by_token(wire, books, &token).await? {
            Some(table) => Table { place: place.clone(), ..table },
            None => return Ok(None),
        },
    };
    let sql = format!("SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE {}", place.literals());
    let names: Vec<String> = wire.query(&sql, DOING).await?.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect();
    let whole = table.columns.iter().all(|c| names.contains(&c.stored));
    Ok(whole.then_some(table))
}

/// What the record says of a place, whether or not a table stands there.
pub(super) async fn recorded(wire: &mut Wire, books: &Books, place: &Place) -> Result<Option<Table>> {
    let sql = format!("SELECT record FROM {} WHERE id = '{}'", books.table("tables"), id(place));
    table_of(wire, &sql).await
}

async fn recorded_by_token(wire: &mut Wire, books: &Books, token: &str) -> Result<Option<Table>> {
    let sql = format!("SELECT record FROM {} WHERE LOCATE({}, record) > 0", books.table("tables"), literal(&json!(token).to_string()));
    Ok(table_of(wire, &sql).await?.filter(|t| t.token == token))
}

async fn table_of(wire: &mut Wire, sql: &str) -> Result<Option<Table>> {
    let rows = wire.query(sql, DOING).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let record: Record = serde_json::from_str(text(row, 0)).map_err(damaged)?;
    let column = |c: ColumnRecord| {
        let data_type: DataType = c.data_type.parse().map_err(damaged)?;
        let field = Field::new(c.name, data_type, c.nullable).with_metadata(c.metadata);
        Ok(Column { field, stored: c.stored, made: c.made })
    };
    let columns: Result<Vec<Column>> = record.columns.into_iter().map(column).collect();
    Ok(Some(Table { place: record.place, token: record.token, key: record.key, columns: columns? }))
}

fn damaged(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::DataInvalid, "the record of the table's columns is damaged")
        .fix("restore `_linkspan_tables`, or drop the table and reset the connection")
        .because(e)
}

/// Writes the record of a table, as it is now.
pub(super) async fn record(wire: &mut Wire, books: &Books, table: &Table) -> Result<()> {
    let column = |c: &Column| ColumnRecord {
        name: c.field.name().clone(),
        stored: c.stored.clone(),
        data_type: c.field.data_type().to_string(),
        nullable: c.field.is_nullable(),
        metadata: c.field.metadata().clone(),
        made: c.made.clone(),
    };
    let record = Record {
        place: table.place.clone(),
        token: table.token.clone(),
        key: table.key.clone(),
        columns: table.columns.iter().map(column).collect(),
    };
    let record =
        serde_json::to_string(&record).map_err(|e| Error::new(ErrorKind::Internal, "the table's record cannot be written").because(e))?;
    let sql = format!("REPLACE INTO {} (id, record) VALUES ('{}', {})", books.table("tables"), id(&table.place), literal(&record));
    wire.query(&sql, "recording the table").await.map(drop)
}

/// Drops a table of ours with its record. Nothing happens when it is not there.
pub(super) async fn drop_table(wire: &mut Wire, books: &Books, place: &Place) -> Result<()> {
    wire.query(&format!("DROP TABLE IF EXISTS {}", place.sql()), "dropping a staging table").await?;
    let sql = format!("DELETE FROM {} WHERE id = '{}'", books.table("tables"), id(place));
    wire.query(&sql, "dropping a staging table").await.map(drop)
}

/// The tables in all databases whose names begin so.
pub(super) async fn named_like(wire: &mut Wire, prefix: &str) -> Result<Vec<Place>> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE LEFT(TABLE_NAME, {}) = {}",
        prefix.chars().count(),
        literal(prefix)
    );
    let rows = wire.query(&sql, "looking for staging tables").await?;
    Ok(rows.iter().map(|row| Place { database: text(row, 0).to_owned(), name: text(row, 1).to_owned() }).collect())
}

/// What stands at a place: ours as it was made, somebody else's by the server's catalog.
pub(super) async fn shape(wire: &mut Wire, books: &Books, place: &Place) -> Result<Option<TableShape>> {
    if let Some(table) = find(wire, books, place).await? {
        return Ok(Some(table.shape()));
    }
    let name = linkspan_core::StreamName::new(Some(&place.database), &place.name);
    let found = catalog::load(wire, Wanted::These(std::slice::from_ref(&name)), Choices::default()).await?.pop();
    Ok(found.map(|table| TableShape { schema: table.stream().schema, key: table.key, ours: false }))
}

/// Somebody else's table is never written, renamed or dropped.
pub(super) async fn refuse_foreign(wire: &mut Wire, books: &Books, place: &Place, target: &Target) -> Result<()> {
    match shape(wire, books, place).await? {
        Some(shape) if !shape.ours => Err(Error::new(ErrorKind::AlreadyExists, "a table that Linkspan did not make is in the way")
            .with("table", target)
            .fix("choose another table with --target, or rename or drop that one")),
        _ => Ok(()),
    }
}

/// The same where the table may be the one that an earlier call has renamed and not recorded.
pub(super) async fn refuse_foreign_or_staged(wire: &mut Wire, books: &Books, place: &Place, stage: &Place, target: &Target) -> Result<()> {
    if let Some(staged) = recorded(wire, books, stage).await?
        && has_token(wire, place, &staged.token).await?
    {
        return Ok(());
    }
    refuse_foreign(wire, books, place, target).await
}

/// Whether the table that stands there was made with this token.
pub(super) async fn has_token(wire: &mut Wire, place: &Place, token: &str) -> Result<bool> {
    let sql = format!("SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE {}", place.literals());
    Ok(wire.query(&sql, DOING).await?.iter().any(|row| text(row, 0) == token))
}

/// Refuses targets that are our own record or staging.
pub(super) fn refuse_reserved(target: &Target) -> Result<()> {
    if !target.name.starts_with(RESERVED) && !target.name.starts_with("_ls_") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "table names that start with _linkspan_ or _ls_ are Linkspan's own")
        .with("table", target)
        .fix("choose another table with --target"))
}
