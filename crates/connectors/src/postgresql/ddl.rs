//! The text of tables: which type a field becomes, and the statements that make and change a table. Pure; it never asks a server.

use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::{Error, ErrorKind, Result, native};

use super::{
    sql,
    types::{BASE_TYPE, SYSTEM},
};

/// The server cuts longer names silently, and two cut names may be one.
const MAX_NAME: usize = 63;

/// Types that every server has, as `format_type` spells them without modifiers.
const BUILTIN: [&str; 58] = [
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "text",
    "character varying",
    "character",
    "bpchar",
    "\"char\"",
    "name",
    "boolean",
    "bytea",
    "date",
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "xml",
    "money",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "bit",
    "bit varying",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "tsvector",
    "tsquery",
    "jsonpath",
    "pg_lsn",
    "oid",
    "xid",
    "cid",
    "tid",
    "regclass",
    "regtype",
    "int4multirange",
    "nummultirange",
    "datemultirange",
    "tstzmultirange",
];

/// The SQL type that a field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Every server has it.
    Builtin(String),
    /// A type of the source's own (an enum, a domain, an extension's), if this server has one of that name; else the second.
    Custom(String, String),
}

/// The type for a field: its own when it comes from PostgreSQL, else the one that holds every value of its Arrow type.
pub(super) fn wanted(field: &Field) -> Wanted {
    let Some(type_name) = native::native_in(field, SYSTEM) else { return Wanted::Builtin(of_arrow(field)) };
    if let Some(builtin) = builtin(&type_name) {
        return Wanted::Builtin(builtin);
    }
    let base = field.metadata().get(BASE_TYPE).and_then(|base| builtin(base));
    Wanted::Custom(type_name, base.unwrap_or_else(|| of_arrow(field)))
}

/// The type again, from its known name and the digits of its modifiers, so that no text of a source's schema gets into a statement.
fn builtin(type_name: &str) -> Option<String> {
    let (element, dimensions) = match type_name.find("[]") {
        Some(at) if type_name[at..].replace("[]", "").is_empty() => type_name.split_at(at),
        Some(_) => return None,
        None => (type_name, ""),
    };
    let (base, modifiers) = match (element.find('('), element.find(')')) {
        (Some(open), Some(close)) if open < close => {
            let modifiers = &element[open + 1..close];
            let is_numbers = modifiers.split(',').all(|m| m.trim().parse::<i32>().is_ok());
            if !is_numbers {
                return None;
            }
            (format!("{}{}", &element[..open], &element[close + 1..]), format!("({modifiers})"))
        }
        (None, None) => (element.to_owned(), String::new()),
        _ => return None,
    };
    if is_interval(&base) {
        return Some(format!("{base}{modifiers}{dimensions}"));
    }
    let known = BUILTIN.iter().find(|k| **k == base)?;
    // Modifiers stand in the middle of `timestamp(3) without time zone` and at the end of everything else.
    Some(match known.split_once(" with") {
        Some((head, tail)) if known.contains("time zone") => format!("{head}{modifiers} with{tail}{dimensions}"),
        _ => format!("{known}{modifiers}{dimensions}"),
    })
}

/// `interval`, or one that keeps some of its fields only.
fn is_interval(base: &str) -> bool {
    const FIELDS: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "to"];
    base.strip_prefix("interval ").is_some_and(|fields| fields.split(' ').all(|word| FIELDS.contains(&word)))
}

/// The type that holds every value of an Arrow type.
fn of_arrow(field: &Field) -> String {
    use DataType::*;
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "(0)",
        TimeUnit::Millisecond => "(3)",
        TimeUnit::Microsecond | TimeUnit::Nanosecond => "",
    };
    match field.data_type() {
        Boolean => "boolean".into(),
        Int8 | Int16 | UInt8 => "smallint".into(),
        Int32 | UInt16 => "integer".into(),
        Int64 | UInt32 => "bigint".into(),
        UInt64 => "numeric(20,0)".into(),
        Float16 | Float32 => "real".into(),
        Float64 => "double precision".into(),
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) if *s >= 0 && *p as i8 >= *s => format!("numeric({p},{s})"),
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => "numeric".into(),
        Binary | LargeBinary | BinaryView => "bytea".into(),
        FixedSizeBinary(16) if is_uuid(field) => "uuid".into(),
        FixedSizeBinary(_) => "bytea".into(),
        Date32 | Date64 => "date".into(),
        Time32(unit) | Time64(unit) => format!("time{}", digits(unit)),
        Timestamp(_, None) => "timestamp without time zone".into(),
        Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        Duration(_) | Interval(_) => "interval".into(),
        Dictionary(_, values) => of_arrow(&Field::new("", (**values).clone(), true).with_metadata(field.metadata().clone())),
        d if d.is_nested() => "jsonb".into(),
        _ if native::has_mark(field, native::DECIMAL_TEXT) => "numeric".into(),
        _ if native::has_mark(field, native::JSON_TEXT) => "jsonb".into(),
        _ => "text".into(),
    }
}

/// Sixteen bytes are a UUID when their maker says so, and bytes otherwise.
fn is_uuid(field: &Field) -> bool {
    field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
        || native::native_of(field).is_some_and(|n| n.type_name.eq_ignore_ascii_case("uuid"))
}

