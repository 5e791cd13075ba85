//! The one way to an operation: the HTTP API, over the wire or through the router in this process.

use std::sync::Arc;

use bytes::BytesMut;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{Method, Request, Response, StatusCode, header, request};
use linkspan_app::{App, Caller};
use linkspan_core::{Body, Effect, Error, ErrorKind, Http, Result, Retry, Secret};
use linkspan_http::Policy;
use linkspan_server::{Door, Trusted, local};
use serde_json::{Map, Value};

use super::{at::Place, form::Part};
use crate::{cli::Common, house};

/// The largest answer that is read whole.
const LARGEST: usize = 256 << 20;

pub struct Client {
    way: Way,
    project: Option<String>,
}

enum Way {
    Wire { http: Arc<dyn Http>, server: String, credential: Option<Secret> },
    Here { router: local::Router, house: house::House },
}

impl Client {
    pub async fn open(place: &Place, common: &Common) -> Result<Self> {
        let context = crate::context(Policy::Open)?;
        let way = match &place.server {
            Some(server) => Way::Wire { http: context.http, server: server.clone(), credential: place.credential.clone() },
            None => {
                let house = house::House::open(common.data_dir.as_ref(), context).await?;
                let door = Door::new(house.app.clone());
                Way::Here { router: local::Router::new(&door), house }
            }
        };
        Ok(Self { way, project: place.project.clone() })
    }
    pub async fn close(&self) {
        if let Way::Here { house, .. } = &self.way {
            house.close().await;
        }
    }

    /// The app, where this process has it.
    pub fn app(&self) -> Option<&Arc<App>> {
        match &self.way {
            Way::Here { house, .. } => Some(&house.app),
            Way::Wire { .. } => None,
        }
    }
    /// The answer of an operation; `Null` when it says nothing.
    pub async fn call(&self, method: &Method, path: &str, fields: &Map<String, Value>) -> Result<Value> {
        answer(self.send(method, path, fields, "application/json").await?).await
    }
    /// The answers of an operation that goes on.
    pub async fn watch(&self, method: &Method, path: &str, fields: &Map<String, Value>) -> Result<BoxStream<'static, Result<Value>>> {
        let response = self.send(method, path, fields, "application/x-ndjson").await?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            return Err(refused(parts.status, &body.bytes(LARGEST).await?));
        }
        Ok(lines(body.into_stream()))
    }

    /// The answer of an operation that takes a form with one file. `passed` is told of the bytes that went.
    pub async fn upload(&self, path: &str, file: Part, passed: impl Fn(u64) + Send + Sync + 'static) -> Result<Value> {
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let request = Request::builder()
            .method(Method::POST)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .extension(Effect::Changes);
        let response = self.asked(request, path, Body::Stream(file.form(&boundary, passed))).await?;
        answer(response).await
    }

    async fn send(&self, method: &Method, path: &str, fields: &Map<String, Value>, accept: &str) -> Result<Response<Body>> {
        let in_query = *method == Method::GET || *method == Method::DELETE;
        let path = if in_query { format!("{path}{}", query(fields)) } else { path.to_owned() };
        let body = if in_query || fields.is_empty() { String::new() } else { Value::Object(fields.clone()).to_string() };
        let mut request = Request::builder().method(method).header(header::ACCEPT, accept);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.asked(request, &path, Body::Full(body.into())).await
    }

    async fn asked(&self, mut request: request::Builder, path: &str, body: Body) -> Result<Response<Body>> {
        if let Some(project) = &self.project {
            request = request.header("linkspan-project", project);
        }
        let wrong = |e: http::Error| {
            Error::new(ErrorKind::ConfigInvalid, "the request cannot be written").fix("check --server and --project").because(e)
        };
        match &self.way {
            Way::Wire { http, server, credential } => {
                if let Some(credential) = credential {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {}", credential.expose()));
                }
                let request = request.uri(format!("{server}{path}")).body(body).map_err(wrong)?;
                http.send(request).await.map_err(|e| e.with("server", server).fix("check --server, and that `linkspan serve` runs there"))
            }
            Way::Here { router, .. } => {
                let request = request.uri(path).extension(Trusted(Caller::local())).body(body).map_err(wrong)?;
                Ok(router.send(request).await)
            }
        }
    }
}

