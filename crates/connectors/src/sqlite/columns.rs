//! SQLite's values to Arrow columns. A value of another class than its column's is never forced: the column widens to text.

#![allow(clippy::unit_arg, reason = "appending is the match arm's whole effect")]

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, NullBuilder, StringBuilder,
        UInt64Builder,
    },
    cast::AsArray,
    new_null_array,
    types::{Float32Type, Float64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use linkspan_core::{
    Change, ChangeKind, Changes, Error, ErrorKind, Reason, Result,
    native::{self, DECIMAL_TEXT, INFINITY},
};
use rusqlite::{Connection, Row, types::ValueRef};

use super::{
    file::{quoted, sql_error},
    tables::{Column, Table},
};
use crate::text::{cells::strict, parse, write};

/// How many rows a batch of a rebuild has.
const REBUILD_BATCH: usize = 8_192;

/// Rows under construction.
pub(super) struct Decoder {
    fields: Vec<Field>,
    cells: Vec<Cells>,
    rows: usize,
    bytes: usize,
    changes: Vec<Change>,
    scratch: Vec<u8>,
}

/// One column under construction, in the physical form that its type is read through.
enum Cells {
    Null(NullBuilder),
    Int(Int64Builder, i128, i128),
    UInt(UInt64Builder),
    Bool(BooleanBuilder),
    Real(Float64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    DecimalText(StringBuilder),
    Blob(BinaryBuilder),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder, bool),
    Instant(Int64Builder, TimeUnit, bool, bool),
    Time(Int64Builder),
}

impl Cells {
    fn of(field: &Field) -> Self {
        use DataType::*;
        let int = |low: i128, high: i128| Self::Int(Int64Builder::new(), low, high);
        match field.data_type() {
            Null => Self::Null(NullBuilder::new()),
            Int8 => int(-128, 127),
            Int16 => int(-32_768, 32_767),
            Int32 => int(i128::from(i32::MIN), i128::from(i32::MAX)),
            Int64 | Duration(_) => int(i128::from(i64::MIN), i128::from(i64::MAX)),
            UInt8 => int(0, 255),
            UInt16 => int(0, 65_535),
            UInt32 => int(0, i128::from(u32::MAX)),
            UInt64 => Self::UInt(UInt64Builder::new()),
            Boolean => Self::Bool(BooleanBuilder::new()),
            Float16 | Float32 => Self::Float(Float64Builder::new()),
            Float64 => Self::Real(Float64Builder::new()),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Self::Blob(BinaryBuilder::new()),
            Decimal128(p, s) => Self::Decimal(Decimal128Builder::new(), *p, *s),
            Date32 => Self::Date(Date32Builder::new(), native::has_mark(field, INFINITY)),
            Timestamp(unit, zone) => Self::Instant(Int64Builder::new(), *unit, zone.is_some(), native::has_mark(field, INFINITY)),
            Time32(_) | Time64(_) => Self::Time(Int64Builder::new()),
            Utf8 if native::has_mark(field, DECIMAL_TEXT) => Self::DecimalText(StringBuilder::new()),
            // The rest is text that is cast when the batch is whole.
            _ => Self::Text(StringBuilder::new()),
        }
    }
    fn push_null(&mut self) {
        match self {
            Self::Null(b) => b.append_null(),
            Self::Int(b, ..) | Self::Instant(b, ..) | Self::Time(b) => b.append_null(),
            Self::UInt(b) => b.append_null(),
            Self::Bool(b) => b.append_null(),
            Self::Real(b) | Self::Float(b) => b.append_null(),
            Self::Text(b) | Self::DecimalText(b) => b.append_null(),
            Self::Blob(b) => b.append_null(),
            Self::Decimal(b, ..) => b.append_null(),
            Self::Date(b, _) => b.append_null(),
        }
    }
    /// Takes the value in, or says that it does not fit. Text and blob columns take anything and say how they changed it.
    fn push(&mut self, value: ValueRef<'_>, scratch: &mut Vec<u8>) -> Fit {
        match (self, value) {
            (cells, ValueRef::Null) => {
                cells.push_null();
                Fit::Whole
            }
            (Self::Int(b, low, high), ValueRef::Integer(n)) if (*low..=*high).contains(&i128::from(n)) => took(b.append_value(n)),
            (Self::Bool(b), ValueRef::Integer(n @ (0 | 1))) => took(b.append_value(n == 1)),
            (Self::Real(b), ValueRef::Real(x)) => took(b.append_value(x)),
            (Self::Real(b), ValueRef::Integer(n)) if n.unsigned_abs() <= 1 << 53 => took(b.append_value(n as f64)),
            (Self::Float(b), ValueRef::Real(x)) if f64::from(x as f32) == x => took(b.append_value(x)),
            (Self::Float(b), ValueRef::Integer(n)) if n.unsigned_abs() <= 1 << 24 => took(b.append_value(n as f64)),
            // SQLite has no NaN: it is stored as text.
            (Self::Real(b) | Self::Float(b), ValueRef::Text(b"NaN")) => took(b.append_value(f64::NAN)),
            (Self::Text(b), value) => push_text(b, value, scratch),
            (Self::Blob(b), value) => push_blob(b, value, scratch),
            (Self::DecimalText(b), value) => push_decimal_text(b, value),
            (cells, ValueRef::Text(text)) => cells.push_formed(text),
            _ => Fit::Not,
        }
    }
    /// Text of a form: ours, exactly.
    fn push_formed(&mut self, text: &[u8]) -> Fit {
        let taken = match self {
            Self::UInt(b) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).map(|n| b.append_value(n)),
            Self::Decimal(b, precision, scale) => {
                let limit = 10i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
                parse::decimal(text, *scale).filter(|n| n.abs() < limit).map(|n| b.append_value(n))
            }
            Self::Date(b, infinite) => match (infinity(text), *infinite) {
                (Some(sign), true) => Some(b.append_value(if sign > 0 { i32::MAX } else { i32::MIN })),
                _ => parse::date(text).and_then(|d| i32::try_from(d).ok()).map(|d| b.append_value(d)),
            },
            Self::Instant(b, unit, zoned, infinite) => match (infinity(text), *infinite) {
                (Some(sign), true) => Some(b.append_value(if sign > 0 { i64::MAX } else { i64::MIN })),
                _ => parse::instant(text).filter(|i| i.zoned == *zoned).and_then(|i| i.ticks(*unit)).map(|t| b.append_value(t)),
            },
            Self::Time(b) => parse::time(text).map(|t| b.append_value(t)),
            _ => None,
        };
        if taken.is_some() { Fit::Whole } else { Fit::Not }
    }
    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Null(b) => Arc::new(b.finish()),
            Self::Int(b, ..) | Self::Instant(b, ..) | Self::Time(b) => Arc::new(b.finish()),
            Self::UInt(b) => Arc::new(b.finish()),
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Real(b) | Self::Float(b) => Arc::new(b.finish()),
            Self::Text(b) | Self::DecimalText(b) => Arc::new(b.finish()),
            Self::Blob(b) => Arc::new(b.finish()),
            Self::Decimal(b, ..) => Arc::new(b.finish()),
            Self::Date(b, _) => Arc::new(b.finish()),
        }
    }
}

