//! The type plane of MySQL and MariaDB: one table that says how each type travels. The source decodes by it, the destination
//! encodes by it. A type is known by its name in the catalog, or, for a query, by what the protocol says of a column.

use arrow_schema::{DataType, Field, TimeUnit};
use linkspan_core::native;

use super::packet::Described;

/// The systems' name in `ls.native`; the two families spell the types they share alike.
pub(super) const SYSTEM: &str = "mysql";
/// On a field: the value is computed by the source table; as data it is an ordinary value.
pub(super) const GENERATED: &str = "ls.generated";
/// On a spatial field: the id of its reference system, when it is not 0.
pub(super) const SRID: &str = "ls.srid";
const EXTENSION: &str = "ARROW:extension:name";
const UUID: &str = "arrow.uuid";
/// The character set that means bytes.
const BINARY: u16 = 63;

/// Kinds of values on the wire.
pub(super) mod kind {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const BIT: u8 = 16;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const DECIMAL: u8 = 246;
    pub const GEOMETRY: u8 = 255;
}
const UNSIGNED: u16 = 32;

/// How values of a type cross the wire and what they are in Arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `bit(1)`, and `tinyint(1)` where the config says so.
    Bool,
    Int8,
    UInt8,
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    UInt64,
    Year,
    /// `bit(n)` with n > 1, as the number that the bits are.
    Bits,
    Float4,
    Float8,
    Decimal(u8, i8),
    Text,
    Json,
    Binary,
    /// MariaDB's `uuid`, which crosses the wire as text.
    Uuid,
    /// A UUID in a `binary(16)` of ours.
    UuidBytes,
    /// A spatial value: well-known binary behind the id of a reference system.
    Spatial,
    Date,
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    /// A date or time that travels as its own text, since the policy wants odd ones kept.
    DateText,
    DateTimeText(u8),
    TimeText(u8),
}

/// What becomes of a date that no calendar has (`0000-00-00`, `2024-00-00`, `2024-02-31`) and of a time outside of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OddDates {
    /// It becomes null, and the change is recorded.
    #[default]
    Null,
    /// Dates and times travel as text, each exactly as it is.
    Text,
    /// The read stops and names the column.
    Fail,
}

/// The choices of a config that decide how types travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choices {
    pub odd_dates: OddDates,
    pub tinyint1_as_boolean: bool,
}

/// A column's type as the catalog knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed<'a> {
    /// `decimal`
    pub name: &'a str,
    /// `decimal(10,2) unsigned`
    pub full: &'a str,
    pub precision: Option<u64>,
    pub scale: Option<u64>,
    pub fraction: Option<u64>,
    /// MariaDB's json is text with a check.
    pub checked_json: bool,
}

impl Form {
    pub fn of(t: &Typed<'_>, choices: Choices) -> Self {
        let unsigned = t.full.contains("unsigned");
        let fraction = t.fraction.and_then(|f| u8::try_from(f).ok()).unwrap_or(0);
        match t.name {
            "tinyint" if choices.tinyint1_as_boolean && t.full.starts_with("tinyint(1)") && !unsigned => Self::Bool,
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Self::integer(t.name, unsigned),
            "year" => Self::Year,
            "bit" if t.precision.unwrap_or(1) == 1 => Self::Bool,
            "bit" => Self::Bits,
            "float" => Self::Float4,
            "double" => Self::Float8,
            "decimal" => decimal(t.precision.unwrap_or(10), t.scale.unwrap_or(0)),
            "json" => Self::Json,
            _ if t.checked_json => Self::Json,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => Self::Binary,
            "uuid" => Self::Uuid,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geomcollection"
            | "geometrycollection" => Self::Spatial,
            "date" => Self::Date.kept(choices),
            "datetime" => Self::DateTime(fraction).kept(choices),
            "timestamp" => Self::Timestamp(fraction).kept(choices),
            "time" => Self::Time(fraction).kept(choices),
            // char, varchar, the texts, enum, set, and what is new: its text.
            _ => Self::Text,
        }
    }

