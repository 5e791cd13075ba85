//! QANATIX's four endpoints, with the numbers that its example prints.

use linkspan_testkit::servers::required;
use serde_json::{Value, json};

use super::{
    print::{Print, has_the_shape_of},
    stage::{Named, Stage, in_the_lake},
};
use crate::mysql_server::Family;

/// The answer of the example's pull: 2847 rows, of which 6 are there twice.
const TABLES: &str = "
    CREATE TABLE products (id int, name text, sku text, price numeric(10, 2), updated_at timestamptz NOT NULL DEFAULT now());
    INSERT INTO products SELECT i, 'product ' || i, 'sku-' || i, i / 100.0 FROM generate_series(1, 2841) i;
    INSERT INTO products SELECT id, name, sku, price FROM products WHERE id <= 6;
    GRANT SELECT ON products TO \"user\"";

const ROUTES: [&str; 4] =
    ["POST /connectors", "GET /connectors", "POST /connectors/{connector_id}/pull", "DELETE /connectors/{connector_id}"];

#[tokio::test(flavor = "multi_thread")]
async fn qanatix_s_document_runs_as_printed() {
    let Some(print) = Print::of("qanatix-connectors-api") else { return };
    let Some(database) = Named::postgres("products", "user", "pass", TABLES).await else { return };
    let stage = Stage::new(&[]);
    assert_eq!(print.routes(), ROUTES);
    assert!(ROUTES.iter().all(|route| stage.has(&route.replace(" /", " /api/v1/"))));
    let commands = print.commands("curl ");
    let [create, list, pull, delete] = commands.as_slice() else { panic!("four commands are printed: {commands:?}") };
    let hub = format!("http://{}", stage.hub.address);
    let put = [("https://api.qanatix.com", hub.as_str()), ("sk_live_abc123...", &stage.key)];
    let host = format!("{}:{}", database.host, database.port);

    let made = stage.curl(create, &[&put[..], &[("db.internal:5432", &host)]].concat());
    assert_eq!(made.status, 201, "{made:?}");
    let printed = print.json_after("Response (201)");
    has_the_shape_of(&made.json(), &printed);
    for field in ["name", "connector_type", "vertical", "entity_type", "connection_config"] {
        assert_eq!(made.json()[field], printed[field], "{field}");
    }
    assert!(!made.text.contains("pass@") && !made.text.contains(database.host));
    assert_eq!(database.sessions().await, 0, "making a connector connects to nothing");

    let listed = stage.curl(list, &put);
    assert_eq!((listed.status, &listed.json()["data"][0]["id"]), (200, &made.json()["id"]), "{listed:?}");
    assert!(!listed.text.contains(database.host), "{listed:?}");

    let id = made.json()["id"].as_str().unwrap().to_owned();
    let with_id = [&put[..], &[("c1d2e3f4-...", &id)]].concat();
    let pulled = stage.curl(pull, &with_id);
    assert_eq!(pulled.status, 200, "{pulled:?}");
    let printed = print.json_after("Response (200)");
    has_the_shape_of(&pulled.json(), &printed);
    for field in ["status", "records_pulled", "records_ingested", "duplicates_skipped"] {
        assert_eq!(pulled.json()[field], printed[field], "{field}: {pulled:?}");
    }
    assert_eq!(database.sessions().await, 0, "connections are open during the pull only");
    assert_eq!(in_the_lake(&stage, "manufacturing_product").len(), 2841);

    // Three that changed, and two that say the same again.
    database.run("UPDATE products SET price = 1000, updated_at = now() WHERE id BETWEEN 101 AND 103").await;
    database.run("UPDATE products SET updated_at = now() WHERE id BETWEEN 104 AND 105").await;
    let again = stage.curl(pull, &with_id).json();
    assert_eq!((&again["status"], &again["records_ingested"]), (&json!("completed"), &json!(3)), "{again}");
    assert_eq!(again["records_pulled"].as_u64(), again["duplicates_skipped"].as_u64().map(|n| n + 3), "{again}");

    failures(&stage, &database, pull, &with_id).await;
    let gone = stage.curl(delete, &with_id);
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    assert_eq!(stage.curl(delete, &with_id).status, 404);
    assert_eq!(stage.curl(pull, &with_id).status, 404);
    database.clear().await;
}

/// A pull that fails says so in its answer and takes nothing along.
async fn failures(stage: &Stage, database: &Named, pull: &str, with_id: &[(&str, &str)]) {
    database.run("ALTER TABLE products RENAME TO elsewhere").await;
    let failed = stage.curl(pull, with_id);
    let said = failed.json();
    assert_eq!((failed.status, &said["status"], &said["records_ingested"]), (200, &json!("failed"), &json!(0)), "{said}");
    assert!(said["error"]["message"].is_string() && said["error"]["suggested_fix"].is_string(), "{said}");
    database.run("ALTER TABLE elsewhere RENAME TO products").await;
    assert_eq!(stage.curl(pull, with_id).json()["status"], "completed");
}

/// The table of databases: those that are built take the printed config, the others are refused by name and nothing is made.
#[tokio::test(flavor = "multi_thread")]
async fn qanatix_s_databases_are_taken_or_refused_by_name() {
    let Some(print) = Print::of("qanatix-connectors-api") else { return };
    let stage = Stage::new(&[]);
    let create = |kind: &str, config: &str| {
        let body = json!({"name": kind, "connector_type": kind, "vertical": "v", "entity_type": "product", "query": "SELECT id, name FROM product ORDER BY id",
            "connection_config": serde_json::from_str::<Value>(config).unwrap()});
        stage.call("POST", "/api/v1/connectors", &body.to_string())
    };
    for later in ["mongodb", "neo4j"] {
        let said = create(later, print.block_after(&format!("\n{later}")));
        assert!(said.status == 400 && said.text.contains(&format!("there is no connector type `{later}`")), "{said:?}");
        assert!(said.json()["error"]["suggested_fix"].is_string(), "{said:?}");
    }
    assert_eq!(stage.get("/api/v1/connectors")["data"], json!([]));

    let config = print.block_after("mysqlasyncmy");
    assert_eq!(config, r#"{"host": "...", "port": 3306, "user": "...", "password": "...", "database": "..."}"#);
    let Some(url) = required("LINKSPAN_TEST_MYSQL_URL") else { return };
    let Some(database) = Family::Mysql.database().await else { return };
    database.execute("CREATE TABLE product (id INT PRIMARY KEY, name TEXT);\nINSERT INTO product VALUES (1, 'a'), (2, 'b')").await;
    let (login, address) = url.trim_start_matches("mysql://").split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let (host, port) = address.split('/').next().unwrap().split_once(':').unwrap();
    let values = [host, user, password, database.name.as_str()];
    let filled = values.iter().fold(config.to_owned(), |c, v| c.replacen("...", v, 1)).replace("3306", port);
    let made = create("mysql", &filled);
    assert_eq!((made.status, &made.json()["connection_config"]), (201, &json!("***REDACTED***")), "{made:?}");
    let pulled = stage.call("POST", "/api/v1/connectors/mysql/pull", "").json();
    assert_eq!((&pulled["status"], &pulled["records_ingested"]), (&json!("completed"), &json!(2)), "{pulled}");
    let again = stage.call("POST", "/api/v1/connectors/mysql/pull", "").json();
    assert_eq!((&again["records_pulled"], &again["duplicates_skipped"]), (&json!(2), &json!(2)), "{again}");
}
