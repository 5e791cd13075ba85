//! Every type of MySQL and MariaDB with its extremes, through the program, into every destination and back: each value is equal, or its
//! loss is documented here and recorded by the run, or it is refused with its place. Its sections of `docs/types.md` are these tests'
//! results.

use linkspan_testkit::servers::{Dialect, TestDatabase};

use crate::{
    mysql_server::{Database, Family},
    program::Place,
    types_page::Section,
};

/// Which of the servers has the type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Has {
    Both,
    Mysql,
    Mariadb,
}
use Has::{Both, Mariadb, Mysql};

#[rustfmt::skip]
const LATTICE: &[(Has, &str, &[&str])] = &[
    (Both, "boolean", &["TRUE", "FALSE", "2", "NULL"]),
    (Both, "tinyint", &["-128", "127", "NULL"]),
    (Both, "tinyint unsigned", &["0", "255"]),
    (Both, "smallint", &["-32768", "32767"]),
    (Both, "smallint unsigned zerofill", &["7", "65535"]),
    (Both, "mediumint", &["-8388608", "8388607"]),
    (Both, "mediumint unsigned", &["0", "16777215"]),
    (Both, "int", &["-2147483648", "2147483647"]),
    (Both, "int unsigned", &["0", "4294967295"]),
    (Both, "bigint", &["-9223372036854775808", "9223372036854775807", "NULL"]),
    (Both, "bigint unsigned", &["0", "9223372036854775808", "18446744073709551615", "NULL"]),
    (Both, "decimal(65,0)", &["99999999999999999999999999999999999999999999999999999999999999999", "-99999999999999999999999999999999999999999999999999999999999999999", "0"]),
    (Both, "decimal(65,30)", &["-0.000000000000000000000000000001", "99999999999999999999999999999999999.999999999999999999999999999999"]),
    (Both, "decimal(38,10)", &["9999999999999999999999999999.9999999999"]),
    (Both, "decimal(12,2) unsigned", &["0.05", "9999999999.99", "NULL"]),
    (Both, "float", &["16777217", "0.1", "-3.4e38", "1.17549e-38", "NULL"]),
    (Both, "double", &["0.1", "0.30000000000000004", "-1.7976931348623157e308", "5e-324"]),
    (Both, "bit(1)", &["b'1'", "b'0'", "NULL"]),
    (Both, "bit(9)", &["b'100000001'", "b'0'"]),
    (Both, "bit(64)", &["18446744073709551615", "b'1'"]),
    (Both, "year", &["1901", "2155", "0", "NULL"]),
    (Both, "date", &["'1000-01-01'", "'9999-12-31'", "'0001-01-01'", "'0000-12-19'", "'0000-00-00'", "'2024-00-05'", "'2023-02-31'", "NULL"]),
    (Both, "datetime", &["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'0000-12-19 10:00:00'", "'0000-00-00 00:00:00'", "NULL"]),
    (Both, "datetime(6)", &["'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'2024-00-05 10:00:00.25'"]),
    (Both, "timestamp NULL", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'", "NULL"]),
    (Both, "timestamp(3) NULL", &["'1970-01-01 00:00:01.500'", "'2024-03-31 02:30:00.999'"]),
    (Both, "time", &["'00:00:00'", "'23:59:59'", "'24:00:00'", "'838:59:59'", "'-838:59:59'", "'-00:00:01'", "NULL"]),
    (Both, "time(6)", &["'23:59:59.999999'", "'00:00:00.000001'", "'30:00:00.125'"]),
    (Both, "char(5)", &["'ab'", "''", "'äöüßé'"]),
    (Both, "varchar(40)", &["''", "' padded '", "'007'", "'NULL'", "'null'", "'\\\\N'", "'a\\nb\\t\\\\c\\r'", "'\"quoted\", yes'", "'it''s'", "NULL"]),
    (Both, "varchar(20) CHARACTER SET latin1", &["'é€ÿ'"]),
    (Both, "varchar(20) CHARACTER SET cp1251", &["'Привет'"]),
    (Both, "varchar(20) CHARACTER SET greek", &["'Ελλάδα'"]),
    (Both, "varchar(20) CHARACTER SET utf8mb3", &["'日本'"]),
    (Both, "varchar(20) CHARACTER SET sjis", &["'日本'"]),
    (Both, "varchar(20) CHARACTER SET euckr", &["'한국'"]),
    (Both, "varchar(20) CHARACTER SET gbk", &["'中国'"]),
    (Both, "varchar(20) CHARACTER SET big5", &["'中國'"]),
    (Both, "varchar(20) CHARACTER SET ucs2", &["'é日'"]),
    (Both, "varchar(20) CHARACTER SET utf16", &["'é😀'"]),
    (Both, "varchar(20) CHARACTER SET utf32", &["'é😀'"]),
    (Mysql, "varchar(20) CHARACTER SET gb18030", &["'中国😀'"]),
    (Both, "varchar(20) COLLATE utf8mb4_bin", &["'😀'", "'a\\0b'"]),
    (Both, "longtext", &["REPEAT('é', 100000)", "''", "NULL"]),
    (Both, "enum('a','B','it''s','')", &["'a'", "'B'", "'it''s'", "''", "NULL"]),
    (Both, "set('x','y','z')", &["'x,y'", "'x,z'", "''", "NULL"]),
    (Both, "binary(4)", &["X'00FF'", "X'00000000'"]),
    (Both, "varbinary(10)", &["X''", "X'00FF80'", "X'5C09270A'", "NULL"]),
    (Both, "longblob", &["X'C328'", "REPEAT(X'00FF', 5000)", "NULL"]),
    (Both, "json", &["'{\"b\": [1, {\"c\": null}], \"a\": \"é\"}'", "'[0.1, 18446744073709551615, -9223372036854775808, 1e20]'", "'[1.5e300, 0.30000000000000004]'", "'\"x\"'", "'null'", "NULL"]),
    (Mariadb, "json", &["'{\"a\": 1, \"a\": 2}'", "'123456789012345678901234567890.123'"]),
    (Both, "point", &["ST_GeomFromText('POINT(1 -2.5)')", "NULL"]),
    (Both, "linestring", &["ST_GeomFromText('LINESTRING(0 0,1 1,2 5)')"]),
    (Both, "polygon", &["ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 0))')"]),
    (Both, "geometrycollection", &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')"]),
    (Both, "geometry", &["ST_GeomFromText('MULTIPOINT(0 0,1 2)')", "ST_GeomFromText('POINT(1 2)', 4326)"]),
    (Mysql, "point SRID 4326", &["ST_GeomFromText('POINT(10 20)', 4326)"]),
    (Mysql, "vector(3)", &["TO_VECTOR('[1,-2.5,3]')", "NULL"]),
    (Mariadb, "uuid", &["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'", "NULL"]),
    (Mariadb, "inet6", &["'::1'", "'2001:db8::ff00:42:8329'"]),
    (Mariadb, "inet4", &["'192.168.0.1'"]),
];

/// Where the values go; the SQL systems have no URL of their own here.
const THROUGH: [(&str, &str); 7] = [
    ("postgresql", ""),
    ("mysql", ""),
    ("mariadb", ""),
    ("sqlite", "sqlite:./there.db"),
    ("parquet", "parquet:./there"),
    ("csv", "csv:./there-csv"),
    ("jsonl", "jsonl:./there-jsonl"),
];

const NO_DAY: &str = "null, recorded (`odd_dates: text` keeps it)";

/// What is lost wherever it goes: the source has no place for it in a date or time of day, and records that.
fn lost_at_the_source(kind: &str, literal: &str) -> Option<&'static str> {
    let odd = ["'0000-00-00'", "'2024-00-05'", "'2023-02-31'", "'0000-00-00 00:00:00'", "'2024-00-05 10:00:00.25'"];
    let long = ["'24:00:00'", "'838:59:59'", "'-838:59:59'", "'-00:00:01'", "'30:00:00.125'"];
    match kind {
        "date" | "datetime" | "datetime(6)" | "timestamp NULL" if odd.contains(&literal) => Some(NO_DAY),
        "time" | "time(6)" if long.contains(&literal) => Some(NO_DAY),
        "geometry" if literal.ends_with("4326)") => Some("without the id of its reference system, recorded"),
        _ => None,
    }
}

/// Cells that do not come back equal: (type, literal or `*`, destination) and why. Nothing else may differ.
#[rustfmt::skip]
const LOSSES: &[(&str, &str, &str, &str)] = &[
    ("json", "'{\"a\": 1, \"a\": 2}'", "postgresql", "jsonb, which keeps one of two equal keys"),
    ("json", "'\"x\"'", "jsonl", "a JSON string; read back it is text"),
    ("json", "'null'", "jsonl", "JSON's null and SQL's are one"),
    ("timestamp NULL", "*", "jsonl", "ISO 8601 text with its zone, which is read back as text"),
    ("timestamp(3) NULL", "*", "jsonl", "ISO 8601 text with its zone, which is read back as text"),
];

/// Bytes have no form of their own in a text file: as which text they are there.
fn as_text(kind: &str, literal: &str, through: &str) -> Option<&'static str> {
    let is_bytes = is_spatial(kind) || ["binary", "blob", "vector"].iter().any(|t| kind.contains(t));
    match through {
        _ if !is_bytes || literal == "NULL" => None,
        "csv" => Some("hexadecimal digits behind `\\x`"),
        "jsonl" if literal != "X''" => Some("base64"),
        _ => None,
    }
}

