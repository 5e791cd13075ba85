//! Every type of PostgreSQL with its extremes, through the program, into every destination and back: each value is equal, or its loss
//! is documented here and recorded by the run. Its section of `docs/types.md` is this test's result.

use std::fmt::Write;

use linkspan_testkit::servers::TestDatabase;

use crate::{
    mysql_server::{Database, Family},
    program::Place,
    types_page::Section,
};

const SETUP: &str = "CREATE TYPE mood AS ENUM ('sad', 'so \"so\"', 'glücklich'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0); \
    CREATE DOMAIN cents AS numeric(9, 2); CREATE DOMAIN price AS cents; CREATE TYPE pair AS (a int, b text); CREATE SCHEMA lat; \
    CREATE FUNCTION again(v text, kind text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN \
    EXECUTE format('SELECT (%L::%s)::text', v, kind) INTO r; RETURN r; EXCEPTION WHEN others THEN RETURN 'ERROR ' || SQLERRM; END $$;";

#[rustfmt::skip]
const LATTICE: &[(&str, &[&str])] = &[
    ("boolean", &["'t'", "'f'", "NULL"]),
    ("smallint", &["-32768", "32767", "0", "NULL"]),
    ("integer", &["-2147483648", "2147483647", "NULL"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "NULL"]),
    ("real", &["1.5", "-0.1", "'NaN'", "'Infinity'", "'-Infinity'", "3.4028235e38", "1e-45", "0.3333333"]),
    ("double precision", &["0.1", "'NaN'", "'Infinity'", "'-Infinity'", "0.30000000000000004", "1.7976931348623157e308", "5e-324"]),
    ("numeric(12,2)", &["0", "0.01", "-0.01", "9999999999.99", "-9999999999.99", "10000", "'NaN'", "NULL"]),
    ("numeric(4,4)", &["0.9999", "-0.0001"]),
    ("numeric(38,0)", &["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "1"]),
    ("numeric(38,37)", &["9.9999999999999999999999999999999999999", "-0.0000000000000000000000000000000000001"]),
    ("numeric(39,3)", &["999999999999999999999999999999999999.999", "-0.001", "NULL"]),
    ("numeric(76,20)", &["99999999999999999999999999999999999999999999999999999999.99999999999999999999", "-1"]),
    ("numeric", &["1e100", "-1e-100", "'NaN'", "'Infinity'", "'-Infinity'", "12.500", "0.000", "NULL"]),
    ("numeric(100,50)", &["1.5", "'NaN'"]),
    ("text", &["''", "'日本語 🦀 é'", "E'a\\nb\\t\\\\N\\r'", "'\\N'", "'NULL'", "'null'", "'007'", "' padded '", "'\"quoted\", yes'", "repeat('x', 100000)", "NULL"]),
    ("varchar(10)", &["'abc'", "'ÄÖÜÄÖÜÄÖÜÄ'", "''"]),
    ("char(5)", &["'ab'"]),
    ("name", &["'pg_class'"]),
    ("xml", &["'<a b=\"c\">d</a>'"]),
    ("json", &["'{\"a\" : 1, \"a\": 2}'", "'null'", "'[1.0, 1e400]'", "NULL"]),
    ("jsonb", &["'{\"b\": [1, {\"c\": null}], \"a\": \"é\"}'", "'123456789012345678901234567890.123'", "'null'", "'\"x\"'", "NULL"]),
    ("bytea", &["'\\x00ff'", "'\\x'", "decode(repeat('00ff', 5000), 'hex')", "NULL"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "NULL"]),
    ("date", &["'1970-01-01'", "'1969-12-31'", "'0001-01-01'", "'9999-12-31'", "'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "NULL"]),
    ("timestamp", &["'1970-01-01'", "'1969-12-31 23:59:59.999999'", "'4713-01-01 BC'", "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'290000-01-01'", "'infinity'", "'-infinity'", "NULL"]),
    ("timestamp(3)", &["'2024-02-29 12:34:56.789'"]),
    ("timestamptz", &["'2024-03-31 02:30:00+02'", "'0001-01-01 00:00:00+00'", "'290000-01-01 00:00:00+00'", "'infinity'", "'-infinity'", "NULL"]),
    ("time", &["'00:00:00'", "'23:59:59.999999'", "'24:00:00'", "NULL"]),
    ("timetz", &["'12:00:00+15:59'", "'24:00:00-12'", "NULL"]),
    ("interval", &["'1 year 2 months -3 days 04:05:06.789'", "'-178000000 years'", "'0'", "'100000 hours'", "NULL"]),
    ("mood", &["'sad'", "'so \"so\"'", "'glücklich'", "NULL"]),
    ("positive", &["7", "NULL"]),
    ("price", &["1234567.89", "NULL"]),
    ("pair", &["ROW(1, 'a\"b,')", "NULL"]),
    ("int4[]", &["'{1,NULL,3}'", "'{}'", "'[2:3]={1,2}'", "'{{1,2},{3,4}}'", "NULL"]),
    ("text[]", &["ARRAY['a,b', 'c\"d', '', NULL, 'NULL']"]),
    ("timestamptz[]", &["ARRAY['2024-01-01 00:00:00+00'::timestamptz]"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("numrange", &["'(0.1,2.5]'"]),
    ("tstzrange", &["'[2024-01-01 00:00:00+00,)'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(3)", &["B'101'"]),
    ("bit varying", &["B''", "B'1'", "B'0000000000'"]),
    ("money", &["'12.34'", "'-1000000'"]),
    ("point", &["'(1.5,-2)'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("tsvector", &["'a:1 b:2A'"]),
    ("tsquery", &["'a & !b'"]),
    ("oid", &["4294967295", "0"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("regclass", &["'pg_class'"]),
];

/// Where the values go, and whether namespaces are kept there.
const THROUGH: [(&str, &str); 7] = [
    ("postgresql", ""),
    ("mysql", ""),
    ("mariadb", ""),
    ("sqlite", "sqlite:./there.db"),
    ("parquet", "parquet:./there"),
    ("csv", "csv:./there-csv"),
    ("jsonl", "jsonl:./there-jsonl"),
];

/// Cells that do not come back equal: (type, literal, destination) and why. Nothing else may differ.
#[rustfmt::skip]
const LOSSES: &[(&str, &str, &str, &str)] = &[
    ("numeric(12,2)", "'NaN'", "csv", "null, with the NaN in the column `v__special` beside it"),
    ("date", "'4713-01-01 BC'", "csv", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("date", "'5874897-12-31'", "csv", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("timestamp", "'4713-01-01 BC'", "csv", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("timestamp", "'290000-01-01'", "csv", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("timestamptz", "'290000-01-01 00:00:00+00'", "csv", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("numeric(12,2)", "'NaN'", "jsonl", "null, with the NaN in the column `v__special` beside it"),
    ("date", "'4713-01-01 BC'", "jsonl", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("date", "'5874897-12-31'", "jsonl", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("timestamp", "'4713-01-01 BC'", "jsonl", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("timestamp", "'290000-01-01'", "jsonl", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("timestamptz", "'290000-01-01 00:00:00+00'", "jsonl", "the same day with an ISO 8601 expanded year, which PostgreSQL does not read"),
    ("json", "'{\"a\" : 1, \"a\": 2}'", "jsonl", "a nested document; read back it is jsonb, which keeps one of two equal keys"),
    ("json", "'[1.0, 1e400]'", "jsonl", "a nested document; read back it is jsonb, which writes the number out"),
    ("json", "'null'", "jsonl", "JSON's null and SQL's are one"),
    ("jsonb", "'null'", "jsonl", "JSON's null and SQL's are one"),
    ("jsonb", "'\"x\"'", "jsonl", "a JSON string; read back it is text"),
    ("bytea", "'\\x00ff'", "jsonl", "base64"),
    ("bytea", "decode(repeat('00ff', 5000), 'hex')", "jsonl", "base64"),
];

/// Values that MySQL and MariaDB have no place for: (type, literals). A stream that holds one stops before anything of it is seen.
const REFUSED: &[(&str, &[&str])] = &[
    ("real", &["'NaN'", "'Infinity'", "'-Infinity'"]),
    ("double precision", &["'NaN'", "'Infinity'", "'-Infinity'"]),
    ("date", &["'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'"]),
    ("timestamp", &["'4713-01-01 BC'", "'290000-01-01'", "'infinity'", "'-infinity'"]),
    ("timestamptz", &["'290000-01-01 00:00:00+00'", "'infinity'", "'-infinity'"]),
    ("time", &["'24:00:00'"]),
];

fn is_refused(kind: &str, literal: &str, through: &str) -> bool {
    // MySQL keeps the numbers of a json as 64-bit floats, and one of two equal keys; MariaDB's is text.
    let of_json = ["'{\"a\" : 1, \"a\": 2}'", "'[1.0, 1e400]'", "'123456789012345678901234567890.123'"];
    let of_mysql = through == "mysql" && kind.starts_with("json") && of_json.contains(&literal);
    of_mysql || matches!(through, "mysql" | "mariadb") && REFUSED.iter().any(|(k, l)| *k == kind && l.contains(&literal))
}

fn loss(kind: &str, literal: &str, through: &str) -> Option<&'static str> {
    if is_refused(kind, literal, through) {
        return Some("refused with its place");
    }
    LOSSES.iter().find(|(k, l, t, _)| *k == kind && (*l == literal || *l == "*") && *t == through).map(|(.., why)| *why)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_from_every_destination() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute(SETUP).await;
    for (at, (kind, literals)) in LATTICE.iter().enumerate() {
        let values: Vec<String> = literals.iter().enumerate().map(|(i, l)| format!("({i}, ({l})::{kind})")).collect();
        database
            .execute(&format!(
                "CREATE TABLE lat.t{at:02} (id int PRIMARY KEY, v {kind}); INSERT INTO lat.t{at:02} VALUES {}",
                values.join(", ")
            ))
            .await;
    }
    let place = Place::new();
    let (mut cells, mut wrong) = (0, Vec::new());
    let mut section = Section::new("PostgreSQL", THROUGH.map(|(name, _)| name));
    for (name, url) in THROUGH {
        if name == "postgresql" {
            place
                .run(&["sync", &database.url, &database.url, "--stream", "lat.*", "--write", "replace", "--target", "postgresql.*"])
                .succeeds();
        } else if url.is_empty() {
            let family = if name == "mysql" { Family::Mysql } else { Family::Mariadb };
            let Some(there) = family.database().await else { return };
            through_mysql(&place, &database, name, &there).await;
        } else {
            place.run(&["sync", &database.url, url, "--stream", "lat.*", "--write", "replace"]).succeeds();
            place.run(&["sync", url, &database.url, "--write", "replace", "--target", &format!("{name}.*")]).succeeds();
        }
        for (at, (kind, literals)) in LATTICE.iter().enumerate() {
            let kept = url.is_empty() || name == "parquet";
            let table = if kept { format!("{name}.t{at:02}") } else { format!("{name}.\"lat.t{at:02}\"") };
            let sql = format!(
                "SELECT l.v::text, b.v::text, again(b.v::text, '{kind}'), b.id IS NOT NULL FROM lat.t{at:02} l LEFT JOIN {table} b ON b.id = l.id ORDER BY l.id"
            );
            let rows = database.query(&sql).await.rows;
            for (row, literal) in rows.iter().zip(*literals) {
                cells += 1;
                let equal = row[3].as_deref() == Some("t") && row[0] == row[2];
                let documented = loss(kind, literal, name);
                if equal != documented.is_none() {
                    wrong.push(format!("{literal}::{kind} through {name}: {} came back as {}", short(&row[0]), short(&row[1])));
                }
                section.say(kind, literal, name, documented);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cells} cells:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cells >= 600, "{cells} cells");
    section.document();
}

/// There and back. What the server has no place for is in tables of its own, and refused; the rest is in tables without it.
async fn through_mysql(place: &Place, database: &TestDatabase, name: &str, there: &Database) {
    let mut sql = format!("CREATE SCHEMA held_{name}; CREATE SCHEMA refused_{name};");
    for (at, (kind, literals)) in LATTICE.iter().enumerate() {
        write!(sql, "CREATE TABLE held_{name}.t{at:02} (id int PRIMARY KEY, v {kind});").unwrap();
        for (i, literal) in literals.iter().enumerate() {
            let table = match is_refused(kind, literal, name) {
                true => format!("refused_{name}.t{at:02}_{i}"),
                false => format!("held_{name}.t{at:02}"),
            };
            write!(
                sql,
                "CREATE TABLE IF NOT EXISTS {table} (id int PRIMARY KEY, v {kind}); INSERT INTO {table} VALUES ({i}, ({literal})::{kind});"
            )
            .unwrap();
        }
    }
    database.execute(&sql).await;
    let (refused, held) = (format!("refused_{name}.*"), format!("held_{name}.*"));
    let target = format!("{}.*", there.name);
    let sync = |stream: &str| {
        place.run(&["sync", &database.url, &there.url, "--stream", stream, "--write", "replace", "--target", &target, "--output", "json"])
    };
    let said = sync(&refused);
    for stream in said.summary()["streams"].as_array().unwrap() {
        assert_eq!(stream["error"]["kind"], "data_invalid", "{stream:#}");
        assert!(stream["error"]["suggested_fix"].is_string(), "{stream:#}");
    }
    assert!(there.query("SHOW TABLES LIKE 't%'").await.is_empty(), "{name} has something of a refused stream");
    sync(&held).succeeds();
    place.run(&["sync", &there.url, &database.url, "--stream", &target, "--write", "replace", "--target", &format!("{name}.*")]).succeeds();
}

fn short(value: &Option<String>) -> String {
    value.as_ref().map_or("null".into(), |v| v.chars().take(60).collect())
}
