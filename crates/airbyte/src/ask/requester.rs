//! A requester: one kind of request, made anew for every slice and page.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::input::Input;
use crate::{
    answer::Answer,
    auth::{self, Authenticator, For, Login, Nobody},
    component::Component,
    errors::{Handler, reject_paging_actions},
    form,
    inject::{Inject, Part, combine},
    python::text,
    slice::Slice,
    template::{Scope, Template},
    wiring::Build,
};

/// What a requester is told beside its component.
pub struct Setting<'a> {
    pub name: &'a str,
}

/// What paginator and cursor add to one request.
#[derive(Default)]
pub struct Extra {
    /// Goes in place of the requester's own path.
    pub path: Option<String>,
    pub parameters: Map<String, Value>,
    pub headers: Map<String, Value>,
    pub data: Map<String, Value>,
    pub json: Map<String, Value>,
}

impl Extra {
    fn part(&mut self, into: Inject) -> Part {
        Part::Fields(std::mem::take(match into {
            Inject::Parameter => &mut self.parameters,
            Inject::Header => &mut self.headers,
            Inject::BodyData => &mut self.data,
            Inject::BodyJson => &mut self.json,
        }))
    }
}

/// What came of asking.
#[derive(Debug)]
pub enum Asked {
    /// An answer to be read; one from 400 on means that it is to be passed over.
    Answer(Arc<Answer>),
    ResetPagination,
    ReducePageSize(Option<String>),
    SplitRequestWindow(Option<String>),
}

pub struct Requester {
    pub(super) name: String,
    url: Option<Template>,
    url_base: Option<Template>,
    path: Option<Template>,
    method: Method,
    input: Input,
    pub(super) auth: Arc<dyn Authenticator>,
    pub(super) handler: Handler,
    pub(super) use_cache: bool,
    pub(super) patience: Option<std::time::Duration>,
    pub(super) build: Build,
}

/// One request, ready to be sent as often as it takes.
pub struct Draft {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// Headers that come from the authenticator: they are asked for anew at every attempt, and hold secrets.
    pub signed: Vec<(String, String)>,
    pub body: Bytes,
    pub body_type: Option<&'static str>,
}

impl Requester {
    pub fn build(component: &Component<'_>, setting: &Setting<'_>, build: &Build) -> Result<Self> {
        if component.kind() != "HttpRequester" {
            return Err(component.unknown_kind());
        }
        let login = |c: &Component<'_>| -> Result<Arc<dyn Login>> {
            reject_paging_actions(c)?;
            let name = format!("{}_login_requester", setting.name);
            Ok(Arc::new(Self::build(c, &Setting { name: &name }, build)?))
        };
        let whose = For { url_base: component.text("url")?.or(component.text("url_base")?), login: &login };
        let auth = component.child("authenticator")?.map(|c| auth::build(&c, &whose, build)).transpose()?;
        let handler = component.child("error_handler")?.map(|c| Handler::build(&c, build)).transpose()?;
        let method = component.text("http_method")?.unwrap_or("GET");
        Ok(Self {
            name: setting.name.to_owned(),
            url: component.template("url")?,
            url_base: component.template("url_base")?,
            path: component.template("path")?,
            method: Method::from_bytes(method.as_bytes()).map_err(|_| component.error("not an HTTP method").with("http_method", method))?,
            input: Input::build(component)?,
            auth: auth.unwrap_or_else(|| Arc::new(Nobody)),
            handler: handler.unwrap_or_else(Handler::standard),
            use_cache: component.flag("use_cache")?.unwrap_or(false),
            patience: component.number("read_timeout_in_seconds")?.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok()),
            build: build.clone(),
        })
    }

    /// Sends the request for one page of a slice, and again as the error handler says.
    pub async fn ask(&self, slice: &Slice, token: &Value, extra: Extra) -> Result<Asked> {
        let draft = self.draft(slice, token, extra).await?;
        self.send(draft).await
    }

    async fn draft(&self, slice: &Slice, token: &Value, mut extra: Extra) -> Result<Draft> {
        let url = self.address(slice, token, extra.path.take())?;
        let mut parts = Vec::with_capacity(4);
        for into in [Inject::Header, Inject::Parameter, Inject::BodyJson, Inject::BodyData] {
            let own = self.input.part(into, &self.scope(slice, token), slice.extra())?;
            let signed = Part::Fields(self.auth.options(into).await?);
            parts.push((signed.clone(), combine([own, signed, extra.part(into)], into.merge())?));
        }
        let mut parts = parts.into_iter();
        let mut next = || parts.next().expect("four parts were made");
        let (signed, headers) = next();
        let (_, parameters) = next();
        let ((_, json), (_, data)) = (next(), next());
        let (body, body_type) = body(&self.method, json, data)?;
        let mut headers = texts(headers)?;
        let signed = texts(signed)?;
        headers.retain(|(name, _)| !signed.iter().any(|(n, _)| n == name));
        Ok(Draft {
            method: self.method.clone(),
            url: form::with_query(&url, &parameters_of(parameters)?),
            headers,
            signed,
            body,
            body_type,
        })
    }

    fn scope<'a>(&'a self, slice: &'a Slice, token: &'a Value) -> Scope<'a> {
        let mut scope = self.build.scope().slice(slice).next_page_token(token);
        for (name, value) in slice.extra() {
            scope = scope.with(name, value);
        }
        scope
    }

    fn address(&self, slice: &Slice, token: &Value, path: Option<String>) -> Result<String> {
        let scope = self.scope(slice, token);
        let text = |template: &Option<Template>| template.as_ref().map_or(Ok(String::new()), |t| t.text(&scope));
        let (url, base) = (text(&self.url)?, text(&self.url_base)?);
        let path = match path.filter(|p| !p.is_empty()) {
            Some(path) => path,
            None => text(&self.path)?.trim_start_matches('/').trim_start_matches(|c: char| c <= ' ').to_owned(),
        };
        let whole = if base.is_empty() { form::join(&url, &path) } else { form::join(&base, &path) };
        if whole.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the request has no address").fix("set url_base or url"));
        }
        Ok(whole)
    }
}

