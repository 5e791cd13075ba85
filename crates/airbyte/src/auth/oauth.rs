//! OAuth: access tokens from a token endpoint, refreshed by one caller while the others wait; rotated refresh tokens are handed out
//! before they are used.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use linkspan_core::{Error, ErrorKind, Holding, Result, Retry};
use serde_json::{Map, Value};

use super::{
    Authenticator, For, Refresh,
    call::{self, Call},
    times,
};
use crate::{
    answer::Answer,
    component::Component,
    dpath::Step,
    form,
    inject::Inject,
    kept::InHand,
    python::text,
    template::{Condition, Mapping, Template},
    tokens::Held,
    wiring::Build,
};

/// So often a token endpoint that fails is asked.
const TRIES: u32 = 10;
/// A token of which nothing else is known counts for an hour.
const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);

pub fn oauth(component: &Component<'_>, whose: &For<'_>, of: &Build) -> Result<Arc<dyn Authenticator>> {
    let uses_assertion = component.condition("use_profile_assertion")?.map_or(Ok(false), |c| match c {
        Condition::Always(fixed) => Ok(fixed),
        asked => asked.eval(&of.scope()),
    })?;
    let assertion = match component.child("profile_assertion")? {
        Some(assertion) => Some(super::build(&assertion, whose, of)?),
        None if uses_assertion => return Err(component.error("use_profile_assertion needs a profile_assertion")),
        None => None,
    };
    let rotates = component.child("refresh_token_updater")?;
    let oauth = Inner {
        wire: Wire::build(component, rotates.as_ref(), uses_assertion)?,
        assertion: assertion.filter(|_| uses_assertion),
        // Where tokens are used once, the config says what is known.
        known: if rotates.is_some() { None } else { known(component, of)? },
        rejections: Rejections::build(component, rotates.as_ref())?,
        paths: rotates.as_ref().map(Paths::build).transpose()?,
        build: of.clone(),
    };
    oauth.check(component)?;
    Ok(Arc::new(OAuth(Arc::new(oauth))))
}

/// The token that the config brings along, with its end.
fn known(component: &Component<'_>, build: &Build) -> Result<Option<Held>> {
    let Some(template) = component.template("access_token_value")? else { return Ok(None) };
    let token = template.value(&build.scope())?;
    let until = match component.template("token_expiry_date")?.filter(|t| !t.source().is_empty()) {
        None => Timestamp::UNIX_EPOCH,
        Some(date) => times::moment(&date.value(&build.scope())?).ok_or_else(|| component.error("token_expiry_date is no date"))?,
    };
    Ok((!token.is_null()).then(|| Held { token: text(&token), until }))
}

/// How the token endpoint is spoken to.
struct Wire {
    endpoint: Option<Template>,
    /// Names of fields, then their values.
    grant_type: (Template, Template),
    client_id: (Template, Option<Template>),
    client_secret: (Template, Option<Template>),
    refresh_token: (Template, Option<Template>),
    access_token_name: Template,
    expires_in_name: Template,
    scopes: Vec<Value>,
    body: Option<Mapping>,
    headers: Option<Mapping>,
    as_query: bool,
    /// Answers say when a token ends, not how long it lasts.
    tells_end: bool,
}

impl Wire {
    fn build(component: &Component<'_>, rotates: Option<&Component<'_>>, uses_assertion: bool) -> Result<Self> {
        let named =
            |field: &str, default: &str| component.template(field)?.map_or_else(|| Template::parse(default, component.parameters()), Ok);
        let given = |field: &str| Ok::<_, Error>(component.template(field)?.filter(|t| !t.source().is_empty()));
        let refresh_name = match rotates {
            Some(updater) => {
                updater.template("refresh_token_name")?.map_or_else(|| Template::parse("refresh_token", updater.parameters()), Ok)?
            }
            None => named("refresh_token_name", "refresh_token")?,
        };
        let grant = match uses_assertion {
            true => Template::parse("urn:ietf:params:oauth:grant-type:jwt-bearer", component.parameters())?,
            false => named("grant_type", "refresh_token")?,
        };
        Ok(Self {
            endpoint: given("token_refresh_endpoint")?,
            grant_type: (named("grant_type_name", "grant_type")?, grant),
            client_id: (named("client_id_name", "client_id")?, given("client_id")?),
            client_secret: (named("client_secret_name", "client_secret")?, component.template("client_secret")?),
            // An empty one is one: some APIs want the field and nothing in it.
            refresh_token: (refresh_name, component.template("refresh_token")?),
            access_token_name: named("access_token_name", "access_token")?,
            expires_in_name: named("expires_in_name", "expires_in")?,
            scopes: component.field("scopes").and_then(Value::as_array).cloned().unwrap_or_default(),
            body: component.mapping("refresh_request_body")?,
            headers: component.mapping("refresh_request_headers")?,
            as_query: component.flag("send_refresh_request_as_query_params")?.unwrap_or(false),
            tells_end: component.field("token_expiry_date_format").is_some(),
        })
    }
}

