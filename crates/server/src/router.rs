//! The router, made from the table: one route a row, and nothing else.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{RawPathParams, rejection::RawPathParamsRejection},
    routing::{MethodFilter, on},
};
use http::{Request, StatusCode};
use linkspan_app::Operation;

use crate::{door::Door, openapi};

/// Every route of the operations. Panics when two of them exclude each other: the table is wrong then, and a test says so first.
pub fn router(door: &Arc<Door>, operations: Vec<Operation>) -> Router {
    door.describe(|version| openapi::document(&operations, version).to_string().into());
    let mut router = Router::new();
    for operation in operations.into_iter().filter(|o| o.has(linkspan_app::Face::Http)) {
        router = routed(router, door, operation);
    }
    let (nowhere, wrong_method) = (door.clone(), door.clone());
    router
        .fallback(move |request: Request<Body>| async move { nowhere.unrouted(request, StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(
            move |request: Request<Body>| async move { wrong_method.unrouted(request, StatusCode::METHOD_NOT_ALLOWED) },
        )
}

fn routed(router: Router, door: &Arc<Door>, operation: Operation) -> Router {
    let filter = MethodFilter::try_from(operation.method.clone()).expect("operations use the standard methods");
    let (path, row, door) = (numbered(operation.path), Arc::new(door.row(operation)), door.clone());
    let handler = move |path: Result<RawPathParams, RawPathParamsRejection>, request: Request<Body>| async move {
        let Ok(path) = path else { return door.unrouted(request, StatusCode::NOT_FOUND) };
        let values = path.iter().map(|(_, value)| value.to_owned());
        let named = row.operation.placeholders().into_iter().map(str::to_owned).zip(values).collect();
        door.answer(row, named, request).await
    };
    router.route(&path, on(filter, handler))
}

/// The path with its placeholders numbered: two rows may call the same place by different names, the router may not.
fn numbered(path: &str) -> String {
    let mut parts = path.split('{');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (i, rest) in parts.enumerate() {
        out += &format!("{{p{i}}}{}", rest.split_once('}').map_or("", |(_, after)| after));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn placeholders_are_numbered() {
        assert_eq!(super::numbered("/v1/{c}/actions/{a}/invoke"), "/v1/{p0}/actions/{p1}/invoke");
        assert_eq!(super::numbered("/v1/health"), "/v1/health");
    }
}
