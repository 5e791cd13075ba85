//! The router for this process itself: the same way in, without a socket.

use std::sync::Arc;

use axum::body::Body;
use futures::StreamExt;
use http::{Request, Response};
use linkspan_core::{Body as CoreBody, Error, ErrorKind};
use tower::ServiceExt;

use crate::{door::Door, router::router, table};

/// Every operation, called as over HTTP. A request carries [`Trusted`](crate::Trusted), or credentials as any other.
#[derive(Clone)]
pub struct Router(axum::Router);

impl Router {
    pub fn new(door: &Arc<Door>) -> Self {
        Self(router(door, table::operations()))
    }
    pub async fn send(&self, request: Request<CoreBody>) -> Response<CoreBody> {
        let request = request.map(|body| match body {
            CoreBody::Full(bytes) => Body::from(bytes),
            CoreBody::Stream(pieces) => Body::from_stream(pieces),
        });
        let response = match self.0.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.map(|body| {
            let broke = |e| Error::new(ErrorKind::Unavailable, "the answer broke off").because(e);
            CoreBody::Stream(body.into_data_stream().map(move |piece| piece.map_err(broke)).boxed())
        })
    }
}
