//! The type plane of PostgreSQL: one table that says how each type travels. The source decodes by it, the destination encodes by it.

use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::native;

/// The system's name in `ls.native`.
pub(super) const SYSTEM: &str = "postgresql";
/// On a field: the value is computed by the source table; as data it is an ordinary value.
pub(super) const GENERATED: &str = "ls.generated";
/// On a field whose native type is a domain: the type under it, as `format_type` spells it.
pub(super) const BASE_TYPE: &str = "ls.base_type";
/// Arrow's canonical extension name, so that other readers know the 16 bytes for a UUID.
const EXTENSION: &str = "ARROW:extension:name";

/// Microseconds from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970-01-01 to 2000-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;

/// Object ids of the built-in types that have a binary form here. They are the same on every server.
pub(super) mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// How values of a type cross the wire and what they are in Arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// `numeric(precision, scale)` with 1 <= precision <= 76 and 0 <= scale <= precision.
    Decimal(u8, i8),
    /// Bytes that are UTF-8 text as they are: text and its kin, enum labels.
    Text,
    Json,
    /// As `Json`, behind one byte of version.
    Jsonb,
    Bytea,
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    /// A numeric that no decimal type holds: exact text, through a cast.
    DecimalText,
    /// Any other type: its own text, through a cast.
    AsText,
}

impl Form {
    /// The form of a type. `base` is the type's object id, a domain's being that of the type under it; `typmod` belongs to it;
    /// `typtype` is the catalog's kind letter (`e` for an enum).
    pub fn of(base: u32, typtype: char, typmod: i32) -> Self {
        match base {
            oid::BOOL => Self::Bool,
            oid::INT2 => Self::Int2,
            oid::INT4 => Self::Int4,
            oid::INT8 => Self::Int8,
            oid::FLOAT4 => Self::Float4,
            oid::FLOAT8 => Self::Float8,
            oid::NUMERIC => decimal(typmod),
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME => Self::Text,
            oid::JSON => Self::Json,
            oid::JSONB => Self::Jsonb,
            oid::BYTEA => Self::Bytea,
            oid::UUID => Self::Uuid,
            oid::DATE => Self::Date,
            oid::TIMESTAMP => Self::Timestamp,
            oid::TIMESTAMPTZ => Self::TimestampTz,
            oid::TIME => Self::Time,
            _ if typtype == 'e' => Self::Text,
            _ => Self::AsText,
        }
    }

    /// Whether the SELECT list asks for the value's text instead of its binary form.
    pub fn is_cast(self) -> bool {
        matches!(self, Self::DecimalText | Self::AsText)
    }

    pub fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Decimal(p, s) if p <= 38 => DataType::Decimal128(p, s),
            Self::Decimal(p, s) => DataType::Decimal256(p, s),
            Self::Text | Self::Json | Self::Jsonb | Self::DecimalText | Self::AsText => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
        }
    }

    /// The Arrow field of a column of this form; `native` is the type as `format_type` spells it.
    pub fn field(self, name: &str, native: &str, nullable: bool) -> Field {
        let field = native::with_native(Field::new(name, self.data_type(), nullable), SYSTEM, native);
        match self {
            Self::Json | Self::Jsonb => native::with_mark(field, native::JSON_TEXT, ""),
            Self::DecimalText => native::with_mark(field, native::DECIMAL_TEXT, ""),
            Self::Date | Self::Timestamp | Self::TimestampTz => native::with_mark(field, native::INFINITY, ""),
            Self::Uuid => native::with_mark(field, EXTENSION, "arrow.uuid"),
            _ => field,
        }
    }

    /// Whether values have an order that grows with time or with inserts, so that a read can go on behind the largest one.
    pub fn is_orderable(self) -> bool {
        matches!(
            self,
            Self::Int2
                | Self::Int4
                | Self::Int8
                | Self::Decimal(..)
                | Self::DecimalText
                | Self::Float4
                | Self::Float8
                | Self::Text
                | Self::Uuid
                | Self::Date
                | Self::Timestamp
                | Self::TimestampTz
        )
    }
}

/// A numeric's typmod is ((precision << 16) | scale) + 4, the scale in 11 bits with a sign; -1 means unbounded.
fn decimal(typmod: i32) -> Form {
    if typmod < 4 {
        return Form::DecimalText;
    }
    let precision = ((typmod - 4) >> 16) & 0xffff;
    let scale = (((typmod - 4) & 0x7ff) ^ 0x400) - 0x400;
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p @ 1..=76), Ok(s)) if s >= 0 && i32::from(s) <= precision => Form::Decimal(p, s),
        _ => Form::DecimalText,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(p: i32, s: i32) -> Form {
        Form::of(oid::NUMERIC, 'b', ((p << 16) | (s & 0x7ff)) + 4)
    }

    #[test]
    fn a_numeric_that_fits_is_a_decimal_and_any_other_is_exact_text() {
        assert_eq!(numeric(12, 2).data_type(), DataType::Decimal128(12, 2));
        assert_eq!(numeric(38, 38).data_type(), DataType::Decimal128(38, 38));
        assert_eq!(numeric(39, 0).data_type(), DataType::Decimal256(39, 0));
        assert_eq!(numeric(76, 10).data_type(), DataType::Decimal256(76, 10));
        for form in [numeric(77, 0), numeric(5, -2), numeric(3, 5), Form::of(oid::NUMERIC, 'b', -1)] {
            assert_eq!(form, Form::DecimalText);
        }
    }

    #[test]
    fn a_field_keeps_its_native_type_and_its_marks() {
        let f = Form::of(oid::JSONB, 'b', -1).field("doc", "jsonb", true);
        assert_eq!(native::native_in(&f, SYSTEM).as_deref(), Some("jsonb"));
        assert!(native::has_mark(&f, native::JSON_TEXT));
        assert_eq!(Form::of(99_999, 'e', -1), Form::Text);
        assert_eq!(Form::of(99_999, 'c', -1), Form::AsText);
    }
}
