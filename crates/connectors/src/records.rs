//! JSON records as columns, for sources whose records come without a schema. A number that its type would change stays text.

use std::{borrow::Cow, fmt};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::{
    Error, ErrorKind, JsonRows, Result, Retry,
    native::{JSON_TEXT, has_mark, with_mark},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::whole::Batches;

const BATCH_ROWS: usize = 1024;
/// Records that name more fields than this are data by key, and no rows.
const MOST_COLUMNS: usize = 1024;
/// Numbers of so many digits are exact as doubles.
const DOUBLE_DIGITS: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    /// An integer that is exact as a double too.
    Small,
    Int,
    Float,
    /// Texts as they are, anything else as its JSON.
    Text,
    /// Everything as JSON.
    Json,
}

impl Kind {
    fn of(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'n') | None => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'"') => Self::Text,
            Some(b'{' | b'[') => Self::Json,
            _ if value.parse::<i64>().is_ok() && value.len() <= DOUBLE_DIGITS => Self::Small,
            _ if value.parse::<i64>().is_ok() => Self::Int,
            _ if is_exact(value) => Self::Float,
            _ => Self::Text,
        }
    }
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Null, kind) | (kind, Self::Null) => kind,
            (Self::Json, _) | (_, Self::Json) => Self::Json,
            (Self::Small, Self::Int) | (Self::Int, Self::Small) => Self::Int,
            (Self::Small, Self::Float) | (Self::Float, Self::Small) => Self::Float,
            _ => Self::Text,
        }
    }
    fn field(self, name: &str) -> Field {
        match self {
            Self::Bool => Field::new(name, DataType::Boolean, true),
            Self::Small | Self::Int => Field::new(name, DataType::Int64, true),
            Self::Float => Field::new(name, DataType::Float64, true),
            Self::Null | Self::Text => Field::new(name, DataType::Utf8, true),
            Self::Json => with_mark(Field::new(name, DataType::Utf8, true), JSON_TEXT, ""),
        }
    }
    fn of_field(field: &Field) -> Self {
        match field.data_type() {
            DataType::Boolean => Self::Bool,
            DataType::Int64 => Self::Int,
            DataType::Float64 => Self::Float,
            _ if has_mark(field, JSON_TEXT) => Self::Json,
            _ => Self::Text,
        }
    }
    /// The value as JSON that the column takes.
    fn write(self, value: &str, out: &mut String) {
        match self {
            Self::Json if value != "null" => out.push_str(&serde_json::Value::from(value).to_string()),
            Self::Text if value != "null" && !value.starts_with('"') => out.push_str(&serde_json::Value::from(value).to_string()),
            _ => out.push_str(value),
        }
    }
}

/// Whether a double holds what the digits say.
fn is_exact(number: &str) -> bool {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let is_zero = mantissa.bytes().all(|b| matches!(b, b'-' | b'.' | b'0'));
    let same = |v: f64| v.is_normal() && (digits <= DOUBLE_DIGITS || v.to_string() == number || format!("{v:e}") == number);
    is_zero || number.parse().is_ok_and(same)
}

/// A record's fields in their order, each with its JSON.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(record: D) -> Result<Self, D::Error> {
        struct Order;
        impl<'de> Visitor<'de> for Order {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((Cow::Owned(name), value.get()));
                }
                Ok(Fields(fields))
            }
        }
        record.deserialize_map(Order)
    }
}

fn fields(at: usize, record: &RawValue) -> Result<Vec<(Cow<'_, str>, &str)>> {
    let fields = serde_json::from_str::<Fields<'_>>(record.get()).map_err(|_| {
        Error::new(ErrorKind::DataInvalid, "a record is no JSON object")
            .with("record", at + 1)
            .fix("each record must be an object whose fields are the columns: check the URL")
    })?;
    Ok(fields.0)
}

/// Records keep to one order more often than not: the column at the field's own place is tried first.
fn place<T>(columns: &[T], at: usize, is_it: impl Fn(&T) -> bool) -> Option<usize> {
    columns.get(at).filter(|c| is_it(c)).map(|_| at).or_else(|| columns.iter().position(is_it))
}

/// The columns that hold all records.
pub(crate) fn schema(records: &[Box<RawValue>]) -> Result<SchemaRef> {
    let mut columns: Vec<(String, Kind)> = Vec::new();
    for (row, record) in records.iter().enumerate() {
        for (at, (name, value)) in fields(row, record)?.into_iter().enumerate() {
            match place(&columns, at, |(known, _)| *known == name) {
                Some(at) => columns[at].1 = columns[at].1.and(Kind::of(value)),
                None if columns.len() == MOST_COLUMNS => {
                    return Err(Error::new(ErrorKind::DataInvalid, "the records have too many different fields")
                        .with("limit", MOST_COLUMNS)
                        .fix("ask for records whose fields have the same names, or fewer of them"));
                }
                None => columns.push((name.into_owned(), Kind::of(value))),
            }
        }
    }
    Ok(Schema::new(columns.iter().map(|(name, kind)| kind.field(name)).collect::<Vec<_>>()).into())
}

