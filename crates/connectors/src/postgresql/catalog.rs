//! What the database holds: tables and their kin with columns, keys and sizes, read from the system catalogs.

use std::{collections::HashMap, sync::Arc};

use arrow_schema::{Field, FieldRef, Schema};
use linkspan_core::{Cursor, Error, ErrorKind, Result, Stream, StreamName, native, suggest};
use tokio_postgres::{GenericClient, Row};

use super::{
    errors::PgResult,
    sql,
    types::{BASE_TYPE, Form, GENERATED},
};
use crate::cursors::Ordered;

/// A table, view, or what else can be read as one stream.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub oid: u32,
    pub name: StreamName,
    pub kind: Kind,
    pub columns: Vec<Column>,
    pub key: Vec<String>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    /// Row-level security narrows what the login sees; the parts of such a table must be read through its own name.
    pub row_security: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ordinary table in the heap: pages can be addressed, rows know their transaction.
    Heap,
    /// A table of another access method.
    OtherStorage,
    Partitioned,
    View,
    Materialized,
    Foreign,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub form: Form,
    /// As `format_type` spells it, with the schema when the type is not a built-in one.
    pub native: String,
    /// A domain's underlying type.
    pub base: Option<String>,
    pub nullable: bool,
    pub generated: bool,
}

impl Column {
    pub fn field(&self) -> Field {
        let mut field = self.form.field(&self.name, &self.native, self.nullable);
        if let Some(base) = &self.base {
            field = native::with_mark(field, BASE_TYPE, base);
        }
        if self.generated {
            field = native::with_mark(field, GENERATED, "");
        }
        field
    }

