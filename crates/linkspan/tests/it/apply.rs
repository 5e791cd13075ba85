//! `apply -f`: the plan it shows is what it does, and the same file again does nothing.

use crate::{hub::Hub, program::Place};

const FILE: &str = "\
connectors:
  gen: {type: faker, config: {customers: 5}, description: made up}
  shop: {url: 'sqlite:./shop.db'}
  crm: {type: postgresql, config: {host: db, database: d, username: u, password: '${CRM}'}}
connections:
  flow: {from: gen, to: shop, streams: [customers], schedule: every 1h}
";

#[test]
fn a_file_is_applied_once_and_its_changes_alone_after_that() {
    let place = Place::new();
    place.write("p.yaml", FILE);
    let apply = |args: &[&str]| {
        let args = [&["apply", "-f", "p.yaml", "--output", "json"], args].concat();
        crate::program::said(place.command(&args).env("CRM", "canary-1")).succeeds().json()
    };
    let planned = apply(&["--dry-run"]);
    assert_eq!((&planned["created"], &planned["applied"]), (&4.into(), &false.into()), "{planned}");
    assert!(place.run(&["connectors", "list"]).succeeds().out.contains("no connectors"), "a plan changes nothing");

    assert_eq!(apply(&[])["created"], 4);
    let again = apply(&[]);
    assert_eq!((&again["unchanged"], &again["created"], &again["updated"]), (&4.into(), &0.into(), &0.into()), "{again}");
    assert!(!again.to_string().contains("canary-1"));

    place.write("p.yaml", FILE.replace("customers: 5", "customers: 6").replace("every 1h", "every 2h"));
    let changed = apply(&[]);
    assert_eq!((&changed["updated"], &changed["unchanged"]), (&2.into(), &2.into()), "{changed}");
    let gen_shown = place.run(&["connectors", "show", "gen", "--output", "json"]).succeeds().json();
    assert_eq!(gen_shown["config"]["customers"], 6);

    let run = place.run(&["connections", "run", "flow", "--output", "json"]).succeeds().json();
    assert_eq!((run["status"].as_str(), run["rows_written"].as_u64()), (Some("completed"), Some(6)), "{run}");
    assert_eq!(place.sqlite("shop.db", "select count(*) from customers"), "6");
}

#[test]
fn a_destination_may_be_written_with_its_table() {
    let place = Place::new();
    let file = "connectors:\n  gen: {type: faker, config: {customers: 5}}\n  shop: {url: 'sqlite:./shop.db'}\n\
                connections:\n  a: {from: gen, to: 'lake:people', streams: [customers]}\n  b: {from: gen, to: 'shop:people', streams: [customers]}\n";
    place.write("p.yaml", file);
    let apply = || place.run(&["apply", "-f", "p.yaml", "--output", "json"]).succeeds().json();
    assert_eq!(apply()["created"], 4);
    assert_eq!(apply()["unchanged"], 4);
    for name in ["a", "b"] {
        let run = place.run(&["connections", "run", name, "--output", "json"]).succeeds().json();
        assert_eq!((run["status"].as_str(), run["rows_written"].as_u64()), (Some("completed"), Some(5)), "{run}");
    }
    assert_eq!(place.sqlite("shop.db", "select count(*) from people"), "5");
}

#[test]
fn what_the_file_does_not_have_goes_only_when_asked_for_and_over_the_wire_too() {
    let (there, here) = (Place::new(), Place::new());
    let hub = Hub::start(&there);
    let key = std::fs::read_to_string(there.path("data/admin.key")).unwrap();
    let server = format!("http://{}", hub.address);
    let at = ["--server", server.as_str(), "--api-key", key.trim(), "--output", "json"];
    let run = |args: &[&str]| here.run(&[args, &at].concat()).succeeds();
    run(&["connectors", "create", "old", "--type", "faker"]);
    here.write("p.yaml", "connectors:\n  gen: {type: faker}\n");
    let kept = run(&["apply", "-f", "p.yaml"]).json();
    assert_eq!((&kept["created"], &kept["deleted"]), (&1.into(), &0.into()), "{kept}");
    let pruned = run(&["apply", "-f", "p.yaml", "--prune"]).json();
    assert_eq!((&pruned["deleted"], &pruned["unchanged"]), (&1.into(), &1.into()), "{pruned}");
    let left = run(&["connectors", "list"]).json();
    assert_eq!(
        left["connectors"].as_array().map(|all| all.iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>()),
        Some(vec!["gen"])
    );
}

