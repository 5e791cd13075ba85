//! D9: columns of every type with their extreme values; each reads back equal or is a declared loss.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, ListArray, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    UInt8Array, UInt16Array, UInt32Array, UInt64Array, types::Int64Type,
};
use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{ErrorKind, Result, WriteMode, native};

use super::{
    DestinationHarness,
    bench::{Bench, batch, commit, open},
};
use crate::{Table, rows::parse_time};

/// 0001-01-01 and 9999-12-31 in days, and the seconds of a day.
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;
const DAY: i64 = 86_400;

/// The torture's columns: name, field, values. Every column has a null.
pub fn columns() -> Vec<(&'static str, Field, ArrayRef)> {
    let first = i64::from(FIRST_DAY) * DAY;
    let last = i64::from(LAST_DAY) * DAY + DAY - 1;
    let plain: Vec<(&'static str, ArrayRef)> = vec![
        ("int8", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None]))),
        ("int16", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None]))),
        ("int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        ("int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some((1 << 53) + 1), None]))),
        ("uint8", Arc::new(UInt8Array::from(vec![Some(u8::MAX), None]))),
        ("uint16", Arc::new(UInt16Array::from(vec![Some(u16::MAX), None]))),
        ("uint32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None]))),
        ("uint64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
        ("float32", Arc::new(Float32Array::from(vec![Some(0.1), Some(-0.0), Some(f32::MAX), Some(f32::MIN_POSITIVE), None]))),
        ("float64", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), Some(1e-308), Some(f64::MAX), Some(5e-324), None]))),
        ("float_special", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), None]))),
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("decimal", decimal128(38, 10, &[Some(10_i128.pow(38) - 1), Some(-(10_i128.pow(38) - 1)), Some(-5), None])),
        ("decimal_whole", decimal128(38, 0, &[Some(10_i128.pow(38) - 1), Some(0), None])),
        ("decimal_wide", decimal256()),
        (
            "text",
            Arc::new(StringArray::from(vec![
                Some(""),
                Some("a\tb\nc\r\n"),
                Some("\"'\\,;|"),
                Some("𝄞 ümläut 表 🦀"),
                Some("NULL"),
                Some("\\N"),
                Some(" pad "),
                None,
            ])),
        ),
        ("text_nul", Arc::new(StringArray::from(vec![Some("a\0b"), None]))),
        ("text_large", Arc::new(LargeStringArray::from(vec![Some("large"), None]))),
        ("binary", Arc::new(BinaryArray::from(vec![Some(&[0u8, 1, 255, 0][..]), Some(b""), Some(b"\n\r,\""), None]))),
        ("binary_large", Arc::new(LargeBinaryArray::from(vec![Some(&[0u8, 200][..]), None]))),
        ("binary_fixed", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([7u8; 16]), None].into_iter(), 16).unwrap())),
        ("date", Arc::new(Date32Array::from(vec![Some(FIRST_DAY), Some(-1), Some(0), Some(LAST_DAY), None]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), Some(3_600_000_001), None]))),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(first * 1_000_000),
                Some(-1),
                Some(1),
                Some(last * 1_000_000 + 999_999),
                None,
            ])),
        ),
        (
            "timestamp_utc",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(first * 1_000_000), Some(-1), Some(last * 1_000_000 + 999_999), None])
                    .with_timezone("UTC"),
            ),
        ),
        ("timestamp_zone", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None]).with_timezone("+02:00"))),
        ("timestamp_s", Arc::new(TimestampSecondArray::from(vec![Some(first), Some(last), None]))),
        ("timestamp_ms", Arc::new(TimestampMillisecondArray::from(vec![Some(first * 1_000), Some(last * 1_000 + 999), None]))),
        ("timestamp_ns", Arc::new(TimestampNanosecondArray::from(vec![Some(1_700_000_000_123_456_789), Some(-1), None]))),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None, Some(i64::MAX)]), Some(vec![]), None])),
        ),
    ];
    let mut columns: Vec<_> =
        plain.into_iter().map(|(name, values)| (name, Field::new("v", values.data_type().clone(), true), values)).collect();
    let exact: ArrayRef = Arc::new(StringArray::from(vec![
        Some("12345678901234567890123456789012345678901234567890.0123456789"),
        Some("NaN"),
        Some("-0.5"),
        None,
    ]));
    columns.push(("decimal_text", native::with_mark(Field::new("v", DataType::Utf8, true), native::DECIMAL_TEXT, ""), exact));
    let json: ArrayRef =
        Arc::new(StringArray::from(vec![Some(r#"{"a":[1,2.50,null,"ü"],"b":{"c":true}}"#), Some("null"), Some("\"s\""), None]));
    columns.push(("json", native::with_mark(Field::new("v", DataType::Utf8, true), native::JSON_TEXT, ""), json));
    columns
}

fn decimal128(precision: u8, scale: i8, values: &[Option<i128>]) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).expect("a legal precision"))
}

fn decimal256() -> ArrayRef {
    let big = arrow_buffer::i256::from_string(&"9".repeat(60)).expect("60 digits fit");
    Arc::new(
        Decimal256Array::from(vec![Some(big), Some(arrow_buffer::i256::MINUS_ONE), None])
            .with_precision_and_scale(60, 5)
            .expect("a legal precision"),
    )
}

