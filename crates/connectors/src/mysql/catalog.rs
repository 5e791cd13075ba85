//! What the databases hold: tables and views with columns, keys and sizes, read from the information schema. It shows only what the
//! login may see, and compares names without regard to case on some servers: names are compared again here.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{DataType, Field, FieldRef, Schema};
use linkspan_core::{Cursor, Error, ErrorKind, Result, Stream, StreamName, native, suggest};

use super::{
    record::{self, Place, TOKEN},
    server::Flavor,
    sql::{ident, list, literal},
    types::{Choices, Form, GENERATED, SRID, SYSTEM, Typed},
    wire::{TextRow, Wire},
};
use crate::cursors::Ordered;

/// A table, a view, or a query seen as one.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: StreamName,
    pub kind: Kind,
    pub columns: Vec<Column>,
    pub key: Vec<String>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    /// Its parts have no common time of the last write.
    Partitioned,
    View,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub form: Form,
    /// As the catalog spells it.
    pub native: String,
    pub nullable: bool,
    /// What its field says besides: that it is computed, its reference system, and of a column of ours what it was made for.
    pub marks: HashMap<String, String>,
}

impl Column {
    pub fn field(&self) -> Field {
        let field = self.form.field(&self.name, &self.native, self.nullable);
        self.marks.iter().fold(field, |field, (mark, value)| native::with_mark(field, mark, value))
    }

    /// Reads a column of a table of ours as what it was made for, as far as it still stands as it was made.
    fn remember(&mut self, made_for: &Field) {
        let Some(form) = self.form.remembered(made_for) else { return };
        self.form = form;
        // What a type of this system is called now is known better from the catalog.
        let of_elsewhere = native::native_in(made_for, SYSTEM).is_none();
        let kept = made_for.metadata().iter().filter(|(mark, _)| *mark != native::NATIVE || of_elsewhere);
        self.marks.extend(kept.map(|(mark, value)| (mark.clone(), value.clone())));
        if matches!(made_for.data_type(), DataType::Decimal128(..) | DataType::Decimal256(..)) && form == Form::Text {
            self.marks.insert(native::DECIMAL_TEXT.to_owned(), String::new());
        }
    }
}

impl Ordered for Column {
    fn name(&self) -> &str {
        &self.name
    }
    fn native(&self) -> &str {
        &self.native
    }
    fn is_orderable(&self) -> bool {
        self.form.is_orderable()
    }
}

pub(super) fn select_list(columns: &[Column]) -> String {
    list(columns.iter().map(|c| ident(&c.name)))
}

pub(super) fn fields(columns: &[Column]) -> impl Iterator<Item = (FieldRef, Form)> {
    columns.iter().map(|c| (Arc::new(c.field()), c.form))
}

