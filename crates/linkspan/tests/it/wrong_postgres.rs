//! Bad input with a real PostgreSQL: a clear error, a fix, the documented exit code, and nothing changed.

use std::time::{Duration, Instant};

use linkspan_testkit::servers::TestDatabase;

use crate::program::{Place, Said};

const SECRET: &str = "canary-wr0ng";

/// The database's URL with other parts.
fn url_with(url: &str, user_and_password: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://{user_and_password}@{rest}")
}

async fn shop() -> Option<TestDatabase> {
    let database = TestDatabase::create().await?;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, k text, doc jsonb, updated_at timestamptz NOT NULL DEFAULT now());
             INSERT INTO t (id, k) VALUES (1, 'a'), (2, NULL), (3, 'c')",
        )
        .await;
    Some(database)
}

/// Runs a sync into a fresh SQLite file, which must not hold a single row afterwards.
#[track_caller]
fn refused(place: &Place, url: &str, more: &[&str], code: i32, words: &[&str]) -> Said {
    let said = place.run(&[&["sync", url, "sqlite:./out.db"], more].concat()).refuses(code, words);
    if place.path("out.db").exists() {
        let tables =
            place.sqlite("out.db", "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE '\\_linkspan%' ESCAPE '\\' AND type = 'table'");
        let rows = if tables == "0" { "0".to_owned() } else { place.sqlite("out.db", "SELECT count(*) FROM \"public.t\"") };
        assert_eq!(rows, "0", "{said:#?}");
    }
    assert!(!format!("{said:?}").contains(SECRET), "{said:#?}");
    said
}

#[tokio::test]
async fn a_wrong_password_is_an_authentication_error() {
    let Some(db) = shop().await else { return };
    refused(&Place::new(), &url_with(&db.url, &format!("postgres:{SECRET}")), &[], 3, &["password"]);
}

#[tokio::test]
async fn an_unreachable_host_is_unavailable() {
    let place = Place::new();
    refused(&place, &format!("postgres://u:{SECRET}@127.0.0.1:1/db"), &[], 5, &["127.0.0.1:1"]);
    refused(&place, &format!("postgres://u:{SECRET}@no-such-host.invalid/db"), &[], 5, &["no-such-host.invalid"]);
    assert!(!place.path("data").exists() && !place.path("out.db").exists());
}

#[tokio::test]
async fn a_host_that_swallows_packets_is_given_up_in_time() {
    // A listener whose queue is full: the kernel drops further SYNs, as a firewall does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await {
        held.push(stream);
        assert!(held.len() < 64, "the queue never fills");
    }
    let started = Instant::now();
    let url = format!("postgres://u:{SECRET}@{address}/db?connect_timeout=2");
    tokio::task::spawn_blocking(move || refused(&Place::new(), &url, &[], 5, &["within 2 s"])).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_takes_the_call_and_says_nothing_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u:{SECRET}@{}/db?connect_timeout=2", listener.local_addr().unwrap());
    tokio::task::spawn_blocking(move || refused(&Place::new(), &url, &[], 5, &[])).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let Some(db) = shop().await else { return };
    let said = refused(&Place::new(), &format!("{}?sslmode=verify-full", db.url), &[], 2, &["certificate"]);
    assert!(said.err.contains("sslrootcert"), "{}", said.err);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_the_nearest() {
    let Some(db) = shop().await else { return };
    db.execute("CREATE TABLE orders (id int)").await;
    refused(&Place::new(), &db.url, &["--stream", "public.ordrs"], 4, &["ordrs", "orders"]);
}

