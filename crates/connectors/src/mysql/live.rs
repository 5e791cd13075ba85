//! Connecting and checking against real servers.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{Checked, Context, Error, ErrorKind, Result};
use linkspan_testkit::servers::{required, unique};
use serde_json::{Value, json};

use super::{
    columns::sql_type,
    config::MysqlConfig,
    insert, mariadb, mysql,
    record::{Column, Place, Table},
    server::Server,
    wire,
};

fn servers() -> Vec<String> {
    ["LINKSPAN_TEST_MARIADB_URL", "LINKSPAN_TEST_MYSQL_URL"].into_iter().filter_map(required).collect()
}

async fn check(config: Value) -> Result<Checked> {
    mysql().open(config, Context::real())?.check().await
}

async fn refused(config: Value) -> Error {
    check(config).await.expect_err("this config must not work")
}

async fn session(url: &str) -> Result<wire::Wire> {
    let config: MysqlConfig = serde_json::from_value(json!({ "url": url })).unwrap();
    Server::new(config.endpoint()?, Context::real()).connect().await
}

async fn run(url: &str, sql: &str) -> Vec<wire::TextRow> {
    session(url).await.unwrap().query(sql, "testing").await.unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}

/// The same server for another user, in no database.
fn as_user(url: &str, user: &str, password: &str) -> String {
    let place = url.rsplit_once('@').unwrap().1.split('/').next().unwrap();
    format!("mysql://{user}:{password}@{place}/")
}

