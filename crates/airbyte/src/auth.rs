//! Authenticators: what they add to a request, and how they come by it.

mod algorithm;
mod armor;
mod call;
mod jwt;
mod key;
mod legacy;
mod locked;
mod oauth;
mod pem;
mod rotating;
mod session;
mod times;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{
    answer::Answer,
    budget::Call,
    component::Component,
    dpath::{self, Step},
    inject::Inject,
    python::text,
    wiring::Build,
};

/// What an authenticator adds to requests. Asked anew for every attempt of a request.
#[async_trait]
pub trait Authenticator: Send + Sync {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>>;

    /// The bare credential, where there is one: an OAuth request may carry it as its assertion.
    async fn token(&self) -> Result<String> {
        let header = self.options(Inject::Header).await?;
        Ok(header.values().next().map(text).unwrap_or_default())
    }

    /// Gets a new token although the one that was sent looked fine. `sent` is the header's value in the rejected request: when
    /// another caller has a newer one already, nothing is asked for.
    async fn refresh(&self, _sent: Option<&str>) -> Result<Refresh> {
        Ok(Refresh::Unsupported)
    }

    /// The header of one attempt, where it depends on the request itself. May wait.
    async fn charge(&self, _call: &Call<'_>) -> Result<Option<(String, String)>> {
        Ok(None)
    }
    /// What an answer says about the credentials that asked for it.
    fn learn(&self, _call: &Call<'_>, _signed: &[(String, String)], _answer: &Answer) {}
    /// Whether a refused request may go out again at once with other credentials.
    fn has_another(&self, _call: &Call<'_>, _signed: &[(String, String)]) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    Done,
    Unsupported,
}

/// A request that signs in; its answer holds a token.
#[async_trait]
pub trait Login: Send + Sync {
    async fn login(&self) -> Result<Arc<Answer>>;
}

/// No credentials at all.
pub struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn options(&self, _: Inject) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
}

/// What an authenticator needs to know about the requester it is for.
pub struct For<'a> {
    /// As written: the legacy session login is joined to it.
    pub url_base: Option<&'a str>,
    /// Makes the requester of a login.
    pub login: &'a dyn Fn(&Component<'_>) -> Result<Arc<dyn Login>>,
}

pub fn build(component: &Component<'_>, whose: &For<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    match component.kind() {
        "NoAuth" => Ok(Arc::new(Nobody)),
        "ApiKeyAuthenticator" => key::api_key(component, build),
        "BearerAuthenticator" => key::bearer(component, build),
        "BasicHttpAuthenticator" => key::basic(component, build),
        "OAuthAuthenticator" => oauth::oauth(component, whose, build),
        "JwtAuthenticator" => jwt::jwt(component, build),
        "SessionTokenAuthenticator" => session::session(component, whose, build),
        "LegacySessionTokenAuthenticator" => legacy::legacy(component, whose, build),
        "SelectiveAuthenticator" => selected(component, whose, build),
        "RateLimitedMultipleTokenAuthenticator" => rotating::rotating(component, build),
        _ => Err(component.unknown_kind()),
    }
}

/// The authenticator that the config chooses.
fn selected(component: &Component<'_>, whose: &For<'_>, of: &Build) -> Result<Arc<dyn Authenticator>> {
    let path: Vec<Step> =
        component.texts("authenticator_selection_path")?.unwrap_or_default().into_iter().map(|s| Step::of(&s.into())).collect();
    let chosen = dpath::get(&of.config, &path)?.map(text).ok_or_else(|| {
        component.error("the config does not say how to sign in").fix("set the field that authenticator_selection_path names")
    })?;
    let known = component.field("authenticators").and_then(Value::as_object);
    let found = known
        .and_then(|map| map.get(&chosen))
        .ok_or_else(|| component.error("the config names an authenticator that the manifest does not have"))?;
    build(&Component::new(found, format!("{}.authenticators.{chosen}", component.path()))?, whose, of)
}
