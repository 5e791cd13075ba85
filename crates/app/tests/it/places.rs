//! Where rows go when nobody says: a project's default destination, and the lake in a folder or a bucket.

use linkspan_app::{CallContext, Caller, LakeHome, Settings};
use linkspan_core::{ErrorKind, Secret};
use linkspan_testkit::servers::{S3, TestDatabase, s3, unique};
use serde_json::{Value, json};

use crate::plant::Plant;

fn bootstrap(plant: &Plant, name: &str, more: Value) -> Value {
    let mut body = json!({"name": name, "type": "sqlite", "config": {"path": plant.path("shop.db")}});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_s_own_destination_is_where_bootstrap_and_data_write() {
    let plant = Plant::new().await;
    plant.shop(30).await;
    assert_eq!(plant.local("projects.show", json!({"project": "default"})).await["destination"], "lake");
    for (destination, kind) in
        [("nowhere", ErrorKind::ConfigInvalid), ("copy:orders", ErrorKind::ConfigInvalid), ("data", ErrorKind::ConfigInvalid)]
    {
        let refused = plant.refused("projects.update", json!({"project": "default", "destination": destination, "description": "d"})).await;
        assert_eq!(refused.kind(), kind, "{destination}");
    }
    plant.connector("made", "faker", json!({})).await;
    let refused = plant.refused("projects.update", json!({"project": "default", "destination": "made"})).await;
    assert!(refused.message().contains("cannot be written to"), "{refused:?}");
    assert_eq!(plant.local("projects.show", json!({"project": "default"})).await["description"], Value::Null, "nothing of it was done");

    let set = plant.local("projects.update", json!({"project": "default", "destination": "copy"})).await;
    assert_eq!(set["destination"], "copy");
    let made = plant.local("connectors.bootstrap", bootstrap(&plant, "one", json!({"streams": "orders"}))).await;
    assert_eq!(made["connection"]["dest"], "copy", "{made}");
    assert_eq!(plant.run("one").await["rows_written"], 30);
    assert_eq!(plant.distinct("copy.db", "orders"), 30);
    plant.local("connections.create", json!({"name": "two", "from": "shop", "streams": "orders", "dest": "data:again"})).await;
    assert_eq!(plant.local("connections.show", json!({"connection": "two"})).await["dest"], "copy:again");
    // A connector is kept by what it is, not by how it is called.
    plant.local("connectors.update", json!({"connector": "copy", "name": "warehouse"})).await;
    assert_eq!(plant.local("projects.show", json!({"project": "default"})).await["destination"], "warehouse");

    plant.local("connectors.delete", json!({"connector": "warehouse"})).await;
    for (operation, body) in [
        ("connectors.bootstrap", bootstrap(&plant, "three", json!({}))),
        ("connections.create", json!({"name": "three", "from": "shop", "dest": "data"})),
    ] {
        let gone = plant.refused(operation, body).await;
        assert_eq!(gone.kind(), ErrorKind::Conflict);
        assert!(gone.message().contains("default destination was deleted"), "{gone:?}");
        assert!(gone.suggested_fix().unwrap().contains("linkspan projects update default --destination"), "{gone:?}");
    }
    assert_eq!(plant.refused("connectors.show", json!({"connector": "three"})).await.kind(), ErrorKind::NotFound);
    assert_eq!(plant.local("projects.update", json!({"project": "default", "destination": null})).await["destination"], "lake");
    let made = plant.local("connectors.bootstrap", bootstrap(&plant, "three", json!({"streams": "orders"}))).await;
    assert_eq!(made["connection"]["dest"], "lake");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_s_destination_is_one_of_its_own_connectors_and_set_by_its_own_admins() {
    let plant = Plant::new().await;
    plant.shop(1).await;
    plant.local("projects.create", json!({"name": "acme"})).await;
    let foreign = plant.refused("projects.update", json!({"project": "acme", "destination": "copy"})).await;
    assert_eq!(foreign.kind(), ErrorKind::ConfigInvalid, "{foreign:?}");
    let key = async |role: &str, scopes: Value| {
        let there = CallContext::new(Caller::local(), "acme");
        let name = unique("key");
        let made = plant.call(&there, "keys.create", json!({"name": name, "role": role, "scopes": scopes})).await.unwrap().body;
        plant.rig.bearer(made["key"].as_str().unwrap()).await.unwrap()
    };
    let change = json!({"project": "acme", "description": "ours", "destination": "lake"});
    for (role, scopes, allowed) in [
        ("viewer", Value::Null, false),
        ("editor", Value::Null, false),
        ("admin", json!(["connectors:*"]), false),
        ("admin", json!(["projects:write"]), true),
        ("admin", Value::Null, true),
    ] {
        let caller = key(role, scopes.clone()).await;
        let changed = plant.call(&caller, "projects.update", change.clone()).await;
        let kind = changed.as_ref().err().map(|e| e.kind());
        assert_eq!(kind, (!allowed).then_some(ErrorKind::PermissionDenied), "{role} {scopes}");
        let elsewhere = plant.call(&caller, "projects.update", json!({"project": "default", "description": "theirs"})).await;
        assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::NotFound, "{role}");
    }
}

const PRODUCTS: &str = "SELECT id, name FROM products";

/// A plant with a query to pull, and a table behind it.
async fn products(settings: Settings) -> Option<(Plant, TestDatabase)> {
    let database = TestDatabase::create().await?;
    let rows = "create table products (id int primary key, name text, updated_at timestamptz not null default now());
        insert into products (id, name) select n, 'p' || n from generate_series(1, 40) n";
    database.execute(rows).await;
    let plant = Plant::with(settings).await;
    let body = json!({
        "name": "pg", "type": "postgresql", "vertical": "shop", "entity_type": "product", "config": {"dsn": database.url}, "query": PRODUCTS,
    });
    plant.local("connectors.create", body).await;
    Some((plant, database))
}

async fn pulled(plant: &Plant) -> (String, u64, u64) {
    let pulled = plant.local("connectors.pull", json!({"connector": "pg"})).await;
    assert_eq!(pulled["status"], "completed", "{pulled}");
    let n = |field: &str| pulled[field].as_u64().unwrap();
    (pulled["dest"].as_str().unwrap().to_owned(), n("records_ingested"), n("duplicates_skipped"))
}

/// The rows of a table of the built-in lake, through the lake itself.
async fn in_the_lake(plant: &Plant, table: &str) -> u64 {
    let name = unique("out");
    plant.connector(&name, "lake", json!({})).await;
    plant.connector(&format!("{name}-db"), "sqlite", json!({"path": plant.path(&format!("{name}.db"))})).await;
    plant.local("connections.create", json!({"name": name, "from": name, "streams": table, "dest": format!("{name}-db:t")})).await;
    let run = plant.run(&name).await;
    assert_eq!(run["status"], "completed", "{run}");
    plant.count(&format!("{name}.db"), "t")
}

/// Pulls, duplicates, and a bootstrapped incremental connection, wherever the lake is.
async fn a_lake_behaves(settings: Settings) -> Option<Plant> {
    let (plant, database) = products(settings).await?;
    assert_eq!(pulled(&plant).await, ("lake:shop_product".to_owned(), 40, 0));
    database.execute("insert into products (id, name) values (41, 'p41')").await;
    assert_eq!(pulled(&plant).await, ("lake:shop_product".to_owned(), 1, 40));
    assert_eq!(in_the_lake(&plant, "shop_product").await, 41);
    let body = json!({
        "name": "all", "type": "postgresql", "config": {"dsn": database.url}, "streams": "products", "schedule_mode": "incremental",
    });
    let made = plant.local("connectors.bootstrap", body).await;
    assert_eq!(made["connection"]["dest"], "lake");
    let first = plant.run("all").await;
    assert_eq!((first["status"].as_str(), first["rows_written"].as_u64()), (Some("completed"), Some(41)), "{first}");
    database.execute("insert into products (id, name, updated_at) values (42, 'p42', now() + interval '1 minute')").await;
    let second = plant.run("all").await;
    assert_eq!((second["status"].as_str(), second["rows_written"].as_u64()), (Some("completed"), Some(1)), "{second}");
    assert_eq!(in_the_lake(&plant, "products").await, 42);
    Some(plant)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lake_in_the_data_dir_behaves() {
    let Some(plant) = a_lake_behaves(Settings::default()).await else { return };
    assert!(plant.path("lake/default").is_dir());
}

fn home(s3: &S3, prefix: &str) -> LakeHome {
    LakeHome {
        url: format!("s3://{}/{prefix}", s3.bucket),
        endpoint: Some(s3.url.clone()),
        region: Some("us-east-1".into()),
        access_key_id: Some(s3.access_key.clone()),
        secret_access_key: Some(Secret::new(s3.secret_key.clone())),
        session_token: None,
        allow_http: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lake_in_a_bucket_behaves_alike_and_shows_nobody_its_keys() {
    let Some(s3) = s3() else { return };
    let Some(plant) = a_lake_behaves(Settings { lake: Some(home(&s3, &unique("lake"))), ..Settings::default() }).await else { return };
    assert!(!plant.path("lake").exists(), "nothing of it is in the data dir");
    plant.connector("mine", "lake", json!({"compression": "snappy"})).await;
    let tested = plant.local("connectors.test", json!({"connector": "mine"})).await;
    assert_eq!(tested["ok"], true, "{tested}");
    let shown = plant.local("connectors.show", json!({"connector": "mine"})).await;
    assert_eq!(shown["config"], json!({"compression": "snappy"}));
    assert!(!plant.rig.files_hold(&s3.secret_key));
    // The operator's keys go where the operator said, and with them nobody else's wishes.
    for config in [json!({"endpoint": "https://elsewhere.example"}), json!({"access_key_id": "mine"}), json!({"region": "x"})] {
        let refused = plant.refused("connectors.create", json!({"name": "evil", "type": "lake", "config": config})).await;
        assert_eq!(refused.kind(), ErrorKind::ConfigInvalid, "{config}");
    }
    let refused =
        plant.refused("connectors.update", json!({"connector": "mine", "config": {"endpoint": "https://elsewhere.example"}})).await;
    assert_eq!(refused.kind(), ErrorKind::ConfigInvalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_of_the_project_s_own_takes_the_place_of_the_built_in_one() {
    let Some(s3) = s3() else { return };
    let Some((plant, _database)) = products(Settings::default()).await else { return };
    assert_eq!(pulled(&plant).await, ("lake:shop_product".to_owned(), 40, 0));
    let config = json!({
        "url": format!("s3://{}/{}", s3.bucket, unique("own")), "endpoint": s3.url, "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key, "allow_http": true,
    });
    plant.connector("lake", "lake", config).await;
    // Another place: what is in one is not in the other.
    assert_eq!(pulled(&plant).await, ("lake:shop_product".to_owned(), 40, 0));
    assert_eq!(pulled(&plant).await, ("lake:shop_product".to_owned(), 0, 40));
    let shown = plant.local("connectors.show", json!({"connector": "lake"})).await;
    assert_eq!(shown["config"]["secret_access_key"], "***REDACTED***");
    plant.local("connectors.delete", json!({"connector": "lake"})).await;
    assert_eq!(pulled(&plant).await, ("lake:shop_product".to_owned(), 0, 40));
    let other = unique("own");
    let config = json!({"path": plant.path(&other)});
    plant.connector(&other, "lake", config).await;
    plant.local("projects.update", json!({"project": "default", "destination": other})).await;
    assert_eq!(pulled(&plant).await, (format!("{other}:shop_product"), 40, 0));
    assert!(plant.path(&other).join("shop_product").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_that_cannot_be_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let lake = LakeHome {
        url: "gs://bucket".into(),
        endpoint: None,
        region: None,
        access_key_id: None,
        secret_access_key: None,
        session_token: None,
        allow_http: false,
    };
    let settings = Settings { lake: Some(lake), ..Settings::default() };
    let refused = crate::rig::open(dir.path(), Default::default(), crate::plant::registry(), settings).await.err().unwrap();
    assert!(refused.context().iter().any(|(k, v)| *k == "setting" && v == "LINKSPAN_LAKE_URL"), "{refused:?}");
}
