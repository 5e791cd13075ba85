//! The standard rows that suites write and read, and the text tables in which they are compared.

use std::{ops::Range, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_cast::{
    cast,
    display::{ArrayFormatter, FormatOptions},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use linkspan_core::{Cursor, Stream, StreamName};

/// 2024-01-01T00:00:00Z in microseconds.
const START: i64 = 1_704_067_200_000_000;

/// A row of the standard shape. Every suite seeds, changes and compares these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StandardRow {
    /// The key: `bigint`, never null.
    pub id: i64,
    /// `text`, null for every seventh id.
    pub name: Option<String>,
    /// `decimal(12, 2)`, in cents.
    pub cents: i64,
    /// `boolean`.
    pub flag: bool,
    /// `timestamp` with zone UTC in microseconds. Rises with `id`, but three neighbours share a value: every suite meets ties.
    pub updated_at: i64,
}

impl StandardRow {
    /// The row of an id as it was first written.
    pub fn new(id: i64) -> Self {
        Self::version(id, 0)
    }
    /// The row of an id after its `version`th change; its `updated_at` is later than that of every row of an earlier version.
    pub fn version(id: i64, version: i64) -> Self {
        let name = match version {
            0 => format!("row {id}"),
            v => format!("row {id} v{v}"),
        };
        Self {
            id,
            name: (id % 7 != 0).then_some(name),
            cents: (id * 3_701 + version * 13) % 1_000_000 - 500_000,
            flag: (id + version) % 2 == 0,
            updated_at: START + (version * 10_000_000 + id.div_euclid(3)) * 1_000_000,
        }
    }
    pub fn range(ids: Range<i64>) -> Vec<Self> {
        ids.map(Self::new).collect()
    }
    pub fn range_version(ids: Range<i64>, version: i64) -> Vec<Self> {
        ids.map(|id| Self::version(id, version)).collect()
    }
    /// `-12.30`: the amount as SQL and CSV spell it.
    pub fn amount(&self) -> String {
        let sign = if self.cents < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", self.cents.abs() / 100, self.cents.abs() % 100)
    }
    /// `2024-01-01T00:00:01Z`.
    pub fn updated_at_text(&self) -> String {
        jiff::Timestamp::from_microsecond(self.updated_at).expect("within jiff's range").to_string()
    }
}

/// The names of the standard columns, in order.
pub const COLUMNS: [&str; 5] = ["id", "name", "amount", "flag", "updated_at"];

pub fn standard_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("updated_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

/// A stream of the standard shape, as a source would discover it.
pub fn standard_stream(name: StreamName) -> Stream {
    Stream {
        name,
        schema: standard_schema(),
        key: vec!["id".into()],
        cursor: Cursor::Columns(vec!["updated_at".into()]),
        estimated_rows: None,
        estimated_bytes: None,
    }
}

pub fn standard_batch(rows: &[StandardRow]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.name.as_deref()))),
        Arc::new(
            Decimal128Array::from_iter_values(rows.iter().map(|r| i128::from(r.cents)))
                .with_precision_and_scale(12, 2)
                .expect("a legal precision"),
        ),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.flag)))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.updated_at)).with_timezone("UTC")),
    ];
    RecordBatch::try_new(standard_schema(), columns).expect("columns match the schema")
}

/// Rows as text, the form in which every system can be read back. `None` is NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    pub fn new(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: vec![] }
    }
    /// The batches' values in Arrow's display form; binary columns in lower-case hex. Batches may differ in columns: the union is shown.
    pub fn from_batches<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Self {
        let mut table = Self::default();
        for batch in batches {
            table.add(batch);
        }
        table
    }
    fn add(&mut self, batch: &RecordBatch) {
        for field in batch.schema_ref().fields() {
            if !self.columns.contains(field.name()) {
                self.columns.push(field.name().clone());
                self.rows.iter_mut().for_each(|r| r.push(None));
            }
        }
        let options = FormatOptions::default();
        let first = self.rows.len();
        self.rows.resize(first + batch.num_rows(), vec![None; self.columns.len()]);
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let at = self.columns.iter().position(|c| c == field.name()).expect("added above");
            let column = &without_zone(column);
            let format = ArrayFormatter::try_new(column, &options).expect("every type has a display form");
            for row in (0..column.len()).filter(|r| !column.is_null(*r)) {
                self.rows[first + row][at] = Some(format.value(row).to_string());
            }
        }
    }
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    pub fn column(&self, name: &str) -> Option<Vec<Option<&str>>> {
        let at = self.columns.iter().position(|c| c == name)?;
        Some(self.rows.iter().map(|r| r[at].as_deref()).collect())
    }
    /// The `id` column as numbers, sorted. A row without a readable id is a panic: that is a failed test.
    pub fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.column("id").unwrap_or_default().into_iter().map(|v| parse_id(v.unwrap_or("NULL"))).collect();
        ids.sort_unstable();
        ids
    }
    /// The standard rows, sorted by id. Spellings are read leniently (`t`, `1`, `true`; `12.3`, `12.30`), since systems differ in them
    /// and in nothing else; columns in `lacks` are taken as written.
    pub fn standard_rows(&self, lacks: &[&str]) -> Vec<StandardRow> {
        let at = |name: &str| self.columns.iter().position(|c| c.eq_ignore_ascii_case(name));
        let (id, name, amount, flag, updated) = (at("id"), at("name"), at("amount"), at("flag"), at("updated_at"));
        let missing: Vec<&str> = COLUMNS.into_iter().filter(|c| at(c).is_none() && !lacks.contains(c)).collect();
        assert!(self.rows.is_empty() || missing.is_empty(), "columns {missing:?} are not in {:?}", self.columns);
        let mut rows: Vec<StandardRow> = self
            .rows
            .iter()
            .map(|row| {
                let get = |at: Option<usize>| at.and_then(|i| row[i].as_deref());
                let plain = StandardRow::new(parse_id(get(id).unwrap_or("NULL")));
                StandardRow {
                    name: if lacks.contains(&"name") { plain.name } else { get(name).map(str::to_owned) },
                    cents: if lacks.contains(&"amount") { plain.cents } else { parse_cents(get(amount).unwrap_or("NULL")) },
                    flag: if lacks.contains(&"flag") { plain.flag } else { parse_flag(get(flag).unwrap_or("NULL")) },
                    updated_at: if lacks.contains(&"updated_at") { plain.updated_at } else { parse_time(get(updated).unwrap_or("NULL")) },
                    id: plain.id,
                }
            })
            .collect();
        rows.sort();
        rows
    }
}

