//! Session tokens: a login request whose answer holds the credential.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{Span, Timestamp, tz::TimeZone};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::{Authenticator, For, Login};
use crate::{
    component::Component,
    decode::Decoder,
    dpath::{self, Step},
    inject::{Inject, RequestOption},
    python::text,
    template::Template,
    wiring::Build,
};

pub fn session(component: &Component<'_>, whose: &For<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let path = component.texts("session_token_path")?.unwrap_or_default();
    let lasts = component.text("expiration_duration")?.map(|text| duration(component, text)).transpose()?;
    let wanted = component.required("request_authentication")?;
    let place = match wanted.kind() {
        "Bearer" => Place::Bearer,
        "ApiKey" => Place::Key {
            option: RequestOption::build(&wanted.required("inject_into")?)?,
            template: wanted.template("api_token")?.filter(|t| !t.source().is_empty()),
        },
        _ => return Err(wanted.unknown_kind()),
    };
    Ok(Arc::new(Session {
        login: (whose.login)(&component.required("login_requester")?)?,
        decoder: Decoder::build(component.child("decoder")?.as_ref())?,
        path: path.into_iter().map(|step| Step::of(&step.into())).collect(),
        lasts,
        place,
        held: Mutex::new(None),
        build: build.clone(),
    }))
}

fn duration(component: &Component<'_>, text: &str) -> Result<Span> {
    crate::cursor::duration(text).map_err(|e| component.error("expiration_duration is no ISO 8601 duration").because(e))
}

struct Session {
    login: Arc<dyn Login>,
    decoder: Decoder,
    path: Vec<Step>,
    /// Without it a login is made for every request.
    lasts: Option<Span>,
    place: Place,
    held: Mutex<Option<(String, Timestamp)>>,
    build: Build,
}

enum Place {
    Bearer,
    Key { option: RequestOption, template: Option<Template> },
}

impl Session {
    /// The token, from a login where there is none that still counts. Callers wait for one login.
    async fn current(&self) -> Result<String> {
        let mut held = self.held.lock().await;
        if let Some((token, until)) = held.as_ref()
            && *until >= self.build.clock.now()
        {
            return Ok(token.clone());
        }
        let answer = self.login.login().await?;
        let body = self.decoder.first(&answer)?;
        let token = dpath::get(&body, &self.path)?.map(text).ok_or_else(|| {
            Error::new(ErrorKind::AuthFailed, "the login's answer holds no session token")
                .fix("check session_token_path and the credentials")
        })?;
        self.build.hush(&token);
        if let Some(lasts) = self.lasts {
            let until = self.build.clock.now().to_zoned(TimeZone::UTC).checked_add(lasts).map(|z| z.timestamp()).unwrap_or(Timestamp::MAX);
            *held = Some((token.clone(), until));
        }
        Ok(token)
    }
}

#[async_trait]
impl Authenticator for Session {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        match &self.place {
            Place::Bearer if into == Inject::Header => {
                options.insert("Authorization".into(), format!("Bearer {}", self.current().await?).into());
            }
            Place::Key { option, template } if option.inject_into() == into => {
                let token = self.current().await?;
                let token = match template {
                    None => token,
                    Some(template) => template.text(&self.build.scope().with("session_token", &Value::from(token)))?,
                };
                option.inject(&mut options, token.into(), &self.build)?;
            }
            _ => {}
        }
        Ok(options)
    }
}