#[tokio::test]
async fn a_table_that_may_not_be_read_is_a_matter_of_permission() {
    let Some(db) = shop().await else { return };
    let role = linkspan_testkit::servers::unique("ls_reader");
    db.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'; CREATE SCHEMA hidden; CREATE TABLE hidden.h (id int); CREATE TABLE u (id int);
         GRANT SELECT ON u TO {role}"
    ))
    .await;
    let url = url_with(&db.url, &format!("{role}:{SECRET}"));
    let result = tokio::task::spawn_blocking(move || {
        refused(&Place::new(), &url, &["--stream", "public.t"], 3, &["public.t", "GRANT SELECT"]);
        refused(&Place::new(), &url, &["--stream", "u", "--stream", "t"], 3, &["public.t", "GRANT SELECT"]);
        refused(&Place::new(), &url, &["--stream", "hidden.h"], 3, &["hidden.h", "GRANT USAGE"]);
        refused(&Place::new(), &url, &["--stream", "public.x"], 4, &["public.x"]);
    })
    .await;
    db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    result.unwrap();
}

#[tokio::test]
async fn a_cursor_that_is_missing_or_has_no_order_is_refused() {
    let Some(db) = shop().await else { return };
    let place = Place::new();
    let with = |cursor| ["--stream", "public.t", "--mode", "incremental", "--cursor", cursor];
    refused(&place, &db.url, &with("updatedat"), 2, &["updatedat", "updated_at"]);
    refused(&place, &db.url, &with("doc"), 2, &["doc", "updated_at"]);
    assert!(!place.path("data").exists() && !place.path("out.db").exists());
}

#[tokio::test]
async fn a_key_with_nulls_cannot_be_merged_by() {
    let Some(db) = shop().await else { return };
    let args = ["--stream", "public.t", "--mode", "incremental", "--cursor", "updated_at", "--write", "merge", "--key", "k"];
    refused(&Place::new(), &db.url, &args, 7, &["column: k", "NULL"]);
}

#[tokio::test]
async fn a_table_in_the_way_is_left_as_it_is() {
    let (Some(from), Some(to)) = (shop().await, TestDatabase::create().await) else { return };
    to.execute("CREATE TABLE public.t (id text, other int NOT NULL); INSERT INTO t VALUES ('mine', 1)").await;
    let place = Place::new();
    for mode in [&["--mode", "full"][..], &["--mode", "incremental", "--cursor", "updated_at"]] {
        let said = place.run(&[&["sync", &from.url, &to.url, "--stream", "public.t"], mode].concat());
        assert!(matches!(said.code, 6 | 7), "{said:#?}");
        assert!(said.err.contains("fix:") && said.err.contains("public.t"), "{said:#?}");
        assert_eq!(to.query("SELECT id, other FROM t").await.rows, [vec![Some("mine".to_owned()), Some("1".to_owned())]]);
    }
}

#[tokio::test]
async fn a_view_in_the_way_is_left_as_it_is() {
    let (Some(from), Some(to)) = (shop().await, TestDatabase::create().await) else { return };
    to.execute("CREATE VIEW public.t AS SELECT 1 AS id").await;
    let said = Place::new().run(&["sync", &from.url, &to.url, "--stream", "public.t"]);
    assert!(said.code == 6 || said.code == 7, "{said:#?}");
    assert_eq!(to.query("SELECT id FROM t").await.rows, [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn the_same_command_again_moves_only_what_is_new_and_merges_it() {
    let (Some(from), Some(to)) = (shop().await, TestDatabase::create().await) else { return };
    let place = Place::new();
    let args = ["sync", &from.url, &to.url, "--stream", "public.t", "--mode", "incremental", "--cursor", "updated_at", "--write", "merge"];
    let args = [&args[..], &["--key", "id", "--output", "json"]].concat();
    let first = place.run(&args).succeeds().summary();
    assert_eq!(crate::program::counts(&first, "public.t").0, 3, "{first:#}");
    from.execute("UPDATE t SET k = 'new', updated_at = now() WHERE id = 2; INSERT INTO t (id, k) VALUES (4, 'd')").await;
    let second = place.run(&args).succeeds().summary();
    assert_eq!(crate::program::counts(&second, "public.t").0, 2, "{second:#}");
    let both = "SELECT id, k FROM t ORDER BY id";
    assert_eq!(from.query(both).await.rows, to.query(both).await.rows);
}