    /// What stands for the column in a SELECT list.
    pub fn select(&self) -> String {
        let name = sql::ident(&self.name);
        if self.form.is_cast() { format!("{name}::pg_catalog.text") } else { name }
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

/// The SELECT list of these columns: casts where the type has no binary form here.
pub(super) fn select_list(columns: &[Column]) -> String {
    columns.iter().map(Column::select).collect::<Vec<_>>().join(", ")
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
}

/// The columns a read could go on by, best first: the usual names, then times, then integers, then the rest that has an order.
pub(super) fn cursor(columns: &[Column]) -> Cursor {
    const NAMES: [&str; 4] = ["updated_at", "modified_at", "last_modified", "_updated_at"];
    let rank = |c: &Column| match (NAMES.iter().position(|n| c.name.eq_ignore_ascii_case(n)), c.form) {
        (Some(at), Form::Timestamp | Form::TimestampTz | Form::Date) => at,
        (_, Form::TimestampTz) => 4,
        (_, Form::Timestamp) => 5,
        (_, Form::Date) => 6,
        (_, Form::Int8) => 7,
        (_, Form::Int4) => 8,
        (_, Form::Int2) => 9,
        _ => 10,
    };
    let mut found: Vec<&Column> = columns.iter().filter(|c| c.form.is_orderable()).collect();
    found.sort_by_key(|c| rank(c));
    if found.is_empty() { Cursor::None } else { Cursor::Columns(found.into_iter().map(|c| c.name.clone()).collect()) }
}

/// The columns of `schema` as the table has them now. One that is gone is an error that names the nearest.
pub(super) fn chosen(table: &Table, schema: &Schema) -> Result<Vec<Column>> {
    let column = |field: &FieldRef| {
        table.columns.iter().find(|c| c.name == *field.name()).cloned().ok_or_else(|| {
            let names = table.columns.iter().map(|c| c.name.as_str());
            let fix = suggest::did_you_mean(field.name(), names).unwrap_or_else(|| "run discover to see the columns".to_owned());
            Error::new(ErrorKind::NotFound, "the table has no such column (any more)").with("column", field.name()).fix(fix)
        })
    };
    schema.fields().iter().filter(|f| !native::has_mark(f, native::SPECIAL_OF)).map(column).collect()
}

/// Which relations to load.
pub(super) enum Wanted<'a> {
    /// All that the login can read, in these schemas (in all, when there are none).
    Readable(&'a [String], Sizes),
    One(&'a StreamName),
}

/// Where sizes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    /// The files. Measuring them waits for whoever holds a table exclusively.
    Measured,
    /// The statistics, which may be old.
    Estimated,
}

/// Loads relations with columns, keys and sizes, by schema and name.
pub(super) async fn load(client: &impl GenericClient, wanted: Wanted<'_>) -> Result<Vec<Table>> {
    let rows = match wanted {
        Wanted::Readable(schemas, sizes) => {
            let relations = relations(sizes);
            let sql = format!("{relations} AND {READABLE} AND (cardinality($1::text[]) = 0 OR n.nspname = ANY($1)) ORDER BY 2, 3");
            client.query(&sql, &[&schemas]).await.pg("listing the tables")?
        }
        Wanted::One(name) => {
            let namespace = name.namespace.as_deref().unwrap_or("public");
            let relations = relations(Sizes::Estimated);
            let sql = format!("{relations} AND n.nspname = $1 AND c.relname = $2");
            client.query(&sql, &[&namespace, &&*name.name]).await.pg("looking the table up")?
        }
    };
    let oids: Vec<u32> = rows.iter().map(|r| r.get(0)).collect();
    let mut columns = load_columns(client, &oids).await?;
    let mut keys = load_keys(client, &oids).await?;
    let tables = rows.iter().map(|row| {
        let oid: u32 = row.get(0);
        let columns = columns.remove(&oid).unwrap_or_default();
        let key = keys.remove(&oid).unwrap_or_default();
        // A key whose columns the login may not read is none.
        let key = if key.iter().all(|k| columns.iter().any(|c| c.name == *k)) { key } else { Vec::new() };
        table(row, columns, key)
    });
    Ok(tables.collect())
}

fn table(row: &Row, columns: Vec<Column>, key: Vec<String>) -> Table {
    let kind = match (row.get::<_, &str>("kind"), row.get::<_, &str>("method")) {
        ("r", "heap") => Kind::Heap,
        ("p", _) => Kind::Partitioned,
        ("v", _) => Kind::View,
        ("m", _) => Kind::Materialized,
        ("f", _) => Kind::Foreign,
        _ => Kind::OtherStorage,
    };
    // Less than zero: never analyzed.
    let rows = row.get::<_, Option<f64>>("rows").filter(|n| *n >= 0.0).map(|n| n as u64);
    Table {
        oid: row.get(0),
        name: StreamName::new(Some(row.get(1)), row.get(2)),
        kind,
        columns,
        key,
        rows,
        bytes: row.get::<_, Option<i64>>("bytes").and_then(|n| u64::try_from(n).ok()),
        row_security: row.get("row_security"),
    }
}

fn relations(sizes: Sizes) -> String {
    match sizes {
        Sizes::Measured => RELATIONS.to_owned(),
        Sizes::Estimated => {
            let pages = |of: &str| format!("{of}.relpages::int8 * current_setting('block_size')::int8");
            RELATIONS.replace("pg_table_size(c.oid)", &pages("c")).replace("pg_table_size(l.oid)", &pages("l"))
        }
    }
}

/// The sizes of a partitioned table are those of its leaves. Of a foreign table only estimates are known.
const RELATIONS: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text AS kind, coalesce(am.amname, '')::text AS method, \
    c.relrowsecurity AS row_security, \
    CASE c.relkind WHEN 'p' THEN leaves.rows WHEN 'v' THEN NULL ELSE c.reltuples::float8 END AS rows, \
    CASE WHEN c.relkind = 'p' THEN leaves.bytes WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END AS bytes \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam \
    LEFT JOIN LATERAL (SELECT sum(l.reltuples::float8) FILTER (WHERE l.reltuples >= 0) AS rows, \
        sum(CASE WHEN l.relkind = 'r' THEN pg_table_size(l.oid) END)::int8 AS bytes \
        FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE t.isleaf) leaves ON c.relkind = 'p' \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// Partitions count with their parent; Linkspan's own tables, those that a replace fills among them, are nobody's data.
const READABLE: &str = "NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND n.nspname !~ '^_linkspan' AND c.relname !~ '^_linkspan' AND c.relname !~ '^_ls_[0-9a-f]{8}_[0-9]+_[0-9a-f]{16}$' AND has_schema_privilege(n.oid, 'USAGE') \
    AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))";

/// SQL that counts what `load` would show in all schemas.
pub(super) fn count() -> String {
    format!(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {READABLE}"
    )
}

const COLUMNS: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), \
    NOT a.attnotnull, a.attgenerated <> '' \
    FROM pg_attribute a WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped \
    AND has_column_privilege(a.attrelid, a.attnum, 'SELECT') ORDER BY a.attrelid, a.attnum";

async fn load_columns(client: &impl GenericClient, oids: &[u32]) -> Result<HashMap<u32, Vec<Column>>> {
    let types = Types::load(client).await?;
    let mut found: HashMap<u32, Vec<Column>> = HashMap::new();
    for row in client.query(COLUMNS, &[&oids]).await.pg("listing the columns")? {
        let (form, base) = types.form(row.get(2), row.get(3));
        let column = Column { name: row.get(1), form, native: row.get(4), base, nullable: row.get(5), generated: row.get(6) };
        found.entry(row.get(0)).or_default().push(column);
    }
    Ok(found)
}

/// The types that are not what their object id says: domains and enums.
pub(super) struct Types(HashMap<u32, UserType>);

struct UserType {
    kind: char,
    base: u32,
    typmod: i32,
    base_name: String,
}

impl Types {
    pub async fn load(client: &impl GenericClient) -> Result<Self> {
        let sql = "SELECT oid, typtype::text, typbasetype, typtypmod, coalesce(format_type(nullif(typbasetype, 0), typtypmod), '') \
            FROM pg_type WHERE typtype IN ('d', 'e')";
        let rows = client.query(sql, &[]).await.pg("listing the types")?;
        let user_type = |row: &Row| UserType {
            kind: row.get::<_, &str>(1).chars().next().unwrap_or('b'),
            base: row.get(2),
            typmod: row.get(3),
            base_name: row.get(4),
        };
        Ok(Self(rows.iter().map(|row| (row.get(0), user_type(row))).collect()))
    }

