//! Columns of tables that we make: the type a field becomes, and the way its values are written. Pure; it never asks a server.

use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::{Error, ErrorKind, Result, native};
use serde::{Deserialize, Serialize};

use super::{
    server::Flavor,
    sql::{list, literal},
    types::{SRID, SYSTEM},
};

/// The server refuses longer names.
const MAX_NAME: usize = 64;
/// What all columns of one index may take together, in bytes.
const MAX_INDEX: usize = 3072;

/// The SQL type of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SqlType {
    pub text: String,
    pub way: Way,
    /// The most characters (of text) or bytes that fit; none when any length does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<usize>,
}

/// How values of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// Digits, dates and times, as they are spelt.
    Plain,
    Flag,
    Text,
    Json,
    Bytes,
    Bits,
    /// A `year`: of fewer than four digits the server makes another one.
    Year,
    /// A `timestamp`, which holds 1970 to 2038 only.
    Epoch,
    /// Well-known binary, which the server keeps behind the id of a reference system.
    Spatial(u32),
}

impl SqlType {
    fn new(text: impl Into<String>, way: Way) -> Self {
        Self { text: text.into(), way, most: None }
    }
    fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Way::Plain)
    }
    fn limited(self, most: usize) -> Self {
        Self { most: Some(most), ..self }
    }
}

/// The type for a field: its own when it comes from this system, else the one that holds every value of its Arrow type. `in_key` is how
/// many columns the key has, for a column of it.
pub(super) fn sql_type(field: &Field, flavor: Flavor, in_key: Option<usize>) -> SqlType {
    if let Some(again) = native::native_in(field, SYSTEM).and_then(|native| again(&native, field, flavor)) {
        // A type without a limit cannot be in an index.
        if in_key.is_none() || again.most.is_some() || !matches!(again.way, Way::Text | Way::Bytes | Way::Json | Way::Spatial(_)) {
            return again;
        }
    }
    of_arrow(field, flavor, in_key)
}

fn of_arrow(field: &Field, flavor: Flavor, in_key: Option<usize>) -> SqlType {
    use DataType::*;
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "",
        TimeUnit::Millisecond => "(3)",
        TimeUnit::Microsecond | TimeUnit::Nanosecond => "(6)",
    };
    match field.data_type() {
        Boolean => SqlType::new("tinyint(1)", Way::Flag),
        Int8 => SqlType::plain("tinyint"),
        Int16 => SqlType::plain("smallint"),
        Int32 => SqlType::plain("int"),
        Int64 | Duration(_) => SqlType::plain("bigint"),
        UInt8 => SqlType::plain("tinyint unsigned"),
        UInt16 => SqlType::plain("smallint unsigned"),
        UInt32 => SqlType::plain("int unsigned"),
        UInt64 => SqlType::plain("bigint unsigned"),
        Float16 | Float32 => SqlType::plain("float"),
        Float64 => SqlType::plain("double"),
        Decimal128(p, s) | Decimal256(p, s) if *p <= 65 && (0..=30).contains(s) && i16::from(*s) <= i16::from(*p) => {
            SqlType::plain(format!("decimal({p},{s})"))
        }
        Date32 | Date64 => SqlType::plain("date"),
        Timestamp(unit, _) => SqlType::plain(format!("datetime{}", digits(unit))),
        Time32(unit) | Time64(unit) => SqlType::plain(format!("time{}", digits(unit))),
        FixedSizeBinary(n @ 1..=255) => SqlType::new(format!("binary({n})"), Way::Bytes).limited(usize::try_from(*n).unwrap_or(255)),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => match in_key {
            None => SqlType::new("longblob", Way::Bytes),
            Some(columns) => {
                let most = (MAX_INDEX / columns.max(1)).min(1024);
                SqlType::new(format!("varbinary({most})"), Way::Bytes).limited(most)
            }
        },
        Dictionary(_, values) => of_arrow(&field.clone().with_data_type(values.as_ref().clone()), flavor, in_key),
        kind if kind.is_nested() || native::has_mark(field, native::JSON_TEXT) => SqlType::new("json", Way::Json),
        _ => text(flavor, in_key),
    }
}

