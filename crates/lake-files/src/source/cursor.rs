//! A cursor column's values: which are new, which is the highest, and how the highest is kept as text.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, StringArray, cast::AsArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_row::{OwnedRow, RowConverter, SortField};
use arrow_schema::{DataType, TimeUnit};
use linkspan_core::{Error, ErrorKind, Result};

/// Types whose order is the order in which rows change, and whose text reads back exactly.
pub(super) fn is_orderable(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(data_type, DataType::Decimal128(..) | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Utf8)
}

/// Compares values of one column's type.
pub(super) struct Order {
    data_type: DataType,
    rows: RowConverter,
}

/// A cursor value in comparable form.
pub(super) type High = OwnedRow;

impl Order {
    pub fn new(data_type: &DataType) -> Result<Self> {
        let rows = RowConverter::new(vec![SortField::new(data_type.clone())]).map_err(incomparable)?;
        Ok(Self { data_type: data_type.clone(), rows })
    }

    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Rows that count: above `low`, or at it when `ties` says so; nulls only when there is no `low` yet. With the highest of them.
    pub fn above(&self, column: &ArrayRef, low: Option<&High>, ties: Ties) -> Result<(BooleanArray, Option<High>)> {
        let rows = self.rows.convert_columns(std::slice::from_ref(column)).map_err(incomparable)?;
        let mut high: Option<arrow_row::Row<'_>> = None;
        let mut mask = Vec::with_capacity(column.len());
        for (i, row) in rows.iter().enumerate() {
            if column.is_null(i) {
                mask.push(low.is_none());
                continue;
            }
            let counts = low.is_none_or(|low| match row.cmp(&low.row()) {
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Equal => ties == Ties::Count,
                std::cmp::Ordering::Less => false,
            });
            if counts && high.is_none_or(|high| row > high) {
                high = Some(row);
            }
            mask.push(counts);
        }
        Ok((BooleanArray::from(mask), high.map(|row| row.owned())))
    }

    pub fn parse(&self, text: &str) -> Result<High> {
        let misfit = || {
            Error::new(ErrorKind::PositionLost, "the position does not fit the cursor column's type any more")
                .with("type", &self.data_type)
                .fix("`reset` the connection to read from the beginning")
        };
        let bare = match unit(&self.data_type) {
            Some(unit) => text.strip_suffix(unit).ok_or_else(misfit)?,
            None => text,
        };
        let mut column: ArrayRef = Arc::new(StringArray::from(vec![bare]));
        for step in [self.number_type(), Some(self.data_type.clone())].into_iter().flatten() {
            column = exact(&column, &step).map_err(|_| misfit())?;
        }
        Ok(self.rows.convert_columns(&[column]).map_err(incomparable)?.row(0).owned())
    }

    pub fn text(&self, high: &High) -> Result<String> {
        let mut column = self.rows.convert_rows([high.row()]).map_err(incomparable)?.remove(0);
        for step in [self.number_type(), Some(DataType::Utf8)].into_iter().flatten() {
            column = exact(&column, &step).map_err(incomparable)?;
        }
        Ok(format!("{}{}", column.as_string::<i32>().value(0), unit(&self.data_type).unwrap_or("")))
    }

    /// Times are kept as their numbers: those read back exactly whatever the zone is called.
    fn number_type(&self) -> Option<DataType> {
        match self.data_type {
            DataType::Timestamp(..) | DataType::Date64 => Some(DataType::Int64),
            DataType::Date32 => Some(DataType::Int32),
            _ => None,
        }
    }

    /// The highest value of a column of bounds, none when one of them is unknown.
    pub fn bound(&self, bounds: &ArrayRef) -> Result<Option<High>> {
        if bounds.null_count() > 0 || bounds.is_empty() {
            return Ok(None);
        }
        Ok(self.above(bounds, None, Ties::Count)?.1)
    }
}

/// What to do with rows at the highest value of the last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ties {
    /// They come from a file that the last read did not see.
    Count,
    /// They were sent.
    Skip,
}

/// The unit that a time's number counts; a number without it could be taken for another unit's later.
fn unit(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => Some(" s"),
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => Some(" ms"),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(" us"),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(" ns"),
        DataType::Date32 => Some(" d"),
        _ => None,
    }
}

fn exact(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow_schema::ArrowError> {
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

fn incomparable(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::DataInvalid, "the cursor column's values cannot be compared").because(e)
}

#[cfg(test)]
mod tests {
    use arrow_array::{Date32Array, Decimal128Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn the_highest_value_reads_back_from_its_text() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])),
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 1_700_000_000_123_456]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1])),
            Arc::new(Date32Array::from(vec![-5, 20_000])),
            Arc::new(Decimal128Array::from(vec![-100, 123_456]).with_precision_and_scale(12, 2).unwrap()),
            Arc::new(StringArray::from(vec!["", "zé"])),
        ];
        for column in columns {
            let order = Order::new(column.data_type()).unwrap();
            let (_, high) = order.above(&column, None, Ties::Count).unwrap();
            let high = high.unwrap();
            assert_eq!(order.parse(&order.text(&high).unwrap()).unwrap(), high, "{}", column.data_type());
            let (mask, none) = order.above(&column, Some(&high), Ties::Skip).unwrap();
            assert_eq!((mask.true_count(), none), (0, None));
            assert_eq!(order.above(&column, Some(&high), Ties::Count).unwrap().0.true_count(), 1);
        }
    }

    #[test]
    fn nulls_are_sent_by_the_first_read_only() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(5)]));
        let order = Order::new(&DataType::Int64).unwrap();
        let (mask, high) = order.above(&column, None, Ties::Count).unwrap();
        assert_eq!(mask.true_count(), 2);
        assert_eq!(order.above(&column, high.as_ref(), Ties::Count).unwrap().0.true_count(), 1);
    }
}
