//! From PostgreSQL to PostgreSQL: every type with its extremes arrives as it was, in every mode.

use std::sync::Arc;

use linkspan_core::{
    Alter, Batch, Changes, Context, LoadStream, MemoryLease, Misfit, Position, ReadMode, Repeats, Rows, SchemaPlan, Selected, Stream, Swap,
    Target, WriteMode,
};
use linkspan_testkit::drive::{Event, read};
use serde_json::json;

use crate::postgresql_destination::{Job, World, world};

const SETUP: &str = "CREATE TYPE mood AS ENUM ('sad', 'so \"so\"', 'glücklich'); CREATE SCHEMA other; CREATE TYPE other.\"Odd Type\" AS ENUM ('a', 'b'); \
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE DOMAIN cents AS numeric(9, 2); CREATE DOMAIN price AS cents; \
    CREATE TYPE pair AS (a int, b text); CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS ltree";

#[rustfmt::skip]
const LATTICE: &[(&str, &[&str])] = &[
    ("boolean", &["'t'", "'f'"]),
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("real", &["1.5", "-0.1", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "3.4028235e38", "1e-45"]),
    ("double precision", &["0.1", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "0.30000000000000004", "1.7976931348623157e308", "5e-324"]),
    ("numeric(12,2)", &["0", "0.01", "-0.01", "9999999999.99", "-9999999999.99", "10000", "'NaN'"]),
    ("numeric(4,4)", &["0.9999", "-0.0001", "'NaN'"]),
    ("numeric(38,0)", &["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "1", "10000000000000000"]),
    ("numeric(38,37)", &["9.9999999999999999999999999999999999999", "-0.0000000000000000000000000000000000001"]),
    ("numeric(39,3)", &["999999999999999999999999999999999999.999", "-0.001", "'NaN'"]),
    ("numeric(76,20)", &["99999999999999999999999999999999999999999999999999999999.99999999999999999999", "-1"]),
    ("numeric", &["1e100", "-1e-100", "'NaN'", "'Infinity'", "'-Infinity'", "12.500", "0.000", "1e1000", "10000", "123456789.000100"]),
    ("numeric(100,50)", &["1.5", "'NaN'"]),
    ("numeric(5,-2)", &["1234567"]),
    ("numeric(3,5)", &["0.00123"]),
    ("text", &["''", "'日本語 🦀 é'", "E'a\\nb\\t\\\\N\\r'", "'\\N'", "'NULL'", "repeat('x', 3000000)"]),
    ("varchar(10)", &["'abc'", "'ÄÖÜÄÖÜÄÖÜÄ'", "''"]),
    ("char(5)", &["'ab'", "''"]),
    ("name", &["'pg_class'"]),
    ("citext", &["'MiXed'"]),
    ("xml", &["'<a b=\"c\">d</a>'"]),
    ("\"char\"", &["'x'"]),
    ("json", &["'{\"a\" : 1, \"a\": 2}'", "'null'", "'[1.0, 1e400]'"]),
    ("jsonb", &["'{\"b\": [1, {\"c\": null}], \"a\": \"é\"}'", "'123456789012345678901234567890.123'", "'null'", "'\"\\\\u0000x\"'"]),
    ("bytea", &["'\\x00ff'", "'\\x'", "decode(repeat('00ff', 700000), 'hex')"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("date", &["'1970-01-01'", "'1969-12-31'", "'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'"]),
    ("timestamp", &["'1970-01-01'", "'1969-12-31 23:59:59.999999'", "'4713-01-01 BC'", "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'infinity'", "'-infinity'"]),
    ("timestamp(3)", &["'2024-02-29 12:34:56.789'"]),
    ("timestamptz", &["'2024-03-31 02:30:00+02'", "'0001-01-01 00:00:00+00'", "'290000-01-01 00:00:00+00'", "'infinity'", "'-infinity'"]),
    ("timestamptz(0)", &["'2024-03-31 02:30:00+02'"]),
    ("time", &["'00:00:00'", "'23:59:59.999999'", "'24:00:00'"]),
    ("time(2)", &["'01:02:03.45'"]),
    ("timetz", &["'12:00:00+15:59'", "'24:00:00-12'"]),
    ("interval", &["'1 year 2 months -3 days 04:05:06.789'", "'-178000000 years'", "'0'", "'100000 hours'", "'-00:00:00.000001'"]),
    ("interval day to second(3)", &["'3 days 04:05:06.789'"]),
    ("mood", &["'sad'", "'so \"so\"'", "'glücklich'"]),
    ("other.\"Odd Type\"", &["'a'"]),
    ("mood[]", &["ARRAY['sad', NULL, 'so \"so\"']::mood[]"]),
    ("positive", &["7"]),
    ("price", &["1234567.89"]),
    ("pair", &["ROW(1, 'a\"b,')", "ROW(NULL, '')"]),
    ("int4[]", &["'{1,NULL,3}'", "'{}'", "'[2:3]={1,2}'", "'{{1,2},{3,4}}'"]),
    ("text[]", &["ARRAY['a,b', 'c\"d', '', NULL, 'NULL', E'\\\\', E'x\\ty\\n']"]),
    ("timestamptz[]", &["ARRAY['2024-01-01 00:00:00+00'::timestamptz, 'infinity', '0044-03-15 00:00:00+00 BC']"]),
    ("numeric(5,2)[]", &["'{1.50,NaN}'"]),
    ("bytea[]", &["ARRAY['\\x00'::bytea, '\\x']"]),
    ("jsonb[]", &["ARRAY['{\"a\": \"x,\\\"y\"}'::jsonb]"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("numrange", &["'(0.1,2.5]'"]),
    ("tstzrange", &["'[2024-01-01 00:00:00+00, infinity)'"]),
    ("int4multirange", &["'{[1,2),[5,9)}'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(3)", &["B'101'"]),
    ("bit varying", &["B''", "B'1'"]),
    ("money", &["'12.34'", "'-1000000'"]),
    ("point", &["'(1.5,-2)'", "'(0.1,0.30000000000000004)'"]),
    ("line", &["'{1,-1,0}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),2>'"]),
    ("tsvector", &["'a:1 b:2A'"]),
    ("tsquery", &["'a & !b'"]),
    ("hstore", &["'a=>1, b=>NULL'"]),
    ("ltree", &["'a.b.c'"]),
    ("jsonpath", &["'$.a[*]'"]),
    ("oid", &["4294967295"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("xid", &["'4294967295'"]),
    ("regclass", &["'pg_class'"]),
];

/// Reads a table and loads it, without an engine: what a run does when nothing drifts.
async fn transfer(w: &World, stream: &Stream, mode: WriteMode, into: &str) {
    let source =
        linkspan_connectors::postgresql::connector_type().open(json!({ "url": w.db.url }), Context::real()).unwrap().source().unwrap();
    let selected = Selected { stream: stream.clone(), read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
    let read = read(&source, vec![selected], Position::new()).await.unwrap();
    let target = Target { namespace: Some(into.into()), name: stream.name.name.clone() };
    let key = if mode == WriteMode::Append { vec![] } else { vec!["id".to_owned()] };
    let load = LoadStream { stream: stream.name.clone(), target, write: mode, generation: 1, key: key.clone(), swap: Swap::Rename };
    let mut job = Job { stream: load, fence: 1, previous: 0, scope: linkspan_core::Scope::Part(stream.name.clone(), into.into()) };
    let mut session = w.session(&job).await.unwrap();
    let mut schema = stream.schema.clone();
    let mut announced = None;
    for event in read.events {
        match event {
            Event::Schema { schema: next, .. } => schema = next,
            Event::Rows { rows, .. } => {
                schema = if rows.schema() == schema { schema } else { rows.schema() };
                if announced.as_ref() != Some(&schema) {
                    let ddl = vec![Alter::Create { schema: schema.clone(), key: key.clone() }];
                    let plan = SchemaPlan { ddl, schema: schema.clone(), misfit: Misfit::Fail };
                    session.schema(&stream.name, &plan).await.unwrap();
                    announced = Some(schema.clone());
                }
                let batch =
                    Batch { stream: stream.name.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() };
                session.write(batch).await.unwrap_or_else(|e| panic!("{}: {e:?}", stream.name));
            }
            _ => {}
        }
    }
    let commit = w.commit(&mut job);
    session.commit(&commit).await.unwrap_or_else(|e| panic!("{}: {e:?}", stream.name));
    if mode == WriteMode::Replace {
        w.publish(&job).await.unwrap();
    }
}

async fn streams(w: &World) -> Vec<Stream> {
    let source = linkspan_connectors::postgresql::connector_type().open(json!({ "url": w.db.url }), Context::real()).unwrap();
    source.source().unwrap().discover().await.unwrap()
}

/// What is in one table and not in the other, and the types that differ.
async fn differences(w: &World, table: &str, from: &str, into: &str) -> String {
    let minus = |a: &str, b: &str| {
        format!("(SELECT * FROM (SELECT (t.*)::text FROM {a}.{table} t EXCEPT SELECT (t.*)::text FROM {b}.{table} t) x LIMIT 1)")
    };
    let rows = w.text(&format!("SET extra_float_digits = 3; {} UNION ALL {}", minus(from, into), minus(into, from))).await;
    let types = |s: &str| {
        format!(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{s}.{table}'::regclass AND attnum > 0"
        )
    };
    let types = w.text(&format!("({} EXCEPT {}) UNION ALL ({} EXCEPT {})", types(from), types(into), types(into), types(from))).await;
    format!("{rows}{types}").chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_it_was_in_every_mode() {
    let Some(w) = world().await else { return };
    let w = Arc::new(w);
    w.db.execute(SETUP).await;
    let mut sql = String::new();
    for (at, (kind, literals)) in LATTICE.iter().enumerate() {
        let values = literals.iter().chain(&["NULL"]).enumerate().map(|(i, l)| format!("({i}, ({l})::{kind})"));
        let values: Vec<String> = values.collect();
        sql.push_str(&format!("CREATE TABLE t{at} (id int NOT NULL, v {kind}); INSERT INTO t{at} VALUES {};", values.join(", ")));
    }
    w.db.execute(&sql).await;
    let streams = streams(&w).await;
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for (at, (kind, literals)) in LATTICE.iter().enumerate() {
        let stream = streams.iter().find(|s| *s.name.name == format!("t{at}")).unwrap();
        for mode in [WriteMode::Append, WriteMode::Merge, WriteMode::Replace] {
            let into = format!("{mode:?}").to_lowercase();
            transfer(&w, stream, mode, &into).await;
            // A second merge meets equal rows: nothing may differ for the server.
            let differences = differences(&w, &format!("t{at}"), "public", &into).await;
            if !differences.is_empty() {
                wrong.push(format!("{kind} ({mode:?}): {differences}"));
            }
            cells += literals.len() + 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {cells} cells:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cells >= 600, "{cells} cells");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_types_beside_each_other_arrive_in_one_table() {
    let Some(w) = world().await else { return };
    w.db.execute(SETUP).await;
    let columns: Vec<String> = LATTICE.iter().enumerate().map(|(at, (kind, _))| format!("c{at} {kind}")).collect();
    w.db.execute(&format!("CREATE TABLE wide (id int PRIMARY KEY, {})", columns.join(", "))).await;
    for row in 0..8 {
        let value = |(kind, literals): &(&str, &[&str])| literals.get(row).map_or("NULL".to_owned(), |l| format!("({l})::{kind}"));
        let values: Vec<String> = LATTICE.iter().map(value).collect();
        w.db.execute(&format!("INSERT INTO wide VALUES ({row}, {})", values.join(", "))).await;
    }
    let streams = streams(&w).await;
    for mode in [WriteMode::Append, WriteMode::Merge, WriteMode::Replace] {
        let into = format!("{mode:?}").to_lowercase();
        transfer(&w, &streams[0], mode, &into).await;
        let differences = differences(&w, "wide", "public", &into).await;
        assert_eq!(differences.replace("id,integer", ""), "", "{mode:?}");
    }
}
