//! An app on a data dir of its own, and callers for it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue};
use linkspan_app::{App, CallContext, Operation, Reply, Settings, auth, operations, registry::Registry};
use linkspan_core::{Checked, Clock, Connector, ConnectorType, Context, Error, ErrorKind, Result, Role, Secret, Spec, SystemClock};
use linkspan_store::Store;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

pub struct Rig {
    pub app: Arc<App>,
    pub clock: Arc<Shifted>,
    pub dir: tempfile::TempDir,
    table: Vec<Operation>,
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(Registry::of(vec![]), Settings::default()).await
    }
    /// With the native connector types, and one whose vendor is a word.
    pub async fn real() -> Self {
        Self::with(types(), Settings::default()).await
    }
    pub async fn with(registry: Registry, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Shifted::default());
        let app = open(dir.path(), clock.clone(), registry, settings).await.unwrap();
        Self { app, clock, dir, table: operations() }
    }
    pub async fn call(&self, context: &CallContext, name: &str, input: Value) -> Result<Reply> {
        let operation = self.table.iter().find(|o| o.name == name).unwrap_or_else(|| panic!("no operation {name}"));
        operation.call(self.app.clone(), context.clone(), input).await
    }
    /// The same rig on another app.
    pub fn on(self, app: Arc<App>, clock: Arc<Shifted>) -> Self {
        Self { app, clock, ..self }
    }
    /// The answer's body, as the process itself gets it.
    pub async fn local(&self, name: &str, input: Value) -> Value {
        self.call(&CallContext::local(), name, input).await.unwrap_or_else(|e| panic!("{name}: {e:?}")).body
    }
    pub async fn refused(&self, context: &CallContext, name: &str, input: Value) -> Error {
        self.call(context, name, input).await.expect_err(name)
    }
    pub async fn headers(&self, headers: &[(&str, &str)]) -> Result<CallContext> {
        let pair = |(k, v): &(&str, &str)| (k.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair) {
            map.append(name, value);
        }
        auth::authenticate(&self.app, &map).await
    }
    pub async fn bearer(&self, token: &str) -> Result<CallContext> {
        self.headers(&[("authorization", &format!("Bearer {token}"))]).await
    }
    /// A user of the default project, signed in.
    pub async fn user(&self, email: &str, role: &str) -> String {
        let new = json!({"email": email, "password": "correct horse", "roles": {"default": role}});
        self.local("users.create", new).await;
        self.login(email, "correct horse").await.unwrap()
    }
    pub async fn login(&self, email: &str, password: &str) -> Result<String> {
        let answer = self.call(&CallContext::anonymous(), "auth.login", json!({"email": email, "password": password})).await?;
        Ok(answer.body["token"].as_str().unwrap().to_owned())
    }
    /// Whether any file of the data dir holds the text.
    pub fn files_hold(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.dir.path()).unwrap().map(|f| f.unwrap().path()).filter(|p| p.is_file());
        files.filter_map(|p| std::fs::read(p).ok()).any(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
    }
}

pub async fn open(dir: &Path, clock: Arc<Shifted>, registry: Registry, settings: Settings) -> Result<Arc<App>> {
    let http = linkspan_http::client(linkspan_http::Policy::Open, clock.clone());
    let context = Context { clock, http, ..Context::real() };
    let store = Store::open(dir, &context).await?;
    App::open(store, registry, context, settings).await
}

/// The native types, and `vendor`: a service that takes keys that begin with `good-key` and repeats every other one in its refusal.
pub fn types() -> Registry {
    let mut all = linkspan_connectors::all();
    let spec = Spec { name: "vendor".into(), title: "Vendor".into(), roles: vec![Role::Source], ..Spec::empty() };
    all.push(ConnectorType::new(spec, |config: VendorConfig, _| Ok(Vendor(config))));
    Registry::of(all)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VendorConfig {
    api_key: Secret,
    #[serde(default)]
    #[allow(dead_code, reason = "a plain field")]
    host: Option<String>,
}

struct Vendor(VendorConfig);

#[async_trait]
impl Connector for Vendor {
    async fn check(&self) -> Result<Checked> {
        let key = self.0.api_key.expose();
        if key.starts_with("good-key") {
            return Ok(Checked { server_version: Some("vendor 1".into()), streams: Some(3), ..Checked::default() });
        }
        let encoded = base64::prelude::BASE64_STANDARD.encode(format!("user:{key}"));
        Err(Error::new(ErrorKind::AuthFailed, format!("the vendor does not know {key}"))
            .with("header", encoded)
            .fix(format!("check {key}"))
            .because(std::io::Error::other(key.to_owned())))
    }
}

/// The address of a real server, or a line that says what is skipped; under CI it must be there.
pub fn postgres(test: &str) -> Option<String> {
    let url = std::env::var("LINKSPAN_TEST_POSTGRES_URL").ok();
    if url.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{test} needs LINKSPAN_TEST_POSTGRES_URL");
        eprintln!("skipped {test}: LINKSPAN_TEST_POSTGRES_URL is not set");
    }
    url
}

pub fn kind(e: &Error) -> ErrorKind {
    e.kind()
}

/// The machine's clock, set forward by a test.
#[derive(Default)]
pub struct Shifted(AtomicI64);

impl Shifted {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Shifted {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now() + jiff::SignedDuration::from_millis(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}
