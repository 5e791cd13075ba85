//! What every row has in common, and the table of `docs/security.md` beside the tests that it names.

use std::{collections::BTreeSet, path::Path};

use http::Method;
use linkspan_app::{Face, Operation, Run};
use serde_json::json;

use crate::{
    desk::{ADMIN, Desk},
    rights::nothing_of,
};

fn rows() -> impl Iterator<Item = Operation> {
    linkspan_server::operations().into_iter().filter(|o| o.has(Face::Http))
}

/// API3: what a row does not name cannot be set by it, whatever is there to be set.
#[tokio::test]
async fn no_row_takes_a_field_that_it_does_not_name() {
    let desk = Desk::new().await;
    let mut asked = 0;
    for operation in rows().filter(|o| matches!(o.method, Method::POST | Method::PUT | Method::PATCH) && !matches!(o.run, Run::Raw(_))) {
        let input = operation.input();
        let is_open = input["additionalProperties"] != json!(false);
        for field in ["tenant_id", "project_id", "owner", "is_admin", "created_at", "_secret", "__proto__"] {
            let said = desk.by(ADMIN, operation.method.clone(), &nothing_of(&operation), &json!({ field: "x" }).to_string()).await;
            assert!(said.status == 400 || is_open && said.status.is_client_error(), "{} with {field}: {said:?}", operation.name);
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
}

/// API4: a page is bounded in every list there is.
#[tokio::test]
async fn no_list_gives_more_than_a_thousand_at_once() {
    let desk = Desk::new().await;
    let mut lists = 0;
    for operation in rows().filter(|o| o.method == Method::GET && o.input()["properties"].get("limit").is_some()) {
        for limit in ["0", "1001", "-1", "1e9", "99999999999999999999"] {
            let said = desk.by(ADMIN, Method::GET, &format!("{}?limit={limit}", nothing_of(&operation)), "").await;
            // Of what is not there, that is said first.
            let refused = said.status == 400 || !operation.placeholders().is_empty() && said.status == 404;
            assert!(refused, "{} with {limit}: {said:?}", operation.name);
        }
        lists += 1;
    }
    assert!(lists >= 5, "{lists}");
}

/// API4: one caller's many requests are answered 429 with the time to wait, and cost another caller nothing.
#[tokio::test(start_paused = true)]
async fn a_caller_who_asks_too_often_waits_and_others_do_not() {
    let desk = Desk::new().await;
    let modest = desk.key("viewer").await;
    let mut refused = None;
    for _ in 0..5_000 {
        let said = desk.by(ADMIN, Method::GET, "/v1/auth/me", "").await;
        if said.status == 429 {
            refused = Some(said);
            break;
        }
    }
    let refused = refused.expect("there is a limit");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s <= 60), "{refused:?}");
    assert_eq!(refused.json()["error"]["kind"], "rate_limited");
    assert_eq!(desk.by(&modest, Method::GET, "/v1/auth/me", "").await.status, 200);
}

/// API6: what costs something is begun once, however many ask at the same moment.
#[tokio::test]
async fn fifty_who_start_one_connection_at_once_start_one_run() {
    let desk = Desk::new().await;
    for (name, kind, config) in [("from", "faker", json!({"customers": 1})), ("to", "sqlite", json!({"path": ":memory:x"}))] {
        let made = desk.by(ADMIN, Method::POST, "/v1/connectors", &json!({"name": name, "type": kind, "config": config}).to_string()).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let copy = json!({"name": "copy", "from": "from", "streams": ["customers"], "dest": "to", "mode": "full"}).to_string();
    assert_eq!(desk.by(ADMIN, Method::POST, "/v1/connections", &copy).await.status, 201);
    // Nothing carries runs out here: the one that waits stays.
    let all = futures::future::join_all((0..50).map(|_| desk.by(ADMIN, Method::POST, "/v1/connections/copy/run", ""))).await;
    let started = all.iter().filter(|s| s.status.is_success()).count();
    assert_eq!(started, 1, "{:?}", all.iter().map(|s| s.status).collect::<Vec<_>>());
    assert!(all.iter().filter(|s| !s.status.is_success()).all(|s| s.status == 409));
    assert_eq!(desk.by(ADMIN, Method::GET, "/v1/runs", "").await.json()["runs"].as_array().map(Vec::len), Some(1));
}

/// API8: a page of another origin can neither ask nor read, and no method does what no row says.
#[tokio::test]
async fn another_origin_is_told_nothing_and_odd_methods_do_nothing() {
    let desk = Desk::new().await;
    let bearer = format!("Bearer {ADMIN}");
    for origin in ["https://evil.example.com", "null", "http://127.0.0.1:8007"] {
        let preflight =
            [("origin", origin), ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")];
        let asked = desk.call(Method::OPTIONS, "/v1/connectors", &preflight, "").await;
        let got = desk.call(Method::GET, "/v1/connectors", &[("authorization", &bearer), ("origin", origin)], "").await;
        for said in [&asked, &got] {
            let allows = said.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
            assert!(!allows, "{origin}: {said:?}");
        }
        assert!(asked.status.is_client_error() && got.status == 200);
    }
    for method in ["TRACE", "CONNECT", "PROPFIND", "DEBUG"] {
        let said = desk.call(Method::from_bytes(method.as_bytes()).unwrap(), "/v1/connectors", &[("authorization", &bearer)], "").await;
        assert!(said.status.is_client_error() && !said.text.contains(ADMIN), "{method}: {said:?}");
    }
    // A header that some frameworks take for the method or the address.
    let overrides = [
        ("authorization", bearer.as_str()),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/v1/keys"),
        ("x-rewrite-url", "/v1/keys"),
    ];
    let said = desk.call(Method::GET, "/v1/connectors", &overrides, "").await;
    assert!(said.json()["connectors"].is_array(), "{said:?}");
}

/// API8: who is answered learns neither the server's name nor its version before it is somebody.
#[tokio::test]
async fn a_stranger_learns_nothing_of_what_runs_here() {
    let desk = Desk::new().await;
    for operation in rows() {
        let said = desk.call(operation.method.clone(), &nothing_of(&operation), &[], "").await;
        assert!(said.header("server").is_empty() && said.header("x-powered-by").is_empty(), "{}: {said:?}", operation.name);
        for word in ["panicked", "sqlite", "rusqlite", ".rs:", "/work", "thread '"] {
            assert!(!said.text.contains(word) || operation.path.starts_with("/docs"), "{}: {said:?}", operation.name);
        }
    }
}

/// API9: the table of the OWASP list names tests that there are.
#[test]
fn every_test_that_the_security_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let is_test =
        |w: &&str| w.len() > 20 && w.contains('_') && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 40, "{named:?}");
    let mut missing = named;
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                missing.retain(|name| !text.contains(&format!("fn {name}(")));
            }
        }
    }
    assert!(missing.is_empty(), "docs/security.md names tests that are not there: {missing:?}");
    for row in 1..=10 {
        assert!(page.contains(&format!("API{row}:2023")), "API{row}");
    }
}
