//! Incremental reads of PostgreSQL: what is new is sent, once, whatever other transactions do meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{
    cast::AsArray,
    types::{Int32Type, Int64Type},
};
use linkspan_core::{Cursor, Ended, ErrorKind, Position, ReadMode, Repeats, Scope, Selected};
use linkspan_testkit::{
    drive::{Event, Until, read, read_until},
    servers::TestDatabase,
};
use serde_json::json;

use crate::postgresql_source::{full, incremental, open, stream};

#[tokio::test(flavor = "multi_thread")]
async fn an_initial_load_that_broke_off_loses_and_doubles_nothing_under_changes() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), filler text); \
        INSERT INTO t SELECT g, '2024-01-01', repeat('x', 1800) FROM generate_series(1, 40000) g",
        )
        .await;
    let source = open(&database, json!({"slices": 2}));
    let selected = incremental(&source, "public.t", "updated_at").await;
    let name = selected.stream.name.clone();
    let first = read_until(&source, vec![selected.clone()], Position::new(), Until::Checkpoints(1)).await.unwrap();
    let (mut ids, position) = first.until_checkpoint(1, &name, &Position::new());
    database.execute("UPDATE t SET updated_at = clock_timestamp() WHERE id IN (1, 39999); INSERT INTO t VALUES (40001)").await;
    let second = read(&source, vec![selected.clone()], position).await.unwrap();
    ids.extend(second.ids(&name));
    let third = read(&source, vec![selected], second.position).await.unwrap();
    assert_eq!(third.row_count(), 0);
    ids.sort_unstable();
    // Row 1 may have been sent before it changed and after; row 39999 only after, for its page had not been read.
    if ids[1] == 1 {
        ids.remove(0);
    }
    assert_eq!(ids, (1..=40_001).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_missed() {
    let Some(database) = TestDatabase::create().await else { return };
    for cursor in ["updated_at", "id"] {
        database
            .execute(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id bigserial PRIMARY KEY, updated_at timestamptz NOT NULL, n int); \
            INSERT INTO t (updated_at, n) VALUES ('2024-01-01', 1)",
            )
            .await;
        let source = open(&database, json!({}));
        let selected = incremental(&source, "public.t", cursor).await;
        let name = selected.stream.name.clone();
        let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
        let late = database.client().await;
        // One row in the transaction itself, one in a subtransaction that has ended: the server's snapshot does not list those.
        late.batch_execute(
            "BEGIN; INSERT INTO t (updated_at, n) VALUES ('2024-01-02', 2); SAVEPOINT a; \
            INSERT INTO t (updated_at, n) VALUES ('2024-01-02', 3); RELEASE a",
        )
        .await
        .unwrap();
        for round in 0..3 {
            database.execute("INSERT INTO t (updated_at, n) VALUES ('2024-03-01', 4)").await;
            let next = read(&source, vec![selected.clone()], position).await.unwrap();
            assert_eq!(next.ids(&name), [4 + round], "others' rows come at once, each once (cursor {cursor})");
            position = next.position;
        }
        late.batch_execute("COMMIT").await.unwrap();
        let next = read(&source, vec![selected.clone()], position).await.unwrap();
        assert_eq!(next.ids(&name), [2, 3], "the late rows (cursor {cursor})");
        assert_eq!(read(&source, vec![selected], next.position).await.unwrap().row_count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_during_the_initial_load_is_not_missed() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT '2024-01-01')").await;
    let late = database.client().await;
    late.batch_execute("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2); RELEASE a").await.unwrap();
    database.execute("INSERT INTO t SELECT g FROM generate_series(3, 10) g").await;
    let source = open(&database, json!({}));
    let selected = incremental(&source, "public.t", "updated_at").await;
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), (3..=10).collect::<Vec<i64>>());
    late.batch_execute("COMMIT").await.unwrap();
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [1, 2]);
    assert_eq!(read(&source, vec![selected], second.position).await.unwrap().row_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_cursor_value_and_infinite_ones_are_not_lost() {
    let Some(database) = TestDatabase::create().await else { return };
    database
        .execute("CREATE TABLE t (id bigint, at timestamptz); INSERT INTO t VALUES (1, NULL), (2, 'infinity'), (3, '2024-01-01')")
        .await;
    let source = open(&database, json!({}));
    let selected = incremental(&source, "public.t", "at").await;
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), [1, 2, 3]);
    database.execute("INSERT INTO t VALUES (4, NULL), (5, 'infinity'), (6, '2024-01-02')").await;
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [4, 5, 6]);
    assert_eq!(read(&source, vec![selected], second.position).await.unwrap().row_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_any_ordered_type_moves_on() {
    let Some(database) = TestDatabase::create().await else { return };
    for (kind, first, second) in [
        ("smallint", "-5", "7"),
        ("integer", "1", "2"),
        ("bigint", "9007199254740993", "9223372036854775807"),
        ("date", "'0044-03-15 BC'", "'2024-02-29'"),
        ("timestamp", "'1969-12-31 23:59:59.999999'", "'2024-01-01 00:00:00.000001'"),
        ("timestamptz", "'-infinity'", "'2024-01-01 00:00:00.000001+02'"),
        ("numeric(20, 3)", "1.5", "'NaN'"),
        ("numeric", "1e50", "'Infinity'"),
        ("double precision", "1.5", "'NaN'"),
        ("text", "'a''b'", "'b\\c'"),
        ("uuid", "'00000000-0000-7000-8000-000000000000'", "'ffffffff-0000-7000-8000-000000000000'"),
    ] {
        database.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint, c {kind}); INSERT INTO t VALUES (1, {first})")).await;
        let source = open(&database, json!({"late_window_seconds": 0}));
        let selected = incremental(&source, "public.t", "c").await;
        let name = selected.stream.name.clone();
        let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
        for (id, value) in [(2, first), (3, second), (4, second)] {
            database.execute(&format!("INSERT INTO t VALUES ({id}, {value})")).await;
            let next = read(&source, vec![selected.clone()], position).await.unwrap_or_else(|e| panic!("{kind}: {e:?}"));
            assert_eq!(next.ids(&name), [id], "{kind} {value}");
            position = next.position;
        }
        assert_eq!(read(&source, vec![selected], position).await.unwrap().row_count(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_and_materialized_views_are_read_by_value() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, secret text); INSERT INTO t VALUES (1, '2024-01-01'), (2, '2024-01-01 00:01'); \
        CREATE VIEW v AS SELECT id, at FROM t; CREATE MATERIALIZED VIEW m AS SELECT id, at FROM t").await;
    let source = open(&database, json!({}));
    for (name, rows) in [("public.v", 2), ("public.m", 3)] {
        let selected = full(&source, name).await;
        assert_eq!(read(&source, vec![selected], Position::new()).await.unwrap().row_count(), rows);
        let selected = incremental(&source, name, "at").await;
        let stream = selected.stream.name.clone();
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
        assert_eq!(first.row_count(), rows);
        let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
        assert_eq!(second.row_count(), 0);
        database.execute("INSERT INTO t SELECT max(id) + 1, '2024-01-01 00:00:30' FROM t; REFRESH MATERIALIZED VIEW m").await;
        let third = read(&source, vec![selected], second.position).await.unwrap();
        assert_eq!(third.ids(&stream).len(), 1, "a row that came late, within the window of {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_pull_is_bound_and_moves_on() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint, at timestamptz, price numeric(8, 2)); INSERT INTO t VALUES (1, '2024-01-01', 1.5)").await;
    let config = json!({"query": "SELECT id, at AS \"when\", price, ':last_pull' AS word FROM t WHERE at >= :last_pull -- since", "query_name": "news"});
    let source = open(&database, config);
    let found = stream(&source, "news").await;
    assert_eq!(found.cursor, Cursor::SourceDefined);
    let selected = Selected { stream: found, read: ReadMode::Incremental, cursor: None, repeats: Repeats::Kept };
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(
        first.table(&name).rows,
        [[Some("1".to_owned()), first.table(&name).rows[0][1].clone(), Some("1.50".into()), Some(":last_pull".into())]]
    );
    database.execute("INSERT INTO t VALUES (2, '2024-01-02', NULL), (3, now(), NULL)").await;
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [3]);
    // The late window brings the row again; it is kept in mind.
    let third = read(&source, vec![selected.clone()], second.position).await.unwrap();
    assert_eq!(third.ids(&name), Vec::<i64>::new());
    let selected = Selected { read: ReadMode::Full, ..selected };
    let whole = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(whole.row_count(), 3);
    let again = read(&source, vec![selected], whole.position).await.unwrap();
    assert_eq!((again.row_count(), again.ended[0].1), (0, Ended::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_a_cursor_reads_only_what_is_new() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let source = open(&database, json!({"query": "SELECT id, v FROM t;"}));
    let selected = incremental(&source, "query", "id").await;
    let name = selected.stream.name.clone();
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    assert_eq!(first.ids(&name), [1, 2]);
    database.execute("INSERT INTO t VALUES (2, 'tie'), (3, 'c')").await;
    let second = read(&source, vec![selected.clone()], first.position).await.unwrap();
    assert_eq!(second.ids(&name), [2, 3]);
    assert_eq!(read(&source, vec![selected], second.position).await.unwrap().row_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_cursors_are_refused_before_any_row_and_the_right_one_is_named() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, updated_at timestamptz, doc jsonb, ok boolean, b bytea)").await;
    let source = open(&database, json!({}));
    for (cursor, fix) in [
        ("updatd_at", "did you mean \"updated_at\"?"),
        ("zzz", "use \"updated_at\""),
        ("doc", "use \"updated_at\""),
        ("ok", "use \"updated_at\""),
        ("b", "use \"updated_at\""),
    ] {
        let selected = incremental(&source, "public.t", cursor).await;
        let e = read(&source, vec![selected], Position::new()).await.unwrap_err();
        assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some(fix)), "{e:?}");
        assert!(e.to_string().contains("stream=public.t"), "{e}");
    }
    let mut selected = incremental(&source, "public.t", "id").await;
    let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
    selected.cursor = Some("updated_at".into());
    let e = read(&source, vec![selected], first.position).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_from_another_server_is_lost_and_not_taken_for_empty() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigint); INSERT INTO t VALUES (1)").await;
    let source = open(&database, json!({}));
    let selected = incremental(&source, "public.t", "id").await;
    let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
    let scope = Scope::Stream(selected.stream.name.clone());
    Arc::make_mut(&mut position.get_mut(&scope).unwrap().value)["horizon"] = json!(1u64 << 40);
    let e = read(&source, vec![selected], position).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PositionLost, "{e:?}");
}