/// What a destination has no place for: its stream stops before anything of it is seen.
fn is_refused(kind: &str, literal: &str, through: &str) -> bool {
    match through {
        "postgresql" => literal == "'a\\0b'",
        "mysql" => kind == "json" && ["'{\"a\": 1, \"a\": 2}'", "'123456789012345678901234567890.123'"].contains(&literal),
        _ => false,
    }
}

fn loss(kind: &str, literal: &str, through: &str) -> Option<&'static str> {
    if is_refused(kind, literal, through) {
        return Some("refused with its place");
    }
    let is_listed = |l: &str| l == literal || (l == "*" && literal != "NULL");
    let listed = LOSSES.iter().find(|(k, l, t, _)| *k == kind && is_listed(l) && *t == through).map(|(.., why)| *why);
    lost_at_the_source(kind, literal).or(listed).or_else(|| as_text(kind, literal, through))
}

/// What is sent around: one table with a column of each type, and a table of its own for each value that is to be refused.
struct Ground {
    family: Family,
    held: Database,
    refused: Database,
    back: Database,
}

impl Ground {
    async fn new(family: Family, through: &str) -> Option<Self> {
        let (held, refused, back) = (family.database().await?, family.database().await?, family.database().await?);
        let ground = Self { family, held, refused, back };
        let columns: Vec<String> = types(family).map(|(at, (_, kind, _))| format!("c{at:02} {kind}")).collect();
        let rows = types(family).map(|(_, (.., literals))| literals.len()).max().unwrap_or(0);
        let mut held = format!("CREATE TABLE t (id int PRIMARY KEY, {});\n", columns.join(", "));
        let mut refused = String::new();
        for i in 0..rows {
            let (mut names, mut values) = (vec!["id".to_owned()], vec![i.to_string()]);
            for (at, (_, kind, literals)) in types(family) {
                let Some(literal) = literals.get(i) else { continue };
                if is_refused(kind, literal, through) {
                    let table = format!("x{at:02}_{i}");
                    refused +=
                        &format!("CREATE TABLE {table} (id int PRIMARY KEY, v {kind});\nINSERT INTO {table} VALUES ({i}, {literal});\n");
                } else {
                    names.push(format!("c{at:02}"));
                    values.push((*literal).to_owned());
                }
            }
            held += &format!("INSERT INTO t ({}) VALUES ({});\n", names.join(", "), values.join(", "));
        }
        ground.held.execute(&held).await;
        ground.refused.execute(&refused).await;
        Some(ground)
    }

