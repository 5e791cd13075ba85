//! Project files: what runs, and how mistakes are placed.

use crate::program::{Place, counts};

const GOOD: &str = "\
connectors:
  made:
    type: faker
    config: {customers: 20, orders: 50, seed: '${SEED:-7}'}
  shop: {url: 'sqlite:./shop.db'}
  unused: {type: postgresql, config: {url: '${NOT_SET}'}}
connections:
  everything:
    from: made
    to: shop
    mode: incremental
  again:
    id: 6f1f3c1e-6d2f-4a5d-9b1e-0c8f6a3f7d21
    from: made
    to: 'sqlite:./second.db'
    streams: [customers]
";

#[test]
fn a_projects_connections_run_in_order_and_paths_are_relative_to_it() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).unwrap();
    place.write("sub/project.yaml", GOOD);
    let said = place.run(&["sync", "-f", "sub/project.yaml", "--output", "json"]).succeeds();
    let names: Vec<_> = said.lines().into_iter().filter(|l| l["event"] == "summary").map(|l| l["connection"].clone()).collect();
    assert_eq!(names, ["everything", "again"]);
    assert!(place.path("sub/shop.db").exists() && place.path("sub/second.db").exists());
    let one = place.run(&["sync", "-f", "sub/project.yaml", "--connection", "everything", "--output", "json"]).succeeds().summary();
    assert!(counts(&one, "orders").0 < 50, "{one:#}");
}

#[test]
fn a_stream_of_the_project_has_a_target_and_a_cursor_of_its_own() {
    let place = Place::new();
    let own = GOOD
        .replace("    streams: [customers]", "    streams:\n      - customers\n      - {name: orders, mode: incremental, target: sales}");
    place.write("p.yaml", &own);
    let run = || place.run(&["sync", "-f", "p.yaml", "--connection", "again", "--output", "json"]).succeeds().summary();
    run();
    let again = run();
    assert_eq!((counts(&again, "customers").0, counts(&again, "orders").0 < 50), (20, true), "{again:#}");
    assert_eq!(place.sqlite("second.db", "SELECT count(*) >= 50 FROM sales"), "1");
    place.write("p.yaml", own.replace("target: sales", "taget: sales"));
    place.run(&["sync", "-f", "p.yaml"]).refuses(2, &["p.yaml:18:", "taget", "target"]);
}

#[test]
fn settings_come_from_a_file_and_flags_win() {
    let place = Place::new();
    place.write("linkspan.toml", "output = \"json\"\n[sync]\nconcurrency = 1\n");
    let line = "linkspan connect sync 'faker:?customers=20&orders=50' ./shop.db";
    assert_eq!(counts(&place.shell(line).succeeds().summary(), "orders").0, 50);
    assert!(place.shell(&format!("{line} --output human")).succeeds().out.contains("orders"));
    place.write("linkspan.toml", "[sync]\nconcurency = 1\n");
    place.run(&["sync", "faker:", "./other.db"]).refuses(2, &["linkspan.toml:2:1", "concurrency"]);
}

#[test]
fn a_connector_of_the_project_is_an_end_by_name() {
    let place = Place::new();
    place.write("p.yaml", GOOD);
    let said = place.run(&["sync", "-f", "p.yaml", "made", "sqlite:./third.db", "--stream", "orders", "--output", "json"]).succeeds();
    assert_eq!(counts(&said.summary(), "orders").0, 50);
    place.run(&["connectors", "discover", "made", "-f", "p.yaml"]).succeeds();
    place.run(&["connectors", "discover", "mad", "-f", "p.yaml"]).refuses(2, &["made"]);
}

#[test]
fn mistakes_name_file_line_column_and_the_nearest_right_name() {
    let place = Place::new();
    for (from, to, words) in [
        ("    mode: incremental", "    moode: incremental", &["p.yaml:11:5", "moode", "mode"][..]),
        ("mode: incremental", "mode: incrementall", &["p.yaml:11:11", "incremental"]),
        ("customers: 20", "custmers: 20", &["p.yaml:4:14", "custmers", "customers"]),
        ("type: faker", "type: fakker", &["p.yaml:3:11", "fakker", "faker"]),
        ("from: made", "from: mad", &["p.yaml:9:11", "made"]),
        ("${SEED:-7}", "${SEED}", &["p.yaml:4:", "SEED", "export SEED="]),
        ("${SEED:-7}", "${SEED:-x}", &["p.yaml:4:"]),
        ("connections:", "connections: [", &["p.yaml:"]),
        ("streams: [customers]", "streams: 5", &["p.yaml:16:14"]),
    ] {
        assert!(GOOD.contains(from), "{from}");
        place.write("p.yaml", GOOD.replacen(from, to, 1));
        place.run(&["sync", "-f", "p.yaml"]).refuses(2, words);
        assert!(!place.path("data").exists() && !place.path("shop.db").exists(), "{to}");
    }
    place.write("p.yaml", GOOD);
    place.run(&["sync", "-f", "p.yaml", "--connection", "agian"]).refuses(4, &["again"]);
    place.run(&["sync", "-f", "nope.yaml"]).refuses(4, &["nope.yaml"]);
}

#[test]
fn the_schema_is_for_editors() {
    let schema = Place::new().run(&["project", "schema"]).succeeds().json();
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["$defs"]["ConnectionEntry"]["properties"]["cursor"].is_object(), "{schema:#}");
}

#[test]
fn the_examples_are_valid() {
    let place = Place::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")) {
        let mut command = place.command(&["project", "check", file.to_str().unwrap()]);
        let said = crate::program::said(command.env("PGPASSWORD", "x").env("S3_SECRET_KEY", "x"));
        assert_eq!(said.code, 0, "{}: {said:#?}", file.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn the_local_examples_run_as_printed() {
    let place = Place::new();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    assert_eq!(place.shell(&format!("cp -r {examples} examples")).code, 0);
    for _ in 0..2 {
        place.run(&["sync", "-f", "examples/demo.yaml"]).succeeds();
        place.run(&["sync", "-f", "examples/files.yaml"]).succeeds();
    }
    assert_eq!(place.sqlite("examples/files.db", "SELECT group_concat(sku, ' ') FROM products"), "00017 00018 00020");
    assert!(place.sqlite("examples/demo-shop.db", "SELECT count(*) > 7000 FROM orders") == "1");
}

/// Editors are pointed at a file: it is the one that this program writes.
#[test]
fn the_published_schema_is_current() {
    let place = Place::new();
    let printed = place.run(&["project", "schema"]).succeeds().out;
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/project.schema.json");
    let published = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(printed == published, "docs/project.schema.json is old: linkspan project schema > docs/project.schema.json");
}
