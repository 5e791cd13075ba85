//! Turning the keys of the vault while everything runs.

use std::sync::Arc;

use linkspan_core::Result;
use linkspan_store::Change;
use serde_json::json;

use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    commit::audit_line,
    operation::{Nothing, Operation, Reply},
    secrets::{self, Progress},
};

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "vault.rotate",
            "/v1/vault/rotate",
            Access::Installation(Scope::VaultRotate),
            "Encrypts every stored secret anew: under a new data key, wrapped by the first encryption key. Goes on where one was interrupted.",
        )
        .cli("keys rotate", &[])
        .call(rotate),
    ]
}

async fn rotate(app: Arc<App>, context: CallContext, _: Nothing) -> Result<Reply<Progress>> {
    let progress = secrets::rotate(&app.vault, &app.context.failpoints, app.now_ms()).await?;
    let Progress { rotated, unreadable, retired, resumed_at } = &progress;
    let what = json!({ "kind": "vault", "rotated": rotated, "unreadable": unreadable, "retired": retired, "resumed_at": resumed_at });
    app.store.change(Change::new(app.now_ms()).entry(audit_line(&context, "vault", what))).await?;
    Ok(Reply::ok(progress))
}
