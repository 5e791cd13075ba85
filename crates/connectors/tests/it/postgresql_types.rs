//! Every type of PostgreSQL on its way into Arrow, compared with what the server itself says of the value.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow_cast::{cast, display::array_value_to_string};
use arrow_schema::{DataType, Field};
use linkspan_connectors::postgresql;
use linkspan_core::{ChangeKind, Context, Position, ReadMode, Reason, Repeats, Selected, Source, native};
use linkspan_testkit::{
    drive::{Event, Read, read},
    servers::TestDatabase,
};
use serde_json::json;

/// How the server tells the truth about a value, as text.
#[derive(Clone, Copy)]
enum Truth {
    Text,
    Hex,
    Uuid,
    Days,
    Micros,
    MicrosOfDay,
}

impl Truth {
    fn sql(self, v: &str) -> String {
        match self {
            Self::Text => format!("{v}::text"),
            Self::Hex => format!("encode({v}, 'hex')"),
            Self::Uuid => format!("replace({v}::text, '-', '')"),
            Self::Days => format!(
                "CASE {v} WHEN 'infinity' THEN '2147483647' WHEN '-infinity' THEN '-2147483648' ELSE ({v} - date '1970-01-01')::text END"
            ),
            Self::Micros => format!(
                "CASE {v}::text WHEN 'infinity' THEN '9223372036854775807' WHEN '-infinity' THEN '-9223372036854775808' \
                 ELSE (extract(epoch FROM {v}) * 1000000)::numeric(30)::text END"
            ),
            Self::MicrosOfDay => format!("(extract(epoch FROM {v}) * 1000000)::numeric(30)::text"),
        }
    }
}

/// A column's value as the test compares it.
fn shown(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let any = column.as_any();
    let float = |text: String| match text.as_str() {
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        _ => text,
    };
    Some(match column.data_type() {
        DataType::Date32 => cast(column, &DataType::Int32).unwrap().as_any().downcast_ref::<Int32Array>().unwrap().value(row).to_string(),
        DataType::Timestamp(..) | DataType::Time64(_) => {
            cast(column, &DataType::Int64).unwrap().as_any().downcast_ref::<Int64Array>().unwrap().value(row).to_string()
        }
        DataType::Binary => hex(any.downcast_ref::<BinaryArray>().unwrap().value(row)),
        DataType::FixedSizeBinary(16) => hex(any.downcast_ref::<FixedSizeBinaryArray>().unwrap().value(row)),
        DataType::Float32 => float(any.downcast_ref::<Float32Array>().unwrap().value(row).to_string()),
        DataType::Float64 => float(any.downcast_ref::<Float64Array>().unwrap().value(row).to_string()),
        _ => array_value_to_string(column, row).unwrap(),
    })
}

fn source(database: &TestDatabase) -> Arc<dyn Source> {
    postgresql::connector_type().open(json!({"url": database.url}), Context::real()).unwrap().source().unwrap()
}

