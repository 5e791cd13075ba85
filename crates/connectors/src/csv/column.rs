//! Columns: their types as inferred so far, and how a chunk's cells become an Arrow array of that type.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use linkspan_core::{Error, ErrorKind, Result, native};

use super::{
    infer::{Kind, join, parse_bool, parse_date, parse_decimal, parse_f64, parse_i64, parse_timestamp, type_of},
    split::unescape,
};

/// One cell of a chunk. `escaped`: doubled quotes still stand in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    pub text: &'a [u8],
    pub escaped: bool,
    pub kind: Kind,
}

/// A column by its name in the stream. `Null` until a value was seen: such a column is sent as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub data_type: DataType,
    /// Every value so far was a JSON object or array.
    pub json: bool,
}

impl Column {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), data_type: DataType::Null, json: false }
    }
    /// Makes room for a value.
    pub fn learn(&mut self, cell: &Cell<'_>) {
        let json = cell.kind == Kind::Json;
        self.json = json && (self.json || self.data_type == DataType::Null);
        if self.data_type == DataType::Utf8 {
            return;
        }
        let found = if cell.escaped { DataType::Utf8 } else { type_of(cell.text, cell.kind) };
        self.data_type = if self.data_type == DataType::Null { found } else { join(&self.data_type, &found) };
    }
    pub fn field(&self) -> Field {
        let data_type = if self.data_type == DataType::Null { DataType::Utf8 } else { self.data_type.clone() };
        let field = Field::new(&self.name, data_type, true);
        if self.json { native::with_mark(field, native::JSON_TEXT, "") } else { field }
    }
    /// The type as states keep it.
    pub fn type_word(&self) -> String {
        match &self.data_type {
            DataType::Null => "null".into(),
            DataType::Boolean => "bool".into(),
            DataType::Int64 => "int".into(),
            DataType::Float64 => "float".into(),
            DataType::Decimal128(p, s) => format!("decimal({p},{s})"),
            DataType::Date32 => "date".into(),
            DataType::Timestamp(_, None) => "timestamp".into(),
            DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
            _ if self.json => "json".into(),
            _ => "text".into(),
        }
    }
    pub fn from_words(name: &str, word: &str) -> Option<Self> {
        let data_type = match word {
            "null" => DataType::Null,
            "bool" => DataType::Boolean,
            "int" => DataType::Int64,
            "float" => DataType::Float64,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "text" | "json" => DataType::Utf8,
            other => {
                let (p, s) = other.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
                DataType::Decimal128(p.parse().ok()?, s.parse().ok()?)
            }
        };
        Some(Self { name: name.to_owned(), data_type, json: word == "json" })
    }
}

pub(super) fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
}

/// Builds a batch of `rows` rows, widening columns whose values do not fit. `cell(row, column)` is null where it answers nothing.
pub(super) fn build<'a>(
    columns: &mut [Column],
    rows: usize,
    quote: u8,
    cell: impl Fn(usize, usize) -> Option<Cell<'a>>,
) -> Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(columns.len());
    for (c, column) in columns.iter_mut().enumerate() {
        arrays.push(column_array(column, rows, quote, |r| cell(r, c))?);
    }
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema_of(columns), arrays, &options)
        .map_err(|e| Error::new(ErrorKind::Internal, "a batch could not be built").because(e))
}

fn column_array<'a>(column: &mut Column, rows: usize, quote: u8, cell: impl Fn(usize) -> Option<Cell<'a>>) -> Result<ArrayRef> {
    loop {
        if column.data_type == DataType::Null {
            let Some(first) = (0..rows).find_map(&cell) else { return text_array(column, rows, quote, &cell) };
            // Rows before this one were sent as text already: the column stays text for good.
            column.learn(&Cell { kind: if first.kind == Kind::Json { Kind::Json } else { Kind::Text }, ..first });
        }
        match typed_array(column, rows, quote, &cell)? {
            Ok(array) => return Ok(array),
            Err(row) => {
                let before = column.data_type.clone();
                for misfit in (row..rows).filter_map(&cell) {
                    column.learn(&misfit);
                }
                if column.data_type == before {
                    column.data_type = match before {
                        DataType::Decimal128(18, s) => DataType::Decimal128(38, s),
                        _ => DataType::Utf8,
                    };
                }
            }
        }
    }
}

