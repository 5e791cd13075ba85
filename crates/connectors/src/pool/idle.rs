//! An idle session, whatever its type: the pool's room lies below those of the sessions, and they know it.

use std::any::Any;

use futures::future::BoxFuture;

use super::Pooled;

/// What ends in good order.
pub(crate) trait Session: Any + Send {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()>;
}

pub(crate) struct Idle<K> {
    kind: K,
    session: Box<dyn Session>,
}

impl<K> Idle<K> {
    pub fn new(kind: K, session: impl Session) -> Self {
        Self { kind, session: Box::new(session) }
    }

    /// The session, if it is of this type.
    pub fn session<S: Session>(self) -> Option<S> {
        let session: Box<dyn Any> = self.session;
        session.downcast().ok().map(|session| *session)
    }
}

impl<K: Copy + PartialEq + Send + Sync + 'static> Pooled for Idle<K> {
    type Kind = K;
    fn kind(&self) -> K {
        self.kind
    }
    async fn end(self) {
        self.session.end().await;
    }
}
