//! Bad input with a real MySQL and a real MariaDB: a clear error, a fix, the documented exit code, and nothing changed.

use std::{io::Write, net::TcpListener, thread};

use linkspan_testkit::servers::{TestDatabase, required, unique};

use crate::{
    mysql_server::{Database, Family, databases},
    program::{Place, Said, counts},
};

const SECRET: &str = "canary-wr0ng";

/// A database with a small shop on each server.
async fn shops() -> Vec<Database> {
    let mut shops = Vec::new();
    for (_, database) in databases().await {
        shop(&database).await;
        shops.push(database);
    }
    shops
}

async fn shop(database: &Database) {
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, k varchar(20), doc json, updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6));\n\
             INSERT INTO t (id, k) VALUES (1, 'a'), (2, NULL), (3, 'c');\nCREATE TABLE orders (id int)",
        )
        .await;
}

/// The database's URL for another login.
fn as_login(db: &Database, login: &str) -> String {
    format!("mysql://{login}@{}", db.url.split_once('@').unwrap().1)
}

/// Runs a sync into a fresh SQLite file, which must not hold a single row afterwards.
#[track_caller]
fn refused(place: &Place, url: &str, more: &[&str], code: i32, words: &[&str]) -> Said {
    let said = place.run(&[&["sync", url, "sqlite:./out.db"], more].concat()).refuses(code, words);
    if place.path("out.db").exists() {
        let made = "SELECT group_concat(name) FROM sqlite_master WHERE name NOT LIKE '\\_linkspan%' ESCAPE '\\' AND type = 'table'";
        for table in place.sqlite("out.db", made).split(',').filter(|t| *t != "null") {
            assert_eq!(place.sqlite("out.db", &format!("SELECT count(*) FROM \"{table}\"")), "0", "{said:#?}");
        }
    }
    assert!(!format!("{said:?}").contains(SECRET), "{said:#?}");
    said
}

/// A fresh place, of which nothing was made either.
#[track_caller]
fn refused_at_once(url: &str, more: &[&str], code: i32, words: &[&str]) {
    let place = Place::new();
    refused(&place, url, more, code, words);
    assert!(!place.path("data").exists() && !place.path("out.db").exists(), "something was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_user_is_an_authentication_error() {
    for db in shops().await {
        refused_at_once(&as_login(&db, &format!("linkspan:{SECRET}")), &[], 3, &["rejected the login", "password"]);
        refused_at_once(&as_login(&db, &format!("nobody-here:{SECRET}")), &[], 3, &["user"]);
    }
}

#[test]
fn an_unreachable_host_is_unavailable() {
    refused_at_once(&format!("mysql://u:{SECRET}@127.0.0.1:1/db"), &[], 5, &["127.0.0.1:1"]);
    refused_at_once(&format!("mariadb://u:{SECRET}@no-such-host.invalid/db"), &[], 5, &["no-such-host.invalid"]);
}

/// A server of one's own that says these bytes to who calls, and then nothing.
fn says(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept() {
            socket.write_all(&bytes).ok();
            held.push(socket);
        }
    });
    format!("mysql://u:{SECRET}@{address}/db?connect_timeout=2")
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    refused_at_once(&says(Vec::new()), &[], 5, &["within 2 s"]);
}

#[test]
fn another_kind_of_server_is_named() {
    refused_at_once(&says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), &[], 5, &["does not speak the MySQL protocol", "host and port"]);
}

