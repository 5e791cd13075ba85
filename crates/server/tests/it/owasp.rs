//! The risks of the OWASP API list that no single row answers for: other tenants' ids, fields that are nobody's to set, and words that
//! say too much. Sign-in, rights, rates, sizes and the inventory have their own rooms here.

use http::Method;
use serde_json::{Value, json};

use crate::desk::{ADMIN, Desk};

const SECRET: &str = "canary-secret-4711";

/// A connector of another project than `default`, with its id.
async fn foreign(desk: &Desk) -> String {
    desk.by(ADMIN, Method::POST, "/v1/projects", r#"{"name": "acme"}"#).await;
    let config = json!({"host": "db", "database": "d", "username": "u", "password": SECRET});
    let body = json!({"name": "theirs", "type": "postgresql", "config": config}).to_string();
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("linkspan-project", "acme"), ("content-type", "application/json")];
    let made = desk.call(Method::POST, "/v1/connectors", &headers, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn theirs(desk: &Desk, id: &str) -> Value {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("linkspan-project", "acme")];
    desk.call(Method::GET, &format!("/v1/connectors/{id}"), &headers, "").await.json()
}

#[tokio::test]
async fn another_project_s_id_or_name_does_not_exist_in_any_row() {
    let desk = Desk::new().await;
    let id = foreign(&desk).await;
    let before = theirs(&desk, &id).await;
    let key = desk.key("admin").await;
    let mut rows = 0;
    for operation in linkspan_server::operations().iter().filter(|o| o.placeholders().len() == 1) {
        for value in [id.as_str(), "theirs"] {
            let path = operation.path.replace(&format!("{{{}}}", operation.placeholders()[0]), value);
            let said = desk.by(&key, operation.method.clone(), &path, "").await;
            let hidden = said.status == 404 || said.status == 403 && said.text.contains("\"needs\"");
            assert!(hidden, "{} with {value}: {said:?}", operation.name);
            rows += 1;
        }
    }
    assert!(rows > 20);
    assert_eq!(theirs(&desk, &id).await, before, "nothing of it was touched");
}

#[tokio::test]
async fn fields_that_are_nobody_s_to_set_are_refused() {
    let desk = Desk::new().await;
    let make = json!({"name": "mine", "type": "faker"});
    let made = desk.by(ADMIN, Method::POST, "/v1/connectors", &make.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    for field in ["id", "project", "tenant_id", "role", "created_at", "event_count", "status", "version"] {
        let mut body = make.clone();
        body["name"] = json!("other");
        body[field] = json!("x");
        assert_eq!(desk.by(ADMIN, Method::POST, "/v1/connectors", &body.to_string()).await.status, 400, "{field}");
        let patch = json!({ field: "x" }).to_string();
        assert_eq!(desk.by(ADMIN, Method::PATCH, "/v1/connectors/mine", &patch).await.status, 400, "{field}");
    }
    let key = json!({"name": "k", "role": "viewer", "project": "acme"}).to_string();
    assert_eq!(desk.by(ADMIN, Method::POST, "/v1/keys", &key).await.status, 400);
}

#[tokio::test]
async fn a_mask_that_is_sent_back_keeps_the_secret_and_no_answer_shows_it() {
    let desk = Desk::new().await;
    let config = json!({"host": "127.0.0.1", "port": 1, "database": "d", "username": "u", "password": SECRET, "sslmode": "disable"});
    let body = json!({"name": "pg", "type": "postgresql", "config": config}).to_string();
    let made = desk.by(ADMIN, Method::POST, "/v1/connectors", &body).await;
    let back = json!({"description": "again", "config": made.json()["config"]}).to_string();
    let kept = desk.by(ADMIN, Method::PATCH, "/v1/connectors/pg", &back).await;
    assert_eq!((kept.status.as_u16(), &kept.json()["status"]), (200, &json!("unknown")), "a secret is still there: {kept:?}");
    let mut said = vec![made, kept];
    for (method, path) in [
        (Method::GET, "/v1/connectors"),
        (Method::GET, "/v1/connectors/pg"),
        (Method::POST, "/v1/connectors/pg/test"),
        (Method::POST, "/v1/connectors/pg/discover"),
        (Method::GET, "/v1/connectors/pg/tests"),
        (Method::GET, "/v1/connectors/pg/health"),
        (Method::GET, "/v1/audit"),
        (Method::GET, "/v1/openapi.json"),
        (Method::GET, "/metrics"),
        (Method::GET, "/api/v1/connectors"),
    ] {
        said.push(desk.by(ADMIN, method, path, "").await);
    }
    for answer in said {
        assert!(!answer.text.contains(SECRET), "{answer:?}");
    }
}

/// Every token of the published vectors, over HTTP, to a row that a viewer may read and to one that only an admin may: none of them
/// opens anything, and none is told from another by what is said, so that nobody learns how near a guess came.
#[tokio::test]
async fn no_token_that_somebody_else_made_opens_anything() {
    let Ok(shared) = std::env::var("LINKSPAN_SHARED") else { return };
    let text = std::fs::read_to_string(format!("{shared}/vectors/dev/jwt.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() >= 11);
    let desk = Desk::new().await;
    let mut answers = std::collections::BTreeSet::new();
    for vector in &vectors {
        let token = vector["token"].as_str().unwrap();
        for (method, path) in [(Method::GET, "/v1/auth/me"), (Method::GET, "/v1/connectors"), (Method::POST, "/v1/keys")] {
            let said = desk.by(token, method, path, "").await;
            assert_eq!(said.status, 401, "{}: {said:?}", vector["name"]);
            assert_eq!(said.json()["error"]["kind"], "auth_failed");
            assert!(!said.text.contains(token), "{said:?}");
            answers.insert(said.text);
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

/// A real session's token, bent in the ways that have opened other servers.
#[tokio::test]
async fn a_session_s_token_opens_nothing_once_it_is_bent() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
    let desk = Desk::new().await;
    let user = json!({"email": "ada@example.com", "password": "correct horse battery", "admin": true}).to_string();
    let made = desk.by(ADMIN, Method::POST, "/v1/users", &user).await;
    assert_eq!(made.status, 201, "{made:?}");
    let login = json!({"email": "ada@example.com", "password": "correct horse battery"}).to_string();
    let login = desk.call(Method::POST, "/v1/auth/login", &[("content-type", "application/json")], &login).await;
    let token = login.json()["token"].as_str().unwrap_or_else(|| panic!("{login:?}")).to_owned();
    assert_eq!(desk.by(&token, Method::GET, "/v1/auth/me", "").await.status, 200);
    let [head, body, tag] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let with_head = |head: Value| B64.encode(head.to_string());
    let mut later: Value = serde_json::from_slice(&B64.decode(body).unwrap()).unwrap();
    later["exp"] = json!(4_102_444_800_i64);
    let bent = [
        format!("{}.{body}.", with_head(json!({"alg": "none"}))),
        format!("{}.{body}.{tag}", with_head(json!({"alg": "none"}))),
        format!("{}.{body}.{tag}", with_head(json!({"alg": "HS512"}))),
        format!("{}.{body}.{tag}", with_head(json!({"alg": "RS256"}))),
        format!("{}.{body}.{tag}", with_head(json!({"alg": "HS256", "kid": "../../../../dev/null"}))),
        format!("{}.{body}.{tag}", with_head(json!({"alg": "HS256", "jku": "http://127.0.0.1:1/keys"}))),
        format!("{}.{body}.{tag}", with_head(json!({"alg": "HS256", "crit": ["b64"], "b64": false}))),
        format!("{head}.{}.{tag}", B64.encode(later.to_string())),
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        format!("{token}="),
        format!("{token}.{tag}"),
        "A".repeat(9 * 1024),
    ];
    for token in bent {
        let said = desk.by(&token, Method::GET, "/v1/auth/me", "").await;
        assert_eq!(said.status, 401, "{token}: {said:?}");
    }
}

/// The bodies of the hostile vectors that a JSON API can meet, at every row that takes a body: a refusal, quickly, and never a 5xx.
#[tokio::test]
async fn hostile_bodies_are_refused_by_every_row() {
    let Ok(shared) = std::env::var("LINKSPAN_SHARED") else { return };
    let text = std::fs::read_to_string(format!("{shared}/vectors/dev/hostile_inputs.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    let bodies: Vec<(&str, &str)> = vectors
        .iter()
        .filter(|v| v["name"].as_str().is_some_and(|n| n.starts_with("json_")))
        .map(|v| (v["name"].as_str().unwrap(), v["body"].as_str().unwrap()))
        .collect();
    assert!(bodies.len() >= 4);
    let desk = Desk::new().await;
    let mut asked = 0;
    for operation in linkspan_server::operations().iter().filter(|o| matches!(o.method, Method::POST | Method::PUT | Method::PATCH)) {
        let path = operation.placeholders().iter().fold(operation.path.to_owned(), |path, p| path.replace(&format!("{{{p}}}"), "none"));
        for (name, body) in &bodies {
            let started = std::time::Instant::now();
            let said = desk.by(ADMIN, operation.method.clone(), &path, body).await;
            assert!(said.status.is_client_error(), "{} with {name}: {said:?}", operation.name);
            assert!(said.json()["error"]["kind"].is_string(), "{said:?}");
            assert!(started.elapsed().as_secs() < 5, "{} with {name}", operation.name);
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
}

#[tokio::test]
async fn what_is_wrong_inside_is_not_told_outside() {
    let desk = Desk::new().await;
    for (method, path, body) in [
        (
            Method::POST,
            "/v1/connectors",
            r#"{"name": "x", "type": "postgresql", "config": {"url": "postgresql://u:canary-secret-4711@h:x/d"}}"#,
        ),
        (Method::POST, "/v1/connectors/test", r#"{"type": "postgresql", "config": {"host": 5, "password": "canary-secret-4711"}}"#),
        (Method::PATCH, "/v1/connectors/none", r#"{"config": "canary-secret-4711"}"#),
        (Method::POST, "/v1/keys", r#"{"name": ["canary-secret-4711"]}"#),
    ] {
        let said = desk.by(ADMIN, method, path, body).await;
        assert!(said.status.is_client_error(), "{said:?}");
        for word in [SECRET, "panicked", "sqlite", "SELECT", ".rs:"] {
            assert!(!said.text.contains(word), "{word}: {said:?}");
        }
    }
}