#[test]
fn a_url_in_a_connection_is_placed_and_a_check_that_fails_is_a_command_that_fails() {
    let place = Place::new();
    place.write("p.yaml", "connectors:\n  gen: {type: faker}\nconnections:\n  a: {from: gen, to: 'sqlite:./x.db'}\n");
    let said = place.run(&["apply", "-f", "p.yaml"]);
    assert!(said.code == 2 && said.err.contains("p.yaml:4:"), "{said:?}");
    place.write(
        "p.yaml",
        "connectors:\n  out: {type: postgresql, config: {host: 127.0.0.1, port: 1, database: d, username: u, password: p}}\n",
    );
    place.run(&["apply", "-f", "p.yaml"]).succeeds();
    let checked = place.run(&["connectors", "check", "out"]);
    assert!(checked.code == 5 && checked.out.contains("failed"), "{checked:?}");
}

#[test]
fn other_names_of_fields_and_types_are_no_change() {
    let place = Place::new();
    place.write(
        "p.yaml",
        "connectors:\n  shop: {type: rds, config: {dsn: 'postgresql://u:${PW}@db.example.com/shop', ssl.mode: require}}\n  \
         my: {type: mysql, config: {host: db, username: u, password: '${PW}', database: d}}\n",
    );
    let apply =
        || crate::program::said(place.command(&["apply", "-f", "p.yaml", "--output", "json"]).env("PW", "canary-2")).succeeds().json();
    assert_eq!(apply()["created"], 2);
    let again = apply();
    assert_eq!((&again["unchanged"], &again["updated"]), (&2.into(), &0.into()), "{again}");
    let shown = place.run(&["connectors", "show", "my", "--output", "json"]).succeeds().json();
    assert_eq!(shown["config"]["user"], "u");
}

#[test]
fn the_limits_of_a_connection_s_runs_are_kept_and_can_be_changed() {
    let place = Place::new();
    let file = |limits: &str| {
        format!(
            "connectors:\n  gen: {{type: faker, config: {{customers: 5}}}}\n  shop: {{url: 'sqlite:./shop.db'}}\n\
             connections:\n  flow: {{from: gen, to: shop, streams: [customers]{limits}}}\n"
        )
    };
    let apply = |limits: &str| {
        place.write("p.yaml", file(limits));
        place.run(&["apply", "-f", "p.yaml", "--output", "json"]).succeeds().json()
    };
    let shown = || place.run(&["connections", "show", "flow", "--output", "json"]).succeeds().json();
    assert_eq!(apply(", concurrency: 3, memory: 32")["created"], 3);
    assert_eq!((&shown()["concurrency"], &shown()["memory"]), (&3.into(), &32.into()));
    assert_eq!(apply(", concurrency: 3, memory: 32")["unchanged"], 3);
    assert_eq!(apply(", concurrency: 4")["updated"], 1);
    assert_eq!((&shown()["concurrency"], shown().get("memory")), (&4.into(), None));
    place.run(&["connections", "update", "flow", "--memory", "16"]).succeeds();
    assert_eq!((&shown()["concurrency"], &shown()["memory"]), (&4.into(), &16.into()));
    let run = place.run(&["connections", "run", "flow", "--output", "json"]).succeeds().json();
    assert_eq!(run["status"], "completed", "{run}");
    for wrong in ["--concurrency=0", "--concurrency=1025", "--memory=0", "--memory=1048577"] {
        place.run(&["connections", "update", "flow", wrong]).refuses(2, &["1 to 10"]);
    }
    assert_eq!((&shown()["concurrency"], &shown()["memory"]), (&4.into(), &16.into()));
}

