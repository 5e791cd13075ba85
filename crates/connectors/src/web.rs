//! What connectors that speak HTTP share: one request whose answer is wanted whole, and what its status means.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use linkspan_core::{Body, Context, Error, ErrorKind, Result, Secret};
use linkspan_http::Redirects;
use serde::de::DeserializeOwned;

/// How many hops a request follows; each is judged by the guard.
const MOST_REDIRECTS: u8 = 10;

/// The headers of a config. Their values are marked as secrets, so that a redirect to another host does not take them along.
pub(crate) fn headers(given: &BTreeMap<String, Secret>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let (Ok(known), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::from_str(value.expose())) else {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a header cannot be sent")
                .with("field", "headers")
                .fix("give a name without spaces or colons, and a value without line breaks"));
        };
        value.set_sensitive(true);
        headers.insert(known, value);
    }
    Ok(headers)
}

/// Gets a JSON document of at most so many bytes. Errors name neither URL nor body: either may hold a secret.
pub(crate) async fn get_json<T: DeserializeOwned>(ctx: &Context, url: &str, headers: &HeaderMap, most: usize) -> Result<T> {
    let wrong = |e: http::Error| Error::new(ErrorKind::ConfigInvalid, "not a URL").fix("write https://host/path").because(e);
    let mut request = Request::get(url).body(Body::empty()).map_err(wrong)?;
    *request.headers_mut() = headers.clone();
    request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    request.extensions_mut().insert(Redirects::Follow(MOST_REDIRECTS));
    let answer = ctx.http.send(request).await?;
    if !answer.status().is_success() {
        return Err(of_status(answer.status().as_u16()));
    }
    let body = answer.into_body().bytes(most).await?;
    // The text of the error would quote the document.
    serde_json::from_slice(&body).map_err(|e| match e.is_eof() {
        true => Error::new(ErrorKind::Unavailable, "the answer is empty or was cut off").fix("run again later"),
        false => Error::new(ErrorKind::DataInvalid, "the answer is not the JSON that was expected")
            .with("line", e.line())
            .fix("look at the URL with a browser: it must answer with what the connector's page describes"),
    })
}

/// What a status other than success means, by the remedy.
pub(crate) fn of_status(status: u16) -> Error {
    use ErrorKind::*;
    let (kind, fix) = match status {
        401 => (AuthFailed, "check the credentials in the config"),
        403 => (PermissionDenied, "give the credentials the right to read this"),
        404 | 410 => (NotFound, "check the URL"),
        408 | 504 => (Timeout, "run again later"),
        429 => (RateLimited, "read less often, or ask for a higher limit"),
        400..500 => (Unsupported, "check the URL: the server does not take this request"),
        500.. => (Unavailable, "the server has a fault: run again later"),
        _ => (Unavailable, "the server answered with a status that is no answer: check the URL"),
    };
    Error::new(kind, "the server did not answer with data").with("status", status).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_remedy() {
        for (status, kind) in
            [(401, ErrorKind::AuthFailed), (404, ErrorKind::NotFound), (422, ErrorKind::Unsupported), (503, ErrorKind::Unavailable)]
        {
            let e = of_status(status);
            assert_eq!(e.kind(), kind);
            assert!(e.suggested_fix().is_some());
        }
    }
}