#[async_trait]
impl Login for Requester {
    async fn login(&self) -> Result<Arc<Answer>> {
        match self.ask(&Slice::empty(), &Value::Null, Extra::default()).await? {
            Asked::Answer(answer) => Ok(answer),
            _ => Err(Error::new(ErrorKind::ConfigInvalid, "a login has no pages and no windows").with("requester", &self.name)),
        }
    }
}

fn texts(part: Part) -> Result<Vec<(String, String)>> {
    match part {
        Part::Fields(fields) => Ok(fields.iter().map(|(name, value)| (name.clone(), text(value))).collect()),
        Part::Text(_) => Err(Error::new(ErrorKind::ConfigInvalid, "headers must be names with values")),
    }
}

fn parameters_of(part: Part) -> Result<Map<String, Value>> {
    let Part::Fields(fields) = part else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "parameters must be names with values"));
    };
    match fields.iter().find(|(_, value)| value.is_object()) {
        Some((name, _)) => Err(Error::new(ErrorKind::ConfigInvalid, "a parameter cannot be an object").with("parameter", name)),
        None => Ok(fields),
    }
}

/// The body, for methods that have one.
fn body(method: &Method, json: Part, data: Part) -> Result<(Bytes, Option<&'static str>)> {
    if ![Method::GET, Method::POST, Method::PUT, Method::PATCH].contains(method) {
        return Ok((Bytes::new(), None));
    }
    let json = match json {
        Part::Fields(fields) => fields,
        Part::Text(_) => return Err(Error::new(ErrorKind::ConfigInvalid, "a JSON body must be names with values")),
    };
    let has_data = !matches!(&data, Part::Fields(fields) if fields.is_empty());
    match (json.is_empty(), has_data) {
        (true, false) => Ok((Bytes::new(), None)),
        (false, true) => Err(Error::new(ErrorKind::ConfigInvalid, "a request has one body").fix("keep either body_json or body_data")),
        (false, false) => Ok((Bytes::from(serde_json::to_vec(&json).unwrap_or_default()), Some("application/json"))),
        (true, true) => Ok(match data {
            Part::Text(text) => (Bytes::from(text), None),
            Part::Fields(fields) => (Bytes::from(form::encoded(fields.iter())), Some("application/x-www-form-urlencoded")),
        }),
    }
}