/// The array, or the first row whose value does not fit.
fn typed_array<'a>(column: &Column, rows: usize, quote: u8, cell: &impl Fn(usize) -> Option<Cell<'a>>) -> Result<Result<ArrayRef, usize>> {
    macro_rules! values {
        ($builder:expr, $parse:expr) => {{
            let mut builder = $builder;
            for row in 0..rows {
                match cell(row) {
                    None => builder.append_null(),
                    Some(c) if c.escaped || matches!(c.kind, Kind::Text | Kind::Json) => return Ok(Err(row)),
                    Some(c) => match $parse(c.text) {
                        Some(v) => builder.append_value(v),
                        None => return Ok(Err(row)),
                    },
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    let array = match &column.data_type {
        DataType::Boolean => values!(BooleanBuilder::with_capacity(rows), parse_bool),
        DataType::Int64 => values!(Int64Builder::with_capacity(rows), parse_i64),
        DataType::Float64 => values!(Float64Builder::with_capacity(rows), parse_f64),
        DataType::Decimal128(p, s) => {
            let builder = Decimal128Builder::with_capacity(rows).with_data_type(column.data_type.clone());
            values!(builder, |t| parse_decimal(t, *p, *s))
        }
        DataType::Date32 => values!(Date32Builder::with_capacity(rows), parse_date),
        DataType::Timestamp(_, zone) => {
            let builder = TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(column.data_type.clone());
            values!(builder, |t| parse_timestamp(t).filter(|i| i.zoned == zone.is_some()).map(|i| i.micros))
        }
        _ => {
            if column.json
                && let Some(row) = (0..rows).find(|r| cell(*r).is_some_and(|c| c.kind != Kind::Json))
            {
                return Ok(Err(row));
            }
            text_array(column, rows, quote, cell)?
        }
    };
    Ok(Ok(array))
}

fn text_array<'a>(column: &Column, rows: usize, quote: u8, cell: &impl Fn(usize) -> Option<Cell<'a>>) -> Result<ArrayRef> {
    let bytes: usize = (0..rows).filter_map(cell).map(|c| c.text.len()).sum();
    if i32::try_from(bytes).is_err() {
        return Err(Error::new(ErrorKind::DataInvalid, "a column's text in one batch is over 2 GiB").with("column", &column.name));
    }
    let (mut builder, mut scratch) = (StringBuilder::with_capacity(rows, bytes), Vec::new());
    for row in 0..rows {
        match cell(row) {
            None => builder.append_null(),
            Some(c) => {
                let text = unescape(c.text, c.escaped, quote, &mut scratch);
                let text = std::str::from_utf8(text).map_err(|e| Error::new(ErrorKind::DataInvalid, "a value is not UTF-8").because(e))?;
                builder.append_value(text);
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<'a>(texts: &'a [Option<&'a str>]) -> impl Fn(usize, usize) -> Option<Cell<'a>> {
        move |r, _| texts[r].map(|t| Cell { text: t.as_bytes(), escaped: false, kind: Kind::Plain })
    }

    #[test]
    fn a_value_that_does_not_fit_widens_the_whole_batch() {
        let mut columns = [Column { data_type: DataType::Int64, ..Column::new("n") }];
        let batch = build(&mut columns, 3, b'"', cells(&[Some("1"), None, Some("2.5")])).unwrap();
        assert_eq!(batch.schema().field(0).data_type(), &DataType::Decimal128(38, 1));
        let batch = build(&mut columns, 1, b'"', cells(&[Some("007")])).unwrap();
        assert_eq!(batch.schema().field(0).data_type(), &DataType::Utf8);
    }

    #[test]
    fn a_column_that_was_empty_in_the_sample_stays_text() {
        let mut columns = [Column::new("n")];
        assert_eq!(build(&mut columns, 1, b'"', cells(&[None])).unwrap().schema().field(0).data_type(), &DataType::Utf8);
        assert_eq!(build(&mut columns, 1, b'"', cells(&[Some("5")])).unwrap().schema().field(0).data_type(), &DataType::Utf8);
    }

    #[test]
    fn a_decimal_that_outgrows_its_digits_moves_up() {
        let mut columns = [Column { data_type: DataType::Decimal128(18, 2), ..Column::new("n") }];
        let batch = build(&mut columns, 2, b'"', cells(&[Some("1.25"), Some("12345678901234567.8")])).unwrap();
        assert_eq!(batch.schema().field(0).data_type(), &DataType::Decimal128(38, 2));
        let batch = build(&mut columns, 1, b'"', cells(&[Some("12345678901234567890123456789012345678")])).unwrap();
        assert_eq!(
            batch.schema().field(0).data_type(),
            &DataType::Utf8,
            "38 digits before the point and two behind it fit no decimal of ours"
        );
    }

    #[test]
    fn types_survive_their_words() {
        for word in ["null", "bool", "int", "float", "decimal(18,2)", "date", "timestamp", "timestamptz", "text", "json"] {
            assert_eq!(Column::from_words("a", word).unwrap().type_word(), word);
        }
    }
}
