//! A server's own `sql_mode` changes nothing: what is read and written is the same under each, and a server that is not strict
//! cuts nothing. The modes are set for the whole server: every session of ours says its own, so that other tests do not notice.

use linkspan_core::{Position, ReadMode, Repeats, Selected, WriteMode};
use linkspan_testkit::{Table, drive::read};
use serde_json::json;

use super::{
    mysql_server::{Database, Family, databases},
    mysql_source::{full, open, stream},
    mysql_types::{copy, differing},
};

const MODES: [&str; 14] = [
    "STRICT_TRANS_TABLES",
    "",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "PIPES_AS_CONCAT",
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO",
    "NO_ZERO_DATE,NO_ZERO_IN_DATE",
    "PAD_CHAR_TO_FULL_LENGTH",
    "REAL_AS_FLOAT",
    "NO_UNSIGNED_SUBTRACTION",
    "ONLY_FULL_GROUP_BY",
    "IGNORE_SPACE,HIGH_NOT_PRECEDENCE",
    "TRADITIONAL",
    "ANSI",
];
const OF_MARIADB: [&str; 5] = ["EMPTY_STRING_IS_NULL", "ORACLE", "MSSQL", "SIMULTANEOUS_ASSIGNMENT", "TIME_ROUND_FRACTIONAL"];
const OF_MYSQL: [&str; 1] = ["TIME_TRUNCATE_FRACTIONAL"];

async fn set(database: &Database, mode: &str) {
    database.execute(&format!("SET GLOBAL sql_mode = {mode}")).await;
}

async fn rows(family: Family, database: &Database, extra: serde_json::Value, selected: &str) -> Table {
    let source = open(family, database, extra);
    let selected = full(&source, selected).await;
    let name = selected.stream.name.clone();
    read(&source, vec![selected], Position::new()).await.unwrap().table(&name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_sql_mode_changes_no_value_on_either_way() {
    for (family, database) in databases().await {
        database
            .execute(
                "CREATE TABLE m (id int unsigned PRIMARY KEY, v varchar(40), c char(8), r double, u bigint unsigned, d date, at datetime(6), \
                 b varbinary(20), j json, k varchar(40) NOT NULL, UNIQUE KEY (k));\n\
                 INSERT INTO m VALUES (0, 'it''s \\\\ \"quoted\" || `x`', 'ab', 0.30000000000000004, 18446744073709551615, '2024-02-29', \
                 '2024-01-02 03:04:05.999999', X'5C27220A00', '{\"a\\\\\\\\b\": \"it''s\"}', '\\\\n''\"'), \
                 (7, '', '', -0.1, 0, '0000-00-00', '0000-00-00 00:00:00', X'', '[]', ''), \
                 (8, 'a\\nb\\tc', 'abcdefgh', 5e-324, 9223372036854775808, '2024-00-05', NULL, NULL, NULL, '\\\\')",
            )
            .await;
        let more: &[&str] = if family == Family::Mariadb { &OF_MARIADB } else { &OF_MYSQL };
        let mut expected: Option<Vec<Table>> = None;
        for (at, mode) in MODES.iter().chain(more).enumerate() {
            set(&database, &format!("'{mode}'")).await;
            let text = json!({"odd_dates": "text"});
            let query = json!({"query": "SELECT id, \"x\" AS quoted, 1 || 0 AS piped, 'a\\\\b' AS kept, CAST(c AS CHAR) AS c FROM m WHERE NOT id BETWEEN 1 AND 6", "query_name": "q"});
            let found = vec![rows(family, &database, text.clone(), "m").await, rows(family, &database, query, "q").await];
            match &expected {
                None => expected = Some(found),
                Some(expected) => assert_eq!(&found, expected, "{family:?} {mode}"),
            }
            // By the key's text, in slices, whose bounds are written into the statements.
            let source = open(family, &database, json!({"odd_dates": "text"}));
            let by_text = Selected {
                stream: stream(&source, "m").await,
                read: ReadMode::Incremental,
                cursor: Some("k".into()),
                repeats: Repeats::Kept,
            };
            let first = read(&source, vec![by_text.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{family:?} {mode}: {e:?}"));
            assert_eq!(first.row_count(), 3, "{family:?} {mode}");
            assert_eq!(read(&source, vec![by_text], first.position).await.unwrap().row_count(), 0, "{family:?} {mode}");
            for (way, write) in [("append", WriteMode::Append), ("merge", WriteMode::Merge)] {
                let to = format!("m_{way}_{at}");
                copy(family, &database, "m", &to, write, text.clone()).await;
                for column in ["c", "r", "u", "d", "at", "b", "j", "k"] {
                    let bytes = |table: &str| if column == "r" { format!("{table}.r") } else { format!("HEX({table}.{column})") };
                    let sql = format!("SELECT COUNT(*) FROM m JOIN {to} t ON m.id = t.id WHERE NOT ({} <=> {})", bytes("m"), bytes("t"));
                    assert_eq!(database.query(&sql).await.rows[0][0].as_deref(), Some("0"), "{family:?} {mode} {way} {column}");
                }
                assert_eq!(differing(&database, "m", &to).await, "0", "{family:?} {mode} {way}");
            }
        }
        set(&database, "DEFAULT").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_strict_cuts_nothing() {
    for (family, database) in databases().await {
        set(&database, "''").await;
        database.execute("CREATE TABLE s (id int PRIMARY KEY, t tinyint, v varchar(3), d date, u int unsigned)").await;
        for wrong in
            ["1, 200, 'a', NULL, 1", "1, 1, 'abcd', NULL, 1", "1, 1, 'a', '2024-13-01', 1", "1, 1, 'a', NULL, -1", "1, 'x', 'a', NULL, 1"]
        {
            let refused = linkspan_testkit::servers::Dialect::run(&family, &database.url, &format!("INSERT INTO s VALUES ({wrong})")).await;
            assert!(refused.is_err(), "{family:?} took {wrong}");
        }
        assert!(database.query("SELECT * FROM s").await.is_empty());
        set(&database, "DEFAULT").await;
    }
}