    /// The form of a type, and the name of the type under a domain. A domain may stand on a domain.
    pub fn form(&self, oid: u32, typmod: i32) -> (Form, Option<String>) {
        let (mut oid, mut typmod, mut base) = (oid, typmod, None);
        while let Some(domain) = self.0.get(&oid).filter(|t| t.kind == 'd') {
            (oid, typmod) = (domain.base, domain.typmod);
            base = Some(domain.base_name.clone());
        }
        (Form::of(oid, self.0.get(&oid).map_or('b', |t| t.kind), typmod), base)
    }
}

/// The primary key, else the smallest unique index whose columns are never null.
const KEYS: &str = "SELECT i.indrelid, k.columns FROM pg_index i CROSS JOIN LATERAL ( \
        SELECT array_agg(a.attname::text ORDER BY u.at) AS columns, bool_and(a.attnotnull) AS solid \
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(num, at) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.num \
        WHERE u.at <= i.indnkeyatts) k \
    WHERE i.indrelid = ANY($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
    AND (i.indisprimary OR (i.indimmediate AND k.solid)) ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid";

async fn load_keys(client: &impl GenericClient, oids: &[u32]) -> Result<HashMap<u32, Vec<String>>> {
    let mut found: HashMap<u32, Vec<String>> = HashMap::new();
    for row in client.query(KEYS, &[&oids]).await.pg("listing the keys")? {
        found.entry(row.get(0)).or_insert_with(|| row.get(1));
    }
    Ok(found)
}

/// A leaf of a partitioned table.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub oid: u32,
    pub name: StreamName,
    pub heap: bool,
    pub readable: bool,
}

pub(super) async fn leaves(client: &impl GenericClient, parent: u32) -> Result<Vec<Leaf>> {
    let sql = "SELECT l.oid, n.nspname::text, l.relname::text, l.relkind = 'r' AND coalesce(am.amname, '') = 'heap', \
        has_table_privilege(l.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AND NOT l.relrowsecurity \
        FROM pg_partition_tree($1::oid::regclass) t JOIN pg_class l ON l.oid = t.relid JOIN pg_namespace n ON n.oid = l.relnamespace \
        LEFT JOIN pg_am am ON am.oid = l.relam WHERE t.isleaf AND l.relkind <> 'p' ORDER BY 2, 3";
    let rows = client.query(sql, &[&parent]).await.pg("listing the partitions")?;
    let leaf = |r: &Row| Leaf { oid: r.get(0), name: StreamName::new(Some(r.get(1)), r.get(2)), heap: r.get(3), readable: r.get(4) };
    Ok(rows.iter().map(leaf).collect())
}

/// An error for a table that is not there, with the nearest name of those that are.
pub(super) async fn no_such_table(client: &impl GenericClient, name: &StreamName) -> Error {
    let error = Error::new(ErrorKind::NotFound, "there is no such table").with("stream", name);
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {READABLE} LIMIT 5000"
    );
    let known: Vec<String> = client.query(&sql, &[]).await.map(|rows| rows.iter().map(|r| r.get(0)).collect()).unwrap_or_default();
    let fix = suggest::did_you_mean(&name.to_string(), known.iter().map(String::as_str));
    error.fix(fix.unwrap_or_else(|| "run discover to see what the login can read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, form: Form) -> Column {
        Column { name: name.into(), form, native: String::new(), base: None, nullable: true, generated: false }
    }

    #[test]
    fn cursors_come_best_first_and_only_what_has_an_order() {
        let columns = [
            column("id", Form::Int8),
            column("doc", Form::Jsonb),
            column("created", Form::TimestampTz),
            column("ok", Form::Bool),
            column("updated_at", Form::Timestamp),
        ];
        assert_eq!(cursor(&columns), Cursor::Columns(vec!["updated_at".into(), "created".into(), "id".into()]));
        assert_eq!(cursor(&columns[1..2]), Cursor::None);
    }

    #[test]
    fn types_without_a_binary_form_are_cast() {
        assert_eq!(select_list(&[column("a", Form::Int8), column("B\"", Form::AsText)]), "\"a\", \"B\"\"\"::pg_catalog.text");
    }
}
