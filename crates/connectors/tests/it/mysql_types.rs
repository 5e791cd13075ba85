//! From MySQL to MySQL and from MariaDB to MariaDB: every type arrives as it was, in a column of the same type.

use std::sync::Arc;

use arrow_schema::DataType;
use linkspan_core::{
    Alter, Batch, Changes, Commit, ConnectionId, Context, Destination, Load, LoadStream, MemoryBudget, Misfit, Position, Rows, SchemaPlan,
    Scope, State, Swap, Target, WriteMode,
};
use linkspan_testkit::{
    drive::{Event, read},
    servers::unique,
};
use serde_json::json;

use super::{
    mysql_server::{Database, Family, databases},
    mysql_source::{full, open},
    mysql_values::VALUES,
};

fn destination(family: Family, database: &Database) -> Arc<dyn Destination> {
    family.connector_type().open(json!({"url": database.url}), Context::real()).unwrap().destination().unwrap()
}

/// Reads a table and writes it to another one of the same database.
pub(crate) async fn copy(family: Family, database: &Database, from: &str, to: &str, write: WriteMode, extra: serde_json::Value) {
    let source = open(family, database, extra);
    let selected = full(&source, from).await;
    let (stream, mut schema) = (selected.stream.name.clone(), selected.stream.schema.clone());
    let key = if write == WriteMode::Merge { selected.stream.key.clone() } else { vec![] };
    let rows = read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("{from}: {e:?}"));
    let destination = destination(family, database);
    let connection = ConnectionId(uuid::Uuid::new_v4());
    let target = Target { namespace: Some(database.name.as_str().into()), name: to.into() };
    let load = LoadStream { stream: stream.clone(), target, write, generation: 1, key: key.clone(), swap: Swap::Rename };
    let scope = Scope::Stream(stream.clone());
    let mut session =
        destination.open(Load { connection, fence: 1, scope: scope.clone(), previous: 0, streams: vec![load] }).await.unwrap();
    let budget = MemoryBudget::new(1 << 30);
    let mut planned = false;
    for event in rows.events {
        match event {
            Event::Schema { schema: next, .. } => schema = next,
            Event::Rows { rows, .. } => {
                if !planned {
                    let plan = SchemaPlan {
                        ddl: vec![Alter::Create { schema: schema.clone(), key: key.clone() }],
                        schema: schema.clone(),
                        misfit: Misfit::Fail,
                    };
                    session.schema(&stream, &plan).await.unwrap_or_else(|e| panic!("{from}: {e:?}"));
                    planned = true;
                }
                let lease = budget.lease(1).await;
                let batch = Batch { stream: stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease };
                session.write(batch).await.unwrap_or_else(|e| panic!("{from}: {e:?}"));
            }
            _ => {}
        }
    }
    let commit = Commit { connection, scope, generation: 1, fence: 1, previous: 0, number: 1, state: State::new(1, json!({})) };
    session.commit(&commit).await.unwrap_or_else(|e| panic!("{from}: {e:?}"));
}

pub(crate) async fn differing(database: &Database, from: &str, to: &str) -> String {
    let kind = column_type(database, from).await;
    let is_text = ["char", "text", "enum", "set"].iter().any(|t| kind.contains(t));
    // Texts of two collations cannot be compared; all their characters can.
    let value = |side: &str| if is_text { format!("HEX(CONVERT({side}.v USING utf8mb4))") } else { format!("{side}.v") };
    let sql = format!(
        "SELECT COUNT(*) FROM `{from}` a LEFT JOIN `{to}` b ON a.id = b.id WHERE b.id IS NULL OR NOT ({} <=> {})",
        value("a"),
        value("b")
    );
    database.query(&sql).await.rows[0][0].clone().unwrap()
}