    fn integer(name: &str, unsigned: bool) -> Self {
        match (name, unsigned) {
            ("tinyint", false) => Self::Int8,
            ("tinyint", true) => Self::UInt8,
            ("smallint", false) => Self::Int16,
            ("smallint", true) => Self::UInt16,
            ("bigint", false) => Self::Int64,
            ("bigint", true) => Self::UInt64,
            (_, false) => Self::Int32,
            (_, true) => Self::UInt32,
        }
    }

    /// The form of a column of a query, and its type's name as the catalog would spell it.
    pub fn described(d: &Described, choices: Choices) -> (Self, String) {
        let unsigned = d.flags & UNSIGNED != 0;
        let sign = if unsigned { " unsigned" } else { "" };
        let int = |name: &str| (Self::integer(name, unsigned), format!("{name}{sign}"));
        let fraction = if d.decimals > 6 { 0 } else { d.decimals };
        let timed =
            |form: Self, name: &str| (form.kept(choices), if fraction > 0 { format!("{name}({fraction})") } else { name.to_owned() });
        match d.kind {
            kind::TINY => int("tinyint"),
            kind::SHORT => int("smallint"),
            kind::INT24 => int("mediumint"),
            kind::LONG => int("int"),
            kind::LONGLONG => int("bigint"),
            kind::YEAR => (Self::Year, "year".into()),
            kind::BIT if d.length <= 1 => (Self::Bool, "bit(1)".into()),
            kind::BIT => (Self::Bits, format!("bit({})", d.length)),
            kind::FLOAT => (Self::Float4, "float".into()),
            kind::DOUBLE => (Self::Float8, "double".into()),
            kind::DECIMAL | 0 => {
                let scale = u64::from(d.decimals);
                // The length counts the point and the sign.
                let extra = u64::from(scale > 0) + u64::from(!unsigned);
                let precision = u64::from(d.length).saturating_sub(extra).clamp(scale.max(1), 65);
                (decimal(precision, scale), format!("decimal({precision},{scale}){sign}"))
            }
            kind::JSON => (Self::Json, "json".into()),
            kind::GEOMETRY => (Self::Spatial, "geometry".into()),
            kind::VECTOR => (Self::Binary, "vector".into()),
            kind::DATE => timed(Self::Date, "date"),
            kind::DATETIME => timed(Self::DateTime(fraction), "datetime"),
            kind::TIMESTAMP => timed(Self::Timestamp(fraction), "timestamp"),
            kind::TIME => timed(Self::Time(fraction), "time"),
            _ if d.charset == BINARY && d.kind != kind::NULL => (Self::Binary, "blob".into()),
            _ => (Self::Text, "text".into()),
        }
    }

    /// Dates and times as text, where the policy wants the odd ones kept.
    fn kept(self, choices: Choices) -> Self {
        match self {
            _ if choices.odd_dates != OddDates::Text => self,
            Self::Date => Self::DateText,
            Self::DateTime(f) | Self::Timestamp(f) => Self::DateTimeText(f),
            Self::Time(f) => Self::TimeText(f),
            other => other,
        }
    }