impl Table {
    pub fn stream(&self) -> Stream {
        let fields: Vec<Field> = self.columns.iter().map(Column::field).collect();
        Stream {
            name: self.name.clone(),
            schema: Arc::new(Schema::new(fields)),
            key: self.key.clone(),
            cursor: cursor(&self.columns),
            estimated_rows: self.rows,
            estimated_bytes: self.bytes,
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// The columns a read could go on by, best first: the usual names, then times, then integers, then the rest that has an order.
pub(super) fn cursor(columns: &[Column]) -> Cursor {
    const NAMES: [&str; 4] = ["updated_at", "modified_at", "last_modified", "_updated_at"];
    let rank = |c: &Column| match (NAMES.iter().position(|n| c.name.eq_ignore_ascii_case(n)), c.form) {
        (Some(at), form) if form.is_time() => at,
        (_, Form::Timestamp(_)) => 4,
        (_, Form::DateTime(_) | Form::DateTimeText(_)) => 5,
        (_, Form::Date | Form::DateText) => 6,
        (_, Form::Int64 | Form::UInt64) => 7,
        (_, form) if form.is_integer() => 8,
        _ => 10,
    };
    let mut found: Vec<&Column> = columns.iter().filter(|c| c.form.is_orderable()).collect();
    found.sort_by_key(|c| rank(c));
    if found.is_empty() { Cursor::None } else { Cursor::Columns(found.into_iter().map(|c| c.name.clone()).collect()) }
}

/// The columns of `schema` as the table has them now. One that is gone is an error that names the nearest.
pub(super) fn chosen(table: &Table, schema: &Schema) -> Result<Vec<Column>> {
    let column = |field: &FieldRef| {
        table.column(field.name()).cloned().ok_or_else(|| {
            let names = table.columns.iter().map(|c| c.name.as_str());
            let fix = suggest::did_you_mean(field.name(), names).unwrap_or_else(|| "run discover to see the columns".to_owned());
            Error::new(ErrorKind::NotFound, "the table has no such column (any more)").with("column", field.name()).fix(fix)
        })
    };
    schema.fields().iter().map(column).collect()
}

/// Which relations to load.
pub(super) enum Wanted<'a> {
    /// All that the login can read in these databases; in all but the server's own, when there are none.
    In(&'a [String]),
    These(&'a [StreamName]),
}

impl Wanted<'_> {
    fn condition(&self) -> String {
        match self {
            Self::In([]) => "TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')".to_owned(),
            Self::In(databases) => format!("TABLE_SCHEMA IN ({})", list(databases.iter().map(|d| literal(d)))),
            Self::These(names) => {
                let pair = |n: &StreamName| format!("({}, {})", literal(n.namespace.as_deref().unwrap_or("")), literal(&n.name));
                format!("(TABLE_SCHEMA, TABLE_NAME) IN ({})", list(names.iter().map(pair)))
            }
        }
    }

    fn covers(&self, name: &StreamName) -> bool {
        match self {
            Self::In([]) => true,
            Self::In(databases) => databases.iter().any(|d| Some(d.as_str()) == name.namespace.as_deref()),
            Self::These(names) => names.contains(name),
        }
    }
}

const DOING: &str = "reading the catalog";
/// Linkspan's own tables are nobody's data; a sequence holds no rows.
const READABLE: &str = "TABLE_TYPE IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED') AND TABLE_NAME NOT LIKE '\\\\_linkspan%' \
    AND TABLE_NAME NOT LIKE '\\\\_ls\\\\_%'";

/// Loads relations with columns, keys and sizes, by database and name. One of which the login may read no column is left out.
pub(super) async fn load(wire: &mut Wire, wanted: Wanted<'_>, choices: Choices) -> Result<Vec<Table>> {
    let place = wanted.condition();
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH, CREATE_OPTIONS, TABLE_COMMENT FROM information_schema.TABLES \
         WHERE {place} AND {READABLE}"
    );
    let rows = wire.query(&sql, DOING).await?;
    let mut columns = load_columns(wire, &place, choices).await?;
    let mut keys = load_keys(wire, &place).await?;
    remember(wire, &rows, &mut columns).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = row.into_iter();
        let mut next = || row.next().flatten();
        let name = StreamName::new(next().as_deref(), &next().unwrap_or_default());
        let (kind, rows, bytes, options) = (next(), number(next()), number(next()), next().unwrap_or_default());
        let Some(columns) = columns.remove(&name).filter(|_| wanted.covers(&name)) else { continue };
        let key = keys.remove(&name).unwrap_or_default();
        // A key whose columns the login may not read is none.
        let key = if key.iter().all(|k| columns.iter().any(|c| c.name == *k)) { key } else { Vec::new() };
        let kind = match kind.as_deref() {
            Some("VIEW") => Kind::View,
            _ if options.contains("partitioned") => Kind::Partitioned,
            _ => Kind::Table,
        };
        let known = kind != Kind::View;
        tables.push(Table { name, kind, columns, key, rows: rows.filter(|_| known), bytes: bytes.filter(|_| known) });
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tables)
}

/// Columns of tables that Linkspan made are what they were made for.
async fn remember(wire: &mut Wire, rows: &[TextRow], columns: &mut HashMap<StreamName, Vec<Column>>) -> Result<()> {
    let ours = |row: &TextRow| {
        let token = row[6].clone().filter(|comment| comment.starts_with(TOKEN))?;
        let name = StreamName::new(row[0].as_deref(), row[1].as_deref()?);
        columns.contains_key(&name).then(|| (Place { database: row[0].clone().unwrap_or_default(), name: name.name.to_string() }, token))
    };
    let made: Vec<(Place, String)> = rows.iter().filter_map(ours).collect();
    for table in record::remembered(wire, &made).await? {
        let Some(columns) = columns.get_mut(&StreamName::new(Some(&table.place.database), &table.place.name)) else { continue };
        for column in columns {
            if let Some(known) = table.columns.iter().find(|known| known.stored == column.name) {
                column.remember(&known.field);
            }
        }
    }
    Ok(())
}

/// How many relations `load` would show.
pub(super) async fn count(wire: &mut Wire, wanted: Wanted<'_>) -> Result<Option<usize>> {
    let sql = format!("SELECT COUNT(*) FROM information_schema.TABLES WHERE {} AND {READABLE}", wanted.condition());
    let rows = wire.query(&sql, "counting the tables").await?;
    Ok(number(rows.into_iter().next().and_then(|r| r.into_iter().next().flatten())).and_then(|n| usize::try_from(n).ok()))
}

fn number(text: Option<String>) -> Option<u64> {
    text?.parse().ok()
}

async fn load_columns(wire: &mut Wire, place: &str, choices: Choices) -> Result<HashMap<StreamName, Vec<Column>>> {
    let documents = checked_documents(wire, place).await?;
    let srid = if wire.flavor() == Flavor::Mysql { "SRS_ID" } else { "NULL" };
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), COLUMN_TYPE, IS_NULLABLE, NUMERIC_PRECISION, NUMERIC_SCALE, \
         DATETIME_PRECISION, GENERATION_EXPRESSION, {srid} FROM information_schema.COLUMNS \
         WHERE {place} AND FIND_IN_SET('select', PRIVILEGES) > 0 ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    );
    let mut found: HashMap<StreamName, Vec<Column>> = HashMap::new();
    for row in wire.query(&sql, DOING).await? {
        let table = StreamName::new(row[0].as_deref(), row[1].as_deref().unwrap_or_default());
        let text = |at: usize| row[at].as_deref().unwrap_or_default();
        let checked_json = documents.contains(&(table.clone(), text(2).to_owned()));
        let number = |at: usize| number(row[at].clone());
        let typed = Typed { name: text(3), full: text(4), precision: number(6), scale: number(7), fraction: number(8), checked_json };
        let column = Column {
            name: text(2).to_owned(),
            form: Form::of(&typed, choices),
            native: if checked_json { "json".to_owned() } else { text(4).to_owned() },
            nullable: text(5) == "YES",
            marks: [
                (!text(9).is_empty()).then(|| (GENERATED.to_owned(), String::new())),
                row[10].clone().filter(|s| s != "0").map(|srid| (SRID.to_owned(), srid)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        found.entry(table).or_default().push(column);
    }
    Ok(found)
}

/// MariaDB has no type for JSON: a column of that name is text that must pass a check.
async fn checked_documents(wire: &mut Wire, place: &str) -> Result<Vec<(StreamName, String)>> {
    if wire.flavor() != Flavor::Mariadb {
        return Ok(Vec::new());
    }
    let place = place.replace("TABLE_SCHEMA", "CONSTRAINT_SCHEMA");
    let sql = format!("SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE {place}");
    let column = |row: &TextRow| {
        let check = row[2].as_deref()?.strip_prefix("json_valid(`")?.strip_suffix("`)")?.replace("``", "`");
        Some((StreamName::new(row[0].as_deref(), row[1].as_deref()?), check))
    };
    Ok(wire.query(&sql, DOING).await?.iter().filter_map(column).collect())
}

/// The primary key, else the smallest unique index over whole columns that are never null.
async fn load_keys(wire: &mut Wire, place: &str) -> Result<HashMap<StreamName, Vec<String>>> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART, NULLABLE FROM information_schema.STATISTICS \
         WHERE {place} AND NON_UNIQUE = 0 ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
    );
    type Index = (String, Option<Vec<String>>);
    let mut indexes: HashMap<StreamName, Vec<Index>> = HashMap::new();
    for row in wire.query(&sql, DOING).await? {
        let [database, table, index, column, part, nullable] = row.as_slice() else { continue };
        let table = StreamName::new(database.as_deref(), table.as_deref().unwrap_or_default());
        let of_table = indexes.entry(table).or_default();
        let name = index.clone().unwrap_or_default();
        if of_table.last().is_none_or(|(last, _)| *last != name) {
            of_table.push((name, Some(Vec::new())));
        }
        let Some((_, columns)) = of_table.last_mut() else { continue };
        let solid = part.is_none() && nullable.as_deref() != Some("YES");
        match (column.as_ref().filter(|_| solid), columns.as_mut()) {
            (Some(column), Some(columns)) => columns.push(column.clone()),
            _ => *columns = None,
        }
    }
    let best = |indexes: Vec<Index>| {
        let whole = indexes.into_iter().filter_map(|(name, columns)| Some((name != "PRIMARY", columns?)));
        whole.min_by_key(|(other, columns)| (*other, columns.len())).map(|(_, columns)| columns)
    };
    Ok(indexes.into_iter().filter_map(|(table, indexes)| Some((table, best(indexes)?))).collect())
}

