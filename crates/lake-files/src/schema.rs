//! Schemas: as the log keeps them, as Parquet types, and as the sum of several.

use std::sync::Arc;

use arrow_schema::{DataType, Field, IntervalUnit, Schema, SchemaRef};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use linkspan_core::{
    Error, ErrorKind, Result,
    native::{self, JSON_TEXT},
    widen,
};
use parquet::{
    arrow::{
        ArrowSchemaConverter, ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    },
    basic::LogicalType,
    schema::types::{SchemaDescriptor, Type},
};

/// A schema as text: a Parquet file without rows, so that log and files speak one language, marks included.
pub(crate) fn to_text(schema: &SchemaRef) -> Result<String> {
    let unwritable = |e| crate::errors::writing("the schema", e);
    let file = ArrowWriter::try_new(Vec::new(), schema.clone(), None).and_then(ArrowWriter::into_inner).map_err(unwritable)?;
    Ok(BASE64_STANDARD.encode(file))
}

pub(crate) fn of_text(text: &str) -> Result<SchemaRef> {
    let bad = || Error::new(ErrorKind::DataInvalid, "a schema in the commit log cannot be read");
    let file = BASE64_STANDARD.decode(text).map_err(|e| bad().because(e))?;
    let footer = ArrowReaderMetadata::load(&Bytes::from(file), ArrowReaderOptions::new()).map_err(|e| bad().because(e))?;
    Ok(plain(footer.schema()))
}

/// The schema without what the file says about itself.
pub(crate) fn plain(schema: &SchemaRef) -> SchemaRef {
    if schema.metadata().is_empty() { schema.clone() } else { Arc::new(Schema::new(schema.fields().clone())) }
}

/// What the files hold for rows of this schema: the few types that Parquet lacks travel as exact text.
pub(crate) fn stored(schema: &SchemaRef) -> SchemaRef {
    if !schema.fields().iter().any(|f| is_text_here(f.data_type())) {
        return schema.clone();
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| if is_text_here(f.data_type()) { f.as_ref().clone().with_data_type(DataType::Utf8) } else { f.as_ref().clone() })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Parquet's own interval counts milliseconds, so it cannot hold one with nanoseconds.
fn is_text_here(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(IntervalUnit::MonthDayNano))
}

/// Refuses what no file of ours can hold, before any row.
pub(crate) fn check_writable(schema: &SchemaRef) -> Result<()> {
    fn holds(data_type: &DataType) -> bool {
        match data_type {
            DataType::Union(..) | DataType::RunEndEncoded(..) | DataType::Interval(IntervalUnit::MonthDayNano) => false,
            DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|f| holds(f.data_type())),
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => holds(f.data_type()),
            _ => true,
        }
    }
    match schema.fields().iter().find(|f| !holds(f.data_type())) {
        None => Ok(()),
        Some(field) => Err(Error::new(ErrorKind::Unsupported, "Parquet cannot hold a column's type")
            .with("column", field.name())
            .with("type", field.data_type())
            .fix("leave the column out, or let the source send it as text")),
    }
}

