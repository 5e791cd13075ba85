//! Authenticators: what they add to a request, and how they come by it.

mod key;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{component::Component, inject::Inject, wiring::Build};

/// What an authenticator adds to requests. Asked anew for every attempt of a request.
#[async_trait]
pub trait Authenticator: Send + Sync {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>>;

    /// Gets a new token although the one that was sent looked fine. `sent` is the header's value in the rejected request: when
    /// another caller has a newer one already, nothing is asked for.
    async fn refresh(&self, _sent: Option<&str>) -> Result<Refresh> {
        Ok(Refresh::Unsupported)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    Done,
    Unsupported,
}

/// No credentials at all.
pub struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn options(&self, _: Inject) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
}

/// What an authenticator needs to know about the stream it is for.
pub struct For<'a> {
    pub stream: &'a str,
    /// As written: the legacy session login is joined to it.
    pub url_base: Option<&'a str>,
}

pub fn build(component: &Component<'_>, whose: &For<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let _ = whose;
    match component.kind() {
        "NoAuth" => Ok(Arc::new(Nobody)),
        "ApiKeyAuthenticator" => key::api_key(component, build),
        "BearerAuthenticator" => key::bearer(component, build),
        "BasicHttpAuthenticator" => key::basic(component, build),
        _ => Err(component.unknown_kind()),
    }
}