    pub fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::UInt8 => DataType::UInt8,
            Self::Int16 | Self::Year => DataType::Int16,
            Self::UInt16 => DataType::UInt16,
            Self::Int32 => DataType::Int32,
            Self::UInt32 => DataType::UInt32,
            Self::Int64 => DataType::Int64,
            Self::UInt64 | Self::Bits => DataType::UInt64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Decimal(p, s) if p <= 38 => DataType::Decimal128(p, s),
            Self::Decimal(p, s) => DataType::Decimal256(p, s),
            Self::Text | Self::Json | Self::DateText | Self::DateTimeText(_) | Self::TimeText(_) => DataType::Utf8,
            Self::Binary | Self::Spatial => DataType::Binary,
            Self::Uuid | Self::UuidBytes => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::DateTime(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Time(_) => DataType::Time64(TimeUnit::Microsecond),
        }
    }

    /// The form of a column that was made for `field`, where the type that was made for it does not say all of it: `tinyint(1)` of a boolean,
    /// `binary(16)` of a UUID, `datetime` of an instant. None where the column is no longer what was made.
    pub fn remembered(self, field: &Field) -> Option<Self> {
        use DataType::*;
        let is_uuid = || field.metadata().get(EXTENSION).is_some_and(|n| n == UUID);
        match (self, field.data_type()) {
            (Self::Int8, Boolean) => Some(Self::Bool),
            (Self::Binary, FixedSizeBinary(16)) if is_uuid() => Some(Self::UuidBytes),
            (Self::DateTime(digits) | Self::Timestamp(digits), Timestamp(_, zone)) => {
                Some(if zone.is_some() { Self::Timestamp(digits) } else { Self::DateTime(digits) })
            }
            (Self::Date, Date64) | (Self::Time(_), Time32(_) | Time64(_)) => Some(self),
            (Self::Text, Decimal128(..) | Decimal256(..)) => Some(self),
            (Self::Text | Self::Json, LargeUtf8 | Utf8View) => Some(self),
            (form, kind) => (form.data_type() == *kind).then_some(form),
        }
    }

    /// The Arrow field of a column of this form; `native` is the type as the catalog spells it.
    pub fn field(self, name: &str, native: &str, nullable: bool) -> Field {
        let field = native::with_native(Field::new(name, self.data_type(), nullable), SYSTEM, native);
        match self {
            Self::Json => native::with_mark(field, native::JSON_TEXT, ""),
            Self::Uuid | Self::UuidBytes => native::with_mark(field, EXTENSION, UUID),
            Self::Spatial => native::with_mark(field, EXTENSION, "geoarrow.wkb"),
            _ => field,
        }
    }

    /// Whether values have an order that grows with time or with inserts, so that a read can go on behind the largest one.
    pub fn is_orderable(self) -> bool {
        self.is_number() || self.is_time() || matches!(self, Self::Text | Self::DateText | Self::DateTimeText(_))
    }

    /// Whether a value is written without quotes.
    pub fn is_number(self) -> bool {
        self.is_integer() || matches!(self, Self::Decimal(..))
    }

    pub fn is_integer(self) -> bool {
        matches!(
            self,
            Self::Int8 | Self::UInt8 | Self::Int16 | Self::UInt16 | Self::Int32 | Self::UInt32 | Self::Int64 | Self::UInt64 | Self::Year
        )
    }

    /// Whether a value is a moment, so that a read can look back from it.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Date | Self::DateTime(_) | Self::Timestamp(_) | Self::DateText | Self::DateTimeText(_))
    }

    /// Whether the wire's kind is one that this form is decoded from.
    pub fn is_decoded_from(self, wire: u8) -> bool {
        match self {
            Self::Int8 | Self::UInt8 => wire == kind::TINY,
            Self::Bool => matches!(wire, kind::TINY | kind::BIT),
            Self::Int16 | Self::UInt16 => wire == kind::SHORT,
            Self::Year => wire == kind::YEAR,
            Self::Int32 | Self::UInt32 => matches!(wire, kind::LONG | kind::INT24),
            Self::Int64 | Self::UInt64 => wire == kind::LONGLONG,
            Self::Bits => wire == kind::BIT,
            Self::Float4 => wire == kind::FLOAT,
            Self::Float8 => wire == kind::DOUBLE,
            Self::Decimal(..) => matches!(wire, kind::DECIMAL | 0),
            Self::Date | Self::DateText => wire == kind::DATE,
            Self::DateTime(_) | Self::Timestamp(_) | Self::DateTimeText(_) => matches!(wire, kind::DATETIME | kind::TIMESTAMP),
            Self::Time(_) | Self::TimeText(_) => wire == kind::TIME,
            Self::Text | Self::Json | Self::Binary | Self::Uuid | Self::UuidBytes | Self::Spatial => {
                wire >= kind::VECTOR || matches!(wire, 6 | 15)
            }
        }
    }
}