/// Every field that the API has and that is no secret: made, found unchanged, changed, and left alone where the file is silent.
#[test]
fn what_is_for_the_hub_alone_is_applied_and_planned_too() {
    let place = Place::new();
    let file = |connector: &str, connection: &str| {
        format!(
            "connectors:\n  gen: {{type: faker, config: {{customers: 5}}, output_schemas: [shop, other]}}\n  \
             pg: {{type: postgresql, config: {{host: db, database: d, username: u}}{connector}}}\n  shop: {{url: 'sqlite:./shop.db'}}\n\
             connections:\n  flow: {{from: gen, to: shop, streams: [customers]{connection}}}\n"
        )
    };
    let apply = |connector: &str, connection: &str| {
        place.write("p.yaml", file(connector, connection));
        place.run(&["apply", "-f", "p.yaml", "--output", "json"]).succeeds().json()
    };
    let shown = |kind: &str, name: &str| place.run(&[kind, "show", name, "--output", "json"]).succeeds().json();
    let changes = |plan: &serde_json::Value| -> Vec<String> {
        let steps = plan["plan"].as_array().unwrap().iter().filter(|s| s["action"] == "update");
        steps.map(|s| format!("{}: {}", s["name"].as_str().unwrap(), s["changes"])).collect()
    };
    let pull = ", enabled: false, query: 'SELECT 1 WHERE now() > :last_pull', vertical: v, entity_type: e, name_column: n, batch_size: 7";
    let policy = ", enabled: false, description: d, retry: {attempts: 5, backoff: 60s}, timeout: 120m";
    assert_eq!(apply(pull, policy)["created"], 4);
    assert_eq!(apply(pull, policy)["unchanged"], 4);
    let (pg, flow) = (shown("connectors", "pg"), shown("connections", "flow"));
    assert_eq!(
        (&pg["enabled"], &pg["vertical"], &pg["entity_type"], &pg["name_column"], &pg["batch_size"]),
        (&false.into(), &"v".into(), &"e".into(), &"n".into(), &7.into())
    );
    assert_eq!(pg["query"], "SELECT 1 WHERE now() > :last_pull");
    assert_eq!(shown("connectors", "gen")["output_schemas"], serde_json::json!(["shop", "other"]));
    assert_eq!((&flow["enabled"], &flow["timeout"], &flow["description"]), (&false.into(), &"2h".into(), &"d".into()));
    assert_eq!(flow["retry"], serde_json::json!({"attempts": 5, "backoff": "1m", "max_backoff": "10m"}));

    let planned = apply(&pull.replace("batch_size: 7", "batch_size: 8"), &policy.replace("attempts: 5", "attempts: 6"));
    assert_eq!(changes(&planned), ["pg: [\"batch_size\"]", "flow: [\"retry\"]"]);
    let silent = apply("", "");
    assert_eq!(silent["unchanged"], 4, "what the file does not say stays: {silent}");
    assert_eq!((&shown("connectors", "pg")["batch_size"], &shown("connections", "flow")["retry"]["attempts"]), (&8.into(), &6.into()));

    for (wrong, place_) in
        [(", timeout: soon", "p.yaml:6:"), (", retry: {attempts: 0}", "p.yaml:6:"), (", schedule: '61 * * * *'", "p.yaml:6:")]
    {
        place.write("p.yaml", file("", wrong));
        place.run(&["apply", "-f", "p.yaml", "--dry-run"]).refuses(2, &[place_]);
    }
    // A person's own run heeds what limits a connector, and keeps its position where only that is said.
    place.write(
        "q.yaml",
        "connectors:\n  gen: {type: faker, config: {customers: 5}, enabled: false}\nconnections:\n  a: {from: gen, to: 'sqlite:./x.db'}\n",
    );
    place.run(&["sync", "-f", "q.yaml"]).refuses(6, &["disabled", "q.yaml:2:"]);
}
