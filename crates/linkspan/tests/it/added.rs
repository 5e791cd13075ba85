//! Types that were added from manifests, and the tables that their runs leave behind.

use crate::program::{Place, Said};

/// A place whose catalog has the manifest as the type `name`.
pub fn with_type(name: &str, manifest: &str) -> Place {
    let place = Place::new();
    add(&place, name, manifest).succeeds();
    place
}

/// Adds the manifest, or its next version.
pub fn add(place: &Place, name: &str, manifest: &str) -> Said {
    let file = format!("{name}.yaml");
    place.write(&file, manifest);
    place.run(&["catalog", "add", &file])
}

/// Rows of the table `orders`, and how many ids they have.
pub fn orders_in_sqlite(place: &Place, file: &str) -> (i64, i64) {
    let both = place.sqlite(file, "select count(*), count(distinct id) from orders");
    let (all, distinct) = both.split_once('|').unwrap();
    (all.parse().unwrap(), distinct.parse().unwrap())
}

/// The same of a schema on a server, which is dropped.
pub fn orders_in_postgres(url: &str, schema: &str) -> (i64, i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let spawned = tokio::spawn(connection);
        let row = client.query_one(&format!("select count(*), count(distinct id) from \"{schema}\".orders"), &[]).await.unwrap();
        client.batch_execute(&format!("drop schema \"{schema}\" cascade")).await.unwrap();
        spawned.abort();
        (row.get(0), row.get(1))
    })
}