fn decimal(precision: u64, scale: u64) -> Form {
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p @ 1..=76), Ok(s)) if scale <= precision => Form::Decimal(p, s),
        _ => Form::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(full: &str) -> Form {
        let name = full.split(['(', ' ']).next().unwrap();
        let numbers: Vec<u64> = full.split(['(', ',', ')']).skip(1).filter_map(|n| n.parse().ok()).collect();
        let first = numbers.first().copied();
        let t = Typed { name, full, precision: first, scale: numbers.get(1).copied(), fraction: first, checked_json: false };
        Form::of(&t, Choices::default())
    }

    #[test]
    fn each_type_has_the_narrowest_form_that_holds_all_of_it() {
        assert_eq!(form("bigint(20) unsigned").data_type(), DataType::UInt64);
        assert_eq!(form("tinyint(1)").data_type(), DataType::Int8);
        assert_eq!(form("mediumint(8) unsigned zerofill").data_type(), DataType::UInt32);
        assert_eq!(form("decimal(65,30)").data_type(), DataType::Decimal256(65, 30));
        assert_eq!(form("decimal(12,2)").data_type(), DataType::Decimal128(12, 2));
        assert_eq!(form("bit(1)").data_type(), DataType::Boolean);
        assert_eq!(form("bit(64)").data_type(), DataType::UInt64);
        assert_eq!(form("datetime(3)"), Form::DateTime(3));
        assert_eq!(form("enum('a','b')"), Form::Text);
        assert_eq!(form("inet6"), Form::Text);
    }

    #[test]
    fn a_policy_and_a_choice_change_the_form() {
        let t = Typed { name: "tinyint", full: "tinyint(1)", ..Typed::default() };
        assert_eq!(Form::of(&t, Choices { tinyint1_as_boolean: true, ..Choices::default() }), Form::Bool);
        let t = Typed { name: "time", full: "time", ..Typed::default() };
        assert_eq!(Form::of(&t, Choices { odd_dates: OddDates::Text, ..Choices::default() }), Form::TimeText(0));
    }

    #[test]
    fn a_column_of_ours_is_read_as_what_it_was_made_for() {
        use DataType::*;
        let uuid = native::with_mark(Field::new("v", FixedSizeBinary(16), true), EXTENSION, UUID);
        let utc = Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        for (stands, made_for, read) in [
            (Form::Int8, Field::new("v", Boolean, true), Some(Form::Bool)),
            (Form::Binary, uuid.clone(), Some(Form::UuidBytes)),
            (Form::Binary, Field::new("v", FixedSizeBinary(16), true), None),
            (Form::DateTime(3), Field::new("v", utc, true), Some(Form::Timestamp(3))),
            (Form::Text, Field::new("v", Decimal256(76, 20), true), Some(Form::Text)),
            // Somebody changed the column.
            (Form::Text, uuid, None),
            (Form::Int64, Field::new("v", Boolean, true), None),
            (Form::DateTimeText(6), Field::new("v", Timestamp(TimeUnit::Microsecond, None), true), None),
        ] {
            assert_eq!(stands.remembered(&made_for), read, "{stands:?} for {made_for:?}");
        }
    }

    #[test]
    fn a_query_column_is_known_by_what_the_protocol_says() {
        let d = |kind, length, decimals, flags, charset| Described { name: "x".into(), charset, length, kind, flags, decimals };
        let of = |d: Described| Form::described(&d, Choices::default());
        assert_eq!(of(d(kind::DECIMAL, 14, 2, 0, 63)), (Form::Decimal(12, 2), "decimal(12,2)".to_owned()));
        assert_eq!(of(d(kind::LONGLONG, 20, 0, UNSIGNED, 63)).0, Form::UInt64);
        assert_eq!(of(d(253, 80, 0, 0, 45)).0, Form::Text);
        assert_eq!(of(d(252, 80, 0, 0, 63)).0, Form::Binary);
    }
}