    /// There, and back into `back`: what the table is called there.
    async fn travel(&self, place: &Place, through: &str, url: &str) -> Option<String> {
        let (stream, back) = (format!("{}.t", self.held.name), format!("{}.*", self.back.name));
        match through {
            "postgresql" => {
                let there = TestDatabase::create().await?;
                self.refuses(place, through, &there.url, "refused.*").await;
                sent(place, &self.held.url, &there.url, &stream, "there.t");
                sent(place, &there.url, &self.back.url, "there.t", &back);
            }
            "mysql" | "mariadb" => {
                let there = if through == "mysql" { Family::Mysql } else { Family::Mariadb }.database().await?;
                let target = format!("{}.t", there.name);
                self.refuses(place, through, &there.url, &format!("{}.*", there.name)).await;
                sent(place, &self.held.url, &there.url, &stream, &target);
                sent(place, &there.url, &self.back.url, &target, &back);
            }
            _ => {
                place.run(&["sync", &self.held.url, url, "--stream", &stream, "--write", "replace"]).succeeds();
                place.run(&["sync", url, &self.back.url, "--write", "replace", "--target", &back]).succeeds();
            }
        }
        let names = self.back.query("SHOW TABLES").await.rows.into_iter().flatten().flatten();
        let names: Vec<String> = names.filter(|n| !n.starts_with('_')).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        names.into_iter().next()
    }