/// Where the config keeps rotated tokens.
struct Paths {
    access_token: Vec<Step>,
    refresh_token: Vec<Step>,
    expires: Vec<Step>,
    client_id: Vec<Step>,
    client_secret: Vec<Step>,
}

impl Paths {
    fn build(updater: &Component<'_>) -> Result<Self> {
        let steps = |names: &[&str]| -> Vec<Step> { names.iter().map(|n| Step::of(&(*n).into())).collect() };
        let path =
            |field: &str, name: &str| Ok::<_, Error>(updater.texts(field)?.map_or_else(|| steps(&["credentials", name]), |p| steps(&p)));
        Ok(Self {
            access_token: path("access_token_config_path", "access_token")?,
            refresh_token: path("refresh_token_config_path", "refresh_token")?,
            expires: path("token_expiry_date_config_path", "token_expiry_date")?,
            client_id: steps(&["credentials", "client_id"]),
            client_secret: steps(&["credentials", "client_secret"]),
        })
    }
}

/// Which answers mean that the refresh token itself is refused.
struct Rejections {
    codes: Vec<u64>,
    key: String,
    values: Vec<String>,
}

impl Rejections {
    fn build(component: &Component<'_>, rotates: Option<&Component<'_>>) -> Result<Self> {
        const FIELDS: [&str; 3] = ["refresh_token_error_status_codes", "refresh_token_error_key", "refresh_token_error_values"];
        let says = |c: &&Component<'_>| FIELDS.iter().any(|f| c.field(f).is_some());
        let source = match (rotates.filter(|c| says(c)), Some(component).filter(|c| says(c))) {
            (Some(_), Some(_)) => return Err(component.error("the answers to a refused refresh token are described twice")),
            (source, other) => source.or(other),
        };
        let Some(source) = source else {
            return Ok(Self { codes: vec![400], key: "error".into(), values: vec!["invalid_grant".into(), "invalid_permissions".into()] });
        };
        let list = |field: &str| source.field(field).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Self {
            codes: list(FIELDS[0]).iter().filter_map(Value::as_u64).collect(),
            key: source.text(FIELDS[1])?.unwrap_or_default().to_owned(),
            values: list(FIELDS[2]).iter().map(text).collect(),
        })
    }
    fn fit(&self, answer: &Answer) -> bool {
        let word = answer.json().and_then(|body| body.get(&self.key)).map(text);
        self.codes.contains(&u64::from(answer.status.as_u16())) && word.is_some_and(|w| self.values.contains(&w))
    }
}

/// A refresh goes on although the caller that began it is given up: the provider may have used up the old token by then.
struct OAuth(Arc<Inner>);

struct Inner {
    wire: Wire,
    assertion: Option<Arc<dyn Authenticator>>,
    known: Option<Held>,
    rejections: Rejections,
    /// Set when refresh tokens are used once: the config then holds the tokens.
    paths: Option<Paths>,
    build: Build,
}

/// Tokens that were just given.
struct New {
    token: String,
    refresh_token: Option<Value>,
    until: Timestamp,
}

impl Inner {
    fn check(&self, component: &Component<'_>) -> Result<()> {
        if self.paths.is_some() || self.assertion.is_some() {
            return Ok(());
        }
        if self.wire.client_id.1.is_none() || self.wire.client_secret.1.is_none() {
            return Err(component.error("OAuth needs client_id and client_secret"));
        }
        if self.build.text(&self.wire.grant_type.1)? == "refresh_token" && self.wire.refresh_token.1.is_none() {
            return Err(component.error("the grant type refresh_token needs a refresh_token"));
        }
        Ok(())
    }