/// The records in a schema that was found in an earlier answer; one that does not fit it is an error.
pub(crate) fn batches(records: Vec<Box<RawValue>>, schema: SchemaRef) -> Batches {
    let mut records = records.into_iter().enumerate();
    Box::new(std::iter::from_fn(move || {
        let rows: Vec<_> = records.by_ref().take(BATCH_ROWS).collect();
        (!rows.is_empty()).then(|| batch(&rows, &schema))
    }))
}

fn batch(rows: &[(usize, Box<RawValue>)], schema: &SchemaRef) -> Result<RecordBatch> {
    let (mut text, mut ranges) = (String::new(), Vec::with_capacity(rows.len()));
    for (row, record) in rows {
        let start = text.len() as u32;
        text.push('{');
        for (at, (name, value)) in fields(*row, record)?.into_iter().enumerate() {
            let column = place(schema.fields(), at, |f| *f.name() == name).map(|at| Kind::of_field(schema.field(at)));
            let Some(column) = column.filter(|c| c.and(Kind::of(value)) == *c) else {
                return Err(Error::new(ErrorKind::SchemaDrift, "the records changed while they were read")
                    .with("column", name)
                    .fix("run again")
                    .retry(Retry::Backoff));
            };
            if at > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::Value::from(name).to_string());
            text.push(':');
            column.write(value, &mut text);
        }
        text.push('}');
        ranges.push((start, text.len() as u32));
    }
    JsonRows::new(text.into(), ranges).to_arrow(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (Vec<String>, Vec<String>) {
        let records: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
        let schema = schema(&records).unwrap();
        let kinds = schema.fields().iter().map(|f| format!("{}:{:?}", f.name(), Kind::of_field(f))).collect();
        let rows = batches(records, schema).next().unwrap().unwrap();
        let options = arrow_cast::display::FormatOptions::default().with_null("-");
        let cells = rows.columns().iter().map(|c| {
            let format = arrow_cast::display::ArrayFormatter::try_new(c, &options).unwrap();
            (0..c.len()).map(|r| format.value(r).to_string()).collect::<Vec<_>>().join("|")
        });
        (kinds, cells.collect())
    }

    #[test]
    fn no_value_is_changed_by_its_column() {
        let (kinds, cells) = shown(
            r#"[{"z":1,"a":true,"n":null,"big":9007199254740993,"mixed":9007199254740993,"price":12.50,"long":0.12345678901234567891,"o":{"k":[1]}},
            {"z":-7,"a":null,"big":1,"mixed":0.5,"price":3,"long":18446744073709551616,"o":"é\n","late":"\"q\""}]"#,
        );
        assert_eq!(kinds, ["z:Int", "a:Bool", "n:Text", "big:Int", "mixed:Text", "price:Float", "long:Text", "o:Json", "late:Text"]);
        assert_eq!(
            cells,
            [
                "1|-7",
                "true|-",
                "-|-",
                "9007199254740993|1",
                "9007199254740993|0.5",
                "12.5|3.0",
                "0.12345678901234567891|18446744073709551616",
                r#"{"k":[1]}|"é\n""#,
                r#"-|"q""#
            ]
        );
    }

    #[test]
    fn a_record_that_does_not_fit_is_an_error() {
        let records = |text| serde_json::from_str::<Vec<Box<RawValue>>>(text).unwrap();
        let schema = schema(&records(r#"[{"id":1}]"#)).unwrap();
        for changed in [r#"[{"id":"x"}]"#, r#"[{"id":1,"new":2}]"#] {
            let e = batches(records(changed), schema.clone()).next().unwrap().unwrap_err();
            assert_eq!((e.kind(), e.retry_hint()), (ErrorKind::SchemaDrift, Retry::Backoff));
        }
        let e = super::schema(&records("[{}, 5]")).unwrap_err();
        assert_eq!(e.to_string(), "a record is no JSON object [record=2]");
        let wide: Vec<String> = (0..=MOST_COLUMNS).map(|i| format!("\"c{i}\":1")).collect();
        assert_eq!(super::schema(&records(&format!("[{{{}}}]", wide.join(",")))).unwrap_err().kind(), ErrorKind::DataInvalid);
    }
}
