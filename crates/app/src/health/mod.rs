//! Whether this process is alive, and whether it can serve.

use std::sync::Arc;

use linkspan_core::Result;
use linkspan_store::Role as StoreRole;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    caller::{Access, CallContext},
    operation::{Nothing, Operation, Reply},
};

/// Alive: says nothing of what it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    pub version: String,
}

/// Ready: the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    pub ready: bool,
    /// `owner` or `remote`: whether this process owns the data dir.
    pub store: String,
}

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("health", "/v1/health", Access::Anonymous, "Whether the process is alive.").cli("health", &[]).call(health),
        Operation::get("ready", "/v1/ready", Access::Anonymous, "Whether the process can serve: its store answers.").call(ready),
    ]
}

async fn health(app: Arc<App>, _: CallContext, _: Nothing) -> Result<Reply<Health>> {
    Ok(Reply::ok(Health { status: "ok".into(), version: app.settings.version.into() }))
}

async fn ready(app: Arc<App>, _: CallContext, _: Nothing) -> Result<Reply<Ready>> {
    app.store.connections_after(None, 1).await?;
    let store = match app.store.role() {
        Some(StoreRole::Owner) => "owner",
        Some(StoreRole::Remote) => "remote",
        None => "closed",
    };
    Ok(Reply::ok(Ready { ready: true, store: store.into() }))
}