/// An instant shown in UTC without its zone: Arrow's display form knows no zone names.
fn without_zone(column: &ArrayRef) -> ArrayRef {
    let DataType::Timestamp(unit, Some(_)) = column.data_type() else { return column.clone() };
    let instants = cast(column, &DataType::Int64).expect("instants are integers");
    cast(&instants, &DataType::Timestamp(*unit, None)).expect("and integers are instants")
}

fn parse_id(text: &str) -> i64 {
    text.trim_end_matches(".0").parse().unwrap_or_else(|_| panic!("not an id: {text:?}"))
}

fn parse_cents(text: &str) -> i64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let padded = format!("{part:0<2}");
    assert!(padded[2..].bytes().all(|b| b == b'0'), "not an amount of cents: {text:?}");
    format!("{whole}{}", &padded[..2]).parse().unwrap_or_else(|_| panic!("not an amount: {text:?}"))
}

fn parse_flag(text: &str) -> bool {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => true,
        "false" | "f" | "0" => false,
        _ => panic!("not a flag: {text:?}"),
    }
}

/// Microseconds since 1970; a text without a zone is UTC. By civil time, since instants of the last days of 9999 are beyond jiff's.
pub fn parse_time(text: &str) -> i64 {
    let spelled = text.trim().replacen(' ', "T", 1);
    let (civil, offset) = match spelled.strip_suffix('Z') {
        Some(civil) => (civil, 0),
        None => match spelled.rfind(['+', '-']).filter(|at| *at > 10) {
            Some(at) => (&spelled[..at], parse_offset(&spelled[at..])),
            None => (spelled.as_str(), 0),
        },
    };
    let civil: jiff::civil::DateTime = civil.parse().unwrap_or_else(|e| panic!("not a time: {text:?}: {e}"));
    let micros = civil.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_micros();
    i64::try_from(micros).expect("ten thousand years fit") - offset * 1_000_000
}

/// Seconds of `+02`, `-0330`, `+02:00`.
fn parse_offset(text: &str) -> i64 {
    let digits: String = text[1..].chars().filter(char::is_ascii_digit).collect();
    let part = |range: std::ops::Range<usize>| digits.get(range).and_then(|d| d.parse::<i64>().ok()).unwrap_or(0);
    let seconds = part(0..2) * 3600 + part(2..4) * 60 + part(4..6);
    if text.starts_with('-') { -seconds } else { seconds }
}

/// Fails with the few rows that differ instead of two long lists.
#[track_caller]
pub fn assert_same_rows(found: &[StandardRow], expected: &[StandardRow], what: &str) {
    if found == expected {
        return;
    }
    let missing: Vec<_> = expected.iter().filter(|r| !found.contains(r)).collect();
    let extra: Vec<_> = found.iter().filter(|r| !expected.contains(r)).collect();
    let some = |rows: &[&StandardRow]| rows.iter().take(4).map(|r| format!("\n    {r:?}")).collect::<String>();
    panic!(
        "{what}: {} rows, expected {}; {} missing{}\n  {} too many or different{}{}",
        found.len(),
        expected.len(),
        missing.len(),
        some(&missing),
        extra.len(),
        some(&extra),
        if missing.is_empty() && extra.is_empty() { "\n  (the same rows, some repeated)" } else { "" }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_rows_survive_the_way_through_a_table() {
        let rows: Vec<_> = StandardRow::range(-3..30).into_iter().chain(StandardRow::range_version(30..40, 2)).collect();
        assert_eq!(Table::from_batches([&standard_batch(&rows)]).standard_rows(&[]), rows);
    }

    #[test]
    fn spellings_of_other_systems_are_read() {
        assert_eq!(parse_time("2024-01-01 00:00:01+00"), START + 1_000_000);
        assert_eq!(parse_time("2024-01-01 00:00:01.5"), START + 1_500_000);
        assert_eq!(parse_time("2024-01-01T02:30:00+02:30"), START);
        assert_eq!(parse_time("9999-12-31T23:59:59.999999Z"), 253_402_300_799_999_999);
        assert_eq!((parse_cents("-0.05"), parse_cents("12.3"), parse_cents("7")), (-5, 1230, 700));
        assert_eq!(StandardRow { cents: -5, ..StandardRow::new(1) }.amount(), "-0.05");
    }
}