/// A column as a table is made with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewColumn {
    pub name: String,
    pub sql_type: String,
    pub not_null: bool,
}

impl NewColumn {
    fn text(&self) -> String {
        let not_null = if self.not_null { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", sql::ident(&self.name), self.sql_type)
    }
}

/// `CREATE TABLE`, with a primary key when there is one.
pub(super) fn create_table(table: &str, columns: &[NewColumn], key: &[String]) -> String {
    let mut parts: Vec<String> = columns.iter().map(NewColumn::text).collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", sql::list(key.iter().map(String::as_str))));
    }
    format!("CREATE TABLE IF NOT EXISTS {table} ({})", parts.join(", "))
}

/// A column that comes later is null in the rows that stand.
pub(super) fn add_column(table: &str, name: &str, sql_type: &str) -> String {
    format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {} {sql_type}", sql::ident(name))
}

/// The values that stand are cast by the server's own cast.
pub(super) fn change_type(table: &str, name: &str, sql_type: &str) -> String {
    let column = sql::ident(name);
    format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {sql_type} USING {column}::{sql_type}")
}

pub(super) fn drop_not_null(table: &str, name: &str) -> String {
    format!("ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL", sql::ident(name))
}

/// Refuses names that the server would cut or cannot have.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "a name is empty"
    } else if name.contains('\0') {
        "a name holds a NUL"
    } else if name.len() > MAX_NAME {
        "a name is longer than the server keeps (63 bytes)"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::ConfigInvalid, wrong)
        .with(what, name)
        .fix("give it another name: for a table with --target, for a column with a rename"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_pg(type_name: &str) -> Wanted {
        wanted(&native::with_native(Field::new("c", DataType::Utf8, true), SYSTEM, type_name))
    }

    #[test]
    fn a_type_of_postgresql_is_made_again() {
        for name in [
            "numeric(12,2)",
            "numeric",
            "character varying(20)",
            "integer[]",
            "timestamp(3) without time zone",
            "interval",
            "inet",
            "\"char\"",
            "timestamp with time zone",
            "time(0) with time zone",
            "tstzrange",
            "bit(8)",
            "text[]",
            "numeric(5,-2)",
            "time without time zone",
            "interval day to second(3)",
            "interval(3)",
            "interval year",
        ] {
            assert_eq!(from_pg(name), Wanted::Builtin(name.into()));
        }
        assert_eq!(from_pg("public.mood"), Wanted::Custom("public.mood".into(), "text".into()));
    }

    #[test]
    fn no_text_of_a_source_gets_into_a_statement() {
        for name in ["text); DROP TABLE x; --", "integer[]; --", "numeric(1); x(2)", "text(a)", "numeric(1)) x ("] {
            assert!(!matches!(from_pg(name), Wanted::Builtin(_)), "{name}");
        }
    }

    #[test]
    fn an_arrow_type_becomes_the_type_that_holds_it() {
        use DataType::*;
        let sql = |d: DataType| match wanted(&Field::new("c", d, true)) {
            Wanted::Builtin(t) => t,
            Wanted::Custom(..) => unreachable!(),
        };
        assert_eq!(sql(UInt64), "numeric(20,0)");
        assert_eq!(sql(UInt32), "bigint");
        assert_eq!(sql(Decimal128(38, 10)), "numeric(38,10)");
        assert_eq!(sql(Decimal128(5, -2)), "numeric");
        assert_eq!(sql(Timestamp(TimeUnit::Nanosecond, Some("+01:00".into()))), "timestamp with time zone");
        assert_eq!(sql(Dictionary(Box::new(Int32), Box::new(Utf8))), "text");
        assert_eq!(sql(List(Field::new("item", Int32, true).into())), "jsonb");
        assert_eq!(sql(FixedSizeBinary(16)), "bytea");
        let json = native::with_mark(Field::new("c", Utf8, true), native::JSON_TEXT, "");
        assert_eq!(wanted(&json), Wanted::Builtin("jsonb".into()));
        let decimal = native::with_mark(Field::new("c", Utf8, true), native::DECIMAL_TEXT, "");
        assert_eq!(wanted(&decimal), Wanted::Builtin("numeric".into()));
    }

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        assert!(check_name("table", &"x".repeat(63)).is_ok());
        assert!(check_name("table", &"x".repeat(64)).is_err());
        assert!(check_name("table", &"東".repeat(22)).is_err());
        assert!(check_name("table", "").is_err());
    }

    #[test]
    fn statements_quote_their_names() {
        let columns = [
            NewColumn { name: "id".into(), sql_type: "bigint".into(), not_null: true },
            NewColumn { name: "a\"b".into(), sql_type: "text".into(), not_null: false },
        ];
        assert_eq!(
            create_table("\"s\".\"t\"", &columns, &["id".into()]),
            "CREATE TABLE IF NOT EXISTS \"s\".\"t\" (\"id\" bigint NOT NULL, \"a\"\"b\" text, PRIMARY KEY (\"id\"))"
        );
        assert_eq!(change_type("t", "a", "text"), "ALTER TABLE t ALTER COLUMN \"a\" TYPE text USING \"a\"::text");
    }
}
