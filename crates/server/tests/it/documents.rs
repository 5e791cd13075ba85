//! What describes the API agrees with what answers.

use http::Method;
use linkspan_app::{Access, Face, Run};
use serde_json::Value;

use crate::desk::Desk;

#[tokio::test]
async fn every_row_of_the_table_is_answered_and_described_and_nothing_else_is() {
    let desk = Desk::new().await;
    let document = desk.get("/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut rows = 0;
    for operation in linkspan_server::operations().iter().filter(|o| o.has(Face::Http)) {
        rows += 1;
        let item = &paths[operation.path][operation.method.as_str().to_lowercase()];
        assert_eq!(item["operationId"], operation.name);
        let said = desk.call(operation.method.clone(), &filled(operation.path), &[], "").await;
        let routed = said.header("allow").is_empty() && !said.text.contains("there is no such route");
        assert!(routed, "{} is not routed: {said:?}", operation.name);
    }
    let described: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(described, rows);
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let document = Desk::new().await.get("/v1/openapi.json").await.json();
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(object) => {
                if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                    let pointer = target.strip_prefix('#').expect("within the document");
                    assert!(document.pointer(pointer).is_some(), "{target}");
                }
                assert!(!object.contains_key("$defs") && !object.contains_key("$schema"), "{object:?}");
                open.extend(object.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_method_that_a_path_does_not_have_is_refused_with_those_it_has() {
    let desk = Desk::new().await;
    let operations = linkspan_server::operations();
    for operation in &operations {
        let of_path: Vec<&Method> = operations.iter().filter(|o| o.path == operation.path).map(|o| &o.method).collect();
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if of_path.contains(&&method) {
                continue;
            }
            let said = desk.call(method.clone(), &filled(operation.path), &[], "").await;
            // A longer path's fixed word may be this path's placeholder: then the other row answers.
            if said.status != 405 {
                assert_ne!(said.status, 404, "{method} {}: {said:?}", operation.path);
                continue;
            }
            assert!(of_path.iter().any(|m| said.header("allow").contains(m.as_str())), "{method} {}: {said:?}", operation.path);
            assert_eq!(said.json()["error"]["kind"], "unsupported");
        }
    }
}

#[tokio::test]
async fn every_answer_is_closed_to_browsers_that_guess_frame_or_keep() {
    let desk = Desk::new().await;
    for path in ["/v1/health", "/v1/openapi.json", "/docs", "/docs/docs.js", "/", "/nowhere"] {
        let said = desk.get(path).await;
        assert_eq!(said.header("x-content-type-options"), "nosniff", "{path}");
        assert!(said.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(!said.header("content-security-policy").contains("unsafe"), "{path}");
        assert!(!said.header("cache-control").is_empty(), "{path}");
        assert_eq!(said.header("x-request-id").len(), 36, "{path}");
        assert_eq!(said.header("access-control-allow-origin"), "", "{path}");
    }
}

#[tokio::test]
async fn the_docs_need_nothing_from_elsewhere() {
    let desk = Desk::new().await;
    let page = desk.get("/docs").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    for asset in ["/docs/docs.css", "/docs/docs.js", "/v1/openapi.json"] {
        assert!(page.text.contains(asset), "{asset}");
        assert_eq!(desk.get(asset).await.status, 200);
    }
    for text in [&page.text, &desk.get("/docs/docs.css").await.text, &desk.get("/docs/docs.js").await.text] {
        let outside = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("https://") && !outside.contains("http://"), "something is fetched from elsewhere");
    }
    assert_eq!(desk.get("/").await.header("location"), "/docs");
}

#[test]
fn only_what_the_protocol_forces_is_raw_and_anonymous() {
    for operation in linkspan_server::operations() {
        if matches!(operation.run, Run::Raw(_)) {
            assert!(operation.cli.is_none(), "{}: a raw row has no command", operation.name);
        }
        if operation.access == Access::Anonymous {
            let open = ["health", "ready", "openapi", "docs", "docs.style", "docs.script", "home", "auth.login"];
            assert!(open.contains(&operation.name), "{} is open to everybody: is that meant?", operation.name);
        }
    }
}

fn filled(path: &str) -> String {
    path.split('{')
        .enumerate()
        .map(|(i, part)| if i == 0 { part.to_owned() } else { format!("none{}", part.split_once('}').unwrap().1) })
        .collect()
}