/// What became of a value.
enum Fit {
    Whole,
    /// It is in the column in another form, which is recorded.
    Recast(Reason),
    Not,
}

fn took((): ()) -> Fit {
    Fit::Whole
}

fn infinity(text: &[u8]) -> Option<i8> {
    match text {
        b"infinity" => Some(1),
        b"-infinity" => Some(-1),
        _ => None,
    }
}

fn push_text(b: &mut StringBuilder, value: ValueRef<'_>, scratch: &mut Vec<u8>) -> Fit {
    scratch.clear();
    let fit = match value {
        ValueRef::Text(text) => match simdutf8::basic::from_utf8(text) {
            Ok(text) => {
                b.append_value(text);
                return Fit::Whole;
            }
            Err(_) => {
                hex_form(text, scratch);
                Fit::Recast(Reason::Invalid)
            }
        },
        ValueRef::Blob(bytes) => {
            hex_form(bytes, scratch);
            Fit::Recast(Reason::NotRepresentable)
        }
        ValueRef::Integer(n) => took(write::integer(scratch, n)),
        ValueRef::Real(x) => took(write::double(scratch, x)),
        ValueRef::Null => Fit::Not,
    };
    // What was written just now is ASCII.
    b.append_value(std::str::from_utf8(scratch).unwrap_or_default());
    fit
}

