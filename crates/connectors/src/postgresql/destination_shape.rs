//! What stands at a target: its columns, its keys, and whether we made it. Reads only.

use std::sync::Arc;

use arrow_schema::{Field, FieldRef, Schema};
use linkspan_core::{Error, ErrorKind, Result, TableShape, native};

use super::{connect::Client, encode::Sent, errors::PgResult, types};

/// A table as the catalog has it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub oid: u32,
    pub kind: char,
    pub columns: Vec<TableColumn>,
    /// The primary key first, then the other unique indexes that rows can be found by.
    pub keys: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
pub(super) struct TableColumn {
    pub name: String,
    /// As `format_type` spells it: it can stand in a statement.
    pub sql_type: String,
    /// Where it is not the type's own: the collation decides which texts are equal.
    pub collation: Option<String>,
    pub sent: Sent,
    pub form: types::Form,
    pub not_null: bool,
    pub has_default: bool,
    /// Computed by the server: never written.
    pub generated: bool,
    /// Two values are equal for the server only when their bytes are.
    pub exact: bool,
}

const COLUMNS: &str = "WITH RECURSIVE base AS (\
      SELECT a.attnum, t.oid, t.typtype, t.typbasetype, a.atttypmod AS typmod FROM pg_catalog.pg_attribute a \
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
      UNION ALL SELECT b.attnum, t.oid, t.typtype, t.typbasetype, d.typtypmod FROM base b \
        JOIN pg_catalog.pg_type d ON d.oid = b.oid JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd') \
    SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef OR a.attidentity <> '' OR d.typdefault IS NOT NULL, \
      a.attgenerated <> '', b.oid, b.typtype, b.typmod, coalesce(c.collisdeterministic, true), \
      CASE WHEN a.attcollation <> d.typcollation THEN format('%I.%I', cn.nspname, c.collname) END \
    FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum AND b.typtype <> 'd' \
      JOIN pg_catalog.pg_type d ON d.oid = a.atttypid LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
      LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const KEYS: &str = "SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_catalog.pg_index i \
      CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place) \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
      AND k.place <= i.indnkeyatts GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid";

/// The table of that name, or nothing.
pub(super) async fn table(client: &Client, namespace: &str, name: &str) -> Result<Option<Table>> {
    let find = "SELECT c.oid, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
    let Some(row) = client.query_opt(find, &[&namespace, &name]).await.pg("looking for the table")? else { return Ok(None) };
    let (oid, kind) = (row.get::<_, u32>(0), letter(row.get(1)));
    let columns = client.query(COLUMNS, &[&oid]).await.pg("reading the table's columns")?;
    let keys = client.query(KEYS, &[&oid]).await.pg("reading the table's keys")?;
    Ok(Some(Table { oid, kind, columns: columns.iter().map(column).collect(), keys: keys.iter().map(|r| r.get(0)).collect() }))
}

fn letter(c: i8) -> char {
    c as u8 as char
}

fn column(row: &tokio_postgres::Row) -> TableColumn {
    let (base, kind, typmod): (u32, char, i32) = (row.get(5), letter(row.get(6)), row.get(7));
    let is_deterministic: bool = row.get(8);
    let form = types::Form::of(base, kind, typmod);
    let sent = sent(base, kind, typmod);
    let exact = match sent {
        Sent::Bool | Sent::Int2 | Sent::Int4 | Sent::Int8 | Sent::Oid | Sent::Uuid | Sent::Bytea | Sent::Date | Sent::Timestamp { .. } => {
            true
        }
        Sent::Text(_) => is_deterministic && base != types::oid::BPCHAR,
        Sent::Numeric(limit) => limit.is_some(),
        _ => false,
    };
    TableColumn {
        name: row.get(0),
        sql_type: row.get(1),
        collation: row.get(9),
        sent,
        form,
        not_null: row.get(2),
        has_default: row.get(3),
        generated: row.get(4),
        exact,
    }
}

/// How values of a type are sent. `base` is the type under a domain.
fn sent(base: u32, kind: char, typmod: i32) -> Sent {
    use types::oid;
    const OID: u32 = 26;
    const INTERVAL: u32 = 1186;
    // An interval's modifier also names fields; the server would cut the others, so only an open one is sent as numbers.
    const OPEN: i32 = -1;
    let digits = if typmod < 0 { 6 } else { typmod.min(6) as u8 };
    let limit = (typmod >= 4).then(|| typmod as u32 - 4);
    match base {
        oid::BOOL => Sent::Bool,
        oid::INT2 => Sent::Int2,
        oid::INT4 => Sent::Int4,
        oid::INT8 => Sent::Int8,
        OID => Sent::Oid,
        oid::FLOAT4 => Sent::Float4,
        oid::FLOAT8 => Sent::Float8,
        oid::NUMERIC => {
            Sent::Numeric((typmod >= 4).then(|| (((typmod - 4) >> 16) as u16, ((((typmod - 4) & 0x7ff) ^ 0x400) - 0x400) as i16)))
        }
        oid::TEXT | oid::JSON => Sent::Text(None),
        oid::VARCHAR | oid::BPCHAR => Sent::Text(limit),
        oid::NAME => Sent::Text(Some(63)),
        oid::JSONB => Sent::Jsonb,
        oid::BYTEA => Sent::Bytea,
        oid::UUID => Sent::Uuid,
        oid::DATE => Sent::Date,
        oid::TIME => Sent::Time(digits),
        oid::TIMESTAMP => Sent::Timestamp { zoned: false, digits },
        oid::TIMESTAMPTZ => Sent::Timestamp { zoned: true, digits },
        INTERVAL if typmod == OPEN => Sent::Interval,
        _ if kind == 'e' => Sent::Text(None),
        _ => Sent::Parsed,
    }
}

impl TableColumn {
    fn field(&self) -> Field {
        let field = self.form.field(&self.name, &self.sql_type, !self.not_null);
        if self.generated { native::with_mark(field, types::GENERATED, "") } else { field }
    }

    /// The type as a copy of the column needs it.
    pub(super) fn sql_type_with_collation(&self) -> String {
        match &self.collation {
            Some(collation) => format!("{} COLLATE {collation}", self.sql_type),
            None => self.sql_type.clone(),
        }
    }
}

impl Table {
    /// Refuses what rows cannot be copied into.
    pub(super) fn check_kind(&self, target: &str) -> Result<()> {
        let what = match self.kind {
            'r' | 'p' => return Ok(()),
            'v' => "a view",
            'm' => "a materialized view",
            _ => "a foreign table",
        };
        Err(Error::new(ErrorKind::AlreadyExists, format!("{what} has the target's name"))
            .with("target", target)
            .fix("write to another name with --target, or drop what is in the way"))
    }

    pub(super) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Whether the server itself keeps rows unique by exactly these columns.
    pub(super) fn has_key(&self, key: &[String]) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names
        };
        self.keys.iter().any(|k| sorted(k) == sorted(key))
    }

    /// The table in Arrow's words. The sibling that carries a decimal's NaN is no column here: it is folded into the numeric.
    pub(super) fn shape(&self, ours: bool) -> TableShape {
        let fields: Vec<FieldRef> = self.columns.iter().map(|c| c.field().into()).collect();
        TableShape { schema: Arc::new(Schema::new(fields)), key: self.keys.first().cloned().unwrap_or_default(), ours }
    }
}