/// An error for a table that is not shown, with the nearest name of those that are.
pub(super) async fn no_such_table(wire: &mut Wire, name: &StreamName) -> Error {
    let error = Error::new(ErrorKind::NotFound, "there is no such table").with("stream", name);
    let sql = format!(
        "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE {} AND {READABLE} LIMIT 5000",
        Wanted::In(&[]).condition()
    );
    let rows = wire.query(&sql, DOING).await.unwrap_or_default();
    let known: Vec<&str> = rows.iter().filter_map(|r| r[0].as_deref()).collect();
    let fix = suggest::did_you_mean(&name.to_string(), known);
    error.fix(fix.unwrap_or_else(|| "run discover to see what the login can read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_best_first_and_only_what_has_an_order() {
        let column = |name: &str, form| Column { name: name.into(), form, native: "x".into(), nullable: true, marks: HashMap::new() };
        let columns = [
            column("id", Form::UInt64),
            column("doc", Form::Json),
            column("created", Form::Timestamp(0)),
            column("ok", Form::Bool),
            column("updated_at", Form::DateTime(6)),
        ];
        assert_eq!(cursor(&columns), Cursor::Columns(vec!["updated_at".into(), "created".into(), "id".into()]));
        assert_eq!(cursor(&columns[1..2]), Cursor::None);
    }

    #[test]
    fn names_stay_names_in_the_catalogs_conditions() {
        let name = StreamName::new(Some("a'b"), "c\\d");
        assert_eq!(Wanted::These(&[name]).condition(), "(TABLE_SCHEMA, TABLE_NAME) IN (('a\\'b', 'c\\\\d'))");
    }
}