fn hex_form(bytes: &[u8], scratch: &mut Vec<u8>) {
    scratch.extend_from_slice(b"\\x");
    write::hex(scratch, bytes);
}

fn push_blob(b: &mut BinaryBuilder, value: ValueRef<'_>, scratch: &mut Vec<u8>) -> Fit {
    scratch.clear();
    match value {
        ValueRef::Blob(bytes) => return took(b.append_value(bytes)),
        ValueRef::Text(text) => scratch.extend_from_slice(text),
        ValueRef::Integer(n) => write::integer(scratch, n),
        ValueRef::Real(x) => write::double(scratch, x),
        ValueRef::Null => return Fit::Not,
    }
    b.append_value(&*scratch);
    Fit::Recast(Reason::NotRepresentable)
}

/// Integers and doubles as decimal digits without an exponent.
fn push_decimal_text(b: &mut StringBuilder, value: ValueRef<'_>) -> Fit {
    match value {
        ValueRef::Integer(n) => b.append_value(n.to_string()),
        ValueRef::Real(x) if x.is_finite() => b.append_value(x.to_string()),
        ValueRef::Real(x) => b.append_value(write::special(x)),
        ValueRef::Text(text @ (b"NaN" | b"Infinity" | b"-Infinity")) => b.append_value(String::from_utf8_lossy(text)),
        ValueRef::Text(text) if text.len() > 38 || parse::decimal(text, 38).is_some() || digits_only(text) => {
            match std::str::from_utf8(text) {
                Ok(text) if digits_only(text.as_bytes()) => b.append_value(text),
                _ => return Fit::Not,
            }
        }
        _ => return Fit::Not,
    }
    Fit::Whole
}

/// An optional sign, digits, and at most one point among them.
fn digits_only(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (mut points, mut any) = (0, false);
    for b in digits {
        match b {
            b'.' => points += 1,
            b'0'..=b'9' => any = true,
            _ => return false,
        }
    }
    any && points <= 1 && digits.first() != Some(&b'.') && digits.last() != Some(&b'.')
}

impl Decoder {
    pub fn new(columns: &[Column]) -> Self {
        let fields: Vec<Field> = columns.iter().map(|c| c.field.clone()).collect();
        let cells = fields.iter().map(Cells::of).collect();
        Self { fields, cells, rows: 0, bytes: 0, changes: Vec::new(), scratch: Vec::new() }
    }
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields.clone()))
    }
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// The bytes of text and blobs taken in since the last batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Takes a row in. `Some` is the column whose value does not fit; nothing of the row counts then: take the batch, widen, and push again.
    pub fn push(&mut self, row: &Row<'_>, first: usize) -> rusqlite::Result<Option<usize>> {
        for (i, cells) in self.cells.iter_mut().enumerate() {
            let value = row.get_ref(first + i)?;
            if let ValueRef::Text(b) | ValueRef::Blob(b) = value {
                self.bytes += b.len();
            }
            match cells.push(value, &mut self.scratch) {
                Fit::Whole => {}
                Fit::Recast(reason) => self.changes.push(Change {
                    row: self.rows as u32,
                    field: self.fields[i].name().clone(),
                    kind: ChangeKind::Recast,
                    reason,
                }),
                Fit::Not => return Ok(Some(i)),
            }
        }
        self.rows += 1;
        Ok(None)
    }
    /// From here on the column is text. The batch must have been taken.
    pub fn widen(&mut self, column: usize) {
        let stands = &self.fields[column];
        let wide = Field::new(stands.name(), DataType::Utf8, true);
        self.fields[column] = match native::native_in(stands, super::types::SYSTEM) {
            Some(declared) => native::with_native(wide, super::types::SYSTEM, &declared),
            None => wide,
        };
        self.cells[column] = Cells::of(&self.fields[column]);
    }
    /// The whole rows so far, and what was changed in them.
    pub fn take(&mut self) -> Result<(RecordBatch, Changes)> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let mut changed = std::mem::take(&mut self.changes);
        changed.retain(|c| (c.row as usize) < rows);
        let mut arrays = Vec::with_capacity(self.cells.len());
        let mut fields = Vec::with_capacity(self.cells.len());
        for (cells, field) in self.cells.iter_mut().zip(&self.fields) {
            // A row that did not fit has left cells behind in the columns before.
            let array = cells.finish().slice(0, rows);
            let array = logical(array, field)?;
            // A declared NOT NULL does not bind rows from before it was declared.
            fields.push(if array.null_count() > 0 { field.clone().with_nullable(true) } else { field.clone() });
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(internal)?;
        Ok((batch, Changes { changed, rejected: Vec::new() }))
    }
}

