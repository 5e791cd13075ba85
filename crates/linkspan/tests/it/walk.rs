//! The documentation's walk-through, run as it stands.

use std::process::Command;

use crate::{
    hub::Hub,
    program::{Place, said},
};

/// The blocks that a reader runs, in order.
fn steps(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn the_walk_through_of_serve_runs_as_printed() {
    let Ok(url) = std::env::var("LINKSPAN_TEST_POSTGRES_URL") else {
        assert!(std::env::var_os("CI").is_none(), "LINKSPAN_TEST_POSTGRES_URL is not set");
        println!("skipped: LINKSPAN_TEST_POSTGRES_URL is not set");
        return;
    };
    let (place, name) = (Place::new(), format!("walk_{}", uuid::Uuid::new_v4().simple()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let shop = runtime.block_on(shop(&url, &name));
    let hub = Hub::start(&place);
    let script = steps(include_str!("../../../../docs/serve.md")).join("\n");
    // Aliases are for people; a shell that runs a file has to be told to honour them.
    let script = format!("set -eu\nshopt -s expand_aliases 2>/dev/null || true\n{script}")
        .replace("linkspan c", &format!("{} c", env!("CARGO_BIN_EXE_linkspan")));
    let script = script.replace("linkspan auth", &format!("{} auth", env!("CARGO_BIN_EXE_linkspan")));
    let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
    let file = place.write("walk.sh", script);
    let mut command = Command::new("bash");
    command.arg(&file).current_dir(place.path("")).env("HOME", place.path(""));
    command.env("HUB", format!("http://{}", hub.address)).env("KEY", key.trim()).env("SHOP", &shop);
    let walked = said(&mut command);
    runtime.block_on(drop_shop(&url, &name));
    assert_eq!(walked.code, 0, "{walked:#?}");
    assert!(walked.out.contains("\"rows_written\":3"), "{walked:#?}");
    assert!(walked.out.contains("orders-2") && walked.out.contains("completed"), "{walked:#?}");
    let password = url.split("://").nth(1).and_then(|r| r.split('@').next()).and_then(|u| u.split_once(':')).map_or("", |(_, p)| p);
    assert!(!password.is_empty() && !walked.out.contains(password), "a password was shown");
    let parquet = |folder: &str| {
        let mut command = Command::new("find");
        said(command.arg(place.path(&format!("data/files/{folder}"))).args(["-name", "*.parquet"])).out.lines().count()
    };
    assert!(parquet("warehouse") >= 2);
}

async fn admin(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database of the test's own, with a table in it.
async fn shop(url: &str, name: &str) -> String {
    admin(url).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let (base, _) = url.rsplit_once('/').unwrap();
    let shop = format!("{base}/{name}");
    let rows = "CREATE TABLE walk_orders (id bigint PRIMARY KEY, sku text, updated_at timestamptz NOT NULL DEFAULT now());
        INSERT INTO walk_orders (id, sku) VALUES (1, 'a'), (2, 'b'), (3, 'c');";
    admin(&shop).await.batch_execute(rows).await.unwrap();
    shop
}

async fn drop_shop(url: &str, name: &str) {
    admin(url).await.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.ok();
}