async fn read_full(database: &TestDatabase, table: &str) -> (Read, Selected) {
    let source = source(database);
    let stream = source.discover().await.unwrap().into_iter().find(|s| &*s.name.name == table).unwrap();
    let selected = Selected { stream, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
    (read(&source, vec![selected.clone()], Position::new()).await.unwrap(), selected)
}

fn only_batch(read: &Read) -> RecordBatch {
    let mut rows = read.events.iter().filter_map(|e| if let Event::Rows { rows, .. } = e { Some(rows.clone()) } else { None });
    let batch = rows.next().unwrap();
    assert!(rows.next().is_none(), "more than one batch");
    batch
}

const SETUP: &str = "CREATE TYPE mood AS ENUM ('sad', 'so \"so\"', 'glücklich'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0); \
    CREATE DOMAIN cents AS numeric(9, 2); CREATE DOMAIN price AS cents; CREATE TYPE pair AS (a int, b text); CREATE EXTENSION IF NOT EXISTS citext; \
    CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS ltree;";

#[rustfmt::skip]
fn lattice() -> Vec<(&'static str, DataType, Truth, &'static [&'static str])> {
    use arrow_schema::TimeUnit::Microsecond;
    let ts = DataType::Timestamp(Microsecond, None);
    let tz = DataType::Timestamp(Microsecond, Some("UTC".into()));
    vec![
        ("boolean", DataType::Boolean, Truth::Text, &["'t'", "'f'", "NULL"]),
        ("smallint", DataType::Int16, Truth::Text, &["-32768", "32767", "0", "NULL"]),
        ("integer", DataType::Int32, Truth::Text, &["-2147483648", "2147483647", "NULL"]),
        ("bigint", DataType::Int64, Truth::Text, &["-9223372036854775808", "9223372036854775807", "NULL"]),
        ("real", DataType::Float32, Truth::Text, &["1.5", "-0.1", "'NaN'", "'Infinity'", "'-Infinity'", "0.3333333"]),
        ("double precision", DataType::Float64, Truth::Text, &["0.1", "-2.5", "'NaN'", "'Infinity'", "'-Infinity'", "0.30000000000000004"]),
        ("numeric(12,2)", DataType::Decimal128(12, 2), Truth::Text, &["0", "0.01", "-0.01", "9999999999.99", "-9999999999.99", "10000", "NULL"]),
        ("numeric(38,0)", DataType::Decimal128(38, 0), Truth::Text, &["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "1"]),
        ("numeric(38,37)", DataType::Decimal128(38, 37), Truth::Text, &["9.9999999999999999999999999999999999999", "-0.0000000000000000000000000000000000001"]),
        ("numeric(39,3)", DataType::Decimal256(39, 3), Truth::Text, &["999999999999999999999999999999999999.999", "-0.001", "NULL"]),
        ("numeric(76,20)", DataType::Decimal256(76, 20), Truth::Text, &["99999999999999999999999999999999999999999999999999999999.99999999999999999999", "-1"]),
        ("numeric", DataType::Utf8, Truth::Text, &["1e100", "-1e-100", "'NaN'", "'Infinity'", "'-Infinity'", "12.500", "NULL"]),
        ("numeric(100,50)", DataType::Utf8, Truth::Text, &["1.5", "'NaN'"]),
        ("numeric(5,-2)", DataType::Utf8, Truth::Text, &["1234567"]),
        ("numeric(3,5)", DataType::Utf8, Truth::Text, &["0.00123"]),
        ("text", DataType::Utf8, Truth::Text, &["''", "'日本語 🦀 é'", "E'a\\nb\\t\\\\'", "repeat('x', 100000)", "NULL"]),
        ("varchar(10)", DataType::Utf8, Truth::Text, &["'abc'", "'ÄÖÜ'", "''"]),
        ("name", DataType::Utf8, Truth::Text, &["'pg_class'"]),
        ("citext", DataType::Utf8, Truth::Text, &["'MiXed'"]),
        ("xml", DataType::Utf8, Truth::Text, &["'<a b=\"c\">d</a>'", "'<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>'"]),
        ("\"char\"", DataType::Utf8, Truth::Text, &["'x'", "'\\377'"]),
        ("json", DataType::Utf8, Truth::Text, &["'{\"a\" : 1, \"a\": 2}'", "'null'", "'[1.0, 1e400]'", "NULL"]),
        ("jsonb", DataType::Utf8, Truth::Text, &["'{\"b\": [1, {\"c\": null}], \"a\": \"é\"}'", "'123456789012345678901234567890.123'", "'null'", "NULL"]),
        ("bytea", DataType::Binary, Truth::Hex, &["'\\x00ff'", "'\\x'", "NULL"]),
        ("uuid", DataType::FixedSizeBinary(16), Truth::Uuid, &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "NULL"]),
        ("date", DataType::Date32, Truth::Days, &["'1970-01-01'", "'1969-12-31'", "'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "NULL"]),
        ("timestamp", ts.clone(), Truth::Micros, &["'1970-01-01'", "'1969-12-31 23:59:59.999999'", "'4713-01-01 BC'", "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'infinity'", "'-infinity'", "NULL"]),
        ("timestamp(3)", ts, Truth::Micros, &["'2024-02-29 12:34:56.789'"]),
        ("timestamptz", tz, Truth::Micros, &["'2024-03-31 02:30:00+02'", "'0001-01-01 00:00:00+00'", "'290000-01-01 00:00:00+00'", "'infinity'", "'-infinity'", "NULL"]),
        ("time", DataType::Time64(Microsecond), Truth::MicrosOfDay, &["'00:00:00'", "'23:59:59.999999'", "'24:00:00'", "NULL"]),
        ("timetz", DataType::Utf8, Truth::Text, &["'12:00:00+15:59'", "'24:00:00-12'", "NULL"]),
        ("interval", DataType::Utf8, Truth::Text, &["'1 year 2 months -3 days 04:05:06.789'", "'-178000000 years'", "'0'", "'100000 hours'", "NULL"]),
        ("mood", DataType::Utf8, Truth::Text, &["'sad'", "'so \"so\"'", "'glücklich'", "NULL"]),
        ("positive", DataType::Int32, Truth::Text, &["7", "NULL"]),
        ("price", DataType::Decimal128(9, 2), Truth::Text, &["1234567.89", "NULL"]),
        ("pair", DataType::Utf8, Truth::Text, &["ROW(1, 'a\"b,')", "NULL"]),
        ("int4[]", DataType::Utf8, Truth::Text, &["'{1,NULL,3}'", "'{}'", "'[2:3]={1,2}'", "'{{1,2},{3,4}}'", "NULL"]),
        ("text[]", DataType::Utf8, Truth::Text, &["ARRAY['a,b', 'c\"d', '', NULL, 'NULL']"]),
        ("timestamptz[]", DataType::Utf8, Truth::Text, &["ARRAY['2024-01-01 00:00:00+00'::timestamptz]"]),
        ("int4range", DataType::Utf8, Truth::Text, &["'[1,5)'", "'empty'", "'(,)'"]),
        ("numrange", DataType::Utf8, Truth::Text, &["'(0.1,2.5]'"]),
        ("int4multirange", DataType::Utf8, Truth::Text, &["'{[1,2),[5,9)}'"]),
        ("inet", DataType::Utf8, Truth::Text, &["'192.168.0.1/24'", "'::1'"]),
        ("cidr", DataType::Utf8, Truth::Text, &["'10.0.0.0/8'"]),
        ("macaddr", DataType::Utf8, Truth::Text, &["'08:00:2b:01:02:03'"]),
        ("macaddr8", DataType::Utf8, Truth::Text, &["'08:00:2b:01:02:03:04:05'"]),
        ("bit(3)", DataType::Utf8, Truth::Text, &["B'101'"]),
        ("bit varying", DataType::Utf8, Truth::Text, &["B''", "B'1'"]),
        ("money", DataType::Utf8, Truth::Text, &["'12.34'", "'-1000000'"]),
        ("point", DataType::Utf8, Truth::Text, &["'(1.5,-2)'"]),
        ("polygon", DataType::Utf8, Truth::Text, &["'((0,0),(1,1),(1,0))'"]),
        ("tsvector", DataType::Utf8, Truth::Text, &["'a:1 b:2A'"]),
        ("tsquery", DataType::Utf8, Truth::Text, &["'a & !b'"]),
        ("hstore", DataType::Utf8, Truth::Text, &["'a=>1, b=>NULL'"]),
        ("ltree", DataType::Utf8, Truth::Text, &["'a.b.c'"]),
        ("oid", DataType::Utf8, Truth::Text, &["4294967295"]),
        ("pg_lsn", DataType::Utf8, Truth::Text, &["'16/B374D848'"]),
        ("xid", DataType::Utf8, Truth::Text, &["'4294967295'"]),
        ("regclass", DataType::Utf8, Truth::Text, &["'pg_class'"]),
    ]
}

/// The first server that has the type.
fn since(kind: &str) -> u32 {
    match kind {
        "numeric(5,-2)" | "numeric(3,5)" => 150_000,
        "int4multirange" => 140_000,
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_the_server_says_it_is() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute(SETUP).await;
    let version: u32 = database.query("SHOW server_version_num").await.rows[0][0].as_ref().unwrap().parse().unwrap();
    let lattice: Vec<_> = lattice().into_iter().filter(|(kind, ..)| version >= since(kind)).collect();
    for (at, (kind, _, _, literals)) in lattice.iter().enumerate() {
        let values: Vec<String> = literals.iter().enumerate().map(|(i, l)| format!("({i}, ({l})::{kind})")).collect();
        database.execute(&format!("CREATE TABLE t{at} (id int, v {kind}); INSERT INTO t{at} VALUES {}", values.join(", "))).await;
    }
    let source = source(&database);
    let streams = source.discover().await.unwrap();
    let mut cells = 0;
    for (at, (kind, data_type, truth, literals)) in lattice.iter().enumerate() {
        let stream = streams.iter().find(|s| *s.name.name == format!("t{at}")).unwrap().clone();
        let field = stream.schema.field(1).clone();
        assert_eq!(field.data_type(), data_type, "{kind}");
        let selected = Selected { stream, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
        let batch = only_batch(&read(&source, vec![selected], Position::new()).await.unwrap());
        let set = "SET IntervalStyle = 'iso_8601'; SET TimeZone = 'UTC'; SET extra_float_digits = 3";
        let expected = database.query(&format!("{set}; SELECT {} FROM t{at} ORDER BY id", truth.sql("v"))).await;
        assert_eq!(batch.num_rows(), literals.len(), "{kind}");
        for (row, literal) in literals.iter().enumerate() {
            assert_eq!(shown(batch.column(1), row), expected.rows[row][0], "{literal}::{kind}");
            cells += 1;
        }
        let native_type = native::native_in(&field, "postgresql").unwrap();
        let full = database.query(&format!("SET search_path = pg_catalog; SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'public.t{at}'::regclass AND attname = 'v'")).await;
        assert_eq!(Some(native_type), full.rows[0][0], "the native type of {kind}");
    }
    assert!(cells >= 140, "{cells} cells");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_numbers_nan_travels_in_a_sibling_column() {
    let Some(database) = TestDatabase::create().await else { return };
    // The first NaN is met long after the first batch.
    database.execute("CREATE TABLE t (id int, n numeric(10, 2) NOT NULL, big numeric(50, 0), n__special text); \
        INSERT INTO t SELECT g, CASE WHEN g = 90000 THEN 'NaN'::numeric ELSE g END, CASE WHEN g = 90001 THEN 'NaN'::numeric END FROM generate_series(1, 100000) g").await;
    let (result, selected) = read_full(&database, "t").await;
    assert_eq!(selected.stream.schema.fields().len(), 4);
    let schemas: Vec<Vec<String>> = result
        .events
        .iter()
        .filter_map(|e| {
            if let Event::Schema { schema, .. } = e { Some(schema.fields().iter().map(|f| f.name().clone()).collect()) } else { None }
        })
        .collect();
    assert_eq!(schemas, [["id", "n", "big", "n__special", "n__special_", "big__special"]]);
    let batches: Vec<_> = result.batches(&selected.stream.name).collect();
    let last = batches.last().unwrap();
    let field: &Field = last.schema_ref().field(4);
    assert_eq!(field.metadata().get(native::SPECIAL_OF).map(String::as_str), Some("n"));
    let specials: i64 = batches.iter().filter(|b| b.num_columns() == 6).map(|b| (b.num_rows() - b.column(4).null_count()) as i64).sum();
    assert_eq!((specials, result.row_count()), (1, 100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_that_arrow_cannot_hold_is_null_and_recorded() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute(
            "CREATE TABLE t (id int, at timestamp NOT NULL); INSERT INTO t VALUES (1, '2024-01-01'), (2, '294276-12-31 23:59:59.999999')",
        )
        .await;
    let (result, selected) = read_full(&database, "t").await;
    let batch = only_batch(&result);
    assert!(batch.column(1).is_valid(0) && batch.column(1).is_null(1));
    let changes =
        result.events.iter().find_map(|e| if let Event::Rows { changes, .. } = e { Some(changes.clone()) } else { None }).unwrap();
    let change = &changes.changed[0];
    assert_eq!((change.row, change.field.as_str(), change.kind, change.reason), (1, "at", ChangeKind::Nulled, Reason::OutOfRange));
    assert!(!selected.stream.schema.field(1).is_nullable() && batch.schema_ref().field(1).is_nullable());
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_identity_dropped_and_unreadable_columns() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone text, net numeric(8, 2), gross numeric(8, 2) GENERATED ALWAYS AS (net * 1.2) STORED); \
        ALTER TABLE t DROP COLUMN gone; INSERT INTO t (net) VALUES (10), (NULL)").await;
    let (result, selected) = read_full(&database, "t").await;
    assert!(selected.stream.schema.field(2).metadata().contains_key("ls.generated"));
    assert_eq!(result.table(&selected.stream.name).rows[0], [Some("1".to_owned()), Some("10.00".into()), Some("12.00".into())]);
    assert_eq!(result.table(&selected.stream.name).rows[1], [Some("2".to_owned()), None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_the_primary_one_or_the_smallest_that_is_unique_and_never_null() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE a (x int, y int, PRIMARY KEY (y, x)); CREATE TABLE b (p int NOT NULL, q int NOT NULL, r int, UNIQUE (p, q), UNIQUE (r)); \
        CREATE TABLE c (p int NOT NULL, q int NOT NULL); CREATE UNIQUE INDEX ON c (p, q); CREATE UNIQUE INDEX ON c (q) INCLUDE (p); \
        CREATE TABLE d (p int NOT NULL); CREATE UNIQUE INDEX ON d (p) WHERE p > 0; CREATE TABLE e (p text NOT NULL); CREATE UNIQUE INDEX ON e (lower(p))").await;
    let keys: Vec<Vec<String>> = source(&database).discover().await.unwrap().into_iter().map(|s| s.key).collect();
    let expected: [&[&str]; 5] = [&["y", "x"], &["p", "q"], &["q"], &[], &[]];
    assert_eq!(keys, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_columns_and_one_with_a_thousand() {
    let Some(database) = TestDatabase::create().await else { return };
    let columns: Vec<String> = (0..1000).map(|i| format!("c{i} int DEFAULT {i}")).collect();
    database
        .execute(&format!(
            "CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES; CREATE TABLE wide ({}); INSERT INTO wide DEFAULT VALUES",
            columns.join(", ")
        ))
        .await;
    let (result, _) = read_full(&database, "empty").await;
    assert_eq!(result.row_count(), 1);
    let (result, _) = read_full(&database, "wide").await;
    assert_eq!(shown(only_batch(&result).column(999), 0).as_deref(), Some("999"));
}
