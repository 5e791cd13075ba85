//! A run that a command began: carried out here when no server does it, and waited for.

use std::time::Duration;

use http::Method;
use linkspan_app::runs;
use linkspan_core::{Clock, ErrorKind, Result, SystemClock};
use serde_json::{Map, Value};

use super::client::{Client, escaped};
use crate::errors::Exit;

const LOOK: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(30);

/// Whether the answer is a run that is still to come.
pub fn began(answer: &Value) -> bool {
    answer["connection_id"].is_string() && matches!(answer["status"].as_str(), Some("queued" | "running"))
}

/// The run when it is over.
pub async fn ended(client: &Client, queued: &Value) -> Result<Value> {
    if let Some(app) = client.app() {
        runs::start(app, runs::Schedules::Off).await?;
    }
    let path = format!("/v1/runs/{}", escaped(queued["id"].as_str().unwrap_or_default()));
    loop {
        let run = client.call(&Method::GET, &path, &Map::new()).await?;
        if !began(&run) {
            return Ok(run);
        }
        SystemClock.sleep(LOOK).await;
    }
}

/// What goes here stops at its next commit; the next process goes on with it.
pub async fn rest(client: &Client) {
    if let Some(app) = client.app() {
        runs::drain(app, DRAIN).await;
    }
}

/// A run or a test that failed is a command that failed.
pub fn exit(answer: &Value) -> Exit {
    let is_run = answer["connection_id"].is_string();
    match answer["status"].as_str() {
        Some("failed") if is_run || answer["ok"] == false => {
            let kind = serde_json::from_value(answer["error"]["kind"].clone()).unwrap_or(ErrorKind::Internal);
            Exit::of(kind)
        }
        Some("cancelled") if is_run => Exit::INTERRUPTED,
        _ => Exit::OK,
    }
}
