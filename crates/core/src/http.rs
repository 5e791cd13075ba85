//! HTTP as connectors see it: one trait, bodies that stream both ways. The client and its layers live in the crate `http`.

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};

use crate::{Error, ErrorKind, Result};

/// Sends one request and answers with whatever status came back; an error means that there was no answer.
/// Layers (retries, rates, credentials) are other implementations around it.
#[async_trait]
pub trait Http: Send + Sync {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>>;
}

/// What a request does at the other side; the method is only its default. Lies in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Reads,
    Changes,
}

impl Effect {
    pub fn of<B>(request: &Request<B>) -> Self {
        let by_method = if request.method().is_safe() { Self::Reads } else { Self::Changes };
        request.extensions().get().copied().unwrap_or(by_method)
    }
}

/// A body: whole, or a stream that can be read once.
pub enum Body {
    Full(Bytes),
    Stream(BoxStream<'static, Result<Bytes>>),
}

impl Body {
    pub const fn empty() -> Self {
        Self::Full(Bytes::new())
    }
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        match self {
            Self::Full(bytes) => futures::stream::once(async { Ok(bytes) }).boxed(),
            Self::Stream(stream) => stream,
        }
    }
    /// All of it; `DataInvalid` beyond `limit` bytes.
    pub async fn bytes(self, limit: usize) -> Result<Bytes> {
        let mut stream = match self {
            Self::Full(bytes) if bytes.len() <= limit => return Ok(bytes),
            Self::Full(_) => return Err(too_large(limit)),
            Self::Stream(stream) => stream,
        };
        let mut whole = BytesMut::new();
        while let Some(part) = stream.next().await {
            let part = part?;
            if whole.len() + part.len() > limit {
                return Err(too_large(limit));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }
    /// The same body again, where that is possible: a stream is not repeatable.
    pub fn try_clone(&self) -> Option<Self> {
        match self {
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Stream(_) => None,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::DataInvalid, "the body is larger than allowed").with("limit_bytes", limit)
}

/// Where nobody gave a client: every request is refused.
pub struct NoHttp;

#[async_trait]
impl Http for NoHttp {
    async fn send(&self, _: Request<Body>) -> Result<Response<Body>> {
        Err(Error::new(ErrorKind::Unsupported, "this program was given no HTTP client"))
    }
}