    async fn current(self: Arc<Self>) -> Result<String> {
        if self.wire.endpoint.is_none() && self.paths.is_none() {
            let none = || Error::new(ErrorKind::ConfigInvalid, "OAuth has neither a token nor an endpoint that gives one");
            return self.known.as_ref().map(|held| held.token.clone()).ok_or_else(none);
        }
        let key = self.key()?;
        match self.valid(&key) {
            Some(token) => Ok(token),
            None => {
                detached(async move {
                    let _one_at_a_time = self.build.shared.refreshing.lock().await;
                    match self.valid(&key) {
                        Some(token) => Ok(token),
                        None => self.renew(&key, None).await,
                    }
                })
                .await
            }
        }
    }

    /// A new token, unless there is a newer one than the one that was sent.
    async fn replaced(self: Arc<Self>, sent: Option<String>) -> Result<Refresh> {
        let key = self.key()?;
        detached(async move {
            let _one_at_a_time = self.build.shared.refreshing.lock().await;
            if self.newer(&key, sent.as_deref()).is_none() {
                self.renew(&key, Some(sent.as_deref())).await?;
            }
            Ok(Refresh::Done)
        })
        .await
    }

    /// The token of now, whether it still counts or not.
    fn held(&self, key: &str) -> Option<Held> {
        let Some(paths) = &self.paths else { return self.build.shared.tokens.get(key).or_else(|| self.known.clone()) };
        let token = self.build.config_now(&paths.access_token).map(|v| text(&v)).unwrap_or_default();
        let until = self.build.config_now(&paths.expires).and_then(|v| times::moment(&v)).unwrap_or(Timestamp::UNIX_EPOCH);
        Some(Held { token, until })
    }

    fn valid(&self, key: &str) -> Option<String> {
        self.held(key).filter(|held| self.build.clock.now() <= held.until).map(|held| held.token)
    }

    /// A token that is not the one that was sent.
    fn newer(&self, key: &str, sent: Option<&str>) -> Option<String> {
        let held = self.held(key)?;
        sent.is_some_and(|sent| sent != format!("Bearer {}", held.token)).then_some(held.token)
    }

    /// What makes two streams ask for the same token.
    fn key(&self) -> Result<String> {
        if self.paths.is_some() {
            return Ok(String::new());
        }
        let word = |template: &Option<Template>| template.as_ref().map_or(Ok(String::new()), |t| self.build.text(t));
        let parts = [word(&self.wire.endpoint)?, word(&self.wire.client_id.1)?, word(&self.wire.refresh_token.1)?];
        let more =
            (&self.wire.scopes, self.mapped(&self.wire.body)?, self.mapped(&self.wire.headers)?, self.build.text(&self.wire.grant_type.1)?);
        let names = [&self.wire.grant_type.0, &self.wire.client_id.0, &self.wire.client_secret.0, &self.wire.refresh_token.0];
        let names =
            names.into_iter().chain([&self.wire.access_token_name]).map(|name| self.build.text(name)).collect::<Result<Vec<_>>>()?;
        serde_json::to_string(&(parts, names, more, self.known.as_ref().map(|k| &k.token)))
            .map_err(|e| Error::new(ErrorKind::Internal, "a token has no name").because(e))
    }

    fn mapped(&self, mapping: &Option<Mapping>) -> Result<Map<String, Value>> {
        mapping.as_ref().map_or_else(|| Ok(Map::new()), |m| m.eval(&self.build.scope()))
    }

    /// Gets a new token; the caller holds the lock. `sent`: the token that was refused, where one was.
    async fn renew(&self, key: &str, sent: Option<Option<&str>>) -> Result<String> {
        let (Some(kept), Some(paths)) = (&self.build.kept, &self.paths) else { return self.renewed(key, None).await };
        let places = [paths.refresh_token.as_slice(), &paths.access_token, &paths.expires];
        let (hand, now) = kept.hold(&places).await?;
        self.build.adopt(now);
        // Another process may have been first: then its token is the one of now.
        let theirs = match sent {
            None => self.valid(key),
            Some(sent) => self.newer(key, sent),
        };
        match theirs {
            Some(token) => {
                self.build.hush(&token);
                Ok(token)
            }
            None => self.renewed(key, Some(hand)).await,
        }
    }

