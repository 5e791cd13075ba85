//! Tokens that are good for one use, where a platform keeps the config: each change is told to it before it is used.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use linkspan_core::{Body, ConnectorType, Holding, Http, Keeper, Place, Result};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::{form, voice::Voice};
use crate::dpath::{self, Step};

/// The largest answer of a provider of tokens.
const LARGEST: usize = 1 << 20;

/// Keeps by telling: what changed goes out as the config of a CONTROL message.
pub(super) struct Telling<W> {
    kind: ConnectorType,
    http: Arc<dyn Http>,
    voice: Arc<Mutex<Voice<W>>>,
    /// The config as the platform has it, once this turn's message is out.
    config: Arc<tokio::sync::Mutex<Value>>,
}

impl<W> Telling<W> {
    pub fn new(kind: ConnectorType, config: Value, http: Arc<dyn Http>, voice: Arc<Mutex<Voice<W>>>) -> Self {
        Self { kind, http, voice, config: Arc::new(tokio::sync::Mutex::new(config)) }
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Keeper for Telling<W> {
    async fn hold(&self, _: &[Place]) -> Result<Box<dyn Holding>> {
        let turn = self.config.clone().lock_owned().await;
        let stands = turn.clone();
        Ok(Box::new(Turn { kind: self.kind.clone(), http: self.http.clone(), voice: self.voice.clone(), stands, turn: Mutex::new(turn) }))
    }
}

struct Turn<W> {
    kind: ConnectorType,
    http: Arc<dyn Http>,
    voice: Arc<Mutex<Voice<W>>>,
    stands: Value,
    turn: Mutex<OwnedMutexGuard<Value>>,
}

#[async_trait]
impl<W: Write + Send + 'static> Holding for Turn<W> {
    fn config(&self) -> &Value {
        &self.stands
    }
    /// Nothing outlives this process but what it says: an answer that it cannot tell any more is lost.
    async fn spend(&self, _: &str, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let (parts, body) = self.http.send(request.map(Body::from)).await?.into_parts();
        Ok(Response::from_parts(parts, body.bytes(LARGEST).await?))
    }
    async fn discard(&self) {}
    async fn keep(&self, changes: &[(Place, Value)]) -> Result<()> {
        let config = {
            let mut config = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, value) in changes {
                let steps: Vec<Step> = place.iter().cloned().map(Step::Name).collect();
                dpath::put(&mut config, &steps, value.clone())?;
            }
            config.clone()
        };
        let secrets = form::secrets(&self.kind, &config);
        self.voice.lock().unwrap_or_else(PoisonError::into_inner).lines.control(&config, secrets)
    }
}