/// From the physical form to the field's type.
fn logical(array: ArrayRef, field: &Field) -> Result<ArrayRef> {
    let to = field.data_type();
    if array.data_type() == to {
        return Ok(array);
    }
    if to.is_nested() {
        return from_json(array.as_string(), field);
    }
    let through = match to {
        DataType::Decimal128(p, s) => {
            return array
                .as_primitive::<arrow_array::types::Decimal128Type>()
                .clone()
                .with_precision_and_scale(*p, *s)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(internal);
        }
        DataType::Time32(_) | DataType::Time64(_) => strict(&array, &DataType::Time64(TimeUnit::Nanosecond))?,
        DataType::Float16 | DataType::Float32 => {
            let exact = array.as_primitive::<Float64Type>().unary::<_, Float32Type>(|x| x as f32);
            Arc::new(exact)
        }
        _ => array,
    };
    strict(&through, to)
}

fn from_json(texts: &StringArray, field: &Field) -> Result<ArrayRef> {
    let schema = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    let bad = |_| Error::new(ErrorKind::DataInvalid, "a nested value is not the JSON of its type").with("column", field.name());
    let mut decoder = arrow_json::ReaderBuilder::new(schema).with_batch_size(texts.len().max(1)).build_decoder().map_err(bad)?;
    let name = serde_json::to_string(field.name()).unwrap_or_default();
    for text in texts {
        let row = format!("{{{name}:{}}}", text.unwrap_or("null"));
        decoder.decode(row.as_bytes()).map_err(bad)?;
    }
    let rows = decoder.flush().map_err(bad)?;
    Ok(rows.map_or_else(|| new_null_array(field.data_type(), 0), |r| r.column(0).clone()))
}

/// The rows under another schema: by name, nothing rounded; columns that are not there are null.
pub(super) fn cast(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => strict(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    let columns: Result<Vec<ArrayRef>> = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns?, &options).map_err(internal)
}

/// Every row of a table of ours, in batches, to write it again under other types.
pub(super) fn read_all(db: &Connection, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    let mut decoder = Decoder::new(&table.columns);
    let mut statement = db.prepare(&format!("SELECT {} FROM {}", select_list(&table.columns), quoted(&table.name))).map_err(sql_error)?;
    let mut rows = statement.query([]).map_err(sql_error)?;
    while let Some(row) = rows.next().map_err(sql_error)? {
        if let Some(column) = decoder.push(row, 0).map_err(sql_error)? {
            return Err(Error::new(ErrorKind::DataInvalid, "a stored value is not of its column's type")
                .with("table", &table.name)
                .with("column", table.columns[column].field.name())
                .fix("load the stream anew with --write replace"));
        }
        if decoder.rows() == REBUILD_BATCH {
            each(decoder.take()?.0)?;
        }
    }
    each(decoder.take()?.0)
}

/// The stored columns as a select's list. A select must name something.
pub(super) fn select_list(columns: &[Column]) -> String {
    let list: Vec<String> = columns.iter().map(|c| quoted(&c.stored)).collect();
    if list.is_empty() { "NULL".into() } else { list.join(", ") }
}

fn internal(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "the rows could not be built").because(e)
}