impl<H: DestinationHarness> Bench<H> {
    pub(super) async fn torture(&self, mode: WriteMode) {
        let declared = self.harness.declared_losses();
        let (mut silent, mut needless) = (vec![], vec![]);
        for (name, field, values) in columns() {
            let loss = declared.iter().find(|(n, _)| *n == name);
            match (self.column(mode, field, values).await, loss) {
                (Ok(()), None) | (Err(_), Some(_)) => {}
                (Ok(()), Some(_)) => needless.push(name),
                (Err(why), None) => silent.push(format!("{name}: {why}")),
            }
        }
        assert!(silent.is_empty(), "undeclared losses:\n{}", silent.join("\n"));
        assert!(needless.is_empty(), "declared as losses, but they read back equal: {needless:?}");
        let unknown: Vec<_> = declared.iter().filter(|(n, _)| !columns().iter().any(|(c, ..)| c == n)).collect();
        assert!(unknown.is_empty(), "no such columns: {unknown:?}");
    }
    /// Writes one column in a table of its own and reads it back.
    async fn column(&self, mode: WriteMode, field: Field, values: ArrayRef) -> Result<(), String> {
        let data_type = field.data_type().clone();
        let json = native::has_mark(&field, native::JSON_TEXT);
        let decimal = native::has_mark(&field, native::DECIMAL_TEXT);
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), field]));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
        let rows = RecordBatch::try_new(schema.clone(), vec![ids, values]).expect("one column");
        let sent = Table::from_batches([&rows]);
        let destination = self.destination();
        let mut lane = self.lane("torture", mode);
        let result: Result<()> = async {
            let mut session = open(&destination, &lane, &schema).await?;
            session.write(batch(&lane.stream.stream, rows)).await?;
            commit(&mut session, &mut lane).await?;
            drop(session);
            if mode == WriteMode::Replace {
                destination.publish(&lane.publish()).await?;
            }
            Ok(())
        }
        .await;
        if let Err(e) = result {
            let clear = e.kind() != ErrorKind::Internal && e.suggested_fix().is_some();
            return Err(format!("refused{}: {e:?}", if clear { "" } else { " without a clear error" }));
        }
        let read = self.table_of(&lane).await;
        let (sent, read) = (sorted(&sent), sorted(&read));
        for ((id, sent), (other, read)) in sent.iter().zip(&read) {
            let same = id == other
                && match (sent, read) {
                    (None, None) => true,
                    (Some(sent), Some(read)) if json => {
                        serde_json::from_str::<serde_json::Value>(sent).ok() == serde_json::from_str(read).ok()
                    }
                    (Some(sent), Some(read)) if decimal => digits(sent) == digits(read),
                    (Some(sent), Some(read)) => same(&data_type, sent, read),
                    _ => false,
                };
            if !same {
                let short = |v: &Option<String>| v.as_ref().map(|t| t.chars().take(80).collect::<String>());
                return Err(format!("sent {:?}, read {:?}", short(sent), short(read)));
            }
        }
        if sent.len() == read.len() { Ok(()) } else { Err(format!("sent {} rows, read {}", sent.len(), read.len())) }
    }
}

fn sorted(table: &Table) -> Vec<(i64, Option<String>)> {
    let ids = table.column("id").unwrap_or_default();
    let values = table.column("v").unwrap_or_default();
    let mut rows: Vec<_> = ids
        .into_iter()
        .map(|id| id.and_then(|t| t.parse().ok()).expect("an id"))
        .zip(values.into_iter().map(|v| v.map(str::to_owned)))
        .collect();
    rows.sort();
    rows
}

/// Whether two texts are the same value of a type; systems differ in spelling and in nothing else.
fn same(data_type: &DataType, sent: &str, read: &str) -> bool {
    match data_type {
        DataType::Float32 => float(sent)
            .is_some_and(|a| float(read).is_some_and(|b| (a as f32).to_bits() == (b as f32).to_bits() || (a.is_nan() && b.is_nan()))),
        DataType::Float64 => {
            float(sent).is_some_and(|a| float(read).is_some_and(|b| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())))
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => digits(sent) == digits(read),
        DataType::Boolean => flag(sent) == flag(read),
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            sent == read.trim_start_matches("\\x").to_ascii_lowercase()
        }
        DataType::Timestamp(unit, _) => match unit {
            arrow_schema::TimeUnit::Nanosecond => nanos(sent) == nanos(read),
            _ => parse_time(sent) == parse_time(read),
        },
        DataType::Time64(_) | DataType::Time32(_) => fraction(sent) == fraction(read),
        DataType::List(_) => list(sent) == list(read),
        _ => sent == read,
    }
}

fn float(text: &str) -> Option<f64> {
    text.parse().ok()
}
fn flag(text: &str) -> bool {
    matches!(text, "true" | "t" | "1")
}
/// A decimal without its trailing zeros.
fn digits(text: &str) -> String {
    let text = text.trim();
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}
fn fraction(text: &str) -> String {
    digits(if text.contains('.') { text } else { return text.to_owned() })
}
fn nanos(text: &str) -> Option<i128> {
    let spelled = text.replacen(' ', "T", 1);
    let spelled = if spelled.ends_with('Z') || spelled.contains('+') { spelled } else { format!("{spelled}Z") };
    spelled.parse::<jiff::Timestamp>().ok().map(|t| t.as_nanosecond())
}
fn list(text: &str) -> String {
    text.replace(['{', '}'], "|").replace(['[', ']'], "|").replace(' ', "").replace("NULL", "").replace("null", "")
}