#[tokio::test]
async fn a_check_says_version_and_database() {
    for url in servers() {
        let checked = check(json!({ "url": url })).await.unwrap();
        assert!(checked.server_version.is_some_and(|v| v.starts_with("MySQL ") || v.starts_with("MariaDB ")));
        assert_eq!(checked.database.as_deref(), Some("test"));
        let nowhere = check(json!({"url": url.replace("/test", "/")})).await.unwrap();
        assert_eq!(nowhere.database, None);
        assert!(mariadb().open(json!({ "url": url.replace("mysql://", "mariadb://") }), Context::real()).unwrap().check().await.is_ok());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_login_is_named() {
    for url in servers() {
        let kind = async |config| {
            let e = refused(config).await;
            assert!(e.suggested_fix().is_some(), "{e:?}");
            assert!(!format!("{e:?} {}", e.to_json()).contains("canary"), "{e:?}");
            e.kind()
        };
        assert_eq!(kind(json!({"url": as_user(&url, "linkspan", "canary")})).await, ErrorKind::AuthFailed);
        assert_eq!(kind(json!({"url": as_user(&url, "nobody", "canary")})).await, ErrorKind::AuthFailed);
        assert_eq!(kind(json!({"url": format!("{url}_is_not_there")})).await, ErrorKind::NotFound);
        let user = unique("u");
        run(&url, &format!("CREATE USER {user}@'%' IDENTIFIED BY 'canary'")).await;
        let denied = format!("{}mysql?sslmode=require", as_user(&url, &user, "canary"));
        assert_eq!(kind(json!({ "url": denied })).await, ErrorKind::PermissionDenied);
        run(&url, &format!("DROP USER {user}")).await;
    }
    let e = refused(json!({"url": "mysql://u:canary@127.0.0.1:1/"})).await;
    assert_eq!(e.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn sslmode_decides_whether_a_session_is_encrypted() {
    for url in servers() {
        // A first encrypted login, so that the server can check the ones without TLS from its cache.
        for (mode, encrypted) in [("require", true), ("prefer", true), ("disable", false), ("allow", false)] {
            let cipher = run(&format!("{url}?sslmode={mode}"), "SHOW STATUS LIKE 'Ssl_cipher'").await;
            assert_eq!(cipher[0][1].as_deref() != Some(""), encrypted, "{mode}");
        }
        let e = refused(json!({"url": url, "sslmode": "verify-full"})).await;
        assert_eq!((e.kind(), e.message()), (ErrorKind::ConfigInvalid, "the server's certificate is not trusted"));
    }
    let (Some(url), Some(ca)) = (required("LINKSPAN_TEST_MARIADB_URL"), required("LINKSPAN_TEST_MARIADB_CA")) else { return };
    for mode in ["verify-ca", "verify-full"] {
        assert!(check(json!({"url": url, "sslmode": mode, "sslrootcert": ca})).await.is_ok(), "{mode}");
    }
}

/// The certificate that MySQL makes for itself names no host: its chain can be checked, its name cannot.
#[tokio::test]
async fn mysqls_own_certificate_has_a_chain_and_no_name() {
    let Some(url) = required("LINKSPAN_TEST_MYSQL_URL") else { return };
    let place = run(&url, "SELECT CONCAT(@@datadir, @@ssl_ca)").await[0][0].clone().unwrap();
    if std::fs::File::open(&place).is_err() {
        return;
    }
    assert!(check(json!({"url": url, "sslmode": "verify-ca", "sslrootcert": place})).await.is_ok());
    let e = refused(json!({"url": url, "sslmode": "verify-full", "sslrootcert": place})).await;
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
    assert!(e.suggested_fix().is_some(), "{e:?}");
}

#[tokio::test]
async fn each_plugin_logs_in_or_says_what_to_do() {
    for url in servers() {
        let plugins =
            "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_STATUS = 'ACTIVE'";
        let there: Vec<String> = run(&url, plugins).await.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        let mut tried = 0;
        for plugin in ["mysql_native_password", "caching_sha2_password", "sha256_password"] {
            if !there.iter().any(|t| t == plugin) {
                continue;
            }
            let (user, with) = (unique("u"), if url_is_mariadb(&url).await { "VIA" } else { "WITH" });
            let by = if with == "VIA" { "USING PASSWORD('p w')" } else { "BY 'p w'" };
            run(&url, &format!("CREATE USER {user}@'%' IDENTIFIED {with} {plugin} {by}")).await;
            let login = as_user(&url, &user, "p%20w");
            if plugin != "mysql_native_password" {
                let e = session(&format!("{login}?sslmode=disable")).await.err().unwrap();
                assert_eq!(e.kind(), ErrorKind::AuthFailed, "{plugin}");
                assert!(e.suggested_fix().unwrap().contains("sslmode=require"), "{e:?}");
            }
            // The second login of caching_sha2 is from the server's cache.
            for _ in 0..2 {
                let who = run(&format!("{login}?sslmode=require"), "SELECT CURRENT_USER()").await;
                assert_eq!(who[0][0].as_deref(), Some(format!("{user}@%").as_str()), "{plugin}");
            }
            run(&url, &format!("DROP USER {user}")).await;
            tried += 1;
        }
        assert!(tried > 0, "no plugin of ours at the server: {there:?}");
    }
}

#[tokio::test]
async fn a_sha2_login_without_tls_goes_by_the_servers_key() {
    let Some(url) = required("LINKSPAN_TEST_MYSQL_URL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut tried = Vec::new();
    for (plugin, variable) in [("caching_sha2_password", "Caching_sha2_password_rsa_public_key"), ("sha256_password", "Rsa_public_key")] {
        let there = format!("SELECT 1 FROM information_schema.PLUGINS WHERE PLUGIN_NAME = '{plugin}' AND PLUGIN_STATUS = 'ACTIVE'");
        let key = run(&url, &format!("SHOW STATUS LIKE '{variable}'")).await;
        let Some(pem) = key.first().and_then(|row| row[1].clone()).filter(|k| k.contains("PUBLIC KEY")) else { continue };
        if run(&url, &there).await.is_empty() {
            continue;
        }
        let path = folder.path().join(plugin);
        std::fs::write(&path, pem).unwrap();
        let user = unique("u");
        run(&url, &format!("CREATE USER {user}@'%' IDENTIFIED WITH {plugin} BY 'p w'")).await;
        let login = format!("{}?sslmode=disable", as_user(&url, &user, "p%20w"));
        assert!(check(json!({"url": login, "server_public_key": path})).await.is_ok(), "{plugin}");
        let wrong = format!("{}?sslmode=disable", as_user(&url, &user, "canary"));
        assert_eq!(refused(json!({"url": wrong, "server_public_key": path})).await.kind(), ErrorKind::AuthFailed);
        run(&url, &format!("DROP USER {user}")).await;
        tried.push(plugin);
    }
    // MySQL 9.7 has both plugins and shows both keys.
    assert_eq!(tried, ["caching_sha2_password", "sha256_password"]);
}

/// The suites of both servers pass; this is why they prove both ways of writing.
#[tokio::test]
async fn one_of_the_servers_takes_files_and_the_other_inserts() {
    let mut paths = Vec::new();
    for url in servers() {
        let mut wire = session(&url).await.unwrap();
        paths.push(insert::path(&mut wire).await.unwrap());
        wire.close().await;
    }
    if paths.len() == 2 {
        assert!(paths.contains(&insert::Path::Load) && paths.iter().any(|p| matches!(p, insert::Path::Insert(_))), "{paths:?}");
    }
}

/// The server would only hang up in the middle of such a row.
#[tokio::test]
async fn a_row_beyond_the_servers_packet_is_refused_and_others_travel_in_pieces() {
    for url in servers() {
        let mut wire = session(&url).await.unwrap();
        let field = Field::new("v", DataType::Utf8, true);
        let made = sql_type(&field, wire.flavor(), None);
        let place = Place { database: "test".into(), name: unique("packet") };
        wire.query(&format!("CREATE TABLE {} (v {})", place.sql(), made.text), "testing").await.unwrap();
        let column = Column { field: field.clone(), stored: "v".into(), made };
        let table = Table { place, token: String::new(), key: vec![], columns: vec![column] };
        let rows = |texts: Vec<String>| {
            RecordBatch::try_new(Arc::new(Schema::new(vec![field.clone()])), vec![Arc::new(StringArray::from(texts))]).unwrap()
        };
        let written = insert::append(&mut wire, insert::Path::Insert(1000), &table, &[rows(vec!["x".repeat(300); 5])]).await;
        assert_eq!(written.unwrap(), 5);
        let e = insert::append(&mut wire, insert::Path::Insert(1000), &table, &[rows(vec!["y".repeat(2000)])]).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DataInvalid);
        assert!(e.suggested_fix().unwrap().contains("max_allowed_packet"), "{e:?}");
        let count = wire.query(&format!("SELECT COUNT(*) FROM {}", table.place.sql()), "testing").await.unwrap();
        assert_eq!(count[0][0].as_deref(), Some("5"));
        wire.query(&format!("DROP TABLE {}", table.place.sql()), "testing").await.unwrap();
        wire.close().await;
    }
}

/// What a server is set to ends no long read, and a slow other side does not make it hang up.
#[tokio::test]
async fn a_session_does_not_live_by_the_servers_limits() {
    for url in servers() {
        let row =
            run(&url, "SELECT @@wait_timeout, @@net_write_timeout, @@net_read_timeout, @@time_zone, @@character_set_results, @@sql_mode")
                .await;
        let said: Vec<&str> = row[0].iter().map(|v| v.as_deref().unwrap()).collect();
        assert_eq!(said[..5], ["86400", "31536000", "86400", "+00:00", "utf8mb4"]);
        assert!(said[5].contains("STRICT_ALL_TABLES") && !said[5].contains("NO_BACKSLASH_ESCAPES") && !said[5].contains("ANSI_QUOTES"));
    }
}

#[tokio::test]
async fn mariadb_logs_in_by_ed25519() {
    let Some(url) = required("LINKSPAN_TEST_MARIADB_URL") else { return };
    // Installed before, or by another test at the same time.
    session(&url).await.unwrap().query("INSTALL SONAME 'auth_ed25519'", "testing").await.ok();
    let there = "SELECT 1 FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'ed25519' AND PLUGIN_STATUS = 'ACTIVE'";
    assert_eq!(run(&url, there).await.len(), 1, "the server has no such plugin");
    let user = unique("u");
    run(&url, &format!("CREATE USER {user}@'%' IDENTIFIED VIA ed25519 USING PASSWORD('p w, longer than thirty-two bytes')")).await;
    let login = as_user(&url, &user, "p%20w%2C%20longer%20than%20thirty-two%20bytes");
    for mode in ["disable", "require"] {
        let who = run(&format!("{login}?sslmode={mode}"), "SELECT CURRENT_USER()").await;
        assert_eq!(who[0][0].as_deref(), Some(format!("{user}@%").as_str()));
    }
    let e = refused(json!({"url": as_user(&url, &user, "canary")})).await;
    assert_eq!(e.kind(), ErrorKind::AuthFailed, "{e:?}");
    run(&url, &format!("DROP USER {user}")).await;
}

async fn url_is_mariadb(url: &str) -> bool {
    run(url, "SELECT VERSION()").await[0][0].as_deref().is_some_and(|v| v.contains("MariaDB"))
}

#[tokio::test]
async fn a_session_goes_on_after_an_error_and_keeps_values_whole() {
    for url in servers() {
        let mut wire = session(&url).await.unwrap();
        assert_eq!(wire.query("SELEC 1", "testing").await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
        let rows = wire.query("SELECT NULL, 'ü😀', '', REPEAT('x', 300000) UNION ALL SELECT 1, 2, 3, 4", "testing").await.unwrap();
        assert_eq!(rows[0][..3], [None, Some("ü😀".to_owned()), Some(String::new())]);
        assert_eq!((rows[0][3].as_ref().unwrap().len(), rows.len()), (300_000, 2));
        assert!(wire.query("DO 1", "testing").await.unwrap().is_empty());
        wire.close().await;
    }
}

#[tokio::test]
async fn what_is_no_mysql_server_or_says_nothing_is_named() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x05\0\0\0\x09abcd", b""] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = said.is_empty();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut socket, said).await.unwrap();
            std::future::pending::<()>().await;
        });
        let e = refused(json!({"host": "127.0.0.1", "port": port, "user": "u", "connect_timeout_seconds": 1})).await;
        assert_eq!(e.kind(), if silent { ErrorKind::Timeout } else { ErrorKind::Unavailable }, "{e:?}");
        server.abort();
    }
}

#[tokio::test]
async fn nothing_of_a_use_is_left_for_the_next() {
    for url in servers() {
        let config: MysqlConfig = serde_json::from_value(json!({ "url": url })).unwrap();
        let server = Server::new(config.endpoint().unwrap(), Context::real());
        let mut wire = server.connect().await.unwrap();
        let first = wire.query("SELECT CONNECTION_ID()", "testing").await.unwrap();
        let table = unique("left");
        for sql in [
            "SET @left = 1, sql_mode = '', lock_wait_timeout = 7, innodb_lock_wait_timeout = 8",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            "CREATE TEMPORARY TABLE left_over (a int)",
            &format!("SELECT GET_LOCK('{table}', 1)"),
            "PREPARE left_over FROM 'SELECT 1'",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        ] {
            wire.query(sql, "testing").await.unwrap();
        }
        wire.close().await;
        let mut wire = server.connect().await.unwrap();
        assert_eq!(wire.query("SELECT CONNECTION_ID()", "testing").await.unwrap(), first, "the same session");
        let isolation = if wire.flavor() == super::server::Flavor::Mariadb { "@@tx_isolation" } else { "@@transaction_isolation" };
        let left = format!(
            "SELECT @left, @@sql_mode LIKE '%STRICT_ALL%', @@lock_wait_timeout = 7, @@innodb_lock_wait_timeout = 8, {isolation}, IS_FREE_LOCK('{table}'), \
             @@time_zone, DATABASE(), (SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = CONNECTION_ID())"
        );
        let left = wire.query(&left, "testing").await.unwrap();
        let left: Vec<_> = left[0].iter().map(|v| v.as_deref().unwrap_or("null")).collect();
        assert_eq!(left, ["null", "1", "0", "0", "REPEATABLE-READ", "1", "+00:00", "test", "0"]);
        for gone in ["SELECT * FROM left_over", "EXECUTE left_over"] {
            wire.query(gone, "testing").await.unwrap_err();
        }
        wire.close().await;
        assert_eq!((server.pool().idle, server.pool().open), (1, 1));
    }
}

#[tokio::test]
async fn a_reader_never_gets_a_session_that_sends_files() {
    for url in servers() {
        let config: MysqlConfig = serde_json::from_value(json!({ "url": url, "pool_size": 1, "max_overflow": 0 })).unwrap();
        let server = Server::new(config.endpoint().unwrap(), Context::real());
        let writer = server.writer();
        for _ in 0..3 {
            for one in [&server, &writer] {
                let wire = one.connect().await.unwrap();
                assert_eq!(wire.files(), one.files);
                wire.close().await;
                assert_eq!((server.pool().idle, server.pool().open), (1, 1), "the other one gave way");
            }
        }
    }
}