/// The greeting of a server that does not offer TLS.
fn greeting_without_tls() -> Vec<u8> {
    let mut body = vec![10];
    body.extend_from_slice(b"8.0.30\0\x07\0\0\0abcdefgh\0");
    // Long passwords, databases, protocol 4.1, transactions, safe logins; then a character set and a status.
    body.extend_from_slice(&[0x0d, 0xa2, 45, 2, 0]);
    // Named plugins.
    body.extend_from_slice(&[0x08, 0, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
    let mut packet = vec![u8::try_from(body.len()).unwrap(), 0, 0, 0];
    packet.extend(body);
    packet
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("{}&sslmode={mode}", says(greeting_without_tls()));
        refused_at_once(&url, &[], 2, &["does not offer TLS", "sslmode"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_refused() {
    for db in shops().await {
        for mode in ["verify-ca", "verify-full"] {
            refused_at_once(&format!("{}?sslmode={mode}", db.url), &[], 2, &["certificate is not trusted", "sslrootcert"]);
        }
        refused_at_once(&format!("{}?sslmode=verify-full&sslrootcert=/no/such.pem", db.url), &[], 4, &["sslrootcert", "/no/such.pem"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_must_use_tls_is_told_so() {
    for db in shops().await {
        let user = unique("ls_tls");
        db.execute(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{SECRET}' REQUIRE SSL;\nGRANT SELECT ON t TO {user}@'%'")).await;
        let url = as_login(&db, &format!("{user}:{SECRET}"));
        let tried = std::panic::catch_unwind(|| {
            refused_at_once(&format!("{url}?sslmode=disable"), &[], 3, &["sslmode=require"]);
            Place::new().run(&["sync", &format!("{url}?sslmode=require"), "sqlite:./out.db"]).succeeds();
        });
        db.execute(&format!("DROP USER {user}")).await;
        tried.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_or_table_that_is_not_there_is_named_with_the_nearest() {
    for db in shops().await {
        refused_at_once(&db.url.replace(&db.name, "no_such_database"), &[], 4, &["database", "check the database's name"]);
        refused_at_once(&db.url, &["--stream", &format!("{}.ordrs", db.name)], 4, &["ordrs", "orders"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_or_written_is_a_matter_of_permission() {
    for db in shops().await {
        let (reader, nobody) = (unique("ls_r"), unique("ls_n"));
        db.execute(&format!(
            "CREATE USER {reader}@'%' IDENTIFIED BY '{SECRET}';\nCREATE USER {nobody}@'%' IDENTIFIED BY '{SECRET}';\n\
             GRANT SELECT ON orders TO {reader}@'%'"
        ))
        .await;
        let (table, there) = (format!("{}.t", db.name), format!("{}.copy", db.name));
        let may_read = as_login(&db, &format!("{reader}:{SECRET}"));
        let tried = std::panic::catch_unwind(|| {
            refused_at_once(&may_read, &["--stream", &table], 3, &[&table, "GRANT SELECT"]);
            refused_at_once(&as_login(&db, &format!("{nobody}:{SECRET}")), &["--stream", &table], 3, &["GRANT"]);
            let said =
                Place::new().run(&["sync", &db.url, &may_read, "--stream", &table, "--target", &there]).refuses(3, &["GRANT CREATE"]);
            assert!(!format!("{said:?}").contains(SECRET), "{said:#?}");
        });
        let tables = db.query("SHOW TABLES").await.rows;
        db.execute(&format!("DROP USER {reader};\nDROP USER {nobody}")).await;
        tried.unwrap();
        assert_eq!(tables.into_iter().flatten().flatten().collect::<Vec<_>>(), ["orders", "t"]);
    }
}

#[test]
fn a_wrong_url_is_refused_before_anything_is_called() {
    let url = |rest: &str| format!("mysql://u:{SECRET}@127.0.0.1{rest}");
    refused_at_once(&url("/d?ssl_mode=require"), &[], 2, &["ssl_mode", "did you mean", "sslmode"]);
    refused_at_once(&url("/d?sslmode=on"), &[], 2, &["verify-full"]);
    refused_at_once(&url("/d?ssl-mode=on"), &[], 2, &["VERIFY_IDENTITY"]);
    refused_at_once(&url("/d?connect_timeout=soon"), &[], 2, &["connect_timeout"]);
    refused_at_once(&url(":99999/d"), &[], 2, &["port"]);
    refused_at_once("mysql://127.0.0.1/d", &[], 2, &["user"]);
}

#[test]
fn wrong_fields_are_refused_with_their_place_in_the_file() {
    let project = "connectors:\n  shop:\n    type: mysql\n    config:\n      host: 127.0.0.1\n      user: u\n      password: canary-wr0ng\n      database: d\n      EXTRA\n  there:\n    type: sqlite\n    config: {path: ./out.db}\nconnections:\n  c:\n    from: shop\n    to: there\n    streams: [d.t]\n";
    for (extra, words) in [
        ("port: many", &["field: port", "a whole number from 0 to 65535", "p.yaml:9:7"][..]),
        ("port: 99999", &["field: port"]),
        ("hots: x", &["hots", "host"]),
        ("slices: -1", &["field: slices"]),
        ("odd_dates: sometimes", &["field: odd_dates", "`null`"]),
        ("sslmode: on-sundays", &["field: sslmode", "`verify-full`"]),
        ("url: mysql://u@h/d", &["url", "host"]),
    ] {
        let place = Place::new();
        place.write("p.yaml", project.replace("EXTRA", extra));
        let said = place.run(&["sync", "-f", "p.yaml"]);
        assert_eq!(said.code, 2, "{extra}: {said:#?}");
        assert!(said.err.contains("fix:") && words.iter().all(|w| said.err.contains(w)), "{extra}: {said:#?}");
        assert!(!format!("{said:?}").contains(SECRET) && !place.path("out.db").exists(), "{extra}: {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_missing_or_has_no_order_is_refused() {
    for db in shops().await {
        let table = format!("{}.t", db.name);
        let with = |cursor| ["--stream", &table, "--mode", "incremental", "--cursor", cursor];
        refused_at_once(&db.url, &with("updatedat"), 2, &["updatedat", "updated_at"]);
        refused_at_once(&db.url, &with("doc"), 2, &["doc", "updated_at"]);
        refused(&Place::new(), &db.url, &["--stream", &table, "--mode", "cdc"], 2, &["change data capture", "incremental"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_or_has_nulls_cannot_be_merged_by() {
    for db in shops().await {
        let (table, orders) = (format!("{}.t", db.name), format!("{}.orders", db.name));
        let by = |key| ["--stream", &table, "--mode", "incremental", "--cursor", "updated_at", "--write", "merge", "--key", key];
        refused(&Place::new(), &db.url, &by("k"), 7, &["column: k", "NULL"]);
        refused_at_once(&db.url, &by("idd"), 2, &["idd", "\"id\""]);
        refused_at_once(&db.url, &["--stream", &orders, "--write", "merge"], 2, &["--key"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_or_a_view_in_the_way_is_left_as_it_is() {
    for (family, from) in databases().await {
        shop(&from).await;
        let to = family.database().await.unwrap();
        to.execute(
            "CREATE TABLE t (id varchar(10), other int NOT NULL);\nINSERT INTO t VALUES ('mine', 1);\nCREATE VIEW v AS SELECT 1 AS id",
        )
        .await;
        let place = Place::new();
        for (mode, target) in [("full", "t"), ("full", "v"), ("incremental", "t"), ("incremental", "v")] {
            let (stream, target) = (format!("{}.t", from.name), format!("{}.{target}", to.name));
            let more: &[&str] = if mode == "full" { &[] } else { &["--cursor", "updated_at"] };
            let base = ["sync", &from.url, &to.url, "--stream", &stream, "--target", &target, "--mode", mode];
            let said = place.run(&[&base, more].concat());
            assert!(matches!(said.code, 6 | 7) && said.err.contains("fix:") && said.err.contains(&stream), "{mode} {target}: {said:#?}");
        }
        assert_eq!(to.query("SELECT id, other FROM t").await.rows, [[Some("mine".to_owned()), Some("1".to_owned())]]);
        assert_eq!(to.query("SELECT id FROM v").await.rows, [[Some("1".to_owned())]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_a_database_or_with_too_long_a_name_is_refused() {
    for db in shops().await {
        let table = format!("{}.t", db.name);
        let nowhere = db.url.replace(&db.name, "");
        Place::new().run(&["sync", &db.url, &nowhere, "--stream", &table, "--target", "x.y"]).refuses(2, &["database"]);
        let long = format!("{}.{}", db.name, "n".repeat(80));
        let said = Place::new().run(&["sync", &db.url, &db.url, "--stream", &table, "--target", &long]);
        assert!(said.code == 2 && said.err.contains("fix:"), "{said:#?}");
        let tables = db.query("SHOW TABLES LIKE 'n%'").await;
        assert!(tables.is_empty(), "{tables:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_again_moves_only_what_is_new_and_merges_it() {
    for (family, from) in databases().await {
        shop(&from).await;
        let to = family.database().await.unwrap();
        let (stream, target) = (format!("{}.t", from.name), format!("{}.t", to.name));
        let place = Place::new();
        let args =
            ["sync", &from.url, &to.url, "--stream", &stream, "--target", &target, "--mode", "incremental", "--cursor", "updated_at"];
        let args = [&args[..], &["--write", "merge", "--key", "id", "--output", "json"]].concat();
        let first = place.run(&args).succeeds().summary();
        assert_eq!(counts(&first, &stream).0, 3, "{first:#}");
        from.execute("UPDATE t SET k = 'new', updated_at = NOW(6) WHERE id = 2;\nINSERT INTO t (id, k) VALUES (4, 'd')").await;
        let second = place.run(&args).succeeds().summary();
        assert_eq!(counts(&second, &stream).0, 2, "{second:#}");
        let both = "SELECT id, k FROM t ORDER BY id";
        assert_eq!(from.query(both).await.rows, to.query(both).await.rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_refused() {
    let (Some(db), Some(ca)) = (Family::Mariadb.database().await, required("LINKSPAN_TEST_MARIADB_CA")) else { return };
    let by = |host: &str, mode: &str| {
        let url = db.url.replace("127.0.0.1", host);
        format!("{url}?sslmode={mode}&sslrootcert={ca}")
    };
    shop(&db).await;
    Place::new().run(&["sync", &by("127.0.0.1", "verify-full"), "sqlite:./out.db"]).succeeds();
    // The same address by a number that is not in the certificate.
    refused_at_once(&by("[::ffff:127.0.0.1]", "verify-full"), &[], 2, &["certificate"]);
    Place::new().run(&["sync", &by("[::ffff:127.0.0.1]", "verify-ca"), "sqlite:./out.db"]).succeeds();
}

/// Zero dates where the table allows no null, and as the cursor itself: what peers' users meet most.
#[tokio::test(flavor = "multi_thread")]
async fn zero_dates_stop_no_stream_and_lose_no_row() {
    for (_, from) in databases().await {
        let Some(to) = TestDatabase::create().await else { return };
        from.execute(
            "CREATE TABLE z (id int PRIMARY KEY, born date NOT NULL, seen datetime(6) NOT NULL);\n\
             INSERT INTO z VALUES (1, '2024-01-01', '2024-01-01 00:00:00'), (2, '2024-01-02', '0000-00-00 00:00:00')",
        )
        .await;
        let (stream, place) = (format!("{}.z", from.name), Place::new());
        let args = ["sync", &from.url, &to.url, "--stream", &stream, "--target", "public.z", "--mode", "incremental", "--cursor", "seen"];
        let args = [&args[..], &["--write", "merge", "--output", "json"]].concat();
        assert_eq!(counts(&place.run(&args).succeeds().summary(), &stream).1, 2);
        from.execute("INSERT INTO z VALUES (3, '0000-00-00', '2024-02-01 00:00:00'), (4, '2024-00-07', '2024-02-02 00:00:00')").await;
        place.run(&args).succeeds();
        place.run(&args).succeeds();
        let rows = to.query("SELECT id, born IS NULL, seen IS NULL FROM z ORDER BY id").await.rows;
        let shown: Vec<String> = rows.into_iter().map(|r| r.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(shown, ["1 f f", "2 f t", "3 t f", "4 t f"]);
    }
}

/// The error names a policy, and the policy does what it says, in a table that is only being made.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_place_stops_the_stream_or_follows_its_policy() {
    let Some(from) = TestDatabase::create().await else { return };
    from.execute(
        "CREATE TABLE odd (id int PRIMARY KEY, x float8, doc jsonb); \
         INSERT INTO odd VALUES (1, 'NaN', '1'), (2, 1.5, '[123456789012345678901234567890.123]'), (3, 2.5, '[0.1]')",
    )
    .await;
    for (family, to) in databases().await {
        let place = Place::new();
        let sync = |policy: &str| {
            let target = if policy.contains("value") { "nulled" } else { "left" };
            let connectors = format!(
                "connectors:\n  from: {{type: postgresql, config: {{url: '{}'}}}}\n  to: {{type: mysql, config: {{url: '{}'}}}}\n",
                from.url, to.url
            );
            let connection = format!(
                "connections:\n  {target}:\n    from: from\n    to: to\n    write: replace\n    streams:\n      - {{name: public.odd, target: {}.{target}}}\n    \
                 policies:\n      drift: {policy}\n",
                to.name
            );
            place.write("p.yaml", connectors + &connection);
            place.run(&["sync", "-f", "p.yaml"])
        };
        sync("evolve").refuses(7, &["column: x", "discard_value"]);
        sync("{changed_type: discard_value}").succeeds();
        sync("discard_row").succeeds();
        let kept = |table: &str| format!("SELECT id, x IS NULL, doc IS NULL FROM {table} ORDER BY id");
        let shown = |rows: Vec<Vec<Option<String>>>| -> Vec<String> {
            rows.into_iter().map(|r| r.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect()
        };
        // MariaDB keeps the text of a document.
        let is_mysql = family == Family::Mysql;
        let nulled = if is_mysql { ["1 1 0", "2 0 1", "3 0 0"] } else { ["1 1 0", "2 0 0", "3 0 0"] };
        assert_eq!(shown(to.query(&kept("nulled")).await.rows), nulled, "{family:?}");
        let left: &[&str] = if is_mysql { &["3 0 0"] } else { &["2 0 0", "3 0 0"] };
        assert_eq!(shown(to.query(&kept("`left`")).await.rows), left, "{family:?}");
    }
}
