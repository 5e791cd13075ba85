//! Credentials that the config holds as they are: keys, bearer tokens, names with passwords.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use linkspan_core::Result;
use serde_json::{Map, Value};

use super::Authenticator;
use crate::{
    component::Component,
    inject::{Inject, RequestOption},
    template::Template,
    wiring::Build,
};

pub fn api_key(component: &Component<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let place = place(component)?;
    let token = token(component)?;
    Ok(Arc::new(Key { place, token, build: build.clone() }))
}

/// Where an API key goes: an option, or the older `header`.
fn place(component: &Component<'_>) -> Result<RequestOption> {
    match (component.child("inject_into")?, component.template("header")?) {
        (Some(_), Some(_)) => Err(component.error("inject_into and header exclude each other").fix("remove header")),
        (Some(option), None) => RequestOption::build(&option),
        (None, Some(name)) => Ok(RequestOption::header(name)),
        (None, None) => Err(component.error("an API key needs inject_into")),
    }
}

fn token(component: &Component<'_>) -> Result<Template> {
    component.template("api_token")?.map_or_else(|| Template::parse("", component.parameters()), Ok)
}

struct Key {
    place: RequestOption,
    token: Template,
    build: Build,
}

#[async_trait]
impl Authenticator for Key {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        if self.place.inject_into() == into {
            self.place.inject(&mut options, self.build.text(&self.token)?.into(), &self.build)?;
            // A header without a name is no header.
            if into == Inject::Header {
                options.shift_remove("");
            }
        }
        Ok(options)
    }
}

pub fn bearer(component: &Component<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    Ok(Arc::new(Authorization::Bearer(token(component)?, build.clone())))
}

pub fn basic(component: &Component<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let password = component.template("password")?.map_or_else(|| Template::parse("", component.parameters()), Ok)?;
    Ok(Arc::new(Authorization::Basic(component.required_template("username")?, password, build.clone())))
}

/// What goes into the header of that name.
enum Authorization {
    Bearer(Template, Build),
    Basic(Template, Template, Build),
}

#[async_trait]
impl Authenticator for Authorization {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>> {
        if into != Inject::Header {
            return Ok(Map::new());
        }
        let value = match self {
            Self::Bearer(token, build) => format!("Bearer {}", build.text(token)?),
            Self::Basic(name, password, build) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", build.text(name)?, build.text(password)?)))
            }
        };
        Ok([("Authorization".to_owned(), value.into())].into_iter().collect())
    }
}
