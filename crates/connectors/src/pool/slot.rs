//! The right to one open session. Dropping it says that the session is gone.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Inner, Permit, Pooled, share::Aside};

/// Goes with a session for as long as it is in use.
pub(crate) struct Slot<S: Pooled> {
    inner: Arc<Inner<S>>,
    born: Instant,
    /// Still counted as in use.
    counted: bool,
    _permit: Permit,
    _aside: Option<Arc<Aside>>,
}

impl<S: Pooled> Slot<S> {
    pub(super) fn new(inner: Arc<Inner<S>>, permit: Permit, aside: Option<Arc<Aside>>) -> Self {
        inner.held().busy += 1;
        Self { inner, born: Instant::now(), counted: true, _permit: permit, _aside: aside }
    }

    /// An idle session of this kind, the one that was used last. Whether the server still answers is for the caller to see.
    pub async fn reuse(&mut self, kind: S::Kind) -> Option<S> {
        loop {
            let found = {
                let mut state = self.inner.held();
                let at = state.idle.iter().rposition(|r| r.session.kind() == kind)?;
                state.idle.remove(at)
            };
            if !self.inner.is_old(found.born) {
                self.born = found.born;
                return Some(found.session);
            }
            found.session.end().await;
        }
    }

    /// A session that was taken did not answer: whatever broke it broke the others that lie idle, too, as likely as not, and each of
    /// them would cost the same time to find out.
    pub async fn doubt(&self) {
        let idle = {
            let mut state = self.inner.held();
            let idle = std::mem::take(&mut state.idle);
            state.ending += idle.len();
            idle
        };
        self.inner.end(idle).await;
    }

    /// Waits until one more session may be opened: an idle one of another kind gives way.
    pub async fn room(&mut self) {
        loop {
            let mut gone = std::pin::pin!(self.inner.gone.notified());
            gone.as_mut().enable();
            let victim = {
                let mut state = self.inner.held();
                if state.idle.len() + state.busy + state.ending <= self.inner.limits.most {
                    break;
                }
                (!state.idle.is_empty()).then(|| state.idle.remove(0))
            };
            match victim {
                Some(victim) => victim.session.end().await,
                None => gone.await,
            }
        }
        self.born = Instant::now();
    }

    /// The use is over, and the session as good as new. It is kept, or ends here.
    pub async fn give_back(mut self, session: S) {
        match self.inner.rest(session, self.born) {
            Ok(()) => self.counted = false,
            Err(session) => session.end().await,
        }
    }
}

impl<S: Pooled> Drop for Slot<S> {
    fn drop(&mut self) {
        if self.counted {
            self.inner.held().busy -= 1;
        }
    }
}
