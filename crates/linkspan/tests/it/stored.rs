//! `sync` between connectors that the data dir's hub has stored, by name.

use crate::{
    hub::Hub,
    program::{Place, counts},
};

fn hub_of(place: &Place) {
    place.run(&["connectors", "create", "gen", "--type", "faker", "--config", "customers=20"]).succeeds();
    let path = format!("path={}", place.path("shop.db").display());
    place.run(&["connectors", "create", "shop", "--type", "sqlite", "--config", &path]).succeeds();
}

#[test]
fn two_names_are_synced_without_a_project_file_and_beside_a_server() {
    let place = Place::new();
    hub_of(&place);
    let sync = |to: &str| place.run(&["sync", "gen", to, "--stream", "customers", "--output", "json"]).succeeds().summary();
    assert_eq!(counts(&sync("shop"), "customers"), (20, 20));
    assert_eq!(place.sqlite("shop.db", "select count(*) from customers"), "20");
    assert_eq!(counts(&sync("shop:people"), "customers"), (20, 20));
    assert_eq!(place.sqlite("shop.db", "select count(*) from people"), "20");
    let _server = Hub::start(&place);
    assert_eq!(counts(&sync("lake:people"), "customers"), (20, 20));
    assert!(place.path("data/lake/default/people").is_dir());
    place.run(&["sync", "gen", "shop", "--dry-run"]).succeeds();
    // A URL on one side and a name on the other.
    place.run(&["sync", "gen", "sqlite:./other.db", "--stream", "customers"]).succeeds();
    assert_eq!(place.sqlite("other.db", "select count(*) from customers"), "20");
}

#[test]
fn a_name_that_means_nothing_or_may_not_be_used_is_refused() {
    let place = Place::new();
    let alone = place.run(&["sync", "gen", "shop"]);
    assert_eq!((alone.code, place.path("data").exists()), (2, false), "no data dir is made for a mistake: {alone:?}");
    hub_of(&place);
    place.run(&["sync", "nobody", "shop"]).refuses(4, &["no such connector", "nobody"]);
    place.run(&["sync", "gen", "nobody:x"]).refuses(4, &["no such connector", "nobody"]);
    place.run(&["sync", "gen", "gen"]).refuses(2, &["cannot be written to"]);
    place.run(&["sync", "gen", "shop", "--project", "acme"]).refuses(4, &["no such connector"]);
    place.run(&["connectors", "disable", "gen"]).succeeds();
    place.run(&["sync", "gen", "shop"]).refuses(6, &["disabled"]);
}
