//! The record of the tables that Linkspan made: the exact field of every column. Whoever may read it reads a column back as what it was,
//! also where the server has no such type.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{Error, ErrorKind, Result, TableShape, suggest};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    books::{Books, RESERVED, text},
    columns::{SqlType, sql_type},
    server::Flavor,
    sql::{list, literal, qualified},
    wire::Wire,
};

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
    pub fn literals(&self) -> String {
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
pub(super) fn id(place: &Place) -> uuid::Uuid {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, json!([place.database, place.name]).to_string().as_bytes())
}

/// What the record says of a place, whether or not a table stands there.
pub(super) async fn recorded(wire: &mut Wire, books: &Books, place: &Place) -> Result<Option<Table>> {
    let sql = format!("SELECT record FROM {} WHERE id = '{}'", books.table("tables"), id(place));
    table_of(wire, &sql).await
}

pub(super) async fn recorded_by_token(wire: &mut Wire, books: &Books, token: &str) -> Result<Option<Table>> {
    let sql = format!("SELECT record FROM {} WHERE LOCATE({}, record) > 0", books.table("tables"), literal(&json!(token).to_string()));
    Ok(table_of(wire, &sql).await?.filter(|t| t.token == token))
}

async fn table_of(wire: &mut Wire, sql: &str) -> Result<Option<Table>> {
    wire.query(sql, DOING).await?.first().map(|row| parsed(text(row, 0))).transpose()
}

/// What is recorded of these tables, each with the token in its comment. The record is in the session's database or in the tables' own;
/// of one that is not there, or that the login may not read, nothing is known.
pub(super) async fn remembered(wire: &mut Wire, made: &[(Place, String)]) -> Result<Vec<Table>> {
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let mut databases: Vec<&str> = made.iter().map(|(place, _)| place.database.as_str()).collect();
    databases.sort_unstable();
    databases.dedup();
    let sql = format!(
        "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = '{RESERVED}tables' AND TABLE_SCHEMA IN (DATABASE(), {})",
        list(databases.into_iter().map(literal))
    );
    let mut found: Vec<Table> = Vec::new();
    for row in wire.query(&sql, DOING).await? {
        match recorded_in(wire, &Books { database: text(&row, 0).to_owned() }, made).await {
            Ok(tables) => found.extend(tables),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

async fn recorded_in(wire: &mut Wire, books: &Books, made: &[(Place, String)]) -> Result<Vec<Table>> {
    let ids = list(made.iter().map(|(place, _)| format!("'{}'", id(place))));
    let sql = format!("SELECT record FROM {} WHERE id IN ({ids})", books.table("tables"));
    let rows = wire.query(&sql, DOING).await?;
    let mut tables = rows.iter().map(|row| parsed(text(row, 0))).collect::<Result<Vec<Table>>>()?;
    tables.retain(|t| made.iter().any(|(place, token)| t.place == *place && t.token == *token));
    // A replace that died between its rename and its record is still recorded under the staged table's name.
    for (place, token) in made.iter().filter(|(_, token)| tables.iter().all(|t| t.token != *token)).collect::<Vec<_>>() {
        tables.extend(recorded_by_token(wire, books, token).await?.map(|t| Table { place: place.clone(), ..t }));
    }
    Ok(tables)
}

fn parsed(record: &str) -> Result<Table> {
    let record: Record = serde_json::from_str(record).map_err(damaged)?;
    let column = |c: ColumnRecord| {
        let data_type: DataType = c.data_type.parse().map_err(damaged)?;
        let field = Field::new(c.name, data_type, c.nullable).with_metadata(c.metadata);
        Ok(Column { field, stored: c.stored, made: c.made })
    };
    let columns: Result<Vec<Column>> = record.columns.into_iter().map(column).collect();
    Ok(Table { place: record.place, token: record.token, key: record.key, columns: columns? })
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