/// The Parquet types, with `UUID` and `JSON` said where the marks say so.
pub(crate) fn descriptor(schema: &SchemaRef) -> Result<SchemaDescriptor> {
    let unwritable = |e| crate::errors::writing("the schema", e);
    let made = ArrowSchemaConverter::new().convert(schema).map_err(unwritable)?;
    let root = made.root_schema();
    let marked = schema.fields().iter().zip(root.get_fields());
    let columns = marked.map(|(field, made)| named(field, made)).collect::<Result<Vec<_>>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(columns).build().map_err(unwritable)?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn named(field: &Field, made: &Arc<Type>) -> Result<Arc<Type>> {
    let native = native::native_of(field).map(|n| n.type_name);
    let logical = match field.data_type() {
        DataType::FixedSizeBinary(16) if native.as_deref() == Some("uuid") => LogicalType::Uuid,
        DataType::Utf8 | DataType::LargeUtf8 if native::has_mark(field, JSON_TEXT) => LogicalType::Json,
        _ => return Ok(made.clone()),
    };
    let info = made.get_basic_info();
    let length = if logical == LogicalType::Uuid { 16 } else { -1 };
    let column = Type::primitive_type_builder(made.name(), made.get_physical_type())
        .with_repetition(info.repetition())
        .with_length(length)
        .with_logical_type(Some(logical))
        .build()
        .map_err(|e| crate::errors::writing("the schema", e))?;
    Ok(Arc::new(column))
}

/// The schema that holds the rows of both, columns of the first one first. A column that one of them lacks is nullable.
pub(crate) fn sum(stands: &SchemaRef, next: &SchemaRef) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(stands.fields().len());
    for field in stands.fields() {
        fields.push(match next.field_with_name(field.name()) {
            Ok(other) => widen::widen_field(field, other).ok_or_else(|| no_common_type(field, other))?,
            Err(_) => field.as_ref().clone().with_nullable(true),
        });
    }
    for field in next.fields() {
        if stands.field_with_name(field.name()).is_err() {
            fields.push(field.as_ref().clone().with_nullable(true));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The schema with one column more, or wider, or nullable.
pub(crate) fn grown(stands: &SchemaRef, field: &Field) -> Result<SchemaRef> {
    let one = stored(&Arc::new(Schema::new(vec![field.clone()])));
    sum_of_columns(stands, &one)
}

/// Like `sum`, but columns that the second one lacks stay as they are: rows of such a schema leave them out on purpose.
pub(crate) fn sum_of_columns(stands: &SchemaRef, next: &SchemaRef) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = stands.fields().iter().map(|f| f.as_ref().clone()).collect();
    for field in next.fields() {
        match fields.iter_mut().find(|f| f.name() == field.name()) {
            Some(known) => *known = widen::widen_field(known, field).ok_or_else(|| no_common_type(known, field))?,
            None => fields.push(field.as_ref().clone()),
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn no_common_type(a: &Field, b: &Field) -> Error {
    Error::new(ErrorKind::SchemaDrift, "the files of a table hold a column in types that have none in common")
        .with("column", a.name())
        .with("types", format!("{} and {}", a.data_type(), b.data_type()))
        .fix("keep such files in different folders")
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;

    use super::*;

    fn marked() -> SchemaRef {
        Arc::new(Schema::new(vec![
            native::with_native(Field::new("id", DataType::FixedSizeBinary(16), false), "postgresql", "uuid"),
            native::with_mark(Field::new("doc", DataType::Utf8, true), JSON_TEXT, ""),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("n", DataType::Decimal128(12, 2), true),
        ]))
    }

    #[test]
    fn a_schema_survives_the_log_with_its_marks() {
        assert_eq!(of_text(&to_text(&marked()).unwrap()).unwrap(), marked());
    }

    #[test]
    fn uuid_and_json_are_said_in_parquets_own_words() {
        let types = descriptor(&marked()).unwrap();
        assert_eq!(types.column(0).logical_type_ref(), Some(&LogicalType::Uuid));
        assert_eq!(types.column(1).logical_type_ref(), Some(&LogicalType::Json));
        assert_eq!(types.column(3).physical_type(), parquet::basic::Type::INT64, "a short decimal is an integer");
    }

    #[test]
    fn a_sum_of_schemas_loses_no_column_and_no_digit() {
        let a = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false), Field::new("a", DataType::Utf8, false)]));
        let b = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("b", DataType::Boolean, false)]));
        let both = sum(&a, &b).unwrap();
        let names: Vec<_> = both.fields().iter().map(|f| (f.name().as_str(), f.is_nullable())).collect();
        assert_eq!(names, [("id", false), ("a", true), ("b", true)]);
        assert_eq!(both.field(0).data_type(), &DataType::Int64);
    }
}
