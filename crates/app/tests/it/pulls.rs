//! Pulls of a connector's query, and connectors that are made with their connection.

use linkspan_core::{ErrorKind, Fault};
use linkspan_testkit::servers::TestDatabase;
use serde_json::{Value, json};

use crate::plant::Plant;

async fn products(query: &str) -> Option<(Plant, TestDatabase)> {
    let database = TestDatabase::create().await?;
    database
        .execute(
            "create table products (id int primary key, name text, sku text, price numeric(10, 2), updated_at timestamptz not null default now());
             insert into products (id, name, sku, price) select n, 'p' || n, 'sku-' || n, n * 1.5 from generate_series(1, 40) n",
        )
        .await;
    let plant = Plant::new().await;
    plant
        .local(
            "connectors.create",
            json!({
                "name": "Production Postgres", "type": "postgresql", "vertical": "manufacturing", "entity_type": "product",
                "config": {"dsn": database.url}, "query": query, "name_column": "name", "batch_size": 16,
            }),
        )
        .await;
    Some((plant, database))
}

async fn pull(plant: &Plant) -> Value {
    plant.local("connectors.pull", json!({"connector": "Production Postgres"})).await
}

fn counts(pulled: &Value) -> (&str, u64, u64, u64) {
    let n = |field: &str| pulled[field].as_u64().unwrap();
    (pulled["status"].as_str().unwrap(), n("records_pulled"), n("records_ingested"), n("duplicates_skipped"))
}