    async fn refuses(&self, place: &Place, through: &str, to: &str, target: &str) {
        if self.refused.query("SHOW TABLES").await.is_empty() {
            return;
        }
        let stream = format!("{}.*", self.refused.name);
        let args = ["sync", &self.refused.url, to, "--stream", &stream, "--write", "replace", "--target", target, "--output", "json"];
        for stream in place.run(&args).summary()["streams"].as_array().unwrap() {
            assert_eq!(stream["error"]["kind"], "data_invalid", "{through}: {stream:#}");
            assert!(stream["error"]["suggested_fix"].is_string(), "{through}: {stream:#}");
        }
    }

    /// The rows in which the values of a type came back as they were: what came back, made a value of the type again, is the one that was.
    async fn equal(&self, at: usize, kind: &str, table: &str) -> Vec<String> {
        let (column, from) = (format!("c{at:02}"), format!("`{}`.`{table}`", self.back.name));
        let sql = format!(
            "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{table}' AND COLUMN_NAME = '{column}'",
            self.back.name
        );
        let came_as = self.held.query(&sql).await.rows.first().and_then(|r| r[0].clone()).unwrap_or_default();
        let value = match kind {
            _ if kind.starts_with("bit") => format!("CAST(b.{column} AS UNSIGNED)"),
            _ if is_spatial(kind) && came_as.contains("blob") => {
                format!("ST_GeomFromWKB(b.{column}{})", if kind.contains("SRID") { ", 4326, 'axis-order=long-lat'" } else { "" })
            }
            _ => format!("b.{column}"),
        };
        self.held.execute(&format!("CREATE TABLE again{at} (id int PRIMARY KEY, v {kind})")).await;
        let all = format!("INSERT INTO again{at} SELECT b.id, {value} FROM {from} b");
        if self.family.run(&self.held.url, &all).await.is_err() {
            for id in self.held.query(&format!("SELECT id FROM {from}")).await.rows.into_iter().flatten().flatten() {
                // What cannot be made one of the type again is missing then.
                self.family.run(&self.held.url, &format!("{all} WHERE b.id = {id}")).await.ok();
            }
        }
        let same = match kind {
            "json" if self.family == Family::Mariadb => {
                format!("(a.v IS NULL) = (o.{column} IS NULL) AND (a.v IS NULL OR JSON_EQUALS(o.{column}, a.v))")
            }
            _ if is_spatial(kind) => {
                format!("HEX(ST_AsBinary(o.{column})) <=> HEX(ST_AsBinary(a.v)) AND ST_SRID(o.{column}) <=> ST_SRID(a.v)")
            }
            _ if ["char", "text", "enum", "set"].iter().any(|t| kind.contains(t)) => {
                format!("HEX(CONVERT(o.{column} USING utf8mb4)) <=> HEX(CONVERT(a.v USING utf8mb4))")
            }
            _ if ["binary", "blob", "vector"].iter().any(|t| kind.contains(t)) => format!("HEX(o.{column}) <=> HEX(a.v)"),
            _ => format!("o.{column} <=> a.v"),
        };
        let sql = format!("SELECT o.id FROM t o JOIN again{at} a ON a.id = o.id WHERE {same}");
        self.held.query(&sql).await.rows.into_iter().flatten().flatten().collect()
    }
}

