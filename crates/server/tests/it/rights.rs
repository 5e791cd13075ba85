//! Who may call what, for every row of the table and every role: a new row is in here by being a row.

use axum::body::Body;
use http::{Method, Request};
use linkspan_app::{Access, Face, Operation, Role, word};
use linkspan_server::Peer;

use crate::desk::{ADMIN, Desk};

/// The path with placeholders that name nothing.
pub fn nothing_of(operation: &Operation) -> String {
    let mut path = operation.path.to_owned();
    for name in operation.placeholders() {
        path = path.replace(&format!("{{{name}}}"), "01900000-0000-7000-8000-000000000000");
    }
    path
}

fn rows() -> Vec<Operation> {
    linkspan_server::operations().into_iter().filter(|o| o.has(Face::Http)).collect()
}

#[tokio::test]
async fn every_role_may_call_exactly_the_rows_that_its_scopes_open() {
    let desk = Desk::new().await;
    for role in Role::ALL {
        let key = desk.key(word(role)).await;
        for operation in rows() {
            let allowed = match operation.access {
                Access::Anonymous | Access::SignedIn => true,
                Access::Scoped(scope) => role >= scope.least_role(),
                Access::Installation(_) => false,
            };
            let said = desk.by(&key, operation.method.clone(), &nothing_of(&operation), "").await;
            assert_ne!(said.status, 401, "{} as {role:?}: {said:?}", operation.name);
            let refused = said.status == 403 && said.text.contains("\"needs\"");
            assert_eq!(refused, !allowed, "{} as {role:?}: {said:?}", operation.name);
        }
    }
}

#[tokio::test]
async fn nobody_without_credentials_gets_past_the_open_rows() {
    let desk = Desk::new().await;
    for operation in rows().iter().filter(|o| o.access != Access::Anonymous) {
        for headers in [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "Bearer lk_dev_x_y")], &[("x-api-key", "admin")]] {
            let said = desk.call(operation.method.clone(), &nothing_of(operation), headers, "").await;
            assert_eq!(said.status, 401, "{} {headers:?}: {said:?}", operation.name);
            assert_eq!(said.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn a_key_of_one_scope_opens_no_other_row() {
    let desk = Desk::new().await;
    let body = r#"{"name": "narrow", "role": "admin", "scopes": ["audit:read"]}"#;
    let key = desk.by(ADMIN, Method::POST, "/v1/keys", body).await.json()["key"].as_str().unwrap().to_owned();
    for operation in rows() {
        if let Access::Scoped(scope) = operation.access {
            let said = desk.by(&key, operation.method.clone(), &nothing_of(&operation), "").await;
            assert_eq!(said.status != 403, scope.as_str() == "audit:read", "{}: {said:?}", operation.name);
        }
    }
}

#[tokio::test]
async fn a_project_that_is_not_the_caller_s_does_not_exist() {
    let desk = Desk::new().await;
    assert_eq!(desk.by(ADMIN, Method::POST, "/v1/projects", r#"{"name": "acme"}"#).await.status, 201);
    let key = desk.key("admin").await;
    for operation in rows().iter().filter(|o| o.access != Access::Anonymous) {
        for project in ["acme", "nowhere"] {
            let bearer = format!("Bearer {key}");
            let headers = [("authorization", bearer.as_str()), ("linkspan-project", project)];
            let said = desk.call(operation.method.clone(), &nothing_of(operation), &headers, "").await;
            assert_eq!(said.status, 404, "{} in {project}: {said:?}", operation.name);
        }
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let desk = Desk::new().await;
    let key = desk.key("viewer").await;
    assert_eq!(desk.by(&key, Method::GET, "/v1/auth/me", "").await.status, 200);
    assert_eq!(desk.by(ADMIN, Method::DELETE, "/v1/keys/viewer", "").await.status, 200);
    assert_eq!(desk.by(&key, Method::GET, "/v1/auth/me", "").await.status, 401);
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_and_the_right_key_passes_all_the_while() {
    let desk = Desk::new().await;
    let with = |credential: &str| {
        let mut request = Request::get("/v1/auth/me").header("authorization", format!("Bearer {credential}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer([192, 0, 2, 7].into()));
        request
    };
    for _ in 0..10 {
        assert_eq!(desk.send(with("lk_dev_guess_guess")).await.status, 401);
    }
    let said = desk.send(with("lk_dev_guess_guess")).await;
    assert_eq!((said.status.as_u16(), said.header("retry-after")), (429, "6"));
    assert_eq!(desk.send(with(ADMIN)).await.status, 200);
}

#[tokio::test]
async fn a_repeated_wish_is_granted_once_and_another_wish_under_its_key_is_refused() {
    let desk = Desk::new().await;
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "wish-1")];
    let make = |body: &'static str| desk.call(Method::POST, "/v1/projects", &headers, body);
    let first = make(r#"{"name": "acme"}"#).await;
    let again = make(r#"{"name": "acme"}"#).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!((first.text, first.headers["location"].clone()), (again.text, again.headers["location"].clone()));
    let other = make(r#"{"name": "other"}"#).await;
    assert_eq!((other.status.as_u16(), other.json()["error"]["kind"].as_str()), (409, Some("conflict")));
    assert_eq!(desk.by(ADMIN, Method::GET, "/v1/projects/other", "").await.status, 404);
}

#[tokio::test]
async fn a_change_made_from_an_old_version_is_refused() {
    let desk = Desk::new().await;
    desk.by(ADMIN, Method::POST, "/v1/projects", r#"{"name": "acme"}"#).await;
    let etag = desk.by(ADMIN, Method::GET, "/v1/projects/acme", "").await.header("etag").to_owned();
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("if-match", etag.as_str())];
    let change = |body: &'static str| desk.call(Method::PATCH, "/v1/projects/acme", &headers, body);
    let changed = change(r#"{"description": "one"}"#).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_ne!(changed.header("etag"), etag);
    let late = change(r#"{"description": "two"}"#).await;
    assert_eq!((late.status.as_u16(), &late.json()["error"]["kind"]), (412, &serde_json::json!("conflict")), "{late:?}");
    assert_eq!(desk.by(ADMIN, Method::GET, "/v1/projects/acme", "").await.json()["description"], "one");
}

#[tokio::test]
async fn metrics_count_what_was_answered() {
    let desk = Desk::new().await;
    desk.get("/v1/health").await;
    let said = desk.by(ADMIN, Method::GET, "/metrics", "").await;
    assert_eq!(said.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(said.text.contains("linkspan_http_requests_total{operation=\"health\",status=\"2xx\"} 1"), "{}", said.text);
    assert!(said.text.contains("process_resident_memory_bytes "), "{}", said.text);
}