/// How many rows the lake's table has.
async fn in_the_lake(plant: &Plant) -> u64 {
    let (connector, connection) = (format!("lake {}", uuid::Uuid::new_v4()), uuid::Uuid::new_v4().simple().to_string());
    plant.connector(&connector, "parquet", json!({"path": plant.path("lake/default")})).await;
    plant.connector(&format!("to {connector}"), "sqlite", json!({"path": plant.path(&format!("{connection}.db"))})).await;
    let body = json!({"name": connection, "from": connector, "streams": "manufacturing_product", "dest": format!("to {connector}:t")});
    plant.local("connections.create", body).await;
    let run = plant.run(&connection).await;
    assert_eq!(run["status"], "completed", "{run}");
    plant.distinct(&format!("{connection}.db"), "t")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_takes_what_changed_since_the_last_one() {
    let Some((plant, database)) = products("SELECT id, name, sku, price FROM products WHERE updated_at > :last_pull").await else { return };
    let first = pull(&plant).await;
    assert_eq!(counts(&first), ("completed", 40, 40, 0), "{first}");
    assert_eq!(first["dest"], "lake:manufacturing_product");
    let run = plant.local("runs.show", json!({"run": first["run"]})).await;
    assert_eq!((run["kind"].as_str(), run["status"].as_str(), run["rows_written"].as_u64()), (Some("pull"), Some("completed"), Some(40)));
    database.execute("insert into products (id, name, sku, price) values (41, 'p41', 'sku-41', 61.5)").await;
    // Touched, but what is selected of it is as it was.
    database.execute("update products set updated_at = now() + interval '1 hour' where id = 7").await;
    let second = pull(&plant).await;
    let (status, pulled, ingested, skipped) = counts(&second);
    assert_eq!((status, ingested), ("completed", 1), "{second}");
    assert_eq!(pulled, ingested + skipped, "{second}");
    assert_eq!(in_the_lake(&plant).await, 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_whose_content_is_there_already_are_skipped() {
    let Some((plant, database)) = products("SELECT id, name, sku, price FROM products").await else { return };
    assert_eq!(counts(&pull(&plant).await), ("completed", 40, 40, 0));
    assert_eq!(counts(&pull(&plant).await), ("completed", 40, 0, 40));
    database.execute("insert into products (id, name, sku, price) values (41, 'p41', null, null)").await;
    let third = pull(&plant).await;
    assert_eq!(counts(&third), ("completed", 41, 1, 40));
    let run = plant.local("runs.show", json!({"run": third["run"]})).await;
    assert_eq!((run["rows_read"].as_u64(), run["rows_written"].as_u64(), run["rows_duplicate"].as_u64()), (Some(41), Some(1), Some(40)));
    assert_eq!(in_the_lake(&plant).await, 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_fails_says_why_and_the_next_one_takes_its_rows() {
    let Some((plant, database)) = products("SELECT id, name, sku, price FROM products").await else { return };
    for point in ["pipe.commit.before", "pipe.commit.after"] {
        plant.rig.app.context.failpoints.arm(point, Fault::Error, 1);
        let failed = pull(&plant).await;
        assert_eq!(
            (failed["status"].as_str(), failed["error"]["kind"].as_str()),
            (Some("failed"), Some("unavailable")),
            "{point} {failed}"
        );
    }
    assert_eq!(pull(&plant).await["status"], "completed");
    assert_eq!(in_the_lake(&plant).await, 40, "each row once, whichever commit was made");
    database.execute("drop table products").await;
    let failed = pull(&plant).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(!failed.to_string().contains("linkspan-Secret_1"), "{failed}");
    plant.local("connectors.update", json!({"connector": "Production Postgres", "query": "SELECT 1 AS id, 'a' AS title"})).await;
    let failed = pull(&plant).await;
    assert_eq!(failed["error"]["suggested_fix"], "its columns are: id, title", "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_connector_with_a_query_can_be_pulled() {
    let plant = Plant::new().await;
    plant.shop(1).await;
    assert_eq!(plant.refused("connectors.pull", json!({"connector": "shop"})).await.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(plant.refused("connectors.pull", json!({"connector": "nobody"})).await.kind(), ErrorKind::NotFound);
    plant.local("connectors.update", json!({"connector": "shop", "query": "select 1"})).await;
    assert_eq!(plant.refused("connectors.pull", json!({"connector": "shop"})).await.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_makes_connector_connection_and_schedule_or_nothing() {
    let plant = Plant::new().await;
    plant.shop(30).await;
    let body = |cron: &str, more: Value| {
        let mut body = json!({
            "name": "Production", "type": "sqlite", "config": {"path": plant.path("shop.db")}, "schedule_cron": cron,
            "schedule_mode": "incremental",
        });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        body
    };
    for (wrong, kind) in [
        (body("0 25 * * *", json!({})), ErrorKind::ConfigInvalid),
        (body("0 2 * * *", json!({"dest": "nowhere"})), ErrorKind::NotFound),
        (body("0 2 * * *", json!({"schedule_crn": "x"})), ErrorKind::ConfigInvalid),
        (body("0 2 * * *", json!({"type": "sqlight"})), ErrorKind::ConfigInvalid),
    ] {
        assert_eq!(plant.refused("connectors.bootstrap", wrong).await.kind(), kind);
        assert_eq!(plant.refused("connectors.show", json!({"connector": "Production"})).await.kind(), ErrorKind::NotFound);
        assert_eq!(plant.refused("connections.show", json!({"connection": "Production"})).await.kind(), ErrorKind::NotFound);
    }
    let made = plant.local("connectors.bootstrap", body("0 2 * * *", json!({}))).await;
    assert_eq!((made["name"].as_str(), made["type"].as_str()), (Some("Production"), Some("sqlite")), "{made}");
    assert_eq!((made["connection"]["dest"].as_str(), made["connection"]["mode"].as_str()), (Some("lake"), Some("incremental")));
    assert_eq!(made["connection"]["schedule"]["cron"], "0 2 * * *");
    let connection = plant.local("connections.show", json!({"connection": "Production"})).await;
    assert!(connection["next_run_at"].as_str().unwrap().contains("T02:00:00"), "{connection}");
    let run = plant.run("Production").await;
    assert_eq!((run["status"].as_str(), run["rows_written"].as_u64()), (Some("completed"), Some(30)), "{run}");
}
