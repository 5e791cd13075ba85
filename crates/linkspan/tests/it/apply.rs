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