async fn answer(response: Response<Body>) -> Result<Value> {
    let (parts, body) = response.into_parts();
    let bytes = body.bytes(LARGEST).await?;
    if !parts.status.is_success() {
        return Err(refused(parts.status, &bytes));
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|e| no_linkspan(parts.status).because(e))
}

/// A path's segment, whatever it holds.
pub fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn query(fields: &Map<String, Value>) -> String {
    let one = |name: &str, value: &Value| format!("{name}={}", escaped(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    let pairs: Vec<String> = fields
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Array(items) => items.iter().map(|item| one(name, item)).collect(),
            value => vec![one(name, value)],
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn lines(body: BoxStream<'static, Result<bytes::Bytes>>) -> BoxStream<'static, Result<Value>> {
    let state = (body, BytesMut::new());
    stream::try_unfold(state, |(mut body, mut so_far)| async move {
        loop {
            while let Some(end) = so_far.iter().position(|b| *b == b'\n') {
                let line = so_far.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let value: Value = serde_json::from_slice(&line).map_err(|e| no_linkspan(StatusCode::OK).because(e))?;
                return match value.get("error").is_some_and(|e| e["kind"].is_string() && e["message"].is_string())
                    && value.as_object().is_some_and(|o| o.len() == 1)
                {
                    true => Err(told(&value["error"]).unwrap_or_else(|| no_linkspan(StatusCode::OK))),
                    false => Ok(Some((value, (body, so_far)))),
                };
            }
            match body.next().await {
                Some(piece) => so_far.extend_from_slice(&piece?),
                None => return Ok(None),
            }
        }
    })
    .boxed()
}

/// The server's own words, or that there were none.
fn refused(status: StatusCode, body: &[u8]) -> Error {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    said.and_then(|v| told(&v["error"])).unwrap_or_else(|| no_linkspan(status))
}

fn told(error: &Value) -> Option<Error> {
    let kind: ErrorKind = serde_json::from_value(error["kind"].clone()).ok()?;
    let mut told = Error::new(kind, error["message"].as_str()?.to_owned()).retry(Retry::Never);
    for (key, value) in error["context"].as_object().into_iter().flatten() {
        // Few, and the process ends soon.
        let key: &'static str = Box::leak(key.clone().into_boxed_str());
        told = told.with(key, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    if let Some(fix) = error["suggested_fix"].as_str() {
        told = told.fix(fix.to_owned());
    }
    if let Some(docs) = error["docs_url"].as_str() {
        told = told.docs(docs.to_owned());
    }
    Some(told)
}

fn no_linkspan(status: StatusCode) -> Error {
    Error::new(ErrorKind::Unavailable, "what answered there does not speak like a linkspan server")
        .with("status", status.as_u16())
        .fix("check --server")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use serde_json::json;

    #[test]
    fn a_refusal_is_the_server_s_own_words() {
        let body =
            json!({"error": {"kind": "not_found", "message": "no such key", "suggested_fix": "list them", "context": {"key": "ci"}}});
        let e = refused(StatusCode::NOT_FOUND, body.to_string().as_bytes());
        assert_eq!((e.kind(), e.message(), e.suggested_fix()), (ErrorKind::NotFound, "no such key", Some("list them")));
        assert_eq!(e.context(), [("key", "ci".to_owned())]);
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn lists_repeat_and_everything_is_escaped() {
        let Value::Object(fields) = json!({"status": ["a b", "c"], "limit": 5, "refresh": true}) else { panic!("an object") };
        assert_eq!(query(&fields), "?status=a%20b&status=c&limit=5&refresh=true");
        assert_eq!(escaped("a/b?"), "a%2Fb%3F");
    }

    #[tokio::test]
    async fn lines_are_put_together_and_an_error_ends_them() {
        let pieces = ["{\"n\":", "1}\n\n{\"n\":2}\n", "{\"error\":{\"kind\":\"unavailable\",\"message\":\"gone\"}}\n"];
        let body = stream::iter(pieces.map(|p| Ok(bytes::Bytes::from_static(p.as_bytes())))).boxed();
        let mut items = lines(body);
        assert_eq!(items.try_next().await.unwrap(), Some(json!({"n": 1})));
        assert_eq!(items.try_next().await.unwrap(), Some(json!({"n": 2})));
        assert_eq!(items.try_next().await.unwrap_err().message(), "gone");
    }
}
