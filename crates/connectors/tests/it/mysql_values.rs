//! Every type of MySQL and MariaDB with its extremes, read from real servers.

use linkspan_core::{ErrorKind, Position, native};
use linkspan_testkit::{
    Table,
    drive::{Event, Read, read},
};
use serde_json::{Value, json};

use super::{
    mysql_server::{Database, Family, databases},
    mysql_source::{full, open},
};

async fn read_table(family: Family, database: &Database, name: &str, extra: Value) -> Read {
    let source = open(family, database, extra);
    let selected = full(&source, name).await;
    read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

fn table(read: &Read) -> Table {
    Table::from_batches(read.events.iter().filter_map(|e| if let Event::Rows { rows, .. } = e { Some(rows) } else { None }))
}

fn changes(read: &Read) -> Vec<String> {
    let one = |e: &Event| match e {
        Event::Rows { changes, .. } => changes.changed.iter().map(|c| format!("{}:{:?}", c.field, c.reason)).collect(),
        _ => vec![],
    };
    read.events.iter().flat_map(one).collect()
}

/// A column's type, values as SQL, and what Arrow shows.
pub(crate) const VALUES: &[(&str, &[&str], &[&str])] = &[
    ("tinyint", &["-128", "127"], &["-128", "127"]),
    ("tinyint unsigned", &["255"], &["255"]),
    ("boolean", &["TRUE", "2"], &["1", "2"]),
    ("smallint unsigned zerofill", &["7", "65535"], &["7", "65535"]),
    ("mediumint", &["-8388608", "8388607"], &["-8388608", "8388607"]),
    ("mediumint unsigned", &["16777215"], &["16777215"]),
    ("int", &["-2147483648", "2147483647"], &["-2147483648", "2147483647"]),
    ("int unsigned", &["4294967295"], &["4294967295"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"], &["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", &["0", "18446744073709551615"], &["0", "18446744073709551615"]),
    (
        "decimal(65,0)",
        &[
            "99999999999999999999999999999999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999999999999999999999999999999",
        ],
        &[
            "99999999999999999999999999999999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999999999999999999999999999999",
        ],
    ),
    ("decimal(65,30)", &["-0.000000000000000000000000000001"], &["-0.000000000000000000000000000001"]),
    ("decimal(38,10)", &["9999999999999999999999999999.9999999999"], &["9999999999999999999999999999.9999999999"]),
    ("decimal(12,2)", &["-0.05", "9999999999.99"], &["-0.05", "9999999999.99"]),
    ("float", &["16777217", "0.1", "-3.4e38"], &["16777216.0", "0.1", "-3.4e38"]),
    ("double", &["0.1", "-1.7976931348623157e308", "5e-324"], &["0.1", "-1.7976931348623157e308", "5e-324"]),
    ("bit(1)", &["b'1'", "b'0'"], &["true", "false"]),
    ("bit(9)", &["b'100000001'"], &["257"]),
    ("bit(64)", &["~0"], &["18446744073709551615"]),
    ("year", &["1901", "2155", "0"], &["1901", "2155", "0"]),
    ("date", &["'1000-01-01'", "'9999-12-31'", "'0001-01-01'"], &["1000-01-01", "9999-12-31", "0001-01-01"]),
    ("datetime", &["'9999-12-31 23:59:59'"], &["9999-12-31T23:59:59"]),
    ("datetime(6)", &["'1000-01-01 00:00:00.000001'"], &["1000-01-01T00:00:00.000001"]),
    (
        "timestamp(3) NULL",
        &["'1970-01-01 00:00:01.500'", "'2038-01-19 03:14:07.999'"],
        &["1970-01-01T00:00:01.500", "2038-01-19T03:14:07.999"],
    ),
    ("time(6)", &["'23:59:59.999999'", "'00:00:00'"], &["23:59:59.999999", "00:00:00"]),
    ("char(5)", &["'ab   '", "''"], &["ab", ""]),
    ("varchar(20) CHARACTER SET latin1", &["'é€'"], &["é€"]),
    ("varchar(20) CHARACTER SET utf8mb3", &["'日本'"], &["日本"]),
    ("varchar(20) CHARACTER SET sjis", &["'日本'"], &["日本"]),
    ("varchar(20) CHARACTER SET utf16", &["'é😀'"], &["é😀"]),
    ("varchar(20) COLLATE utf8mb4_bin", &["'😀'", "'a\\0b'"], &["😀", "a\0b"]),
    ("longtext", &["REPEAT('é', 4500000)"], &[]),
    ("binary(4)", &["X'00FF'"], &["00ff0000"]),
    ("varbinary(10)", &["X''", "X'00FF80'"], &["", "00ff80"]),
    ("blob", &["X'C328'"], &["c328"]),
    ("enum('a','B','it''s')", &["'B'", "'it''s'"], &["B", "it's"]),
    ("set('x','y')", &["'x,y'", "''"], &["x,y", ""]),
    ("point", &["ST_GeomFromText('POINT(1 2)')"], &["0101000000000000000000f03f0000000000000040"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_with_its_extremes() {
    for (family, database) in databases().await {
        for (at, (column, values, shown)) in VALUES.iter().enumerate() {
            let name = format!("t{at}");
            let rows = values.iter().enumerate().map(|(i, v)| format!("({i}, {v})")).collect::<Vec<_>>().join(", ");
            let nulls = format!("({}, NULL)", values.len());
            database
                .execute(&format!("CREATE TABLE {name} (id int PRIMARY KEY, v {column});\nINSERT INTO {name} VALUES {rows}, {nulls}"))
                .await;
            let read = read_table(family, &database, &name, json!({})).await;
            let found = table(&read);
            let found: Vec<Option<&str>> = found.column("v").unwrap();
            assert_eq!(found.last(), Some(&None), "{family:?} {column}: the null");
            if shown.is_empty() {
                assert_eq!(found[0].map(str::len), Some(9_000_000), "{family:?} {column}");
                continue;
            }
            let expected: Vec<Option<&str>> = shown.iter().map(|s| Some(*s)).chain([None]).collect();
            assert_eq!(found, expected, "{family:?} {column}");
            assert_eq!(changes(&read), Vec::<String>::new(), "{family:?} {column}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_uuid_and_what_is_computed_or_hidden_are_columns_like_others() {
    for (family, database) in databases().await {
        let invisible = if family == Family::Mysql { "INVISIBLE" } else { "INVISIBLE DEFAULT 0" };
        let sql = format!(
            "CREATE TABLE `We ird``T` (`Id` int PRIMARY KEY, doc json, twice int AS (`Id` * 2) VIRTUAL, thrice int AS (`Id` * 3) STORED, \
             `sel ect` int, hidden int {invisible});\n\
             INSERT INTO `We ird``T` (`Id`, doc, `sel ect`, hidden) VALUES (1, '{{\"a\": [1, \"é\"]}}', 5, 6)"
        );
        database.execute(&sql).await;
        let source = open(family, &database, json!({}));
        let selected = full(&source, "We ird`T").await;
        let schema = selected.stream.schema.clone();
        assert!(native::has_mark(schema.field(1), native::JSON_TEXT), "{family:?}: {:?}", schema.field(1));
        assert_eq!(native::native_in(schema.field(1), "mysql").as_deref(), Some("json"));
        let found = table(&read(&source, vec![selected], Position::new()).await.unwrap());
        assert_eq!(found.columns, ["Id", "doc", "twice", "thrice", "sel ect", "hidden"]);
        let row: Vec<&str> = found.rows[0].iter().map(|v| v.as_deref().unwrap()).collect();
        assert_eq!(row, ["1", "{\"a\": [1, \"é\"]}", "2", "3", "5", "6"]);
    }
    let Some(database) = Family::Mariadb.database().await else { return };
    database
        .execute("CREATE TABLE u (id uuid PRIMARY KEY, a inet6);\nINSERT INTO u VALUES ('123e4567-e89b-12d3-a456-426655440000', '::1')")
        .await;
    let found = table(&read_table(Family::Mariadb, &database, "u", json!({})).await);
    assert_eq!(found.rows[0], [Some("123e4567e89b12d3a456426655440000".to_owned()), Some("::1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_dates_and_times_follow_the_policy_and_are_never_silent() {
    for (family, database) in databases().await {
        database
            .execute(
                "CREATE TABLE odd (id int PRIMARY KEY, d date NOT NULL, m datetime(2), t time, s timestamp NOT NULL);\n\
                 SET SESSION sql_mode = 'ALLOW_INVALID_DATES';\n\
                 INSERT INTO odd VALUES (1, '0000-00-00', '2024-00-05 10:00:00.25', '-838:59:59', '0000-00-00'), \
                 (2, '2023-02-31', '2024-01-02 03:04:05', '30:00:00', '2024-01-01 00:00:00')",
            )
            .await;
        let nulled = read_table(family, &database, "odd", json!({})).await;
        let texts = |t: &Table| -> Vec<Vec<Option<String>>> { t.rows.iter().map(|r| r[1..].to_vec()).collect() };
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            texts(&table(&nulled)),
            [vec![None, None, None, None], vec![None, some("2024-01-02T03:04:05"), None, some("2024-01-01T00:00:00")]],
            "{family:?}"
        );
        let mut found = changes(&nulled);
        found.sort();
        assert_eq!(found, ["d:Invalid", "d:Invalid", "m:Invalid", "s:Invalid", "t:OutOfRange", "t:OutOfRange"]);
        let text = table(&read_table(family, &database, "odd", json!({"odd_dates": "text"})).await);
        let first = [some("0000-00-00"), some("2024-00-05 10:00:00.25"), some("-838:59:59"), some("0000-00-00 00:00:00")];
        let second = [some("2023-02-31"), some("2024-01-02 03:04:05.00"), some("30:00:00"), some("2024-01-01 00:00:00")];
        assert_eq!(texts(&text), [first.to_vec(), second.to_vec()]);
        let source = open(family, &database, json!({"odd_dates": "fail"}));
        let selected = full(&source, "odd").await;
        let e = read(&source, vec![selected], Position::new()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DataInvalid);
        assert!(e.suggested_fix().is_some() && e.context().iter().any(|(k, v)| *k == "column" && v == "d"), "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boolean_is_a_choice_and_a_spatial_reference_is_kept_or_recorded() {
    for (family, database) in databases().await {
        database.execute("CREATE TABLE b (id int PRIMARY KEY, v tinyint(1));\nINSERT INTO b VALUES (1, 0), (2, 1), (3, 2)").await;
        let read = read_table(family, &database, "b", json!({"tinyint1_as_boolean": true})).await;
        assert_eq!(table(&read).column("v").unwrap(), [Some("false"), Some("true"), None]);
        assert_eq!(changes(&read), ["v:OutOfRange"]);
        database
            .execute("CREATE TABLE g (id int PRIMARY KEY, v point);\nINSERT INTO g VALUES (1, ST_GeomFromText('POINT(1 2)', 4326))")
            .await;
        assert_eq!(changes(&read_table(family, &database, "g", json!({})).await), ["v:NotRepresentable"]);
    }
    let Some(database) = Family::Mysql.database().await else { return };
    database
        .execute("CREATE TABLE g (id int PRIMARY KEY, v point SRID 4326);\nINSERT INTO g VALUES (1, ST_GeomFromText('POINT(1 2)', 4326))")
        .await;
    let read = read_table(Family::Mysql, &database, "g", json!({})).await;
    assert!(changes(&read).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn times_mean_the_same_whatever_zone_the_server_is_in() {
    for (family, database) in databases().await {
        database
            .execute(
                "CREATE TABLE z (id int PRIMARY KEY, s timestamp NULL, m datetime);\nSET SESSION time_zone = '+05:00';\n\
                 INSERT INTO z VALUES (1, '2024-01-01 05:00:00', '2024-01-01 05:00:00')",
            )
            .await;
        let found = table(&read_table(family, &database, "z", json!({})).await);
        assert_eq!(found.rows[0][1..], [Some("2024-01-01T00:00:00".to_owned()), Some("2024-01-01T05:00:00".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_several_packets_arrives_whole() {
    for (family, database) in databases().await {
        database
            .execute(
                "CREATE TABLE long_row (id int PRIMARY KEY, a longtext, b longtext, c int);\n\
                 INSERT INTO long_row VALUES (1, REPEAT('x', 12000000), REPEAT('y', 12000000), 7), (2, 'x', 'y', 8)",
            )
            .await;
        let found = table(&read_table(family, &database, "long_row", json!({})).await);
        let row = &found.rows[0];
        let all = |at: usize, c: char| row[at].as_deref().is_some_and(|v| v.len() == 12_000_000 && v.chars().all(|x| x == c));
        assert!(all(1, 'x') && all(2, 'y') && row[3].as_deref() == Some("7"), "{family:?}");
        assert_eq!(found.rows[1][3].as_deref(), Some("8"));
    }
}