fn is_spatial(kind: &str) -> bool {
    ["point", "linestring", "polygon", "geometry"].iter().any(|t| kind.starts_with(t))
}

fn types(family: Family) -> impl Iterator<Item = (usize, &'static (Has, &'static str, &'static [&'static str]))> {
    let other = if family == Family::Mysql { Mariadb } else { Mysql };
    LATTICE.iter().enumerate().filter(move |(_, (has, ..))| *has != other)
}

fn sent(place: &Place, from: &str, to: &str, stream: &str, target: &str) {
    place.run(&["sync", from, to, "--stream", stream, "--write", "replace", "--target", target]).succeeds();
}

/// How many values the runs in this place recorded as changed.
fn recorded(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => recorded(&path),
        false if path.to_string_lossy().contains("reject") => std::fs::read_to_string(&path).unwrap_or_default().lines().count(),
        false => 0,
    };
    entries.flatten().map(|e| count(e.path())).sum()
}

async fn every_type_comes_back(family: Family, name: &'static str) {
    let mut section = Section::new(name, THROUGH.map(|(name, _)| name));
    let (mut cells, mut wrong) = (0, Vec::new());
    for (through, url) in THROUGH {
        let Some(ground) = Ground::new(family, through).await else { return };
        let place = Place::new();
        let Some(table) = ground.travel(&place, through, url).await else { return };
        let mut losses = 0;
        for (at, (_, kind, literals)) in types(family) {
            let equal = ground.equal(at, kind, &table).await;
            for (i, literal) in literals.iter().enumerate() {
                cells += 1;
                let documented = loss(kind, literal, through);
                losses += usize::from(lost_at_the_source(kind, literal).is_some());
                // What is refused never was in the table: both are null.
                let is_equal = equal.contains(&i.to_string()) && !is_refused(kind, literal, through);
                if is_equal != documented.is_none() {
                    let sql = format!(
                        "SELECT LEFT(CAST(c{at:02} AS CHAR), 60), LEFT(HEX(c{at:02}), 60) FROM `{}`.`{table}` WHERE id = {i}",
                        ground.back.name
                    );
                    wrong.push(format!("{literal}::{kind} through {through} came back as {:?}", ground.held.query(&sql).await.rows));
                }
                section.say(kind, literal, through, documented);
            }
        }
        let found = recorded(&place.path("data"));
        assert!(found >= losses, "{name} through {through}: {losses} values are lost at the source, {found} are recorded");
    }
    assert!(wrong.is_empty(), "{} of {cells} cells:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cells >= 900, "{cells} cells");
    section.document();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mysql_comes_back_from_every_destination() {
    every_type_comes_back(Family::Mysql, "MySQL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_mariadb_comes_back_from_every_destination() {
    every_type_comes_back(Family::Mariadb, "MariaDB").await;
}
