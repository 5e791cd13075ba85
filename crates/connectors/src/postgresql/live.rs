//! What a session that was used leaves behind, against a real server.

use linkspan_core::Context;
use linkspan_testkit::servers::postgres_url;
use serde_json::json;

use super::{
    config::PostgresConfig,
    connect::{Client, Server},
    wire::Wire,
};

fn server(url: &str) -> std::sync::Arc<Server> {
    let config: PostgresConfig = serde_json::from_value(json!({ "url": url })).unwrap();
    Server::new(config.endpoint().unwrap(), Context::real())
}

async fn text(client: &Client, sql: &str) -> Option<String> {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

const PID: &str = "SELECT pg_backend_pid()::text";
const MUCH: &str = "SET lock_timeout = '7s'; SET search_path = pg_catalog; CREATE TEMP TABLE left_over (a int); LISTEN left_over; \
    SELECT pg_catalog.pg_advisory_lock(4711); SELECT set_config('application_name', 'linkspan/left', false); \
    DECLARE c CURSOR WITH HOLD FOR SELECT 1";
const LEFT: &str = "SELECT concat_ws(',', current_setting('lock_timeout'), current_setting('search_path'), \
    to_regclass('pg_temp.left_over'), (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_locks WHERE \
    locktype = 'advisory' AND pid = pg_backend_pid()), current_setting('application_name'), (SELECT count(*) FROM pg_cursors WHERE name <> ''), \
    current_setting('TimeZone'))";
const NOTHING: &str = "0,\"$user\", public,0,0,linkspan,0,UTC";
/// Refused inside of a transaction.
const ALONE: &str = "VACUUM pg_catalog.pg_am";

#[tokio::test]
async fn nothing_of_a_use_is_left_for_the_next() {
    let Some(url) = postgres_url() else { return };
    let server = server(&url);
    let client = server.connect().await.unwrap();
    let first = text(&client, PID).await;
    client.batch_execute(MUCH).await.unwrap();
    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    client.close().await;
    let client = server.connect().await.unwrap();
    assert_eq!(text(&client, PID).await, first, "the same session");
    assert_eq!(text(&client, LEFT).await.as_deref(), Some(NOTHING));
    client.batch_execute(ALONE).await.unwrap();
    // The driver goes on with types that it looked up.
    let of_enum = client.query_one("SELECT typtype FROM pg_catalog.pg_type LIMIT 1", &[]).await.unwrap();
    let _: i8 = of_enum.get(0);
    client.close().await;

    let mut wire = Wire::connect(&server).await.unwrap();
    let reader = wire.query(PID).await.unwrap();
    wire.query(MUCH).await.unwrap();
    wire.query("BEGIN").await.unwrap();
    wire.query("SELECT 1 / 0").await.unwrap_err();
    wire.close().await;
    let mut wire = Wire::connect(&server).await.unwrap();
    assert_eq!(wire.query(PID).await.unwrap(), reader, "the same reader");
    assert_eq!(wire.query(LEFT).await.unwrap()[0][0].as_deref(), Some(NOTHING));
    wire.query(ALONE).await.unwrap();
    wire.close().await;
    assert_eq!((server.pool().idle, server.pool().open), (2, 2));
}

#[tokio::test]
async fn a_session_with_a_prepared_statement_or_a_cancel_on_its_way_is_not_used_again() {
    let Some(url) = postgres_url() else { return };
    let server = server(&url);
    let client = server.connect().await.unwrap();
    client.batch_execute("PREPARE left_over AS SELECT 1").await.unwrap();
    client.close().await;
    assert_eq!(server.pool().open, 0);
    let client = server.connect().await.unwrap();
    drop(client.cancel_on_drop());
    client.close().await;
    assert_eq!(server.pool().open, 0);
    let client = server.connect().await.unwrap();
    client.cancel_on_drop().disarm();
    client.close().await;
    assert_eq!(server.pool().open, 1);
    // One that is dropped in the middle gives its place back, and nothing else.
    let client = server.connect().await.unwrap();
    client.batch_execute("SELEC 1").await.unwrap_err();
    drop(client);
    assert_eq!((server.pool().open, server.pool().in_use), (0, 0));
}