    async fn renewed(&self, key: &str, hand: Option<InHand<'_>>) -> Result<String> {
        let answer = self.asked(hand.as_ref().map(|hand| hand.holding.as_ref())).await?;
        let found = self.read(&answer, key);
        if let (Err(_), Some(hand)) = (&found, &hand) {
            hand.holding.discard().await;
        }
        let New { token, refresh_token, until } = found?;
        self.build.hush(&token);
        if let Some(Value::String(fresh)) = &refresh_token {
            self.build.hush(fresh);
        }
        match &self.paths {
            None => self.build.shared.tokens.put(key.to_owned(), Held { token: token.clone(), until }),
            Some(paths) => {
                let mut values = vec![(paths.access_token.as_slice(), Value::from(token.as_str()))];
                if let Some(fresh) = refresh_token {
                    values.push((&paths.refresh_token, fresh));
                }
                values.push((&paths.expires, times::written(until).into()));
                match hand {
                    Some(hand) => self.build.adopt(hand.keep(values).await?),
                    None => self.build.rotate(values)?,
                }
            }
        }
        Ok(token)
    }

    /// What an answer of the token endpoint brings.
    fn read(&self, answer: &Answer, key: &str) -> Result<New> {
        let body = answer.json().unwrap_or(&Value::Null);
        let find = |name: &Template| Ok::<_, Error>(found(body, &self.build.text(name)?, 0).cloned());
        let token = find(&self.wire.access_token_name)?.filter(crate::truth::is_true).map(|v| text(&v)).ok_or_else(|| {
            Error::new(ErrorKind::DataInvalid, "the token endpoint's answer holds no access token").fix("check access_token_name")
        })?;
        let until = self.end(find(&self.wire.expires_in_name)?, key)?;
        Ok(New { token, refresh_token: find(&self.wire.refresh_token.0)?, until })
    }

    fn end(&self, told: Option<Value>, key: &str) -> Result<Timestamp> {
        let now = self.build.clock.now();
        let invalid = || {
            Error::new(ErrorKind::DataInvalid, "the token endpoint says in no known way when the token ends")
                .fix("check expires_in_name and token_expiry_date_format")
        };
        match told {
            Some(value) if self.wire.tells_end => times::moment(&value).ok_or_else(invalid),
            Some(value) => times::after(now, &value).ok_or_else(invalid),
            None => match self.held(key).filter(|held| held.until >= now && !held.token.is_empty()) {
                Some(held) => Ok(held.until),
                None => now.checked_add(AN_HOUR).map_err(|_| invalid()),
            },
        }
    }

    async fn fields(&self, headers: &Map<String, Value>) -> Result<Map<String, Value>> {
        let name = |template: &Template| self.build.text(template);
        let mut fields = Map::new();
        fields.insert(name(&self.wire.grant_type.0)?, self.build.text(&self.wire.grant_type.1)?.into());
        if let Some(assertion) = &self.assertion {
            fields.insert("assertion".into(), assertion.token().await?.into());
            return Ok(fields);
        }
        if !headers.contains_key("Authorization") {
            let (id, secret) = self.client()?;
            if id.is_empty() {
                return Err(Error::new(ErrorKind::ConfigInvalid, "OAuth has no client id").fix("set client_id in the config"));
            }
            fields.insert(name(&self.wire.client_id.0)?, id.into());
            fields.insert(name(&self.wire.client_secret.0)?, secret.into());
        }
        if let Some(token) = self.refresh_token()? {
            fields.insert(name(&self.wire.refresh_token.0)?, token.into());
        }
        if !self.wire.scopes.is_empty() {
            fields.insert("scopes".into(), self.wire.scopes.clone().into());
        }
        for (key, value) in self.mapped(&self.wire.body)? {
            fields.entry(key).or_insert(value);
        }
        Ok(fields)
    }

    /// The config's own credentials come before those of the manifest when tokens are rotated.
    fn client(&self) -> Result<(String, String)> {
        let given = |template: &Option<Template>| template.as_ref().map_or(Ok(String::new()), |t| self.build.text(t));
        let (id, secret) = (given(&self.wire.client_id.1)?, given(&self.wire.client_secret.1)?);
        let Some(paths) = &self.paths else { return Ok((id, secret)) };
        let own = |path: &[Step]| self.build.config_now(path).map(|v| text(&v));
        Ok((own(&paths.client_id).unwrap_or(id), own(&paths.client_secret).unwrap_or(secret)))
    }

