//! The older session login: a token of the config while it is valid, a login by name and password otherwise.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::{
    Authenticator, For,
    call::{self, Call},
};
use crate::{component::Component, inject::Inject, python::text, template::Template, wiring::Build};

/// How long a login counts.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);

pub fn legacy(component: &Component<'_>, whose: &For<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let optional = |name: &str| component.template(name)?.map_or_else(|| Template::parse("", component.parameters()), Ok);
    Ok(Arc::new(Legacy {
        api_url: Template::parse(whose.url_base.unwrap_or_default(), component.parameters())?,
        header: component.required_template("header")?,
        session_token: optional("session_token")?,
        response_key: optional("session_token_response_key")?,
        username: optional("username")?,
        password: optional("password")?,
        login_url: component.required_template("login_url")?,
        validate_url: component.required_template("validate_session_url")?,
        held: Mutex::new(None),
        build: build.clone(),
    }))
}

struct Legacy {
    api_url: Template,
    header: Template,
    session_token: Template,
    response_key: Template,
    username: Template,
    password: Template,
    login_url: Template,
    validate_url: Template,
    held: Mutex<Option<(String, Timestamp)>>,
    build: Build,
}

impl Legacy {
    async fn current(&self) -> Result<String> {
        let mut held = self.held.lock().await;
        let now = self.build.clock.now();
        if let Some((token, until)) = held.as_ref()
            && *until >= now
        {
            return Ok(token.clone());
        }
        let token = self.find().await?;
        *held = now.checked_add(A_DAY).ok().map(|until| (token.clone(), until));
        Ok(token)
    }

    async fn find(&self) -> Result<String> {
        let told = self.build.text(&self.session_token)?;
        if !told.is_empty() && self.is_valid(&told).await? {
            return Ok(told);
        }
        let (name, password) = (self.build.text(&self.username)?, self.build.text(&self.password)?);
        if name.is_empty() || password.is_empty() {
            return Err(Error::new(
                ErrorKind::AuthFailed,
                "the session token does not count any more, and there is no password to sign in with",
            )
            .fix("set a new session token, or username and password"));
        }
        self.sign_in(name, password).await
    }

    fn address(&self, path: &Template) -> Result<String> {
        Ok(format!("{}{}", self.build.text(&self.api_url)?, self.build.text(path)?))
    }

    async fn is_valid(&self, token: &str) -> Result<bool> {
        let headers = vec![(self.build.text(&self.header)?, token.to_owned())];
        let call = Call { method: Method::GET, url: self.address(&self.validate_url)?, headers, body: String::new(), body_type: "" };
        let answer = call::send(&call, &self.build).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED => Ok(false),
            status if answer.is_ok() => Ok(status.as_u16() < 400),
            status => Err(Error::new(ErrorKind::Unavailable, "the session token could not be checked").with("status", status.as_u16())),
        }
    }

    async fn sign_in(&self, name: String, password: String) -> Result<String> {
        let body = json!({"username": name, "password": password}).to_string();
        let call =
            Call { method: Method::POST, url: self.address(&self.login_url)?, headers: Vec::new(), body, body_type: "application/json" };
        let answer = call::send(&call, &self.build).await?;
        let key = self.build.text(&self.response_key)?;
        let token = answer.json().filter(|_| answer.is_ok()).and_then(|body| body.get(&key)).map(text);
        if let Some(token) = &token {
            self.build.hush(token);
        }
        token.ok_or_else(|| {
            Error::new(ErrorKind::AuthFailed, "signing in brought no session token")
                .with("status", answer.status.as_u16())
                .fix("check username and password")
        })
    }
}

#[async_trait]
impl Authenticator for Legacy {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        if into == Inject::Header {
            options.insert(self.build.text(&self.header)?, self.current().await?.into());
        }
        Ok(options)
    }
}