/// A writer of its own pace: rows in transactions and subtransactions that stay open for a while, some of them rolled back.
async fn write_at_random(client: tokio_postgres::Client, writer: u64, rounds: u64) {
    let mut seed = writer.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..rounds {
        let mut sql = "BEGIN;".to_owned();
        for _ in 0..1 + random(4) {
            let row = "INSERT INTO t (updated_at, n) VALUES (clock_timestamp(), 0);";
            let touch =
                format!("UPDATE t SET n = n + 1, updated_at = clock_timestamp() WHERE id % 16 = {writer} AND id % 7 = {};", random(7));
            match random(5) {
                0 => sql += &format!("SAVEPOINT s; {row} RELEASE s;"),
                1 => sql += &format!("SAVEPOINT s; {row} ROLLBACK TO s;"),
                2 => sql += &touch,
                3 => sql += &format!("SAVEPOINT s; {touch} RELEASE s;"),
                _ => sql += row,
            }
            if random(3) == 0 {
                sql += &format!("SELECT pg_sleep({});", random(60) as f64 / 1000.0);
            }
        }
        sql += if random(6) == 0 { "ROLLBACK" } else { "COMMIT" };
        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("writer {writer} round {round}: {e:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_writers_and_crashes_every_version_is_sent_once_and_the_last_one_always() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id bigserial PRIMARY KEY, updated_at timestamptz NOT NULL, n int NOT NULL, filler text DEFAULT repeat('x', 3000)); \
        ALTER TABLE t ALTER filler SET STORAGE PLAIN; INSERT INTO t (updated_at, n) SELECT '2024-01-01', 0 FROM generate_series(1, 20000)").await;
    for cursor in ["updated_at", "id"] {
        let source = open(&database, json!({"slices": 2, "late_window_seconds": 1}));
        let selected = incremental(&source, "public.t", cursor).await;
        let name = selected.stream.name.clone();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            writers.spawn(write_at_random(database.client().await, writer, 40));
        }
        let (mut sent, mut position, mut round) = (BTreeMap::new(), Position::new(), 0);
        loop {
            let quiet = writers.is_empty();
            // A crash after some checkpoint: what came behind it was not kept.
            let until = if quiet || round % 3 == 2 { Until::End } else { Until::Checkpoints(1 + round % 2) };
            let result =
                read_until(&source, vec![selected.clone()], position.clone(), until).await.unwrap_or_else(|e| panic!("{cursor}: {e:?}"));
            let mut kept = &result.events[..];
            while let [rest @ .., last] = kept {
                if matches!(last, Event::Checkpoint { .. }) {
                    break;
                }
                kept = rest;
            }
            for event in kept {
                if let Event::Rows { rows, .. } = event {
                    let (ids, ns) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(2).as_primitive::<Int32Type>());
                    for (id, n) in ids.values().iter().zip(ns.values()) {
                        *sent.entry((*id, *n)).or_insert(0) += 1;
                    }
                }
            }
            position = result.position;
            round += 1;
            if quiet {
                break;
            }
            while let Some(ended) = writers.try_join_next() {
                ended.unwrap();
            }
        }
        let twice: Vec<_> = sent.iter().filter(|(_, times)| **times > 1).take(5).collect();
        assert!(twice.is_empty(), "{cursor}: sent twice: {twice:?}");
        // A cursor that an update does not move tells nothing of updates; of inserts it tells all.
        let wanted = if cursor == "id" { "SELECT id, -1 FROM t" } else { "SELECT id, n FROM t" };
        let there = database.query(wanted).await;
        let has = |id: i64, n: i32| match n {
            -1 => sent.range((id, i32::MIN)..=(id, i32::MAX)).next().is_some(),
            n => sent.contains_key(&(id, n)),
        };
        let number = |v: &Option<String>| v.as_ref().unwrap().parse::<i64>().unwrap();
        let lost: Vec<_> = there.rows.iter().filter(|r| !has(number(&r[0]), number(&r[1]) as i32)).take(5).collect();
        assert!(lost.is_empty(), "{cursor}: lost {lost:?} of {} after {round} reads", there.len());
        assert!(round > 4, "only {round} reads");
        let last = read(&source, vec![selected], position).await.unwrap();
        assert_eq!(last.ids(&name), Vec::<i64>::new());
    }
}