    fn refresh_token(&self) -> Result<Option<String>> {
        match &self.paths {
            Some(paths) => Ok(Some(self.build.config_now(&paths.refresh_token).map(|v| text(&v)).unwrap_or_default())),
            None => self.wire.refresh_token.1.as_ref().map(|t| self.build.text(t)).transpose(),
        }
    }

    /// Asks the token endpoint, again while it fails inside or breaks off: where it has used the refresh token up by then, nothing but a
    /// provider that forgives a quick repetition brings the connection back.
    async fn asked(&self, holding: Option<&dyn Holding>) -> Result<Answer> {
        let endpoint = self.wire.endpoint.as_ref().map(|t| self.build.text(t)).transpose()?.filter(|url| !url.is_empty());
        let endpoint = endpoint
            .ok_or_else(|| Error::new(ErrorKind::ConfigInvalid, "OAuth has no token endpoint").fix("set token_refresh_endpoint"))?;
        let headers = self.mapped(&self.wire.headers)?;
        let fields = self.fields(&headers).await?;
        let (url, body) = match self.wire.as_query && self.assertion.is_none() {
            true => (form::with_query(&endpoint, &fields), String::new()),
            false => (form::with_query(&endpoint, &Map::new()), form::encoded(fields.iter())),
        };
        let headers = headers.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), text(v))).collect();
        let call = Call { method: Method::POST, url, headers, body, body_type: "application/x-www-form-urlencoded" };
        let spends = self.spends()?;
        let mut wait = 1.0;
        for last in (0..TRIES).rev() {
            let came = match holding {
                Some(holding) => call::spend(&call, &spends, holding).await,
                None => call::send(&call, &self.build).await,
            };
            let problem = match came {
                Ok(answer) if answer.is_ok() => return Ok(answer),
                Ok(answer) if answer.status.as_u16() == 429 || answer.status.is_server_error() => refused(&answer, ErrorKind::Unavailable),
                Ok(answer) => return Err(self.rejected(&answer)),
                Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => e,
                Err(e) => return Err(e),
            };
            if last == 0 {
                return Err(problem.retry(Retry::Exhausted));
            }
            self.build.wait(wait).await;
            wait = f64::min(wait * 2.0, 60.0);
        }
        Err(Error::new(ErrorKind::Internal, "no try was made"))
    }

    /// Names the refresh token of now, as nothing that shows it.
    fn spends(&self) -> Result<String> {
        let token = self.refresh_token()?.unwrap_or_default();
        Ok(blake3::derive_key("linkspan 2026-11 a refresh token's name", token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect())
    }

    fn rejected(&self, answer: &Answer) -> Error {
        if self.rejections.fit(answer) {
            return Error::new(ErrorKind::AuthFailed, "the provider refuses the refresh token: it is invalid, expired, or was used before")
                .with("status", answer.status.as_u16())
                .fix("sign in again in the connection's settings");
        }
        refused(answer, ErrorKind::DataInvalid)
    }
}

fn refused(answer: &Answer, kind: ErrorKind) -> Error {
    Error::new(kind, "the token endpoint does not give a token").with("status", answer.status.as_u16())
}

/// A field by its name, wherever it is in the answer.
fn found<'a>(value: &'a Value, name: &str, depth: u8) -> Option<&'a Value> {
    if depth > 5 {
        return None;
    }
    match value {
        Value::Object(map) => match map.get(name) {
            Some(value) => Some(value).filter(|v| !v.is_null()),
            None => map.values().find_map(|inner| found(inner, name, depth + 1)),
        },
        Value::Array(items) => items.iter().find_map(|inner| found(inner, name, depth + 1)),
        _ => None,
    }
}

/// Runs to its end, whoever waits for it.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, "getting a token did not end").because(e))?
}

#[async_trait]
impl Authenticator for OAuth {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        if into == Inject::Header {
            options.insert("Authorization".into(), format!("Bearer {}", self.0.clone().current().await?).into());
        }
        Ok(options)
    }

    async fn refresh(&self, sent: Option<&str>) -> Result<Refresh> {
        self.0.clone().replaced(sent.map(str::to_owned)).await
    }
}
