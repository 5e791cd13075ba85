//! The type plane between Arrow and SQLite's five storage classes. A column is declared so that SQLite's affinity rules leave every
//! stored value as it is; the exact Arrow type is kept beside the table.

use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::native::{self, DECIMAL_TEXT};

/// The system name in `ls.native`.
pub(super) const SYSTEM: &str = "sqlite";

/// What SQLite does to a value that is stored in a column, by its declared type (https://sqlite.org/datatype3.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

pub(super) fn affinity(declared: &str) -> Affinity {
    let name = declared.to_ascii_uppercase();
    let has = |word: &str| name.contains(word);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || name.is_empty() {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// The declared type of a column that holds values of this field. Decimals and unsigned 64-bit numbers are text: SQLite's numeric
/// affinity would turn them into doubles. ISO dates never look like numbers, so they stay text under any name.
pub(super) fn declared(field: &Field) -> String {
    use DataType::*;
    let ours = match field.data_type() {
        Null => "",
        Boolean => "BOOLEAN",
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Duration(_) => "INTEGER",
        Float16 | Float32 | Float64 => "REAL",
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => "BLOB",
        Date32 | Date64 => "DATE",
        Time32(_) | Time64(_) => "TIME",
        Timestamp(_, None) => "TIMESTAMP",
        Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        Dictionary(_, values) => return declared(&Field::new("", values.as_ref().clone(), true)),
        _ => "TEXT",
    };
    match native::native_in(field, SYSTEM) {
        Some(native) if affinity(&native) == affinity(ours) && plain(&native) => native,
        _ => ours.to_owned(),
    }
}

/// Whether a declared type of somebody's table may be spelt into our DDL.
fn plain(declared: &str) -> bool {
    declared.bytes().all(|b| b.is_ascii_alphanumeric() || b" _(),".contains(&b)) && !declared.to_ascii_uppercase().contains("PRIMARY")
}

/// The type that a stored column is read back as.
pub(super) fn kept(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => kept(values),
        other => other.clone(),
    }
}

/// What a sample of a column's values is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub integer: bool,
    pub real: bool,
    pub text: bool,
    pub blob: bool,
}

/// The field of a column of somebody else's table: by its declared type, unless a sample of its values contradicts it.
/// `is_instant` and `is_date` say whether all sampled texts have that form.
pub(super) fn foreign(name: &str, declared: &str, nullable: bool, seen: &Sampled) -> Field {
    let upper = declared.to_ascii_uppercase();
    let only_text = !seen.classes.integer && !seen.classes.real && !seen.classes.blob;
    let data_type = match affinity(declared) {
        _ if upper.starts_with("BOOL") && !seen.classes.text && !seen.classes.real && !seen.classes.blob && seen.booleans => {
            DataType::Boolean
        }
        _ if upper == "DATE" && only_text && seen.dates => DataType::Date32,
        _ if (upper.starts_with("DATETIME") || upper.starts_with("TIMESTAMP")) && only_text && seen.instants => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        _ if upper.starts_with("DATE") || upper.starts_with("TIME") || upper.starts_with("BOOL") => {
            by_classes(seen.classes, DataType::Utf8)
        }
        Affinity::Integer => by_classes(seen.classes, DataType::Int64),
        Affinity::Real => by_classes(seen.classes, DataType::Float64),
        Affinity::Text => by_classes(seen.classes, DataType::Utf8),
        Affinity::Blob if declared.is_empty() => by_classes(seen.classes, DataType::Utf8),
        Affinity::Blob => DataType::Binary,
        Affinity::Numeric => return numeric(name, declared, nullable, seen),
    };
    native::with_native(Field::new(name, data_type, nullable), SYSTEM, declared)
}

/// NUMERIC and DECIMAL hold integers and doubles; exact decimal text holds both without rounding either.
fn numeric(name: &str, declared: &str, nullable: bool, seen: &Sampled) -> Field {
    let field = native::with_native(Field::new(name, DataType::Utf8, nullable), SYSTEM, declared);
    if seen.classes.text || seen.classes.blob { field } else { native::with_mark(field, DECIMAL_TEXT, "") }
}

/// The type that holds every sampled class; `empty` when the sample has only nulls.
fn by_classes(classes: Classes, empty: DataType) -> DataType {
    match classes {
        Classes { integer: false, real: false, text: false, blob: false } => empty,
        Classes { integer: true, real: false, text: false, blob: false } if empty != DataType::Float64 => DataType::Int64,
        Classes { text: false, blob: false, .. } if empty == DataType::Float64 => DataType::Float64,
        Classes { integer: false, real: true, text: false, blob: false } => DataType::Float64,
        Classes { integer: false, real: false, text: false, blob: true } => DataType::Binary,
        _ => DataType::Utf8,
    }
}

/// What was seen in the first rows of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sampled {
    pub classes: Classes,
    /// Every text has the form of a date.
    pub dates: bool,
    /// Every text has the form of a date with a time and no zone, in microseconds or coarser.
    pub instants: bool,
    /// Every integer is 0 or 1.
    pub booleans: bool,
}

impl Default for Sampled {
    fn default() -> Self {
        Self { classes: Classes::default(), dates: true, instants: true, booleans: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_declared_type_of_ours_lets_affinity_touch_a_value() {
        use DataType::*;
        let of = |t| affinity(&declared(&Field::new("c", t, true)));
        assert_eq!(of(Decimal128(10, 2)), Affinity::Text);
        assert_eq!(of(UInt64), Affinity::Text);
        assert_eq!(of(Int64), Affinity::Integer);
        assert_eq!(of(Float64), Affinity::Real);
        assert_eq!(of(Binary), Affinity::Blob);
        assert_eq!(of(Utf8), Affinity::Text);
    }

    #[test]
    fn a_native_type_is_made_again_only_where_it_keeps_the_values() {
        let text = native::with_native(Field::new("c", DataType::Utf8, true), SYSTEM, "VARCHAR(20)");
        assert_eq!(declared(&text), "VARCHAR(20)");
        let decimal = native::with_native(Field::new("c", DataType::Utf8, true), SYSTEM, "DECIMAL(10,2)");
        assert_eq!(declared(&decimal), "TEXT");
        let evil = native::with_native(Field::new("c", DataType::Utf8, true), SYSTEM, "TEXT); DROP TABLE x; --");
        assert_eq!(declared(&evil), "TEXT");
    }
}
