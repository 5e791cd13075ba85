//! The way from async code to a thread that may block, and back.

use linkspan_core::{Error, ErrorKind, Result};

/// Runs `work` on a thread that may block. Dropping the future does not stop the work: its effects must be whole or none.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(ErrorKind::Internal, "a worker thread failed").because(e)),
    }
}