async fn column_type(database: &Database, table: &str) -> String {
    let sql = format!(
        "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}' AND COLUMN_NAME = 'v'"
    );
    database.query(&sql).await.rows[0][0].clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_it_was_by_append_and_by_merge() {
    for (family, database) in databases().await {
        for (at, (column, values, _)) in VALUES.iter().enumerate() {
            let from = format!("t{at}");
            let rows = values.iter().enumerate().map(|(i, v)| format!("({i}, {v})")).collect::<Vec<_>>().join(", ");
            database
                .execute(&format!(
                    "CREATE TABLE {from} (id int PRIMARY KEY, v {column});\nINSERT INTO {from} VALUES {rows}, ({}, NULL)",
                    values.len()
                ))
                .await;
            for (mode, write) in [("append", WriteMode::Append), ("merge", WriteMode::Merge)] {
                let to = format!("{from}_{mode}");
                copy(family, &database, &from, &to, write, json!({})).await;
                assert_eq!(differing(&database, &from, &to).await, "0", "{family:?} {column} by {mode}");
                let (was, is) = (column_type(&database, &from).await, column_type(&database, &to).await);
                // What only says how a number is shown is left out, and a boolean of one bit is a boolean.
                let is_number = was.contains("int(") || was.contains("bit(1)");
                let plain = |t: &str| match t.split_once('(') {
                    Some((name, rest)) if is_number => {
                        format!("{name}{}", rest.split_once(')').map_or("", |(_, r)| r)).replace(" zerofill", "")
                    }
                    _ => t.to_owned(),
                };
                assert_eq!(plain(&is), plain(&was), "{family:?} {column} by {mode}");
            }
        }
    }
}

/// Both servers of the tests keep the case of names, as MySQL does on Linux by default (`lower_case_table_names` 0).
#[tokio::test(flavor = "multi_thread")]
async fn names_that_differ_only_in_case_are_tables_of_their_own() {
    for (family, database) in databases().await {
        let tables = [("Orders", "(1, 'a')", "1"), ("orders", "(1, 'b'), (2, 'c')", "2")];
        for (table, rows, _) in tables {
            database.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text);\nINSERT INTO {table} VALUES {rows}")).await;
        }
        for (table, _, count) in tables {
            let to = format!("{table}_copy");
            copy(family, &database, table, &to, WriteMode::Append, json!({})).await;
            assert_eq!(database.query(&format!("SELECT COUNT(*) FROM {to}")).await.rows[0][0].as_deref(), Some(count), "{family:?} {to}");
            assert_eq!(differing(&database, table, &to).await, "0", "{family:?} {to}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_dates_travel_whole_as_text() {
    for (family, database) in databases().await {
        database
            .execute(
                "CREATE TABLE odd (id int PRIMARY KEY, v datetime(2));\nSET SESSION sql_mode = 'ALLOW_INVALID_DATES';\n\
                 INSERT INTO odd VALUES (1, '0000-00-00'), (2, '2024-00-05 10:00:00.25'), (3, '2023-02-31'), (4, NULL);\n\
                 CREATE TABLE span (id int PRIMARY KEY, v time(3));\nINSERT INTO span VALUES (1, '-838:59:59'), (2, '30:00:00.125')",
            )
            .await;
        for (table, kind) in [("odd", "datetime(2)"), ("span", "time(3)")] {
            let to = format!("{table}_there");
            copy(family, &database, table, &to, WriteMode::Append, json!({"odd_dates": "text"})).await;
            assert_eq!(differing(&database, table, &to).await, "0", "{family:?} {table}");
            assert_eq!(column_type(&database, &to).await, kind);
        }
    }
}

/// MariaDB's own UUIDs are kept as bytes in our tables: the record says what they are, to who may read it, while the column is the one
/// that was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_uuid_of_ours_is_one_again_for_who_may_read_the_record() {
    let Some(database) = Family::Mariadb.database().await else { return };
    database
        .execute(
            "CREATE TABLE u (id int PRIMARY KEY, v uuid);\nINSERT INTO u VALUES (1, '123e4567-e89b-12d3-a456-426655440000'), (2, NULL)",
        )
        .await;
    copy(Family::Mariadb, &database, "u", "ours", WriteMode::Append, json!({})).await;
    assert_eq!(column_type(&database, "ours").await, "binary(16)");
    let source = open(Family::Mariadb, &database, json!({}));
    let selected = full(&source, "ours").await;
    assert_eq!(selected.stream.schema.field(1).data_type(), &DataType::FixedSizeBinary(16));
    let (name, read) = (selected.stream.name.clone(), read(&source, vec![selected], Position::new()).await.unwrap());
    assert_eq!(read.table(&name).column("v").unwrap(), [Some("123e4567e89b12d3a456426655440000"), None]);
    let user = unique("ls_r");
    database.execute(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'reader-1';\nGRANT SELECT ON ours TO {user}@'%'")).await;
    let (_, place) = database.url.rsplit_once('@').unwrap();
    let config = json!({"url": format!("mysql://{user}:reader-1@{place}?sslmode=require")});
    let reader = Family::Mariadb.connector_type().open(config, Context::real()).unwrap().source().unwrap();
    assert_eq!(full(&reader, "ours").await.stream.schema.field(1).data_type(), &DataType::Binary);
    database.execute(&format!("DROP USER {user};\nUPDATE ours SET v = NULL;\nALTER TABLE ours MODIFY v varchar(40) NULL")).await;
    assert_eq!(full(&source, "ours").await.stream.schema.field(1).data_type(), &DataType::Utf8, "somebody changed the column");
}
