//! Values of one column on their way from a server's rows to Arrow: appended one by one, handed over as an array, without an allocation
//! per value. It knows no protocol.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{ArrowError, DataType};

/// A batch ends at so many rows, or at so many bytes on the wire, whichever comes first. A larger row travels alone.
pub(crate) const MAX_ROWS: usize = 8 * 1024;
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// The values of a column so far. A null has a value, too, which means nothing.
pub(crate) enum Values {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>),
    UInt8(Vec<u8>),
    Int16(Vec<i16>),
    UInt16(Vec<u16>),
    Int32(Vec<i32>),
    UInt32(Vec<u32>),
    Int64(Vec<i64>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal128(Vec<i128>, u8, i8),
    Decimal256(Vec<i256>, u8, i8),
    Text(Bytes),
    Binary(Bytes),
    Uuid(Vec<u8>),
    Date(Vec<i32>),
    Timestamp(Vec<i64>, Option<Arc<str>>),
    Time(Vec<i64>),
}

/// Values of any length, end to end.
pub(crate) struct Bytes {
    data: Vec<u8>,
    offsets: Vec<i32>,
}

impl Bytes {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { data: Vec::with_capacity(bytes), offsets }
    }
    /// None when the column's values are over 2 GiB together.
    #[inline]
    pub fn push(&mut self, value: &[u8]) -> Option<()> {
        self.data.extend_from_slice(value);
        self.offsets.push(i32::try_from(self.data.len()).ok()?);
        Some(())
    }
    fn repeat(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
    }
    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let (rows, bytes) = (self.offsets.len(), (self.data.len() + self.data.len() / 8).min(MAX_BYTES));
        let full = std::mem::replace(self, Self::with_capacity(rows, bytes));
        (OffsetBuffer::new(full.offsets.into()), Buffer::from_vec(full.data))
    }
}

impl Values {
    /// For values of a type that a database's rows have; one of another type makes no batch.
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Self::Int8(Vec::new()),
            DataType::UInt8 => Self::UInt8(Vec::new()),
            DataType::Int16 => Self::Int16(Vec::new()),
            DataType::UInt16 => Self::UInt16(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::UInt32 => Self::UInt32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::UInt64 => Self::UInt64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Decimal128(p, s) => Self::Decimal128(Vec::new(), *p, *s),
            DataType::Decimal256(p, s) => Self::Decimal256(Vec::new(), *p, *s),
            DataType::Binary => Self::Binary(Bytes::with_capacity(0, 0)),
            DataType::FixedSizeBinary(16) => Self::Uuid(Vec::new()),
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Timestamp(_, zone) => Self::Timestamp(Vec::new(), zone.clone()),
            DataType::Time64(_) => Self::Time(Vec::new()),
            _ => Self::Text(Bytes::with_capacity(0, 0)),
        }
    }

    /// What stands in a null's place.
    pub fn push_default(&mut self) {
        match self {
            Self::Bool(v) => v.append(false),
            Self::Int8(v) => v.push(0),
            Self::UInt8(v) => v.push(0),
            Self::Int16(v) => v.push(0),
            Self::UInt16(v) => v.push(0),
            Self::Int32(v) | Self::Date(v) => v.push(0),
            Self::UInt32(v) => v.push(0),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.push(0),
            Self::UInt64(v) => v.push(0),
            Self::Float32(v) => v.push(0.0),
            Self::Float64(v) => v.push(0.0),
            Self::Decimal128(v, ..) => v.push(0),
            Self::Decimal256(v, ..) => v.push(i256::ZERO),
            Self::Text(b) | Self::Binary(b) => b.repeat(),
            Self::Uuid(v) => v.extend_from_slice(&[0; 16]),
        }
    }

    /// The values so far as an array of `rows`, of which these are null; what follows begins anew. An error when a text is not UTF-8.
    pub fn finish(&mut self, rows: usize, null: &mut Vec<u32>) -> Result<ArrayRef, ArrowError> {
        let nulls = (!null.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(rows);
            valid.append_n(rows, true);
            null.drain(..).for_each(|row| valid.set_bit(row as usize, false));
            NullBuffer::new(valid.finish())
        });
        Ok(match self {
            Self::Bool(v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Self::Int8(v) => Arc::new(Int8Array::new(full(v), nulls)),
            Self::UInt8(v) => Arc::new(UInt8Array::new(full(v), nulls)),
            Self::Int16(v) => Arc::new(Int16Array::new(full(v), nulls)),
            Self::UInt16(v) => Arc::new(UInt16Array::new(full(v), nulls)),
            Self::Int32(v) => Arc::new(Int32Array::new(full(v), nulls)),
            Self::UInt32(v) => Arc::new(UInt32Array::new(full(v), nulls)),
            Self::Int64(v) => Arc::new(Int64Array::new(full(v), nulls)),
            Self::UInt64(v) => Arc::new(UInt64Array::new(full(v), nulls)),
            Self::Float32(v) => Arc::new(Float32Array::new(full(v), nulls)),
            Self::Float64(v) => Arc::new(Float64Array::new(full(v), nulls)),
            Self::Decimal128(v, p, s) => Arc::new(Decimal128Array::new(full(v), nulls).with_precision_and_scale(*p, *s)?),
            Self::Decimal256(v, p, s) => Arc::new(Decimal256Array::new(full(v), nulls).with_precision_and_scale(*p, *s)?),
            Self::Text(b) => {
                let (offsets, data) = b.take();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Self::Binary(b) => {
                let (offsets, data) = b.take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Self::Uuid(v) => {
                let full = std::mem::replace(v, Vec::with_capacity(16 * rows));
                Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(full), nulls)?)
            }
            Self::Date(v) => Arc::new(Date32Array::new(full(v), nulls)),
            Self::Timestamp(v, zone) => Arc::new(TimestampMicrosecondArray::new(full(v), nulls).with_timezone_opt(zone.clone())),
            Self::Time(v) => Arc::new(Time64MicrosecondArray::new(full(v), nulls)),
        })
    }
}

/// The values, leaving room for as many again.
fn full<T: arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room).into()
}