fn text(flavor: Flavor, in_key: Option<usize>) -> SqlType {
    match in_key {
        None => SqlType::new(format!("longtext {}", exact(flavor)), Way::Text),
        Some(columns) => {
            let most = (MAX_INDEX / 4 / columns.max(1)).min(512);
            SqlType::new(format!("varchar({most}) {}", exact(flavor)), Way::Text).limited(most)
        }
    }
}

/// Texts are equal when all their characters are, case and trailing spaces included.
fn exact(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Mysql => "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        Flavor::Mariadb => "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    }
}

/// The type again, from its known name and the digits of its modifiers, so that no text of a source's schema gets into a statement.
/// None for types that the Arrow type says as well.
fn again(native: &str, field: &Field, flavor: Flavor) -> Option<SqlType> {
    let (name, rest) = native.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or((native, ""), |at| native.split_at(at));
    let number = || rest.strip_prefix('(')?.split([',', ')']).next()?.parse::<usize>().ok();
    let is_text = matches!(field.data_type(), DataType::Utf8);
    let sized = |way: Way, tail: &str| Some(SqlType::new(format!("{name}({}){tail}", number()?), way).limited(number()?));
    let exact = exact(flavor);
    match name {
        "char" | "varchar" if is_text => sized(Way::Text, &format!(" {exact}")),
        "tinytext" | "text" | "mediumtext" | "longtext" if is_text => {
            Some(SqlType::new(format!("{name} {exact}"), Way::Text).with_room(name))
        }
        "enum" | "set" if is_text => {
            Some(SqlType::new(format!("{name}({}) {exact}", list(labels(rest)?.iter().map(|l| literal(l)))), Way::Text))
        }
        "binary" | "varbinary" if matches!(field.data_type(), DataType::Binary) => sized(Way::Bytes, ""),
        "tinyblob" | "blob" | "mediumblob" | "longblob" if matches!(field.data_type(), DataType::Binary) => {
            Some(SqlType::new(name, Way::Bytes).with_room(name))
        }
        "mediumint" => Some(SqlType::plain(if rest.contains("unsigned") { "mediumint unsigned" } else { "mediumint" })),
        "year" if *field.data_type() == DataType::Int16 => Some(SqlType::new("year", Way::Year)),
        "bit" if matches!(field.data_type(), DataType::UInt64 | DataType::Boolean) => Some(SqlType::new(
            format!("bit({})", number().unwrap_or(1)),
            if *field.data_type() == DataType::Boolean { Way::Flag } else { Way::Bits },
        )),
        "datetime" | "time" if field.data_type().is_temporal() || is_text => {
            Some(SqlType::plain(format!("{name}({})", number().unwrap_or(0))).if_text(is_text))
        }
        "timestamp" if matches!(field.data_type(), DataType::Timestamp(_, Some(_))) => {
            Some(SqlType::new(format!("timestamp({})", number().unwrap_or(0)), Way::Epoch))
        }
        "timestamp" if is_text => Some(SqlType::plain(format!("datetime({})", number().unwrap_or(0))).if_text(true)),
        "date" if is_text => Some(SqlType::plain("date").if_text(true)),
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geomcollection"
        | "geometrycollection"
            if matches!(field.data_type(), DataType::Binary) =>
        {
            let srid = field.metadata().get(SRID).and_then(|s| s.parse().ok()).unwrap_or(0);
            // MariaDB does not know the short name that MySQL's catalog has for it.
            let name = if name == "geomcollection" { "geometrycollection" } else { name };
            Some(SqlType::new(name, Way::Spatial(srid)))
        }
        _ => None,
    }
}

