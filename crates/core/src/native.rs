//! The type plane's marks: what a column was in its own system, so that a destination of the same system makes it again.

use std::collections::HashMap;

use arrow_schema::Field;
use serde::{Deserialize, Serialize};

/// JSON of `Native`.
pub const NATIVE: &str = "ls.native";
/// Marks a `Utf8` column that holds exact decimal text (`12.50`, `NaN`, `Infinity`, `-Infinity`).
pub const DECIMAL_TEXT: &str = "ls.decimal";
/// Marks a date or timestamp column whose extreme values (`MIN`, `MAX` of the storage type) stand for -infinity and infinity.
pub const INFINITY: &str = "ls.infinity";
/// Marks a `Utf8` column that holds a JSON document.
pub const JSON_TEXT: &str = "ls.json";
/// On an `Int8` column: the decimal column whose specials it carries (0 = NaN, 1 = Infinity, -1 = -Infinity, null = none).
pub const SPECIAL_OF: &str = "ls.special_of";

/// The type of a column in its own system, as that system spells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Native {
    pub system: String,
    #[serde(rename = "type")]
    pub type_name: String,
}

pub fn with_native(field: Field, system: &str, type_name: &str) -> Field {
    let native = Native { system: system.to_owned(), type_name: type_name.to_owned() };
    with_mark(field, NATIVE, serde_json::to_string(&native).unwrap_or_default())
}

pub fn native_of(field: &Field) -> Option<Native> {
    field.metadata().get(NATIVE).and_then(|text| serde_json::from_str(text).ok())
}

/// The native type, if the field comes from that system.
pub fn native_in(field: &Field, system: &str) -> Option<String> {
    native_of(field).filter(|n| n.system == system).map(|n| n.type_name)
}

pub fn with_mark(field: Field, mark: &str, value: impl Into<String>) -> Field {
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.insert(mark.to_owned(), value.into());
    field.with_metadata(metadata)
}

pub fn has_mark(field: &Field, mark: &str) -> bool {
    field.metadata().contains_key(mark)
}

/// The name of the column that carries a decimal column's NaN and infinities.
pub fn special_name(column: &str) -> String {
    format!("{column}__special")
}
