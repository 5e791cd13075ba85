//! Redirects, hop by hop, so that every hop is judged and credentials stay with the host they were meant for.

use http::{Method, StatusCode, header, request::Parts};
use linkspan_core::{Body, Error, ErrorKind, Result};
use url::Url;

/// Whether a request follows redirects; lies in its extensions. Without it the redirect itself is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    Refused,
    /// At most so many hops.
    Follow(u8),
}

/// Where an answer came from in the end; lies in the answer's extensions.
#[derive(Clone, Debug)]
pub struct FinalUrl(pub Url);

/// Where an answer sends the asker; `None` when it is an answer in itself.
pub(crate) fn target(status: StatusCode, location: Option<&http::HeaderValue>, from: &Url) -> Result<Option<Url>> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = location else { return Ok(None) };
    let bad = || Error::new(ErrorKind::DataInvalid, "the server redirects to something that is no URL");
    let text = std::str::from_utf8(location.as_bytes()).map_err(|_| bad())?;
    let mut url = from.join(text).map_err(|_| bad())?;
    if url.fragment().is_none() {
        url.set_fragment(from.fragment());
    }
    Ok(Some(url))
}

/// Makes the request of the next hop out of the last one.
pub(crate) fn turn(parts: &mut Parts, body: &mut Body, status: StatusCode, from: &Url, to: &Url) {
    let to_get = match status.as_u16() {
        303 => parts.method != Method::HEAD,
        301 | 302 => parts.method == Method::POST,
        _ => false,
    };
    if to_get {
        parts.method = Method::GET;
        *body = Body::empty();
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
    }
    parts.headers.remove(header::HOST);
    if !keeps_credentials(from, to) {
        drop_credentials(parts);
    }
}

/// The same host and port; going from plain to TLS on the usual ports is no change, the other way round is.
fn keeps_credentials(from: &Url, to: &Url) -> bool {
    if from.host() != to.host() {
        return false;
    }
    let end = |u: &Url| (u.scheme().to_owned(), u.port_or_known_default());
    end(from) == end(to) || (end(from) == ("http".into(), Some(80)) && end(to) == ("https".into(), Some(443)))
}

/// What is a credential by its name, and whatever the asker marked as sensitive.
fn drop_credentials(parts: &mut Parts) {
    let names: Vec<_> = parts.headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.clone()).collect();
    for name in names.into_iter().chain([header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION]) {
        parts.headers.remove(name);
    }
}