impl SqlType {
    /// Dates and times that travelled as text are written as the text they are.
    fn if_text(self, is_text: bool) -> Self {
        if is_text { Self { way: Way::Text, ..self } } else { self }
    }
    fn with_room(self, name: &str) -> Self {
        let most = match name {
            "tinytext" | "tinyblob" => 255,
            "text" | "blob" => 65_535,
            "mediumtext" | "mediumblob" => 16_777_215,
            _ => return self,
        };
        // Bytes for both; a text's characters are checked by its bytes in the worst case.
        Self { most: Some(if self.way == Way::Text { most / 4 } else { most }), ..self }
    }
}

/// The labels of `('a','it''s')`; none when it is not such a list.
fn labels(rest: &str) -> Option<Vec<String>> {
    let mut rest = rest.strip_prefix('(')?;
    let mut labels = Vec::new();
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut label = String::new();
        loop {
            let at = rest.find('\'')?;
            label.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.strip_prefix('\'') {
                Some(after) => {
                    label.push('\'');
                    rest = after;
                }
                None => break,
            }
        }
        labels.push(label);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return rest.starts_with(')').then_some(labels),
        }
    }
}

/// Refuses a name that the server would refuse, or would change.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let reason = match name {
        "" => "a name must not be empty",
        _ if name.chars().count() > MAX_NAME => "a name must not be longer than 64 characters",
        _ if name.ends_with(' ') => "a name must not end with a space",
        _ if name.chars().any(|c| c == '\0' || u32::from(c) > 0xffff) => {
            "a name must not hold a NUL, nor characters beyond the basic plane"
        }
        _ => return Ok(()),
    };
    let fix = if what == "column" { "rename the column at the source, or in a query" } else { "choose another name with --target" };
    Err(Error::new(ErrorKind::ConfigInvalid, reason).with(what, name.chars().take(80).collect::<String>()).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data_type: DataType) -> String {
        sql_type(&Field::new("c", data_type, true), Flavor::Mysql, None).text
    }
    fn native(data_type: DataType, name: &str) -> String {
        sql_type(&native::with_native(Field::new("c", data_type, true), SYSTEM, name), Flavor::Mysql, None).text
    }

    #[test]
    fn every_arrow_type_has_a_column_that_holds_it() {
        assert_eq!(of(DataType::UInt64), "bigint unsigned");
        assert_eq!(of(DataType::Decimal256(65, 30)), "decimal(65,30)");
        assert!(of(DataType::Decimal256(66, 0)).starts_with("longtext"), "more digits than the server has are kept as text");
        assert!(of(DataType::Decimal128(38, 37)).starts_with("longtext"));
        assert_eq!(of(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))), "datetime(6)");
        assert_eq!(of(DataType::FixedSizeBinary(16)), "binary(16)");
        let text = Field::new("k", DataType::Utf8, false);
        assert!(sql_type(&text, Flavor::Mariadb, Some(2)).text.starts_with("varchar(384)"));
    }

    #[test]
    fn a_type_of_the_same_system_is_made_again_and_nothing_is_spliced_in() {
        assert!(native(DataType::Utf8, "varchar(20)").starts_with("varchar(20)"));
        assert!(native(DataType::Utf8, "enum('a','it''s)')").starts_with("enum('a', 'it\\'s)')"));
        assert_eq!(native(DataType::UInt64, "bit(9)"), "bit(9)");
        assert_eq!(native(DataType::Int16, "year(4)"), "year");
        assert_eq!(native(DataType::Binary, "geomcollection"), "geometrycollection");
        for bad in ["varchar(20); DROP TABLE x", "enum('a'); DROP TABLE x", "enum('a", "int); DROP"] {
            assert!(!native(DataType::Utf8, bad).contains("DROP"), "{bad}");
        }
    }

    #[test]
    fn a_name_that_the_server_would_not_keep_is_refused() {
        assert!(check_name("table", &"表".repeat(64)).is_ok());
        for bad in ["", "a ", &"x".repeat(65), "🦀", "a\0"] {
            assert!(check_name("table", bad).unwrap_err().suggested_fix().is_some());
        }
    }
}
