//! A hub of its own for a test, asked in this process.

use std::sync::Arc;

use axum::{Router, body::Body};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use linkspan_app::{App, Operation, Settings, UploadLimits, registry::Registry};
use linkspan_core::{Context, Secret};
use linkspan_server::{Door, router};
use linkspan_store::Store;
use serde_json::Value;
use tower::ServiceExt;

/// The admin key of every desk.
pub const ADMIN: &str = "an-admin-key-that-only-tests-know-0123456789";

pub struct Desk {
    pub folder: tempfile::TempDir,
    pub door: Arc<Door>,
    pub router: Router,
}

/// What came back, read to its end.
#[derive(Debug)]
pub struct Said {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Desk {
    pub async fn new() -> Self {
        Self::with(linkspan_server::operations()).await
    }
    pub async fn with(operations: Vec<Operation>) -> Self {
        Self::made(operations, UploadLimits::default()).await
    }
    /// That takes no more than this of files.
    pub async fn taking(uploads: UploadLimits) -> Self {
        Self::made(linkspan_server::operations(), uploads).await
    }
    async fn made(operations: Vec<Operation>, uploads: UploadLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = Context::real();
        let store = Store::open(folder.path(), &context).await.unwrap();
        let settings = Settings { admin_key: Some(Secret::new(ADMIN)), uploads, ..Settings::default() };
        let app = App::open(store, Registry::of(linkspan_connectors::all()), context, settings).await.unwrap();
        let door = Door::new(app);
        let router = router(&door, operations);
        Self { folder, door, router }
    }
    pub async fn send(&self, request: Request<Body>) -> Said {
        said(self.router.clone().oneshot(request).await.unwrap()).await
    }
    pub async fn get(&self, path: &str) -> Said {
        self.call(Method::GET, path, &[], "").await
    }
    /// As somebody who holds this credential.
    pub async fn by(&self, credential: &str, method: Method, path: &str, body: &str) -> Said {
        let bearer = format!("Bearer {credential}");
        self.call(method, path, &[("authorization", &bearer), ("content-type", "application/json")], body).await
    }
    /// A new API key of this role.
    pub async fn key(&self, role: &str) -> String {
        let body = format!(r#"{{"name": "{role}", "role": "{role}"}}"#);
        let said = self.by(ADMIN, Method::POST, "/v1/keys", &body).await;
        assert_eq!(said.status, 201, "{said:?}");
        said.json()["key"].as_str().unwrap_or_else(|| panic!("{said:?}")).to_owned()
    }
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
        let request = headers.iter().fold(Request::builder().method(method).uri(path), |r, (name, value)| r.header(*name, *value));
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

async fn said(response: Response<Body>) -> Said {
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Said { status: parts.status, headers: parts.headers, text }
}
