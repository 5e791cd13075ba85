//! The documentation for people: one page that reads the description for programs. Nothing of it comes from elsewhere.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use linkspan_app::{Access, Nothing, Operation};
use linkspan_core::{Body, Result};
use schemars::JsonSchema;

/// Scripts, styles and requests of this server only; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

#[derive(JsonSchema)]
#[schemars(extend("contentMediaType" = "text/html"))]
struct Page(#[allow(dead_code, reason = "only its schema is read")] String);
#[derive(JsonSchema)]
#[schemars(extend("contentMediaType" = "text/css"))]
struct Style(#[allow(dead_code, reason = "only its schema is read")] String);
#[derive(JsonSchema)]
#[schemars(extend("contentMediaType" = "text/javascript"))]
struct Script(#[allow(dead_code, reason = "only its schema is read")] String);

pub fn operations() -> Vec<Operation> {
    vec![
        asset::<Page>("docs", "/docs", "These pages.", "text/html; charset=utf-8", include_str!("docs/index.html")),
        asset::<Style>("docs.style", "/docs/docs.css", "How these pages look.", "text/css; charset=utf-8", include_str!("docs/docs.css")),
        asset::<Script>(
            "docs.script",
            "/docs/docs.js",
            "How these pages work.",
            "text/javascript; charset=utf-8",
            include_str!("docs/docs.js"),
        ),
        Operation::get("home", "/", Access::Anonymous, "Leads to the docs.").raw::<Nothing, Page, _>(|_, _, _| async {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/docs"));
            Result::Ok(response)
        }),
    ]
}

fn asset<T: JsonSchema + 'static>(
    name: &'static str,
    path: &'static str,
    doc: &'static str,
    kind: &'static str,
    text: &'static str,
) -> Operation {
    Operation::get(name, path, Access::Anonymous, doc).raw::<Nothing, T, _>(move |_, _, _| async move {
        let mut response = Response::new(Body::Full(Bytes::from_static(text.as_bytes())));
        let put = |headers: &mut http::HeaderMap, name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
        put(response.headers_mut(), header::CONTENT_TYPE, kind);
        put(response.headers_mut(), header::CONTENT_SECURITY_POLICY, POLICY);
        put(response.headers_mut(), header::CACHE_CONTROL, "no-cache");
        Result::Ok(response)
    })
}
