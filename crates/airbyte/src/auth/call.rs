//! Plain calls to token endpoints, without handlers and templates.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use linkspan_core::{Body, Error, ErrorKind, Holding, Result};
use linkspan_http::Redirects;

use crate::{answer::Answer, wiring::Build};

/// Answers of token endpoints are small.
const LARGEST: usize = 4 << 20;

pub struct Call {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub body_type: &'static str,
}

impl Call {
    /// Its address, headers and body are never part of an error.
    fn request(&self) -> Result<Request<Bytes>> {
        let invalid = |what: &'static str| Error::new(ErrorKind::ConfigInvalid, what).fix("check the authenticator's settings");
        let mut request = Request::new(Bytes::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.parse().map_err(|_| invalid("the token endpoint is no address"))?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.body_type));
        }
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header of the token request has no proper name"))?;
            let mut value =
                HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid("a header of the token request has no proper value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(request)
    }
}

/// Sends the call once.
pub async fn send(call: &Call, build: &Build) -> Result<Answer> {
    let mut request = call.request()?.map(Body::Full);
    request.extensions_mut().insert(Redirects::Follow(30));
    let (parts, body) = build.http.send(request).await?.into_parts();
    Ok(Answer::new(parts.status, parts.headers, "", body.bytes(LARGEST).await?))
}

/// Sends the call by whoever sees to it that its answer is not lost: it uses up what `spends` names.
pub async fn spend(call: &Call, spends: &str, holding: &dyn Holding) -> Result<Answer> {
    let (parts, body) = holding.spend(spends, call.request()?).await?.into_parts();
    Ok(Answer::new(parts.status, parts.headers, "", body))
}
