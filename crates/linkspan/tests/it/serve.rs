//! `serve` as a user starts it: what it says, who else may use the data dir, and how it ends.

use std::time::{Duration, Instant};

use linkspan_testkit::process::Signal;

use crate::{hub::Hub, program::Place};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_server_says_where_it_is_and_answers_there() {
    let place = Place::new();
    let hub = Hub::start(&place);
    let health = hub.get("/v1/health");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
    assert_eq!(hub.get("/v1/ready").json(), serde_json::json!({"ready": true, "store": "owner"}));
    assert!(hub.get("/docs").text.contains("Linkspan"));
    assert_eq!(hub.get("/v1/openapi.json").json()["openapi"], "3.1.0");
    assert_eq!(hub.get("/v1/nothing").json()["error"]["kind"], "not_found");
}

#[test]
fn the_key_in_the_data_dir_opens_it_and_nothing_else_does() {
    let place = Place::new();
    let hub = Hub::start(&place);
    assert_eq!(hub.get("/v1/auth/me").status, 401);
    let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
    let bearer = format!("Bearer {}", key.trim());
    assert_eq!(hub.call("GET", "/v1/auth/me", &[("Authorization", &bearer)], "").json()["installation"], true);
    assert!(!hub.process.text().contains(key.trim()));
}

#[test]
fn a_second_server_on_the_data_dir_refuses_and_names_the_first() {
    let place = Place::new();
    let hub = Hub::start(&place);
    let second = place.run(&["serve", "--port", "0"]);
    assert_eq!(second.code, 6, "{second:?}");
    assert!(second.err.contains(&format!("process {} works in this data dir", hub.process.id())), "{second:?}");
    assert!(second.err.contains("fix:"), "{second:?}");
    assert_eq!(hub.get("/v1/health").status, 200);
}

#[test]
fn a_sync_works_beside_the_server_on_the_same_data_dir() {
    let place = Place::new();
    let hub = Hub::start(&place);
    let sync = place.run(&["sync", "faker:?customers=50", "sqlite:./shop.db"]);
    assert_eq!(sync.code, 0, "{sync:?}");
    assert_eq!(place.sqlite("shop.db", "select count(*) from customers"), "50");
    assert_eq!(hub.get("/v1/ready").status, 200);
}

#[test]
fn sigterm_ends_it_cleanly_and_the_next_one_takes_over() {
    let place = Place::new();
    let mut hub = Hub::start(&place);
    hub.process.signal(Signal::Terminate);
    let status = hub.process.wait(SOON);
    assert_eq!(status.code(), Some(0));
    let again = Hub::start(&place);
    assert_eq!(again.get("/v1/ready").status, 200);
}

#[test]
fn a_killed_server_leaves_a_data_dir_that_the_next_one_takes_at_once() {
    let place = Place::new();
    let mut hub = Hub::start(&place);
    hub.process.signal(Signal::Kill);
    hub.process.wait(SOON);
    let started = Instant::now();
    assert_eq!(Hub::start(&place).get("/v1/ready").status, 200);
    assert!(started.elapsed() < SOON);
}

#[test]
fn what_others_can_reach_does_not_start_without_a_key_for_its_secrets() {
    let place = Place::new();
    for args in [&["serve", "--bind", "0.0.0.0", "--port", "0"][..], &["serve", "--bind", "[::]:0"]] {
        let said = place.run(args);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains("CONNECTOR_ENCRYPTION_KEY"), "{said:?}");
    }
    let said = crate::program::said(place.command(&["serve", "--port", "0"]).env("LINKSPAN_ENV", "production"));
    assert_eq!(said.code, 2, "{said:?}");
    let said = crate::program::said(place.command(&["serve", "--port", "0"]).env("CONNECTOR_ENCRYPTION_KEY", "canary"));
    assert!(said.code == 2 && !said.err.contains("canary"), "{said:?}");
}

#[test]
fn a_taken_port_and_a_strange_address_are_named() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = place.run(&["serve", "--port", &port]);
    assert!(said.code == 6 && said.err.contains("--port"), "{said:?}");
    let other = Place::new();
    other.run(&["serve", "--database-url", "postgres://u:p@db/hub"]).refuses(2, &["data dir"]);
    assert!(!other.path("data").exists());
    let said = place.run(&["serve", "--bind", "everywhere"]);
    assert!(said.code == 2 && said.err.contains("127.0.0.1"), "{said:?}");
    let said = crate::program::said(place.command(&["serve", "--port", "0"]).env("LINKSPAN_EGRESS_ALLOW", "10.0.0.0/99"));
    assert!(said.code == 2 && said.err.contains("LINKSPAN_EGRESS_ALLOW"), "{said:?}");
}
