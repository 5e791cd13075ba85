//! How MySQL and MariaDB are read: one view for all slices, resumes that prove themselves, late commits, queries, rights.

use arrow_array::{cast::AsArray, types::Int64Type};
use linkspan_core::{ErrorKind, Position, ReadMode, Repeats, Selected, StreamName};
use linkspan_testkit::{
    drive::{Read, Until, read, read_until},
    servers::{Dialect, unique},
};
use serde_json::json;

use super::{
    mysql_server::{Database, databases},
    mysql_source::{full, open, stream},
};

/// A thousand rows, doubled as often as is said.
async fn accounts(database: &Database, doublings: usize) -> i64 {
    let values = (0..1000).map(|i| format!("({i}, 1000)")).collect::<Vec<_>>().join(", ");
    let mut sql = format!("CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL);\nINSERT INTO account VALUES {values};\n");
    for i in 0..doublings {
        sql += &format!("INSERT INTO account SELECT id + {}, 1000 FROM account;\n", 1000 << i);
    }
    database.execute(&sql).await;
    1000 << doublings
}

fn sum(read: &Read, name: &StreamName) -> i64 {
    read.batches(name).flat_map(|b| b.column(1).as_primitive::<Int64Type>().values().to_vec()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_one_table_see_one_moment_while_others_write() {
    for (family, database) in databases().await {
        let rows = accounts(&database, 5).await;
        let url = database.url.clone();
        let writer = tokio::spawn(async move {
            for i in 0i64.. {
                let (from, to) = (i * 7919 % rows, i * 104_729 % rows);
                let sql = format!(
                    "BEGIN;\nUPDATE account SET balance = balance - 7 WHERE id = {from};\nUPDATE account SET balance = balance + 7 WHERE id = {to};\nCOMMIT"
                );
                if family.run(&url, &sql).await.is_err() {
                    return;
                }
            }
        });
        let source = open(family, &database, json!({"slices": 4}));
        for _ in 0..5 {
            let selected = full(&source, "account").await;
            let name = selected.stream.name.clone();
            let result = read(&source, vec![selected], Position::new()).await.unwrap();
            assert_eq!((result.ended.len(), result.row_count() as i64), (4, rows), "{family:?}");
            assert_eq!(sum(&result, &name), rows * 1000, "{family:?}: money was made or lost");
        }
        writer.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_goes_on_while_the_table_is_quiet_and_begins_again_when_it_is_not() {
    for (family, database) in databases().await {
        let rows = accounts(&database, 5).await;
        // The server's word on when a table was written has whole seconds.
        let quiet = "SELECT UPDATE_TIME < NOW() - INTERVAL 3 SECOND FROM information_schema.TABLES WHERE TABLE_NAME = 'account' AND TABLE_SCHEMA = DATABASE()";
        while database.query(&format!("SET SESSION sql_mode = '';\n{quiet}")).await.rows[0][0].as_deref() != Some("1") {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let source = open(family, &database, json!({"slices": 2}));
        let selected = full(&source, "account").await;
        let name = selected.stream.name.clone();
        let first = read_until(&source, vec![selected.clone()], Position::new(), Until::Checkpoints(1)).await.unwrap();
        let (before, at) = first.until_checkpoint(1, &name, &Position::new());
        assert!(!before.is_empty() && (before.len() as i64) < rows);
        let rest = read(&source, vec![selected.clone()], at.clone()).await.unwrap_or_else(|e| panic!("{family:?}: {e:?}"));
        let mut ids = [before.clone(), rest.ids(&name)].concat();
        ids.sort_unstable();
        assert_eq!(ids, (0..rows).collect::<Vec<_>>(), "{family:?}");
        database.execute("UPDATE account SET balance = 1 WHERE id = 0").await;
        let e = read(&source, vec![selected.clone()], at.clone()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PositionLost, "{family:?}");
        // Rows that fold by key may come from two moments.
        let folded = Selected { repeats: Repeats::Folded, ..selected };
        let rest = read(&source, vec![folded], at).await.unwrap();
        assert_eq!(before.len() + rest.row_count(), rows as usize, "{family:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_are_cut_and_read_once() {
    for (family, database) in databases().await {
        let keys = [
            ("text", "varchar(40) COLLATE utf8mb4_general_ci", "CONCAT(IF(id % 2, 'Key', 'kéy'), '\\'\\\\', id)"),
            ("bytes", "varbinary(20)", "UNHEX(LPAD(HEX(id), 8, '0'))"),
            ("dates", "datetime(3)", "'2024-01-01' + INTERVAL id SECOND"),
            ("numbers", "decimal(30,5)", "id * 1.00001 - 500"),
            ("wide", "bigint unsigned", "18446744073709551615 - id * 1000003"),
        ];
        accounts(&database, 3).await;
        for (name, kind, value) in keys {
            database
                .execute(&format!(
                    "CREATE TABLE {name} (k {kind}, second int, id int, PRIMARY KEY (k, second));\nINSERT INTO {name} SELECT {value}, 1, id FROM account;\n\
                     INSERT INTO {name} SELECT k, 2, id + 8000 FROM {name} WHERE id % 100 = 0;\nANALYZE TABLE {name}"
                ))
                .await;
            let source = open(family, &database, json!({"slices": 3}));
            let selected = full(&source, name).await;
            let stream = selected.stream.name.clone();
            let result = read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(result.ended.len(), 3, "{family:?} {name}");
            let ids: Vec<i64> = (0..8000).chain((0..8000).step_by(100).map(|i| i + 8000)).collect();
            assert_eq!(result.ids(&stream), ids, "{family:?} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_below_the_cursor_is_found_once() {
    for (family, database) in databases().await {
        database
            .execute("CREATE TABLE late (id bigint AUTO_INCREMENT PRIMARY KEY, v int);\nINSERT INTO late (v) VALUES (1), (2), (3)")
            .await;
        let source = open(family, &database, json!({}));
        let selected = Selected {
            stream: stream(&source, "late").await,
            read: ReadMode::Incremental,
            cursor: Some("id".into()),
            repeats: Repeats::Kept,
        };
        let name = selected.stream.name.clone();
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
        assert_eq!(first.ids(&name), [1, 2, 3]);
        let config = serde_json::from_value(json!({"url": database.url})).unwrap();
        let mut slow = linkspan_connectors::mysql::Statements::open(&config, linkspan_core::Context::real()).await.unwrap();
        slow.run("BEGIN").await.unwrap();
        slow.run("INSERT INTO late (v) VALUES (4)").await.unwrap();
        database.execute("INSERT INTO late (v) VALUES (5)").await;
        let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
        assert_eq!(second.ids(&name), [5], "{family:?}");
        slow.run("COMMIT").await.unwrap();
        let third = read(&source, vec![selected.clone()], second.position).await.unwrap();
        assert_eq!(third.ids(&name), [4], "{family:?}: the row that was committed late");
        let fourth = read(&source, vec![selected], third.position).await.unwrap();
        assert_eq!(fourth.row_count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_initial_load_goes_on_in_the_middle_and_then_follows() {
    for (family, database) in databases().await {
        let rows = accounts(&database, 6).await;
        database.execute("ALTER TABLE account ADD COLUMN at datetime(6);\nUPDATE account SET at = '2024-01-01' + INTERVAL id SECOND").await;
        let source = open(family, &database, json!({"slices": 2}));
        let selected = Selected {
            stream: stream(&source, "account").await,
            read: ReadMode::Incremental,
            cursor: Some("at".into()),
            repeats: Repeats::Kept,
        };
        let name = selected.stream.name.clone();
        let first = read_until(&source, vec![selected.clone()], Position::new(), Until::Checkpoints(1)).await.unwrap();
        let (before, at) = first.until_checkpoint(1, &name, &Position::new());
        // What changes in between comes as a change, whether it was read already or not.
        database
            .execute(&format!(
                "UPDATE account SET at = '2024-06-01', balance = 5 WHERE id IN (0, {});\nDELETE FROM account WHERE id = 7",
                rows - 1000
            ))
            .await;
        let rest = read(&source, vec![selected.clone()], at).await.unwrap_or_else(|e| panic!("{e:?}"));
        let mut ids = [before, rest.ids(&name)].concat();
        ids.sort_unstable();
        let mut expected: Vec<i64> = (0..rows).collect();
        expected.push(0);
        expected.sort_unstable();
        assert_eq!(ids, expected, "{family:?}");
        assert_eq!(read(&source, vec![selected], rest.position).await.unwrap().row_count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_pulls_what_came_since() {
    for (family, database) in databases().await {
        database
            .execute("CREATE TABLE e (id int PRIMARY KEY, at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6));\nINSERT INTO e (id) VALUES (1), (2)")
            .await;
        let source = open(family, &database, json!({"query": "SELECT id, at FROM e WHERE at > :last_pull", "query_name": "news"}));
        let selected =
            Selected { stream: stream(&source, "news").await, read: ReadMode::Incremental, cursor: None, repeats: Repeats::Kept };
        let name = selected.stream.name.clone();
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
        assert_eq!(first.ids(&name), [1, 2], "{family:?}");
        database.execute("INSERT INTO e (id) VALUES (3)").await;
        let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
        assert_eq!(second.ids(&name), [3], "{family:?}");
        for (query, kind) in [
            ("SELECT id, id FROM e", ErrorKind::ConfigInvalid),
            ("SELECT ? FROM e", ErrorKind::ConfigInvalid),
            ("SELEC 1", ErrorKind::ConfigInvalid),
            ("SELECT * FROM nowhere", ErrorKind::NotFound),
            ("DELETE FROM e", ErrorKind::ConfigInvalid),
        ] {
            let e = open(family, &database, json!({ "query": query })).discover().await.unwrap_err();
            assert_eq!(e.kind(), kind, "{family:?} {query}: {e:?}");
            assert!(e.suggested_fix().is_some(), "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_sees_what_it_may_read_and_is_told_what_it_may_not() {
    for (family, database) in databases().await {
        let user = unique("ls_r");
        database
            .execute(&format!(
                "CREATE TABLE open_table (id int PRIMARY KEY, secret int, v int);\nCREATE TABLE shut (id int);\nCREATE VIEW seen AS SELECT id FROM open_table;\n\
                 INSERT INTO open_table VALUES (1, 2, 3);\nCREATE USER {user}@'%' IDENTIFIED BY 'reader-1';\n\
                 GRANT SELECT (id, v) ON open_table TO {user}@'%';\nGRANT SELECT ON seen TO {user}@'%'"
            ))
            .await;
        let (_, place) = database.url.rsplit_once('@').unwrap();
        let config = json!({"url": format!("mysql://{user}:reader-1@{place}?sslmode=require"), "slices": 4});
        let source = family.connector_type().open(config, linkspan_core::Context::real()).unwrap().source().unwrap();
        let streams = source.discover().await.unwrap();
        let names: Vec<&str> = streams.iter().map(|s| &*s.name.name).collect();
        assert_eq!(names, ["open_table", "seen"], "{family:?}");
        let shown: Vec<&str> = streams[0].schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(shown, ["id", "v"]);
        // It may not lock tables: one session reads them all.
        let selected = full(&source, "open_table").await;
        assert_eq!(read(&source, vec![selected], Position::new()).await.unwrap().row_count(), 1, "{family:?}");
        let why = source.missing(&StreamName::new(Some(&database.name), "shut")).await.unwrap();
        assert_eq!(why.kind(), ErrorKind::PermissionDenied, "{why:?}");
        assert!(why.suggested_fix().unwrap().contains("GRANT SELECT"));
        database.execute(&format!("DROP USER {user}@'%'")).await;
    }
}
